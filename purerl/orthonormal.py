"""Random matrices with orthonormal columns, and all of those that an agent starts with, drawn by one program.

Every layer of a network starts with such a matrix. XLA compiles the code of each of them apart, which for a small agent
was a third of what it compiled; `jointly` batches them.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp

from purerl.prng import unrolled


@functools.partial(jax.jit, static_argnums=(1, 2))
def orthonormal_columns(key: jax.Array, n: int, m: int) -> jax.Array:
    """[n, m] with n >= m, uniform over all matrices with orthonormal columns.

    A product of Householder reflections of Gaussian vectors x_j, with x_j zero above entry j,

        Q = H₀ H₁ ... H_{m-1} D I[:, :m],   H_j = I - 2 u uᵀ,   u ∝ x_j + sign(x_jj) |x_j| e_j,   D_jj = -sign(x_jj),

    has the distribution of the Q factor of a Gaussian matrix. On a CPU it needs only products, in m steps that vmap.
    It is under `jit`, since flax asks for its shape in every application of a layer.

    Source: Stewart 1980, "The efficient generation of random orthogonal matrices", section 3.
    """
    return _columns(key, n, m, m)


def jointly(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with the matrices that it takes from `orthonormal_columns` computed together where they can be.

    Matrices of the same height n whose keys do not depend on one another are one batch, as wide as the widest. Those
    drawn within a loop, or within another `vmap` or `jit`, stay as they are.

    Examples:
      >>> def draw(key):
      ...     return [orthonormal_columns(key, 3, m) for key, m in zip(jax.random.split(key), (1, 2))]
      >>> apart, together = draw(jax.random.key(0)), jointly(draw)(jax.random.key(0))
      >>> [bool(jnp.allclose(x, y, atol=1e-6)) for x, y in zip(apart, together)]
      [True, True]
    """

    def joint(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        outputs = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return joint


# --- The matrices -----------------------------------------------------------------------------------------------------


def _columns(key: jax.Array, n: int, width: int, m: int | jax.Array) -> jax.Array:
    """[n, width], whose first m columns are `orthonormal_columns(key, n, m)`."""
    x = jax.random.normal(unrolled(key), (width, n), jnp.float32)
    column, row = jnp.arange(width)[:, None], jnp.arange(n)[None]
    x = jnp.where((row >= column) & (column < m), x, 0)
    sign = jnp.where(jnp.diagonal(x) >= 0, jnp.float32(1), jnp.float32(-1))  # [width]
    u = x + (sign * jnp.linalg.norm(x, axis=1))[:, None] * jnp.eye(width, n, dtype=jnp.float32)  # [width, n]
    # without a reflection in the columns beyond m
    u = jnp.where(column < m, u / jnp.linalg.norm(u, axis=1, keepdims=True), 0)
    return jax.lax.platform_dependent(u, sign, cpu=_reflections, default=_one_product)


def _reflections(u: jax.Array, sign: jax.Array) -> jax.Array:
    """H₀ H₁ ... H_{m-1} D I[:, :m], one reflection after another: u is [m, n], sign [m], the result [n, m]."""

    def reflect(q: jax.Array, u: jax.Array) -> tuple[jax.Array, None]:
        return q - 2 * u[:, None] * jnp.matmul(u, q, precision="highest")[None], None

    q, _ = jax.lax.scan(reflect, jnp.eye(u.shape[1], u.shape[0], dtype=jnp.float32) * -sign[None], u, reverse=True)
    return q


def _one_product(u: jax.Array, sign: jax.Array) -> jax.Array:
    """The same by their compact form I - Uᵀ T U, T⁻¹ = ½ I + the part of U Uᵀ above the diagonal.

    On a GPU it takes a handful of launches where the loop takes three per column.

    Source: Puglisi 1992, "Modification of the Householder method based on the compact WY representation".
    """
    m, n = u.shape
    start = jnp.eye(n, m, dtype=jnp.float32) * -sign[None]  # [n, m]
    inverse = jnp.triu(jnp.matmul(u, u.T, precision="highest"), 1) + jnp.eye(m, dtype=jnp.float32) / 2  # [m, m]
    inner = jax.scipy.linalg.solve_triangular(inverse, u[:, :m] * -sign[None])  # T U start
    return start - jnp.matmul(u.T, inner, precision="highest")


# --- Several at once --------------------------------------------------------------------------------------------------


def _evaluate(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """The outputs of a jaxpr, with all draws that are ready computed together."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args]))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jax.extend.core.Literal) else values[atom]

    equations = list(jaxpr.eqns)
    while equations:
        draws, later = [], []
        for equation in equations:
            if not all(isinstance(x, jax.extend.core.Literal) or x in values for x in equation.invars):
                later.append(equation)
            elif _is_draw(equation):
                draws.append(equation)
            else:
                values.update(zip(equation.outvars, _apply(equation, map(read, equation.invars))))
        matrices = _draw([read(each.invars[0]) for each in draws], [each.outvars[0].aval.shape for each in draws])
        values.update(zip([each.outvars[0] for each in draws], matrices))
        equations = later
    return [read(x) for x in jaxpr.outvars]


def _is_draw(equation: Any) -> bool:
    return equation.params.get("name") == "orthonormal_columns" and equation.outvars[0].aval.ndim == 2


def _apply(equation: Any, inputs: Any) -> list[Any]:
    primitive = equation.primitive
    with equation.ctx.manager:
        found = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return list(found) if primitive.multiple_results else [found]


def _draw(keys: Sequence[jax.Array], shapes: Sequence[tuple[int, int]]) -> list[jax.Array]:
    """`orthonormal_columns` of each key and shape [n, m], one batch for each n."""
    groups = defaultdict(list)
    for i, (n, _) in enumerate(shapes):
        groups[n].append(i)
    found: dict[int, jax.Array] = {}
    for n, group in groups.items():
        widths = [shapes[i][1] for i in group]
        if len(group) == 1:
            batch = orthonormal_columns(keys[group[0]], n, widths[0])[None]
        else:
            draw = jax.vmap(functools.partial(_columns, n=n, width=max(widths)))
            batch = draw(_stack([keys[i] for i in group]), m=jnp.array(widths))
        found |= {i: matrix[:, :m] for i, matrix, m in zip(group, batch, widths)}
    return [found[i] for i in range(len(keys))]


def _stack(keys: Sequence[jax.Array]) -> jax.Array:
    """`jnp.stack`, by the keys' data, since `jax_debug_key_reuse` takes a stack of keys for used ones."""
    data = jnp.stack([jax.random.key_data(key) for key in keys])
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(keys[0]))

"""Random matrices with orthonormal columns, and all of those that an agent starts with, drawn by one program.

Every layer of a network starts with such a matrix. XLA compiles the code of each of them apart, which for a small agent
was a third of what it compiled; `jointly` batches them.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from purerl import branches
from purerl.prng import standard, unrolled


def orthonormal_columns(key: jax.Array, n: int, m: int) -> jax.Array:
    """[n, m] with n >= m, uniform over all matrices with orthonormal columns.

    A product of Householder reflections of Gaussian vectors x_j, with x_j zero above entry j,

        Q = H₀ H₁ ... H_{m-1} D I[:, :m],   H_j = I - 2 u uᵀ,   u ∝ x_j + sign(x_jj) |x_j| e_j,   D_jj = -sign(x_jj),

    has the distribution of the Q factor of a Gaussian matrix. On a CPU it needs only products, in m steps that vmap.
    It is a primitive, whose shape costs nothing: flax asks for it in every application of a layer, and `jointly` draws
    several at once.

    Source: Stewart 1980, "The efficient generation of random orthogonal matrices", section 3.
    """
    key = standard(key)
    return _columns.bind(jax.random.key_data(key), impl=jax.random.key_impl(key), n=n, m=m)


def _columns_of(data: jax.Array, impl: Any, n: int, m: int) -> jax.Array:
    """The same from the key's data."""
    x = _gaussian(jax.random.wrap_key_data(data, impl=impl), n, m, m)
    one_product = functools.partial(_one_product, m=m, matrix=jnp.zeros(m, jnp.int32), column=jnp.arange(m))
    return branches.dependent(x, cpu=functools.partial(_one_by_one, m=m), default=one_product)


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


# --- The primitive ----------------------------------------------------------------------------------------------------

_columns = Primitive("orthonormal_columns")
_columns.def_impl(jax.jit(_columns_of, static_argnames=("impl", "n", "m")))
_columns.def_abstract_eval(lambda data, *, impl, n, m: data.update(shape=(n, m), dtype=jnp.float32, sharding=None))
mlir.register_lowering(_columns, mlir.lower_fun(_columns_of, multiple_results=False))


def _batched(args: tuple[jax.Array], axes: tuple[int], **settings: Any) -> tuple[jax.Array, int]:
    return jax.vmap(lambda data: _columns_of(data, **settings), axes)(*args), 0


batching.primitive_batchers[_columns] = _batched


# --- The matrices -----------------------------------------------------------------------------------------------------


class _Reflections(NamedTuple):
    """Reflections H_j, the last of which may be none.

    Attributes:
      u: their unit vectors, [m, n]; 0 for no reflection.
      sign: of x_jj, [m].
    """

    u: jax.Array
    sign: jax.Array


def _gaussian(key: jax.Array, n: int, width: int, m: int | jax.Array) -> jax.Array:
    """The vectors x_j of the first m columns, and zeros instead of more: [width, n]."""
    x = jax.random.normal(unrolled(key), (width, n), jnp.float32)
    column, row = jnp.arange(width)[:, None], jnp.arange(n)[None]
    return jnp.where((row >= column) & (column < m), x, 0)


def _reflections(x: jax.Array, column: jax.Array, m: int | jax.Array) -> _Reflections:
    """From vectors x [width, n], the number of each in its matrix, [width], and the number of columns that has."""
    own = jnp.arange(x.shape[1])[None] == column[:, None]  # e_j, [width, n]
    entry, norm = jnp.take_along_axis(x, column[:, None], axis=1)[:, 0], jnp.linalg.norm(x, axis=1)  # x_jj, |x_j|
    sign = jnp.where(entry >= 0, jnp.float32(1), jnp.float32(-1))
    u = x + (sign * norm)[:, None] * own
    length = jnp.sqrt(2 * norm * (norm + jnp.abs(entry)))  # of u, since |u|² = 2 |x_j| (|x_j| + |x_jj|)
    return _Reflections(jnp.where((column < m)[:, None], u / length[:, None], 0), sign)


def _one_by_one(x: jax.Array, m: int | jax.Array) -> jax.Array:
    """H₀ H₁ ... H_{m-1} D I, [n, width], one reflection after another, from vectors x [width, n]."""

    def reflect(q: jax.Array, u: jax.Array) -> tuple[jax.Array, None]:
        return q - 2 * u[:, None] * jnp.matmul(u, q, precision="highest")[None], None

    width, n = x.shape
    h = _reflections(x, jnp.arange(width), m)
    q, _ = jax.lax.scan(reflect, jnp.eye(n, width, dtype=jnp.float32) * -h.sign[None], h.u, reverse=True)
    return q


def _one_product(x: jax.Array, m: int | jax.Array, matrix: jax.Array, column: jax.Array) -> jax.Array:
    """The same by their compact form I - Uᵀ T U, T⁻¹ = ½ I + the part of U Uᵀ above the diagonal.

    On a GPU it takes a handful of launches where the loop takes three per column. Several matrices may stand side by
    side in it: T has a block for each.

    Args:
      x: vectors, [width, n].
      m: columns of the matrix that each belongs to, [width] or one number.
      matrix: the number of that matrix, [width].
      column: the number of the vector in it, [width].

    Returns:
      [n, width], the columns of all matrices.

    Source: Puglisi 1992, "Modification of the Householder method based on the compact WY representation".
    """
    width, n = x.shape
    u, sign = _reflections(x, column, m)
    u = jax.lax.optimization_barrier(u)  # in one layout
    start = jnp.where(jnp.arange(n)[:, None] == column[None], -sign[None], 0)  # [n, width]
    block = matrix[:, None] == matrix[None]  # [width, width]
    products = jnp.matmul(u, u.T, precision="highest")
    inverse = jnp.where(block, jnp.triu(products, 1), 0) + jnp.eye(width, dtype=jnp.float32) / 2  # [width, width]
    inner = jax.scipy.linalg.solve_triangular(inverse, jnp.where(block, u[:, column] * -sign[None], 0))  # T U start
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
            elif equation.primitive is _columns:
                draws.append(equation)
            else:
                values.update(zip(equation.outvars, _apply(equation, map(read, equation.invars))))
        matrices = _draw([_Draw(read(each.invars[0]), **each.params) for each in draws])
        values.update(zip([each.outvars[0] for each in draws], matrices))
        equations = later
    return [read(x) for x in jaxpr.outvars]


def _apply(equation: Any, inputs: Any) -> list[Any]:
    primitive = equation.primitive
    with equation.ctx.manager:
        found = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return list(found) if primitive.multiple_results else [found]


class _Draw(NamedTuple):
    """The arguments of the primitive: the key's data and how it makes its numbers, and the shape [n, m]."""

    data: jax.Array
    impl: Any
    n: int
    m: int


def _draw(draws: Sequence[_Draw]) -> list[jax.Array]:
    """The matrix of each, one batch for each n."""
    groups = defaultdict(list)
    for i, each in enumerate(draws):
        groups[each.n, each.impl].append(i)
    found: dict[int, jax.Array] = {}
    for (n, impl), group in groups.items():
        data, widths = [draws[i].data for i in group], [draws[i].m for i in group]
        if len(group) == 1:
            matrices = [_columns_of(data[0], impl=impl, n=n, m=widths[0])]
        else:
            draw = jax.vmap(functools.partial(_gaussian, n=n, width=max(widths)))
            x = draw(jax.random.wrap_key_data(jnp.stack(data), impl=impl), m=jnp.array(widths))
            apart, packed = functools.partial(_apart, widths), functools.partial(_packed, widths)
            matrices = branches.dependent(x, cpu=apart, default=packed)
        found |= dict(zip(group, matrices))
    return [found[i] for i in range(len(draws))]


def _apart(widths: Sequence[int], x: jax.Array) -> list[jax.Array]:
    """The matrices [n, m], m being each of the widths, from the vectors of all, [K, W, n]."""
    return [matrix[:, :m] for matrix, m in zip(jax.vmap(_one_by_one)(x, jnp.array(widths)), widths)]


def _packed(widths: Sequence[int], x: jax.Array) -> list[jax.Array]:
    """The same with thin matrices side by side, as many as have W columns: in a population padding takes memory."""
    bins = _bins(widths, x.shape[1])
    matrix, column = np.array([_filled(each, widths, x.shape[1]) for each in bins]).swapaxes(0, 1)  # [S, W]
    products = jax.vmap(_one_product)(x[matrix, column], np.array(widths)[matrix], matrix, column)  # [S, n, W]
    found: dict[int, jax.Array] = {}
    for product, each in zip(products, bins):
        ends = np.cumsum([widths[k] for k in each])
        found |= dict(zip(each, jnp.split(product[:, : ends[-1]], ends[:-1], axis=1)))
    return [found[k] for k in range(len(widths))]


def _filled(numbers: Sequence[int], widths: Sequence[int], capacity: int) -> tuple[list[int], list[int]]:
    """The columns of some matrices side by side, W each: numbers of the matrices, and of columns in them.

    The last column fills what is left, since no matrix there has it.

    Examples:
      >>> _filled([5, 3], {5: 2, 3: 1}, 4)
      ([5, 5, 3, 3], [0, 1, 0, 3])
    """
    pairs = [(k, w) for k in numbers for w in range(widths[k])]
    pairs += [(numbers[-1], capacity - 1)] * (capacity - len(pairs))
    return [k for k, _ in pairs], [w for _, w in pairs]


def _bins(widths: Sequence[int], capacity: int) -> list[list[int]]:
    """Numbers of matrices that together have up to `capacity` columns, each number once.

    Examples:
      >>> _bins([4, 64, 2, 4, 64, 1], 64)
      [[1], [4], [0, 3, 2, 5]]
    """
    bins: list[list[int]] = []
    for k in sorted(range(len(widths)), key=lambda k: -widths[k]):
        fits = (each for each in bins if sum(widths[i] for i in each) + widths[k] <= capacity)
        each = next(fits, None)
        if each is None:
            bins.append([k])
        else:
            each.append(k)
    return bins

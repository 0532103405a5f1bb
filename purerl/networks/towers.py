"""Several small networks over one batch, differentiated together where an accelerator runs them.

A tower is a stack of dense layers, each normalized or not; on top of each lie some dense heads. On a GPU the time of
small networks is that of kernel launches, so there the layers of all towers are one batched product, all heads are one
reduction, and so are the gradients of everything that is thin or a bias. On a CPU each tower is computed and
differentiated by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from purerl import branches
from purerl.networks.images import Activation
from purerl.networks.joined_towers import Dense, Outputs, Tower, Towers, pull_together, together
from purerl.networks.layer_norm import scaled, standardize
from purerl.networks.products import kernel_gradient, thin_product
from purerl.types import Network, Params, PyTree


def towers(hidden: Towers, heads: Towers, x: jax.Array, activation: Activation) -> Outputs:
    """The outputs of all heads of all towers.

    Args:
      hidden: of each tower, one layer or more; the same widths in all towers.
      heads: of each tower.
      x: [B, D], the input of all towers.
      activation: after each hidden layer.

    Returns:
      [B, O] of each head of each tower.

    Examples:
      >>> import jax.numpy as jnp
      >>> layer = {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}
      >>> head = {"kernel": jnp.ones((3, 1)), "bias": jnp.ones(1)}
      >>> [[out]] = towers(((layer,),), ((head,),), jnp.ones((4, 2)), jnp.tanh)
      >>> out.shape
      (4, 1)
    """
    return _differentiable(activation)(hidden, heads, x)


def layers_of(torso: dict[str, Dense]) -> Tower:
    """The layers of a `Torso` without convolution, from its parameters."""

    def layer(i: int) -> Dense:
        norm = torso.get(f"LayerNorm_{i}")
        return torso[f"Dense_{i}"] | ({"scale": norm["scale"], "shift": norm["bias"]} if norm else {})

    return tuple(layer(i) for i in range(sum(name.startswith("Dense_") for name in torso)))


def one_by_one(network: Network, params: Params, *inputs: PyTree) -> Any:
    """The network for a batch of inputs, one example at a time."""
    return jax.vmap(network.apply, (None, *(0 for _ in inputs)))(params, *inputs)


@functools.cache
def _differentiable(activation: Activation) -> Callable[[Towers, Towers, jax.Array], Outputs]:
    """The towers as a function that JAX can recognize when it traces it again.

    Its derivative computes the forward pass once more, which the compiler finds to be the one that it has already.
    """
    apart, joined = (functools.partial(each, activation) for each in (_apart, together))
    pull_apart, pull_joined = (functools.partial(each, activation) for each in (_pull_apart, pull_together))

    def forward(hidden: Towers, heads: Towers, x: jax.Array) -> tuple[Outputs, Any]:
        return branches.dependent(hidden, heads, x, cpu=apart, default=joined), (hidden, heads, x)

    def backward(inputs: Any, cotangents: Outputs) -> Any:
        return branches.dependent(*inputs, cotangents, cpu=pull_apart, default=pull_joined)

    def undifferentiated(hidden: Towers, heads: Towers, x: jax.Array) -> Outputs:
        """Tower by tower, so that one whose outputs nobody reads is not computed."""
        return branches.dependent(hidden, heads, x, cpu=apart, default=functools.partial(apart, dense=_thin_dense))

    function = jax.custom_vjp(undifferentiated)
    function.defvjp(forward, backward)
    return function


# --- On a CPU ---------------------------------------------------------------------------------------------------------


def _normalized(layer: Dense, z: jax.Array) -> jax.Array:
    if "scale" not in layer:
        return z
    return scaled(standardize(z, z.shape[-1]), layer["scale"][None], layer["shift"][None])


def _dense(layer: Dense, x: jax.Array) -> jax.Array:
    """`joined_towers.dense`, with a faster gradient of the kernel."""
    return _product(x, layer["kernel"]) + layer["bias"][None]


@jax.custom_vjp
def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [B, D] times kernel [D, H]."""
    return lax.dot_general(x, kernel, (((1,), (0,)), ((), ())))


def _pull_product(inputs: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both gradients behind one barrier: XLA then orders them so that two cores work at once, 1.07 times as fast."""
    x, kernel = inputs
    dx = lax.dot_general(dy, kernel, (((1,), (1,)), ((), ())))
    return lax.optimization_barrier((dx, kernel_gradient(x, dy)))


_product.defvjp(lambda x, kernel: (_product(x, kernel), (x, kernel)), _pull_product)


def _apart(
    activation: Activation,
    hidden: Towers,
    heads: Towers,
    x: jax.Array,
    dense: Callable[[Dense, jax.Array], jax.Array] = _dense,
) -> Outputs:
    def tower(layers: Tower, heads: Tower) -> tuple[jax.Array, ...]:
        h = functools.reduce(lambda h, layer: activation(_normalized(layer, dense(layer, h))), layers, x)
        return tuple(dense(head, h) for head in heads)

    return tuple(map(tower, hidden, heads))


def _pull_apart(activation: Activation, hidden: Towers, heads: Towers, x: jax.Array, cotangents: Outputs) -> Any:
    return jax.vjp(functools.partial(_apart, activation), hidden, heads, x)[1](cotangents)


# --- On an accelerator, not differentiated ----------------------------------------------------------------------------


def _thin_dense(layer: Dense, x: jax.Array) -> jax.Array:
    """A layer of few inputs or outputs as sums, which are fused with the activations around them."""
    return jax.vmap(lambda x: thin_product(x, layer["kernel"], (((0,), (0,)), ((), ()))))(x) + layer["bias"][None]

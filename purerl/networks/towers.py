"""Several small networks over one batch, differentiated together where an accelerator runs them.

A tower is a stack of dense layers; on top of each lie some dense heads. On a GPU the time of small networks is that of
kernel launches, so there the layers of all towers are one batched product, all heads are one reduction, and so are the
gradients of everything that is thin or a bias. On a CPU each tower is computed and differentiated by itself.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from purerl.networks.images import Activation
from purerl.networks.products import thin_product
from purerl.reductions import LONGEST
from purerl.types import Network, Params, PyTree

Dense: TypeAlias = dict[str, jax.Array]
"""A layer of flax: kernel [D, H] and bias [H]."""
Tower: TypeAlias = tuple[Dense, ...]
Towers: TypeAlias = tuple[Tower, ...]
"""The hidden layers of each tower, or the heads of each."""
Outputs: TypeAlias = tuple[tuple[jax.Array, ...], ...]
"""[B, O] of each head of each tower."""


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
      >>> layer = {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}
      >>> head = {"kernel": jnp.ones((3, 1)), "bias": jnp.ones(1)}
      >>> [[out]] = towers(((layer,),), ((head,),), jnp.ones((4, 2)), jnp.tanh)
      >>> out.shape
      (4, 1)
    """
    return _differentiable(activation)(hidden, heads, x)


def layers_of(torso: dict[str, Dense]) -> Tower:
    """The layers of a `Torso` without convolution, from its parameters."""
    return tuple(torso[f"Dense_{i}"] for i in range(len(torso)))


def one_by_one(network: Network, params: Params, *inputs: PyTree) -> Any:
    """The network for a batch of inputs, one example at a time."""
    return jax.vmap(network.apply, (None, *(0 for _ in inputs)))(params, *inputs)


@functools.cache
def _differentiable(activation: Activation) -> Callable[[Towers, Towers, jax.Array], Outputs]:
    """The towers as a function that JAX can recognize when it traces it again.

    Its derivative computes the forward pass once more, which the compiler finds to be the one that it has already.
    """
    apart, together = (functools.partial(each, activation) for each in (_apart, _together))
    pull_apart, pull_together = (functools.partial(each, activation) for each in (_pull_apart, _pull_together))

    def forward(hidden: Towers, heads: Towers, x: jax.Array) -> tuple[Outputs, Any]:
        return lax.platform_dependent(hidden, heads, x, cpu=apart, default=together), (hidden, heads, x)

    def backward(inputs: Any, cotangents: Outputs) -> Any:
        return lax.platform_dependent(*inputs, cotangents, cpu=pull_apart, default=pull_together)

    def undifferentiated(hidden: Towers, heads: Towers, x: jax.Array) -> Outputs:
        """Tower by tower, so that one whose outputs nobody reads is not computed."""
        return lax.platform_dependent(hidden, heads, x, cpu=apart, default=functools.partial(apart, dense=_thin_dense))

    function = jax.custom_vjp(undifferentiated)
    function.defvjp(forward, backward)
    return function


# --- On a CPU ---------------------------------------------------------------------------------------------------------


def _dense(layer: Dense, x: jax.Array) -> jax.Array:
    return lax.dot_general(x, layer["kernel"], (((1,), (0,)), ((), ()))) + layer["bias"][None]


def _apart(
    activation: Activation,
    hidden: Towers,
    heads: Towers,
    x: jax.Array,
    dense: Callable[[Dense, jax.Array], jax.Array] = _dense,
) -> Outputs:
    def tower(layers: Tower, heads: Tower) -> tuple[jax.Array, ...]:
        h = functools.reduce(lambda h, layer: activation(dense(layer, h)), layers, x)
        return tuple(dense(head, h) for head in heads)

    return tuple(map(tower, hidden, heads))


def _pull_apart(activation: Activation, hidden: Towers, heads: Towers, x: jax.Array, cotangents: Outputs) -> Any:
    return jax.vjp(functools.partial(_apart, activation), hidden, heads, x)[1](cotangents)


# --- On an accelerator, not differentiated ----------------------------------------------------------------------------


def _thin_dense(layer: Dense, x: jax.Array) -> jax.Array:
    """A layer of few inputs or outputs as sums, which are fused with the activations around them."""
    return jax.vmap(lambda x: thin_product(x, layer["kernel"], (((0,), (0,)), ((), ()))))(x) + layer["bias"][None]


# --- On an accelerator, differentiated: M towers as one ---------------------------------------------------------------


def _together(activation: Activation, hidden: Towers, heads: Towers, x: jax.Array) -> Outputs:
    return _heads(heads, activation(_preactivations(activation, _stacked(hidden), x)[-1]))


def _stacked(hidden: Towers) -> list[Dense]:
    """The layers of all towers, [M, D, H] and [M, 1, H]: two parts of one array, which is made in one step."""

    def stack(*layers: Dense) -> Dense:
        rows = jnp.stack([jnp.concatenate([each["kernel"], each["bias"][None]]) for each in layers])  # [M, D + 1, H]
        return {"kernel": rows[:, :-1], "bias": rows[:, -1:]}

    return [stack(*layers) for layers in zip(*hidden)]


def _preactivations(activation: Activation, layers: list[Dense], x: jax.Array) -> list[jax.Array]:
    """Of every hidden layer, [M, B, H]."""
    first, found = layers[0]["kernel"], []
    if x.shape[1] <= LONGEST:  # Σ_i x[b, i] W[m, i, h]
        z = functools.reduce(jnp.add, [x[None, :, i, None] * first[:, None, i] for i in range(x.shape[1])])
    else:
        z = jnp.swapaxes(lax.dot_general(x, first, (((1,), (1,)), ((), ()))), 0, 1)  # [B, M, H] -> [M, B, H]
    found.append(z + layers[0]["bias"])
    for layer in layers[1:]:
        z = lax.dot_general(activation(found[-1]), layer["kernel"], (((2,), (1,)), ((0,), (0,))))
        found.append(z + layer["bias"])
    return found


def _heads(heads: Towers, h: jax.Array) -> Outputs:
    """[B, O] of each head over h [M, B, H]; all thin heads in one reduction."""
    terms = [
        h[m] * column[None]
        for m, tower in enumerate(heads)
        for head in tower
        if _is_thin(head)
        for column in head["kernel"].T  # [B, H] of each output
    ]
    sums: Iterator[jax.Array] = iter(jnp.stack(terms).sum(axis=-1) if terms else ())  # [K, B]

    def output(head: Dense, h: jax.Array) -> jax.Array:
        if not _is_thin(head):
            return _dense(head, h)
        return jnp.stack([next(sums) for _ in head["bias"]], axis=-1) + head["bias"][None]

    return tuple(tuple(output(head, h[m]) for head in tower) for m, tower in enumerate(heads))


def _is_thin(head: Dense) -> bool:
    return head["kernel"].shape[1] <= LONGEST


def _pull_together(activation: Activation, hidden: Towers, heads: Towers, x: jax.Array, cotangents: Outputs) -> Any:
    """The gradients of hidden layers, heads and x. Sums over the batch of one width are one reduction.

    In a population the activations are what takes memory, so few of them are kept at a time: derivatives are read off
    the outputs of a layer, and the sums over the last layer come before the other layers if the batch is large.
    """
    layers, sums = _stacked(hidden), _Sums()
    zs = _preactivations(activation, layers, x)
    hs = [lax.optimization_barrier(activation(z)) for z in zs]
    h, cotangents = hs[-1], _made_at_once(cotangents)
    of_heads = [
        [_pull_head(sums, head, h[m], each) for head, each in zip(tower, outer)]
        for m, (tower, outer) in enumerate(zip(heads, cotangents))
    ]
    dh = jnp.stack([functools.reduce(jnp.add, [each for _, each in tower]) for tower in of_heads])  # [M, B, H]
    of_layers: list[Any] = []
    for i in reversed(range(len(layers))):
        dz = _pull_activation(activation, zs[i], hs[i], dh)
        bias = sums.add(dz)
        if i == len(layers) - 1 > 0 and x.shape[0] >= 2 * dz.shape[-1]:
            dz = sums.compute_before(dz)
            sums = _Sums()
        if i:
            kernel = _ready(lax.dot_general(hs[i - 1], dz, (((1,), (1,)), ((0,), (0,)))))
        else:
            kernel = _pull_first_kernel(sums, x, dz)
        of_layers.insert(0, {"kernel": kernel, "bias": bias})
        dh = lax.dot_general(dz, layers[i]["kernel"], (((2,), (2,)), ((0,), (0,))))  # [M, B, D]
    sums.compute()
    stacked = jax.tree.map(lambda get: get(), tuple(of_layers))  # leaves lead with [M]
    of_hidden = tuple(jax.tree.map(operator.itemgetter(m), stacked) for m in range(len(hidden)))
    head_gradients = tuple(tuple(gradient for gradient, _ in tower) for tower in of_heads)
    return of_hidden, jax.tree.map(lambda get: get(), head_gradients), dh.sum(axis=0)


def _pull_activation(activation: Activation, z: jax.Array, h: jax.Array, dh: jax.Array) -> jax.Array:
    """The gradient of z from that of h = activation(z), without z where h tells it."""
    if activation is jnp.tanh:
        return dh * (1 - h * h)
    if activation is jax.nn.relu:
        return jnp.where(h > 0, dh, 0)
    return jax.vjp(activation, z)[1](dh)[0]


def _made_at_once(cotangents: Outputs) -> Outputs:
    """The cotangents of several heads as parts of one array, so that what they come from is one step."""
    leaves, structure = jax.tree.flatten(cotangents)
    if len(leaves) == 1:
        return cotangents
    ends = list(itertools.accumulate(leaf.shape[1] for leaf in leaves))
    joined = lax.optimization_barrier(jnp.concatenate(leaves, axis=1))
    return jax.tree.unflatten(structure, jnp.split(joined, ends[:-1], axis=1))


_Get: TypeAlias = Callable[[], jax.Array]
"""Reads a gradient once the sums have been computed."""


def _ready(x: jax.Array) -> _Get:
    return lambda: x


def _pull_first_kernel(sums: _Sums, x: jax.Array, dz: jax.Array) -> _Get:
    """Of [M, D, H], from x [B, D] and dz [M, B, H]."""
    if x.shape[1] > LONGEST:
        return _ready(jnp.swapaxes(lax.dot_general(x, dz, (((0,), (1,)), ((), ()))), 0, 1))  # [D, M, H] -> [M, D, H]
    rows = [sums.add(x[None, :, i, None] * dz) for i in range(x.shape[1])]  # Σ_b x[b, i] dz[m, b, h]
    return lambda: jnp.stack([row() for row in rows], axis=1)


def _pull_head(sums: _Sums, head: Dense, h: jax.Array, cotangent: jax.Array) -> tuple[dict[str, _Get], jax.Array]:
    """Of a head and of its input h [B, H], from the cotangent [B, O]."""
    width, num_outputs = head["kernel"].shape
    if num_outputs > min(LONGEST, width):
        kernel = _ready(lax.dot_general(h, cotangent, (((0,), (0,)), ((), ()))))
        bias = _ready(cotangent.sum(axis=0))
        return {"kernel": kernel, "bias": bias}, lax.dot_general(cotangent, head["kernel"], (((1,), (1,)), ((), ())))
    columns = [sums.add(cotangent[None, :, o, None] * h[None]) for o in range(num_outputs)]  # Σ_b c[b, o] h[b, i]
    biases = sums.add(jnp.pad(cotangent, ((0, 0), (0, width - num_outputs)))[None])  # [1, B, H], the first O count
    dh = functools.reduce(jnp.add, [cotangent[:, o, None] * head["kernel"][None, :, o] for o in range(num_outputs)])
    get = {
        "kernel": lambda: jnp.stack([column()[0] for column in columns], axis=-1),
        "bias": lambda: biases()[0, :num_outputs],
    }
    return get, dh


class _Sums:
    """Sums over the batch that wait to be computed together, one reduction for each width."""

    def __init__(self) -> None:
        self._terms: dict[int, list[jax.Array]] = {}
        self._found: dict[int, jax.Array] = {}

    def add(self, terms: jax.Array) -> _Get:
        """Sum [S, B, H] over B; the function reads the sums [S, H] from all of the same width."""
        width = terms.shape[-1]
        waiting = self._terms.setdefault(width, [])
        start = sum(each.shape[0] for each in waiting)
        waiting.append(terms)
        return lambda: self._found[width][start : start + terms.shape[0]]

    def compute(self) -> None:
        """Compute the sums of each width."""
        self._found = {width: jnp.concatenate(terms).sum(axis=1) for width, terms in self._terms.items()}

    def compute_before(self, x: jax.Array) -> jax.Array:
        """Compute the sums, and return x for what must come after them."""
        self.compute()
        x, self._found = lax.optimization_barrier((x, self._found))
        return x

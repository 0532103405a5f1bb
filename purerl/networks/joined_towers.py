"""Several towers computed and differentiated as one, as `towers` does it on an accelerator.

M towers of the same widths are one batched product per layer. All heads are one reduction, and so are the gradients of
everything that is thin or a bias.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from purerl.distributed import mesh
from purerl.networks.images import Activation
from purerl.networks.layer_norm import Standardized, pull, scaled, standardize
from purerl.reductions import LONGEST

Dense: TypeAlias = dict[str, jax.Array]
"""A layer of flax, kernel [D, H] and bias [H]; if layer normalization follows, with its `scale` and `shift` [H]."""
Tower: TypeAlias = tuple[Dense, ...]
Towers: TypeAlias = tuple[Tower, ...]
"""The hidden layers of each tower, or the heads of each."""
Outputs: TypeAlias = tuple[tuple[jax.Array, ...], ...]
"""[B, O] of each head of each tower."""

_TILE = 32  # XLA splits products over multiples of it; any other width would be padded in a kernel of its own


def dense(layer: Dense, x: jax.Array) -> jax.Array:
    """[B, D] to [B, H], without normalization."""
    return lax.dot_general(x, layer["kernel"], (((1,), (0,)), ((), ()))) + layer["bias"][None]


def together(activation: Activation, hidden: Towers, heads: Towers, x: jax.Array) -> Outputs:
    """The outputs of all heads; see `towers`."""
    return _heads(heads, activation(_preactivations(activation, _stacked(hidden), x)[-1].y))


class _Layer(NamedTuple):
    """A layer of all towers, of which the last entries of D and H may be zeros that do not count.

    Attributes:
      kernel: [M, D, H].
      bias: [M, 1, H].
      scale, shift: of its normalization, [M, 1, H], or None.
      width: the entries of H that count.
    """

    kernel: jax.Array
    bias: jax.Array
    scale: jax.Array | None
    shift: jax.Array | None
    width: int


def _stacked(hidden: Towers) -> list[_Layer]:
    """The layers of all towers: each is the parts of one array, which is made in one step."""

    def stack(size: int, layers: Tower) -> _Layer:
        (own, width), normalized = layers[0]["kernel"].shape, "scale" in layers[0]
        vectors = ("bias", "scale", "shift") if normalized else ("bias",)
        rows = [
            jnp.concatenate([_padded(each["kernel"], 0, size - own), *(each[name][None] for name in vectors)])
            for each in layers
        ]
        stacked = _padded(jnp.stack(rows), 2, _tiled(width) - width)  # [M, D + 1, H], or [M, D + 3, H]
        bias, scale, shift = (stacked[:, size + i : size + i + 1] for i in range(3))
        return _Layer(stacked[:, :size], bias, scale if normalized else None, shift if normalized else None, width)

    first = hidden[0][0]["kernel"].shape[0]
    sizes = [first, *(_tiled(layer["kernel"].shape[1]) for layer in hidden[0][:-1])]
    return [stack(size, layers) for size, layers in zip(sizes, zip(*hidden))]


def _tiled(width: int) -> int:
    """The width of a layer with its padding."""
    return -(-width // _TILE) * _TILE if width > _TILE else width


def _padded(x: jax.Array, axis: int, count: int) -> jax.Array:
    """`count` zeros more at the end of an axis."""
    return jnp.pad(x, [(0, count if i == axis else 0) for i in range(x.ndim)]) if count else x


class _Preactivation(NamedTuple):
    """The input y [M, B, H] of a layer's activation, and what it is made of if the layer is normalized."""

    y: jax.Array
    standardized: Standardized | None


def _preactivations(activation: Activation, layers: list[_Layer], x: jax.Array) -> list[_Preactivation]:
    """Of every hidden layer."""
    first = layers[0].kernel
    if x.shape[1] <= LONGEST:  # Σ_i x[b, i] W[m, i, h]
        z = functools.reduce(jnp.add, [x[None, :, i, None] * first[:, None, i] for i in range(x.shape[1])])
    else:
        z = jnp.swapaxes(lax.dot_general(x, first, (((1,), (1,)), ((), ()))), 0, 1)  # [B, M, H] -> [M, B, H]
    found = [_preactivation(layers[0], z)]
    for layer in layers[1:]:
        z = lax.dot_general(activation(found[-1].y), layer.kernel, (((2,), (1,)), ((0,), (0,))))
        found.append(_preactivation(layer, z))
    return found


def _preactivation(layer: _Layer, z: jax.Array) -> _Preactivation:
    z = z + layer.bias
    if layer.scale is None or layer.shift is None:
        return _Preactivation(z, None)
    standardized = standardize(z, layer.width)
    return _Preactivation(scaled(standardized, layer.scale, layer.shift), standardized)


def _heads(heads: Towers, h: jax.Array) -> Outputs:
    """[B, O] of each head over h [M, B, H]; all thin heads in one reduction."""
    h = h[:, :, : heads[0][0]["kernel"].shape[0]]
    terms = [
        h[m] * column[None]
        for m, tower in enumerate(heads)
        for head in tower
        if _is_thin(head)
        for column in head["kernel"].T  # [B, H] of each output
    ]
    # Behind a barrier, since XLA for GPUs fails if one part of a stack is read in the kernel of a softmax, another not.
    found = lax.optimization_barrier(jnp.stack(terms).sum(axis=-1)) if terms else ()
    sums: Iterator[jax.Array] = iter(found)  # [K, B]

    def output(head: Dense, h: jax.Array) -> jax.Array:
        if not _is_thin(head):
            return dense(head, h)
        return jnp.stack([next(sums) for _ in head["bias"]], axis=-1) + head["bias"][None]

    return tuple(tuple(output(head, h[m]) for head in tower) for m, tower in enumerate(heads))


def _is_thin(head: Dense) -> bool:
    return head["kernel"].shape[1] <= LONGEST


def pull_together(activation: Activation, hidden: Towers, heads: Towers, x: jax.Array, cotangents: Outputs) -> Any:
    """The gradients of hidden layers, heads and x. Sums over the batch are one reduction.

    In a population the activations are what takes memory, so few of them are kept at a time: derivatives are read off
    the outputs of a layer. If the batch is large, the sums over the last layer come before the other layers, and the
    outputs of a first layer of few inputs are not kept: they are computed again for its own gradient, and once more for
    that of the second layer, which comes last. A batch that is split over devices is of one agent: there all gradients
    come together, so that one all-reduce sums them.
    """
    layers, sums = _stacked(hidden), _Sums()
    before = _preactivations(activation, layers, x)
    hs = [_kept(each, activation(each.y)) for each in before]
    of_heads, dh = _pull_heads(sums, heads, hs[-1], cotangents)
    is_large = len(layers) > 1 and x.shape[0] >= 2 * dh.shape[2] and not mesh.num_devices()
    is_first_kept = not is_large or x.shape[1] > LONGEST or before[0].standardized is not None
    columns = [] if is_first_kept else [x[:, i] for i in range(x.shape[1])]  # of x, for outputs that are computed again
    dzs: dict[int, jax.Array] = {}
    of_layers: list[dict[str, _Get]] = []
    for i in reversed(range(1, len(layers))):
        dy = _pull_activation(activation, before[i].y, hs[i], dh)
        dzs[i], of_norm = _pull_norm(sums, layers[i], before[i].standardized, dy)
        of_layers.insert(0, {"bias": sums.add(dzs[i])} | of_norm)
        if i == len(layers) - 1 and is_large:
            dzs[i], columns = sums.compute_before((dzs[i], columns))
            sums = _Sums()
        if i > 1 or is_first_kept:
            of_layers[0]["kernel"] = _ready(_pull_kernel(hs[i - 1], dzs[i]))
        dh = _pull_input(layers[i], dzs[i])
    h = hs[0] if is_first_kept else _first_outputs(activation, layers[0], columns)
    dz, of_norm = _pull_norm(sums, layers[0], before[0].standardized, _pull_activation(activation, before[0].y, h, dh))
    dz = dz if is_first_kept else lax.optimization_barrier(dz)  # an array of its own, in the place of dh
    of_layers.insert(0, {"bias": sums.add(dz), "kernel": _pull_first_kernel(sums, x, dz)} | of_norm)
    if is_first_kept:
        sums.compute()
    else:
        dzs[1], columns = sums.compute_before((dzs[1], columns))
        of_layers[1]["kernel"] = _ready(_pull_kernel(_first_outputs(activation, layers[0], columns), dzs[1]))
    stacked = jax.tree.map(lambda get: get(), tuple(of_layers))  # leaves lead with [M]
    of_hidden = tuple(jax.tree.map(functools.partial(_own_part, m), stacked, own) for m, own in enumerate(hidden))
    return of_hidden, jax.tree.map(lambda get: get(), of_heads), _pull_input(layers[0], dz).sum(axis=0)


def _first_outputs(activation: Activation, layer: _Layer, columns: list[jax.Array]) -> jax.Array:
    """Of the first layer, [M, B, H], from columns [B] of x that the compiler takes for others than those of x."""
    return activation(_preactivations(activation, [layer], jnp.stack(columns, axis=1))[0].y)


def _pull_kernel(h: jax.Array, dz: jax.Array) -> jax.Array:
    """Of [M, D, H], from h [M, B, D] and dz [M, B, H]."""
    return lax.dot_general(h, dz, (((1,), (1,)), ((0,), (0,))))


def _pull_input(layer: _Layer, dz: jax.Array) -> jax.Array:
    """[M, B, D] of what a layer reads, from dz [M, B, H]."""
    return lax.dot_general(dz, layer.kernel, (((2,), (2,)), ((0,), (0,))))


def _own_part(m: int, stacked: jax.Array, like: jax.Array) -> jax.Array:
    """The gradient of one tower's parameter from those of all, without their padding."""
    return stacked[m][tuple(map(slice, like.shape))]


def _kept(before: _Preactivation, h: jax.Array) -> jax.Array:
    """h as an array of its own, from which derivatives are read; behind a normalization they need more than h."""
    return h if before.standardized else lax.optimization_barrier(h)


def _pull_activation(activation: Activation, z: jax.Array, h: jax.Array, dh: jax.Array) -> jax.Array:
    """The gradient of z from that of h = activation(z), without z where h tells it."""
    if activation is jnp.tanh:
        return dh * (1 - h * h)
    if activation is jax.nn.relu:
        return jnp.where(h > 0, dh, 0)
    return jax.vjp(activation, z)[1](dh)[0]


def _pull_norm(sums: _Sums, layer: _Layer, x: Standardized | None, dy: jax.Array) -> tuple[jax.Array, dict[str, _Get]]:
    """The gradients [M, B, H] of what a layer normalizes, and of its scale and shift, from that of y; dy without."""
    if x is None or layer.scale is None:
        return dy, {}
    dz = pull(x, lax.optimization_barrier(dy * layer.scale), layer.width)
    return dz, {"scale": sums.add(dy * x.values), "shift": sums.add(dy)}


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


def _pull_heads(sums: _Sums, heads: Towers, h: jax.Array, cotangents: Outputs) -> tuple[Any, jax.Array]:
    """The gradients of all heads, to be read once the sums have been computed, and of h [M, B, H]."""
    width = heads[0][0]["kernel"].shape[0]  # of h without its padding
    pulled = [
        [_pull_head(sums, head, h[m, :, :width], each) for head, each in zip(tower, outer)]
        for m, (tower, outer) in enumerate(zip(heads, _made_at_once(cotangents)))
    ]
    dh = jnp.stack([functools.reduce(jnp.add, [each for _, each in tower]) for tower in pulled])
    return tuple(tuple(get for get, _ in tower) for tower in pulled), _padded(dh, 2, h.shape[2] - width)


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
    """Sums over the batch that wait to be computed together, in one reduction over the widest of them."""

    def __init__(self) -> None:
        self._terms: list[jax.Array] = []
        self._found: jax.Array | None = None

    def add(self, terms: jax.Array) -> _Get:
        """Sum [S, B, H] over B; the function reads the sums [S, H] once they have been computed."""
        start = sum(each.shape[0] for each in self._terms)
        self._terms.append(terms)
        return lambda: self._sums[start : start + terms.shape[0], : terms.shape[2]]

    @property
    def _sums(self) -> jax.Array:
        assert self._found is not None
        return self._found

    def compute(self) -> None:
        """Compute the sums."""
        widest = max(each.shape[2] for each in self._terms)
        terms = [_padded(each, 2, widest - each.shape[2]) for each in self._terms]
        self._found = jnp.concatenate(terms).sum(axis=1)

    def compute_before(self, x: Any) -> Any:
        """Compute the sums, and return x for what must come after them."""
        self.compute()
        x, self._found = lax.optimization_barrier((x, self._found))
        return x

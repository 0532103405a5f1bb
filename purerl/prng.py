"""JAX's own random numbers, computed without a loop: the same bits, faster if a step does little else.

On CPU, JAX compiles threefry as a loop of five trips. In a rollout of few environments that loop is a third of a step,
and it takes two to six times as long to compile. `unrolled` turns a key into one that draws the same bits straight
through, by functions that XLA compiles once for all draws of one shape.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from purerl import branches
from purerl.calls import not_inlined

Key: TypeAlias = jax.Array

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def check_key(key: Any) -> None:
    """Reject anything but one typed key.

    Raises:
      TypeError: `key` is a raw uint32 key, a seed, an array of keys, or something else.

    Examples:
      >>> check_key(0)
      Traceback (most recent call last):
      TypeError: key must be a typed key, jax.random.key(seed); got int
    """
    if not is_key(key):
        raise TypeError(f"key must be a typed key, jax.random.key(seed); got {type(key).__name__}")
    if key.shape:
        raise TypeError(f"key must be one key, got an array of keys of shape {list(key.shape)}; use jax.vmap over keys")


def is_key(x: Any) -> bool:
    """Whether a leaf, or the spec of one, is a typed key.

    Examples:
      >>> is_key(jax.random.key(0)), is_key(jnp.zeros(2))
      (True, False)
    """
    return jax.dtypes.issubdtype(getattr(x, "dtype", np.dtype(object)), jax.dtypes.prng_key)


def key_implementation(spec: Any) -> Any:
    """How a typed key, or the spec of one, makes its numbers: the `impl` of `wrap_key_data`."""
    found: list[Any] = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), jax.ShapeDtypeStruct(spec.shape, spec.dtype))
    return found[0]


def unrolled(key: jax.Array) -> jax.Array:
    """A key that draws the bits of `key`, compiled without a loop for a CPU and as JAX does for other platforms.

    The platform is the one that the program is lowered for, not the default one of this process.

    Args:
      key: typed key or array of keys.

    Returns:
      The same key in another implementation; `key` itself if it is not a key of (partitionable) threefry.

    Examples:
      >>> key = jax.random.key(0)
      >>> bool(jax.random.bits(unrolled(key)) == jax.random.bits(key))
      True
    """
    if key.dtype != _threefry_dtype() or not jax.threefry_partitionable.value:
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_implementation())


def standard(tree: Any) -> Any:
    """The tree with every key that `unrolled` made as one of JAX's own again.

    Examples:
      >>> key = jax.random.key(0)
      >>> standard({"key": unrolled(key)})["key"].dtype == key.dtype
      True
    """

    def restored(x: Any) -> Any:
        if getattr(x, "dtype", None) != _unrolled_dtype():
            return x
        return jax.random.wrap_key_data(jax.random.key_data(x), impl="threefry2x32")

    return jax.tree.map(restored, tree)


def split(key: jax.Array, num: int | tuple[int, ...] = 2) -> jax.Array:
    """`jax.random.split`: the same keys, made straight through on a CPU."""
    return _as(key, jax.random.split(unrolled(key), num))


def fold_in(key: jax.Array, data: int | jax.Array) -> jax.Array:
    """`jax.random.fold_in`: the same key, made straight through on a CPU."""
    return _as(key, jax.random.fold_in(unrolled(key), data))


def integers(key: jax.Array, shape: tuple[int, ...], bound: int | jax.Array) -> jax.Array:
    """Uniform integers in 0, ..., bound - 1: ⌊bound · word / 2³²⌋, one random word for each.

    A number's probability is 1 / bound up to a factor of 1 ± bound / 2³². `jax.random.randint` takes two words for
    each, from two keys, and three remainders.

    Args:
      key: typed key.
      shape: of the result.
      bound: from 1 to 2³¹ - 1.

    Returns:
      int32 [*shape].

    Examples:
      >>> drawn = integers(jax.random.key(0), (1000,), 3)
      >>> sorted(set(drawn.tolist()))
      [0, 1, 2]

    Source: Lemire 2019, "Fast random integer generation in an interval", section 4, without the rejection.
    """
    word, bound = jax.random.bits(unrolled(key), shape, jnp.uint32), jnp.asarray(bound).astype(jnp.uint32)
    half = jnp.uint32(0xFFFF)
    (high, low), (bound_high, bound_low) = ((x >> 16, x & half) for x in (word, bound))
    # the upper word of the product, whose four parts are of 32 bits each
    first, second = high * bound_low, low * bound_high
    carry = ((first & half) + (second & half) + (low * bound_low >> 16)) >> 16
    return (high * bound_high + (first >> 16) + (second >> 16) + carry).astype(jnp.int32)


def _as(key: jax.Array, keys: jax.Array) -> jax.Array:
    """The keys in the implementation of `key`."""
    return standard(keys) if key.dtype == _threefry_dtype() else keys


@functools.cache
def _threefry_dtype() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32")).dtype


@functools.cache
def _unrolled_dtype() -> Any:
    data = jax.ShapeDtypeStruct((2,), jnp.uint32)
    return jax.eval_shape(lambda data: jax.random.wrap_key_data(data, impl=_implementation()), data).dtype


@functools.cache
def _implementation() -> Any:
    return jax.extend.random.define_prng_impl(
        key_shape=(2,),
        seed=_seed,
        split=_split,
        random_bits=_random_bits,
        fold_in=_fold_in,
        name="threefry2x32_unrolled",
        tag="fru",
    )


def _seed(seed: jax.Array) -> jax.Array:
    return jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))


def _on_cpu(
    unrolled: Callable[[jax.Array], jax.Array], standard: Callable[[Key], jax.Array], key: jax.Array
) -> jax.Array:
    """`unrolled(key)` if the program is lowered for a CPU, otherwise JAX's own `standard`; key: uint32 [2]."""

    def default(key: jax.Array) -> jax.Array:
        return standard(jax.random.wrap_key_data(key, impl="threefry2x32"))

    return branches.dependent(key, cpu=unrolled, default=default)


@functools.partial(jax.jit, static_argnums=1, inline=True)  # so that each shape is traced once
def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    def unrolled(key: jax.Array) -> jax.Array:
        count = math.prod(shape)
        return _keys(key, jnp.uint32(0), max(count, _FEW))[:count].reshape(*shape, 2)

    return _on_cpu(unrolled, lambda key: jax.random.key_data(jax.random.split(key, shape)), key)


@functools.partial(jax.jit, inline=True)
def _fold_in(key: jax.Array, data: int | jax.Array) -> jax.Array:
    word = jnp.asarray(data).astype(jnp.uint32)

    def unrolled(key: jax.Array) -> jax.Array:
        return _keys(key, word, _FEW)[0]

    return _on_cpu(unrolled, lambda key: jax.random.key_data(jax.random.fold_in(key, word)), key)


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _random_bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    dtype, count = f"uint{bit_width}", math.prod(shape)

    def unrolled(key: jax.Array) -> jax.Array:
        if bit_width == 64:
            high, low = _threefry(key, *_counts(count))
            return ((high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)).reshape(shape)
        words = not_inlined(_make_words, key, count) if count <= _MANY else _make_words(key, count)
        return words.astype(dtype).reshape(shape)

    return _on_cpu(unrolled, lambda key: jax.random.bits(key, shape, dtype), key)


_FEW = 4  # keys of one vector of eight words, as many as a CPU makes at once
_MANY = 2**10  # numbers from which on they are made where they are used, which saves writing them


def _keys(key: jax.Array, first: jax.Array, count: int) -> jax.Array:
    """Threefry of the words 0 and first, first + 1, ...: [count, 2]."""
    first = jax.lax.optimization_barrier(first)  # or a constant would become part of the function
    return not_inlined(_make_keys, key, first, count)


@functools.partial(jax.jit, static_argnums=2)
def _make_keys(key: jax.Array, first: jax.Array, count: int) -> jax.Array:
    word = jax.lax.iota(jnp.uint32, 2 * count)  # [2 count]: both words of each key side by side, one expression
    x0, x1 = _rounds(key, jnp.zeros_like(word), first + (word >> 1))
    return jax.lax.select((word & 1) == 0, x0, x1).reshape(count, 2)


@functools.partial(jax.jit, static_argnums=1)
def _make_words(key: jax.Array, count: int) -> jax.Array:
    """Random words, [count]."""
    high, low = _rounds(key, *_counts(count))
    return high ^ low


def _counts(count: int) -> tuple[jax.Array, jax.Array]:
    """The high and low words of 0, 1, 2, ..., fewer than 2³² of them.

    They are flat, [n], since a compiler unrolls loops over short axes.
    """
    low = jax.lax.iota(jnp.uint32, count)
    return jnp.zeros_like(low), low


def _rounds(key: jax.Array, x0: jax.Array, x1: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 with 20 rounds: key [2] and two arrays of words to two arrays of words.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3.
    """
    words = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    x0, x1 = x0 + words[0], x1 + words[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = ((x1 << rotation) | (x1 >> (32 - rotation))) ^ x0
        x0 = x0 + words[(group + 1) % 3]
        x1 = x1 + words[(group + 2) % 3] + jnp.uint32(group + 1)
    return x0, x1


_threefry = jax.jit(_rounds)


# --- Shuffling without a sort -----------------------------------------------------------------------------------------

_ROUNDS = 6


def permutation(key: jax.Array, n: int) -> jax.Array:
    """A pseudo-random permutation of 0, ..., n - 1 in O(n), without a sort.

    With n = a b (a the divisor nearest to √n) every index is a pair (l, r) in Z_a x Z_b, and each of six rounds is

        l ← (l + F(r)) mod a,   r ← (r + G(l)) mod b,

    with F and G keyed multiply-xorshift hashes. Each half round can be undone, so the whole is a bijection.

    Args:
      key: typed key.
      n: number of elements. Below 256, when a sort is cheap and uniformity exact, and when n has no divisor between
        √n / 8 and √n, such as a prime, `jax.random.permutation` is used instead.

    Returns:
      int32 [n].

    Examples:
      >>> order = permutation(jax.random.key(0), 4096)
      >>> bool(jnp.all(jnp.sort(order) == jnp.arange(4096)))
      True

    Source: Luby & Rackoff 1988 (Feistel networks as pseudo-random permutations), additive over mixed radices as in
    Black & Rogaway 2002, "Ciphers with arbitrary finite domains", section 4 (generalised Feistel).
    """
    a = _divisor_near_root(n)
    if n < 256 or a * 8 < math.isqrt(n):
        return jax.random.permutation(unrolled(key), n)
    b = n // a
    index = jnp.arange(n, dtype=jnp.uint32)  # [n]
    left, right = index // b, index % b
    keys = jax.random.bits(unrolled(key), (_ROUNDS, 2, 2), jnp.uint32)
    for round_keys in keys:
        left = (left + _hash(right, round_keys[0]) % a) % a
        right = (right + _hash(left, round_keys[1]) % b) % b
    return (left * b + right).astype(jnp.int32)


def _divisor_near_root(n: int) -> int:
    return next(a for a in range(math.isqrt(n), 0, -1) if n % a == 0)


def _hash(x: jax.Array, key: jax.Array) -> jax.Array:
    """A keyed uint32 hash: two rounds of multiply and xorshift with odd random multipliers."""
    x = (x + key[0]) * (key[1] | 1)
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)

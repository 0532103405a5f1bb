"""JAX's own random numbers, computed without a loop: the same bits, faster where little else happens in a step.

On CPU, JAX compiles threefry as a loop of five trips. In a rollout of few environments that loop is a third of a step.
`unrolled` turns a key into one that draws the same bits straight through, in one fused kernel.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def unrolled(key: jax.Array) -> jax.Array:
    """A key that draws the bits of `key`, compiled without a loop.

    Args:
      key: typed key or array of keys.

    Returns:
      The same key in another implementation; `key` itself where it is not threefry's, or off the CPU.
    """
    if jax.default_backend() != "cpu" or key.dtype != jax.random.key(0).dtype:
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_implementation())


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


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.stack(_threefry(key, *_counts(shape)), axis=-1)


def _fold_in(key: jax.Array, data: Any) -> jax.Array:
    word = jnp.asarray(data).astype(jnp.uint32)
    return jnp.stack(_threefry(key, jnp.zeros_like(word), word))


def _random_bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    high, low = _threefry(key, *_counts(shape))
    if bit_width == 64:
        return (high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)
    return (high ^ low).astype(f"uint{bit_width}")


def _counts(shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """The high and low words of 0, 1, 2, ... in the given shape; fewer than 2³² of them."""
    low = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        low += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
        stride *= shape[axis]
    return jnp.zeros(shape, jnp.uint32), low


def _threefry(key: jax.Array, x0: jax.Array, x1: jax.Array) -> tuple[jax.Array, jax.Array]:
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

"""Shuffling without a sort.

`jax.random.permutation` sorts, and on a CPU that sort is what a PPO update spends its time on. A Feistel network over
mixed radices is a bijection by construction: it needs no sort, no memory, and vmaps.
"""

import math

import jax
import jax.numpy as jnp

_ROUNDS = 6


def permutation(key: jax.Array, n: int) -> jax.Array:
    """A pseudo-random permutation of 0, ..., n - 1 in O(n), without a sort.

    With n = a b (a the divisor nearest to √n) every index is a pair (l, r) in Z_a x Z_b, and each of six rounds is

        l ← (l + F(r)) mod a,   r ← (r + G(l)) mod b,

    with F and G keyed multiply-xorshift hashes. Each half round can be undone, so the whole is a bijection.

    Args:
      key: typed key.
      n: number of elements. Below 256, where a sort is cheap and uniformity exact, and where n has no divisor between
        √n / 8 and √n (a prime, say), `jax.random.permutation` does it instead.

    Returns:
      int32 [n].

    Source: Luby & Rackoff 1988 (Feistel networks as pseudo-random permutations), additive over mixed radices as in
    Black & Rogaway 2002, "Ciphers with arbitrary finite domains", section 4 (generalised Feistel).
    """
    a = _divisor_near_root(n)
    if n < 256 or a * 8 < math.isqrt(n):
        return jax.random.permutation(key, n)
    b = n // a
    index = jnp.arange(n, dtype=jnp.uint32)
    left, right = index // b, index % b
    keys = jax.random.bits(key, (_ROUNDS, 2, 2), jnp.uint32)
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

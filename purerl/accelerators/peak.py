"""The rate of bare matrix products on the device at hand, which a program's own rate is compared with."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp

_ROWS, _WIDTH = 16384, 64


def peak_rate(repeats: int = 20) -> float:
    """Operations per second of products [16384, 64] x [64, 64], those of two hidden layers, on the first device.

    A CPU's device computes on all cores, also if there are several. Smaller products can be faster, in a core's cache.

    Args:
      repeats: products in a run, of which five are made; the fastest one counts.
    """
    x, weight = jnp.ones((_ROWS, _WIDTH)), jnp.eye(_WIDTH)
    product = jax.jit(lambda x: jax.lax.fori_loop(0, repeats, lambda _, x: x @ weight, x))
    jax.block_until_ready(product(x))
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        jax.block_until_ready(product(x))
        seconds.append(time.perf_counter() - begin)
    return 2.0 * _ROWS * _WIDTH**2 * repeats / min(seconds)

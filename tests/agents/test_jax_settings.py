"""Every agent under JAX's settings: traced, lowered if the platform matters, and run only to look for NaN."""

import jax
import jax.numpy as jnp
import pytest
from agent_cases import NAMES, fresh, train, varied

pytestmark = pytest.mark.parametrize("name", NAMES)


def test_it_trains_in_64_bits_without_implicit_broadcasts_between_ranks(name):
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        jax.eval_shape(fresh(name), jax.random.key(0))


def test_it_trains_with_keys_of_rbg(name):
    with jax.default_prng_impl("rbg"):
        jax.jit(fresh(name)).lower(jax.random.key(0))


def test_no_key_is_used_twice(name):
    with jax.debug_key_reuse(True):
        jax.make_jaxpr(fresh(name))(jax.random.key(0))


def test_it_trains_while_jax_looks_for_nan(name):
    with jax.debug_nans(True):
        jax.block_until_ready(train(name, varied(name, jnp.float32(0.01))))

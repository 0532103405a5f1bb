"""Every agent under JAX's settings for keys, dtypes and broadcasts: traced, and lowered where that could differ.

`test_contract.py` runs every agent while JAX looks for NaN.
"""

import jax
import pytest
from agent_cases import NAMES, fresh


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_in_64_bits_without_implicit_broadcasts_between_ranks_and_uses_no_key_twice(name):
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"), jax.debug_key_reuse(True):
        jax.make_jaxpr(fresh(name))(jax.random.key(0))


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_with_keys_of_rbg(name):
    with jax.default_prng_impl("rbg"):
        jax.make_jaxpr(fresh(name))(jax.random.key(0))


@pytest.mark.parametrize("name", ["ppo, squashed, normalized", "sac", "evolution", "bandit"])
def test_programs_with_keys_of_rbg_are_lowered(name):
    with jax.default_prng_impl("rbg"):
        jax.jit(fresh(name)).lower(jax.random.key(0))

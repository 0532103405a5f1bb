"""Sums beyond the precision of float32, and what has diverged."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import numerics
from purerl.combinators.replay import ReplayState
from purerl.types import Experience, TrainState


@pytest.mark.parametrize("number", [np.nan, np.inf, -2e9])
def test_parameters_that_no_gradient_can_bring_back_have_diverged(number):
    params = {"w": jnp.ones(3), "b": jnp.array([0.0, number])}
    assert numerics.diverged(TrainState(params, (), (), jnp.int32(3)))
    assert not numerics.diverged(TrainState({"w": jnp.full(3, 1e6)}, (), (), jnp.int32(3)))


def test_a_sum_of_two_words_counts_single_steps_beyond_ten_billion():
    total = numerics.add(numerics.new_sum(), jnp.float32(1e10))
    total = jax.jit(lambda total: jax.lax.fori_loop(0, 1000, lambda _, x: numerics.add(x, jnp.float32(1)), total))(
        total
    )
    assert np.float64(total.high) + np.float64(total.low) == 1e10 + 1000


def test_a_sum_of_two_words_is_that_of_double_precision():
    terms = np.random.default_rng(0).normal(1, 100, 5000).astype(np.float32)
    total, _ = jax.jit(lambda x: jax.lax.scan(lambda s, t: (numerics.add(s, t), None), numerics.new_sum(), x))(terms)
    np.testing.assert_allclose(
        np.float64(total.high) + np.float64(total.low), terms.astype(np.float64).sum(), rtol=1e-12
    )


def learner(params=1.0, opt_state=0.0, learning_rate=0.1):
    return TrainState(jnp.array([1.0, params]), {"mean": jnp.array(opt_state)}, jnp.array(learning_rate), jnp.int32(3))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (learner(), False),
        (learner(params=np.nan), True),
        (learner(params=np.inf), True),
        (learner(opt_state=np.nan), True),
        (learner(opt_state=np.inf), False),
        (learner(learning_rate=np.nan), False),
        (ReplayState(learner(params=np.nan), jnp.zeros(2)), True),
        (ReplayState(learner(), jnp.full(2, np.nan)), False),
    ],
)
def test_a_learner_has_diverged_if_it_holds_a_nan(state, expected):
    assert bool(numerics.diverged(state)) is expected


class Counting(NamedTuple):
    count: jax.Array
    traces: Experience
    hparams: Any


def test_a_learner_of_integers_has_not_diverged():
    assert not numerics.diverged(Counting(jnp.int32(3), jnp.array(np.nan), ()))


def test_members_of_a_population_diverge_one_by_one():
    members = jax.tree.map(lambda *x: jnp.stack(x), learner(), learner(params=np.nan), learner())
    assert jax.vmap(numerics.diverged)(members).tolist() == [False, True, False]

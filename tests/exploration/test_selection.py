"""Exploration and schedules: oracles in both precisions, and what must hold for any numbers."""

import checks_exploration
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checking import arr, close, gradient_agrees, precision, precisions, tolerance
from hypothesis import given, settings
from hypothesis import strategies as st

from purerl import exploration

CHECKS = [check for name, check in vars(checks_exploration).items() if name.startswith("check_")]
BOTH = pytest.mark.parametrize("dtype", precisions())
FEW = settings(max_examples=15, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)
COMPILED = {name: jax.jit(getattr(exploration, name)) for name in exploration.__all__}


@BOTH
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_oracle(check, dtype):
    with precision(dtype), jax.numpy_rank_promotion("raise"):
        check(exploration)


def values(seed):
    rng = np.random.default_rng(seed)
    return arr(rng.integers(0, 4, (4, 5))), np.column_stack([rng.random((4, 4)) < 0.6, np.ones(4, bool)])


@BOTH
@FEW
@given(seed=SEEDS, epsilon=st.floats(0, 1), temperature=st.floats(0, 10))
def test_probabilities_sum_to_one_and_spare_the_invalid(dtype, seed, epsilon, temperature):
    with precision(dtype):
        q, mask = values(seed)
        for name, parameter in (("epsilon_greedy_probs", epsilon), ("boltzmann_probs", temperature)):
            probs = np.asarray(COMPILED[name](q, parameter, mask))
            close(probs.sum(-1), np.ones(4))
            assert (probs[~mask] == 0).all()
            assert (probs >= 0).all()


@BOTH
@FEW
@given(seed=SEEDS, shift=st.floats(-10, 10))
def test_a_shift_of_the_values_changes_nothing(dtype, seed, shift):
    with precision(dtype):
        q = jnp.asarray(np.random.default_rng(seed).normal(size=(4, 5)), float)
        close(COMPILED["boltzmann_probs"](q + shift, 0.7), np.asarray(COMPILED["boltzmann_probs"](q, 0.7)), 5)


@BOTH
@FEW
@given(seed=SEEDS)
def test_a_cold_softmax_is_greedy(dtype, seed):
    with precision(dtype):
        q, mask = values(seed)
        greedy = np.asarray(COMPILED["epsilon_greedy_probs"](q, 0.0, mask))
        for temperature in (0.0, 1e-30, 1e-3):
            close(COMPILED["boltzmann_probs"](q, temperature, mask), greedy)


@BOTH
@FEW
@given(seed=SEEDS, epsilon=st.floats(0, 1))
def test_actions_are_valid_and_greedy_ones_the_best(dtype, seed, epsilon):
    with precision(dtype):
        q, mask = values(seed)
        key, rows = jax.random.key(seed % 1000), np.arange(4)
        best = np.where(mask, q, -np.inf).max(-1)
        assert (np.asarray(q)[rows, COMPILED["greedy"](key, q, mask)] == best).all()
        for name, parameter in (("epsilon_greedy", epsilon), ("boltzmann", epsilon)):
            assert mask[rows, COMPILED[name](key, q, parameter, mask)].all()


@BOTH
@FEW
@given(seed=SEEDS)
def test_gradient_bandit_keeps_the_sum_of_its_preferences(dtype, seed):
    with precision(dtype):
        rng = np.random.default_rng(seed)
        preference, reward = arr(rng.normal(size=(4, 5))), arr(rng.normal(size=4))
        action = rng.integers(0, 5, 4).astype(np.int32)
        updated = np.asarray(COMPILED["gradient_bandit_update"](preference, action, reward, 0.1, 0.5))
        close(updated.sum(-1), np.asarray(preference).sum(-1), 10)


@BOTH
@FEW
@given(seed=SEEDS)
def test_more_trials_narrow_the_bound(dtype, seed):
    """With the same total, the arm tried more often has the smaller bonus."""
    with precision(dtype):
        count = arr(np.random.default_rng(seed).permutation(np.arange(1, 6)))
        bonus = np.asarray(COMPILED["ucb1_scores"](jnp.zeros(5), count))
        assert (np.argsort(-bonus) == np.argsort(np.asarray(count))).all()


@BOTH
@FEW
@given(start=st.floats(0.01, 10), end=st.floats(0.01, 10), steps=st.integers(1, 1_000_000))
def test_schedules_are_exact_at_their_ends_and_stay_between_them(dtype, start, end, steps):
    with precision(dtype):
        at = np.array([-1, 0, steps // 2, steps, steps + 1])
        for name in ("linear_schedule", "exponential_schedule"):
            y = np.asarray(COMPILED[name](at, start, end, steps))
            ends = np.asarray([start, start, end, end], y.dtype)
            assert (y[[0, 1, 3, 4]] == ends).all()
            assert min(start, end) * (1 - tolerance()) <= y[2] <= max(start, end) * (1 + tolerance())


@BOTH
@FEW
@given(seed=SEEDS)
def test_piecewise_linear_is_that_of_numpy(dtype, seed):
    with precision(dtype):
        rng = np.random.default_rng(seed)
        knots, levels = np.sort(rng.choice(100, 5, replace=False)), rng.normal(size=5)
        steps = np.arange(-5, 110)
        y = np.asarray(COMPILED["piecewise_linear_schedule"](steps, arr(knots), arr(levels)))
        close(y, np.interp(steps, knots, levels))
        assert (y[5 + knots] == np.asarray(arr(levels))).all()


def test_gradient_is_that_of_finite_differences():
    rng = np.random.default_rng(0)
    with precision("float64"):
        q, action = rng.normal(size=(2, 3)), np.array([0, 2], np.int32)
        gradient_agrees(exploration.boltzmann_probs, [q, np.array(0.7)], [0, 1])
        gradient_agrees(exploration.epsilon_greedy_probs, [q, np.array(0.3)], [1])
        bandit = [q, action, rng.normal(size=2), np.array(0.1), np.array(0.5)]
        gradient_agrees(exploration.gradient_bandit_update, bandit, [0, 2, 3, 4])
        gradient_agrees(exploration.ucb1_scores, [q, np.abs(q) + 1], [0, 1])
        gradient_agrees(exploration.gaussian_posterior, [q, np.abs(q), *np.array([2.0, 1.0, 4.0])], range(5))
        for schedule in (exploration.linear_schedule, exploration.exponential_schedule):
            gradient_agrees(schedule, list(np.array([2.0, 0.7, 0.1, 5.0])), range(4))


def test_refusals_name_what_is_wrong():
    three, whole = jnp.zeros(3), jnp.zeros(3, jnp.int32)
    for call in (
        lambda: exploration.greedy(None, whole),
        lambda: exploration.epsilon_greedy(jax.random.key(0), three, 0.1, jnp.ones(4)),
        lambda: exploration.ucb1_scores(three, jnp.zeros(4)),
        lambda: exploration.gradient_bandit_update(three, jnp.zeros(()), jnp.zeros(()), 0.0, 0.1),
        lambda: exploration.piecewise_constant_schedule(0, three, three),
        lambda: exploration.piecewise_linear_schedule(0, three, jnp.zeros(4)),
    ):
        with pytest.raises(AssertionError, match=r"shape|type"):
            call()


def test_an_infinite_temperature_is_uniform_over_the_valid_actions():
    q, mask = jnp.array([1.0, 2.0, 3.0]), jnp.array([True, False, True])
    np.testing.assert_array_equal(exploration.boltzmann_probs(q, jnp.inf, mask), [0.5, 0, 0.5])
    keys = jax.random.split(jax.random.key(0), 100)
    drawn = jax.vmap(lambda key: exploration.boltzmann(key, q, jnp.inf, mask))(keys)
    assert set(drawn.tolist()) == {0, 2}


def test_the_gradient_with_respect_to_the_temperature_is_finite_beside_invalid_actions():
    q, mask = jnp.array([1.0, 2.0, 3.0]), jnp.array([True, False, True])
    masked = jax.grad(lambda t: exploration.boltzmann_probs(q, t, mask)[0])(0.7)
    plain = jax.grad(lambda t: exploration.boltzmann_probs(q[mask], t)[0])(0.7)
    np.testing.assert_allclose(masked, plain, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_explores_as_often_as_it_should(dtype):
    draw = jax.jit(jax.vmap(lambda key: exploration.boltzmann(key, jnp.array([0, -7], dtype), 1.0)))
    expected = 1 / (1 + np.exp(7))
    assert float(draw(jax.random.split(jax.random.key(0), 400_000)).mean()) == pytest.approx(expected, rel=0.15)


def test_numpys_float64_is_taken_as_jaxs_own_float():
    mask = np.array([True, True, False])
    assert exploration.boltzmann_probs(np.array([1.0, 2.0, 3.0]), 0.0, mask).tolist() == [0, 1, 0]


def test_one_probability_of_exploring_for_every_state_or_one_for_all():
    with pytest.raises(ValueError, match="shape"):
        exploration.epsilon_greedy(jax.random.key(0), jnp.zeros(3), jnp.array([0.1, 0.2]))


def test_rewards_of_a_bandit_may_be_numbers():
    assert exploration.gradient_bandit_update(jnp.zeros(2), 0, 3.0, baseline=1.0, step_size=0.5).tolist() == [0.5, -0.5]


def test_steps_before_the_first_knot_may_be_unsigned():
    knots = jnp.array([10, 20], jnp.uint32)
    assert exploration.piecewise_linear_schedule(jnp.uint32(0), knots, jnp.array([1.0, 2.0])) == 1

"""The tree of sums against cumulative sums, and what prioritised sampling draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numbered_steps import NUM_ENVS, example, trajectory
from scipy import stats

from purerl import replay
from purerl.replay import priority, sum_tree

FIND, UPDATE_TREE, UPDATE = map(jax.jit, (sum_tree.find, sum_tree.update, priority.update))
ADD = jax.jit(functools.partial(priority.add, length=3))
SAMPLE = jax.jit(priority.sample, static_argnums=(2, 4))


@pytest.mark.parametrize("size", [1, 31, 33, 1025])
def test_the_tree_finds_what_a_cumulative_sum_finds(size):
    rng = np.random.default_rng(size)
    leaves = rng.integers(0, 4, size).astype(np.float32)  # integers: the sums are exact, and some weights are 0
    leaves[rng.integers(size)] = 3
    tree = sum_tree.init(size)
    for part in np.array_split(rng.permutation(size), 3):
        tree = UPDATE_TREE(tree, jnp.asarray(part), jnp.asarray(leaves[part]))
    assert sum_tree.total(tree) == leaves.sum()
    mass = np.arange(0, leaves.sum(), 0.5, dtype=np.float32)
    expected = np.searchsorted(np.cumsum(leaves), mass, side="right")
    np.testing.assert_array_equal(FIND(tree, jnp.asarray(mass)), expected)
    beyond = FIND(tree, jnp.asarray([leaves.sum()], jnp.float32))
    assert leaves[beyond[0]] > 0


def test_a_leaf_set_twice_keeps_one_of_its_values_and_the_sums_agree():
    tree = UPDATE_TREE(sum_tree.init(100), jnp.array([7, 7, 50]), jnp.array([2.0, 5.0, 1.0]))
    assert sum_tree.get(tree, jnp.array(7)) in (2.0, 5.0)
    assert sum_tree.total(tree) == tree[0].sum()


@pytest.fixture(scope="module")
def filled():
    """21 rows written into 7, windows of 3, with known priorities."""
    state = priority.init(example(), 21, NUM_ENVS)
    for start in range(1, 22, 3):
        state = ADD(state, trajectory(start, 3), 0.5)
    index = jnp.arange(21)
    whole = np.asarray(sum_tree.get(state.tree, index)) > 0
    value = np.linspace(0.1, 4.0, 21).astype(np.float32)
    return UPDATE(state, index[whole], jnp.asarray(value[whole]), 0.5), value * whole


def test_only_whole_windows_have_weight(filled):
    state, value = filled
    number = np.asarray(state.ring.steps.action).reshape(-1) // 10
    np.testing.assert_array_equal(value > 0, number <= 21 - 2)
    assert (value > 0).sum() == replay.window_count(state.ring, 3)


def test_windows_are_drawn_in_proportion_and_weighted_back(filled):
    state, value = filled
    probability = np.sqrt(value.astype(float))
    probability /= probability.sum()
    window, index, weight = SAMPLE(jax.random.key(1), state, 20_000, 0.7, 3)
    number = np.asarray(window.action) // 10
    np.testing.assert_array_equal(number[2] - number[0], 2)
    seen = np.bincount(index, minlength=21)
    assert stats.chisquare(seen[value > 0], seen.sum() * probability[value > 0]).pvalue > 1e-3
    expected = ((value > 0).sum() * probability[index]) ** -0.7
    np.testing.assert_allclose(weight, expected / expected.max(), rtol=1e-4)
    flat = SAMPLE(jax.random.key(1), UPDATE(state, index, jnp.ones(20_000), 0.0), 64, 1.0, 3)[2]
    np.testing.assert_allclose(flat, 1.0, rtol=1e-5)


def test_new_windows_get_the_largest_priority_and_an_update_can_be_withheld(filled):
    state, value = filled
    assert state.largest == value.max()
    added = priority.add(state, trajectory(22, 1), 0.5, length=3)
    completed = np.asarray(added.ring.steps.action).reshape(-1) // 10 == 20
    np.testing.assert_allclose(
        np.asarray(sum_tree.get(added.tree, jnp.arange(21)))[completed], value.max() ** 0.5, rtol=1e-6
    )
    held = UPDATE(state, jnp.array([3]), jnp.array([jnp.nan]), 0.5, ready=False)
    jax.tree.map(np.testing.assert_array_equal, held, state)
    with pytest.raises(ValueError, match="capacity must be at least"):
        priority.add(priority.init(example(), 12, NUM_ENVS), trajectory(0, 3), 0.5, length=3)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 256])
def test_a_draw_comes_in_an_order_that_is_a_permutation(size):
    np.testing.assert_array_equal(np.sort(priority.spread(size)), np.arange(size))


def test_each_half_of_a_draw_covers_all_ages():
    """Equal priorities: the mean position of either half of the batch is that of the whole."""
    halves = priority.spread(256).reshape(2, -1)
    np.testing.assert_allclose(halves.mean(axis=1), 127.5, atol=1)


@pytest.mark.parametrize("exponent", [0.0, 0.6])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_window_without_a_finite_priority_is_not_drawn_again(filled, bad, exponent):
    index = jnp.flatnonzero(sum_tree.get(filled[0].tree, jnp.arange(21)))[:2]
    state = UPDATE(filled[0], index, jnp.array([bad, 1.0]), exponent)
    assert sum_tree.get(state.tree, index).tolist() == [0.0, 1.0]


def test_a_priority_without_a_finite_power_is_not_drawn_again(filled):
    state = priority.update(filled[0], jnp.array([0, 1]), jnp.array([-1.0, 1e30]), exponent=1.5)
    assert np.isfinite(sum_tree.total(state.tree))

"""The ring against a list of steps, and windows of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numbered_steps import NUM_ENVS, example, trajectory
from scipy import stats

from purerl import replay
from purerl.types import Transition


def fill(capacity, lengths):
    ring, start = replay.init(example(), capacity, NUM_ENVS), 1
    for length in lengths:
        ring = replay.add(ring, trajectory(start, length))
        start += length
    return ring, np.arange(1, start)[-(capacity // NUM_ENVS) :]


@pytest.mark.parametrize("lengths", [[1, 2], [4, 4, 4], [5, 3, 5, 5], [7], [1] * 9, [6, 1, 7]])
def test_it_holds_the_last_steps_whatever_their_portions(lengths):
    ring, kept = fill(23, lengths)  # 7 rows of 3: neither divides the other
    assert ring.steps.obs["image"].dtype == jnp.uint8
    assert ring.num_rows == len(kept)
    rows = (int(replay.ring.oldest_row(ring)) + np.arange(len(kept))) % 7
    np.testing.assert_array_equal(np.asarray(ring.steps.action)[rows], kept[:, None] * 10 + np.arange(NUM_ENVS))


@pytest.mark.parametrize("lengths", [[3], [5, 4], [7, 7, 2]])
@pytest.mark.parametrize("length", [1, 3])
def test_windows_are_uniform_consecutive_and_written(lengths, length):
    ring, kept = fill(21, lengths)
    count = int(replay.window_count(ring, length))
    assert count == (len(kept) - length + 1) * NUM_ENVS
    window, index = replay.sample(jax.random.key(0), ring, 4000, length)
    number, env = np.divmod(np.asarray(window.action), 10)
    np.testing.assert_array_equal(number - number[0], np.broadcast_to(np.arange(length)[:, None], number.shape))
    np.testing.assert_array_equal(env, np.broadcast_to(env[0], env.shape))
    np.testing.assert_array_equal(np.asarray(ring.steps.action).reshape(-1)[index], window.action[0])
    starts, seen = np.unique(np.asarray(window.action[0]), return_counts=True)
    assert len(starts) == count
    assert number.min() == kept[0]
    assert number.max() == kept[-1]
    assert stats.chisquare(seen).pvalue > 1e-3


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="capacity = 2 holds no step of each of num_envs = 3"):
        replay.init(example(), 2, NUM_ENVS)
    with pytest.raises(ValueError, match="capacity must be at least rollout_length x num_envs = 9"):
        replay.add(replay.init(example(), 6, NUM_ENVS), trajectory(0, 3))
    with pytest.raises(ValueError, match="2 environments does not fit a ring that was made for num_envs = "):
        replay.add(replay.init(example(), 6, NUM_ENVS), trajectory(0, 1, width=2))


def test_memory_is_stated_exactly():
    ring = jax.eval_shape(lambda: replay.init(example(), 300, NUM_ENVS))
    step = 2 * (1 + 4) + 4 + 4 + 2  # two observations of a byte and a float, action, reward, two flags
    assert replay.nbytes(ring) == 300 * step + 8


@pytest.mark.parametrize("length", [1, 2, 4])
def test_n_step_against_a_loop(length):
    rng = np.random.default_rng(length)
    size, gamma = 200, 0.9
    reward = rng.normal(size=(length, size))
    terminated, truncated = rng.random((2, length, size)) < 0.2
    next_obs = rng.normal(size=(length, size, 2))
    window = Transition(None, None, *map(jnp.asarray, (reward, terminated, truncated)), next_obs=jnp.asarray(next_obs))
    got = replay.n_step(window, gamma)
    for b in range(size):
        ended = terminated[:, b] | truncated[:, b]
        k = int(np.argmax(ended)) if ended.any() else length - 1
        expected = sum(gamma**i * reward[i, b] for i in range(k + 1))
        np.testing.assert_allclose(got[0][b], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got[1][b], gamma ** (k + 1) * (not terminated[k, b]), rtol=1e-6)
        np.testing.assert_allclose(got[2][b], next_obs[k, b], rtol=1e-6)


def _step(*shape):
    zeros, no = jnp.zeros(shape), jnp.zeros(shape, bool)
    return Transition(jnp.zeros((*shape, 4)), zeros, zeros, no, no, jnp.zeros((*shape, 4)))


def test_a_batch_of_steps_is_not_an_example():
    with pytest.raises(ValueError, match=r"example must be one step, without axes .*its reward has shape \[16\]"):
        replay.init(_step(16), capacity=1000, num_envs=16)


def test_steps_without_an_axis_of_time_are_refused():
    ring = replay.init(_step(), capacity=1000, num_envs=16)
    with pytest.raises(ValueError, match=r"trajectory must be \[T, N\].*x\[None\]; its reward has shape \[16\]"):
        replay.add(ring, _step(16))


def test_data_that_are_no_transition_are_named():
    ring = replay.init(_step(), capacity=10, num_envs=1)
    with pytest.raises(TypeError, match=r"example must be a purerl.Transition, got dict"):
        replay.init({"obs": jnp.zeros(4)}, capacity=10, num_envs=1)
    with pytest.raises(TypeError, match=r"trajectory must be a purerl.Transition, got dict"):
        replay.add(ring, {"obs": jnp.zeros((8, 1, 4))})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obs": jnp.zeros((1, 2, 1))}, r"trajectory.obs must have shape \[1, 2, 4\].*got \[1, 2, 1\]"),
        ({"action": jnp.zeros((1, 1))}, r"trajectory.action must have shape \[1, 2\]"),
        ({"action": jnp.zeros(2)}, r"trajectory.action must have shape \[1, 2\]"),
    ],
)  # fmt: skip
def test_leaves_of_another_shape_than_the_example_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replay.add(replay.init(_step(), capacity=8, num_envs=2), _step(1, 2)._replace(**change))


def test_flags_that_are_numbers_are_refused():
    with pytest.raises(TypeError, match=r"trajectory.terminated must be bool, got int32"):
        replay.add(replay.init(_step(), 8, 2), _step(1, 2)._replace(terminated=jnp.zeros((1, 2), int)))


def test_fractions_are_not_cut_to_the_integers_of_a_ring():
    whole = jnp.zeros((1, 1), int)
    ring = replay.init(_step()._replace(action=whole[0, 0]), capacity=8, num_envs=1)
    with pytest.raises(TypeError, match=r"trajectory.action must be int32, as the ring's example, got float32"):
        replay.add(ring, _step(1, 1))


def test_flags_of_a_window_are_bool():
    window = _step(3)._replace(truncated=jnp.array([0, 1, 0]))
    with pytest.raises(TypeError, match="truncated must be bool, got int32"):
        replay.n_step(window, 0.9)

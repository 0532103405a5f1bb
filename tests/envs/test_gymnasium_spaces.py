"""Gymnasium's spaces: offsets, binary vectors, 64 bits and reused buffers come through with their values."""

import numpy as np
import pytest

from purerl import envs
from purerl.envs.adapters.spaces import converted, from_purerl, to_purerl
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces
SAME_STEP = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}


@pytest.mark.parametrize(
    ("theirs", "ours", "their_value", "our_value"),
    [
        (spaces.Discrete(3, start=5), Discrete(3), [5, 7], [0, 2]),
        (spaces.Discrete(3, start=-1), Discrete(3), [-1, 1], [0, 2]),
        (spaces.Discrete(2, start=2**40), Discrete(2), [2**40, 2**40 + 1], [0, 1]),
        (spaces.MultiDiscrete([2, 3], start=[1, -1]), MultiDiscrete((2, 3)), [[1, 1], [2, -1]], [[0, 2], [1, 0]]),
        (spaces.MultiDiscrete([[2, 3], [4, 5]]), MultiDiscrete((2, 3, 4, 5)), [[[1, 2], [3, 4]]], [[1, 2, 3, 4]]),
        (spaces.MultiBinary(3), MultiDiscrete((2, 2, 2)), [[0, 1, 1]], [[0, 1, 1]]),
        (spaces.MultiBinary([2, 2]), MultiDiscrete((2, 2, 2, 2)), [[[0, 1], [1, 1]]], [[0, 1, 1, 1]]),
    ],
)
def test_integers_are_counted_from_zero_in_a_vector(theirs, ours, their_value, our_value):
    assert converted(theirs) == ours
    seen = to_purerl(theirs, ours, np.array(their_value))
    assert (seen.tolist(), seen.dtype.name) == (our_value, "int32")
    np.testing.assert_array_equal(from_purerl(theirs, ours, np.array(our_value, np.int32)), their_value)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "expected"),
    [
        (0, 2**63 - 1, np.int64, "float32"),
        (-(2**40), 0, np.int64, "float32"),
        (0, 2**32, np.uint64, "float32"),
        (-5, 5, np.int64, "int32"),
        (0, 255, np.uint8, "uint8"),
        (-1.0, 1.0, np.float64, "float32"),
    ],
)
def test_numbers_of_64_bits_keep_their_values(low, high, dtype, expected):
    theirs = spaces.Box(low, high, (2,), dtype)
    ours = converted(theirs)
    assert ours.dtype == expected
    value = np.array([[low, high]], dtype)
    np.testing.assert_allclose(to_purerl(theirs, ours, value).astype(np.float64), value.astype(np.float64), rtol=1e-6)
    np.testing.assert_allclose(ours.bounds()[1].astype(np.float64), high, rtol=1e-6)


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Sequence(spaces.Discrete(2)), spaces.Discrete(2**40)])
def test_spaces_without_a_counterpart_are_named(space):
    with pytest.raises(TypeError, match=type(space).__name__):
        converted(space)


def test_clipped_actions_lie_within_bounds_of_64_bits():
    theirs = gymnasium.spaces.Box(-0.1, 0.1, (2,), np.float64)
    action = from_purerl(theirs, converted(theirs), np.array([[5.0, -5.0]], np.float32))
    assert theirs.contains(action[0])


def test_dict_actions_are_clipped_and_shifted_part_by_part():
    theirs = spaces.Dict(speed=spaces.Box(-1, 1, (1,)), gear=spaces.Discrete(3, start=1))
    ours = converted(theirs)
    assert ours == Dict((("speed", Box(-1.0, 1.0, (1,))), ("gear", Discrete(3))))
    action = from_purerl(theirs, ours, {"speed": np.float32([[9]]), "gear": np.array([2])})
    assert (action["speed"].tolist(), action["gear"].tolist()) == ([[1.0]], [3])


class Shifted(gymnasium.Env):
    """Shows the last action; actions and observations count from 3; an episode ends with action 5."""

    observation_space = action_space = spaces.Discrete(3, start=3)

    def reset(self, *, seed=None, options=None):
        return 3, {}

    def step(self, action):
        assert action in self.action_space
        return int(action), 1.0, action == 5, False, {}


def test_offsets_pass_through_an_environment():
    env = envs.from_gymnasium(gymnasium.vector.SyncVectorEnv([Shifted] * 2, **SAME_STEP))
    assert env.reset(0).tolist() == [0, 0]
    step = env.step(np.array([1, 2]))
    assert (step.next_obs.tolist(), step.obs.tolist(), step.terminated.tolist()) == ([1, 2], [1, 0], [False, True])


def test_observations_in_a_buffer_that_is_reused_are_copied():
    class Clock(gymnasium.Env):
        observation_space, action_space = spaces.Box(-9, 9, (1,), np.float32), spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            self.time = 0
            return np.zeros(1, np.float32), {}

        def step(self, action):
            self.time += 1
            return np.full(1, self.time, np.float32), 1.0, self.time == 2, False, {}

    env = envs.from_gymnasium(gymnasium.vector.SyncVectorEnv([Clock], copy=False, **SAME_STEP))
    first = env.reset(0)
    steps = [env.step(np.array([0])) for _ in range(3)]
    assert first.tolist() == [[0]]
    assert [step.next_obs.tolist() for step in steps] == [[[1]], [[2]], [[1]]]
    assert [step.obs.tolist() for step in steps] == [[[1]], [[0]], [[1]]]

"""Spaces: bounds, and actions that are clipped or refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from purerl import spaces
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple

PARTS = Dict((("speed", Box(-1.0, 1.0, (2,))), ("gear", Tuple((Discrete(3), MultiDiscrete((2, 2)))))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, -1.0), r"Box\.low must not be above Box\.high: element 0 has low = 1\.0, high = -1\.0"),
        (((0.0, 2.0), 1.0, (2,)), "element 1 has low = 2.0, high = 1.0"),
        ((float("nan"), 1.0), r"Box\.low is NaN"),
        (((0.0, 0.0), 1.0, (3,)), r"Box\.low has 2 bounds, but shape \(3,\) has 3 elements"),
    ],
)
def test_bounds_that_make_no_box_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Box(*arguments)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "float32"])
def test_bounds_never_overflow_their_dtype(dtype):
    low, high = Box(-float("inf"), 2.0**63, (2,), dtype).bounds()
    limits = np.iinfo(dtype) if "int" in dtype else np.finfo(dtype)
    assert low.dtype == high.dtype == np.dtype(dtype)
    assert (high == (limits.max if "int" in dtype else np.float32(2.0**63))).all()
    assert (low == (limits.min if "int" in dtype else -np.inf)).all()


def test_spaces_are_made_of_lists_arrays_and_dicts_too():
    assert Box(np.zeros((2, 1)), [[1.0], [2.0]], (2, 1)) == Box((0.0, 0.0), (1.0, 2.0), (2, 1))
    assert MultiDiscrete([2, 3]) == MultiDiscrete((2, 3))
    assert Dict({"a": Tuple([Discrete(2)])}) == Dict((("a", Tuple((Discrete(2),))),))
    assert len({Dict({"a": Box([0.0], 1.0, (1,))})}) == 1


def test_a_box_of_arrays_and_types_is_the_one_of_numbers_and_names():
    assert {Box(np.array(0.0), jnp.float32(1.0), [3], jnp.float32)} == {Box(0.0, 1.0, (3,))}


@pytest.mark.parametrize(
    "space",
    [
        lambda: Discrete(0),
        lambda: Discrete(2.5),
        lambda: Discrete(True),
        lambda: MultiDiscrete((2, 0)),
        lambda: MultiDiscrete((2.5, 3)),
    ],
)
def test_numbers_of_elements_that_are_none_are_refused(space):
    with pytest.raises(ValueError, match=r"must be (an integer|integers) of at least 1"):
        space()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (lambda: Box(0.0, 1.0, 3), r"Box\.shape must be a tuple of integers, got 3"),
        (lambda: Box(0.0, 1.0, (3.0,)), r"Box\.shape must be a tuple of integers, got \(3\.0,\)"),
        (
            lambda: Box(0.0, 1.0, (), "flaot32"),
            r"Box\.dtype must be the name of a dtype, such as 'float32'; got 'flaot32'",
        ),
        (lambda: Dict({"a": 3}), r"Dict\['a'\] must be a space of purerl\.spaces, got 3"),
        (lambda: Tuple((Discrete(2), None)), r"Tuple\[1\] must be a space of purerl\.spaces, got None"),
    ],
)
def test_what_spaces_cannot_be_made_of_is_named(space, message):
    with pytest.raises(TypeError, match=message):
        space()


def test_only_boxes_are_clipped_however_deep_they_are():
    action = {"speed": jnp.array([[3.0, -0.5]]), "gear": (jnp.array([1]), jnp.array([[0, 1]]))}
    clipped = spaces.clip_action(action, PARTS)
    assert clipped["speed"].tolist() == [[1.0, -0.5]]
    assert clipped["gear"] == action["gear"]


@pytest.mark.parametrize(
    ("speed", "gear", "expected"),
    [
        ([1.0, -1.0], (2, [1, 1]), True),
        ([1.0 + 1e-7, -1.0], (0, [0, 0]), True),
        ([1.1, 0.0], (0, [0, 0]), False),
        ([np.nan, 0.0], (0, [0, 0]), False),
        ([0.0, 0.0], (3, [0, 0]), False),
        ([0.0, 0.0], (0, [0, 2]), False),
        ([0.0, 0.0], (0, [-1, 0]), False),
    ],
)
def test_actions_are_in_range_when_every_part_is(speed, gear, expected):
    assert spaces.in_range({"speed": np.float32(speed), "gear": (gear[0], np.array(gear[1]))}, PARTS) is expected


def test_an_environment_of_another_library_is_named():
    gymnasium = pytest.importorskip("gymnasium")
    with pytest.raises(TypeError, match=r"env is a Gymnasium environment; pass purerl\.envs\.from_gymnasium"):
        spaces.check_spaces(gymnasium.make("CartPole-v1"))
    with pytest.raises(TypeError, match="it has none, and is of type int"):
        spaces.check_spaces(3)

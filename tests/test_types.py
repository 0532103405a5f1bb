import dataclasses
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import spaces, types
from purerl.hparams import (
    Interval,
    NonNegative,
    cast,
    check_hparams,
    check_positive,
    get_hparams,
    get_learner,
    hparam_ranges,
    set_hparams,
    set_learner,
)
from purerl.prng import check_key


class Hparams(NamedTuple):
    rate: NonNegative = 0.1
    share: Annotated[Any, Interval(0, 1)] = 0.5
    count: Any = 3
    flag: Any = True


class Inner(NamedTuple):
    hparams: Any


class Outer(NamedTuple):
    agent: Any


@pytest.mark.parametrize(
    "values", [(1, 0, 2, False), (1.5, 1.0, 3, True), (np.float64(1), np.int64(0), np.int8(2), np.bool_(1))]
)
def test_cast_gives_every_field_its_own_strong_dtype(values):
    made = cast(Hparams(*values))
    assert [x.dtype for x in made] == [jnp.float32, jnp.float32, jnp.int32, jnp.bool_]
    assert not any(x.weak_type for x in made)
    np.testing.assert_allclose([float(x) for x in made], [float(v) for v in values])


def test_cast_keeps_a_fraction_given_for_an_integer():
    assert cast(Hparams(count=2.5)).count == 2.5


def test_cast_under_x64_takes_the_default_float():
    with jax.enable_x64(True):
        assert cast(Hparams()).rate.dtype == jnp.float64


def test_cast_of_a_dataclass_keys_and_none():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Params:
        gravity: float = 9.8
        steps: int = 500

    made = cast(Params(gravity=10))
    assert made.gravity.dtype == jnp.float32
    assert made.steps.dtype == jnp.int32
    key = jax.random.key(0)
    assert cast({"key": key})["key"] is key
    assert cast(None) is None


def test_hparams_are_found_and_set_below_combinators():
    state = Outer(Outer(Inner(1)))
    assert get_hparams(state) == 1
    assert set_hparams(state, 2) == Outer(Outer(Inner(2)))
    with pytest.raises(TypeError, match="no field 'hparams'"):
        get_hparams(3)
    with pytest.raises(TypeError, match="no field 'hparams'"):
        set_hparams(3, 1)


class Counted(NamedTuple):
    agent: Any
    count: Any
    ring: types.Experience


class Learner(NamedTuple):
    params: Any
    hparams: Any
    trace: types.Experience
    key: Any


def test_the_learner_is_everything_but_experience_and_keys():
    def state(x):
        key = jax.random.key(x)
        return Counted(Outer(Learner({"w": x + 1, "key": key}, x + 2, x + 3, key)), (x + 4, x + 5), [x + 6])

    learner = get_learner(state(10))
    assert list(learner) == ["agent", "count"]
    assert list(learner["agent"]["agent"]) == ["params", "hparams", "key"]
    old, merged = state(20), set_learner(state(20), learner)
    assert merged.count == (14, 15)
    assert merged.ring == old.ring
    inner = merged.agent.agent
    assert (inner.params["w"], inner.hparams, inner.trace) == (11, 12, 23)
    for key in (inner.key, inner.params["key"]):
        np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(jax.random.key(20)))
    with pytest.raises(TypeError, match="must be a NamedTuple to be copied, not int"):
        get_learner(3)


def test_types_offers_the_public_names_of_hparams():
    assert types.get_hparams is get_hparams
    assert types.NonNegative is NonNegative
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        types.nothing  # noqa: B018


def test_hparam_ranges():
    assert hparam_ranges(Hparams) == {"rate": (0, np.inf), "share": (0, 1)}


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        (Hparams(rate=float("nan")), r"Hparams\.rate is NaN"),
        (Hparams(rate=-1), r"Hparams\.rate = -1 is outside \[0"),
        (Hparams(share=np.array([0.5, 1.5])), r"Hparams\.share = 1\.5 is outside \[0.0, 1.0\]"),
    ],
)
def test_bad_hparams_are_named(hparams, message):
    with pytest.raises(ValueError, match=message):
        check_hparams(hparams)


def test_good_and_traced_hparams_pass():
    check_hparams(Hparams())
    jax.jit(lambda x: check_hparams(Hparams(rate=x)) or x)(-1.0)


def test_check_key_and_sizes():
    with pytest.raises(TypeError, match=r"jax\.random\.key"):
        check_key(jax.random.PRNGKey(0))
    with pytest.raises(TypeError, match=r"jax\.random\.key"):
        check_key(0)
    for size in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="num_envs must be a positive integer"):
            check_positive(num_envs=size)


def test_check_action():
    spaces.check_action(jnp.int32(0), types.Discrete(3))
    spaces.check_action(jnp.zeros(2), types.Box(-1, 1, (2,)))
    for action, space in (
        (jnp.int32(0), types.Box(-1, 1)),
        (jnp.zeros(()), types.Discrete(2)),
        (jnp.zeros(3), types.Box(-1, 1, (2,))),
    ):
        with pytest.raises(TypeError, match="action space"):
            spaces.check_action(action, space)


def test_box_bounds_broadcast_and_spaces_hash():
    box = types.Box((0.0, 1.0, 2.0, 3.0), 5.0, (2, 2))
    np.testing.assert_array_equal(box.bounds()[0], [[0, 1], [2, 3]])
    assert len({box, types.Dict((("a", box),)), types.Tuple((box,)), types.MultiDiscrete((2, 3))}) == 4
    assert types.Dict((("a", box),))["a"] is box
    assert types.MultiDiscrete((2, 3)).shape == (2,)

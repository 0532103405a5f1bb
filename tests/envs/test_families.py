"""Environments of other libraries by name, without those libraries; tests/suites has the tests with them."""

import pathlib
import tomllib

import jax
import pytest

from purerl import envs
from purerl.envs import families
from purerl.envs.adapters.gymnasium import HostEnv

PYPROJECT = pathlib.Path(__file__).parents[2] / "pyproject.toml"


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr(families, "is_installed", lambda found: False)
    with pytest.raises(ModuleNotFoundError, match=r"brax/ant needs the package brax, .*pip install 'purerl\[brax\]'"):
        envs.make("brax/ant")


@pytest.mark.parametrize(
    ("env_id", "message"),
    [("brx/ant", "unknown family of environments 'brx'; did you mean 'brax'"), ("nothing", "unknown environment")],
)
def test_unknown_names_have_their_nearest(env_id, message):
    with pytest.raises(ValueError, match=message):
        envs.make(env_id)


@pytest.mark.parametrize("name", ["Nope-v0", "CartPole-v99", "Taxi-v3"])
def test_a_name_or_version_that_gymnasium_does_not_have_is_a_value_error(name):
    with pytest.raises(ValueError, match=f"gymnasium/{name}: Environment"):
        envs.make(f"gymnasium/{name}")


def test_every_family_names_an_extra_and_an_example():
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    for name in families.family_names():
        found = families.family(name)
        assert found.extra in extras, name
        assert found.example
        assert found.summary


def test_names_and_families_of_a_user():
    endless = envs.endless()

    def make(name, limit=5):
        return envs.time_limit(endless, limit + len(name))

    envs.register("Mine-v0", envs.endless)
    envs.register("mine/", make)
    assert envs.make("Mine-v0").id == "Mine-v0"
    env = envs.make("mine/room", limit=3)
    assert (env.id, env.max_steps) == ("mine/room", 7)
    assert envs.make("mine/room", limit=3) is env
    with pytest.raises(ValueError, match="already exists"):
        envs.register("Mine-v0", make)
    with pytest.raises(ValueError, match="without '/'"):
        envs.register("a/b", make)
    with pytest.raises(ValueError, match="mine/room has no env_params"):
        envs.env_params("mine/room")


@pytest.mark.parametrize(("name", "made"), [("OnHost-v0", "OnHost-v0"), ("on-host/", "on-host/clock")])
def test_a_registered_function_makes_a_new_environment_of_the_host_in_every_call(name, made):
    space = envs.endless().observation_space
    envs.register(name, lambda *_, **__: HostEnv(lambda seed: seed, None, None, 1, space, space))
    first, second = envs.make(made), envs.make(made)
    assert first is not second
    assert first.reset is not second.reset
    assert first.id == made


def test_a_function_by_its_name():
    assert envs.make("purerl.envs:endless").id == "purerl.envs:endless"
    with pytest.raises(TypeError, match="builtins:int returned int, not an environment"):
        envs.make("builtins:int")


class OldCartPole:
    """An environment with the interface of gymnax 0.x: one flag for both ends."""

    def __init__(self):
        from gymnax.environments.classic_control.cartpole import CartPole

        self.inner = CartPole()

    def __getattr__(self, name):
        if name == "is_truncated":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def step_env(self, key, state, action, params):
        obs, state, reward, terminated, info = self.inner.step_env(key, state, action, params)
        return obs, state, reward, terminated | (state.time >= params.max_steps_in_episode), info


def test_gymnax_of_one_flag_for_both_ends():
    old = OldCartPole()
    with pytest.raises(TypeError, match=r"as in gymnax 0\.x: pass from_gymnax\(env, is_truncated=\.\.\.\)"):
        envs.from_gymnax(old)
    params = old.default_params.replace(max_steps_in_episode=3)
    env = envs.from_gymnax(old, params, is_truncated=lambda state, params: state.time >= params.max_steps_in_episode)
    _, state = env.reset(jax.random.key(0))
    ends = []
    for t in range(3):
        new = env.step(jax.random.key(t), state, 0)
        state = new.env_state
        ends.append((bool(new.terminated), bool(new.truncated)))
    assert ends == [(False, False), (False, False), (False, True)]
    assert env.max_steps == 3

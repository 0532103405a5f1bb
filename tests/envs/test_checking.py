"""`envs.check`: harmless dtypes are cast, everything else that an environment gets wrong is refused by name."""

import jax
import jax.numpy as jnp
import pytest

import purerl
from purerl import envs
from purerl.envs import checking
from purerl.spaces import Box, Dict, Discrete
from purerl.types import Env, EnvStep

VECTOR, TWO = Box(-1.0, 1.0, (2,)), Discrete(2)


def make(space=VECTOR, action_space=TWO, first=None, state=0, **fields):
    """An environment whose step returns the given fields."""
    shown = jnp.zeros(2) if first is None else first

    def step(key, env_state, action, env_params=None):
        values = {"obs": shown, "env_state": env_state, "reward": jnp.float32(1)}
        return EnvStep(**(values | {"terminated": jnp.bool_(True), "truncated": jnp.bool_(False)} | fields))

    return Env(lambda key, env_params=None: (shown, jnp.int32(state)), step, space, action_space)


def test_an_environment_without_faults_is_returned_itself():
    env = make()
    assert envs.check(env) is env
    assert envs.check(envs.probe(), envs.probe_params("action")) is envs.probe()


@pytest.mark.parametrize(
    ("fields", "reward", "terminated"),
    [
        ({"reward": 2}, 2.0, True),
        ({"reward": jnp.array([3])}, 3.0, True),
        ({"reward": jnp.bool_(True)}, 1.0, True),
        ({"terminated": jnp.float32(0), "truncated": 1}, 1.0, False),
        ({"terminated": jnp.array([2]), "truncated": False}, 1.0, True),
    ],
)
def test_rewards_and_flags_are_cast(fields, reward, terminated):
    env = envs.check(make(**fields))
    step = env.step(jax.random.key(0), jnp.int32(0), 0)
    assert (step.reward.dtype, step.terminated.dtype, step.truncated.dtype) == ("float32", "bool", "bool")
    assert (step.reward.tolist(), step.terminated.tolist()) == (reward, terminated)


def test_python_numbers_in_the_state_take_the_dtype_that_step_gives_them():
    env = make()

    def step(key, env_state, action, env_params=None):
        return env.step(key, env_state, action)._replace(env_state=env_state + 0.5)

    checked = envs.check(env._replace(reset=lambda key, p=None: (jnp.zeros(2), 0), step=step))
    _, state = checked.reset(jax.random.key(0))
    assert state.dtype == checked.step(jax.random.key(0), state, 0).env_state.dtype == "float32"


def test_a_state_with_a_key_is_kept_while_the_rest_is_cast():
    env = make(reward=1)
    env = env._replace(reset=lambda key, p=None: (jnp.zeros(2), {"key": key, "time": 0}))
    checked = envs.check(env)
    _, state = checked.reset(jax.random.key(3))
    assert (state["key"] == jax.random.key(3), state["time"].dtype) == (True, "int32")
    agent = purerl.actor_critic(purerl.networks.actor_critic(env, (4,)))
    sizes = {"num_updates": 1, "num_envs": 2, "rollout_length": 2}
    _, metrics = purerl.train(jax.random.key(0), agent, env, purerl.ActorCriticHparams(), **sizes)
    assert metrics["num_episodes"].tolist() == [4]


def test_casts_are_the_same_object_in_every_call():
    env = make(reward=1)
    assert envs.check(env) is envs.check(env)


@pytest.mark.parametrize("space", [VECTOR, Box(0, 9, (2,), "int16"), Dict((("a", VECTOR), ("b", Discrete(3))))])
def test_observations_are_cast_to_the_dtypes_of_their_space(space):
    first = {"a": jnp.arange(2), "b": jnp.uint8(2), "extra": ()} if isinstance(space, Dict) else jnp.arange(2)
    obs, _ = envs.check(make(space, first=first, obs=first)).reset(jax.random.key(0))
    parts = [(obs[name], part) for name, part in space.spaces] if isinstance(space, Dict) else [(obs, space)]
    assert all(leaf.dtype == part.dtype for leaf, part in parts)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"reward": jnp.zeros(2)}, ValueError, r"EnvStep\.reward must be a float32 scalar, got shape \(2,\)"),
        ({"terminated": None}, TypeError, r"EnvStep\.terminated must be a bool scalar, got None"),
        ({"truncated": jnp.complex64(0)}, TypeError, r"EnvStep\.truncated must be a bool scalar, got dtype complex64"),
        ({"env_state": jnp.zeros(3, jnp.int32)}, ValueError, r"env_state is int32\[\] after reset, but int32\[3\]"),
        ({"env_state": (1, 2)}, ValueError, "env_state changes its structure"),
        ({"obs": jnp.zeros(3)}, ValueError, r"EnvStep\.obs has shape \(3,\), but observation_space says \(2,\)"),
        ({"first": jnp.zeros(3)}, ValueError, r"the observation of reset has shape \(3,\), but observation_space says"),
        ({"space": Box(0, 255, (2,), "uint8")}, TypeError, "has dtype float32, but observation_space says uint8"),
        ({"space": Dict((("a", VECTOR),))}, ValueError, r"must have the entries \['a'\], got a value of type"),
        ({"info": {"speed": jnp.zeros(2)}}, ValueError, r"EnvStep\.info\['speed'\] must be a number of shape \(\)"),
        ({"info": 3.0}, TypeError, r"EnvStep\.info must be a dict of scalars or \(\)"),
    ],
)  # fmt: skip
def test_faults_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        envs.check(make(**arguments))


def test_functions_that_return_tuples_of_another_kind_are_named():
    env = make()
    with pytest.raises(TypeError, match=r"step must return EnvStep\(obs, .*got a tuple of 5"):
        envs.check(env._replace(step=lambda key, state, action, p=None: (jnp.zeros(2), state, 1.0, True, {})))
    with pytest.raises(TypeError, match=r"reset must return \(obs, env_state\), got an array float32"):
        envs.check(env._replace(reset=lambda key, p=None: jnp.zeros(2)))


def test_something_that_is_not_an_environment_is_named():
    with pytest.raises(TypeError, match=r"pass purerl\.envs\.make\('CartPole-v1'\)"):
        envs.check("CartPole-v1")
    with pytest.raises(TypeError, match=r"pass purerl\.envs\.make\('CartPole-v1'\)"):
        envs.time_limit("CartPole-v1", 5)
    host = envs.HostEnv(None, None, None, 1, VECTOR, TWO)
    with pytest.raises(TypeError, match="got HostEnv: it runs on the host; use train_on_host"):
        envs.check(host)


OWN = {
    "probe": envs.probe(), "real probe": envs.probe(continuous=True), "endless": envs.endless(),
    "bandit": envs.bandit_testbed(3), "traffic": envs.traffic_light(), "phases": envs.two_phases(envs.traffic_light()),
    "mdp": envs.from_mdp(purerl.mdp.gridworld(["S +"]), 5),
    "wrapped": envs.with_state(envs.action_repeat(envs.time_limit(envs.traffic_light(), 9), 2)),
    "stacked": envs.frame_stack(envs.flatten(envs.from_mdp(purerl.mdp.gridworld(["S +"]), 5)), 3),
}  # fmt: skip


@pytest.mark.parametrize("setting", ["plain", "x64", "rbg", "rank promotion"])
@pytest.mark.parametrize("name", OWN)
def test_environments_of_this_package_need_no_cast_under_any_setting(name, setting):
    context = {
        "plain": jax.enable_x64(False),
        "x64": jax.enable_x64(True),
        "rbg": jax.default_prng_impl("rbg"),
        "rank promotion": jax.numpy_rank_promotion("raise"),
    }[setting]
    with context:
        checking._checked.cache_clear()
        assert envs.check(OWN[name]) is OWN[name]


def test_functions_without_env_params_are_named():
    with pytest.raises(TypeError, match=r"reset must take \(key, env_params=None\), but its signature is \(key\)"):
        envs.check(make()._replace(reset=lambda key: (jnp.zeros(2), jnp.int32(0))))
    with pytest.raises(TypeError, match=r"step must take \(key, env_state, action, env_params=None\)"):
        envs.check(make()._replace(step=lambda key, env_state, action: None))

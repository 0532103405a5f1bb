"""Every rollout, `train`, `evaluate` and `fit` under JAX's settings that find mistakes or change numbers."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import loops
from purerl.types import Agent, Box, Discrete, Env, EnvStep

SETTINGS = {
    "x64": lambda: jax.enable_x64(True),
    "rbg": lambda: jax.default_prng_impl("rbg"),
    "key_reuse": lambda: jax.debug_key_reuse(True),
    "rank_promotion": lambda: jax.numpy_rank_promotion("raise"),
    "nans": lambda: jax.debug_nans(True),
    "leaks": jax.checking_leaks,
}


class Hparams(NamedTuple):
    learning_rate: Any = 0.1


class State(NamedTuple):
    hparams: Any
    total: Any


def walk():
    """Episodes of 3 steps with a reward of 1, whose observation is the time."""

    def reset(key, env_params=None):
        return jnp.zeros(1, jnp.float32), jnp.int32(0)

    def step(key, time, action, env_params=None):
        time = time + 1
        obs = jnp.full(1, time, jnp.float32)
        return EnvStep(obs, time, jnp.float32(1), time >= 3, jnp.bool_(False), {"time": time})

    return Env(reset, step, Box(-9.0, 9.0, (1,)), Discrete(2))


def mover():
    """An agent that acts at random, with a memory of how long its episode has been."""

    def act(key, state, obs, memory):
        action = jnp.int32(0) if key is None else jax.random.randint(key, (), 0, 2, jnp.int32)
        return action, {"log_prob": jnp.float32(0)}, memory + 1

    def update(key, state, data):
        total = state.total + jax.random.uniform(key, dtype=jnp.float32)
        return state._replace(total=total), {"reward": data.reward.mean()}

    return Agent(
        lambda key, hparams, example, num_envs=1: State(hparams, jnp.float32(0)),
        act,
        update,
        lambda key, state: jnp.int32(0),
    )


@pytest.fixture(params=SETTINGS)
def setting(request):
    with SETTINGS[request.param]():
        yield request.param


@pytest.mark.parametrize("length", [2, 6])
@pytest.mark.parametrize("rollout", [loops.rollout, loops.rollout_episodes], ids=["steps", "episodes"])
def test_training_runs_under_every_setting(setting, rollout, length):
    """Also with rollouts in which no episode ends."""
    sizes = {"num_updates": 2, "num_envs": 2, "rollout_length": length, "rollout": rollout}
    _, metrics = purerl.train(jax.random.key(0), mover(), walk(), Hparams(), **sizes)
    assert metrics["reward"].tolist() == [1, 1]


def test_evaluation_runs_under_every_setting(setting):
    agent = mover()
    state = agent.init(None, purerl.hparams.cast(Hparams()), jnp.zeros(1))
    played = purerl.evaluate(jax.random.key(0), agent, walk(), state, num_episodes=2, max_steps=9, greedy=False)
    assert played.episode_return.tolist() == [3, 3]


def test_a_mean_over_no_episodes_stops_no_run_that_looks_for_nans():
    with jax.debug_nans(True):
        sizes = {"num_updates": 1, "num_envs": 1, "rollout_length": 1}
        _, metrics = purerl.train(jax.random.key(0), mover(), walk(), Hparams(), **sizes)
    assert metrics["num_episodes"].tolist() == [0]
    assert metrics["episode_return"].tolist() == [-np.inf]


def test_rewards_and_ends_of_other_types_are_cast():
    env = walk()

    def step(key, time, action, env_params=None):
        new = env.step(key, time, action)
        return new._replace(reward=jnp.int32(1), terminated=jnp.where(new.terminated, 1, 0), truncated=jnp.float32(0))

    whole = env._replace(step=step)
    sizes = {"num_updates": 2, "num_envs": 2, "rollout_length": 3}
    _, metrics = purerl.train(jax.random.key(0), mover(), whole, Hparams(), **sizes)
    assert metrics["episode_return"].tolist() == [3, 3]


def test_steps_after_the_end_of_an_episode_are_not_counted():
    sizes = {"num_updates": 1, "num_envs": 2, "rollout_length": 8, "rollout": loops.rollout_episodes}
    _, metrics = purerl.train(jax.random.key(0), mover(), walk(), Hparams(), **sizes)
    assert metrics["num_env_steps"].tolist() == [6]


@pytest.mark.parametrize(("rollout", "mean"), [(loops.rollout, 1.75), (loops.rollout_episodes, 2)])
def test_values_at_the_ends_of_episodes_are_apart_from_means_over_steps(rollout, mean):
    """Episodes of 3 steps: 4 steps of a rollout see the times 1, 2, 3, 1, and 1, 2, 3 if the last step is masked."""
    sizes = {"num_updates": 1, "num_envs": 2, "rollout_length": 4, "rollout": rollout}
    _, metrics = purerl.train(jax.random.key(0), mover(), walk(), Hparams(), **sizes)
    assert (metrics["env/time"].item(), metrics["episode_end/time"].item()) == (mean, 3)


def test_rewards_that_are_not_numbers_after_an_end_are_not_counted():
    env = walk()

    def step(key, time, action, env_params=None):
        new = env.step(key, time, action)
        return new._replace(
            reward=jnp.where(time >= 3, jnp.nan, 1.0), info={"time": jnp.where(time >= 3, jnp.nan, 1.0)}
        )

    sizes = {"num_updates": 1, "num_envs": 2, "rollout_length": 8, "rollout": loops.rollout_episodes}
    _, metrics = purerl.train(jax.random.key(0), mover(), env._replace(step=step), Hparams(), **sizes)
    assert (metrics["episode_return"].item(), metrics["env/time"].item()) == (3, 1)

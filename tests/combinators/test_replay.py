"""Replay in front of an agent: when it learns, what windows join, and what it refuses."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import replay
from purerl.combinators import with_replay
from purerl.types import Agent, Box, Discrete, Env, EnvStep


class Hparams(NamedTuple):
    learning_rate: Any = 0.1


class State(NamedTuple):
    hparams: Any
    num_updates: Any


def counting():
    """An agent that counts its updates."""

    def update(key, state, data):
        return state._replace(num_updates=state.num_updates + 1), {"reward": data.reward.mean()}

    return Agent(
        lambda key, hparams, example, num_envs=1: State(hparams, jnp.int32(0)),
        lambda key, state, obs: (jnp.int32(0), ()),
        update,
    )


def endless():
    """One episode without end, whose observation is the time."""

    def step(key, time, action, env_params=None):
        false = jnp.bool_(False)
        return EnvStep(jnp.full(1, time + 1, jnp.float32), time + 1, jnp.float32(1), false, false)

    return Env(
        lambda key, env_params=None: (jnp.zeros(1, jnp.float32), jnp.int32(0)), step, Box(-9e9, 9e9, (1,)), Discrete(2)
    )


@pytest.mark.parametrize("prioritized", [False, True])
def test_windows_do_not_join_the_episodes_of_two_calls_of_train(prioritized):
    agent = with_replay(counting(), capacity=64, batch_size=4, length=3, prioritized=False)
    state = None
    for call in range(2):
        sizes = {"num_updates": 4, "num_envs": 1, "rollout_length": 1}
        state, _ = purerl.train(jax.random.key(call), agent, endless(), Hparams(), state=state, **sizes)
    ring = state.ring
    if prioritized:
        ring = replay.priority.cut(replay.priority.PriorityRing(ring, (), jnp.float32(1))).ring
    window, _ = replay.sample(jax.random.key(0), ring, 512, 3)
    apart = (window.next_obs[:-1] != window.obs[1:]).any(-1)
    assert apart.any()
    assert not (apart & ~(window.terminated | window.truncated)[:-1]).any()


def test_a_cut_leaves_the_learner_as_it_is():
    agent = with_replay(counting(), capacity=8, batch_size=2)
    state = agent.init(jax.random.key(0), Hparams(), jnp.zeros(1), 2)
    assert agent.cut(state).agent is state.agent


@pytest.mark.parametrize(
    ("settings", "num_envs", "message"),
    [
        ({"capacity": 100, "batch_size": 100}, 64, "never holds min_size = 100 steps"),
        ({"capacity": 100, "batch_size": 8, "min_size": 80}, 64, "never holds min_size = 80 steps"),
        ({"capacity": 8, "batch_size": 4, "length": 3}, 4, "never holds a window of length = 3"),
    ],
)
def test_a_replay_that_can_never_learn_is_refused(settings, num_envs, message):
    agent = with_replay(counting(), **settings)
    with pytest.raises(ValueError, match=message):
        purerl.train(jax.random.key(0), agent, endless(), Hparams(), num_updates=2, num_envs=num_envs, rollout_length=1)


def test_a_replay_that_fills_to_the_last_row_learns():
    agent = with_replay(counting(), capacity=100, batch_size=64)
    state, _ = purerl.train(
        jax.random.key(0), agent, endless(), Hparams(), num_updates=3, num_envs=64, rollout_length=1
    )
    assert state.agent.num_updates == 3


def test_prioritised_replay_names_the_hyperparameter_that_it_misses():
    agent = with_replay(counting(), capacity=8, batch_size=2, prioritized=True)
    with pytest.raises(ValueError, match="priority_exponent"):
        agent.init(jax.random.key(0), Hparams(), jnp.zeros(1), 2)


class PrioritizedHparams(NamedTuple):
    priority_exponent: Any = 0.5
    importance_exponent: Any = 0.5
    importance_anneal_updates: Any = 10.0


def test_importance_weights_travel_as_weight():
    seen = []

    def update(key, state, data):
        seen.append((data.weight.shape, data.mask))
        return state, {"priority": jnp.ones(data.reward.shape[1])}

    agent = with_replay(counting()._replace(update=update), capacity=8, batch_size=4, length=2, prioritized=True)
    sizes = {"num_updates": 2, "num_envs": 1, "rollout_length": 2}
    purerl.train(jax.random.key(0), agent, endless(), PrioritizedHparams(), **sizes)
    assert seen[0] == ((2, 4), ())
    assert np.all([len(shape) == 2 for shape, _ in seen])

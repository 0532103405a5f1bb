"""Replay in front of an agent: when it learns, what windows join, and what it refuses."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import envs, networks, replay
from purerl.combinators import with_replay
from purerl.types import Agent, Box, Dict, Discrete, Env, EnvStep, Requirements


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


# --- Agents with memory, and observations that are stored once --------------------------------------------------------


def remembering():
    """An agent whose memory counts the steps of its episode, as the observations of `endless` and `short` do."""

    def update(key, state, data):
        return state._replace(num_updates=state.num_updates + 1), {"wrong": (data.memory != data.obs[0, :, 0]).sum()}

    return Agent(
        lambda key, hparams, example, num_envs=1: State(hparams, jnp.int32(0)),
        lambda key, state, obs, memory: (jnp.int32(0), (), memory + 1),
        update,
        lambda key, state: jnp.int32(0),
        Requirements("trajectory", memory=True),
    )


def short(truncate=False):
    """Episodes of five steps that terminate or are truncated; the observation is the time."""

    def step(key, time, action, env_params=None):
        ended = time == 4
        result = endless().step(key, time, action)
        return result._replace(terminated=ended & (not truncate), truncated=ended & truncate)

    return endless()._replace(step=step)


SIZES = {"num_updates": 9, "num_envs": 2, "rollout_length": 3}


@pytest.mark.parametrize("burn_in", [0, 2])
def test_a_window_starts_with_the_memory_of_its_first_step(burn_in):
    agent = with_replay(remembering(), capacity=64, batch_size=16, length=2, burn_in=burn_in)
    _, metrics = purerl.train(jax.random.key(0), agent, short(), Hparams(), **SIZES)
    assert metrics["wrong"][-1] == 0
    assert np.isfinite(metrics["wrong"][2:]).all()


def test_burn_in_makes_the_memory_anew_with_the_present_parameters():
    """Here the memory of a step is the number of updates when it was made."""
    agent = remembering()._replace(
        act=lambda key, state, obs, memory: (jnp.int32(0), (), state.num_updates),
        update=lambda key, state, data: (
            state._replace(num_updates=state.num_updates + 1),
            {"old": (data.memory != state.num_updates).sum()},
        ),
    )
    old = {}
    for burn_in in (0, 1):
        replayed = with_replay(agent, capacity=64, batch_size=16, burn_in=burn_in)
        old[burn_in] = purerl.train(jax.random.key(0), replayed, endless(), Hparams(), **SIZES)[1]["old"][-1]
    assert old[0] > 0
    assert old[1] == 0


@pytest.mark.parametrize("burn_in", [0.5, -1, True])
def test_a_burn_in_that_is_not_a_number_of_steps_is_refused(burn_in):
    with pytest.raises(ValueError, match=f"burn_in must be an integer of at least 0, got {burn_in}"):
        with_replay(remembering(), capacity=64, batch_size=16, burn_in=burn_in)


@pytest.mark.parametrize("min_size", [-3, 0, 1.5])
def test_a_smallest_size_that_is_not_positive_is_refused(min_size):
    with pytest.raises(ValueError, match=f"min_size must be a positive integer, got {min_size}"):
        with_replay(counting(), capacity=64, batch_size=16, min_size=min_size)


def test_burn_in_without_memory_is_refused():
    with pytest.raises(ValueError, match="burn_in = 2 brings memory up to date, but this agent learns without memory"):
        with_replay(counting(), capacity=64, batch_size=16, burn_in=2)


def test_a_recurrent_actor_critic_learns_from_replay():
    network = networks.recurrent_actor_critic(endless(), (4,), memory_size=4, cell="lstm")
    agent = purerl.actor_critic(network, advantage="vtrace")
    agent = with_replay(agent, capacity=64, batch_size=8, length=4, burn_in=2)
    state, _ = purerl.train(jax.random.key(0), agent, short(True), purerl.ActorCriticHparams(), **SIZES)
    assert state.agent.num_updates > 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.agent.params))


@pytest.mark.parametrize("truncate", [False, True])
def test_observations_stored_once_have_their_successors(truncate):
    def update(key, state, data):
        follows = jnp.where(data.terminated, True, data.next_obs[..., 0] == data.obs[..., 0] + 1)
        cut = (data.truncated & ~data.terminated).any(axis=0)
        return state._replace(num_updates=state.num_updates + 1), {
            "wrong": (~follows & (data.weight > 0)).sum(),
            "left_out": ((data.weight == 0) != cut).sum(),
            "cut": cut.sum(),
        }

    agent = counting()._replace(update=update, requires=Requirements("trajectory"))
    agent = with_replay(agent, capacity=20, batch_size=64, min_size=8, length=2, store_next_obs=False)
    state, metrics = purerl.train(jax.random.key(0), agent, short(truncate), Hparams(), **SIZES)
    assert metrics["wrong"][-3:].tolist() == metrics["left_out"][-3:].tolist() == [0, 0, 0]
    assert (metrics["cut"][-3:].sum() > 0) == truncate
    assert state.ring.steps.next_obs == ()


@pytest.mark.parametrize("store_next_obs", [True, False])
@pytest.mark.parametrize("masked", [False, True])
def test_frames_are_stored_once_and_joined_as_the_environment_joined_them(store_next_obs, masked):
    """The newest of three frames is the time, and the others are the times before it, down to 0 at a reset."""

    def joined(newest):
        return jnp.stack([jnp.maximum(newest - k, 0) for k in (2, 1, 0)], axis=-1)

    def update(key, state, data):
        counts = jnp.ones_like(data.reward) if store_next_obs else data.weight
        obs, following = (x["obs"] if masked else x for x in (data.obs, data.next_obs))
        wrong = (joined(obs[..., -1]) != obs).any(-1)
        wrong |= (joined(obs[..., -1] + 1) != following).any(-1) & ~data.terminated & (counts > 0)
        return state._replace(num_updates=state.num_updates + 1), {"wrong": wrong.sum(), "latest": obs.max()}

    env = envs.frame_stack(with_a_mask(short()) if masked else short(), 3)
    agent = counting()._replace(update=update, requires=Requirements("trajectory"))
    agent = with_replay(
        agent, capacity=24, batch_size=64, min_size=8, length=2, num_frames=3, store_next_obs=store_next_obs
    )
    state, metrics = purerl.train(jax.random.key(0), agent, env, Hparams(), **SIZES)
    assert metrics["wrong"][-3:].tolist() == [0, 0, 0]
    assert metrics["latest"][-1] == 4
    stored = {x.shape for x in jax.tree.leaves(state.ring.steps.obs)}
    assert stored == ({(12, 2, 1), (12, 2, 2)} if masked else {(12, 2, 1)})


def with_a_mask(env):
    """The same observations in a dict with an action mask."""

    def seen(obs):
        return {"obs": obs, "action_mask": jnp.ones(2, bool)}

    def reset(key, env_params=None):
        obs, env_state = env.reset(key, env_params)
        return seen(obs), env_state

    def step(key, env_state, action, env_params=None):
        result = env.step(key, env_state, action, env_params)
        return result._replace(obs=seen(result.obs))

    space = Dict({"obs": env.observation_space, "action_mask": Box(0, 1, (2,), "bool")})
    return env._replace(reset=reset, step=step, observation_space=space)


def test_observations_that_join_another_number_of_frames_are_refused():
    agent = with_replay(counting(), capacity=24, batch_size=4, num_frames=4)
    with pytest.raises(ValueError, match=r"num_frames = 4, but an observation has shape \(3,\)"):
        purerl.train(jax.random.key(0), agent, envs.frame_stack(short(), 3), Hparams(), **SIZES)

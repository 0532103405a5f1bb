"""The loop on the host, on Gymnasium's own environments: what agents are given, what they learn, memory, mistakes."""

from collections import deque
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import envs
from purerl import mdp as mdps
from purerl.agents.tabular import td_control as td
from purerl.loops.host import evaluate_on_host, train_on_host
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete
from purerl.types import Agent, Requirements

gymnasium = pytest.importorskip("gymnasium")

KEY = jax.random.key(0)
DOWN, RIGHT = 1, 2


def recorder(action, memory=None):
    """An agent that takes one action and keeps what it was given; with memory it counts the steps of the episode."""

    def init(key, hparams, example, num_envs=1):
        return ()

    def act(key, state, obs, *memory):
        return (jnp.int32(action), obs, *(m + 1 for m in memory))

    def update(key, state, data):
        return state, {"sum": jnp.sum(data.reward), "memory": jnp.sum(data.memory) if memory else jnp.float32(0)}

    return Agent(init, act, update, (lambda key, state: jnp.int32(0)) if memory else None)


def recorded(env, action, length):
    """The data of one rollout as `update` gets them, as NumPy."""
    data = {}
    agent = recorder(action)

    def update(key, state, trajectory):
        jax.debug.callback(lambda x: data.update(trajectory=jax.tree.map(np.asarray, x)), trajectory)
        return state, {}

    _, metrics = train_on_host(KEY, agent._replace(update=update), env, (), num_updates=1, rollout_length=length)
    jax.effects_barrier()
    return data["trajectory"], metrics


def lake(num_envs=1, **settings):
    return envs.from_gymnasium("FrozenLake-v1", num_envs, is_slippery=False, **settings)


def test_a_time_limit_truncates_and_the_true_successor_is_kept():
    """To the right: cells 0, 1, 2, 3, and there the time is over."""
    env = lake(2, max_episode_steps=3)
    data, metrics = recorded(env, RIGHT, 5)
    np.testing.assert_array_equal(data.obs, np.repeat([[0], [1], [2], [0], [1]], 2, 1))
    np.testing.assert_array_equal(data.next_obs, np.repeat([[1], [2], [3], [1], [2]], 2, 1))
    np.testing.assert_array_equal(data.truncated[:, 0], [False, False, True, False, False])
    assert not data.terminated.any()
    np.testing.assert_array_equal(data.aux, data.obs)
    assert (data.obs.dtype, data.reward.dtype, data.action.dtype) == (np.int32, np.float32, np.int32)
    assert metrics["num_episodes"][0] == 2
    assert metrics["episode_length"][0] == 3
    env.close()


def test_a_hole_terminates_also_in_the_last_step():
    """Down, down, down: cells 0, 4, 8, 12, which is a hole, at the very time limit."""
    data, metrics = recorded(lake(max_episode_steps=3), DOWN, 4)
    np.testing.assert_array_equal(data.next_obs[:, 0], [4, 8, 12, 4])
    np.testing.assert_array_equal(data.terminated[:, 0], [False, False, True, False])
    assert not data.truncated.any()
    assert metrics["episode_return"][0] == 0


def test_memory_starts_afresh_with_every_episode():
    """Sums over two environments of the steps since the episode began, at the start of each rollout of two."""
    seen = train_on_host(
        KEY, recorder(RIGHT, memory=True), lake(2, max_episode_steps=3), (), num_updates=4, rollout_length=2
    )[1]["memory"]
    np.testing.assert_array_equal(seen, [0, 2 * 2, 2 * 1, 0])


@pytest.mark.parametrize("factory", [td.q_learning, pytest.param(td.sarsa, marks=pytest.mark.slow)])
def test_the_cliff_is_learned(factory):
    """Q-learning finds the path along the edge; what SARSA finds is safe. Values are those of the exact solver."""
    env = envs.from_gymnasium("CliffWalking-v1", max_episode_steps=500)
    agent, calls = factory(env), []
    hparams = td.TDControlHparams(0.5, 0.0, 1.0, 0.1)
    sizes = {"num_updates": 6000, "rollout_length": 1}
    state, metrics = train_on_host(KEY, agent, env, hparams, **sizes, progress=lambda i, found: calls.append(i))
    assert calls == list(range(6000))
    assert metrics["episode_return"].shape == (6000,)
    assert metrics["num_episodes"].sum() > 100
    result = evaluate_on_host(jax.random.key(1), agent, env, state, num_episodes=2)
    if factory is td.q_learning:
        np.testing.assert_array_equal(result.episode_return, -13)
        exact = mdps.value_iteration(mdps.from_gymnasium("CliffWalking-v1"), 1.0)
        np.testing.assert_allclose(state.q[24:36].max(1), exact.value[24:36], atol=0.5)  # along the edge
    else:
        assert (result.episode_return <= -13).all()
        assert np.nanmean(metrics["episode_return"][-1500:]) > -60


def test_metrics_that_callbacks_add_after_some_updates_are_nan_in_the_others():
    def add(chunk):
        chunk.metrics["first" if chunk.num_updates == 1 else "later"] = float(chunk.num_updates)

    _, metrics = train_on_host(KEY, recorder(DOWN), lake(), (), num_updates=3, rollout_length=2, callbacks=[add])
    np.testing.assert_array_equal(metrics["first"], [1, np.nan, np.nan])
    np.testing.assert_array_equal(metrics["later"], [np.nan, 2, 3])


def test_the_same_key_is_the_same_run_and_a_trained_state_goes_on():
    def run(key, state=None):
        env = envs.from_gymnasium("FrozenLake-v1", 4)
        agent_state = train_on_host(
            key, AGENT, env, td.TDControlHparams(), num_updates=20, rollout_length=8, state=state
        )
        return agent_state[0]

    first, again, other = run(KEY), run(KEY), run(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (np.asarray(first.visits) != np.asarray(other.visits)).any()
    longer = run(jax.random.key(2), first)
    assert longer.num_updates == 40
    assert (longer.visits >= first.visits).all()


AGENT = td.q_learning(envs.from_gymnasium("FrozenLake-v1"))


def test_evaluation_gives_each_environment_its_share():
    """Three environments play two, two and one episodes; the short ones do not crowd out the long ones."""
    state = purerl.hparams.cast(AGENT.init(KEY, td.TDControlHparams(), jnp.int32(0)))
    state = state._replace(q=state.q.at[:, RIGHT].set(1.0))
    result = evaluate_on_host(KEY, AGENT, lake(3, max_episode_steps=7), state, num_episodes=5)
    np.testing.assert_array_equal(result.episode_length, [7] * 5)
    sampled = evaluate_on_host(KEY, AGENT, lake(3, max_episode_steps=7), state, num_episodes=5, greedy=False)
    assert sampled.episode_return.shape == (5,)


def test_ppo_learns_from_the_same_transition():
    """Floats, several environments, minibatches: two updates on CartPole, with advantages of true successors."""
    env = envs.from_gymnasium("CartPole-v1", 4)
    assert env.observation_space.shape == (4,)
    agent = purerl.ppo(purerl.networks.actor_critic(env, hidden=(8,)), num_epochs=1, num_minibatches=2)
    _, metrics = train_on_host(KEY, agent, env, purerl.PPOHparams(), num_updates=2, rollout_length=32)
    assert np.isfinite(metrics["loss/value"]).all()
    assert metrics["num_episodes"].sum() > 2


class Odd(gymnasium.Env):
    """Dict and tuple observations, a Box of actions; ends after two steps."""

    observation_space = gymnasium.spaces.Dict(
        a=gymnasium.spaces.Box(-1, 1, (2,), np.float64),
        b=gymnasium.spaces.Tuple((gymnasium.spaces.Discrete(9), gymnasium.spaces.MultiDiscrete([3, 4]))),
    )
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    actions = deque(maxlen=100)

    def observe(self):
        return {"a": np.full(2, self.t / 10), "b": (self.t, np.array([self.t % 3, self.t % 4]))}

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        self.actions.append(action)
        return self.observe(), 1.0, self.t == 2, False, {}


def test_structured_observations_and_clipped_actions():
    from gymnasium.vector import AutoresetMode, SyncVectorEnv

    env = envs.from_gymnasium(SyncVectorEnv([Odd] * 2, autoreset_mode=AutoresetMode.SAME_STEP))
    assert env.observation_space["a"] == Box(-1.0, 1.0, (2,))
    assert env.observation_space["b"].spaces == (Discrete(9), MultiDiscrete((3, 4)))
    assert isinstance(env.observation_space, Dict)
    env.reset(0)
    steps = [env.step(np.full((2, 1), 5.0, np.float32)) for _ in range(2)]
    np.testing.assert_array_equal(Odd.actions[-1], [1.0])
    np.testing.assert_allclose(steps[1].next_obs["a"], 0.2, rtol=1e-6)
    np.testing.assert_array_equal(steps[1].next_obs["b"][0], [2, 2])
    np.testing.assert_array_equal(steps[1].next_obs["b"][1], [[2, 2]] * 2)
    np.testing.assert_array_equal(steps[1].obs["b"][0], [0, 0])
    assert steps[1].terminated.all()


def test_mistakes_are_named():
    vector = gymnasium.make_vec("CartPole-v1", 2, "sync")
    with pytest.raises(ValueError, match="SAME_STEP"):
        envs.from_gymnasium(vector)
    with pytest.raises(ValueError, match="num_envs"):
        envs.from_gymnasium("CartPole-v1", 0)
    with pytest.raises(TypeError, match="has no counterpart"):
        envs.adapters.spaces.converted(gymnasium.spaces.Text(3))
    with pytest.raises(TypeError, match=r"env must be a name or a gymnasium\.vector\.VectorEnv, got TimeLimit"):
        envs.from_gymnasium(gymnasium.make("CartPole-v1"))
    with pytest.raises(TypeError, match="the agent's action is"):
        train_on_host(KEY, recorder(RIGHT), envs.from_gymnasium("Pendulum-v1"), (), num_updates=1, rollout_length=1)
    with pytest.raises(ValueError, match="rollout_length"):
        train_on_host(KEY, AGENT, lake(), td.TDControlHparams(), num_updates=1, rollout_length=0)
    with pytest.raises(TypeError, match=r"env must be a HostEnv, got a value of type Env; use purerl\.train and"):
        train_on_host(KEY, AGENT, envs.endless(), (), num_updates=1, rollout_length=1)
    with pytest.raises(TypeError, match=r"env must be a HostEnv, got a value of type str; pass purerl\.envs\.from_gym"):
        evaluate_on_host(KEY, AGENT, "CartPole-v1", (), num_episodes=1)
    with pytest.raises(TypeError, match="typed key"):
        evaluate_on_host(0, AGENT, lake(), (), num_episodes=1)


@pytest.mark.parametrize(
    ("given", "limit"),
    [({}, 500), ({"max_episode_steps": 7}, 7), ({"max_episode_steps": None}, 500), ({"max_episode_steps": -1}, None)],
)
def test_the_limit_of_steps_is_the_one_that_gymnasium_keeps(given, limit):
    assert envs.from_gymnasium("CartPole-v1", **given).max_steps == limit


def test_a_vector_environment_that_is_made_takes_no_settings():
    vector = clocks_vector()
    with pytest.raises(ValueError, match="max_episode_steps is for environments by name"):
        envs.from_gymnasium(vector, max_episode_steps=3)
    with pytest.raises(ValueError, match="num_envs = 5, but the vector environment has 2"):
        envs.from_gymnasium(vector, 5)


def test_an_agent_for_fit_is_sent_there():
    agent = Agent(print, print, print, requires=Requirements("whole"))
    with pytest.raises(ValueError, match=r"use purerl\.fit"):
        train_on_host(KEY, agent, clocks(), (), num_updates=1, rollout_length=1)


class Counts(NamedTuple):
    hparams: Any
    count: Any


class Clock(gymnasium.Env):
    """Episodes of 4 steps whose observation is the time and whose reward is the action."""

    observation_space = gymnasium.spaces.Box(-1e3, 1e3, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.full(1, self.time, np.float32), float(action), self.time >= 4, False, {}


def clocks_vector(**settings):
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    return gymnasium.vector.SyncVectorEnv([Clock] * 2, autoreset_mode=mode, **settings)


def clocks(**settings):
    return envs.from_gymnasium(clocks_vector(**settings))


def test_observations_are_copied_from_environments_that_reuse_their_buffer():
    data, _ = recorded(clocks(copy=False), 0, 5)
    np.testing.assert_array_equal(data.obs[:, 0, 0], [0, 1, 2, 3, 0])
    np.testing.assert_array_equal(data.next_obs[:, 0, 0], [1, 2, 3, 4, 1])


def remembering_noise():
    """An agent that plays 1 for a whole episode, unless it is greedy: then it plays 0."""
    return recorder(0)._replace(
        act=lambda key, state, obs, memory: (memory, (), memory),
        memory=lambda key, state: jnp.int32(0 if key is None else 1),
    )


@pytest.mark.parametrize(("greedy", "expected"), [(True, 0), (False, 4)])
def test_a_greedy_evaluation_starts_its_first_episodes_greedily(greedy, expected):
    played = evaluate_on_host(KEY, remembering_noise(), clocks(), (), num_episodes=4, greedy=greedy)
    assert played.episode_return.tolist() == [expected] * 4


def test_a_run_that_starts_from_a_state_cuts_the_episodes_that_it_remembers():
    agent = recorder(0)._replace(
        init=lambda key, hparams, example, num_envs: Counts((), jnp.int32(0)),
        update=lambda key, state, data: (state._replace(count=state.count + 1), {"reward": data.reward.mean()}),
        cut=lambda state: state._replace(count=state.count + 100),
    )
    state, _ = train_on_host(KEY, agent, clocks(), (), num_updates=1, rollout_length=1)
    assert state.count == 1
    state, _ = train_on_host(KEY, agent, clocks(), (), num_updates=1, rollout_length=1, state=state)
    assert state.count == 102

"""The loops, on an agent and an environment so small that every number can be checked by hand."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import loops
from purerl.spaces import Box, Discrete
from purerl.types import Agent, Env, EnvStep

SIZES = {"num_envs": 3, "rollout_length": 7}


class Hparams(NamedTuple):
    step_size: Any = 0.5
    length: Any = 4


class State(NamedTuple):
    hparams: Hparams
    total: jax.Array
    num_updates: jax.Array


class Countdown(NamedTuple):
    length: Any = 4


TRACES = []


def countdown(truncate: bool) -> Env:
    """Observation: steps left, drawn from {1, ..., length} at reset. Reward: steps left. Ends when none is left."""

    def reset(key, env_params=None):
        length = 4 if env_params is None else env_params.length
        left = jax.random.randint(key, (), 1, length + 1)
        return left, left

    def step(key, env_state, action, env_params=None):
        left = env_state - 1
        end = left == 0
        info = {"action": action, "left": env_state}
        return EnvStep(left, left, env_state.astype(jnp.float32), end & (not truncate), end & truncate, info)

    return Env(reset, step, Discrete(9), Discrete(2))


def accountant(with_memory: bool) -> Agent:
    """Adds up the rewards it is shown; acts at random, or 0 when greedy. Its memory counts steps of the episode."""

    def init(key, hparams, example, num_envs=1):
        assert jnp.shape(example) == ()
        return State(hparams, jnp.float32(0), jnp.int32(0))

    def act(key, state, obs, *memory):
        action = jnp.int32(0) if key is None else jax.random.randint(key, (), 0, 2)
        return (action, {"seen": obs}) if not memory else (action, {"seen": memory[0]}, memory[0] + 1)

    def update(key, state, data):
        TRACES.append(1)
        total = state.total + state.hparams.step_size * data.reward.sum()
        return State(state.hparams, total, state.num_updates + 1), {"total": total, "draw": jax.random.uniform(key)}

    memory = (lambda key, state: jnp.int32(100)) if with_memory else None
    return Agent(init, act, update, memory)


ENV, CUT_ENV = countdown(False), countdown(True)
AGENT, REMEMBERING = accountant(False), accountant(True)


def equal(a, b):
    def data(x):
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_array_equal(data(x), data(y))


@pytest.fixture(scope="module")
def trajectory():
    state = AGENT.init(None, Hparams(), jnp.int32(0))
    actors = loops.init_actors(jax.random.key(5), AGENT, CUT_ENV, state, num_envs=3)
    return loops.rollout(jax.random.key(6), AGENT, CUT_ENV, state, actors, length=40)


def test_a_trajectory_holds_true_successors_and_fresh_starts(trajectory):
    _, data = trajectory
    np.testing.assert_array_equal(data.next_obs, data.obs - 1)  # the true successor, also where the episode ended
    done = np.asarray(data.terminated | data.truncated)
    np.testing.assert_array_equal(done, data.obs == 1)
    assert not data.terminated.any()
    following = np.asarray(data.obs[1:])
    np.testing.assert_array_equal(following[~done[:-1]], np.asarray(data.next_obs[:-1])[~done[:-1]])
    starts = following[done[:-1]]
    assert starts.min() >= 1
    assert set(starts) == {1, 2, 3, 4}  # drawn, and differently in every environment
    assert data.reward.dtype == jnp.float32
    np.testing.assert_array_equal(data.aux["seen"], data.obs)


def test_resets_have_the_distribution_of_the_environment():
    state = AGENT.init(None, Hparams(), jnp.int32(0))
    actors = loops.init_actors(jax.random.key(1), AGENT, ENV, state, num_envs=500)
    _, data = loops.rollout(jax.random.key(2), AGENT, ENV, state, actors, length=50)
    starts = np.asarray(data.obs[1:])[np.asarray(data.terminated[:-1])]
    share = np.bincount(starts, minlength=5)[1:] / len(starts)
    np.testing.assert_allclose(share, 0.25, atol=5 * np.sqrt(0.1875 / len(starts)))


def test_only_finished_episodes_count_and_none_is_lost(trajectory):
    actors, data = trajectory
    returns, lengths, running = [], [], np.zeros((3, 2))
    for t in range(40):
        running += np.stack([data.reward[t], np.ones(3)], axis=1)
        for i in np.flatnonzero(data.truncated[t]):
            returns.append(running[i, 0])
            lengths.append(running[i, 1])
            running[i] = 0
    assert actors.finished.return_sum.sum() == sum(returns)
    assert actors.finished.length_sum.sum() == sum(lengths)
    assert actors.finished.num_episodes.sum() == len(returns)
    np.testing.assert_array_equal(actors.episode_return, running[:, 0])
    np.testing.assert_array_equal(actors.episode_length, running[:, 1])
    np.testing.assert_allclose(actors.info["left"], np.mean(data.obs), rtol=1e-6)


def test_memory_starts_fresh_with_each_episode_and_only_then():
    state = REMEMBERING.init(None, Hparams(), jnp.int32(0))
    actors = loops.init_actors(jax.random.key(5), REMEMBERING, ENV, state, num_envs=3)
    actors, first = loops.rollout(jax.random.key(6), REMEMBERING, ENV, state, actors, length=6)
    memory = actors.memory
    _, second = loops.rollout(jax.random.key(7), REMEMBERING, ENV, state, actors, length=6)
    np.testing.assert_array_equal(first.memory, [100] * 3)
    np.testing.assert_array_equal(second.memory, memory)
    seen = np.concatenate([first.aux["seen"], second.aux["seen"]])
    done = np.concatenate([first.terminated, second.terminated])
    expected = np.full(3, 100)
    for t in range(12):
        np.testing.assert_array_equal(seen[t], expected)
        expected = np.where(done[t], 100, expected + 1)


def test_whole_episodes_have_a_mask_and_an_overlong_one_is_cut():
    state = AGENT.init(None, Hparams(), jnp.int32(0))
    actors = loops.init_actors(jax.random.key(5), AGENT, ENV, state, num_envs=50)
    actors, data = loops.rollout_episodes(jax.random.key(9), AGENT, ENV, state, actors, length=3)
    start = np.asarray(data.obs[0])
    np.testing.assert_array_equal(data.mask.sum(0), np.minimum(start, 3))
    np.testing.assert_array_equal(data.truncated[-1][start == 4], True)
    np.testing.assert_array_equal((data.terminated * data.mask).sum(0), start < 4)
    np.testing.assert_array_equal(actors.finished.num_episodes, 1)
    np.testing.assert_array_equal(actors.finished.return_sum, (data.reward * data.mask).sum(0))
    np.testing.assert_allclose(actors.info["left"], (data.obs * data.mask).sum() / data.mask.sum(), rtol=1e-6)


@pytest.fixture(scope="module")
def whole_run():
    return purerl.train(jax.random.key(0), AGENT, ENV, Hparams(), num_updates=6, **SIZES)


def test_metrics_are_one_number_an_update(whole_run):
    state, metrics = whole_run
    assert {k: v.shape for k, v in metrics.items()} == dict.fromkeys(
        [
            "total", "draw", "env/action", "env/left", "episode_end/action", "episode_end/left", "episode_return",
            "episode_length", "num_episodes",
        ],
        (6,),
    )  # fmt: skip
    assert state.total == metrics["total"][-1]
    assert state.num_updates == 6
    assert len(set(np.asarray(metrics["draw"]))) == 6


def test_no_episode_finished_is_nan_and_zero():
    _, metrics = purerl.train(
        jax.random.key(0),
        AGENT,
        ENV,
        Hparams(),
        num_updates=1,
        num_envs=1,
        rollout_length=1,
        env_params=Countdown(1000),
    )
    assert metrics["num_episodes"][0] == 0
    assert np.isnan(metrics["episode_return"][0])


def test_chunks_are_the_same_run_bit_for_bit(whole_run):
    loop_state = purerl.start(jax.random.key(0), AGENT, ENV, Hparams(), num_envs=3)
    parts = []
    for num_updates in (1, 3, 2):
        loop_state, metrics = purerl.advance(
            loop_state, AGENT, ENV, num_updates=num_updates, rollout_length=7, donate=num_updates == 3
        )
        parts.append(metrics)
    equal(whole_run, (loop_state.agent_state, jax.tree.map(lambda *x: jnp.concatenate(x), *parts)))
    assert loop_state.num_updates == 6


def test_one_trace_for_every_kind_of_hyperparameter(whole_run):
    before = len(TRACES)
    for key, step_size in enumerate(
        (1, 0, 0.25, np.float64(0.5), np.float32(2), np.int32(1), jnp.float32(1), jnp.int32(2))
    ):
        purerl.train(jax.random.key(key), AGENT, ENV, Hparams(step_size, np.int64(3)), num_updates=6, **SIZES)
    assert len(TRACES) == before


def test_the_same_key_gives_the_same_bits(whole_run):
    equal(whole_run, purerl.train(jax.random.key(0), AGENT, ENV, Hparams(), num_updates=6, **SIZES))


def test_vmap_over_keys_hyperparameters_and_environments_at_once():
    keys = jax.random.split(jax.random.key(3), 4)
    hparams = Hparams(step_size=jnp.array([0.0, 1.0, 2.0, 3.0]), length=jnp.full(4, 2))
    env_params = Countdown(jnp.array([1, 2, 3, 5]))

    def run(key, hparams, env_params):
        return purerl.train(key, AGENT, ENV, hparams, num_updates=2, env_params=env_params, **SIZES)

    many = jax.jit(jax.vmap(run))(keys, hparams, env_params)
    for i in range(4):
        equal(jax.tree.map(lambda x: x[i], many), run(keys[i], *jax.tree.map(lambda x: x[i], (hparams, env_params))))


def test_warm_start_keeps_the_state_and_takes_the_new_hyperparameters(whole_run):
    state, _ = whole_run
    warm, _ = purerl.train(jax.random.key(1), AGENT, ENV, Hparams(0.0), num_updates=2, state=state, **SIZES)
    assert warm.total == state.total
    assert warm.hparams.step_size == 0
    assert warm.num_updates == 8


def test_evaluation_counts_whole_episodes_and_cuts_long_ones():
    state = AGENT.init(None, Hparams(), jnp.int32(0))
    full = purerl.evaluate(jax.random.key(0), AGENT, ENV, state, num_episodes=64, max_steps=10)
    np.testing.assert_array_equal(full.episode_return, full.episode_length * (full.episode_length + 1) / 2)
    assert set(np.asarray(full.episode_length)) == {1, 2, 3, 4}
    cut = purerl.evaluate(jax.random.key(0), AGENT, ENV, state, num_episodes=64, max_steps=2)
    np.testing.assert_array_equal(cut.episode_length, np.minimum(full.episode_length, 2))
    fewer = purerl.evaluate(jax.random.key(0), AGENT, ENV, state, num_episodes=8, max_steps=10)
    np.testing.assert_array_equal(fewer.episode_length, full.episode_length[:8])  # common random numbers
    remembering = purerl.evaluate(
        jax.random.key(0), REMEMBERING, ENV, state, num_episodes=4, max_steps=10, greedy=False, env_params=Countdown(1)
    )
    np.testing.assert_array_equal(remembering.episode_length, 1)


def test_evaluation_takes_the_limit_of_the_environment():
    state = AGENT.init(None, Hparams(), jnp.int32(0))
    played = purerl.evaluate(jax.random.key(0), AGENT, ENV._replace(max_steps=2), state, num_episodes=4)
    assert played.episode_length.max() == 2
    with pytest.raises(ValueError, match="needs max_steps, because the environment has no time limit"):
        purerl.evaluate(jax.random.key(0), AGENT, ENV, state, num_episodes=1)
    with pytest.raises(ValueError, match="needs max_steps, because env_params may have another time limit"):
        purerl.evaluate(
            jax.random.key(0), AGENT, ENV._replace(max_steps=2), state, num_episodes=1, env_params=Countdown()
        )


def test_fit_is_a_scan_of_updates_on_the_same_data():
    def init(key, hparams, example, num_envs=1):
        return State(hparams, example.sum(), jnp.int32(0))

    def update(key, state, data):
        total = state.total + state.hparams.step_size * data.mean()
        return state._replace(total=total, num_updates=state.num_updates + 1), {"loss/total": total}

    agent = Agent(init, AGENT.act, update)
    state, metrics = purerl.fit(jax.random.key(0), agent, jnp.arange(4.0), Hparams(2), num_updates=3)
    np.testing.assert_array_equal(metrics["loss/total"], [3, 6, 9])
    state, metrics = purerl.fit(jax.random.key(0), agent, jnp.arange(4.0), Hparams(0), num_updates=2, state=state)
    np.testing.assert_array_equal(metrics["loss/total"], [9, 9])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"key": jax.random.PRNGKey(0)}, TypeError, "typed key"),
        ({"num_updates": 0}, ValueError, "num_updates must be a positive integer"),
        ({"num_envs": 2.5}, ValueError, "num_envs must be a positive integer"),
        ({"rollout_length": -1}, ValueError, "rollout_length must be a positive integer"),
        ({"hparams": Hparams(float("nan"))}, ValueError, "step_size is NaN"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    arguments = {"key": jax.random.key(0), "hparams": Hparams(), "num_updates": 1, **SIZES} | change
    with pytest.raises(error, match=message):
        purerl.train(agent=AGENT, env=ENV, **arguments)


class Kept(NamedTuple):
    key: Any
    value: jax.Array


def wandering(keeps_keys: bool) -> Env:
    """Noise in every step; one that keeps keys draws it from the kept key or from the step's, by the action."""

    def reset(key, env_params=None):
        return jnp.float32(0), Kept(key if keeps_keys else (), jnp.float32(0))

    def step(key, env_state, action, env_params=None):
        chosen = jax.lax.select(action == 0, env_state.key, key) if keeps_keys else key
        value = env_state.value + jax.random.normal(chosen)
        never = jnp.bool_(False)
        return EnvStep(value, Kept(key if keeps_keys else (), value), value, never, never)

    return Env(reset, step, Box(-jnp.inf, jnp.inf, ()), Discrete(2))


def test_an_environment_may_choose_between_a_key_that_it_keeps_and_the_step_s():
    agent, env = accountant(False), wandering(keeps_keys=True)
    _, metrics = purerl.train(jax.random.key(0), agent, env, Hparams(), num_updates=2, **SIZES)
    assert np.isfinite(metrics["total"]).all()


def test_random_steps_compile_without_loops_within_a_step_on_a_cpu():
    agent, env = accountant(False), wandering(keeps_keys=False)
    state = agent.init(jax.random.key(0), Hparams(), jnp.float32(0))
    actors = loops.init_actors(jax.random.key(1), agent, env, state, num_envs=2)

    def run(key, actors):
        return loops.rollout(key, agent, env, state, actors, length=5)

    text = jax.jit(run).lower(jax.random.key(2), actors).compile().as_text()
    assert text.count(" while(") == 1

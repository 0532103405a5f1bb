from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import combinators
from purerl.types import Agent, Transition


class Hparams(NamedTuple):
    discount: Any = 0.9


class State(NamedTuple):
    hparams: Any
    seen: Any


def init(key, hparams, example, num_envs=1):
    return State(hparams, Transition(*[jnp.zeros(())] * 6))


SPY = Agent(init, lambda key, state, obs: (obs, ()), lambda key, state, data: (state._replace(seen=data), {}))


def data(seed, num_steps=5, num_envs=3):
    rng = np.random.default_rng(seed)
    obs, next_obs = (
        {
            "x": jnp.asarray(rng.normal(3, 2, (num_steps, num_envs, 2)), jnp.float32),
            "n": jnp.ones((num_steps, num_envs), int),
        }
        for _ in range(2)
    )
    flags = [jnp.asarray(rng.random((num_steps, num_envs)) < 0.3) for _ in range(2)]
    reward = jnp.asarray(rng.normal(1, 5, (num_steps, num_envs)), jnp.float32)
    return Transition(obs, jnp.zeros((num_steps, num_envs)), reward, *flags, next_obs)


def example():
    return jax.tree.map(lambda x: x[0, 0], data(0).obs)


def test_observations_are_normalised_by_what_was_trained_on_before():
    agent = combinators.with_observation_normalization(SPY)
    state = agent.init(None, Hparams(), example(), 3)
    parts = [data(i) for i in range(3)]
    np.testing.assert_allclose(agent.act(None, state, example())[0]["x"], example()["x"], rtol=1e-6)
    for i, part in enumerate(parts):
        state, _ = agent.update(None, state, part)
        before = np.concatenate(
            [np.asarray(p.obs["x"], np.float64).reshape(-1, 2) for p in parts[:i]] or [[[-1, -1], [1, 1]]]
        )
        for name in ("obs", "next_obs"):
            raw = np.asarray(getattr(part, name)["x"], np.float64)
            expected = np.clip((raw - before.mean(0)) / np.sqrt(before.var(0) + 1e-8), -10, 10)
            np.testing.assert_allclose(getattr(state.agent.seen, name)["x"], expected, rtol=2e-5, atol=1e-5)
            np.testing.assert_array_equal(getattr(state.agent.seen, name)["n"], part.obs["n"])  # integers pass
    assert state.moments.num_samples == 45
    everything = np.concatenate([np.asarray(p.obs["x"]).reshape(-1, 2) for p in parts])
    shown, _ = agent.act(None, state, example())
    np.testing.assert_allclose(shown["x"], (example()["x"] - everything.mean(0)) / everything.std(0), atol=1e-5)


def test_masked_steps_do_not_count():
    agent = combinators.with_observation_normalization(SPY)
    state = agent.init(None, Hparams(), example(), 3)
    part = data(0)
    mask = (jnp.arange(5)[:, None] < jnp.array([1, 3, 5])).astype(jnp.float32)
    state, _ = agent.update(None, state, part._replace(mask=mask))
    kept = np.asarray(part.obs["x"])[np.asarray(mask) > 0]
    assert state.moments.num_samples == 9
    np.testing.assert_allclose(state.moments.mean["x"], kept.mean(0), rtol=1e-5)


@pytest.mark.parametrize("num_updates", [1, 3])
def test_rewards_are_scaled_by_the_spread_of_discounted_sums(num_updates):
    agent = combinators.with_reward_scaling(SPY, clip=0.5)
    state = agent.init(None, Hparams(0.9), example(), 3)
    sums, running = [], np.zeros(3)
    for i in range(num_updates):
        part = data(i)
        state, _ = agent.update(None, state, part)
        for t in range(5):
            running = np.asarray(part.reward[t], np.float64) + 0.9 * running
            sums.append(running)
            running = np.where(part.terminated[t] | part.truncated[t], 0, running)
    expected = np.clip(np.asarray(part.reward) / np.std(sums), -0.5, 0.5)
    np.testing.assert_allclose(state.agent.seen.reward, expected, rtol=1e-5)
    np.testing.assert_allclose(state.discounted, running, rtol=1e-5)


def rows(x):
    """Recorded steps [B] with observations x."""
    zeros = jnp.zeros(len(x))
    return Transition(x, zeros, zeros, zeros == 1, zeros == 1, x)


def test_rows_are_normalised_feature_by_feature():
    x = jnp.array([0.0, 1000.0]) + jnp.array([1.0, 100.0]) * jax.random.normal(jax.random.key(0), (256, 2))
    agent = combinators.with_observation_normalization(SPY)
    state = agent.init(None, Hparams(), x[0])
    state, _ = agent.update(None, state, rows(x))
    np.testing.assert_allclose(state.moments.mean, x.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(state.moments.variance, x.var(0), rtol=1e-4)


def test_masks_and_integers_and_the_state_that_planners_see_pass_unchanged():
    leaf = jnp.full((2, 3, 4), 5.0)
    obs = {
        "obs": {"x": leaf, "action_mask": leaf, "image": leaf.astype(jnp.uint8)},
        "env_state": {"x": leaf},
        "env_params": leaf,
    }
    agent = combinators.with_observation_normalization(SPY)
    state = agent.init(None, Hparams(), jax.tree.map(lambda x: x[0, 0], obs), 3)
    state, _ = agent.update(None, state, data(0, 2)._replace(obs=obs, next_obs=obs))
    shown, _ = agent.act(None, state, jax.tree.map(lambda x: x[0, 0], obs))
    assert shown["obs"]["x"].tolist() == [0] * 4
    unchanged = [shown["obs"]["action_mask"], shown["obs"]["image"], shown["env_state"]["x"], shown["env_params"]]
    assert all(x.tolist() == [5] * 4 for x in unchanged)


def test_what_is_masked_may_be_nan():
    agent = combinators.with_reward_scaling(combinators.with_observation_normalization(SPY))
    state = agent.init(None, Hparams(), example(), 3)
    mask = (jnp.arange(5)[:, None] < jnp.array([1, 3, 5])).astype(jnp.float32)
    part = data(0)
    spoiled = part._replace(
        obs=part.obs | {"x": jnp.where(mask[..., None] > 0, part.obs["x"], jnp.nan)},
        reward=jnp.where(mask > 0, part.reward, jnp.nan),
        mask=mask,
    )
    clean, _ = agent.update(None, state, part._replace(mask=mask))
    state, _ = agent.update(None, state, spoiled)
    np.testing.assert_array_equal(state.agent.moments.mean["x"], clean.agent.moments.mean["x"])
    assert np.isfinite(state.moments.variance)


def test_weights_count_steps_in_part():
    agent = combinators.with_observation_normalization(SPY)
    state = agent.init(None, Hparams(), example(), 3)
    part = data(0)
    weight = jnp.asarray(np.random.default_rng(0).random((5, 3)), jnp.float32)
    state, _ = agent.update(None, state, part._replace(weight=weight))
    expected = np.average(np.asarray(part.obs["x"]).reshape(-1, 2), axis=0, weights=np.asarray(weight).reshape(-1))
    np.testing.assert_allclose(state.moments.mean["x"], expected, rtol=1e-5)


def test_ten_billion_samples_count_and_later_ones_still_move_the_statistics():
    agent = combinators.with_observation_normalization(SPY)
    state = agent.init(None, Hparams(), example(), 3)
    state, _ = agent.update(None, state, data(0))
    moments = state.moments
    moments = moments._replace(
        num_samples=jnp.float32(1e10),
        mean=moments.mean | {"x": jnp.zeros(2)},
        variance=moments.variance | {"x": jnp.ones(2)},
    )
    part = data(0)._replace(obs={"x": jnp.full((5, 3, 2), 3.0), "n": jnp.ones((5, 3), int)})

    @jax.jit
    def many(state):
        return jax.lax.fori_loop(0, 1000, lambda _, state: agent.update(None, state, part)[0], state)

    moments = many(state._replace(moments=moments)).moments
    count = float(moments.num_samples) + float(moments.remainders.num_samples)
    mean = float(moments.mean["x"][0]) + float(moments.remainders.mean["x"][0])
    assert count == 1e10 + 15_000
    np.testing.assert_allclose(mean, 3 * 15_000 / 1e10, rtol=1e-3)


def test_the_running_return_restarts_where_a_run_starts_from_a_trained_state():
    agent = combinators.with_reward_scaling(SPY)
    state, _ = agent.update(None, agent.init(None, Hparams(), example(), 3), data(0))
    assert agent.cut(state).discounted.tolist() == [0, 0, 0]


def test_rewards_of_rows_are_not_scaled():
    agent = combinators.with_reward_scaling(SPY)
    with pytest.raises(ValueError, match="needs rollouts"):
        agent.update(None, agent.init(None, Hparams(), jnp.zeros(2), 3), rows(jnp.zeros((4, 2))))


@pytest.mark.parametrize("wrap", [combinators.with_observation_normalization, combinators.with_reward_scaling])
@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan")])
def test_a_bound_that_is_not_positive_is_refused(wrap, clip):
    with pytest.raises(ValueError, match=f"clip must be positive, got {clip}"):
        wrap(Agent(None, None, None), clip=clip)

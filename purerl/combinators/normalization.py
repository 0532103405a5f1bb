"""Observations brought to mean 0 and variance 1, and rewards to a common scale, by running statistics."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.combinators import _inner
from purerl.hparams import get_hparams
from purerl.types import Agent, Experience, Metrics, Transition


class RunningMoments(NamedTuple):
    """Number, mean and sum of squared deviations of what was seen, a leaf each for every floating leaf."""

    num_samples: jax.Array
    mean: Any
    squares: Any


class NormalizedState(NamedTuple):
    """The wrapped agent's state beside the statistics of the observations it was trained on."""

    agent: Any
    moments: RunningMoments


def with_observation_normalization(agent: Agent, *, clip: float = 10.0) -> Agent:
    """Show the agent clip((x - mean) / √(variance + 1e-8), ±`clip`) in place of each floating leaf x of an observation.

    The statistics are those of all observations trained on so far. They change at the end of `update`, so the data of
    one update are seen as they were acted on; `evaluate` uses them frozen. Integer leaves pass untouched.

    Args:
      agent: any agent whose `update` takes a `Transition`.
      clip: bound on normalised values, in standard deviations.

    Returns:
      An agent whose state has the fields `agent` and `moments`.

    Source: parallel update of mean and variance, Chan et al. 1979, eq. 2.1; use as in Stable-Baselines3's VecNormalize.
    """

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> NormalizedState:
        obs = _example_obs(example)
        zeros = jax.tree.map(lambda x: jnp.zeros(_width(x), jnp.float32), obs)
        return NormalizedState(
            agent.init(key, hparams, example, num_envs), RunningMoments(jnp.float32(0), zeros, zeros)
        )

    def act(key: jax.Array | None, state: NormalizedState, obs: Any, *memory: Any) -> Any:
        return agent.act(key, state.agent, _normalize(state.moments, obs, clip), *memory)

    def update(key: jax.Array, state: NormalizedState, data: Transition) -> tuple[NormalizedState, Metrics]:
        obs, next_obs = _normalize(state.moments, data.obs, clip), _normalize(state.moments, data.next_obs, clip)
        inner, metrics = agent.update(key, state.agent, data._replace(obs=obs, next_obs=next_obs))
        return NormalizedState(inner, _add(state.moments, data.obs, data.mask)), metrics

    return Agent(init, act, update, _inner.memory(agent))


class ScaledState(NamedTuple):
    """The wrapped agent's state, each environment's discounted reward so far, [N], and the statistics of those."""

    agent: Any
    discounted: Experience
    moments: RunningMoments


def with_reward_scaling(agent: Agent, *, clip: float = 10.0) -> Agent:
    """Show the agent clip(r / √(Var[R] + 1e-8), ±`clip`), where R[t] = r[t] + γ (1 - done[t-1]) R[t-1].

    γ is the agent's hyperparameter `discount`. The mean is not subtracted, so the sign of a reward is kept.

    Args:
      agent: any agent whose `update` takes a `Transition`.
      clip: bound on scaled rewards.

    Returns:
      An agent whose state has the fields `agent`, `discounted` and `moments`.

    Source: Engstrom et al. 2020, arXiv:2005.12729, section 2 ("reward scaling"); use as in Gymnasium's NormalizeReward.
    """

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> ScaledState:
        zero = jnp.float32(0)
        return ScaledState(
            agent.init(key, hparams, example, num_envs),
            jnp.zeros(num_envs, jnp.float32),
            RunningMoments(zero, zero, zero),
        )

    def update(key: jax.Array, state: ScaledState, data: Transition) -> tuple[ScaledState, Metrics]:
        discount = get_hparams(state.agent).discount
        done = data.terminated | data.truncated

        def step(running: jax.Array, xs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            reward, done = xs
            running = reward + discount * running
            return jnp.where(done, 0, running), running

        last, discounted = jax.lax.scan(step, state.discounted, (data.reward, done))
        moments = _add(state.moments, discounted, data.mask)
        scale = jax.lax.rsqrt(_variance(moments.squares, moments.num_samples) + 1e-8)
        inner, metrics = agent.update(
            key, state.agent, data._replace(reward=jnp.clip(data.reward * scale, -clip, clip))
        )
        return ScaledState(inner, last, moments), metrics

    return Agent(init, _inner.act(agent), update, _inner.memory(agent))


# --- Running moments --------------------------------------------------------------------------------------------------


def _normalize(moments: RunningMoments, obs: Any, clip: float) -> Any:
    def leaf(x: jax.Array, mean: jax.Array, squares: jax.Array) -> jax.Array:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        normalized = (x - mean) * jax.lax.rsqrt(_variance(squares, moments.num_samples) + 1e-8)
        return jnp.clip(normalized, -clip, clip).astype(x.dtype)

    return jax.tree.map(leaf, obs, moments.mean, moments.squares)


def _add(moments: RunningMoments, x: Any, mask: Any) -> RunningMoments:
    """The moments after the steps [T, N] of x; where there is a mask [T, N], those that it counts."""
    weight = jnp.ones(jax.tree.leaves(x)[0].shape[:2], jnp.float32) if isinstance(mask, tuple) else mask
    number = weight.sum()
    count = jnp.maximum(moments.num_samples + number, 1)

    def leaf(x: jax.Array, mean: jax.Array, squares: jax.Array) -> tuple[jax.Array, jax.Array]:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return mean, squares
        w = weight.reshape(weight.shape + (1,) * (x.ndim - 2))
        new_mean = (w * x).sum((0, 1)) / jnp.maximum(number, 1)
        new_squares = (w * (x - new_mean) ** 2).sum((0, 1))
        gap = new_mean - mean
        return mean + gap * number / count, squares + new_squares + gap**2 * moments.num_samples * number / count

    both = jax.tree.map(leaf, x, moments.mean, moments.squares)
    mean, squares = jax.tree.transpose(jax.tree.structure(x), jax.tree.structure((0, 0)), both)
    return RunningMoments(moments.num_samples + number, mean, squares)


def _variance(squares: jax.Array, count: jax.Array) -> jax.Array:
    """1 until something was seen."""
    return jnp.where(count > 0, squares / jnp.maximum(count, 1), 1.0)


def _example_obs(example: Any) -> Any:
    return example.obs if isinstance(example, Transition) else example


def _width(x: Any) -> tuple[int, ...]:
    """Statistics keep a floating leaf's shape; an integer leaf needs none."""
    return jnp.shape(x) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else ()

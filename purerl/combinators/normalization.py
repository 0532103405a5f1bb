"""Observations brought to mean 0 and variance 1, and rewards to a common scale, by running statistics."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import numerics
from purerl.agents.common import trajectories
from purerl.combinators import _inner
from purerl.hparams import get_hparams
from purerl.once import build_once
from purerl.types import Agent, Experience, Hparams, Key, Metrics, PyTree, State, Transition

_STATE_PARTS = {"obs", "env_state", "env_params"}  # of an observation of `envs.with_state`


class Remainders(NamedTuple):
    """The rounding errors of the number, the means and the variances in `RunningMoments`."""

    num_samples: jax.Array
    mean: PyTree
    variance: PyTree


class RunningMoments(NamedTuple):
    """Running mean and variance of each feature; leaves that are not features have zeros of shape [].

    Each number is kept in two float32 words (`numerics.Sum`), so 10^10 samples count exactly and single steps after
    them still move the statistics.

    Attributes:
      num_samples: the sum of the weights of all samples.
      mean: the means.
      variance: the variances, with divisor `num_samples`.
      remainders: the second words of the three.
    """

    num_samples: jax.Array
    mean: PyTree
    variance: PyTree
    remainders: Remainders


class NormalizedState(NamedTuple):
    """The wrapped agent's state, and the statistics of the observations it was trained on."""

    agent: State
    moments: RunningMoments


@build_once
def with_observation_normalization(agent: Agent, *, clip: float = 10.0) -> Agent:
    """Show the agent clip((x - mean) / √(variance + 1e-8), ±`clip`) in place of each feature x of an observation.

    Features are the floating leaves of an observation. Integers pass unchanged, and so do an `action_mask` and the
    parts of `envs.with_state` that are not for networks. The statistics are those of all observations trained on so
    far, each step with its mask and weight. They change at the end of `update`, so the data of one update are seen as
    they were acted on; `evaluate` uses them frozen.

    Args:
      agent: any agent whose `update` takes a `Transition`, [T, N] or rows [B].
      clip: bound on normalised values, in standard deviations.

    Returns:
      An agent whose state has the fields `agent` and `moments`.

    Raises:
      TypeError: `agent` is not a `purerl.Agent`.
      ValueError: `clip` is not positive; at the first use, the agent keeps data, whose normalisation would be outdated
        later; reads the environment's state, as planners do; takes the data of several agents; or takes the data of
        `fit` as a whole.

    Source: parallel update of mean and variance, Chan et al. 1979, eq. 2.1; use as in Stable-Baselines3's VecNormalize.
    """
    _inner.check_agent(agent, "with_observation_normalization")
    _check_clip(clip)
    wrong = _why_not_normalized(agent)
    if wrong:
        return _inner.refused(wrong)

    def init(key: Key, hparams: Hparams, example: PyTree, num_envs: int = 1) -> NormalizedState:
        zeros = jax.tree.map(
            lambda is_feature, x: jnp.zeros(jnp.shape(x) if is_feature else (), jnp.float32),
            _features(example),
            example,
        )
        return NormalizedState(agent.init(key, hparams, example, num_envs), _no_samples(zeros))

    def act(key: Key | None, state: NormalizedState, obs: PyTree, *memory: PyTree) -> Any:
        return agent.act(key, state.agent, _normalize(state.moments, obs, clip), *memory)

    def update(key: Key, state: NormalizedState, data: Transition) -> tuple[NormalizedState, Metrics]:
        if not isinstance(data, Transition):
            raise TypeError(f"with_observation_normalization needs a Transition, got {type(data).__name__}")
        obs, next_obs = _normalize(state.moments, data.obs, clip), _normalize(state.moments, data.next_obs, clip)
        inner, metrics = agent.update(key, state.agent, data._replace(obs=obs, next_obs=next_obs))
        return NormalizedState(inner, _add(state.moments, data.obs, trajectories.step_weight(data))), metrics

    return Agent(init, act, update, _inner.memory(agent), agent.requires, _inner.cut(agent), agent.check)


def _check_clip(clip: float) -> None:
    if not clip > 0:
        raise ValueError(f"clip must be positive, got {clip}")


def _why_not_normalized(agent: Agent) -> str:
    """Why an agent's observations must stay raw, and which order is right; empty if they need not."""
    joint = _inner.why_not_joint(agent, "with_observation_normalization")
    if joint:
        return joint
    if agent.requires.keeps_data:
        return (
            "with_observation_normalization around with_replay would store observations under outdated statistics; "
            "the right order is with_replay(with_observation_normalization(agent), ...)"
        )
    if agent.requires.raw_observations:
        return (
            "this agent plans with the environment's state, so its observations must stay raw: leave out "
            "with_observation_normalization, or normalise inside its network"
        )
    if agent.requires.data == "whole":
        return (
            "with_observation_normalization needs rows or trajectories; the right order is "
            "with_minibatches(with_observation_normalization(agent), batch_size)"
        )
    return ""


class ScaledState(NamedTuple):
    """The wrapped agent's state, each environment's discounted reward so far, [N], and the statistics of those."""

    agent: State
    discounted: Experience
    moments: RunningMoments


@build_once
def with_reward_scaling(agent: Agent, *, clip: float = 10.0) -> Agent:
    """Show the agent clip(r / √(Var[R] + 1e-8), ±`clip`), where R[t] = r[t] + γ (1 - done[t-1]) R[t-1].

    γ is the agent's hyperparameter `discount`. The mean is not subtracted, so the sign of a reward is kept. Around
    `with_replay`, rewards are stored on the scale of the update in which they were seen.

    Args:
      agent: any agent whose `update` takes a `Transition` [T, N].
      clip: bound on scaled rewards.

    Returns:
      An agent whose state has the fields `agent`, `discounted` and `moments`. It needs a stream: rollouts that continue
      from update to update.

    Raises:
      TypeError: `agent` is not a `purerl.Agent`.
      ValueError: `clip` is not positive; at the first use, the agent takes the data of several agents, whose rewards
        are in their observations, or the data of `fit`, which have no running returns; in `update`, data that are not
        [T, N].

    Source: Engstrom et al. 2020, arXiv:2005.12729, section 2 ("reward scaling"); use as in Gymnasium's NormalizeReward.
    """
    _inner.check_agent(agent, "with_reward_scaling")
    _check_clip(clip)
    joint = _inner.why_not_joint(agent, "with_reward_scaling")
    if joint:
        return _inner.refused(joint)
    if agent.requires.data == "whole":
        return _inner.refused(
            "with_reward_scaling needs rollouts in order of time: scale the rewards of a dataset beforehand"
        )

    def init(key: Key, hparams: Hparams, example: PyTree, num_envs: int = 1) -> ScaledState:
        inner = agent.init(key, hparams, example, num_envs)
        return ScaledState(inner, jnp.zeros(num_envs, jnp.float32), _no_samples(jnp.float32(0)))

    def update(key: Key, state: ScaledState, data: Transition) -> tuple[ScaledState, Metrics]:
        weight = trajectories.step_weight(data)
        discount = get_hparams(state.agent).discount
        last, discounted = _discounted_sums(state.discounted, data, weight, discount)
        moments = _add(state.moments, discounted, weight)
        scale = jax.lax.rsqrt(_variance(moments, moments.variance) + 1e-8)
        reward = jnp.clip(data.reward * scale, -clip, clip)
        inner, metrics = agent.update(key, state.agent, data._replace(reward=reward))
        return ScaledState(inner, last, moments), metrics

    def cut(state: ScaledState) -> ScaledState:
        inner = state.agent if agent.cut is None else agent.cut(state.agent)
        return state._replace(agent=inner, discounted=jnp.zeros_like(state.discounted))

    requires = agent.requires
    if requires.data != "episodes":
        requires = requires._replace(data="stream")
    return Agent(init, _inner.act(agent), update, _inner.memory(agent), requires, cut, agent.check)


def _discounted_sums(
    running: jax.Array, data: Transition, weight: jax.Array, discount: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """R after the last step, [N], and R[t], [T, N], from R before the first step; masked steps add nothing.

    Raises:
      ValueError: the rewards are not [T, N].
    """
    if data.reward.shape[1:] != running.shape:
        raise ValueError(
            f"with_reward_scaling needs rollouts [T, {len(running)}] in order of time, got rewards {data.reward.shape}"
        )

    def step(running: jax.Array, xs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        reward, done = xs
        running = (reward + discount * running).astype(running.dtype)
        return jnp.where(done, 0, running), running

    return jax.lax.scan(
        step, running, (jnp.where((weight != 0) & jnp.isfinite(data.reward), data.reward, 0), trajectories.done(data))
    )


# --- Running moments --------------------------------------------------------------------------------------------------


def _features(obs: PyTree) -> PyTree:
    """Whether each leaf of an observation is a feature: floating, and no mask or part of a planner's state."""
    hidden = _STATE_PARTS - {"obs"} if isinstance(obs, dict) and set(obs) == _STATE_PARTS else set()

    def is_feature(path: tuple[Any, ...], x: jax.Array) -> bool:
        names = [getattr(entry, "key", None) for entry in path]
        return jnp.issubdtype(jnp.result_type(x), jnp.floating) and not (
            "action_mask" in names or (names and names[0] in hidden)
        )

    return jax.tree_util.tree_map_with_path(is_feature, obs)


def _no_samples(zeros: PyTree) -> RunningMoments:
    zero = jnp.float32(0)
    return RunningMoments(zero, zeros, zeros, Remainders(zero, zeros, zeros))


def _normalize(moments: RunningMoments, obs: PyTree, clip: float) -> PyTree:
    """Observations with statistics of feature shape, or with more axes in front."""

    def leaf(is_feature: bool, x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        if not is_feature:
            return x
        mean, variance = _leading(mean, x.ndim), _leading(variance, x.ndim)  # [...] -> [1, ..., 1, ...]
        normalized = (x - mean) * jax.lax.rsqrt(_variance(moments, variance) + 1e-8)
        return jnp.clip(normalized, -clip, clip).astype(x.dtype)

    return jax.tree.map(leaf, _features(obs), obs, moments.mean, moments.variance)


def _add(moments: RunningMoments, x: PyTree, weight: jax.Array) -> RunningMoments:
    """The moments after samples x, leaves [*B, ...], with weights [*B].

    What has weight 0 may be NaN; samples with a NaN or an infinity in any feature count for nothing.
    """
    weight = jnp.where(_finite(x, weight.ndim), weight.astype(jnp.float32), 0)
    number = weight.sum()
    count = numerics.add(numerics.Sum(moments.num_samples, moments.remainders.num_samples), number)
    share = number / jnp.where(number > 0, count.high, 1)  # of the new samples among all

    def leaf(is_feature: bool, x: jax.Array, *old: jax.Array) -> tuple[numerics.Sum, numerics.Sum]:
        mean, mean_rest, variance, variance_rest = old
        if not is_feature:
            return numerics.Sum(mean, mean_rest), numerics.Sum(variance, variance_rest)
        w = weight.reshape(weight.shape + (1,) * (x.ndim - weight.ndim))  # [*B] -> [*B, 1, ..., 1]
        axes = tuple(range(weight.ndim))
        deviation = jnp.where(w != 0, x - _leading(mean, x.ndim), 0).astype(jnp.float32)
        divisor = jnp.where(number > 0, number, 1)
        gap = (w * deviation).sum(axes) / divisor  # mean of the new samples − mean
        spread = (w * (deviation - _leading(gap, x.ndim)) ** 2).sum(axes) / divisor
        # mean ← mean + share · gap,  variance ← variance + share · (spread + (1 − share) gap² − variance)
        return (
            numerics.add(numerics.Sum(mean, mean_rest), share * gap),
            numerics.add(numerics.Sum(variance, variance_rest), share * (spread + (1 - share) * gap**2 - variance)),
        )

    rests = moments.remainders
    structure = jax.tree.structure(x)
    columns = (_features(x), x, moments.mean, rests.mean, moments.variance, rests.variance)
    sums = [leaf(*each) for each in zip(*map(jax.tree.leaves, columns), strict=True)]
    (mean, mean_rest), (variance, variance_rest) = (
        [jax.tree.unflatten(structure, words) for words in zip(*column)] for column in zip(*sums)
    )
    return RunningMoments(count.high, mean, variance, Remainders(count.low, mean_rest, variance_rest))


def _finite(x: PyTree, rank: int) -> jax.Array:
    """Whether all features of each sample are finite, [*B] of that rank."""

    def leaf(is_feature: bool, x: jax.Array) -> jax.Array:
        finite = jnp.isfinite(x) if is_feature else jnp.ones(x.shape, bool)
        return finite.all(tuple(range(rank, x.ndim)))

    return functools.reduce(jnp.logical_and, jax.tree.leaves(jax.tree.map(leaf, _features(x), x)))


def _leading(x: jax.Array, rank: int) -> jax.Array:
    """The same values with axes of size 1 in front, `rank` axes in all."""
    return x.reshape((1,) * (rank - x.ndim) + x.shape)


def _variance(moments: RunningMoments, variance: jax.Array) -> jax.Array:
    """The variance, 1 until something was seen."""
    return jnp.where(moments.num_samples > 0, jnp.maximum(variance, 0), 1.0)

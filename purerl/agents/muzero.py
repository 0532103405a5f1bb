"""MuZero: a search through a model that is learned for nothing but to be searched through."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl.agents.common import optimization, planning
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval, check_positive
from purerl.spaces import action_mask
from purerl.types import Agent, Metrics, TrainState, Transition


class MuZeroHparams(NamedTuple):
    """Hyperparameters of MuZero.

    Attributes:
      learning_rate: Adam's step size.
      discount: γ, of the search and of the values.
      trace_decay: λ of the value targets.
      value_coef: weight of the value loss.
      reward_coef: weight of the reward loss.
      exploration: weight of the uniform distribution in the prior of the root, while actions are sampled.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
    """

    learning_rate: NonNegative = 1e-3
    discount: UnitInterval = 0.99
    trace_decay: UnitInterval = 0.95
    value_coef: NonNegative = 0.5
    reward_coef: NonNegative = 1.0
    exploration: UnitInterval = 0.25
    max_grad_norm: NonNegative = 1.0
    anneal_updates: AtLeastOne = float("inf")


class Batch(NamedTuple):
    """What one loss sees of each start [B] and of the K steps that follow it.

    Attributes:
      obs: [B] of the start.
      action, reward: [B, K], of each step; the reward is 0 after the end of the episode.
      policy, value: [B, K + 1], what the search found and the λ-returns, at the start and after each step; 0 is the
        value after the end of the episode.
      live: [B, K + 1], 1 where the state is one of the episode.
      known: [B, K + 1], 1 where that is so or the episode terminated before; 0 after a cut.
    """

    obs: Any
    action: jax.Array
    reward: jax.Array
    policy: jax.Array
    value: jax.Array
    live: jax.Array
    known: jax.Array


def muzero(
    network: Any,
    *,
    num_simulations: int = 16,
    max_depth: int | None = None,
    unroll_length: int = 5,
    num_epochs: int = 1,
    num_minibatches: int = 1,
    optimizer: optimization.Optimizer = optimization.adam,
) -> Agent:
    """Planning with a learned model, by Gumbel MuZero's search (mctx).

    Acting represents the observation, searches `num_simulations` times from there through the learned dynamics, and
    plays the action that the search prefers. With a key the prior of the root is mixed with the uniform distribution: a
    policy that became certain before its model knew the rewards would otherwise never see them.

    An update computes λ-returns G of the trajectory [T, N], and then, `num_epochs` times in `num_minibatches` of the
    (T − K) N starts t, unrolls the model over the K actions taken,

        s₀ = h(o[t]),   (r̂_k, s_k) = g(s_{k−1}, a[t+k−1]),   (π_k, v_k) = f(s_k),

    and descends on the mean over starts of

        Σ_{k=0..K} c_k (−Σ_a w[t+k](a) log π_k(a) + value_coef ½ (G[t+k] − v_k)²)
            + reward_coef Σ_{k=1..K} c_k ½ (r[t+k−1] − r̂_k)²,         c₀ = 1, c_k = 1/K,

    w the search's improved policy, the gradient halved at each g. After the end of an episode that terminated, rewards
    and values are 0 and no policy is learned: the end is a state that absorbs. After a cut nothing is learned.

    The data may be a rollout, or windows out of `combinators.with_replay` of a length above K, whose policies are those
    of the searches that acted.

    Args:
      network: `represent`, `predict`, `step`, `init` and `apply` of `networks.LatentModel`, such as
        `networks.latent_model(env)`.
      num_simulations: searches a step.
      max_depth: how deep the search may look; None: as deep as it has simulations.
      unroll_length: K.
      num_epochs: passes over each trajectory.
      num_minibatches: gradient steps a pass; must divide (rollout_length − K) · num_envs.
      optimizer: `hparams -> optax.GradientTransformation`; it sees all parameters as one flat vector.

    Returns:
      An agent whose hyperparameters are `MuZeroHparams`, or any NamedTuple with the fields used.

    Raises:
      ModuleNotFoundError: mctx is not installed.
      ValueError: a count is not positive; in `update`, masked data, a trajectory that does not divide, or one that is
        not longer than K.

    Source: Schrittwieser et al. 2020, "Mastering Atari, Go, chess and shogi by planning with a learned model", eq. 1
    and appendix G; the search: Danihelka et al. 2022. λ-returns in place of n-step returns of the search's values; the
    root's prior is mixed with the mean of the Dirichlet noise of Silver et al. 2018, not with draws of it.
    """
    check_positive(
        num_simulations=num_simulations,
        unroll_length=unroll_length,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
    )
    planning.check_installed()

    def act(key: jax.Array | None, state: TrainState, obs: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        hparams, params = state.hparams, state.params

        def expand(key: jax.Array, action: jax.Array, latent: jax.Array) -> tuple[Any, jax.Array]:
            reward, latent = jax.vmap(network.step, (None, 0, 0))(params, latent, action)
            distribution, value = jax.vmap(network.predict, (None, 0))(params, latent)
            return (reward, jnp.full_like(reward, hparams.discount), distribution.log_probs, value), latent

        latent, mask = network.represent(params, obs), action_mask(obs)
        distribution, value = network.predict(params, latent, mask)
        prior = distribution.log_probs if key is None else _explore(distribution.log_probs, mask, hparams.exploration)
        root = jax.tree.map(lambda x: x[None], (prior, value, latent))
        action, policy = planning.search(key, root, expand, mask, num_simulations=num_simulations, max_depth=max_depth)
        return action, {"policy": policy}

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> TrainState:
        return optimization.train_state(optimizer, hparams, network.init(key, example))

    def update(key: jax.Array, state: TrainState, data: Transition) -> tuple[TrainState, Metrics]:
        batch = _make_batch(network, state.params, data, state.hparams, unroll_length)
        loss = functools.partial(_loss, network, state.hparams)
        return optimization.descend_in_minibatches(
            key, optimizer, loss, state, batch, num_epochs=num_epochs, num_minibatches=num_minibatches
        )

    return Agent(init, act, update)


def _loss(network: Any, hparams: Any, params: Any, part: Batch) -> tuple[jax.Array, Metrics]:
    """The whole loss of a minibatch of starts, and its parts, each of them summed over the steps with weights c."""
    length = part.action.shape[1]
    first = jax.vmap(network.represent, (None, 0))(params, part.obs)

    def step(latent: jax.Array, action: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        reward, latent = jax.vmap(network.step, (None, 0, 0))(params, _half_gradient(latent), action)
        return latent, (reward, latent)

    _, (reward, later) = jax.lax.scan(step, first, part.action.T)
    latents = jnp.concatenate([first[None], later])
    distribution, value = jax.vmap(jax.vmap(network.predict, (None, 0)), (None, 0))(params, latents)
    weight = jnp.full(length + 1, 1 / length).at[0].set(1.0)

    def total(each: jax.Array, counts: jax.Array, weight: jax.Array) -> jax.Array:
        return (each * counts @ weight).mean()

    cross_entropy = -jnp.sum(part.policy * jnp.swapaxes(distribution.log_probs, 0, 1), axis=-1)
    policy = total(cross_entropy, part.live, weight)
    error = total(0.5 * jnp.square(part.value - value.T), part.known, weight)
    surprise = total(0.5 * jnp.square(part.reward - reward.T), part.known[:, :-1], weight[1:])
    metrics = {"loss/policy": policy, "loss/value": error, "loss/reward": surprise}
    return policy + hparams.value_coef * error + hparams.reward_coef * surprise, metrics


def _explore(log_probs: jax.Array, mask: jax.Array | None, weight: jax.Array) -> jax.Array:
    """Log-probabilities [A] mixed with the uniform distribution over the allowed actions, of that weight."""
    allowed = jnp.ones_like(log_probs) if mask is None else mask.astype(log_probs.dtype)
    mixed = (1.0 - weight) * jnp.exp(log_probs) + weight * allowed / allowed.sum()
    return jnp.log(jnp.maximum(mixed, jnp.finfo(mixed.dtype).tiny))


def _half_gradient(x: jax.Array) -> jax.Array:
    return 0.5 * x + jax.lax.stop_gradient(0.5 * x)


def _make_batch(network: Any, params: Any, data: Transition, hparams: Any, length: int) -> Batch:
    """Every start of a trajectory [T, N] beside the `length` steps after it: leaves lead with [(T − length) N]."""
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    if not isinstance(data.mask, tuple):
        raise ValueError("muzero takes whole rollouts; rollout_episodes masks its steps")
    num_starts = data.reward.shape[0] - length
    if num_starts < 1:
        raise ValueError(f"unroll_length = {length} must be less than the {data.reward.shape[0]} steps of the data")
    window = jnp.arange(num_starts)[:, None] + jnp.arange(length + 1)

    def windows(x: jax.Array) -> jax.Array:
        """[T, N, ...] to [(T − length) N, length + 1, ...]."""
        x = jnp.swapaxes(x[window], 1, 2)
        return x.reshape(-1, *x.shape[2:])

    over, cut = jax.tree.map(windows, (data.terminated, data.truncated & ~data.terminated))
    live, known = _counts(over, cut)
    value = windows(planning.value_targets(network, params, data, hparams))
    return Batch(
        obs=jax.tree.map(lambda x: x[:num_starts].reshape(-1, *x.shape[2:]), data.obs),
        action=windows(data.action)[:, :-1],
        reward=jnp.where(live, windows(data.reward), 0.0)[:, :-1],
        policy=windows(data.aux["policy"]),
        value=jnp.where(live, value, 0.0),
        live=live,
        known=known,
    )


def _counts(terminated: jax.Array, cut: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which states of windows [B, K + 1] are of the first one's episode, and of which of them something is known.

    Returns:
      Two bool arrays [B, K + 1]: nothing ended before the state; that, or what ended first before it was a termination.
    """
    ended = terminated | cut
    before = jnp.pad(ended, ((0, 0), (1, 0)))[:, :-1]
    live = jnp.cumsum(before, axis=1) == 0
    first_is_cut = jnp.pad(cut & live, ((0, 0), (1, 0)))[:, :-1]
    return live, jnp.cumsum(first_is_cut, axis=1) == 0

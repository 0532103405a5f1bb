"""MuZero: a search through a latent model, learned for planning."""

from __future__ import annotations

import functools
from typing import NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp

from purerl.agents.common import optimization, planning, policy_network, trajectories
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval, check_positive
from purerl.once import build_once
from purerl.spaces import action_mask
from purerl.types import Agent, Key, Metrics, Params, PyTree, Requirements, TrainState, Transition


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
    """The inputs of the loss: starts [B] and the K steps that follow each of them.

    Attributes:
      obs: [B] of the start.
      action, reward: [B, K], of each step; the reward is 0 after the end of the episode.
      policy, value: [B, K + 1], the search's improved policy and the λ-returns, at the start and after each step; the
        value is 0 after the end of the episode.
      live: [B, K + 1], true if the state belongs to the episode of the start.
      known: [B, K + 1], true if it does, or if that episode terminated before; false after a cut.
      weight: [B], how much a start counts; `()` if all count equally.
    """

    obs: PyTree
    action: jax.Array
    reward: jax.Array
    policy: jax.Array
    value: jax.Array
    live: jax.Array
    known: jax.Array
    weight: PyTree


class LatentNetwork(Protocol):
    """A learned model, such as `networks.latent_model(env)`; all functions take ONE example."""

    def init(self, key: Key, obs: PyTree, /) -> Params:
        """Parameters of all three functions."""

    def represent(self, params: Params, obs: PyTree, /) -> jax.Array:
        """The latent state of an observation, h."""

    def step(self, params: Params, latent: jax.Array, action: jax.Array, /) -> tuple[jax.Array, jax.Array]:
        """Reward and next latent state of an action, g."""

    def predict(
        self, params: Params, latent: jax.Array, mask: jax.Array | None = None, /
    ) -> tuple[policy_network.Distribution, jax.Array]:
        """Policy and value of a latent state, f."""


class _Settings(NamedTuple):
    """The arguments of `muzero`."""

    network: LatentNetwork
    num_simulations: int
    max_depth: int | None
    unroll_length: int
    num_epochs: int
    num_minibatches: int
    optimizer: optimization.Optimizer


@build_once
def muzero(
    network: LatentNetwork,
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
    policy that became certain before its model had learned the rewards would otherwise never observe them.

    An update computes λ-returns G of the trajectory [T, N], and then, `num_epochs` times in `num_minibatches` of the
    (T − K) N starts t, unrolls the model over the K actions taken,

        s₀ = h(o[t]),   (r̂_k, s_k) = g(s_{k−1}, a[t+k−1]),   (π_k, v_k) = f(s_k),

    and makes gradient steps on the mean over starts of

        Σ_{k=0..K} c_k (−Σ_a w[t+k](a) log π_k(a) + value_coef ½ (G[t+k] − v_k)²)
            + reward_coef Σ_{k=1..K} c_k ½ (r[t+k−1] − r̂_k)²,         c₀ = 1, c_k = 1/K,

    w the search's improved policy, the gradient halved at each g. After the end of an episode that terminated, rewards
    and values are 0 and no policy is learned: the end is an absorbing state. After a cut nothing is learned.

    The data may be a rollout, or windows out of `combinators.with_replay` of a length above K, whose policies are those
    of the searches that acted.

    Args:
      network: `represent`, `predict`, `step`, `init` and `apply` of `networks.LatentModel`, such as
        `networks.latent_model(env)`.
      num_simulations: simulations per step.
      max_depth: largest depth of the search; None: as deep as it has simulations.
      unroll_length: K.
      num_epochs: passes over each trajectory.
      num_minibatches: gradient steps per pass; must divide (rollout_length − K) · num_envs.
      optimizer: `hparams -> optax.GradientTransformation`. It sees the tree of parameters; the default, which treats
        all of them in the same way, one flat vector (see `optimization.OnVector`).

    Returns:
      An agent whose hyperparameters are `MuZeroHparams`, or any NamedTuple with the fields used.

    Raises:
      ModuleNotFoundError: mctx is not installed.
      ValueError: a count is not positive; in `update`, masked data, a trajectory that does not divide, or one that is
        not longer than K.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe()
      >>> agent = purerl.muzero(purerl.networks.latent_model(env, (4,), 4), num_simulations=2, unroll_length=2)
      >>> sizes = dict(num_updates=2, num_envs=2, rollout_length=4)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.MuZeroHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["loss/reward"].shape
      (2,)

    Source: Schrittwieser et al. 2020, "Mastering Atari, Go, chess and shogi by planning with a learned model", eq. 1
    and appendix G; the search: Danihelka et al. 2022. λ-returns in place of n-step returns of the search's values; the
    root's prior is mixed with the mean of the Dirichlet noise of Silver et al. 2018, not with draws of it.
    """
    check_positive(
        num_simulations=num_simulations,
        max_depth=1 if max_depth is None else max_depth,
        unroll_length=unroll_length,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
    )
    planning.check_installed()
    settings = _Settings(network, num_simulations, max_depth, unroll_length, num_epochs, num_minibatches, optimizer)
    return Agent(
        functools.partial(_init, settings),
        functools.partial(_act, settings),
        functools.partial(_update, settings),
        requires=Requirements(data="trajectory"),
    )


def _init(settings: _Settings, key: Key, hparams: MuZeroHparams, example: PyTree, num_envs: int = 1) -> TrainState:
    return optimization.train_state(settings.optimizer, hparams, settings.network.init(key, example))


def _act(
    settings: _Settings, key: Key | None, state: TrainState, obs: PyTree
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The action that a search through the learned model prefers, and the improved policy."""
    network, hparams, params = settings.network, state.hparams, state.params

    def expand(key: Key, action: jax.Array, latent: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
        reward, latent = jax.vmap(network.step, (None, 0, 0))(params, latent, action)  # [B], [B, D]
        distribution, value = jax.vmap(network.predict, (None, 0))(params, latent)
        return (reward, jnp.full_like(reward, hparams.discount), distribution.log_probs, value), latent

    latent, mask = network.represent(params, obs), action_mask(obs)
    distribution, value = network.predict(params, latent, mask)
    prior = distribution.log_probs if key is None else _explore(distribution.log_probs, mask, hparams.exploration)
    root = jax.tree.map(lambda x: x[None], (prior, value, latent))  # [...] -> [1, ...]
    action, policy = planning.search(
        key, root, expand, mask, num_simulations=settings.num_simulations, max_depth=settings.max_depth
    )
    return action, {"policy": policy}


def _update(settings: _Settings, key: Key, state: TrainState, data: Transition) -> tuple[TrainState, Metrics]:
    batch = _make_batch(settings.network, state.params, data, state.hparams, settings.unroll_length)
    loss = functools.partial(_loss, settings.network, state.hparams)
    return optimization.minibatch_update(
        key,
        settings.optimizer,
        loss,
        state,
        batch,
        num_epochs=settings.num_epochs,
        num_minibatches=settings.num_minibatches,
    )


def _loss(network: LatentNetwork, hparams: MuZeroHparams, params: Params, part: Batch) -> tuple[jax.Array, Metrics]:
    """The loss of a minibatch of starts and its parts, each of them summed over the steps with weights c."""
    length = part.action.shape[1]
    latents, reward = _unroll(network, params, part)
    distribution, value = jax.vmap(jax.vmap(network.predict, (None, 0)), (None, 0))(params, latents)  # [K + 1, B]
    log_probs = jnp.swapaxes(distribution.log_probs, 0, 1)  # [K + 1, B, A] -> [B, K + 1, A]
    weight = jnp.full(length + 1, 1 / length).at[0].set(1.0)  # c

    def total(each: jax.Array, counts: jax.Array, weight: jax.Array) -> jax.Array:
        return trajectories.masked_mean(jnp.where(counts, each, 0) @ weight, part.weight)  # [B, K + 1] @ [K + 1] -> [B]

    policy = total(planning.cross_entropy(part.policy, log_probs), part.live, weight)
    value_loss = total(0.5 * jnp.square(part.value - value.T), part.known, weight)
    reward_loss = total(0.5 * jnp.square(part.reward - reward.T), part.known[:, :-1], weight[1:])
    metrics = {"loss/policy": policy, "loss/value": value_loss, "loss/reward": reward_loss}
    return policy + hparams.value_coef * value_loss + hparams.reward_coef * reward_loss, metrics


def _unroll(network: LatentNetwork, params: Params, part: Batch) -> tuple[jax.Array, jax.Array]:
    """Latent states [K + 1, B, D] and rewards [K, B] of the model along the actions [B, K] taken from the starts."""
    first = jax.vmap(network.represent, (None, 0))(params, part.obs)  # s₀ = h(o), [B, D]

    def step(latent: jax.Array, action: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        reward, latent = jax.vmap(network.step, (None, 0, 0))(params, _half_gradient(latent), action)
        return latent, (reward, latent)  # (r̂_k, s_k) = g(s_{k−1}, a)

    _, (reward, later) = jax.lax.scan(step, first, part.action.T)
    return jnp.concatenate([first[None], later]), reward


def _explore(log_probs: jax.Array, mask: jax.Array | None, weight: jax.Array) -> jax.Array:
    """Log-probabilities [A] mixed with the uniform distribution over the allowed actions, of that weight."""
    allowed = jnp.ones_like(log_probs) if mask is None else (mask != 0).astype(log_probs.dtype)
    mixed = (1.0 - weight) * jnp.exp(log_probs) + weight * allowed / jnp.maximum(allowed.sum(), 1)
    return jnp.log(jnp.maximum(mixed, jnp.finfo(mixed.dtype).tiny)).astype(log_probs.dtype)


def _half_gradient(x: jax.Array) -> jax.Array:
    return 0.5 * x + jax.lax.stop_gradient(0.5 * x)


def _make_batch(network: LatentNetwork, params: Params, data: Transition, hparams: MuZeroHparams, length: int) -> Batch:
    """Every start of a trajectory [T, N] and the `length` steps after it: leaves lead with [(T − length) * N]."""
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    trajectories.refuse_mask(data, "muzero")
    data = trajectories.clean(data)
    num_starts = data.reward.shape[0] - length
    if num_starts < 1:
        raise ValueError(f"unroll_length = {length} must be less than the {data.reward.shape[0]} steps of the data")
    window = jnp.arange(num_starts)[:, None] + jnp.arange(length + 1)[None]  # [T − K, K + 1], times of each start

    def windows(x: jax.Array) -> jax.Array:
        x = jnp.swapaxes(x[window], 1, 2)  # [T, N, ...] -> [T − K, K + 1, N, ...] -> [T − K, N, K + 1, ...]
        return x.reshape(-1, *x.shape[2:])  # -> [(T − K) * N, K + 1, ...]

    terminated, cut = windows(data.terminated), windows(data.truncated & ~data.terminated)
    live, known = _counts(terminated, cut)
    value = windows(planning.value_targets(network, params, data, hparams))
    return Batch(
        obs=trajectories.flatten(jax.tree.map(lambda x: x[:num_starts], data.obs)),
        action=windows(data.action)[:, :-1],
        reward=jnp.where(live, windows(data.reward), 0.0)[:, :-1],
        policy=windows(trajectories.recorded(data, "policy", "muzero")),
        value=jnp.where(live, value, 0.0),
        live=live,
        known=known,
        weight=trajectories.flatten(jax.tree.map(lambda x: x[:num_starts], data.weight)),
    )


def _counts(terminated: jax.Array, cut: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which states of windows [B, K + 1] belong to the first one's episode, and for which of them targets are known.

    Returns:
      Two bool arrays [B, K + 1]: nothing ended before the state; that, or what ended first before it was a termination.
    """
    ended = terminated | cut
    before = jnp.pad(ended, ((0, 0), (1, 0)))[:, :-1]
    live = jnp.cumsum(before, axis=1) == 0
    first_is_cut = jnp.pad(cut & live, ((0, 0), (1, 0)))[:, :-1]
    return live, jnp.cumsum(first_is_cut, axis=1) == 0

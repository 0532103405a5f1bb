"""Proximal policy optimisation, with and without memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from purerl import losses, returns
from purerl.agents.common import minibatches, optimization, policy_network
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval, check_positive
from purerl.types import Agent, Metrics, TrainState, Transition


class PPOHparams(NamedTuple):
    """Hyperparameters of PPO; the defaults are those of CleanRL's `ppo.py`.

    Attributes:
      learning_rate: Adam's step size.
      discount: γ.
      gae_lambda: λ of the generalised advantage estimate.
      clip_epsilon: half width of the interval around 1 in which the probability ratio is not clipped.
      value_coef: weight of the value loss.
      entropy_coef: weight of the entropy bonus.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      value_clip_epsilon: the new value is clipped to within this of the old one; inf: no clipping.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
      target_kl: once the estimated KL to the old policy exceeds it, the rest of an update is skipped; inf: never.
    """

    learning_rate: NonNegative = 2.5e-4
    discount: UnitInterval = 0.99
    gae_lambda: UnitInterval = 0.95
    clip_epsilon: NonNegative = 0.2
    value_coef: NonNegative = 0.5
    entropy_coef: Any = 0.01
    max_grad_norm: NonNegative = 0.5
    value_clip_epsilon: NonNegative = 0.2
    anneal_updates: AtLeastOne = float("inf")
    target_kl: NonNegative = float("inf")


_METRICS = ("loss/policy", "loss/value", "loss/entropy", "loss/approx_kl", "loss/clip_fraction")


class _Learner(NamedTuple):
    """What passes from one minibatch to the next. Parameters as one vector: 1.6 times as fast at 128 rows as a tree."""

    flat_params: jax.Array
    opt_state: Any
    stopped: jax.Array


class Batch(NamedTuple):
    """What one loss sees of each step: [B], or with memory of whole environments [B, T], and of each environment [B].

    `reset` [B, T] says where `memory` [B] starts anew; both are `()` without memory.
    """

    obs: Any
    action: Any
    old_log_prob: jax.Array
    advantage: jax.Array
    old_value: jax.Array
    value_target: jax.Array
    mask: Any
    memory: Any = ()
    reset: Any = ()


def clipped_policy_loss(log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, hparams: Any) -> jax.Array:
    """The clipped surrogate objective, to minimise, [...]."""
    return losses.clipped_surrogate(log_prob, old_log_prob, advantage, hparams.clip_epsilon)


def ppo(
    network: Any,
    *,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    normalize_advantage: bool = True,
    policy_loss: Callable[..., jax.Array] = clipped_policy_loss,
    optimizer: optimization.Optimizer = optimization.adam,
) -> Agent:
    """Proximal policy optimisation with generalised advantage estimation.

    An update computes the values of the whole trajectory in one batch, the advantages

        δ[t] = r[t] + γ (1 - terminated[t]) V(s'[t]) - V(s[t])
        A[t] = δ[t] + γ (1 - terminated[t]) λ (1 - done[t]) A[t+1],

    and then, `num_epochs` times, shuffles the steps into `num_minibatches` and descends on

        mean(policy_loss) + value_coef · mean(clipped value loss) - entropy_coef · mean(entropy).

    s'[t] is the true successor, so a truncated step bootstraps from where its own episode stood. A network with memory
    makes it recurrent: minibatches are then of whole environments, replayed from the memory that each had at the start
    of the trajectory, and a successor is valued with the memory of its own episode.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> (distribution, value)`, such as `networks.actor_critic(env)`;
        or one with memory (see `purerl.agents.common.policy_network`), such as `networks.recurrent_actor_critic(env)`.
      num_epochs: passes over each trajectory.
      num_minibatches: gradient steps a pass; must divide rollout_length · num_envs, with memory num_envs.
      normalize_advantage: bring each minibatch's advantages to mean 0 and standard deviation 1.
      policy_loss: `f(log_prob, old_log_prob, advantage, hparams) -> [...]`, to minimise.
      optimizer: `hparams -> optax.GradientTransformation`; it sees all parameters as one flat vector.

    Returns:
      An agent whose hyperparameters are `PPOHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: a count is not positive; in `update`, a trajectory that does not divide into minibatches.

    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7 and 9, algorithm 1; advantages: arXiv:1506.02438, eq. 16;
    details as in Huang et al. 2022, "The 37 implementation details of PPO".
    """
    check_positive(num_epochs=num_epochs, num_minibatches=num_minibatches)

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> TrainState:
        params = policy_network.init(network, key, example)
        return TrainState(params, optimization.init(optimizer, hparams, params), hparams, jnp.int32(0))

    def update(key: jax.Array, state: TrainState, data: Transition) -> tuple[TrainState, Metrics]:
        hparams = state.hparams
        _check_environments(network, data, num_minibatches)
        batch = _make_batch(network, state.params, data, hparams)
        transform = optimizer(optimization.annealed(hparams, state.num_updates))
        flat_params, unravel = ravel_pytree(state.params)

        def loss(flat_params: jax.Array, part: Batch) -> tuple[jax.Array, Metrics]:
            return _loss(network, unravel(flat_params), part, hparams, policy_loss, normalize_advantage)

        def step(learner: _Learner, part: Batch) -> tuple[_Learner, Metrics]:
            grads, metrics = jax.grad(loss, has_aux=True)(learner.flat_params, part)
            updates, opt_state = transform.update(grads, learner.opt_state, learner.flat_params)
            flat_params = optax.apply_updates(learner.flat_params, updates)
            return _Learner(flat_params, opt_state, metrics["loss/approx_kl"] > hparams.target_kl), metrics

        def skip(learner: _Learner, part: Batch) -> tuple[_Learner, Metrics]:
            return learner, dict.fromkeys(_METRICS, jnp.float32(jnp.nan))

        def step_unless_stopped(learner: _Learner, part: Batch) -> tuple[_Learner, Metrics]:
            return jax.lax.cond(learner.stopped, skip, step, learner, part)

        learner = _Learner(flat_params, state.opt_state, jnp.bool_(False))
        learner, metrics = minibatches.epochs(
            key, step_unless_stopped, learner, batch, num_epochs=num_epochs, num_minibatches=num_minibatches
        )
        state = TrainState(unravel(learner.flat_params), learner.opt_state, hparams, state.num_updates + 1)
        return state, jax.tree.map(jnp.nanmean, metrics)

    act, memory = policy_network.acting(network)
    return Agent(init, act, update, memory)


def _check_environments(network: Any, data: Transition, num_minibatches: int) -> None:
    num_envs = data.reward.shape[1]
    if policy_network.has_memory(network) and num_envs % num_minibatches:
        raise ValueError(
            f"num_minibatches = {num_minibatches} does not divide the {num_envs} environments (num_envs): "
            "with memory a minibatch is of whole environments"
        )


def _make_batch(network: Any, params: Any, data: Transition, hparams: Any) -> Batch:
    """Values, advantages and value targets of a trajectory [T, N], as rows: [T N], with memory [N, T]."""
    chex.assert_rank([data.reward, data.terminated, data.truncated, data.aux["log_prob"]], 2)
    _, value, next_value = policy_network.evaluate(network, params, data)
    discount = hparams.discount * (1.0 - data.terminated)
    trace_decay = hparams.gae_lambda * (1.0 - (data.terminated | data.truncated))
    advantage = returns.gae(data.reward, discount, value, next_value, trace_decay)
    batch = Batch(data.obs, data.action, data.aux["log_prob"], advantage, value, advantage + value, data.mask)
    if policy_network.has_memory(network):
        rows = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), batch._replace(reset=policy_network.resets(data)))
        return rows._replace(memory=data.memory)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def _loss(
    network: Any, params: Any, batch: Batch, hparams: Any, policy_loss: Callable[..., jax.Array], normalize: bool
) -> tuple[jax.Array, Metrics]:
    """The whole loss of a minibatch, and what is worth knowing of it."""
    mask = batch.mask
    log_prob, entropy, value = policy_network.judge(network, params, batch.obs, batch.action, batch.memory, batch.reset)
    entropy = policy_network.mean(entropy, mask)
    advantage = batch.advantage
    if normalize:
        advantage = losses.normalize(advantage, None if isinstance(mask, tuple) else mask)
    policy = policy_network.mean(policy_loss(log_prob, batch.old_log_prob, advantage, hparams), mask)
    value_loss = losses.clipped_value(value, batch.old_value, batch.value_target, hparams.value_clip_epsilon)
    value_loss = policy_network.mean(value_loss, mask)
    total = policy + hparams.value_coef * value_loss - hparams.entropy_coef * entropy
    new_log_prob = jax.lax.stop_gradient(log_prob)
    approx_kl = policy_network.mean(losses.kl_estimate(batch.old_log_prob, new_log_prob), mask)
    ratio_minus_one = jnp.expm1(new_log_prob - batch.old_log_prob)
    clip_fraction = policy_network.mean(jnp.abs(ratio_minus_one) > hparams.clip_epsilon, mask)
    return total, dict(zip(_METRICS, (policy, value_loss, entropy, approx_kl, clip_fraction)))

"""Proximal policy optimization, with and without memory."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp

from purerl import losses, returns
from purerl.agents.common import blocks, counts, minibatches, optimization, plug_ins, policy_network, trajectories
from purerl.distributed import platform
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval, check_positive
from purerl.once import build_once
from purerl.types import Agent, Hparams, Key, Metrics, Network, Params, PyTree, Requirements, TrainState, Transition


class PPOHparams(NamedTuple):
    """Hyperparameters of PPO; the defaults are those of CleanRL's `ppo.py`, except that nothing is annealed.

    CleanRL anneals the learning rate to 0 by default, which is `anneal_updates=num_updates` here.

    Attributes:
      learning_rate: Adam's step size.
      discount: γ.
      gae_lambda: λ of the generalized advantage estimate.
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


_LOSS_METRICS = ("loss/policy", "loss/value", "loss/entropy", "loss/approx_kl", "loss/clip_fraction")
_METRICS = (*_LOSS_METRICS, optimization.SKIPPED)


class PolicyLoss(Protocol):
    """The loss of a policy, per step.

    It is a function and not a method to override, so that a new objective needs neither a subclass nor a copy of PPO.
    `hparams` is the agent's NamedTuple and may have more fields than PPO reads.
    """

    def __call__(
        self, log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, hparams: Hparams, /
    ) -> jax.Array:
        """The losses [...] of steps [...], to minimize."""


class ValueLoss(Protocol):
    """The loss of a value, per step, from the value before the update and its target; see `PolicyLoss`."""

    def __call__(
        self, value: jax.Array, old_value: jax.Array, value_target: jax.Array, hparams: Hparams, /
    ) -> jax.Array:
        """The losses [...] of steps [...], to minimize."""


class _Learner(NamedTuple):
    """Carry of the minibatch scan. `packed` are the parameters as the optimizer sees them, by default one vector."""

    packed: PyTree
    opt_state: PyTree
    stopped: jax.Array


class Batch(NamedTuple):
    """The inputs of the loss. Leaves lead with [B], or for a network with memory [B, T].

    `memory` [B] is the one before the first step and `reset` [B, T] is true where it starts anew; both are `()` without
    memory. `mask` is how much a step counts, `()` if all count equally. `value_target` is `()` until a minibatch is
    drawn: it is the sum of two other fields, and would take memory in every agent of a population.
    """

    obs: PyTree
    action: PyTree
    old_log_prob: jax.Array
    advantage: jax.Array
    old_value: jax.Array
    value_target: PyTree
    mask: PyTree
    memory: PyTree = ()
    reset: PyTree = ()


def clipped_policy_loss(
    log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, hparams: PPOHparams
) -> jax.Array:
    """The clipped surrogate objective, to minimize, [...]."""
    return losses.clipped_surrogate(log_prob, old_log_prob, advantage, hparams.clip_epsilon)


def clipped_value_loss(
    value: jax.Array, old_value: jax.Array, value_target: jax.Array, hparams: PPOHparams
) -> jax.Array:
    """Half the squared error of the value, or of the value clipped around the old one if that is larger, [...]."""
    return losses.clipped_value(value, old_value, value_target, hparams.value_clip_epsilon)


class _Settings(NamedTuple):
    """The arguments of `ppo`."""

    network: Network
    num_epochs: int
    num_minibatches: int
    normalize_advantage: bool
    policy_loss: PolicyLoss
    value_loss: ValueLoss
    optimizer: optimization.Optimizer


@build_once
def ppo(
    network: Network,
    *,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    normalize_advantage: bool = True,
    policy_loss: PolicyLoss = clipped_policy_loss,
    value_loss: ValueLoss = clipped_value_loss,
    optimizer: optimization.Optimizer = optimization.adam,
) -> Agent:
    """Proximal policy optimization with generalized advantage estimation.

    An update computes the values of the whole trajectory in one batch, the advantages

        δ[t] = r[t] + γ (1 - terminated[t]) V(s'[t]) - V(s[t])
        A[t] = δ[t] + γ (1 - terminated[t]) λ (1 - done[t]) A[t+1],

    and then, `num_epochs` times, shuffles the steps into `num_minibatches` and makes a gradient step on each, with loss

        mean(policy_loss) + value_coef · mean(value_loss) - entropy_coef · mean(entropy).

    s'[t] is the true successor, so a truncated step bootstraps from where its own episode stood. A network with memory
    makes it recurrent: minibatches are then of whole environments, replayed from the memory that each had at the start
    of the trajectory, and a successor is valued with the memory of its own episode.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> (distribution, value)`, such as `networks.actor_critic(env)`;
        or one with memory (see `purerl.agents.common.policy_network`), such as `networks.recurrent_actor_critic(env)`.
      num_epochs: passes over each trajectory.
      num_minibatches: gradient steps per pass; must divide rollout_length · num_envs, with memory num_envs.
      normalize_advantage: bring each minibatch's advantages to mean 0 and standard deviation 1.
      policy_loss: `f(log_prob, old_log_prob, advantage, hparams) -> [...]`, to minimize.
      value_loss: `f(value, old_value, value_target, hparams) -> [...]`, to minimize.
      optimizer: `hparams -> optax.GradientTransformation`. It sees the tree of parameters; the default, which treats
        all of them in the same way, one flat vector (see `optimization.OnVector`).

    Returns:
      An agent whose hyperparameters are `PPOHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: a count is not positive; in `update`, a trajectory that does not divide into minibatches, or a loss
        that is not one per step.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe()
      >>> agent = purerl.ppo(purerl.networks.actor_critic(env, hidden=(4,)), num_epochs=1, num_minibatches=2)
      >>> sizes = dict(num_updates=3, num_envs=2, rollout_length=4)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.PPOHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["loss/value"].shape
      (3,)

    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7 and 9, algorithm 1; advantages: arXiv:1506.02438, eq. 16;
    details as in Huang et al. 2022, "The 37 implementation details of PPO".
    """
    check_positive(num_epochs=num_epochs, num_minibatches=num_minibatches)
    settings = _Settings(network, num_epochs, num_minibatches, normalize_advantage, policy_loss, value_loss, optimizer)
    act, memory = policy_network.make_act(network)
    init, update = functools.partial(_init, settings), functools.partial(_update, settings)
    return Agent(init, act, update, memory, Requirements("trajectory", memory=memory is not None))


def _init(settings: _Settings, key: Key, hparams: PPOHparams, example: PyTree, num_envs: int = 1) -> TrainState:
    params = policy_network.init(settings.network, key, example)
    return optimization.train_state(settings.optimizer, hparams, params)


def _update(settings: _Settings, key: Key, state: TrainState, data: Transition) -> tuple[TrainState, Metrics]:
    """`num_epochs` passes over one trajectory [T, N], cut short once the KL exceeds `target_kl`."""
    hparams = state.hparams
    _check_environments(settings, data)
    batch = _make_batch(settings.network, state.params, data, hparams)
    annealed = optimization.annealed(hparams, state.num_updates)
    packed, unpack = optimization.pack(settings.optimizer, state.params)

    def gradient_with(network: Network, packed: PyTree, part: Batch) -> tuple[PyTree, Metrics]:
        def loss(packed: PyTree) -> tuple[jax.Array, Metrics]:
            return _loss(network, unpack(packed), part, hparams, settings.policy_loss, settings.value_loss)

        return jax.grad(loss, has_aux=True)(packed)

    def gradient(packed: PyTree, part: Batch) -> tuple[PyTree, Metrics]:
        of_rows = functools.partial(policy_network.by_platform, settings.network, gradient_with, packed)
        is_mean = not trajectories.has(batch.mask) and not policy_network.has_memory(settings.network)
        return blocks.mean(of_rows, part) if is_mean else of_rows(part)

    def step(learner: _Learner, part: Batch) -> tuple[_Learner, jax.Array]:
        grads, metrics = gradient(learner.packed, part)
        packed, opt_state = optimization.apply_gradients(
            settings.optimizer, annealed, grads, learner.packed, learner.opt_state
        )
        metrics[optimization.SKIPPED] = optimization.skipped(grads)
        stopped = metrics["loss/approx_kl"] > hparams.target_kl
        return _Learner(packed, opt_state, stopped), jnp.stack([metrics[name] for name in _METRICS])

    def step_unless_stopped(learner: _Learner, part: Batch, advantage: jax.Array) -> tuple[_Learner, jax.Array]:
        part = part._replace(advantage=advantage, value_target=part.advantage + part.old_value)

        def skip(learner: _Learner) -> tuple[_Learner, jax.Array]:
            return learner, jnp.full(len(_METRICS), jnp.nan)

        return platform.select(learner.stopped, skip, lambda learner: step(learner, part), learner)

    learner, metrics = minibatches.epochs(
        key,
        step_unless_stopped,
        _Learner(packed, state.opt_state, jnp.bool_(False)),
        batch,
        num_epochs=settings.num_epochs,
        num_minibatches=settings.num_minibatches,
        prepare=functools.partial(_advantages, settings.normalize_advantage),
    )
    state = TrainState(unpack(learner.packed), learner.opt_state, hparams, counts.increment(state.num_updates))
    # [num_epochs, num_minibatches, 6] -> [6]; steps that were skipped are NaN
    return state, dict(zip(_METRICS, jnp.nanmean(metrics, axis=(0, 1))))


def _check_environments(settings: _Settings, data: Transition) -> None:
    num_envs, num_minibatches = data.reward.shape[1], settings.num_minibatches
    if policy_network.has_memory(settings.network) and num_envs % num_minibatches:
        raise ValueError(
            f"num_minibatches = {num_minibatches} does not divide the {num_envs} environments (num_envs): "
            "with memory a minibatch is of whole environments"
        )


def _make_batch(network: Network, params: Params, data: Transition, hparams: PPOHparams) -> Batch:
    """Values, advantages and value targets of a trajectory [T, N], as rows: [T * N], with memory [N, T]."""
    recorded = trajectories.recorded(data, "log_prob", "ppo")
    chex.assert_rank([data.reward, data.terminated, data.truncated, recorded], 2)
    data = trajectories.clean(data)
    _, value, next_value = policy_network.evaluate(network, params, data, differentiated=False)  # [T, N]
    discount = trajectories.discounts(data, hparams.discount)
    trace_decay = trajectories.trace_decays(data, hparams.gae_lambda)
    counted = trajectories.counted(data)
    advantage = returns.gae(data.reward, discount, value, next_value, trace_decay)
    batch = Batch(data.obs, data.action, data.aux["log_prob"], advantage, value, (), counted)
    if policy_network.has_memory(network):
        batch = batch._replace(reset=policy_network.resets(data))
        rows = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), batch)  # [T, N] -> [N, T]
        return rows._replace(memory=data.memory)
    return trajectories.flatten(batch)  # [T, N] -> [T * N]


def _advantages(normalize: bool, batch: Batch) -> jax.Array:
    """The advantages of a minibatch, brought to mean 0 and standard deviation 1 if asked for."""
    if not normalize:
        return batch.advantage
    return losses.normalize(batch.advantage, trajectories.optional_mask(batch.mask))


def _loss(
    network: Network,
    params: Params,
    batch: Batch,
    hparams: PPOHparams,
    policy_loss: PolicyLoss,
    value_loss: ValueLoss = clipped_value_loss,
) -> tuple[jax.Array, Metrics]:
    """The loss of a minibatch and its metrics."""
    log_prob, entropy, value = policy_network.evaluate_actions(
        network, params, batch.obs, batch.action, batch.memory, batch.reset
    )
    policy_error = policy_loss(log_prob, batch.old_log_prob, batch.advantage, hparams)
    value_error = value_loss(value, batch.old_value, batch.value_target, hparams)
    plug_ins.each_loss("policy_loss", policy_error, log_prob)
    plug_ins.each_loss("value_loss", value_error, value)
    new_log_prob = jax.lax.stop_gradient(log_prob)
    kl = losses.kl_estimate(batch.old_log_prob, new_log_prob)
    clipped = jnp.abs(jnp.expm1(new_log_prob - batch.old_log_prob)) > hparams.clip_epsilon
    means = trajectories.masked_means([policy_error, value_error, entropy, kl, clipped], batch.mask)
    # mean(policy_loss) + value_coef · mean(value_loss) − entropy_coef · mean(entropy)
    total = means[0] + hparams.value_coef * means[1] - hparams.entropy_coef * means[2]
    return total, dict(zip(_LOSS_METRICS, means))

"""Actor-critic methods of one gradient step a trajectory: one-step, A2C with n-step returns or GAE, and V-trace."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl import losses, returns
from purerl.agents.common import optimization, policy_network
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval, check_positive
from purerl.types import Agent, Metrics, TrainState, Transition

ADVANTAGES = ("gae", "n_step", "vtrace")


class ActorCriticHparams(NamedTuple):
    """Hyperparameters of actor-critic methods.

    Attributes:
      learning_rate: Adam's step size.
      discount: γ.
      gae_lambda: λ of the advantages, and of V-trace; "n_step" does not use it.
      value_coef: weight of the value loss.
      entropy_coef: weight of the entropy bonus.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      rho_bar: V-trace's ρ̄, the largest importance ratio of an error.
      c_bar: V-trace's c̄, the largest importance ratio of a trace.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
    """

    learning_rate: NonNegative = 7e-4
    discount: UnitInterval = 0.99
    gae_lambda: UnitInterval = 0.95
    value_coef: NonNegative = 0.5
    entropy_coef: Any = 0.01
    max_grad_norm: NonNegative = 0.5
    rho_bar: NonNegative = 1.0
    c_bar: NonNegative = 1.0
    anneal_updates: AtLeastOne = float("inf")


def actor_critic(
    network: Any,
    *,
    advantage: str = "gae",
    num_steps: int = 5,
    num_epochs: int = 1,
    normalize_advantage: bool = False,
    optimizer: optimization.Optimizer = optimization.adam,
) -> Agent:
    """Advantage actor-critic: gradient steps on whole trajectories, values and policy in one pass.

        loss = mean(−log π(a|s) A) + value_coef · mean(½ (V(s) − y)²) − entropy_coef · mean(H(π(·|s)))

        "gae"      δ[t] = r[t] + d[t] V(s'[t]) − V(s[t]),   A[t] = δ[t] + d[t] λ (1 − done[t]) A[t+1],   y = A + V
        "n_step"   y[t] = r[t] + d[t] r[t+1] + ... + V(the state `num_steps` later, or where it was cut),  A = y − V
        "vtrace"   (y, A) = `returns.vtrace` with the ratios of the present policy to the one that acted

    with d = γ (1 − terminated) and A, y stopped. s' is the true successor, so a truncated step bootstraps from where
    its own episode stood. One-step actor-critic is "n_step" with num_steps=1 (or gae_lambda=0); A2C with n-step returns
    is a rollout of n steps and num_steps=n. V-trace makes the later ones of several epochs, and data of an older
    policy, on-policy for the value and nearly so for the policy.

    Args:
      network: an actor-critic network, with or without memory.
      advantage: "gae", "n_step" or "vtrace".
      num_steps: rewards in an n-step return.
      num_epochs: gradient steps on each trajectory.
      normalize_advantage: bring the advantages of a trajectory to mean 0 and standard deviation 1.
      optimizer: `hparams -> optax.GradientTransformation`; it sees all parameters as one flat vector.

    Returns:
      An agent with `ActorCriticHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: an unknown advantage, or a number that is not positive.

    Source: Mnih et al. 2016, arXiv:1602.01783, algorithm S3, synchronous; GAE: arXiv:1506.02438, eq. 16; V-trace:
    Espeholt et al. 2018, arXiv:1802.01561, section 4.2; one-step: Sutton & Barto (2018), section 13.5, without γᵗ.
    """
    if advantage not in ADVANTAGES:
        raise ValueError(f"advantage must be one of {', '.join(ADVANTAGES)}; got {advantage!r}")
    check_positive(num_steps=num_steps, num_epochs=num_epochs)

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> TrainState:
        return optimization.train_state(optimizer, hparams, policy_network.init(network, key, example))

    def update(key: jax.Array, state: TrainState, data: Transition) -> tuple[TrainState, Metrics]:
        chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
        hparams = state.hparams
        transform = optimizer(optimization.annealed(hparams, state.num_updates))

        def loss(params: Any) -> tuple[jax.Array, Metrics]:
            distribution, value, next_value = policy_network.evaluate(network, params, data)
            log_prob, entropy = jax.vmap(jax.vmap(policy_network.score))(distribution, data.action)
            targets = jax.lax.stop_gradient(_targets(advantage, num_steps, data, hparams, log_prob, value, next_value))
            return _loss(log_prob, entropy, value, *targets, data.mask, hparams, normalize_advantage)

        def epoch(learner: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], Metrics]:
            params, opt_state, metrics = optimization.step(transform, loss, *learner)
            return (params, opt_state), metrics

        learner, metrics = jax.lax.scan(epoch, (state.params, state.opt_state), None, num_epochs)
        return TrainState(*learner, hparams, state.num_updates + 1), jax.tree.map(jnp.mean, metrics)

    act, memory = policy_network.acting(network)
    return Agent(init, act, update, memory)


def _targets(
    kind: str,
    num_steps: int,
    data: Transition,
    hparams: Any,
    log_prob: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Advantages and value targets, [T, N] each."""
    discount = hparams.discount * (1.0 - data.terminated)
    goes_on = 1.0 - (data.terminated | data.truncated)
    if kind == "n_step":
        target = returns.n_step_returns(data.reward, discount, next_value, goes_on, num_steps)
        return target - value, target
    trace_decay = hparams.gae_lambda * goes_on
    if kind == "gae":
        advantage = returns.gae(data.reward, discount, value, next_value, trace_decay)
        return advantage, advantage + value
    log_rho = log_prob - data.aux["log_prob"]
    target, advantage = returns.vtrace(
        data.reward, discount, value, next_value, trace_decay, log_rho, hparams.rho_bar, hparams.c_bar
    )
    return advantage, target


def _loss(
    log_prob: jax.Array,
    entropy: jax.Array,
    value: jax.Array,
    advantage: jax.Array,
    target: jax.Array,
    mask: Any,
    hparams: Any,
    normalize: bool,
) -> tuple[jax.Array, Metrics]:
    """The whole loss of a trajectory [T, N], and its parts."""
    if normalize:
        advantage = losses.normalize(advantage, None if isinstance(mask, tuple) else mask)
    policy = policy_network.mean(losses.reinforce(log_prob, advantage), mask)
    error = policy_network.mean(0.5 * jnp.square(losses.td_error(value, target)), mask)
    entropy = policy_network.mean(entropy, mask)
    total = policy + hparams.value_coef * error - hparams.entropy_coef * entropy
    return total, {"loss/policy": policy, "loss/value": error, "loss/entropy": entropy}

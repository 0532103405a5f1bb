"""REINFORCE, with and without a learned baseline. Train with `rollout=purerl.loops.rollout_episodes`."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl import losses
from purerl import returns as estimators
from purerl.agents.common import optimization, policy_network
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval
from purerl.types import Agent, Metrics, TrainState, Transition

_RETURNS = {"reward_to_go": estimators.reward_to_go, "whole": estimators.whole_returns}


class ReinforceHparams(NamedTuple):
    """Hyperparameters of REINFORCE.

    Attributes:
      learning_rate: Adam's step size.
      discount: γ.
      value_coef: weight of the baseline's loss.
      entropy_coef: weight of the entropy bonus.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
    """

    learning_rate: NonNegative = 1e-3
    discount: UnitInterval = 0.99
    value_coef: NonNegative = 0.5
    entropy_coef: Any = 0.0
    max_grad_norm: NonNegative = 0.5
    anneal_updates: AtLeastOne = float("inf")


def reinforce(
    network: Any,
    *,
    returns: str = "reward_to_go",
    baseline: bool = True,
    normalize_advantage: bool = False,
    optimizer: optimization.Optimizer = optimization.adam,
) -> Agent:
    """Monte Carlo policy gradient: one gradient step on whole episodes.

        G[t] = r[t] + γ G[t+1] to the end of the episode,    w[t] = G[t], or G[0] with "whole",    minus V(s[t])

        loss = 1/(T N) Σ (−log π(a[t]|s[t]) w[t] + value_coef · ½ (V(s[t]) − G[t])² − entropy_coef · H(π(·|s[t])))

    The sum is over the steps of the N episodes. Its divisor is the same whatever their lengths, so with
    `normalize_advantage=False` the expected gradient of the first term is that of the mean return (as if γᵗ were 1 in
    the weights of states), over T.

    Args:
      network: an actor-critic network, with or without memory; without baseline its value is ignored.
      returns: "reward_to_go" weighs an action by what followed it, "whole" by the return of the whole episode.
      baseline: subtract the learned value, which changes the variance and not the expectation.
      normalize_advantage: bring the weights of a batch to mean 0 and standard deviation 1.
      optimizer: `hparams -> optax.GradientTransformation`; it sees all parameters as one flat vector.

    Returns:
      An agent with `ReinforceHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: `returns` is neither of the two; in `update`, a trajectory without a mask, whose episodes may be cut.

    Source: Williams (1992), section 6; Sutton & Barto (2018), sections 13.3 and 13.4, without their factor γᵗ.
    """
    if returns not in _RETURNS:
        raise ValueError(f"returns must be one of {', '.join(_RETURNS)}; got {returns!r}")
    estimate = _RETURNS[returns]

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> TrainState:
        return optimization.train_state(optimizer, hparams, policy_network.init(network, key, example))

    def update(key: jax.Array, state: TrainState, data: Transition) -> tuple[TrainState, Metrics]:
        chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
        if isinstance(data.mask, tuple):
            raise ValueError("REINFORCE needs whole episodes: pass rollout=purerl.loops.rollout_episodes to train")
        hparams = state.hparams
        reward = data.reward * data.mask
        discount = hparams.discount * (1.0 - (data.terminated | data.truncated))
        weight, value_target = estimate(reward, discount), estimators.reward_to_go(reward, discount)

        def loss(params: Any) -> tuple[jax.Array, Metrics]:
            distribution, value, _ = policy_network.evaluate(network, params, data)
            log_prob, entropy = jax.vmap(jax.vmap(policy_network.score))(distribution, data.action)
            advantage = weight - jax.lax.stop_gradient(value) if baseline else weight
            advantage = losses.normalize(advantage, data.mask) if normalize_advantage else advantage
            policy = (losses.reinforce(log_prob, advantage) * data.mask).mean()
            error = (0.5 * jnp.square(losses.td_error(value, value_target)) * data.mask).mean()
            entropy = (entropy * data.mask).mean()
            total = policy - hparams.entropy_coef * entropy + (hparams.value_coef * error if baseline else 0.0)
            return total, {"loss/policy": policy, "loss/value": error, "loss/entropy": entropy}

        return optimization.descend(optimizer, loss, state)

    act, memory = policy_network.acting(network)
    return Agent(init, act, update, memory)

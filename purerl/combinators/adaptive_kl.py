"""A penalty on the KL between old and new policy whose coefficient follows the KL: the other PPO."""

from __future__ import annotations

from typing import NamedTuple

import jax

from purerl import losses
from purerl.combinators import _inner
from purerl.hparams import AtLeastOne, NonNegative, Positive, UnitInterval, get_hparams, set_hparams
from purerl.once import build_once
from purerl.types import Agent, Hparams, Key, Metrics, PyTree, Scalar, State


class KLPenaltyHparams(NamedTuple):
    """`PPOHparams` for a penalty on the KL in place of the clipped ratio.

    Attributes:
      kl_coef: where the price β of a nat of KL(π_old ‖ π) starts.
      kl_target: the KL that an update should make, in nats.
    """

    learning_rate: NonNegative = 2.5e-4
    discount: UnitInterval = 0.99
    gae_lambda: UnitInterval = 0.95
    clip_epsilon: NonNegative = 0.2
    value_coef: NonNegative = 0.5
    entropy_coef: Scalar = 0.01
    max_grad_norm: NonNegative = 0.5
    value_clip_epsilon: NonNegative = 0.2
    anneal_updates: AtLeastOne = float("inf")
    target_kl: NonNegative = float("inf")
    kl_coef: NonNegative = 1.0
    kl_target: Positive = 0.01


class AdaptiveKLState(NamedTuple):
    """The wrapped agent's state, whose hyperparameters hold the present coefficient."""

    agent: State


def kl_penalized_policy_loss(
    log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, hparams: Hparams
) -> jax.Array:
    """-ρ A + β k3, with k3 the estimate of KL(π_old ‖ π) from actions of π_old, [...]; `policy_loss` of `ppo`."""
    kl = losses.kl_estimate(jax.lax.stop_gradient(old_log_prob), log_prob, "k3")
    return losses.kl_penalized_surrogate(log_prob, old_log_prob, advantage, kl, hparams.kl_coef)


@build_once
def with_adaptive_kl(agent: Agent) -> Agent:
    """Halve or double the agent's `kl_coef` after an update whose KL left the band around `kl_target`.

    β/2 where KL < kl_target / 1.5, 2β where KL > 1.5 · kl_target; the KL is the metric `loss/approx_kl`, the mean over
    the update's minibatches. The coefficient is a hyperparameter in the agent's state, so it is saved, restored and
    vmapped with the others.

    Args:
      agent: one whose loss reads `kl_coef`, such as `ppo(network, policy_loss=kl_penalized_policy_loss)`.

    Returns:
      An agent for `KLPenaltyHparams`, or any NamedTuple with the fields; its metrics have `loss/kl_coef`.

    Raises:
      TypeError: `agent` is not a `purerl.Agent`.
      KeyError: in `update`, the agent has no metric `loss/approx_kl`.

    Source: Schulman et al. 2017, "Proximal policy optimization", section 4.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.make("CartPole-v1")
      >>> network = purerl.networks.actor_critic(env)
      >>> agent = with_adaptive_kl(purerl.ppo(network, policy_loss=kl_penalized_policy_loss))
      >>> state = jax.eval_shape(agent.init, jax.random.key(0), KLPenaltyHparams(), env.reset(jax.random.key(0))[0])
      >>> state.agent.hparams.kl_coef.shape
      ()
    """
    _inner.check_agent(agent, "with_adaptive_kl")

    def init(key: Key, hparams: Hparams, example: PyTree, num_envs: int = 1) -> AdaptiveKLState:
        return AdaptiveKLState(agent.init(key, hparams, example, num_envs))

    def update(key: Key, state: AdaptiveKLState, data: PyTree) -> tuple[AdaptiveKLState, Metrics]:
        inner, metrics = agent.update(key, state.agent, data)
        hparams = get_hparams(inner)
        adapted = losses.adaptive_kl_coef(hparams.kl_coef, metrics["loss/approx_kl"], hparams.kl_target)
        inner = set_hparams(inner, hparams._replace(kl_coef=adapted))
        return AdaptiveKLState(inner), metrics | {"loss/kl_coef": hparams.kl_coef}

    return Agent(init, _inner.act(agent), update, _inner.memory(agent), agent.requires, _inner.cut(agent), agent.check)

"""GSPO and CISPO: the advantages of GRPO with another importance weight, of whole sequences or without a dead zone."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from purerl import losses
from purerl.agents.common import optimization
from purerl.once import build_once
from purerl.rlhf.group_policy import group_relative
from purerl.rlhf.policy import KLKind, check_kl, policy_agent
from purerl.rlhf.texts import Texts, clip_bounds, drift, token_log_probs
from purerl.types import Agent, Hparams, Metrics, Network, Params


@build_once
def gspo(
    network: Network,
    group_size: int | None = None,
    *,
    scale: bool = True,
    kl_kind: KLKind = "k3",
    num_epochs: int = 1,
    num_minibatches: int = 1,
    optimizer: optimization.Optimizer = optimization.tree_adam,
) -> Agent:
    """Group sequence policy optimization: one length-normalized ratio per completion is clipped, not one per token.

    A_i = (R_i - mean) / (std + 1e-4) over the group, s_i = exp(mean over its tokens of log π - log π_old); the loss is
    the mean over completions of -min(s_i A_i, clip(s_i, 1 - ε, 1 + ε_high) A_i) + β mean over tokens of
    kl_estimate(log π, log π_ref).

    Args:
      network: returns logits.
      group_size, scale, kl_kind: as in `grpo`.
      num_epochs, num_minibatches, optimizer: as in `ppo`.

    Returns:
      An agent with `RLHFHparams`. The ratios are near 1: the paper has `clip_epsilon=3e-4, clip_epsilon_high=4e-4`.

    Raises:
      ValueError: `group_size` below 2; in `update`, the rollout's groups have another size, or only one completion.

    Source: Zheng et al. 2025, "Group sequence policy optimization", equations 5 to 7.

    Examples:
      >>> import purerl
      >>> from purerl import rlhf
      >>> network = rlhf.table_network(vocab_size=4, length=2, order=1)
      >>> env = rlhf.token_env([[0]], lambda tokens, mask: jnp.sum(tokens), 2, eos_id=-1, pad_id=-1)
      >>> rollout = rlhf.token_rollout(network, eos_id=-1, pad_id=-1, group_size=2)
      >>> sizes = {"num_updates": 3, "num_envs": 4, "rollout_length": 2, "rollout": rollout}
      >>> agent, hparams = rlhf.gspo(network), rlhf.RLHFHparams(clip_epsilon=3e-4)
      >>> _, metrics = jax.eval_shape(lambda key: purerl.train(key, agent, env, hparams, **sizes), jax.random.key(0))
      >>> metrics["rlhf/reward"].shape
      (3,)
    """
    check_kl("loss", kl_kind)

    def loss(params: Params, texts: Texts, hparams: Hparams) -> tuple[jax.Array, Metrics]:
        log_prob, count = token_log_probs(network, params, texts), jnp.sum(texts.completion, axis=1)
        advantage = jnp.sum(texts.advantage, axis=1) / jnp.maximum(count, 1)  # the same on each token: [N, W] -> [N]
        bounds = clip_bounds(hparams)
        total = losses.gspo(log_prob, texts.old_log_prob, advantage, texts.completion, *bounds).mean()
        total += hparams.beta * _penalty(log_prob, texts, kl_kind, "grpo")
        return total, {"loss/policy": total} | drift(log_prob, texts, hparams)

    prepare = group_relative("gspo", group_size, scale)
    return policy_agent(network, prepare, loss, num_epochs, num_minibatches, optimizer)


@build_once
def cispo(
    network: Network,
    group_size: int | None = None,
    *,
    scale: bool = True,
    kl_kind: KLKind = "k3",
    num_epochs: int = 1,
    num_minibatches: int = 1,
    optimizer: optimization.Optimizer = optimization.tree_adam,
) -> Agent:
    """CISPO: REINFORCE with an importance weight that is clipped from above, so that no token loses its gradient.

    A_i = (R_i - mean) / (std + 1e-4) over the group; the loss is the mean over all tokens of
    -min(ρ, 1 + ε_high) A_i log π + β kl_estimate(log π, log π_ref), with ρ = π / π_old without gradient.

    Args:
      network: returns logits.
      group_size, scale, kl_kind: as in `grpo`.
      num_epochs, num_minibatches, optimizer: as in `ppo`.

    Returns:
      An agent with `RLHFHparams`, of which it reads `clip_epsilon_high`, and `clip_epsilon` if that is infinite.

    Raises:
      ValueError: `group_size` below 2; in `update`, the rollout's groups have another size, or only one completion.

    Source: MiniMax 2025, "MiniMax-M1", equations 4 and 5.

    Examples:
      >>> import purerl
      >>> from purerl import rlhf
      >>> network = rlhf.table_network(vocab_size=4, length=2, order=1)
      >>> env = rlhf.token_env([[0]], lambda tokens, mask: jnp.sum(tokens), 2, eos_id=-1, pad_id=-1)
      >>> rollout = rlhf.token_rollout(network, eos_id=-1, pad_id=-1, group_size=2)
      >>> sizes = {"num_updates": 3, "num_envs": 4, "rollout_length": 2, "rollout": rollout}
      >>> agent, hparams = rlhf.cispo(network), rlhf.RLHFHparams(clip_epsilon_high=2.0)
      >>> _, metrics = jax.eval_shape(lambda key: purerl.train(key, agent, env, hparams, **sizes), jax.random.key(0))
      >>> metrics["rlhf/reward"].shape
      (3,)
    """
    check_kl("loss", kl_kind)

    def loss(params: Params, texts: Texts, hparams: Hparams) -> tuple[jax.Array, Metrics]:
        log_prob, (_, highest) = token_log_probs(network, params, texts), clip_bounds(hparams)
        each = losses.cispo(log_prob, texts.old_log_prob, texts.advantage, highest, mask=texts.completion)
        total = losses.aggregate_tokens(each, texts.completion, "dapo")
        total += hparams.beta * _penalty(log_prob, texts, kl_kind, "dapo")
        return total, {"loss/policy": total} | drift(log_prob, texts, hparams)

    prepare = group_relative("cispo", group_size, scale)
    return policy_agent(network, prepare, loss, num_epochs, num_minibatches, optimizer)


def _penalty(log_prob: jax.Array, texts: Texts, kl_kind: KLKind, aggregation: str) -> jax.Array:
    """The mean of the estimates of the KL to the reference."""
    estimate = losses.kl_estimate(log_prob, texts.ref_log_prob, kl_kind)
    return losses.aggregate_tokens(estimate, texts.completion, aggregation)

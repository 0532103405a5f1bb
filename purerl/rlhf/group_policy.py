"""Policy gradients whose baseline is the group: RLOO and GRPO compare completions of one prompt with each other.

Which completions belong together travels with the data: `token_rollout` writes the group of each one into the
trajectory.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from purerl import losses
from purerl.agents.common import optimization
from purerl.once import build_once
from purerl.rlhf.policy import KLKind, Prepare, check_kl, policy_agent
from purerl.rlhf.texts import Texts, drift, spread, surrogate
from purerl.types import Agent, Hparams, Metrics, Network, Params


@build_once
def rloo(
    network: Network,
    group_size: int | None = None,
    *,
    num_epochs: int = 1,
    num_minibatches: int = 1,
    optimizer: optimization.Optimizer = optimization.tree_adam,
) -> Agent:
    """REINFORCE with a leave-one-out baseline, the KL inside the reward, unbiased for E[R] - β KL(π ‖ π_ref).

    ρ_i = R_i - β (log π(y_i) - log π_ref(y_i)), A_i = ρ_i - mean of the other ρ of its prompt; the loss is the mean
    over texts of A_i's clipped surrogate, summed over tokens: with one epoch and one minibatch, -A_i log π(y_i).

    Args:
      network: returns logits (values beside them are ignored).
      group_size: completions per prompt; None takes those of the rollout, any other number must equal them.
      num_epochs, num_minibatches, optimizer: as in `ppo`.

    Returns:
      An agent for `train(..., rollout=token_rollout(network, ..., group_size=...))`.

    Raises:
      ValueError: `group_size` below 2; in `update`, the rollout's groups have another size, or only one completion.

    Source: Ahmadian et al. 2024, section 2.2.

    Examples:
      >>> import purerl
      >>> from purerl import rlhf
      >>> network = rlhf.table_network(vocab_size=4, length=2, order=1)
      >>> env = rlhf.token_env([[0]], lambda tokens, mask: jnp.sum(tokens), 2, eos_id=-1, pad_id=-1)
      >>> rollout = rlhf.token_rollout(network, eos_id=-1, pad_id=-1, group_size=2)
      >>> sizes = {"num_updates": 3, "num_envs": 4, "rollout_length": 2, "rollout": rollout}
      >>> agent, hparams = rlhf.rloo(network), rlhf.RLHFHparams(kl_target=1.0)
      >>> _, metrics = jax.eval_shape(lambda key: purerl.train(key, agent, env, hparams, **sizes), jax.random.key(0))
      >>> metrics["rlhf/beta"].shape
      (3,)
    """
    _check_group_size("rloo", group_size)

    def prepare(params: Params, texts: Texts, group: jax.Array, hparams: Hparams) -> Texts:
        _check_groups("rloo", group, group_size)
        reward, old, ref = (jnp.sum(x, axis=1) for x in (texts.reward, texts.old_log_prob, texts.ref_log_prob))
        penalized = losses.kl_penalized_reward(reward, old, ref, hparams.beta)
        return spread(texts, within_groups(losses.leave_one_out_advantages, penalized, group))

    def loss(params: Params, texts: Texts, hparams: Hparams) -> tuple[jax.Array, Metrics]:
        log_prob, policy = surrogate(network, params, texts, hparams)
        policy = losses.aggregate_tokens(policy, texts.completion, "dr_grpo", max_length=1)
        return policy, {"loss/policy": policy} | drift(log_prob, texts, hparams)

    return policy_agent(network, prepare, loss, num_epochs, num_minibatches, optimizer)


@build_once
def grpo(
    network: Network,
    group_size: int | None = None,
    *,
    scale: bool = True,
    aggregation: str = "grpo",
    max_length: int | None = None,
    kl_kind: KLKind = "k3",
    num_epochs: int = 1,
    num_minibatches: int = 1,
    optimizer: optimization.Optimizer = optimization.tree_adam,
) -> Agent:
    """Group-relative policy optimisation: rewards normalised within their prompt's group, the KL in the loss.

    A_i = (R_i - mean) / (std + 1e-4) over the group; a token's loss is its clipped surrogate with A_i, plus
    β kl_estimate(log π, log π_ref). With k3, the paper's choice, the gradient of that term is that of a token's
    KL(π_ref ‖ π); the optimum is then not π_ref exp(r / β) / Z.

    Args:
      network: returns logits.
      group_size: completions per prompt; None takes those of the rollout, any other number must equal them.
      scale: divide by the standard deviation; False is Dr. GRPO's advantage.
      aggregation: how the texts' tokens are averaged: "grpo", "dapo" or "dr_grpo", see `losses.aggregate_tokens`.
      max_length: the constant of "dr_grpo", such as the environment's `max_length`; None takes the texts' width.
      kl_kind: "k1" (regularises nothing), "k2" or "k3".
      num_epochs, num_minibatches, optimizer: as in `ppo`.

    Raises:
      ValueError: `group_size` below 2; in `update`, the rollout's groups have another size, or only one completion.

    Source: Shao et al. 2024, equations 3 and 4.

    Examples:
      >>> import purerl
      >>> from purerl import rlhf
      >>> network = rlhf.table_network(vocab_size=4, length=2, order=1)
      >>> env = rlhf.token_env([[0]], lambda tokens, mask: jnp.sum(tokens), 2, eos_id=-1, pad_id=-1)
      >>> rollout = rlhf.token_rollout(network, eos_id=-1, pad_id=-1, group_size=2)
      >>> sizes = {"num_updates": 3, "num_envs": 4, "rollout_length": 2, "rollout": rollout}
      >>> agent, hparams = rlhf.grpo(network), rlhf.RLHFHparams(kl_target=1.0)
      >>> _, metrics = jax.eval_shape(lambda key: purerl.train(key, agent, env, hparams, **sizes), jax.random.key(0))
      >>> metrics["rlhf/beta"].shape
      (3,)
    """
    check_kl("loss", kl_kind)
    prepare = group_relative("grpo", group_size, scale)

    def loss(params: Params, texts: Texts, hparams: Hparams) -> tuple[jax.Array, Metrics]:
        log_prob, policy = surrogate(network, params, texts, hparams)
        policy += hparams.beta * losses.kl_estimate(log_prob, texts.ref_log_prob, kl_kind)
        total = losses.aggregate_tokens(policy, texts.completion, aggregation, max_length)
        return total, {"loss/policy": total} | drift(log_prob, texts, hparams)

    return policy_agent(network, prepare, loss, num_epochs, num_minibatches, optimizer)


def group_relative(agent: str, group_size: int | None, scale: bool) -> Prepare:
    """Advantages of GRPO for `policy_agent`: rewards relative to those of the same prompt.

    Args:
      agent: its name, for messages.
      group_size: completions per prompt; None takes those of the rollout.
      scale: divide by the standard deviation of the group.

    Raises:
      ValueError: `group_size` below 2; when called, the rollout's groups have another size, or only one completion.
    """
    _check_group_size(agent, group_size)

    def prepare(params: Params, texts: Texts, group: jax.Array, hparams: Hparams) -> Texts:
        _check_groups(agent, group, group_size)
        reward = jnp.sum(texts.reward, axis=1)  # [N, W] -> [N]
        return spread(texts, within_groups(lambda r: losses.group_advantages(r, scale), reward, group))

    return prepare


def within_groups(function: Callable[[jax.Array], jax.Array], x: jax.Array, group: jax.Array) -> jax.Array:
    """[N]: each entry's own value of `function`, which takes the entries of a group, [..., G] -> [..., G].

    Args:
      function: such as `losses.group_advantages`.
      x: [N].
      group: [N, G] int32, the rows of each row's group, the row itself among them.

    Examples:
      >>> group = jnp.array([[0, 2], [1, 3], [0, 2], [1, 3]])
      >>> within_groups(lambda r: r - r.mean(axis=-1, keepdims=True), jnp.array([1.0, 5.0, 3.0, 5.0]), group).tolist()
      [-1.0, 0.0, 1.0, 0.0]
    """
    every = function(x[group])  # [N] -> [N, G]
    own = jnp.argmax(group == jnp.arange(group.shape[0])[:, None], axis=1)
    return jnp.take_along_axis(every, own[:, None], axis=1)[:, 0]


def _check_group_size(agent: str, group_size: int | None) -> None:
    if group_size is not None and group_size < 2:
        raise ValueError(f"{agent}: group_size = {group_size}, but a group needs at least 2 completions")


def _check_groups(agent: str, group: jax.Array, expected: int | None) -> None:
    size = group.shape[1]
    if size < 2:
        raise ValueError(
            f"{agent} compares completions of one prompt, but the rollout wrote groups of {size}: pass "
            "group_size= to rlhf.token_rollout"
        )
    if expected is not None and expected != size:
        raise ValueError(f"{agent}: group_size = {expected}, but the rollout wrote groups of {size}")

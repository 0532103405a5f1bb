"""A trajectory of generated tokens as whole texts, and the terms that losses of policies make of them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl import losses
from purerl.agents.common import trajectories
from purerl.rlhf.models import logits_of, value_of
from purerl.rlhf.rollouts import Prompt
from purerl.types import Hparams, Metrics, Network, Params, PyTree, Scalar, Transition


class Texts(NamedTuple):
    """A trajectory as N whole texts of W = L + C tokens; numbers stand at the column of their own token.

    Attributes:
      tokens, mask: [N, W], and where they are not padding.
      completion: [N, W] bool, the tokens that the policy wrote: no prompt, no user's reply, no padding.
      old_log_prob, ref_log_prob: [N, W], 0 outside the completion.
      reward: [N, W] the environment's, 0 outside the completion.
      advantage, old_value, value_target: [N, W].
    """

    tokens: jax.Array
    mask: jax.Array
    completion: jax.Array
    old_log_prob: jax.Array
    ref_log_prob: jax.Array
    reward: jax.Array
    advantage: PyTree = ()
    old_value: PyTree = ()
    value_target: PyTree = ()


def from_trajectory(network: Network, ref_params: Params, data: Transition) -> Texts:
    """A trajectory [C, N] of `token_rollout` as texts, with the reference's log-probabilities.

    Raises:
      ValueError: another rollout made the trajectory, or its steps have weights.
    """
    if not isinstance(data.memory, Prompt):
        raise ValueError(
            "this agent learns from whole texts: pass rollout=rlhf.token_rollout(network, ...) to purerl.train"
        )
    trajectories.refuse_weight(data, "this agent, which learns from whole texts,")
    prompt = data.memory
    counted = data.mask.T != 0  # [C, N] -> [N, C]
    written = data.aux["written"].T if "written" in data.aux else counted

    def beside(prompt_part: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.concatenate([prompt_part, x], axis=1)  # [N, L], [N, C] -> [N, W]

    def number(x: jax.Array) -> jax.Array:
        x = jnp.where(counted, x.T, 0.0)  # whatever stands on other tokens, NaN too, never counts
        return beside(jnp.zeros(prompt.mask.shape, x.dtype), x)

    texts = Texts(
        tokens=beside(prompt.tokens, data.action.T),
        mask=beside(prompt.mask, written),
        completion=beside(jnp.zeros_like(prompt.mask), counted),
        old_log_prob=number(data.aux["log_prob"]),
        ref_log_prob=(),  # type: ignore[arg-type]
        reward=number(data.reward),
    )
    return texts._replace(ref_log_prob=token_log_probs(network, ref_params, texts))


def run(network: Network, params: Params, texts: Texts) -> PyTree:
    """The network's output on every text: logits [N, W, V], with values [N, W] or without."""
    return jax.vmap(lambda tokens, mask: network.apply(params, tokens, mask))(texts.tokens, texts.mask)


def token_log_probs(network: Network, params: Params, texts: Texts) -> jax.Array:
    """[N, W]: the log-probability of each completion token at its own column, 0 elsewhere."""
    if hasattr(network, "token_log_probs"):
        columns = texts.tokens, texts.mask, texts.completion
        return jax.vmap(lambda *text: network.token_log_probs(params, *text))(*columns)
    return losses.token_log_probs(logits_of(run(network, params, texts)), texts.tokens, texts.completion)


def values_before(values: jax.Array) -> jax.Array:
    """[N, W]: at each token's column the value of the text before it."""
    return jnp.pad(values[:, :-1], ((0, 0), (1, 0)))


def shifted_values(network: Network, params: Params, texts: Texts) -> jax.Array:
    """[N, W]: at each token's column the network's value of the text before it."""
    return values_before(value_of(run(network, params, texts)))


def next_own(completion: jax.Array) -> jax.Array:
    """[N, W] int32: the column of the policy's next token behind each column, W if there is none.

    Examples:
      >>> next_own(jnp.array([[False, True, False, False, True]])).tolist()  # its own tokens are at 1 and 4
      [[1, 4, 4, 4, 5]]
    """
    width = completion.shape[1]
    own = jnp.where(completion, jnp.arange(width, dtype=jnp.int32)[None], width)
    at_or_behind = jax.lax.cummin(own, axis=1, reverse=True)
    return jnp.pad(at_or_behind[:, 1:], ((0, 0), (0, 1)), constant_values=width)


def surrogate(network: Network, params: Params, texts: Texts, hparams: Hparams) -> tuple[jax.Array, jax.Array]:
    """Log-probability and clipped surrogate of each token, [N, W]."""
    log_prob, bounds = token_log_probs(network, params, texts), clip_bounds(hparams)
    return log_prob, losses.clipped_surrogate(log_prob, texts.old_log_prob, texts.advantage, *bounds)


def clip_bounds(hparams: Hparams) -> tuple[Scalar, Scalar]:
    """How far a ratio may go below and above 1: `clip_epsilon`, and `clip_epsilon_high` if it is finite."""
    low, high = hparams.clip_epsilon, getattr(hparams, "clip_epsilon_high", jnp.inf)
    return low, jnp.where(jnp.isfinite(high), high, low)


def spread(texts: Texts, advantage: jax.Array) -> Texts:
    """The texts with their advantages [N] at each of their completion tokens."""
    return texts._replace(advantage=jnp.where(texts.completion, advantage[:, None], 0.0))


def token_mean(loss: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over the completion tokens of all texts."""
    return losses.aggregate_tokens(loss, mask, "dapo")


def drift(log_prob: jax.Array, texts: Texts, hparams: Hparams) -> Metrics:
    """How far the policy has moved from the one that wrote the texts."""
    ratio = jnp.exp(log_prob - texts.old_log_prob)
    return {
        "loss/approx_kl": token_mean(losses.kl_estimate(texts.old_log_prob, log_prob), texts.completion),
        "loss/clip_fraction": token_mean(1.0 * (jnp.abs(ratio - 1) > hparams.clip_epsilon), texts.completion),
    }

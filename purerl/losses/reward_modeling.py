"""Losses that fit a scalar reward to comparisons, and the strengths of players from a win matrix.

Each comparison has a loss of its own; nothing is averaged here. Rewards are unitless logits: a difference of 1 means
odds of e.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np

from purerl.returns.recursion import same_shape

_ABSENT = -1e30  # in place of a masked reward: finite, so that no gradient meets infinity minus infinity


def logistic_loss(logit: jax.Array, label_smoothing: jax.Array | float = 0.0) -> jax.Array:
    """Cross-entropy of a label that is right with probability 1 - ε: -(1 - ε) log σ(z) - ε log σ(-z).

    d/dz = σ(z) - (1 - ε). Finite for every finite z.

    Args:
      logit: [...] z, log-odds that the first is preferred.
      label_smoothing: ε in [0, 1/2], the share of labels believed to be flipped.

    Returns:
      [...], nats.
    """
    logit = jnp.asarray(logit)
    chex.assert_type(logit, float)
    right, wrong = jax.nn.softplus(-logit), jax.nn.softplus(logit)
    return (1 - label_smoothing) * right + label_smoothing * wrong


def bradley_terry(
    chosen_rewards: jax.Array,
    rejected_rewards: jax.Array,
    margin: jax.Array | float = 0.0,
    label_smoothing: jax.Array | float = 0.0,
) -> jax.Array:
    """Negative log-likelihood of a pair: -(1 - ε) log σ(d) - ε log σ(-d), d = r(y⁺) - r(y⁻) - margin.

    dL/dr(y⁺) = σ(d) - (1 - ε) = -dL/dr(y⁻). Rewards are determined up to a constant, which `reward_centering` fixes.

    Args:
      chosen_rewards, rejected_rewards: [...] rewards of the two completions of a pair.
      margin: scalar or [...]: by how much the chosen one was better (Llama 2, equation 2; TRL's column `margin`).
      label_smoothing: ε, the probability that a label is flipped.

    Returns:
      [...], nats.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: nothing is stopped.

    Source: Bradley and Terry 1952; Ouyang et al. 2022 (InstructGPT), equation 1, for K = 2.

    Examples:
      >>> from purerl import losses
      >>> [round(x, 3) for x in losses.bradley_terry(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])).tolist()]
      [0.313, 1.313]
    """
    chosen, rejected = jnp.asarray(chosen_rewards), jnp.asarray(rejected_rewards)
    same_shape(chosen_rewards=chosen, rejected_rewards=rejected)
    chex.assert_type([chosen, rejected], float)
    if jnp.ndim(margin):
        same_shape(chosen_rewards=chosen, margin=margin)
    return logistic_loss(chosen - rejected - margin, label_smoothing)


def reward_centering(chosen_rewards: jax.Array, rejected_rewards: jax.Array) -> jax.Array:
    """Penalty on a pair's mean reward away from zero: (r(y⁺) + r(y⁻))², to be scaled and added to `bradley_terry`.

    Its gradient is 2 (r(y⁺) + r(y⁻)) with respect to either reward.

    Args:
      chosen_rewards, rejected_rewards: [...] rewards of the two completions of a pair.

    Returns:
      [...] penalties.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: nothing is stopped.

    Source: Eisenstein et al. 2023, equation 2; TRL's `center_rewards_coefficient`, there 0.01 when used.

    Examples:
      >>> from purerl import losses
      >>> print(losses.reward_centering(jnp.array([1.0]), jnp.array([2.0])))
      [9.]
    """
    chosen, rejected = jnp.asarray(chosen_rewards), jnp.asarray(rejected_rewards)
    same_shape(chosen_rewards=chosen, rejected_rewards=rejected)
    chex.assert_type([chosen, rejected], float)
    return jnp.square(chosen + rejected)


def plackett_luce(rewards: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Negative log-likelihood of a ranking: Σ_k (log Σ_{j≥k} exp r_j - r_k).

    For two items this is `bradley_terry`. dL/dr_i = Σ_{k≤i} exp r_i / Σ_{j≥k} exp r_j - 1.

    Args:
      rewards: [..., K], ranked best to worst on the last axis.
      mask: [..., K], 0 for an absent item, at any place; None: all are present.

    Returns:
      [...], nats; 0 with fewer than two items.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: nothing is stopped.

    Source: Plackett 1975; Rafailov et al. 2023 (DPO), equation 18.

    Examples:
      >>> from purerl import losses
      >>> print(losses.plackett_luce(jnp.array([[0.0, 0.0, 0.0]])).round(3))  # three equal items: log 3!
      [1.792]
    """
    rewards, present = _ranked(rewards, mask)
    log_normalizer = jax.lax.cumlogsumexp(rewards, axis=rewards.ndim - 1, reverse=True)
    return jnp.sum(jnp.where(present, log_normalizer - rewards, 0.0), axis=-1)


def pairwise_ranking(rewards: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Mean Bradley-Terry loss over all pairs of a ranking: -(1 / C(K, 2)) Σ_{i<j} log σ(r_i - r_j).

    dL/dr_i = (Σ_{j<i} σ(r_i - r_j) - Σ_{j>i} σ(r_j - r_i)) / C(K, 2).

    Args:
      rewards: [..., K], ranked best to worst on the last axis.
      mask: [..., K], 0 for an absent item; the mean is over pairs of present items. None: all are present.

    Returns:
      [...], nats a pair; 0 with fewer than two items.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: nothing is stopped.

    Source: Ouyang et al. 2022 (InstructGPT), equation 1.

    Examples:
      >>> from purerl import losses
      >>> [round(x, 3) for x in losses.pairwise_ranking(jnp.array([[0.0, 0.0, 0.0]])).tolist()]
      [0.693]
    """
    rewards, present = _ranked(rewards, mask)
    better, worse = np.triu_indices(rewards.shape[-1], k=1)
    pair = present[..., better] & present[..., worse]
    loss = jax.nn.softplus(jnp.where(pair, rewards[..., worse] - rewards[..., better], 0.0))
    return jnp.sum(jnp.where(pair, loss, 0.0), axis=-1) / jnp.maximum(jnp.sum(pair, axis=-1), 1)


def _ranked(rewards: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    rewards = jnp.asarray(rewards)
    chex.assert_type(rewards, float)
    present = jnp.ones(rewards.shape, bool) if mask is None else jnp.asarray(mask) != 0
    same_shape(rewards=rewards, mask=present)
    rewards = rewards.astype(jnp.promote_types(rewards.dtype, jnp.float32))
    return jnp.where(present, rewards, _ABSENT), present


def segment_preference(
    rewards_1: jax.Array,
    rewards_2: jax.Array,
    preference: jax.Array,
    mask_1: jax.Array | None = None,
    mask_2: jax.Array | None = None,
    error_rate: jax.Array | float = 0.0,
) -> jax.Array:
    """Cross-entropy of a preference between two pieces of trajectories, by a labeler who sometimes errs.

    d = Σ_t r¹_t - Σ_t r²_t (undiscounted, over the masks), q = (1 - e) σ(d) + e / 2;
    loss = -μ log q - (1 - μ) log(1 - q); every counted reward of segment 1 has the gradient
    (1 - e) σ(d) σ(-d) (q - μ) / (q (1 - q)), of segment 2 its negative: it fades where an answer looks like an error.
    Two empty segments give d = 0, a loss of log 2 and no gradient.

    Args:
      rewards_1, rewards_2: [..., T] predicted rewards of the steps of segment 1 and 2; the T may differ.
      preference: [...] μ, the probability that segment 1 is preferred, or a label of 1 or 0; 1/2 is a tie.
      mask_1, mask_2: [..., T], 0 on steps that do not count (after an episode's end); None: all count.
      error_rate: e in [0, 1), the probability that the labeler answers at random; not meant to be differentiated.

    Returns:
      [...], nats.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: nothing is stopped.

    Source: Christiano et al. 2017, section 2.2.3, equation 1, and the 10% error model of its third point.

    Examples:
      >>> from purerl import losses
      >>> rewards_1, rewards_2 = jnp.array([[1.0, 1.0]]), jnp.array([[0.0, 1.0]])
      >>> [round(x, 3) for x in losses.segment_preference(rewards_1, rewards_2, preference=jnp.array([1.0])).tolist()]
      [0.313]
    """
    total_1, total_2 = _segment_sum(rewards_1, mask_1), _segment_sum(rewards_2, mask_2)
    preference = jnp.asarray(preference)
    names = "rewards_1 without its last axis", "rewards_2 without its last axis", "preference"
    same_shape(**dict(zip(names, (total_1, total_2, preference))))
    difference = total_1 - total_2
    if not jnp.issubdtype(preference.dtype, jnp.floating):  # 1 - μ of a bool or of unsigned integers is not a number
        preference = preference.astype(difference.dtype)
    right, random = jnp.log1p(-jnp.asarray(error_rate)), jnp.log(jnp.asarray(error_rate) / 2)
    log_first = jnp.logaddexp(right + jax.nn.log_sigmoid(difference), random)
    log_second = jnp.logaddexp(right + jax.nn.log_sigmoid(-difference), random)
    return -preference * log_first - (1 - preference) * log_second


def _segment_sum(rewards: jax.Array, mask: jax.Array | None) -> jax.Array:
    rewards = jnp.asarray(rewards)
    chex.assert_type(rewards, float)
    if mask is None:
        return jnp.sum(rewards, axis=-1)
    same_shape(rewards=rewards, mask=mask)
    return jnp.sum(jnp.where(jnp.asarray(mask) != 0, rewards, 0.0), axis=-1)


def bradley_terry_strengths(
    wins: jax.Array, prior: jax.Array | float = 0.0, tolerance: float = 1e-6, max_iterations: int = 10_000
) -> jax.Array:
    """Maximum-likelihood log-strengths θ of n players from a table of wins, P(i beats j) = σ(θ_i - θ_j).

    Minorize-maximize: exp θ_i ← (Σ_j w_ij + p) / (Σ_j (w_ij + w_ji) / (exp θ_i + exp θ_j) + 2p / (exp θ_i + 1)), all
    players at once, until observed and expected wins agree to `tolerance` (relative) or `max_iterations` are done.

    Args:
      wins: [n, n], w_ij how often i beat j; the diagonal is ignored. Fractions stand for ties.
      prior: p, imaginary wins and losses of each player against one of strength θ = 0. With 0 this is maximum
        likelihood, which exists only if no group of players has won (or lost) every game against the rest.
      tolerance: relative difference of observed and expected wins at which to stop.
      max_iterations: limit on the number of iterations.

    Returns:
      [n] log-strengths, of mean 0 if `prior` is 0; one player alone has the strength 0.

    Raises:
      ValueError: `prior` is 0, `wins` is concrete, and the maximum does not exist.

    Source: Hunter 2004, equation 3; Ford 1957 for when it exists.

    Examples:
      >>> from purerl import losses
      >>> strengths = losses.bradley_terry_strengths(jnp.array([[0, 3], [1, 0]]))
      >>> round(float(strengths[0] - strengths[1]), 3)  # log 3
      1.099
    """
    chex.assert_rank(wins, 2)
    chex.assert_equal(*np.shape(wins))
    if not isinstance(wins, jax.core.Tracer) and not isinstance(prior, jax.core.Tracer) and np.all(prior == 0):
        _check_connected(np.asarray(wins))
    table = jnp.asarray(wins, dtype=jnp.promote_types(jnp.result_type(wins), jnp.float32))
    if table.shape[0] < 2:
        return jnp.zeros(table.shape[:1], table.dtype)
    prior = jnp.asarray(prior, table.dtype)
    table = table * (1 - jnp.eye(table.shape[0], dtype=table.dtype))
    games, observed = table + table.T, jnp.sum(table, axis=1) + prior

    def improve(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        theta, _, iteration = carry
        expected = jnp.sum(games * jax.nn.sigmoid(theta[:, None] - theta), axis=1) + 2 * prior * jax.nn.sigmoid(theta)
        change = jnp.log(observed) - jnp.log(expected)
        theta = theta + change
        centred = theta - jnp.where(prior > 0, 0.0, jnp.mean(theta))
        return centred, jnp.max(jnp.abs(change)), iteration + 1

    def unfinished(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return (carry[1] > tolerance) & (carry[2] < max_iterations)

    start = (jnp.zeros_like(observed), jnp.full_like(observed[0], jnp.inf), jnp.asarray(0, jnp.int32))
    return jax.lax.while_loop(unfinished, improve, start)[0]


def _check_connected(wins: np.ndarray) -> None:
    reach = (wins > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(len(wins).bit_length()):
        reach = (reach.astype(np.float32) @ reach.astype(np.float32)) > 0
    if not reach.all():
        i, j = np.argwhere(~reach)[0]
        raise ValueError(
            f"wins: no chain of wins leads from player {i} to player {j}, so no maximum of the likelihood exists; "
            "give a prior > 0 (imaginary wins and losses) or more games"
        )

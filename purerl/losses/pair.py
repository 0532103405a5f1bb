"""Direct losses of preference that move each completion of a pair by itself, or a batch of them as a distribution.

Notation: ρ = log π(y) - log π_ref(y), with ρ⁺ of the chosen completion y⁺ and ρ⁻ of the rejected one y⁻.
Unless the docstring says otherwise log-probabilities are sums over the completion's tokens, in nats
(`losses.sequence_log_probs`), all arrays are [...] floats of one shape, and `beta` and the other coefficients are
scalars, or broadcast against them. σ is the logistic function. Losses are not averaged here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from purerl.losses.log_ratios import log_ratios, pair_of
from purerl.losses.reward_modeling import logistic_loss
from purerl.returns.recursion import same_shape


def nca(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    ref_chosen_logps: jax.Array,
    ref_rejected_logps: jax.Array,
    beta: jax.Array | float,
) -> jax.Array:
    """Noise contrastive alignment: -log σ(βρ⁺) - ½ log σ(-βρ⁺) - ½ log σ(-βρ⁻).

    dL/dρ⁺ = β (3/2 σ(βρ⁺) - 1), which keeps the likelihood of the chosen completion from falling, and
    dL/dρ⁻ = ½ β σ(βρ⁻).

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: as in `dpo`.

    Returns:
      [...], nats.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: the reference is stopped.

    Source: Chen et al. 2024, "Noise contrastive alignment of language models with explicit rewards",
    arXiv:2402.05369, the loss of NCA for K = 2 completions of which one has all the reward. TRL's
    `loss_type="nca_pair"`.

    Examples:
      >>> from purerl import losses
      >>> chosen, rejected, ref_chosen, ref_rejected = -1.0, -3.0, -2.0, -2.0
      >>> round(float(losses.nca(chosen, rejected, ref_chosen, ref_rejected, beta=0.5)), 3)
      1.198
    """
    chosen, rejected = log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    up, down = jax.nn.softplus(-beta * chosen), jax.nn.softplus(beta * chosen)
    return up + 0.5 * down + 0.5 * jax.nn.softplus(beta * rejected)


def apo_zero(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    ref_chosen_logps: jax.Array,
    ref_rejected_logps: jax.Array,
    beta: jax.Array | float,
) -> jax.Array:
    """Anchored preference optimization for chosen completions better than the policy's: (1 - σ(βρ⁺)) + σ(βρ⁻).

    It raises the likelihood of the chosen completion and lowers that of the rejected one.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: as in `dpo`.

    Returns:
      [...], in [0, 2].

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: the reference is stopped.

    Source: D'Oosterlinck et al. 2024, "Anchored preference optimization and contrastive revisions", arXiv:2408.06266,
    equation 7. TRL's `loss_type="apo_zero"`.

    Examples:
      >>> from purerl import losses
      >>> chosen, rejected, ref_chosen, ref_rejected = -1.0, -3.0, -2.0, -2.0
      >>> round(float(losses.apo_zero(chosen, rejected, ref_chosen, ref_rejected, beta=0.5)), 3)
      0.755
    """
    chosen, rejected = log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return jax.nn.sigmoid(-beta * chosen) + jax.nn.sigmoid(beta * rejected)


def apo_down(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    ref_chosen_logps: jax.Array,
    ref_rejected_logps: jax.Array,
    beta: jax.Array | float,
) -> jax.Array:
    """Anchored preference optimization for chosen completions worse than the policy's: σ(βρ⁺) + 1 - σ(β (ρ⁺ - ρ⁻)).

    It lowers the likelihood of both completions, that of the rejected one more.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: as in `dpo`.

    Returns:
      [...], in [0, 2].

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: the reference is stopped.

    Source: D'Oosterlinck et al. 2024, "Anchored preference optimization and contrastive revisions", arXiv:2408.06266,
    equation 8. TRL's `loss_type="apo_down"`.

    Examples:
      >>> from purerl import losses
      >>> chosen, rejected, ref_chosen, ref_rejected = -1.0, -3.0, -2.0, -2.0
      >>> round(float(losses.apo_down(chosen, rejected, ref_chosen, ref_rejected, beta=0.5)), 3)
      0.891
    """
    chosen, rejected = log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return jax.nn.sigmoid(beta * chosen) + jax.nn.sigmoid(-beta * (chosen - rejected))


def aot(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    ref_chosen_logps: jax.Array,
    ref_rejected_logps: jax.Array,
    beta: jax.Array | float,
    label_smoothing: jax.Array | float = 0.0,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Alignment by optimal transport, for pairs: the margins of the policy shall dominate those of the reference.

    With m = log π(y⁺) - log π(y⁻), m_ref the same under the reference, both sorted over the batch, and
    d = m - m_ref: L = -(1 - ε) log σ(βd) - ε log σ(-βd). Entry i is the loss of the i-th smallest margins.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [..., B] as in `dpo`, the batch last.
      beta: as in `dpo`.
      label_smoothing: ε in [0, 1/2].
      mask: [..., B], 0 for an absent pair, whose log-probabilities may be anything; None: all are present.

    Returns:
      [..., B], nats, in the order of the margins; absent entries come last and are 0.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: the reference is stopped.

    Source: Melnyk et al. 2024, "Distributional preference alignment of LLMs via optimal transport", arXiv:2406.05882,
    the paired case with the logistic loss. TRL's `loss_type="aot"`.

    Examples:
      >>> from purerl import losses
      >>> chosen, zeros = jnp.array([3.0, 1.0]), jnp.zeros(2)
      >>> [round(x, 3) for x in losses.aot(chosen, zeros, zeros, zeros, beta=1.0).tolist()]
      [0.313, 0.049]
    """
    chosen, rejected, ref_chosen, ref_rejected = pair_of(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return _sorted_loss(chosen - rejected, ref_chosen - ref_rejected, beta, label_smoothing, mask)


def aot_unpaired(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    ref_chosen_logps: jax.Array,
    ref_rejected_logps: jax.Array,
    beta: jax.Array | float,
    label_smoothing: jax.Array | float = 0.0,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Alignment by optimal transport, without pairs: rewards of good completions shall dominate those of bad ones.

    With ρ⁺ and ρ⁻ each sorted over the batch and d = ρ⁺ - ρ⁻: L = -(1 - ε) log σ(βd) - ε log σ(-βd). Entry i is the
    loss of the i-th smallest rewards, so chosen and rejected completions may answer different prompts.

    Args:
      chosen_logps, ref_chosen_logps: [..., B] summed log-probabilities of good completions, the batch last.
      rejected_logps, ref_rejected_logps: [..., B] of equally many bad completions.
      beta: as in `dpo`.
      label_smoothing: ε in [0, 1/2].
      mask: [..., B], 0 for an absent row, a good and a bad completion, whose log-probabilities may be anything; None:
        all are present.

    Returns:
      [..., B], nats, in the order of the rewards; absent entries come last and are 0.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: the reference is stopped.

    Source: Melnyk et al. 2024, "Distributional preference alignment of LLMs via optimal transport", arXiv:2406.05882,
    the unpaired case with the logistic loss. TRL's `loss_type="aot_pair"`, later `"aot_unpaired"`.

    Examples:
      >>> from purerl import losses
      >>> chosen, rejected, zeros = jnp.array([3.0, 1.0]), jnp.array([2.0, 0.0]), jnp.zeros(2)
      >>> [round(x, 3) for x in losses.aot_unpaired(chosen, rejected, zeros, zeros, beta=1.0).tolist()]
      [0.313, 0.313]
    """
    chosen, rejected = log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return _sorted_loss(chosen, rejected, beta, label_smoothing, mask)


def _sorted_loss(
    upper: jax.Array,
    lower: jax.Array,
    beta: jax.Array | float,
    label_smoothing: jax.Array | float,
    mask: jax.Array | None,
) -> jax.Array:
    """The loss of i-th smallest against i-th smallest, absent entries last."""
    if mask is None:
        return logistic_loss(beta * (jnp.sort(upper, axis=-1) - jnp.sort(lower, axis=-1)), label_smoothing)
    absent = jnp.asarray(mask) == 0
    same_shape(chosen_logps=upper, mask=absent)
    upper, lower = _present_first(upper, absent), _present_first(lower, absent)
    counted = jnp.sort(absent, axis=-1) == 0
    margin = jnp.where(counted, upper - lower, 0.0)
    return jnp.where(counted, logistic_loss(beta * margin, label_smoothing), 0.0)


def _present_first(x: jax.Array, absent: jax.Array) -> jax.Array:
    """The entries in order, the absent ones behind the others as zeros."""
    return jax.lax.sort((absent, jnp.where(absent, 0.0, x)), num_keys=2)[1]


def sppo(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    ref_chosen_logps: jax.Array,
    ref_rejected_logps: jax.Array,
    beta: jax.Array | float,
    chosen_win_rate: jax.Array | float = 1.0,
    rejected_win_rate: jax.Array | float = 0.0,
) -> jax.Array:
    """Self-play preference optimisation: (ρ⁺ - (P⁺ - ½) / β)² + (ρ⁻ - (P⁻ - ½) / β)², ρ = log π(y) - log π_ref(y).

    dL/dlog π(y) = 2 (ρ - (P - ½) / β), for each of the two by itself.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: as in `dpo`; the reference is the policy of
        the iteration before.
      beta: 1 / the paper's η.
      chosen_win_rate, rejected_win_rate: scalar or [...]: P, the chance that each beats a fresh completion of the
        reference; 1 and 0, the defaults, are the hard labels of a pair.

    Returns:
      [...], squared nats.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: the reference is stopped.

    Source: Wu et al. 2024, equation 4.7. TRL's `loss_type="sppo_hard"` with the defaults.

    Examples:
      >>> from purerl import losses
      >>> chosen, rejected, ref_chosen, ref_rejected = -1.0, -3.0, -2.0, -2.0
      >>> round(float(losses.sppo(chosen, rejected, ref_chosen, ref_rejected, beta=0.25)), 3)
      2.0
    """
    chosen, rejected, ref_chosen, ref_rejected = pair_of(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    rates = {"chosen_win_rate": chosen_win_rate, "rejected_win_rate": rejected_win_rate}
    same_shape(chosen_logps=chosen, **{name: rate for name, rate in rates.items() if jnp.ndim(rate)})
    chosen_error = chosen - ref_chosen - (chosen_win_rate - 0.5) / beta
    rejected_error = rejected - ref_rejected - (rejected_win_rate - 0.5) / beta
    return jnp.square(chosen_error) + jnp.square(rejected_error)

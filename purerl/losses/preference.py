"""Direct losses of preference: from sequence log-probabilities to one loss a pair (or a completion).

Notation: h = (log π(y⁺) - log π_ref(y⁺)) - (log π(y⁻) - log π_ref(y⁻)), with y⁺ chosen and y⁻ rejected; σ is the
logistic function. The loss is never averaged here. `ref_*` is data: no gradient flows through it. Unless the docstring
says otherwise log-probabilities are sums over the completion's tokens, in nats (`losses.sequence_log_probs`).
All arrays are [...] floats of one shape; `beta` and the other coefficients are scalars, or broadcast against them.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from purerl.losses.reward_modeling import logistic_loss, plackett_luce


def dpo(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    ref_chosen_logps: jax.Array,
    ref_rejected_logps: jax.Array,
    beta: jax.Array | float,
    label_smoothing: jax.Array | float = 0.0,
) -> jax.Array:
    """Direct Preference Optimization: -(1 - ε) log σ(βh) - ε log σ(-βh).

    With ε > 0 this is cDPO. dL/dh = β (σ(βh) - (1 - ε)).

    Args:
      chosen_logps, rejected_logps: [...] log π of the two completions, summed over tokens.
      ref_chosen_logps, ref_rejected_logps: [...] the same under the reference policy.
      beta: strength of the pull to the reference; the optimum is π_ref exp(r / β) / Z.
      label_smoothing: ε in [0, 1/2], the share of labels thought flipped.

    Returns:
      [...], nats.

    Source: Rafailov et al. 2023, equation 7; Mitchell 2023 for ε. TRL's `loss_type="sigmoid"`.
    """
    h = _log_ratio_difference(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return logistic_loss(beta * h, label_smoothing)


def plackett_luce_dpo(
    logps: jax.Array, ref_logps: jax.Array, beta: jax.Array | float, mask: jax.Array | None = None
) -> jax.Array:
    """DPO on ranked lists: the Plackett-Luce loss of the implicit rewards β (log π - log π_ref).

    dL/dlog π is β times the gradient of `plackett_luce`.

    Args:
      logps, ref_logps: [..., K] summed log-probabilities, ranked best to worst on the last axis.
      beta: as in `dpo`, which this is for K = 2.
      mask: [..., K], 0 for an absent completion; None: all are there.

    Returns:
      [...], nats a list.

    Source: Rafailov et al. 2023, equation 20.
    """
    logps, ref_logps = _checked(logps, ref_logps)
    return plackett_luce(beta * (logps - jax.lax.stop_gradient(ref_logps)), mask)


def robust_dpo(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    ref_chosen_logps: jax.Array,
    ref_rejected_logps: jax.Array,
    beta: jax.Array | float,
    label_smoothing: jax.Array | float = 0.0,
) -> jax.Array:
    """DPO's loss made unbiased when a share ε of the labels is flipped: (-(1 - ε) log σ(βh) + ε log σ(-βh)) / (1 - 2ε).

    Its mean over flips is `dpo` with clean labels; it is unbounded below where ε > 0.
    dL/dh = -β ((1 - ε) σ(-βh) + ε σ(βh)) / (1 - 2ε).

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: as in `dpo`.
      label_smoothing: ε in [0, 1/2), the share of labels flipped.

    Returns:
      [...], nats.

    Source: Chowdhury et al. 2024, section 3. TRL's `loss_type="robust"`.
    """
    h = _log_ratio_difference(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    right, wrong = jax.nn.softplus(-beta * h), jax.nn.softplus(beta * h)
    return ((1 - label_smoothing) * right - label_smoothing * wrong) / (1 - 2 * label_smoothing)


def hinge_dpo(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    ref_chosen_logps: jax.Array,
    ref_rejected_logps: jax.Array,
    beta: jax.Array | float,
) -> jax.Array:
    """Hinge loss of the implicit reward: max(0, 1 - βh); gradient -β where βh < 1, 0 beyond.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: as in `dpo`.

    Returns:
      [...].

    Source: Liu et al. 2023 (RSO), section 3, after SLiC (Zhao et al. 2023). TRL's `loss_type="hinge"`.
    """
    h = _log_ratio_difference(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return jax.nn.relu(1 - beta * h)


def ipo(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    ref_chosen_logps: jax.Array,
    ref_rejected_logps: jax.Array,
    beta: jax.Array | float,
    chosen_lengths: jax.Array | None = None,
    rejected_lengths: jax.Array | None = None,
) -> jax.Array:
    """Identity Preference Optimization: (h - 1 / (2β))², a regression of h that cannot run to infinity.

    Without lengths h is of sums, as in the paper. With lengths each log-ratio is divided by its own completion's
    length first, as TRL does in `loss_type="ipo"`; the optima differ. dL/dh = 2 (h - 1 / (2β)).

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: as in `dpo`: sums in either case.
      beta: the paper's τ.
      chosen_lengths, rejected_lengths: [...] completion tokens (`losses.sequence_lengths`); 0 counts as 1.

    Returns:
      [...], squared nats.

    Raises:
      ValueError: only one of the two lengths is given.

    Source: Azar et al. 2023, equation 17.
    """
    if (chosen_lengths is None) != (rejected_lengths is None):
        raise ValueError("ipo: give chosen_lengths and rejected_lengths, or neither")
    if chosen_lengths is not None and rejected_lengths is not None:
        chosen_length, rejected_length = jnp.maximum(chosen_lengths, 1), jnp.maximum(rejected_lengths, 1)
        chosen_logps, ref_chosen_logps = chosen_logps / chosen_length, ref_chosen_logps / chosen_length
        rejected_logps, ref_rejected_logps = rejected_logps / rejected_length, ref_rejected_logps / rejected_length
    h = _log_ratio_difference(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return jnp.square(h - 1 / (2 * beta))


def kto(
    policy_logps: jax.Array,
    ref_logps: jax.Array,
    desirable: jax.Array,
    kl: jax.Array | float,
    beta: jax.Array | float,
    desirable_weight: jax.Array | float = 1.0,
    undesirable_weight: jax.Array | float = 1.0,
) -> jax.Array:
    """Kahneman-Tversky Optimization: λ_D (1 - σ(β (ρ - z))) for a desirable completion, λ_U (1 - σ(β (z - ρ))) else.

    ρ = log π(y) - log π_ref(y); z = `kl`, the reference point, through which no gradient flows.
    dL/dlog π(y) = -λ_D β s (1 - s), or +λ_U β s (1 - s), with s = σ(β (ρ - z)).

    Args:
      policy_logps, ref_logps: [...] summed log-probabilities of the completions.
      desirable: [...] bool (or 0/1): the label of each completion.
      kl: scalar z ≥ 0, an estimate of KL(π ‖ π_ref) clamped by the caller: `losses.kto_kl`.
      beta: as in `dpo`.
      desirable_weight, undesirable_weight: λ_D and λ_U; balance them as λ_D n_D / (λ_U n_U) in [1, 4/3].

    Returns:
      [...], in [0, λ].

    Source: Ethayarajh et al. 2024, equation 8, less its constant λ_y; TRL's `loss_type="kto"`.
    """
    policy_logps, ref_logps = _checked(policy_logps, ref_logps)
    desirable = jnp.asarray(desirable)
    chex.assert_equal_shape([policy_logps, desirable])
    advantage = policy_logps - jax.lax.stop_gradient(ref_logps) - jax.lax.stop_gradient(kl)
    gain = desirable_weight * jax.nn.sigmoid(-beta * advantage)
    loss = undesirable_weight * jax.nn.sigmoid(beta * advantage)
    return jnp.where(desirable != 0, gain, loss)


def kto_kl(policy_logps: jax.Array, ref_logps: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """KTO's reference point: max(0, mean over the batch of log π(y') - log π_ref(y')), without gradient.

    Args:
      policy_logps, ref_logps: [B] summed log-probabilities of completions y' that do *not* belong to their prompts
        (the paper shifts the completions of a batch by one).
      mask: [B], 0 for a row to leave out; None: all count. All left out: 0.

    Returns:
      scalar z, nats.

    Source: Ethayarajh et al. 2024, section 4.1.
    """
    policy_logps, ref_logps = _checked(policy_logps, ref_logps)
    counted = jnp.ones(policy_logps.shape, bool) if mask is None else jnp.asarray(mask) != 0
    chex.assert_equal_shape([policy_logps, counted])
    ratio = jnp.where(counted, policy_logps - ref_logps, 0.0)
    mean = jnp.sum(ratio) / jnp.maximum(jnp.sum(counted), 1)
    return jax.lax.stop_gradient(jnp.maximum(mean, 0.0))


def orpo(
    chosen_logps: jax.Array, rejected_logps: jax.Array, chosen_nll: jax.Array, beta: jax.Array | float
) -> jax.Array:
    """Odds-ratio preference optimisation, no reference: nll(y⁺) - β log σ(log odds(y⁺) - log odds(y⁻)).

    log odds = ℓ - log(1 - exp ℓ), with ℓ the *length-averaged* log-probability. With z the difference of log odds,
    dL/dℓ⁺ = -β σ(-z) / (1 - exp ℓ⁺) and dL/dℓ⁻ = β σ(-z) / (1 - exp ℓ⁻), beside the gradient of nll.
    ℓ is held below -2⁻²³ inside the logarithm, so that a certain completion has a finite loss and gradient.

    Args:
      chosen_logps, rejected_logps: [...] length-averaged log-probabilities, ≤ 0
        (`sequence_log_probs(..., reduction="mean")`).
      chosen_nll: [...] negative log-likelihood of the chosen completion a token; its gradient flows.
      beta: weight of the odds-ratio term; the paper's λ.

    Returns:
      [...], nats.

    Source: Hong et al. 2024, equations 6 and 7.
    """
    chosen, rejected = _checked(chosen_logps, rejected_logps)
    log_odds_ratio = (chosen - rejected) - (_log_complement(chosen) - _log_complement(rejected))
    return chosen_nll + beta * logistic_loss(log_odds_ratio)


def _log_complement(log_prob: jax.Array) -> jax.Array:
    return jnp.log(-jnp.expm1(jnp.minimum(log_prob, -(2.0**-23))))


def simpo(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    beta: jax.Array | float,
    gamma: jax.Array | float,
    label_smoothing: jax.Array | float = 0.0,
) -> jax.Array:
    """Simple preference optimisation, no reference: -(1 - ε) log σ(z) - ε log σ(-z), z = β (ℓ⁺ - ℓ⁻) - γ.

    dL/dℓ⁺ = β (σ(z) - (1 - ε)) = -dL/dℓ⁻.

    Args:
      chosen_logps, rejected_logps: [...] *length-averaged* log-probabilities ℓ.
      beta: scale of the rewards; 2 to 10 in the paper, far above DPO's.
      gamma: target margin, outside β. TRL's `simpo_gamma` is this γ; the reference code's `gamma_beta_ratio` is γ / β.
      label_smoothing: ε.

    Returns:
      [...], nats.

    Source: Meng et al. 2024, equation 6.
    """
    chosen, rejected = _checked(chosen_logps, rejected_logps)
    return logistic_loss(beta * (chosen - rejected) - gamma, label_smoothing)


def cpo(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    beta: jax.Array | float,
    label_smoothing: jax.Array | float = 0.0,
) -> jax.Array:
    """Contrastive preference optimisation, its preference term: DPO with a uniform reference.

    -(1 - ε) log σ(z) - ε log σ(-z), z = β (log π(y⁺) - log π(y⁻)). The paper adds the chosen completion's negative
    log-likelihood; so does the caller. dL/dlog π(y⁺) = β (σ(z) - (1 - ε)) = -dL/dlog π(y⁻).

    Args:
      chosen_logps, rejected_logps: [...] summed log-probabilities.
      beta: as in `dpo`.
      label_smoothing: ε.

    Returns:
      [...], nats.

    Source: Xu et al. 2024, section 3. TRL's `CPOTrainer`, `loss_type="sigmoid"`, there with `cpo_alpha * nll`.
    """
    chosen, rejected = _checked(chosen_logps, rejected_logps)
    return logistic_loss(beta * (chosen - rejected), label_smoothing)


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
      chosen_win_rate, rejected_win_rate: P, the chance that each beats a fresh completion of the reference;
        1 and 0, the defaults, are the hard labels of a pair.

    Returns:
      [...], squared nats.

    Source: Wu et al. 2024, equation 4.7. TRL's `loss_type="sppo_hard"` with the defaults.
    """
    arrays = _checked(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    chosen, rejected, ref_chosen, ref_rejected = arrays
    chosen_error = chosen - jax.lax.stop_gradient(ref_chosen) - (chosen_win_rate - 0.5) / beta
    rejected_error = rejected - jax.lax.stop_gradient(ref_rejected) - (rejected_win_rate - 0.5) / beta
    return jnp.square(chosen_error) + jnp.square(rejected_error)


def _checked(*logps: jax.Array) -> list[jax.Array]:
    arrays = [jnp.asarray(logp) for logp in logps]
    chex.assert_equal_shape(arrays)
    chex.assert_type(arrays, float)
    return arrays


def _log_ratio_difference(
    chosen_logps: jax.Array, rejected_logps: jax.Array, ref_chosen_logps: jax.Array, ref_rejected_logps: jax.Array
) -> jax.Array:
    chosen, rejected, *reference = _checked(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    ref_chosen, ref_rejected = jax.lax.stop_gradient(reference)
    return (chosen - ref_chosen) - (rejected - ref_rejected)

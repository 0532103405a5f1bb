"""Direct losses of preference without a reference policy: ORPO, SimPO and CPO.

Unless the docstring says otherwise log-probabilities are sums over the completion's tokens, in nats
(`losses.sequence_log_probs`), all arrays are [...] floats of one shape, and `beta` and the other coefficients are
scalars, or broadcast against them. σ is the logistic function. Losses are not averaged here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from purerl.losses.log_ratios import checked
from purerl.losses.reward_modeling import logistic_loss


def orpo(
    chosen_logps: jax.Array, rejected_logps: jax.Array, chosen_nll: jax.Array, beta: jax.Array | float
) -> jax.Array:
    """Odds-ratio preference optimisation, no reference: nll(y⁺) - β log σ(log odds(y⁺) - log odds(y⁻)).

    log odds = ℓ - log(1 - exp ℓ), with ℓ the *length-averaged* log-probability. With z the difference of log odds,
    dL/dℓ⁺ = -β σ(-z) / (1 - exp ℓ⁺) and dL/dℓ⁻ = β σ(-z) / (1 - exp ℓ⁻), beside the gradient of nll.
    ℓ is held below -2⁻²³ inside the logarithm, so that a completion of probability 1 has a finite loss and gradient.

    Args:
      chosen_logps, rejected_logps: [...] length-averaged log-probabilities, ≤ 0
        (`sequence_log_probs(..., reduction="mean")`).
      chosen_nll: [...] negative log-likelihood per token of the chosen completion.
      beta: weight of the odds-ratio term; the paper's λ.

    Returns:
      [...], nats.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: nothing is stopped.

    Source: Hong et al. 2024, equations 6 and 7.

    Examples:
      >>> from purerl import losses
      >>> chosen, rejected = jnp.log(0.5), jnp.log(0.2)
      >>> round(float(losses.orpo(chosen, rejected, chosen_nll=-chosen, beta=0.1)), 3)
      0.715
    """
    chosen, rejected, chosen_nll = checked(
        chosen_logps=chosen_logps, rejected_logps=rejected_logps, chosen_nll=chosen_nll
    )
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

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: nothing is stopped.

    Source: Meng et al. 2024, equation 6.

    Examples:
      >>> from purerl import losses
      >>> round(float(losses.simpo(-1.0, -2.0, beta=2.0, gamma=1.0)), 3)
      0.313
    """
    chosen, rejected = checked(chosen_logps=chosen_logps, rejected_logps=rejected_logps)
    return logistic_loss(beta * (chosen - rejected) - gamma, label_smoothing)


def cpo(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    beta: jax.Array | float,
    label_smoothing: jax.Array | float = 0.0,
) -> jax.Array:
    """Contrastive preference optimisation, its preference term: DPO with a uniform reference.

    -(1 - ε) log σ(z) - ε log σ(-z), z = β (log π(y⁺) - log π(y⁻)). The paper adds the chosen completion's negative
    log-likelihood, which is left to the caller. dL/dlog π(y⁺) = β (σ(z) - (1 - ε)) = -dL/dlog π(y⁻).

    Args:
      chosen_logps, rejected_logps: [...] summed log-probabilities.
      beta: as in `dpo`.
      label_smoothing: ε.

    Returns:
      [...], nats.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: nothing is stopped.

    Source: Xu et al. 2024, section 3. TRL's `CPOTrainer`, `loss_type="sigmoid"`, there with `cpo_alpha * nll`.

    Examples:
      >>> from purerl import losses
      >>> round(float(losses.cpo(-1.0, -3.0, beta=0.5)), 3)
      0.313
    """
    chosen, rejected = checked(chosen_logps=chosen_logps, rejected_logps=rejected_logps)
    return logistic_loss(beta * (chosen - rejected), label_smoothing)

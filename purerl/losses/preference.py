"""Direct losses of preference that compare the two completions of a pair: DPO and its relatives.

Notation: h = (log π(y⁺) - log π_ref(y⁺)) - (log π(y⁻) - log π_ref(y⁻)), with y⁺ chosen and y⁻ rejected.
Unless the docstring says otherwise log-probabilities are sums over the completion's tokens, in nats
(`losses.sequence_log_probs`), all arrays are [...] floats of one shape, and `beta` and the other coefficients are
scalars, or broadcast against them. σ is the logistic function. Losses are not averaged here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from purerl.losses.log_ratios import checked, log_ratio_difference
from purerl.losses.reward_modeling import logistic_loss, plackett_luce
from purerl.returns.recursion import same_shape


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
      beta: scalar β, the strength of the pull to the reference; the optimum is π_ref exp(r / β) / Z.
      label_smoothing: ε in [0, 1/2], the share of labels believed to be flipped.

    Returns:
      [...], nats.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: the reference is stopped.

    Source: Rafailov et al. 2023, equation 7; Mitchell 2023 for ε. TRL's `loss_type="sigmoid"`.

    Examples:
      >>> from purerl import losses
      >>> chosen, rejected, ref_chosen, ref_rejected = -1.0, -3.0, -2.0, -2.0
      >>> round(float(losses.dpo(chosen, rejected, ref_chosen, ref_rejected, beta=0.5)), 3)
      0.313
    """
    h = log_ratio_difference(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return logistic_loss(beta * h, label_smoothing)


def plackett_luce_dpo(
    logps: jax.Array, ref_logps: jax.Array, beta: jax.Array | float, mask: jax.Array | None = None
) -> jax.Array:
    """DPO on ranked lists: the Plackett-Luce loss of the implicit rewards β (log π - log π_ref).

    dL/dlog π is β times the gradient of `plackett_luce`.

    Args:
      logps, ref_logps: [..., K] summed log-probabilities, ranked best to worst on the last axis.
      beta: as in `dpo`, which this is for K = 2.
      mask: [..., K], 0 for an absent completion; None: all are present.

    Returns:
      [...] losses of the lists, in nats.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: the reference is stopped.

    Source: Rafailov et al. 2023, equation 20.

    Examples:
      >>> from purerl import losses
      >>> logps, ref_logps = jnp.array([[-1.0, -3.0, -5.0]]), jnp.array([[-1.0, -3.0, -5.0]])
      >>> print(losses.plackett_luce_dpo(logps, ref_logps, beta=0.5).round(3))  # log 3! for equal rewards
      [1.792]
    """
    logps, ref_logps = checked(logps=logps, ref_logps=ref_logps)
    return plackett_luce(beta * (logps - jax.lax.stop_gradient(ref_logps)), mask)


def robust_dpo(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    ref_chosen_logps: jax.Array,
    ref_rejected_logps: jax.Array,
    beta: jax.Array | float,
    label_smoothing: jax.Array | float = 0.0,
) -> jax.Array:
    """DPO corrected for a share ε of flipped labels: (-(1 - ε) log σ(βh) + ε log σ(-βh)) / (1 - 2ε).

    Its expectation over flips is `dpo` with clean labels. It is unbounded below if ε > 0.
    dL/dh = -β ((1 - ε) σ(-βh) + ε σ(βh)) / (1 - 2ε).

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: as in `dpo`.
      label_smoothing: ε in [0, 1/2), the share of flipped labels.

    Returns:
      [...], nats.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.
      ValueError: `label_smoothing` is concrete and not below 1/2.

    Gradient: the reference is stopped.

    Source: Chowdhury et al. 2024, section 3. TRL's `loss_type="robust"`.

    Examples:
      >>> from purerl import losses
      >>> chosen, rejected, ref_chosen, ref_rejected = -1.0, -3.0, -2.0, -2.0
      >>> round(float(losses.robust_dpo(chosen, rejected, ref_chosen, ref_rejected, beta=0.5, label_smoothing=0.1)), 3)
      0.188
    """
    if not isinstance(label_smoothing, jax.core.Tracer) and np.any(np.asarray(label_smoothing) >= 0.5):
        raise ValueError(f"robust_dpo: label_smoothing must be below 1/2, got {label_smoothing}")
    h = log_ratio_difference(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
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

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: the reference is stopped.

    Source: Liu et al. 2023 (RSO), section 3, after SLiC (Zhao et al. 2023). TRL's `loss_type="hinge"`.

    Examples:
      >>> from purerl import losses
      >>> chosen, rejected, ref_chosen, ref_rejected = -1.0, -3.0, -2.0, -2.0
      >>> round(float(losses.hinge_dpo(chosen, rejected, ref_chosen, ref_rejected, beta=0.1)), 3)
      0.8
    """
    h = log_ratio_difference(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
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
    """Identity Preference Optimization: (h - 1 / (2β))², a regression that bounds h.

    Without lengths h is of sums, as in the paper. With lengths each log-ratio is divided by its own completion's
    length first, as TRL does in `loss_type="ipo"`; the optima differ. dL/dh = 2 (h - 1 / (2β)).

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: as in `dpo`: sums in both cases.
      beta: the paper's τ.
      chosen_lengths, rejected_lengths: [...] completion tokens (`losses.sequence_lengths`); 0 counts as 1.

    Returns:
      [...], squared nats.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.
      ValueError: only one of the two lengths is given.

    Gradient: the reference is stopped.

    Source: Azar et al. 2023, equation 17.

    Examples:
      >>> from purerl import losses
      >>> chosen, rejected, ref_chosen, ref_rejected = -1.0, -3.0, -2.0, -2.0
      >>> round(float(losses.ipo(chosen, rejected, ref_chosen, ref_rejected, beta=0.5)), 3)
      1.0
    """
    if (chosen_lengths is None) != (rejected_lengths is None):
        raise ValueError("ipo: give chosen_lengths and rejected_lengths, or neither")
    if chosen_lengths is not None and rejected_lengths is not None:
        same_shape(chosen_logps=chosen_logps, chosen_lengths=chosen_lengths, rejected_lengths=rejected_lengths)
        chosen_length, rejected_length = jnp.maximum(chosen_lengths, 1), jnp.maximum(rejected_lengths, 1)
        chosen_logps, ref_chosen_logps = chosen_logps / chosen_length, ref_chosen_logps / chosen_length
        rejected_logps, ref_rejected_logps = rejected_logps / rejected_length, ref_rejected_logps / rejected_length
    h = log_ratio_difference(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return jnp.square(h - 1 / (2 * beta))


def exo(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    ref_chosen_logps: jax.Array,
    ref_rejected_logps: jax.Array,
    beta: jax.Array | float,
    label_smoothing: jax.Array | float = 1e-3,
) -> jax.Array:
    """Efficient exact optimization: the reverse KL divergence from the policy's preference to the smoothed label.

    With p = σ(βh), L = p (log p - log(1 - ε)) + (1 - p) (log(1 - p) - log ε). `dpo` minimizes the forward divergence.
    dL/dh = β p (1 - p) (βh - log((1 - ε) / ε)), so the optimum is at βh = log((1 - ε) / ε).

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: as in `dpo`.
      label_smoothing: ε in (0, 1/2).

    Returns:
      [...] ≥ 0, nats.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: the reference is stopped.

    Source: Ji et al. 2024, "Towards efficient exact optimization of language model alignment", arXiv:2402.00856,
    equation 16 for K = 2. TRL's `loss_type="exo_pair"`, whose label smoothing of 0 stands for 1e-3.

    Examples:
      >>> from purerl import losses
      >>> chosen, rejected, ref_chosen, ref_rejected = -1.0, -3.0, -2.0, -2.0
      >>> round(float(losses.exo(chosen, rejected, ref_chosen, ref_rejected, beta=0.5)), 3)
      1.276
    """
    z = beta * log_ratio_difference(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    right = jax.nn.sigmoid(z) * (jax.nn.log_sigmoid(z) - jnp.log1p(-label_smoothing))
    wrong = jax.nn.sigmoid(-z) * (jax.nn.log_sigmoid(-z) - jnp.log(label_smoothing))
    return right + wrong


def discopop(
    chosen_logps: jax.Array,
    rejected_logps: jax.Array,
    ref_chosen_logps: jax.Array,
    ref_rejected_logps: jax.Array,
    beta: jax.Array | float,
    tau: jax.Array | float = 0.05,
) -> jax.Array:
    """DiscoPOP, a loss found by a language model: (1 - w) · -log σ(z) + w · exp(-z), with z = βh and w = σ(z / τ).

    It is logistic where the policy prefers the rejected completion and exponential where it prefers the chosen one.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: as in `dpo`.
      tau: scalar τ in (0, 1), the width of the transition.

    Returns:
      [...].

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: the reference is stopped.

    Source: Lu et al. 2024, "Discovering preference optimization algorithms with and for large language models",
    arXiv:2406.08414, equation 5. TRL's `loss_type="discopop"`.

    Examples:
      >>> from purerl import losses
      >>> chosen, rejected, ref_chosen, ref_rejected = -1.0, -3.0, -2.0, -2.0
      >>> round(float(losses.discopop(chosen, rejected, ref_chosen, ref_rejected, beta=0.5)), 3)
      0.368
    """
    z = beta * log_ratio_difference(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    exponential = jnp.exp(jax.nn.log_sigmoid(z / tau) - z)  # w · exp(−z), in one exponential that cannot overflow
    return jax.nn.sigmoid(-z / tau) * jax.nn.softplus(-z) + exponential

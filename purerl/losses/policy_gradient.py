"""Policy-gradient losses, elementwise and to be minimized, and means of keeping their steps small."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax import lax

from purerl import returns
from purerl.losses.centering import center, spread
from purerl.losses.ratios import ratio as bounded_ratio
from purerl.returns.recursion import same_shape


def reinforce(log_prob: jax.Array, advantage: jax.Array) -> jax.Array:
    """Score-function loss, whose gradient is that of REINFORCE with any weight.

    L = −log π(a|s) · w. The weight w is the whole return of the episode (`returns.whole_returns`), the reward-to-go,
    either of them minus a baseline, or an advantage: all have the same expected gradient on whole episodes.

    Args:
      log_prob: [...] floating, log-probability of the action taken.
      advantage: [...], w.

    Returns:
      [...] losses.

    Raises:
      AssertionError: shapes differ, or log_prob is not floating.

    Gradient: `advantage` is stopped.

    Source: Williams (1992), eq. 4; Sutton & Barto (2018), eq. 13.8 and 13.11, without their factor γᵗ.

    Examples:
      >>> from purerl import losses
      >>> print(losses.reinforce(jnp.array([-1.0, -2.0]), jnp.array([3.0, -4.0])))
      [ 3. -8.]
    """
    same_shape(log_prob=log_prob, advantage=advantage)
    chex.assert_type(log_prob, float)
    return -log_prob * lax.stop_gradient(advantage)


def clipped_surrogate(
    log_prob: jax.Array,
    old_log_prob: jax.Array,
    advantage: jax.Array,
    clip_epsilon: float | jax.Array,
    clip_epsilon_high: float | jax.Array | None = None,
    max_ratio: float | jax.Array | None = None,
) -> jax.Array:
    """PPO's pessimistic surrogate: no gain from moving the ratio beyond the clip range.

    ρ = exp(log π − log π_old), L = −min(ρ · A, clip(ρ, 1 − ε, 1 + ε_high) · A). Beyond a log ratio of 20 ρ grows
    linearly, along its tangent, so the loss and its gradient are finite for any policies.

    Args:
      log_prob: [...] floating, log-probability of the action under the policy being trained.
      old_log_prob: [...], the same under the policy that acted.
      advantage: [...], A.
      clip_epsilon: scalar ε ≥ 0.
      clip_epsilon_high: scalar ε_high; None takes ε (DAPO's "clip-higher" gives its own).
      max_ratio: scalar δ > 1 + ε_high; ρ is replaced by min(ρ, δ) in the unclipped term, which bounds the loss where
        A < 0. None: no bound.

    Returns:
      [...] losses.

    Raises:
      AssertionError: shapes differ, or log_prob is not floating.

    Gradient: `old_log_prob` and `advantage` are stopped.

    Source: Schulman et al. (2017), "Proximal policy optimization", eq. 7; ε_high: Yu et al. (2025), "DAPO", eq. 10;
    δ: Ye et al. (2020), "Mastering complex control in MOBA games", eq. 4.

    Examples:
      >>> from purerl import losses
      >>> log_prob, old, advantage = jnp.log(jnp.array([1.0, 1.5, 1.5])), jnp.zeros(3), jnp.array([2.0, 2.0, -2.0])
      >>> [round(x, 3) for x in losses.clipped_surrogate(log_prob, old, advantage, clip_epsilon=0.2).tolist()]
      [-2.0, -2.4, 3.0]
    """
    same_shape(log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage)
    chex.assert_type(log_prob, float)
    high = clip_epsilon if clip_epsilon_high is None else clip_epsilon_high
    advantage = lax.stop_gradient(advantage)
    ratio = bounded_ratio(log_prob - lax.stop_gradient(old_log_prob))
    capped = ratio if max_ratio is None else jnp.minimum(ratio, max_ratio)
    return -jnp.minimum(capped * advantage, jnp.clip(ratio, 1 - clip_epsilon, 1 + high) * advantage)


def clipped_value(
    value: jax.Array, old_value: jax.Array, value_target: jax.Array, clip_epsilon: float | jax.Array
) -> jax.Array:
    """Squared error of a value that gains nothing from moving further than ε from what it was.

    v_clip = clip(v, v_old − ε, v_old + ε), L = ½ · max((v − y)², (v_clip − y)²).

    Args:
      value: [...] floating, v.
      old_value: [...], v_old, the value when the data was collected.
      value_target: [...], y.
      clip_epsilon: scalar ε ≥ 0, in the units of the value; ∞ gives the plain ½ (v − y)².

    Returns:
      [...] losses.

    Raises:
      AssertionError: shapes differ, or value is not floating.

    Gradient: `old_value` and `value_target` are stopped.

    Source: OpenAI baselines, ppo2 (2017); no equation in the PPO paper.

    Examples:
      >>> from purerl import losses
      >>> value, old, target = jnp.array([1.0, 1.0]), jnp.array([0.0, 1.0]), jnp.array([2.0, 2.0])
      >>> [round(x, 3) for x in losses.clipped_value(value, old, target, clip_epsilon=0.2).tolist()]
      [1.62, 0.5]
    """
    same_shape(value=value, old_value=old_value, value_target=value_target)
    chex.assert_type(value, float)
    old_value, value_target = lax.stop_gradient((old_value, value_target))
    clipped = jnp.clip(value, old_value - clip_epsilon, old_value + clip_epsilon)
    return 0.5 * jnp.maximum(jnp.square(value - value_target), jnp.square(clipped - value_target))


def kl_penalized_surrogate(
    log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, kl: jax.Array, kl_coef: float | jax.Array
) -> jax.Array:
    """Surrogate of the policy gradient with a penalty on the divergence, instead of a clip.

    ρ = exp(log π − log π_old), L = −ρ · A + β · KL. Beyond a log ratio of 20 ρ grows linearly, along its tangent.

    Args:
      log_prob: [...] floating, log-probability of the action under the policy being trained.
      old_log_prob: [...], the same under the policy that acted.
      advantage: [...], A.
      kl: [...], differentiable: KL(π_old ‖ π) for a penalty to the old policy as in PPO, KL(π ‖ π_ref) for one to a
        reference; exact (`categorical_kl`, `gaussian_kl`) or k2 or k3 of `kl_estimate` (k1 has no expected gradient).
      kl_coef: scalar β, which `adaptive_kl_coef` moves.

    Returns:
      [...] losses.

    Raises:
      AssertionError: shapes differ, or log_prob is not floating.

    Gradient: `old_log_prob`, `advantage` and `kl_coef` are stopped; `kl` is not.

    Source: Schulman et al. (2017), "Proximal policy optimization", eq. 8.

    Examples:
      >>> from purerl import losses
      >>> log_prob, old, advantage, kl = jnp.log(1.5), jnp.array(0.0), jnp.array(2.0), jnp.array(0.5)
      >>> round(float(losses.kl_penalized_surrogate(log_prob, old, advantage, kl, kl_coef=0.2)), 3)
      -2.9
    """
    same_shape(log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage, kl=kl)
    chex.assert_type(log_prob, float)
    old_log_prob, advantage, kl_coef = lax.stop_gradient((old_log_prob, advantage, kl_coef))
    return -bounded_ratio(log_prob - old_log_prob) * advantage + kl_coef * kl


def adaptive_kl_coef(kl_coef: float | jax.Array, kl: float | jax.Array, kl_target: float | jax.Array) -> jax.Array:
    """Next coefficient of a KL penalty: halved or doubled when the divergence left the band around its target.

    β/2 where KL < KL_target / 1.5, 2β where KL > 1.5 · KL_target, else β.

    Args:
      kl_coef: [...], β > 0.
      kl: [...], mean divergence that the last update made, in nats.
      kl_target: [...], KL_target > 0, in nats.

    Returns:
      [...] the next β.

    Raises:
      ValueError: the shapes do not broadcast.

    Gradient: everything is stopped.

    Source: Schulman et al. (2017), "Proximal policy optimization", section 4. `adaptive_kl` is Ziegler's smooth one.

    Examples:
      >>> from purerl import losses
      >>> print(losses.adaptive_kl_coef(jnp.ones(3), jnp.array([0.5, 1.0, 2.0]), 1.0))
      [0.5 1.  2. ]
    """
    kl_coef, kl, kl_target = (lax.stop_gradient(jnp.asarray(x)) for x in (kl_coef, kl, kl_target))
    factor = jnp.where(kl > 1.5 * kl_target, 2.0, jnp.where(kl < kl_target / 1.5, 0.5, 1.0))
    return kl_coef * factor


def vtrace_actor_critic(
    log_prob: jax.Array,
    behaviour_log_prob: jax.Array,
    reward: jax.Array,
    discount: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    trace_decay: jax.Array,
    rho_bar: float | jax.Array = 1.0,
    c_bar: float | jax.Array = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """IMPALA's two losses, the policy's and the critic's, each of which trains its own network only.

    (vs, A) = `returns.vtrace`(log_rho = log π − log μ); L_policy = −log π(a|s) · A, L_value = ½ · (v − vs)².

    Args:
      log_prob: [T, ...] floating, log π(a|s) of the policy being trained.
      behaviour_log_prob: [T, ...], log μ(a|s) of the policy that acted.
      reward: [T, ...].
      discount: [T, ...], γ · (1 − terminated).
      value: [T, ...] v of the state acted in.
      next_value: [T, ...] v of the true successor; free where terminated.
      trace_decay: [T, ...], λ · (1 − (terminated | truncated)).
      rho_bar, c_bar: scalars ρ̄ and c̄, see `returns.vtrace`.

    Returns:
      policy_loss: [T, ...].
      value_loss: [T, ...].

    Raises:
      AssertionError: shapes differ, or log_prob or reward is not floating.

    Gradient: policy_loss reaches `log_prob` only and value_loss `value` only: ρ, vs and A are stopped.

    Source: Espeholt et al. (2018), "IMPALA", section 4.2.

    Examples:
      >>> from purerl import losses
      >>> log_prob, ones = jnp.array([-1.0]), jnp.ones(1)
      >>> value, next_value = jnp.array([2.0]), jnp.array([4.0])
      >>> print(losses.vtrace_actor_critic(log_prob, log_prob, ones, 0.5 * ones, value, next_value, 0 * ones))
      (Array([1.], dtype=float32), Array([0.5], dtype=float32))
    """
    same_shape(log_prob=log_prob, behaviour_log_prob=behaviour_log_prob, value=value)
    chex.assert_type(log_prob, float)
    log_rho = log_prob - behaviour_log_prob
    value_target, advantage = lax.stop_gradient(
        returns.vtrace(reward, discount, value, next_value, trace_decay, log_rho, rho_bar, c_bar)
    )
    return reinforce(log_prob, advantage), 0.5 * jnp.square(value - value_target)


def normalize(advantage: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Advantages shifted and scaled to mean 0 and standard deviation 1 over all axes.

    (x − mean) / (std + 10⁻⁸), with the population standard deviation (ddof 0). Equal advantages become exact zeros.

    Args:
      advantage: [...] floating, x.
      mask: [...], nonzero where an entry counts. The others, which may be NaN, become 0; an empty mask gives zeros.
        None: all count.

    Returns:
      [...] normalized advantages.

    Raises:
      AssertionError: shapes differ, or advantage is not floating.

    Gradient: nothing is stopped, though at zero variance the derivative of the spread is taken as 0.

    Source: CleanRL, ppo.py ("advantages normalization").

    Examples:
      >>> from purerl import losses
      >>> print(losses.normalize(jnp.array([1.0, 3.0])))
      [-1.  1.]
      >>> print(losses.normalize(jnp.array([1.0, 3.0, jnp.nan]), mask=jnp.array([1, 1, 0])))
      [-1.  1.  0.]
    """
    chex.assert_type(advantage, float)
    same_shape(advantage=advantage, mask=mask)
    centered, count = center(advantage, mask)
    floor = max(1e-8, float(jnp.finfo(advantage.dtype).tiny))  # 1e-8 is 0 in float16
    return centered / (spread(centered, count) + floor)

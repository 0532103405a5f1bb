"""One-step targets of values and action values, `[...]` with the actions on the last axis, and their TD errors.

Robust losses of the errors are in optax (`optax.losses.huber_loss`, `log_cosh`). Where `discount` is 0 the successor
may be NaN.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax import lax

from purerl.returns.recursion import check_factors, check_rows, cut, same_shape


def action_value(q: jax.Array, action: jax.Array) -> jax.Array:
    """The value of the action taken: q[..., a].

    A select and a sum, which is faster than a gather, whose transpose is a scatter.

    Args:
      q: [..., A] floating.
      action: [...] integer.

    Returns:
      [...] values.

    Raises:
      AssertionError: the leading shapes differ, q is not floating, or action is not integer.

    Gradient: nothing is stopped.

    Source: Sutton & Barto (2018), section 6.5.

    Examples:
      >>> from purerl import losses
      >>> print(losses.action_value(jnp.array([[1.0, 2.0], [3.0, -jnp.inf]]), jnp.array([1, 0])))
      [2. 3.]
    """
    check_rows("q", q, action=action)
    chex.assert_type([q, action], [float, int])
    actions = lax.broadcasted_iota(jnp.int32, q.shape, q.ndim - 1)
    return jnp.sum(jnp.where(action[..., None] == actions, q, 0), axis=-1)


def td_error(value: jax.Array, target: jax.Array) -> jax.Array:
    """Temporal-difference error of a value: δ = y − v.

    Args:
      value: [...] floating, v, or q of the action taken.
      target: [...], y, such as one of the targets below.

    Returns:
      [...] errors.

    Raises:
      AssertionError: shapes differ, or value is not floating.

    Gradient: `target` is stopped (semi-gradient).

    Source: Sutton & Barto (2018), eq. 6.5.

    Examples:
      >>> from purerl import losses
      >>> print(losses.td_error(value=jnp.array([1.0, 2.0]), target=jnp.array([4.0, 1.0])))
      [ 3. -1.]
    """
    same_shape(value=value, target=target)
    chex.assert_type(value, float)
    return lax.stop_gradient(target) - value


def td_target(reward: jax.Array, discount: jax.Array, next_value: jax.Array) -> jax.Array:
    """Target of TD(0): y = r + d · v(s').

    Args:
      reward: [...] floating.
      discount: [...], γ · (1 − terminated).
      next_value: [...], v of the true successor; free where terminated.

    Returns:
      [...] targets.

    Raises:
      AssertionError: shapes differ, reward is not floating, or discount is boolean.

    Gradient: everything is stopped.

    Source: Sutton & Barto (2018), eq. 6.2.

    Examples:
      >>> from purerl import losses
      >>> reward, discount = jnp.array([1.0, 1.0]), jnp.array([0.5, 0.0])
      >>> print(losses.td_target(reward, discount, next_value=jnp.array([4.0, jnp.nan])))
      [3. 1.]
    """
    same_shape(reward=reward, discount=discount, next_value=next_value)
    check_factors(discount=discount)
    chex.assert_type(reward, float)
    return lax.stop_gradient(reward + discount * cut(next_value, discount))


def q_learning_target(reward: jax.Array, discount: jax.Array, next_q: jax.Array) -> jax.Array:
    """Target of Q-learning: y = r + d · max_a q(s', a).

    Args:
      reward: [...] floating.
      discount: [...], γ · (1 − terminated).
      next_q: [..., A] of the true successor; free where terminated.

    Returns:
      [...] targets.

    Raises:
      AssertionError: shapes differ, or reward is not floating.

    Gradient: everything is stopped.

    Source: Watkins & Dayan (1992), eq. 1; Sutton & Barto (2018), eq. 6.8.

    Examples:
      >>> from purerl import losses
      >>> print(losses.q_learning_target(jnp.array([1.0]), jnp.array([0.5]), next_q=jnp.array([[4.0, 2.0]])))
      [3.]
    """
    check_rows("next_q", next_q, reward=reward)
    return td_target(reward, discount, next_q.max(axis=-1))


def double_q_target(
    reward: jax.Array, discount: jax.Array, next_q_online: jax.Array, next_q_target: jax.Array
) -> jax.Array:
    """Target of double Q-learning: the online network chooses the action, the target network evaluates it.

    y = r + d · q_target(s', argmax_a q_online(s', a)), the first of equal maxima.

    Args:
      reward: [...] floating.
      discount: [...], γ · (1 − terminated).
      next_q_online: [..., A] of the true successor; free where terminated.
      next_q_target: [..., A] of the true successor; free where terminated.

    Returns:
      [...] targets.

    Raises:
      AssertionError: shapes differ, or reward is not floating.

    Gradient: everything is stopped.

    Source: van Hasselt, Guez & Silver (2016), "Deep RL with double Q-learning", eq. 4.

    Examples:
      >>> from purerl import losses
      >>> online, target = jnp.array([[1.0, 2.0]]), jnp.array([[9.0, 4.0]])
      >>> print(losses.double_q_target(jnp.array([1.0]), jnp.array([0.5]), online, target))
      [3.]
    """
    same_shape(next_q_online=next_q_online, next_q_target=next_q_target)
    check_rows("next_q_online", next_q_online, reward=reward)
    return td_target(reward, discount, action_value(next_q_target, jnp.argmax(next_q_online, axis=-1)))


def sarsa_target(reward: jax.Array, discount: jax.Array, next_q: jax.Array, next_action: jax.Array) -> jax.Array:
    """Target of SARSA: y = r + d · q(s', a').

    Args:
      reward: [...] floating.
      discount: [...], γ · (1 − terminated).
      next_q: [..., A] of the true successor; free where terminated.
      next_action: [...] integer, the action taken next; any valid index where terminated.

    Returns:
      [...] targets.

    Raises:
      AssertionError: shapes differ, reward is not floating, or next_action is not integer.

    Gradient: everything is stopped.

    Source: Rummery & Niranjan (1994); Sutton & Barto (2018), eq. 6.7.

    Examples:
      >>> from purerl import losses
      >>> print(losses.sarsa_target(jnp.array([1.0]), jnp.array([0.5]), jnp.array([[4.0, 2.0]]), jnp.array([1])))
      [2.]
    """
    same_shape(reward=reward, next_action=next_action)
    check_rows("next_q", next_q, reward=reward)
    return td_target(reward, discount, action_value(next_q, next_action))


def expected_sarsa_target(
    reward: jax.Array, discount: jax.Array, next_q: jax.Array, next_probs: jax.Array
) -> jax.Array:
    """Target of expected SARSA: y = r + d · Σ_a π(a|s') · q(s', a).

    Args:
      reward: [...] floating.
      discount: [...], γ · (1 − terminated).
      next_q: [..., A] of the true successor; free where terminated, and where the probability is 0.
      next_probs: [..., A] probabilities of the evaluated policy at the true successor.

    Returns:
      [...] targets.

    Raises:
      AssertionError: shapes differ, or reward is not floating.

    Gradient: everything is stopped.

    Source: van Seijen et al. (2009); Sutton & Barto (2018), eq. 6.9.

    Examples:
      >>> from purerl import losses
      >>> next_q, next_probs = jnp.array([[4.0, -jnp.inf]]), jnp.array([[1.0, 0.0]])
      >>> print(losses.expected_sarsa_target(jnp.array([1.0]), jnp.array([0.5]), next_q, next_probs))
      [3.]
    """
    same_shape(next_q=next_q, next_probs=next_probs)
    check_rows("next_q", next_q, reward=reward)
    return td_target(reward, discount, jnp.sum(next_probs * cut(next_q, next_probs), axis=-1))


def soft_q_target(
    reward: jax.Array, discount: jax.Array, next_q: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """Target of soft Q-learning: y = r + d · τ · log Σ_a exp(q(s', a) / τ).

    Computed as max q + τ · log Σ exp((q − max q) / τ), which at τ = 0 is the hard maximum.

    Args:
      reward: [...] floating.
      discount: [...], γ · (1 − terminated).
      next_q: [..., A] of the true successor; free where terminated.
      temperature: scalar τ ≥ 0, in the units of the reward.

    Returns:
      [...] targets.

    Raises:
      AssertionError: shapes differ, or reward is not floating.

    Gradient: everything is stopped.

    Source: Haarnoja et al. (2017), "RL with deep energy-based policies", eq. 3 and theorem 2, over discrete actions.

    Examples:
      >>> from purerl import losses
      >>> target = losses.soft_q_target(jnp.zeros(1), jnp.ones(1), next_q=jnp.zeros((1, 2)), temperature=1.0)
      >>> [round(x, 3) for x in target.tolist()]
      [0.693]
    """
    check_rows("next_q", next_q, reward=reward)
    next_q = jnp.asarray(next_q)
    best = next_q.max(axis=-1)
    highest = jnp.where(jnp.isfinite(best), best, 0)  # all actions may be invalid: −∞ − (−∞) is NaN
    scaled = (next_q - highest[..., None]) / jnp.maximum(temperature, jnp.finfo(next_q.dtype).tiny)
    total = jnp.where(jnp.isfinite(best), jnp.exp(scaled).sum(axis=-1), 1)  # of all invalid 0, and 0 · log 0 is NaN
    return td_target(reward, discount, best + temperature * jnp.log(total))


def entropy_regularized_target(
    reward: jax.Array,
    discount: jax.Array,
    next_q: jax.Array,
    next_log_prob: jax.Array,
    temperature: float | jax.Array,
) -> jax.Array:
    """Target of soft actor-critic: y = r + d · (q(s', a') − α · log π(a'|s')), with a' drawn from the policy.

    Args:
      reward: [...] floating.
      discount: [...], γ · (1 − terminated).
      next_q: [...] of the action drawn at the true successor, the smaller of two critics; free where terminated.
      next_log_prob: [...], log π(a'|s'); free where terminated.
      temperature: scalar α, in the units of the reward.

    Returns:
      [...] targets.

    Raises:
      AssertionError: shapes differ, or reward is not floating.

    Gradient: everything is stopped.

    Source: Haarnoja et al. (2018), "Soft actor-critic algorithms and applications", eq. 3 and 5.

    Examples:
      >>> from purerl import losses
      >>> next_q, next_log_prob = jnp.array([4.0]), jnp.array([-2.0])
      >>> print(losses.entropy_regularized_target(jnp.array([1.0]), jnp.array([0.5]), next_q, next_log_prob, 0.5))
      [3.5]
    """
    same_shape(reward=reward, next_q=next_q, next_log_prob=next_log_prob)
    return td_target(reward, discount, next_q - temperature * next_log_prob)

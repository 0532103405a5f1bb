"""Returns corrected for data from another policy, time-major `[T, ...]` like `returns`, where they are reachable.

`log_rho = log π(a|s) − log μ(a|s)` is the log importance ratio of the action taken, where π is the evaluated policy and
μ the one that acted. The rules of `returns` hold here too: a terminated successor may be NaN, what follows a cut never
reaches what precedes it, the end of the batch is a cut, scalars stand for arrays, and no gradient is stopped.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from purerl.returns.recursion import backward_scan, check_rows, common, cut, same_shape


def vtrace(
    reward: jax.Array,
    discount: jax.Array | float,
    value: jax.Array | float,
    next_value: jax.Array | float,
    trace_decay: jax.Array | float,
    log_rho: jax.Array | float,
    rho_bar: float | jax.Array = 1.0,
    c_bar: float | jax.Array = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """V-trace value targets, and advantages that do not leak over a cut.

    ρ = min(ρ̄, exp log_rho), c = min(c̄, exp log_rho);
    vs[t] = v[t] + ρ[t] · (r[t] + d[t] · v'[t] − v[t]) + d[t] · k[t] · c[t] · (vs[t+1] − v'[t]), with vs[T] = v'[T−1];
    A[t] = ρ[t] · (r[t] + d[t] · (k[t] · vs[t+1] + (1 − k[t]) · v'[t]) − v[t]).

    Args:
      reward: [T, ...] floating.
      discount: [T, ...], γ · (1 − terminated).
      value: [T, ...], v of the state acted in.
      next_value: [T, ...], v' of the true successor; free where terminated.
      trace_decay: [T, ...], k = λ · (1 − (terminated | truncated)).
      log_rho: [T, ...] log importance ratios.
      rho_bar: scalar ρ̄ > 0, which determines the policy whose value is learned; ∞: that of π.
      c_bar: scalar c̄ ≥ 0, which determines how fast it is learned.

    Returns:
      value_target: [T, ...], vs. On-policy with ρ̄ ≥ 1 and c̄ ≥ 1 it is `returns.lambda_returns`.
      advantage: [T, ...], A.

    Raises:
      AssertionError: shapes differ, reward is not floating, or discount or trace_decay is boolean.

    Gradient: nothing is stopped; `losses.vtrace_actor_critic` stops what must be stopped.

    Source: Espeholt et al. (2018), "IMPALA", eq. 1 and remark 2 (λ), advantage of section 4.2 with λ and cuts added.

    Examples:
      >>> from purerl import returns
      >>> reward, value, next_value = jnp.array([1.0, 1.0]), jnp.array([2.0, 4.0]), jnp.array([4.0, 6.0])
      >>> value_target, advantage = returns.vtrace(reward, 0.5, value, next_value, 1.0, log_rho=0.0)
      >>> print(value_target, advantage)
      [3. 4.] [1. 0.]
    """
    reward, discount, value, next_value, trace_decay, log_rho = common(
        reward=reward, discount=discount, value=value, next_value=next_value, trace_decay=trace_decay, log_rho=log_rho
    )
    rho_bar, c_bar = (jnp.asarray(bar, reward.dtype) for bar in (rho_bar, c_bar))
    rho = jnp.exp(jnp.minimum(log_rho, jnp.log(rho_bar)))
    c = jnp.exp(jnp.minimum(log_rho, jnp.log(c_bar)))
    next_value = cut(next_value, discount)
    correction = value + rho * (reward + discount * next_value - value)

    def step(target: jax.Array, base: jax.Array, trace: jax.Array, next_value: jax.Array) -> jax.Array:
        return base + trace * cut(target - next_value, trace)

    value_target = backward_scan(step, next_value[-1], correction, discount * trace_decay * c, next_value)
    following = cut(jnp.concatenate([value_target[1:], next_value[-1:]]), discount * trace_decay)
    bootstrap = trace_decay * following + (1 - trace_decay) * next_value
    return value_target, rho * (reward + discount * bootstrap - value)


def retrace(
    reward: jax.Array,
    discount: jax.Array | float,
    next_expected_q: jax.Array | float,
    next_q_taken: jax.Array | float,
    c: jax.Array | float,
) -> jax.Array:
    """Return of an action value, corrected by one trace coefficient per step.

    G[t] = r[t] + d[t] · (E[t] + c[t] · (G[t+1] − q[t])), with E = Σ_a π(a|s') · q(s', a), q = q(s', a') and c[T−1] = 0.

    The coefficient names the algorithm, k being trace_decay and ρ', π(a'|s') those of the next action: k · min(1, ρ')
    is Retrace(λ), k · ρ' per-decision importance sampling with a control variate, k · π(a'|s') `tree_backup`, k alone
    Harutyunyan's Q(λ), which holds only for policies close to each other.

    Args:
      reward: [T, ...] floating.
      discount: [T, ...], γ · (1 − terminated).
      next_expected_q: [T, ...], E at the true successor; free where terminated.
      next_q_taken: [T, ...], q of the action taken next; free where c is 0.
      c: [T, ...], trace coefficient of the next action, 0 where the episode was cut (terminated or truncated).

    Returns:
      [T, ...] returns, targets of q(s[t], a[t]).

    Raises:
      AssertionError: shapes differ, reward is not floating, or discount is boolean.

    Gradient: nothing is stopped.

    Source: Munos et al. (2016), "Safe and efficient off-policy reinforcement learning", eq. 3 and 4, as a recursion.

    Examples:
      >>> from purerl import returns
      >>> next_expected_q, next_q_taken = jnp.array([4.0, 6.0]), jnp.array([3.0, 5.0])
      >>> print(returns.retrace(jnp.array([1.0, 2.0]), 0.5, next_expected_q, next_q_taken, c=0.5))
      [3.5 5. ]
    """
    reward, discount, next_expected_q, next_q_taken, c = common(
        reward=reward, discount=discount, next_expected_q=next_expected_q, next_q_taken=next_q_taken, c=c
    )

    def step(g: jax.Array, r: jax.Array, d: jax.Array, e: jax.Array, q: jax.Array, c: jax.Array) -> jax.Array:
        return r + d * (cut(e, d) + c * cut(g - q, d * c))

    last = jnp.zeros_like(reward[0])
    return backward_scan(step, last, reward, discount, next_expected_q, next_q_taken, c.at[-1].set(0))


def tree_backup(
    reward: jax.Array,
    discount: jax.Array | float,
    next_expected_q: jax.Array | float,
    next_q_taken: jax.Array | float,
    next_prob_taken: jax.Array | float,
    trace_decay: jax.Array | float,
) -> jax.Array:
    """Tree backup: off-policy returns without importance ratios, bootstrapped from the actions not taken.

    G[t] = r[t] + d[t] · (E[t] + k[t] · π[t] · (G[t+1] − q[t])), with π = π(a'|s') of the action taken next; `retrace`
    with c = k · π.

    Args:
      reward: [T, ...] floating.
      discount: [T, ...], γ · (1 − terminated).
      next_expected_q: [T, ...], E = Σ_a π(a|s') · q(s', a); free where terminated.
      next_q_taken: [T, ...], q(s', a') of the action taken next; free at cuts.
      next_prob_taken: [T, ...], π(a'|s'); free at cuts.
      trace_decay: [T, ...], k = λ · (1 − (terminated | truncated)).

    Returns:
      [T, ...] returns, targets of q(s[t], a[t]).

    Raises:
      AssertionError: shapes differ, reward is not floating, or discount or trace_decay is boolean.

    Gradient: nothing is stopped.

    Source: Precup, Sutton & Singh (2000), tree backup; Sutton & Barto (2018), eq. 7.16, with λ.

    Examples:
      >>> from purerl import returns
      >>> next_expected_q, next_q_taken = jnp.array([4.0, 6.0]), jnp.array([3.0, 5.0])
      >>> print(returns.tree_backup(jnp.array([1.0, 2.0]), 0.5, next_expected_q, next_q_taken, 0.5, trace_decay=1.0))
      [3.5 5. ]
    """
    reward, next_prob_taken, trace_decay = common(
        reward=reward, next_prob_taken=next_prob_taken, trace_decay=trace_decay
    )
    c = trace_decay * cut(next_prob_taken, trace_decay)
    return retrace(reward, discount, next_expected_q, next_q_taken, c)


def q_lambda(
    reward: jax.Array,
    discount: jax.Array | float,
    next_q: jax.Array,
    next_action: jax.Array,
    trace_decay: jax.Array | float,
) -> jax.Array:
    """Watkins's Q(λ): the trace continues only while the next action is a greedy one.

    G[t] = r[t] + d[t] · (max_a q[t, a] + c[t] · (G[t+1] − max_a q[t, a])), with c = k where q[t, a'[t]] = max_a q[t,
    a], else 0. (Peng's Q(λ) never cuts: `returns.lambda_returns` with next_value = max_a q.)

    Args:
      reward: [T, ...] floating.
      discount: [T, ...], γ · (1 − terminated).
      next_q: [T, ..., A], q of the true successor; free where terminated.
      next_action: [T, ...] integer, the action taken next; any valid index at cuts.
      trace_decay: [T, ...], k = λ · (1 − (terminated | truncated)).

    Returns:
      [T, ...] returns, targets of q(s[t], a[t]).

    Raises:
      AssertionError: shapes differ, reward is not floating, or next_action is not integer.

    Gradient: nothing is stopped.

    Source: Watkins (1989); Sutton & Barto (2018), section 12.10.

    Examples:
      >>> from purerl import returns
      >>> reward, next_q = jnp.array([1.0, 2.0]), jnp.array([[4.0, 0.0], [6.0, 0.0]])
      >>> print(returns.q_lambda(reward, 0.5, next_q, next_action=jnp.array([0, 0]), trace_decay=1.0))
      [3.5 5. ]
      >>> print(returns.q_lambda(reward, 0.5, next_q, next_action=jnp.array([1, 0]), trace_decay=1.0))  # exploratory
      [3. 5.]
    """
    same_shape(reward=reward, next_action=next_action)
    check_rows("next_q", next_q, reward=reward)
    chex.assert_type(next_action, int)
    reward, discount, trace_decay = common(reward=reward, discount=discount, trace_decay=trace_decay)
    next_q = cut(next_q, discount[..., None])  # the maximum of NaN has no derivative
    best = next_q.max(axis=-1)
    taken = jnp.take_along_axis(next_q, next_action[..., None], axis=-1)[..., 0]  # [T, ..., A] -> [T, ...]
    return retrace(reward, discount, best, best, jnp.where(taken == best, trace_decay, 0))

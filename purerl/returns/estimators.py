"""Returns and advantages of trajectories, time-major `[T, ...]` with any trailing axes, in time linear in T.

Two arrays say where episodes end, with one number per step: `discount = γ · (1 − terminated)` and
`trace_decay = λ · (1 − (terminated | truncated))`. A terminated step has no future: its `next_value` may be NaN. A
truncated step bootstraps from its own `next_value`, the value of the true successor. What follows a cut (`trace_decay`
0) never reaches what precedes it. The end of the batch is a cut: everything there bootstraps from `next_value[-1]`.
Every argument but the reward may be a scalar, such as `discount=0.99` for a trajectory in which no episode ends.

No gradient is stopped here. Derivatives are exact in every argument, except that with respect to a `discount` or
`trace_decay` that is exactly 0 the derivative is 0, since a cut hides what lies behind it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from purerl.returns.recursion import backward_scan, common, compose, cut


def reward_to_go(reward: jax.Array, discount: jax.Array | float) -> jax.Array:
    """Discounted sum of the rewards from each step to the end of its episode or of the batch, without bootstrap.

    G[t] = r[t] + d[t] · G[t+1], with G[T] = 0.

    Args:
      reward: [T, ...] floating.
      discount: [T, ...], γ · (1 − done): pass 0 wherever an episode ends, truncated or terminated.

    Returns:
      [T, ...] returns.

    Raises:
      AssertionError: shapes differ, reward is not floating, or discount is boolean.

    Gradient: nothing is stopped.

    Source: Sutton & Barto (2018), eq. 3.9.

    Examples:
      >>> from purerl import returns
      >>> print(returns.reward_to_go(jnp.array([1.0, 2.0, 4.0]), 0.5))
      [3. 4. 4.]
    """
    reward, discount = common(reward=reward, discount=discount)
    return backward_scan(lambda g, r, d: r + d * cut(g, d), jnp.zeros_like(reward[0]), reward, discount)


def whole_returns(reward: jax.Array, discount: jax.Array | float) -> jax.Array:
    """The return of the whole episode at each of its steps: the weight of REINFORCE in its first form.

    G as in `reward_to_go`; W[t] = G[t] where an episode starts (t = 0, or d[t−1] = 0), and W[t−1] elsewhere.

    Args:
      reward: [T, ...] floating.
      discount: [T, ...], γ · (1 − done): 0 wherever an episode ends.

    Returns:
      [T, ...] returns, discounted from the start of the episode (or of the batch).

    Raises:
      AssertionError: shapes differ, reward is not floating, or discount is boolean.

    Gradient: nothing is stopped.

    Source: Williams (1992), section 6, episodic REINFORCE.

    Examples:
      >>> from purerl import returns
      >>> print(returns.whole_returns(jnp.array([1.0, 2.0, 4.0]), jnp.array([0.5, 0.0, 0.5])))
      [2. 2. 4.]
    """
    reward, discount = common(reward=reward, discount=discount)
    starts = jnp.concatenate([jnp.ones_like(discount[:1], bool), discount[:-1] == 0])
    to_go = reward_to_go(reward, discount)

    def select(whole: jax.Array, g: jax.Array, start: jax.Array) -> jax.Array:
        return jnp.where(start, g, whole)

    return backward_scan(select, to_go[0], to_go[::-1], starts[::-1])[::-1]


def n_step_returns(
    reward: jax.Array,
    discount: jax.Array | float,
    next_value: jax.Array | float,
    trace_decay: jax.Array | float,
    n: int,
) -> jax.Array:
    """Return of n rewards and then a bootstrap, or of fewer where a cut or the end of the batch comes first.

    G¹[t] = r[t] + d[t] · v'[t] and Gⁿ[t] = r[t] + d[t] · ((1 − k[t]) · v'[t] + k[t] · Gⁿ⁻¹[t+1]), with k[T−1] = 0.
    The n − 1 affine maps are composed by doubling, in O(T log n).

    Args:
      reward: [T, ...] floating.
      discount: [T, ...], γ · (1 − terminated).
      next_value: [T, ...], v' of the true successor; free where terminated.
      trace_decay: [T, ...], k: 1 where the episode continues, 0 where it was cut (terminated or truncated).
      n: number of steps, a Python int of at least 1.

    Returns:
      [T, ...] returns. With n ≥ T they are `lambda_returns` at λ = 1.

    Raises:
      AssertionError: shapes differ, reward is not floating, or discount is boolean.
      ValueError: n is less than 1.

    Gradient: nothing is stopped.

    Source: Sutton & Barto (2018), eq. 7.1, with truncation added.

    Examples:
      >>> from purerl import returns
      >>> reward, next_value = jnp.array([1.0, 2.0, 3.0]), jnp.array([10.0, 20.0, 30.0])
      >>> print(returns.n_step_returns(reward, 0.5, next_value, trace_decay=1.0, n=2))
      [ 7. 11. 18.]
    """
    if jnp.result_type(trace_decay) == jnp.bool_:  # whether the episode continues, which is a factor here
        trace_decay = jnp.asarray(trace_decay, jnp.int32)
    reward, discount, next_value, trace_decay = common(
        reward=reward, discount=discount, next_value=next_value, trace_decay=trace_decay
    )
    if n < 1:
        raise ValueError(f"n = {n}: an n-step return needs at least one step")
    trace_decay = trace_decay.at[-1].set(0)
    next_value = cut(next_value, discount)
    one_step = reward + discount * next_value
    return compose(discount * trace_decay, reward + discount * (1 - trace_decay) * next_value, one_step, n - 1)


def lambda_returns(
    reward: jax.Array, discount: jax.Array | float, next_value: jax.Array | float, trace_decay: jax.Array | float
) -> jax.Array:
    """λ-return: the mixture of all n-step returns with weights (1 − λ) · λⁿ⁻¹.

    G[t] = r[t] + d[t] · ((1 − k[t]) · v'[t] + k[t] · G[t+1]), with G[T] = v'[T−1] (d · (1 − k) as d − d · k).

    Args:
      reward: [T, ...] floating.
      discount: [T, ...], γ · (1 − terminated).
      next_value: [T, ...], v' of the true successor; free where terminated.
      trace_decay: [T, ...], k = λ · (1 − (terminated | truncated)).

    Returns:
      [T, ...] returns.

    Raises:
      AssertionError: shapes differ, reward is not floating, or discount or trace_decay is boolean.

    Gradient: nothing is stopped.

    Source: Sutton & Barto (2018), eq. 12.18, with truncation added. With next_value = max_a q it is Peng's Q(λ), with
    the expected q expected SARSA(λ).

    Examples:
      >>> from purerl import returns
      >>> reward, next_value = jnp.array([1.0, 2.0, 3.0]), jnp.array([10.0, 20.0, jnp.nan])
      >>> discount, trace_decay = jnp.array([0.5, 0.5, 0.0]), jnp.array([0.5, 0.5, 0.0])
      >>> print(returns.lambda_returns(reward, discount, next_value, trace_decay))
      [5.4375 7.75   3.    ]
    """
    reward, discount, next_value, trace_decay = common(
        reward=reward, discount=discount, next_value=next_value, trace_decay=trace_decay
    )

    def step(g: jax.Array, r: jax.Array, d: jax.Array, v: jax.Array, k: jax.Array) -> jax.Array:
        trace = d * k
        return r + (d - trace) * cut(v, d) + trace * cut(g, trace)

    return backward_scan(step, next_value[-1], reward, discount, next_value, trace_decay)


def gae(
    reward: jax.Array,
    discount: jax.Array | float,
    value: jax.Array | float,
    next_value: jax.Array | float,
    trace_decay: jax.Array | float,
) -> jax.Array:
    """Generalized advantage estimate: the exponentially weighted sum of one-step TD errors.

    δ[t] = r[t] + d[t] · v'[t] − v[t] and A[t] = δ[t] + d[t] · k[t] · A[t+1], with A[T] = 0.

    Args:
      reward: [T, ...] floating.
      discount: [T, ...], γ · (1 − terminated).
      value: [T, ...], v of the state acted in.
      next_value: [T, ...], v' of the true successor; free where terminated.
      trace_decay: [T, ...], k = λ · (1 − (terminated | truncated)).

    Returns:
      [T, ...] advantages. gae + value = `lambda_returns` where next_value[t] = value[t+1] at every step that is not
      cut.

    Raises:
      AssertionError: shapes differ, reward is not floating, or discount or trace_decay is boolean.

    Gradient: nothing is stopped.

    Source: Schulman et al. (2016), "High-dimensional continuous control using GAE", eq. 16, with truncation added.

    Examples:
      >>> from purerl import returns
      >>> reward, value, next_value = jnp.array([3.0, 5.0]), jnp.array([4.0, 6.0]), jnp.array([6.0, 8.0])
      >>> print(returns.gae(reward, 0.5, value, next_value, 0.5))
      [2.75 3.  ]
    """
    reward, discount, value, next_value, trace_decay = common(
        reward=reward, discount=discount, value=value, next_value=next_value, trace_decay=trace_decay
    )

    def step(a: jax.Array, r: jax.Array, d: jax.Array, v: jax.Array, w: jax.Array, k: jax.Array) -> jax.Array:
        return r + d * cut(w, d) - v + d * k * cut(a, d * k)

    return backward_scan(step, jnp.zeros_like(reward[0]), reward, discount, value, next_value, trace_decay)

"""Tabular control by temporal differences: Q-learning, double Q-learning, SARSA in its forms, and Q(λ).

With `rollout_length=1` and `num_envs=1` they are the online algorithms of the textbook; otherwise all errors of an
update are taken before the table changes, and an entry that occurs several times steps along their mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl import exploration, losses, returns
from purerl.agents.tabular import tables
from purerl.hparams import NonNegative, UnitInterval, check_positive
from purerl.types import Agent, Experience, HasSpaces, Metrics, Transition


class TDControlHparams(NamedTuple):
    """Hyperparameters of tabular control.

    Attributes:
      step_size: α; the n-th step of an entry is α / n^step_size_decay.
      step_size_decay: ω; 0 keeps the step size, more than 1/2 is needed for convergence where there is noise.
      discount: γ.
      epsilon: probability of a uniformly random action in the first update; then ε / k^epsilon_decay.
      epsilon_decay: 0 keeps ε.
      trace_decay: λ, of `q_lambda`.
      initial_value: what every entry starts at; above what can be earned, it makes the agent try everything.
    """

    step_size: NonNegative = 0.1
    step_size_decay: UnitInterval = 0.0
    discount: UnitInterval = 0.99
    epsilon: UnitInterval = 0.1
    epsilon_decay: UnitInterval = 0.0
    trace_decay: UnitInterval = 0.9
    initial_value: Any = 0.0


class TDControlState(NamedTuple):
    """What a tabular control agent carries.

    Attributes:
      q: [S, A]; of double Q-learning [2, S, A].
      visits: how often each entry of q has made a step.
      pending: `Transition` [D, N], the last steps, which still wait for what follows them.
      eligibility: `tabular.Eligibility` of `q_lambda`, leaves [N, S A] and [N]; `()` for the others.
      hparams: the hyperparameters.
      num_updates: int32.
    """

    q: jax.Array
    visits: jax.Array
    pending: Experience
    eligibility: Experience
    hparams: Any
    num_updates: jax.Array


def q_learning(env: HasSpaces, *, double: bool = False) -> Agent:
    """Q-learning: q(s, a) ← q(s, a) + α (r + γ max_b q(s', b) − q(s, a)), acting ε-greedily.

    Args:
      env: an environment with `Discrete` observations and actions.
      double: two tables, of which a coin chooses for each step the one to change; it also chooses the next action,
        which the other one judges. The agent acts on their mean.

    Returns:
      An agent with `TDControlHparams`.

    Raises:
      TypeError: a space is not `Discrete`.

    Source: Watkins & Dayan (1992), eq. 1; van Hasselt (2010), algorithm 1; Sutton & Barto (2018), eq. 6.8 and 6.10.
    """

    def error(key: jax.Array, q: jax.Array, steps: Transition, follows: jax.Array, hparams: Any) -> Any:
        chosen = jax.random.bernoulli(key, 0.5, steps.reward.shape).astype(jnp.int32) if double else 0
        discount = hparams.discount * (1 - steps.terminated)
        ours, other = q[chosen, steps.next_obs], q[len(q) - 1 - chosen, steps.next_obs]
        target = losses.double_q_target(steps.reward, discount, ours, other)
        return chosen, target - q[chosen, steps.obs, steps.action]

    return _agent(env, error, delay=0, num_tables=2 if double else 1)


def sarsa(env: HasSpaces, *, n: int = 1, expected: bool = False) -> Agent:
    """SARSA: q(s, a) ← q(s, a) + α (r + γ q(s', a') − q(s, a)), with a' the action taken next, and its n-step form.

        G[t] = r[t] + γ r[t+1] + ... + γⁿ⁻¹ r[t+n−1] + γⁿ q(s[t+n], a[t+n]),     q(s[t], a[t]) steps towards G[t]

    The step at t is made once a[t+n] is known, which is in the update after it. Where an episode was truncated, or
    another one begins, no next action was taken, and its expectation under the ε-greedy policy stands for it.

    Args:
      env: an environment with `Discrete` observations and actions.
      n: rewards before the bootstrap.
      expected: bootstrap from Σ_a π(a | s) q(s, a), π the ε-greedy policy, in place of q(s, a).

    Returns:
      An agent with `TDControlHparams`.

    Raises:
      TypeError: a space is not `Discrete`.
      ValueError: n is not a positive integer.

    Source: Sutton & Barto (2018), eq. 6.7, 6.9, 7.4 and 7.7.
    """
    check_positive(n=n)

    def error(key: jax.Array, q: jax.Array, steps: Transition, follows: jax.Array, hparams: Any) -> Any:
        next_q = q[0, steps.next_obs]
        probs = exploration.epsilon_greedy_probs(next_q, hparams.epsilon)
        next_value = jnp.sum(probs * next_q, axis=-1)
        if not expected:
            next_action = jnp.roll(steps.action, -1, axis=0)
            next_value = jnp.where(follows, losses.action_value(next_q, next_action), next_value)
        discount = hparams.discount * (1 - steps.terminated)
        target = returns.n_step_returns(steps.reward, discount, next_value, follows.astype(next_value.dtype), n)
        return 0, target - q[0, steps.obs, steps.action]

    return _agent(env, error, delay=n - 1 if expected else n, num_tables=1)


def q_lambda(env: HasSpaces, *, traces: str = "replacing") -> Agent:
    """Watkins's Q(λ): Q-learning whose errors also change earlier entries, until an exploratory action.

        e ← γ λ e where the action is greedy, 0 where not;   e(s, a) ← e(s, a) + 1, or 1;   q ← q + α δ e

    with δ = r + γ max_b q(s', b) − q(s, a). Steps are taken one by one, environment after environment.

    Args:
      env: an environment with `Discrete` observations and actions.
      traces: "accumulating" or "replacing".

    Returns:
      An agent with `TDControlHparams`.

    Raises:
      TypeError: a space is not `Discrete`.
      ValueError: another kind of traces.

    Source: Watkins (1989); Sutton & Barto (2018), section 12.10.
    """
    if traces not in tables.TRACES[:2]:
        raise ValueError(f"traces must be one of {tables.TRACES[:2]}, got {traces!r}")
    num_states, num_actions = tables.sizes(env)
    base = q_learning(env)

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> TDControlState:
        state = base.init(key, hparams, example, num_envs)
        return state._replace(eligibility=tables.new_eligibility(num_states * num_actions, num_envs))

    def update(key: jax.Array, state: TDControlState, data: Transition) -> tuple[TDControlState, Metrics]:
        hparams = state.hparams

        def judge(value: jax.Array, x: Transition) -> tuple[jax.Array, tables.Judgement]:
            q = value.reshape(num_states, num_actions)
            taken, next_value = q[x.obs, x.action], jnp.where(x.terminated, 0, q[x.next_obs].max())
            decay = hparams.discount * hparams.trace_decay * (taken == q[x.obs].max())
            error = x.reward + hparams.discount * next_value - taken
            return x.obs * num_actions + x.action, tables.Judgement(error, next_value, decay, jnp.ones_like(error))

        table = tables.Table(state.q.reshape(-1), state.visits.reshape(-1))
        table, eligibility, square = tables.walk(
            traces, table, state.eligibility, data, judge, hparams.step_size, hparams.step_size_decay
        )
        state = _finish(state, table, state.pending)._replace(eligibility=eligibility)
        return state, {"loss/td_error": jnp.sqrt(square)}

    return Agent(init, base.act, update)


def _agent(env: HasSpaces, error: Callable[..., Any], *, delay: int, num_tables: int) -> Agent:
    """Agent from `error(key, q [C, S, A], steps [D+T, N], follows, hparams) -> (table of each step, error)`."""
    num_states, num_actions = tables.sizes(env)
    shape = (num_tables, num_states, num_actions)

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> TDControlState:
        q = jnp.full(shape if num_tables > 1 else shape[1:], hparams.initial_value, jnp.result_type(float))
        return TDControlState(q, jnp.zeros_like(q), _nothing(delay, num_envs), (), hparams, jnp.int32(0))

    def act(key: jax.Array | None, state: TDControlState, obs: jax.Array) -> tuple[jax.Array, tuple]:
        q = state.q.reshape(shape)[:, obs].mean(axis=0)
        if key is None:
            return exploration.greedy(None, q), ()
        return exploration.epsilon_greedy(key, q, _epsilon(state)), ()

    def update(key: jax.Array, state: TDControlState, data: Transition) -> tuple[TDControlState, Metrics]:
        chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
        length = len(data.reward)
        data = data._replace(aux=(), memory=(), mask=tables.weights(data))
        steps = jax.tree.map(lambda *x: jnp.concatenate(x), state.pending, data)
        hparams = state.hparams._replace(epsilon=_epsilon(state))
        chosen, errors = error(key, state.q.reshape(shape), steps, _follows(steps), hparams)
        index = (jnp.broadcast_to(chosen, errors.shape) * num_states + steps.obs) * num_actions + steps.action
        index, errors, mask = (x[:length].reshape(-1) for x in (index, errors, steps.mask))
        table = tables.Table(state.q.reshape(-1), state.visits.reshape(-1))
        table = tables.mean_step(table, index, errors, mask, hparams.step_size, hparams.step_size_decay)
        pending = jax.tree.map(lambda x: x[length:], steps)
        return _finish(state, table, pending), {"loss/td_error": jnp.sqrt(tables.mean_square(errors, mask))}

    return Agent(init, act, update)


def _finish(state: TDControlState, table: tables.Table, pending: Transition) -> TDControlState:
    shape = state.q.shape
    return state._replace(
        q=table.value.reshape(shape),
        visits=table.visits.reshape(shape),
        pending=pending,
        num_updates=state.num_updates + 1,
    )


def _epsilon(state: TDControlState) -> jax.Array:
    return state.hparams.epsilon / (state.num_updates + 1.0) ** state.hparams.epsilon_decay


def _follows(steps: Transition) -> jax.Array:
    """Whether the next row is the next step of the same episode, [T, N]; never in the last row."""
    same = (steps.next_obs == jnp.roll(steps.obs, -1, axis=0)) & (steps.mask > 0) & (jnp.roll(steps.mask, -1, 0) > 0)
    return (same & ~steps.terminated & ~steps.truncated).at[-1].set(False)


def _nothing(length: int, num_envs: int) -> Transition:
    """Steps that do not count, [length, num_envs]."""
    shape = (length, num_envs)
    zeros, off, number = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool), jnp.zeros(shape, jnp.float32)
    return Transition(zeros, zeros, number, off, ~off, zeros, mask=number)

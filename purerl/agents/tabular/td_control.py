"""Tabular control by temporal differences: Q-learning, double Q-learning, SARSA in its forms, and Q(λ).

With `rollout_length=1` and `num_envs=1` they are the online algorithms of the textbook; otherwise all errors of an
update are computed before the table changes, and an entry that occurs several times moves along their mean. They act
ε-greedily or by a softmax of the values at a temperature (`exploration="boltzmann"`). Metric: `loss/td_error`, the
mean of the absolute errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp
import optax

from purerl import losses, returns
from purerl.agents.common.trajectories import discounts
from purerl.agents.tabular import tables
from purerl.exploration import boltzmann, boltzmann_probs, epsilon_greedy, epsilon_greedy_probs, greedy
from purerl.hparams import NonNegative, UnitInterval, check_positive
from purerl.once import build_once
from purerl.types import Agent, Experience, HasSpaces, Key, Metrics, Requirements, Transition

EXPLORATIONS = ("epsilon_greedy", "boltzmann")


class TDControlHparams(NamedTuple):
    """Hyperparameters of tabular control.

    Attributes:
      step_size: α; the n-th step of an entry is α / n^step_size_decay.
      step_size_decay: ω; 0 keeps the step size, more than 1/2 is needed for convergence under noise.
      discount: γ.
      epsilon: probability of a uniformly random action in the first update; then ε / k^epsilon_decay.
      epsilon_decay: 0 keeps ε.
      trace_decay: λ, of `q_lambda`.
      initial_value: initial value of every entry; above what can be earned, it makes the agent try everything.
      temperature: τ of `exploration="boltzmann"` in the first update, in units of reward; then τ / k^temperature_decay.
      temperature_decay: 0 keeps τ.
    """

    step_size: NonNegative = 0.1
    step_size_decay: UnitInterval = 0.0
    discount: UnitInterval = 0.99
    epsilon: UnitInterval = 0.1
    epsilon_decay: UnitInterval = 0.0
    trace_decay: UnitInterval = 0.9
    initial_value: Any = 0.0
    temperature: NonNegative = 1.0
    temperature_decay: UnitInterval = 0.0


class TDControlState(NamedTuple):
    """State of a tabular control agent.

    Attributes:
      q: [S, A]; of double Q-learning [2, S, A].
      visits: number of steps of each entry of q.
      pending: `Transition` [D, N], the last steps, whose successors are not known yet.
      eligibility: `tables.Eligibility` of `q_lambda`, leaves [N, S A] and [N]; `()` for the others.
      hparams: the hyperparameters.
      num_updates: int32.
    """

    q: jax.Array
    visits: jax.Array
    pending: Experience
    eligibility: Experience
    hparams: TDControlHparams
    num_updates: jax.Array


Errors: TypeAlias = tuple[jax.Array | int, jax.Array]
"""The table of each step, and its error, [D + T, N] each."""
ErrorFn: TypeAlias = Callable[[Key, jax.Array, Transition, jax.Array, TDControlHparams], Errors]
"""`(key, q [C, S, A], steps [D + T, N], follows [D + T, N], hparams) -> Errors`."""


@build_once
def q_learning(env: HasSpaces, *, double: bool = False, exploration: str = "epsilon_greedy") -> Agent:
    """Q-learning: q(s, a) ← q(s, a) + α (r + γ max_b q(s', b) − q(s, a)), whatever policy acts.

    Args:
      env: an environment with `Discrete` observations and actions.
      double: two tables. A coin picks for each step the one that changes and chooses the next action, which the other
        one evaluates. The agent acts on their mean.
      exploration: "epsilon_greedy", or "boltzmann" for a softmax of the values at `temperature`.

    Returns:
      An agent with `TDControlHparams`.

    Raises:
      TypeError: a space is not `Discrete`.
      ValueError: unknown exploration.

    Source: Watkins & Dayan (1992), eq. 1; van Hasselt (2010), algorithm 1; Sutton & Barto (2018), eq. 6.8 and 6.10.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.from_mdp(purerl.mdp.gridworld_3x4(), max_steps=100)
      >>> agent = purerl.q_learning(env, double=True, exploration="boltzmann")
      >>> state = agent.init(jax.random.key(0), purerl.TDControlHparams(temperature=0.1), example=jnp.int32(0))
      >>> state.q.shape
      (2, 11, 4)
    """

    def error(key: Key, q: jax.Array, steps: Transition, follows: jax.Array, hparams: TDControlHparams) -> Errors:
        chosen = jax.random.bernoulli(key, 0.5, steps.reward.shape).astype(jnp.int32) if double else 0
        discount = discounts(steps, hparams.discount)
        ours, other = q[chosen, steps.next_obs], q[len(q) - 1 - chosen, steps.next_obs]
        target = losses.double_q_target(steps.reward, discount, ours, other)
        return chosen, target - q[chosen, steps.obs, steps.action]

    return _agent(env, error, exploration, delay=0, num_tables=2 if double else 1)


@build_once
def sarsa(env: HasSpaces, *, n: int = 1, expected: bool = False, exploration: str = "epsilon_greedy") -> Agent:
    """SARSA: q(s, a) ← q(s, a) + α (r + γ q(s', a') − q(s, a)), with a' the action taken next, and its n-step form.

        G[t] = r[t] + γ r[t+1] + ... + γⁿ⁻¹ r[t+n−1] + γⁿ q(s[t+n], a[t+n]),     q(s[t], a[t]) steps towards G[t]

    The step at t is made once a[t+n] is known, which is in the next update. Where an episode was truncated no next
    action was taken, and the expectation under the policy that acts takes its place.

    Args:
      env: an environment with `Discrete` observations and actions.
      n: rewards before the bootstrap.
      expected: bootstrap from Σ_a π(a | s) q(s, a), with π the policy that acts, in place of q(s, a).
      exploration: "epsilon_greedy", or "boltzmann" for a softmax of the values at `temperature`.

    Returns:
      An agent with `TDControlHparams`.

    Raises:
      TypeError: a space is not `Discrete`.
      ValueError: n is not a positive integer, or unknown exploration.

    Source: Sutton & Barto (2018), eq. 6.7, 6.9, 7.4 and 7.7.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.from_mdp(purerl.mdp.gridworld_3x4(), max_steps=100)
      >>> agent = purerl.sarsa(env, n=3)
      >>> state = agent.init(jax.random.key(0), purerl.TDControlHparams(), example=jnp.int32(0), num_envs=2)
      >>> state.pending.reward.shape  # three steps of two environments wait for what follows them
      (3, 2)
    """
    check_positive(n=n)

    def error(key: Key, q: jax.Array, steps: Transition, follows: jax.Array, hparams: TDControlHparams) -> Errors:
        next_q = q[0, steps.next_obs]  # [D + T, N, A]
        next_value = jnp.sum(_probs(exploration, next_q, hparams) * next_q, axis=-1)
        if not expected:
            next_action = jnp.roll(steps.action, -1, axis=0)
            next_value = jnp.where(follows, losses.action_value(next_q, next_action), next_value)
        discount = discounts(steps, hparams.discount)
        target = returns.n_step_returns(steps.reward, discount, next_value, follows.astype(next_value.dtype), n)
        return 0, target - q[0, steps.obs, steps.action]

    return _agent(env, error, exploration, delay=n - 1 if expected else n, num_tables=1)


@build_once
def q_lambda(env: HasSpaces, *, traces: str = "replacing", exploration: str = "epsilon_greedy") -> Agent:
    """Watkins's Q(λ): Q-learning whose errors also change earlier entries, until an exploratory action.

        e ← γ λ e where the action is greedy, 0 where not;   e(s, a) ← e(s, a) + 1, or 1;   q ← q + α δ e

    with δ = r + γ max_b q(s', b) − q(s, a). Steps are made one at a time, the environments in turn.

    Args:
      env: an environment with `Discrete` observations and actions.
      traces: "accumulating" or "replacing".
      exploration: "epsilon_greedy", or "boltzmann" for a softmax of the values at `temperature`.

    Returns:
      An agent with `TDControlHparams`.

    Raises:
      TypeError: a space is not `Discrete`.
      ValueError: unknown traces or exploration.

    Source: Watkins (1989); Sutton & Barto (2018), section 12.10.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.from_mdp(purerl.mdp.gridworld_3x4(), max_steps=100)
      >>> agent = purerl.q_lambda(env)
      >>> state = agent.init(jax.random.key(0), purerl.TDControlHparams(trace_decay=0.8), example=jnp.int32(0))
      >>> state.eligibility.trace.shape
      (1, 44)
    """
    if traces not in tables.TRACES[:2]:
        raise ValueError(f"traces must be one of {tables.TRACES[:2]}, got {traces!r}")
    num_states, num_actions = tables.sizes(env)
    base = q_learning(env, exploration=exploration)

    def init(key: Key, hparams: TDControlHparams, example: jax.Array, num_envs: int = 1) -> TDControlState:
        state = base.init(key, hparams, example, num_envs)
        return state._replace(eligibility=tables.new_eligibility(num_states * num_actions, num_envs))

    def update(key: Key, state: TDControlState, data: Transition) -> tuple[TDControlState, Metrics]:
        hparams = state.hparams

        def evaluate_step(value: jax.Array, x: Transition) -> tuple[jax.Array, tables.TraceTerms]:
            q = value.reshape(num_states, num_actions)
            taken, next_value = q[x.obs, x.action], jnp.where(x.terminated, 0, q[x.next_obs].max())
            decay = hparams.discount * hparams.trace_decay * (taken == q[x.obs].max())
            error = x.reward + hparams.discount * next_value - taken
            return x.obs * num_actions + x.action, tables.TraceTerms(error, next_value, decay, jnp.ones_like(error))

        table = tables.Table(state.q.reshape(-1), state.visits.reshape(-1))
        table, eligibility, mean_error = tables.walk(
            traces, table, state.eligibility, data, evaluate_step, hparams.step_size, hparams.step_size_decay
        )
        state = _finish(state, table, state.pending)._replace(eligibility=eligibility)
        return state, {"loss/td_error": mean_error}

    def cut(state: TDControlState) -> TDControlState:
        return state._replace(eligibility=tables.forget(state.eligibility))

    return Agent(init, base.act, update, requires=Requirements("stream"), cut=cut)


def _agent(env: HasSpaces, error: ErrorFn, exploration: str, *, delay: int, num_tables: int) -> Agent:
    """Agent from its errors, with `delay` steps that wait for what follows them and C = `num_tables` tables."""
    if exploration not in EXPLORATIONS:
        raise ValueError(f"exploration must be one of {EXPLORATIONS}, got {exploration!r}")
    num_states, num_actions = tables.sizes(env)
    shape = (num_tables, num_states, num_actions)

    def init(key: Key, hparams: TDControlHparams, example: jax.Array, num_envs: int = 1) -> TDControlState:
        q = jnp.full(shape if num_tables > 1 else shape[1:], hparams.initial_value, jnp.result_type(float))
        return TDControlState(q, jnp.zeros_like(q), _nothing(delay, num_envs), (), hparams, jnp.int32(0))

    def act(key: Key | None, state: TDControlState, obs: jax.Array) -> tuple[jax.Array, tuple]:
        q = state.q.reshape(shape)[:, obs].mean(axis=0)  # [C, S, A] -> [A]
        if key is None:
            return greedy(None, q), ()
        return _explore(exploration, key, q, _annealed(state, exploration)), ()

    def update(key: Key, state: TDControlState, data: Transition) -> tuple[TDControlState, Metrics]:
        chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
        length = len(data.reward)
        steps = jax.tree.map(lambda *x: jnp.concatenate(x), state.pending, tables.clean(data))  # [D + T, N]
        hparams = _annealed(state, exploration)
        chosen, errors = error(key, state.q.reshape(shape), steps, _follows(steps), hparams)
        index = (jnp.broadcast_to(chosen, errors.shape) * num_states + steps.obs) * num_actions + steps.action
        # the first T steps are learned from, the last D wait: [D + T, N] -> [T * N]
        index, errors, weight = (x[:length].reshape(-1) for x in (index, errors, steps.weight))
        table = tables.Table(state.q.reshape(-1), state.visits.reshape(-1))
        table = tables.mean_step(table, index, errors, weight, hparams.step_size, hparams.step_size_decay)
        pending = jax.tree.map(lambda x: x[length:], steps)
        return _finish(state, table, pending), {"loss/td_error": tables.mean_absolute(errors, weight)}

    def cut(state: TDControlState) -> TDControlState:
        pending = state.pending
        ended = pending.truncated.at[-1].set(~pending.terminated[-1] | pending.truncated[-1])
        return state._replace(pending=pending._replace(truncated=ended))

    requires = Requirements("stream" if delay else "rows")
    return Agent(init, act, update, requires=requires, cut=cut if delay else None)


def _finish(state: TDControlState, table: tables.Table, pending: Transition) -> TDControlState:
    q, visits = table.value.reshape(state.q.shape), table.visits.reshape(state.q.shape)
    return state._replace(q=q, visits=visits, pending=pending, num_updates=optax.safe_increment(state.num_updates))


def _annealed(state: TDControlState, exploration: str) -> TDControlHparams:
    """The hyperparameters with the ε or the temperature of the present update."""
    hparams, k = state.hparams, state.num_updates + 1.0
    if exploration == "boltzmann":
        return hparams._replace(temperature=hparams.temperature / k**hparams.temperature_decay)
    return hparams._replace(epsilon=hparams.epsilon / k**hparams.epsilon_decay)


def _explore(exploration: str, key: Key, q: jax.Array, hparams: TDControlHparams) -> jax.Array:
    softmax = exploration == "boltzmann"
    return boltzmann(key, q, hparams.temperature) if softmax else epsilon_greedy(key, q, hparams.epsilon)


def _probs(exploration: str, q: jax.Array, hparams: TDControlHparams) -> jax.Array:
    """[..., A]: the policy of `_explore`."""
    softmax = exploration == "boltzmann"
    return boltzmann_probs(q, hparams.temperature) if softmax else epsilon_greedy_probs(q, hparams.epsilon)


def _follows(steps: Transition) -> jax.Array:
    """Whether the next row is the next step of the same episode, [T, N]; never in the last row."""
    same = (steps.next_obs == jnp.roll(steps.obs, -1, axis=0)) & (steps.mask > 0) & (jnp.roll(steps.mask, -1, 0) > 0)
    return (same & ~steps.terminated & ~steps.truncated).at[-1].set(False)


def _nothing(length: int, num_envs: int) -> Transition:
    """Steps that do not count, [length, num_envs]."""
    shape = (length, num_envs)
    zeros, off, number = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool), jnp.zeros(shape, jnp.float32)
    return Transition(zeros, zeros, number, off, ~off, zeros, mask=number, weight=number)

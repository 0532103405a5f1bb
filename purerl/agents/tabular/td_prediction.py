"""Tabular prediction by temporal differences: TD(0), n-step TD and TD(λ), on-policy and off-policy."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from purerl import returns
from purerl.agents.common.trajectories import discounts, done
from purerl.agents.tabular import tables
from purerl.hparams import NonNegative, UnitInterval, check_positive
from purerl.once import build_once
from purerl.types import Agent, Experience, HasSpaces, Key, Metrics, Requirements, Transition, UpdateFn


class TDHparams(NamedTuple):
    """Hyperparameters of prediction.

    Attributes:
      step_size: α; the n-th step of an entry is α / n^step_size_decay.
      step_size_decay: ω; 0 keeps the step size.
      discount: γ.
      trace_decay: λ, of `td_lambda`.
      initial_value: initial value of every entry.
      policy: [S, A] probabilities of the evaluated policy; None: uniform.
      behavior: [S, A] probabilities of the policy that acts, positive where `policy` is; None: the evaluated one.
    """

    step_size: NonNegative = 0.1
    step_size_decay: UnitInterval = 0.0
    discount: UnitInterval = 0.99
    trace_decay: UnitInterval = 0.9
    initial_value: Any = 0.0
    policy: Any = None
    behavior: Any = None


class TDState(NamedTuple):
    """State of a prediction agent.

    Attributes:
      value: [S].
      visits: [S], number of steps of each entry.
      eligibility: `tables.Eligibility` with leaves [N, S] and [N]; `()` without traces.
      hparams: the hyperparameters.
      num_updates: int32.
    """

    value: jax.Array
    visits: jax.Array
    eligibility: Experience
    hparams: TDHparams
    num_updates: jax.Array


@build_once
def td(env: HasSpaces, *, n: int = 1) -> Agent:
    """n-step temporal-difference prediction of v_π, corrected by importance sampling if another policy acts.

        D¹[t] = ρ[t] δ[t],   Dⁿ[t] = ρ[t] (δ[t] + γ Dⁿ⁻¹[t+1]),   v(s[t]) ← v(s[t]) + α Dⁿ[t]

    with δ[t] = r[t] + γ v(s[t+1]) − v(s[t]) and ρ[t] = π(a[t] | s[t]) / b(a[t] | s[t]). On-policy Dⁿ is the n-step
    return minus v(s[t]). D ends with the episode and with the rollout, so the rollout should be longer than n; with
    `rollout_length=1` it is TD(0). All errors of an update are computed before the table changes, and an entry moves
    along the mean of its errors. Metric: `loss/td_error`, the mean of |δ|.

    Args:
      env: an environment with `Discrete` observations and actions.
      n: number of errors that are summed.

    Returns:
      An agent with `TDHparams`; without a key it takes the most likely action of the policy that acts.

    Raises:
      TypeError: a space is not `Discrete`.
      ValueError: n is not a positive integer, or a policy's shape is not [S, A].

    Source: Sutton & Barto (2018), eq. 6.2, 7.2; off-policy eq. 7.13 with its control variate.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.from_mdp(purerl.mdp.random_walk(5), max_steps=100)
      >>> agent = purerl.td(env, n=3)
      >>> state = agent.init(jax.random.key(0), purerl.TDHparams(initial_value=0.5), example=jnp.int32(2))
      >>> print(state.value)
      [0.5 0.5 0.5 0.5 0.5]
    """
    check_positive(n=n)

    def update(key: Key, state: TDState, data: Transition) -> tuple[TDState, Metrics]:
        chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
        data, hparams, value = tables.clean(data), state.hparams, state.value
        discount, continues = discounts(data, hparams.discount), 1.0 - done(data)
        rho = tables.importance_ratio(hparams, data.obs, data.action)
        # δ = r + γ v(s') − v(s), [T, N]
        delta = data.reward + discount * jnp.where(data.terminated, 0, value[data.next_obs]) - value[data.obs]
        # Dⁿ[t] = ρ[t] (δ[t] + γ Dⁿ⁻¹[t+1]), [T, N]
        error = returns.n_step_returns(rho * delta, rho * discount, 0.0, continues, n)
        obs, error, weight = (x.reshape(-1) for x in (data.obs, error, data.weight))  # [T, N] -> [T * N]
        table = tables.Table(value, state.visits)
        table = tables.mean_step(table, obs, error, weight, hparams.step_size, hparams.step_size_decay)
        state = TDState(*table, (), hparams, optax.safe_increment(state.num_updates))
        return state, {"loss/td_error": tables.mean_absolute(delta.reshape(-1), weight)}

    return _agent(env, update, Requirements("rows" if n == 1 else "trajectory"))


@build_once
def td_lambda(env: HasSpaces, *, traces: str = "accumulating") -> Agent:
    """TD(λ) with eligibility traces, one step at a time and the environments in turn, by `tables.trace_step`.

    Dutch traces make it true online TD(λ), which equals the online λ-return algorithm. A truncated step bootstraps
    from its own successor. The traces of a running episode are kept between updates. Metric: `loss/td_error`, the
    mean of the absolute one-step errors.

    Args:
      env: an environment with `Discrete` observations and actions.
      traces: "accumulating", "replacing" or "dutch".

    Returns:
      An agent with `TDHparams`.

    Raises:
      TypeError: a space is not `Discrete`.
      ValueError: unknown traces; in `init`, dutch traces with `behavior`.

    Source: Sutton & Barto (2018), sections 12.2, 12.5 and eq. 12.22; van Seijen et al. (2016).

    Examples:
      >>> import purerl
      >>> env = purerl.envs.from_mdp(purerl.mdp.random_walk(5), max_steps=100)
      >>> agent = purerl.td_lambda(env, traces="dutch")
      >>> state = agent.init(jax.random.key(0), purerl.TDHparams(), example=jnp.int32(2), num_envs=3)
      >>> state.eligibility.trace.shape
      (3, 5)
    """
    if traces not in tables.TRACES:
        raise ValueError(f"traces must be one of {tables.TRACES}, got {traces!r}")

    def update(key: Key, state: TDState, data: Transition) -> tuple[TDState, Metrics]:
        hparams = state.hparams
        decay = jnp.asarray(hparams.discount * hparams.trace_decay)

        def evaluate_step(value: jax.Array, x: Transition) -> tuple[jax.Array, tables.TraceTerms]:
            next_value = jnp.where(x.terminated, 0, value[x.next_obs])
            error = x.reward + hparams.discount * next_value - value[x.obs]
            rho = tables.importance_ratio(hparams, x.obs, x.action)
            return x.obs, tables.TraceTerms(error, next_value, decay, rho)

        table, eligibility, mean_error = tables.walk(
            traces, tables.Table(state.value, state.visits), state.eligibility, data, evaluate_step,
            hparams.step_size, hparams.step_size_decay,
        )  # fmt: skip
        state = TDState(*table, eligibility, hparams, optax.safe_increment(state.num_updates))
        return state, {"loss/td_error": mean_error}

    def cut(state: TDState) -> TDState:
        return state._replace(eligibility=tables.forget(state.eligibility))

    return _agent(env, update, Requirements("stream"), traces)._replace(cut=cut)


def _agent(env: HasSpaces, update: UpdateFn, requires: Requirements, traces: str = "") -> Agent:
    """The agent that acts by its `behavior`, or else `policy`, and learns by `update`."""
    num_states, num_actions = tables.sizes(env)

    def init(key: Key, hparams: TDHparams, example: jax.Array, num_envs: int = 1) -> TDState:
        tables.check_policies(hparams, num_states, num_actions)
        if traces == "dutch" and hparams.behavior is not None:
            raise ValueError("dutch traces are on-policy: omit behavior, or use other traces")
        table = tables.new_table(num_states, hparams.initial_value)
        eligibility = tables.new_eligibility(num_states, num_envs) if traces else ()
        return TDState(*table, eligibility, hparams, jnp.int32(0))

    def act(key: Key | None, state: TDState, obs: jax.Array) -> tuple[jax.Array, tuple]:
        return tables.act_by_table(key, state.hparams, obs, num_actions), ()

    return Agent(init, act, update, requires=requires)

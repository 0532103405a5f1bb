"""Tabular prediction by temporal differences: TD(0), n-step TD and TD(λ), on-policy and off-policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl import returns
from purerl.agents.tabular import tables
from purerl.hparams import NonNegative, UnitInterval, check_positive
from purerl.types import Agent, Experience, HasSpaces, Metrics, Transition


class TDHparams(NamedTuple):
    """Hyperparameters of prediction.

    Attributes:
      step_size: α; the n-th step of an entry is α / n^step_size_decay.
      step_size_decay: ω; 0 keeps the step size.
      discount: γ.
      trace_decay: λ, of `td_lambda`.
      initial_value: what every entry starts at.
      policy: [S, A] probabilities, the policy that is judged; None: uniform.
      behavior: [S, A] probabilities, the policy that acts, positive where `policy` is; None: the one that is judged.
    """

    step_size: NonNegative = 0.1
    step_size_decay: UnitInterval = 0.0
    discount: UnitInterval = 0.99
    trace_decay: UnitInterval = 0.9
    initial_value: Any = 0.0
    policy: Any = None
    behavior: Any = None


class TDState(NamedTuple):
    """What a prediction agent carries.

    Attributes:
      value: [S].
      visits: [S], how often each entry has made a step.
      eligibility: `tabular.Eligibility` with leaves [N, S] and [N]; `()` without traces.
      hparams: the hyperparameters.
      num_updates: int32.
    """

    value: jax.Array
    visits: jax.Array
    eligibility: Experience
    hparams: Any
    num_updates: jax.Array


def td(env: HasSpaces, *, n: int = 1) -> Agent:
    """n-step temporal-difference prediction of v_π, corrected by importance sampling where another policy acts.

        D¹[t] = ρ[t] δ[t],   Dⁿ[t] = ρ[t] (δ[t] + γ Dⁿ⁻¹[t+1]),   v(s[t]) ← v(s[t]) + α Dⁿ[t]

    with δ[t] = r[t] + γ v(s[t+1]) − v(s[t]) and ρ[t] = π(a[t] | s[t]) / b(a[t] | s[t]). On-policy Dⁿ is the n-step
    return less v(s[t]). D ends with the episode and with the rollout, so the rollout should be longer than n; with
    `rollout_length=1` it is TD(0). All errors of an update are taken before the table changes, and an entry steps
    along the mean of its errors.

    Args:
      env: an environment with `Discrete` observations and actions.
      n: number of errors that are added.

    Returns:
      An agent with `TDHparams`; without a key it takes the likeliest action of the policy that acts.

    Raises:
      TypeError: a space is not `Discrete`.
      ValueError: n is not a positive integer, or a policy's shape is not [S, A].

    Source: Sutton & Barto (2018), eq. 6.2, 7.2; off-policy eq. 7.13 with its control variate.
    """
    check_positive(n=n)

    def update(key: jax.Array, state: TDState, data: Transition) -> tuple[TDState, Metrics]:
        chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
        hparams, value = state.hparams, state.value
        weight = tables.weights(data)
        discount = hparams.discount * (1 - data.terminated)
        rho = tables.importance_ratio(hparams, data.obs, data.action)
        delta = data.reward + discount * jnp.where(data.terminated, 0, value[data.next_obs]) - value[data.obs]
        goes_on = 1.0 - (data.terminated | data.truncated)
        error = returns.n_step_returns(rho * delta, rho * discount, jnp.zeros_like(delta), goes_on, n)
        obs, error, weight = (x.reshape(-1) for x in (data.obs, error, weight))
        table = tables.Table(value, state.visits)
        table = tables.mean_step(table, obs, error, weight, hparams.step_size, hparams.step_size_decay)
        state = TDState(*table, (), hparams, state.num_updates + 1)
        return state, {"loss/td_error": jnp.sqrt(tables.mean_square(delta.reshape(-1), weight))}

    return _agent(env, update)


def td_lambda(env: HasSpaces, *, traces: str = "accumulating") -> Agent:
    """TD(λ) with eligibility traces, step after step and environment after environment, by `tabular.trace_step`.

    Dutch traces make it true online TD(λ), which equals the online λ-return algorithm. A truncated step bootstraps
    from its own successor. The traces of a running episode are kept between updates.

    Args:
      env: an environment with `Discrete` observations and actions.
      traces: "accumulating", "replacing" or "dutch".

    Returns:
      An agent with `TDHparams`.

    Raises:
      TypeError: a space is not `Discrete`.
      ValueError: unknown traces; in `init`, dutch traces with a policy that acts in place of the one judged.

    Source: Sutton & Barto (2018), sections 12.2, 12.5 and eq. 12.22; van Seijen et al. (2016).
    """
    if traces not in tables.TRACES:
        raise ValueError(f"traces must be one of {tables.TRACES}, got {traces!r}")

    def update(key: jax.Array, state: TDState, data: Transition) -> tuple[TDState, Metrics]:
        hparams = state.hparams
        decay = jnp.asarray(hparams.discount * hparams.trace_decay)

        def judge(value: jax.Array, x: Transition) -> tuple[jax.Array, tables.Judgement]:
            next_value = jnp.where(x.terminated, 0, value[x.next_obs])
            error = x.reward + hparams.discount * next_value - value[x.obs]
            rho = tables.importance_ratio(hparams, x.obs, x.action)
            return x.obs, tables.Judgement(error, next_value, decay, rho)

        table, eligibility, square = tables.walk(
            traces, tables.Table(state.value, state.visits), state.eligibility, data, judge,
            hparams.step_size, hparams.step_size_decay,
        )  # fmt: skip
        state = TDState(*table, eligibility, hparams, state.num_updates + 1)
        return state, {"loss/td_error": jnp.sqrt(square)}

    return _agent(env, update, traces=traces)


def _agent(env: HasSpaces, update: Callable[..., Any], traces: str = "") -> Agent:
    """The agent that acts by its `behavior`, or else `policy`, and learns by `update`."""
    num_states, num_actions = tables.sizes(env)

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> TDState:
        tables.check_policies(hparams, num_states, num_actions)
        if traces == "dutch" and hparams.behavior is not None:
            raise ValueError("dutch traces are on-policy: leave out behavior, or take other traces")
        table = tables.new_table(num_states, hparams.initial_value)
        eligibility = tables.new_eligibility(num_states, num_envs) if traces else ()
        return TDState(*table, eligibility, hparams, jnp.int32(0))

    def act(key: jax.Array | None, state: TDState, obs: jax.Array) -> tuple[jax.Array, tuple]:
        return tables.act_by_table(key, state.hparams, obs, num_actions), ()

    return Agent(init, act, update)

"""Shared by learners with tables: sizes, step sizes, steps along many errors at once, and eligibility traces.

Tables are flat here, [M]: a state's entry, or that of a state and action at s · A + a.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import chex
import jax
import jax.numpy as jnp

from purerl.agents.common.trajectories import done, is_masked, masked_mean, step_weight
from purerl.spaces import Discrete
from purerl.types import HasSpaces, Key, Scalar, Transition

TRACES = ("accumulating", "replacing", "dutch")


class Policies(Protocol):
    """Hyperparameters of prediction: [S, A] probabilities of the evaluated policy and of the one that acts, or None."""

    @property
    def policy(self) -> jax.Array | None: ...  # noqa: D102

    @property
    def behavior(self) -> jax.Array | None: ...  # noqa: D102


class Table(NamedTuple):
    """A table being learned.

    Attributes:
      value: [M], the estimates.
      visits: [M] float32, how many steps each entry has made.
    """

    value: jax.Array
    visits: jax.Array


class Eligibility(NamedTuple):
    """Carry of TD(λ) along an episode.

    Attributes:
      trace: [M], how much each entry moves with the next error.
      old_value: scalar, the value of the present state before the last step; used by dutch traces.
    """

    trace: jax.Array
    old_value: jax.Array


class TraceTerms(NamedTuple):
    """One step as TD(λ) sees it, all scalars.

    Attributes:
      error: TD error δ.
      next_value: value of the successor, 0 where the episode terminated.
      decay: by how much the traces of earlier steps shrink, γ λ.
      rho: importance ratio ρ, 1 if the evaluated policy also acts.
    """

    error: jax.Array
    next_value: jax.Array
    decay: jax.Array
    rho: jax.Array


EvaluateStep: TypeAlias = Callable[[jax.Array, Transition], tuple[jax.Array, TraceTerms]]
"""`(values [M], one step) -> (entry, TraceTerms)`."""


def sizes(env: HasSpaces) -> tuple[int, int]:
    """Numbers of states and actions of an environment.

    Raises:
      TypeError: a space is not `Discrete`.
    """
    for name in ("observation_space", "action_space"):
        if not isinstance(getattr(env, name), Discrete):
            raise TypeError(f"a table needs a Discrete {name}, got {getattr(env, name)}")
    return env.observation_space.n, env.action_space.n  # type: ignore[union-attr]


def new_table(size: int, initial_value: Scalar) -> Table:
    """A table of M entries with the same initial value."""
    value = jnp.full(size, initial_value, jnp.result_type(float))
    return Table(value, jnp.zeros_like(value))


def counted(data: Transition) -> jax.Array:
    """[T, N] bool: the steps that count, by the mask alone."""
    return data.mask != 0 if is_masked(data) else jnp.ones(data.reward.shape, bool)


def clean(data: Transition) -> Transition:
    """The trajectory with a mask and a weight of its own, and rewards of 0 where masked, which may have been NaN."""
    mask = counted(data)
    weight = step_weight(data).astype(data.reward.dtype)
    return data._replace(
        reward=jnp.where(mask, data.reward, 0), mask=mask.astype(data.reward.dtype), weight=weight, aux=(), memory=()
    )


def shares(index: jax.Array, weight: jax.Array, size: int) -> jax.Array:
    """Weights normalised over equal indices: w[b] / Σ_{c: index[c] = index[b]} w[c], and 0 where all are 0.

    Args:
      index: [B] int, entries of the table.
      weight: [B] ≥ 0.
      size: M. It takes O(min(B², B + M)) operations.

    Returns:
      [B].
    """
    if len(index) ** 2 <= size:
        total = jnp.where(index[:, None] == index[None, :], weight[None, :], 0).sum(axis=1)  # [B, B] -> [B]
    else:
        total = jnp.zeros(size, weight.dtype).at[index].add(weight)[index]
    return jnp.where(total > 0, weight / jnp.where(total > 0, total, 1), 0)


def mean_step(
    table: Table,
    index: jax.Array,
    error: jax.Array,
    weight: jax.Array,
    step_size: Scalar,
    step_size_decay: Scalar,
) -> Table:
    """One step of every entry along the weighted mean of its errors.

    n[i] ← n[i] + 1 and x[i] ← x[i] + α / n[i]^ω · mean{error[b] : index[b] = i}, for every i that occurs. The mean
    keeps the step stable for any number of errors; with one error this is the online algorithm. Counts are floats, so
    they saturate instead of wrapping around.

    Args:
      table: what to step.
      index: [B] int, entries.
      error: [B], in the units of the value; free where the weight is 0.
      weight: [B], how much an error counts, 0 where not at all.
      step_size: scalar α.
      step_size_decay: scalar ω in [0, 1]; 0 keeps the step size.

    Returns:
      The table after the step.
    """
    chex.assert_equal_shape([index, error, weight])
    share = shares(index, weight, len(table.value))
    visits = table.visits.at[index].add(share)
    alpha = step_size / jnp.maximum(visits[index], 1) ** step_size_decay
    return Table(table.value.at[index].add(jnp.where(share > 0, alpha * share * error, 0)), visits)


def check_policies(hparams: Policies, num_states: int, num_actions: int) -> None:
    """Reject a `policy` or `behavior` of the wrong shape.

    Raises:
      ValueError: names the field.
    """
    for name in ("policy", "behavior"):
        given = getattr(hparams, name)
        if given is not None and jnp.shape(given) != (num_states, num_actions):
            raise ValueError(f"{name} must have shape [S, A] = {(num_states, num_actions)}, got {jnp.shape(given)}")


def act_by_table(key: Key | None, hparams: Policies, obs: jax.Array, num_actions: int) -> jax.Array:
    """An action of `behavior`, else of `policy`, else a uniform one; without a key the most likely one."""
    policy = hparams.policy if hparams.behavior is None else hparams.behavior
    probability = jnp.full(num_actions, 1 / num_actions) if policy is None else policy[obs]
    if key is None:
        return jnp.argmax(probability).astype(jnp.int32)
    return jax.random.categorical(key, jnp.log(probability)).astype(jnp.int32)


def importance_ratio(hparams: Policies, obs: jax.Array, action: jax.Array) -> jax.Array:
    """ρ = policy(action | obs) / behavior(action | obs), [...]; 1 where `behavior` is None; policy None: uniform."""
    if hparams.behavior is None:
        return jnp.ones(jnp.shape(action))
    uniform = 1 / hparams.behavior.shape[1]
    return (uniform if hparams.policy is None else hparams.policy[obs, action]) / hparams.behavior[obs, action]


def new_eligibility(size: int, num_envs: int) -> Eligibility:
    """Eligibility at the start of an episode in N environments, leaves [N, M] and [N]."""
    zeros = jnp.zeros((num_envs, size), jnp.result_type(float))
    return Eligibility(zeros, zeros[:, 0])


def walk(
    kind: str,
    table: Table,
    eligibility: Eligibility,
    data: Transition,
    evaluate_step: EvaluateStep,
    step_size: Scalar,
    step_size_decay: Scalar,
) -> tuple[Table, Eligibility, jax.Array]:
    """TD(λ) over a trajectory by `trace_step`, one step at a time, the environments in turn.

    Args:
      kind: one of `TRACES`.
      table: what to step.
      eligibility: leaves lead with [N]; it is reset where an episode ended.
      data: trajectory [T, N]; steps with mask 0 change nothing, and the weight of a step scales its step size.
      evaluate_step: `(values [M], one step) -> (entry, TraceTerms)`.
      step_size, step_size_decay: scalars α and ω.

    Returns:
      Table and eligibility after the last step, and the mean absolute error.
    """
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    data = clean(data)
    envs = jnp.broadcast_to(jnp.arange(data.reward.shape[1])[None, :], data.reward.shape)
    steps = jax.tree.map(jnp.ravel, (envs, data))  # [T, N] -> [T * N]

    def step(
        carry: tuple[Table, Eligibility], xs: tuple[jax.Array, Transition]
    ) -> tuple[tuple[Table, Eligibility], jax.Array]:
        (table, all_of_them), (i, x) = carry, xs
        old = (table, jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, i, keepdims=False), all_of_them))
        index, terms = evaluate_step(table.value, x)
        table, after = trace_step(kind, *old, index, terms, x.weight * step_size, step_size_decay)
        after = jax.tree.map(lambda leaf: jnp.where(done(x), 0, leaf), after)
        table, after = jax.tree.map(lambda new, old: jnp.where(x.mask > 0, new, old), (table, after), old)
        put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=0)
        return (table, jax.tree.map(put, all_of_them, after)), terms.error

    (table, eligibility), error = jax.lax.scan(step, (table, eligibility), steps)
    return table, eligibility, mean_absolute(error, steps[1].weight)


def mean_absolute(error: jax.Array, weight: jax.Array) -> jax.Array:
    """Weighted mean of the absolute errors, 0 if none counts; errors of weight 0 may be NaN."""
    return masked_mean(jnp.abs(error), weight)


def forget(eligibility: Eligibility) -> Eligibility:
    """Eligibility at the start of an episode, in the shape of the given one."""
    return jax.tree.map(jnp.zeros_like, eligibility)


def trace_step(
    kind: str,
    table: Table,
    eligibility: Eligibility,
    index: jax.Array,
    terms: TraceTerms,
    step_size: Scalar,
    step_size_decay: Scalar,
) -> tuple[Table, Eligibility]:
    """One step of TD(λ) at entry i, with x = table.value and α = step_size / n[i]^ω.

        accumulating:  e ← ρ (k e + 1ᵢ);                 x ← x + α δ e
        replacing:     e ← ρ (k e with 1 at i);          x ← x + α δ e
        dutch:         e ← k e + (1 − α k e[i]) 1ᵢ;      x ← x + α (δ + x[i] − x_old) e − α (x[i] − x_old) 1ᵢ

    Args:
      kind: one of `TRACES`.
      table, eligibility: what to step.
      index: int scalar, i.
      terms: δ, k, ρ (not used by dutch traces), and the value of the successor, the next step's x_old.
      step_size, step_size_decay: scalars α and ω.

    Returns:
      Table and eligibility after the step.

    Source: Sutton & Barto (2018), eq. 12.5 to 12.7 and 12.22; dutch is true online TD(λ), section 12.5.
    """
    error, next_value, decay, rho = terms
    here = jnp.arange(len(table.value)) == index  # masks, not scatters: every entry is touched anyway
    visits = table.visits + here
    alpha = step_size / visits[index] ** step_size_decay
    trace = decay * eligibility.trace
    if kind == "dutch":
        trace = trace + here * (1 - alpha * trace)
        correction = table.value[index] - eligibility.old_value
        value = table.value + alpha * (error + correction) * trace - alpha * correction * here
    else:
        trace = rho * (jnp.where(here, 1, trace) if kind == "replacing" else trace + here)
        value = table.value + alpha * error * trace
    return Table(value, visits), Eligibility(trace, next_value)

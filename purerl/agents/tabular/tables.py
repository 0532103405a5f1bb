"""What learners with tables share: sizes, step sizes, steps along many errors at once, and eligibility traces.

Tables are flat here, [M]: a state's entry, or that of a state and action at s · A + a.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl.spaces import Discrete
from purerl.types import HasSpaces, Transition

TRACES = ("accumulating", "replacing", "dutch")


class Table(NamedTuple):
    """A table being learned.

    Attributes:
      value: [M], the estimates.
      visits: [M] float32, how many steps each entry has made.
    """

    value: jax.Array
    visits: jax.Array


class Eligibility(NamedTuple):
    """What TD(λ) carries along an episode.

    Attributes:
      trace: [M], how much each entry is to blame for the next error.
      old_value: scalar, the value of the present state before the last step; used by dutch traces.
    """

    trace: jax.Array
    old_value: jax.Array


class Judgement(NamedTuple):
    """What TD(λ) needs to know of one step, all scalars.

    Attributes:
      error: TD error δ.
      next_value: value of the successor, 0 where the episode terminated.
      decay: by how much the traces of earlier steps shrink, γ λ.
      rho: importance ratio ρ, 1 where the policy judged also acts.
    """

    error: jax.Array
    next_value: jax.Array
    decay: jax.Array
    rho: jax.Array


def sizes(env: HasSpaces) -> tuple[int, int]:
    """Numbers of states and actions of an environment.

    Raises:
      TypeError: a space is not `Discrete`.
    """
    for name in ("observation_space", "action_space"):
        if not isinstance(getattr(env, name), Discrete):
            raise TypeError(f"a table needs a Discrete {name}, got {getattr(env, name)}")
    return env.observation_space.n, env.action_space.n  # type: ignore[union-attr]


def new_table(size: int, initial_value: Any) -> Table:
    """A table of M entries that all start at one value."""
    value = jnp.full(size, initial_value, jnp.result_type(float))
    return Table(value, jnp.zeros_like(value))


def weights(data: Transition) -> jax.Array:
    """The mask of a trajectory, [T, N]; ones where every step counts."""
    return jnp.ones_like(data.reward) if isinstance(data.mask, tuple) else data.mask


def shares(index: jax.Array, weight: jax.Array, size: int) -> jax.Array:
    """Weights normalised over equal indices: w[b] / Σ_{c: index[c] = index[b]} w[c], and 0 where all are 0.

    Args:
      index: [B] int, entries of the table.
      weight: [B] ≥ 0.
      size: M; O(min(B², B + M)) operations.

    Returns:
      [B].
    """
    if len(index) ** 2 <= size:
        total = jnp.where(index[:, None] == index, weight, 0).sum(axis=1)
    else:
        total = jnp.zeros(size, weight.dtype).at[index].add(weight)[index]
    return jnp.where(total > 0, weight / jnp.where(total > 0, total, 1), 0)


def mean_step(
    table: Table, index: jax.Array, error: jax.Array, weight: jax.Array, step_size: Any, step_size_decay: Any
) -> Table:
    """One step of every entry along the mean of its errors.

    n[i] ← n[i] + 1 and x[i] ← x[i] + α / n[i]^ω · mean{error[b] : index[b] = i}, for every i that occurs. The mean
    keeps the step stable for any number of errors; with one error this is the online algorithm.

    Args:
      table: what to step.
      index: [B] int, entries.
      error: [B], in the units of the value; free where the weight is 0.
      weight: [B], 0 where the error does not count.
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


def check_policies(hparams: Any, num_states: int, num_actions: int) -> None:
    """Reject a `policy` or `behavior` of the wrong shape.

    Raises:
      ValueError: names the field.
    """
    for name in ("policy", "behavior"):
        given = getattr(hparams, name)
        if given is not None and jnp.shape(given) != (num_states, num_actions):
            raise ValueError(f"{name} must have shape [S, A] = {(num_states, num_actions)}, got {jnp.shape(given)}")


def act_by_table(key: jax.Array | None, hparams: Any, obs: jax.Array, num_actions: int) -> jax.Array:
    """An action of `behavior`, else of `policy`, else a uniform one; without a key the likeliest one."""
    policy = hparams.policy if hparams.behavior is None else hparams.behavior
    probability = jnp.full(num_actions, 1 / num_actions) if policy is None else policy[obs]
    if key is None:
        return jnp.argmax(probability).astype(jnp.int32)
    return jax.random.categorical(key, jnp.log(probability)).astype(jnp.int32)


def importance_ratio(hparams: Any, obs: jax.Array, action: jax.Array) -> jax.Array:
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
    judge: Callable[[jax.Array, Transition], tuple[jax.Array, Judgement]],
    step_size: Any,
    step_size_decay: Any,
) -> tuple[Table, Eligibility, jax.Array]:
    """TD(λ) over a trajectory, time after time and environment after environment, by `trace_step`.

    Args:
      kind: one of `TRACES`.
      table: what to step.
      eligibility: leaves lead with [N]; it starts afresh where an episode ended.
      data: trajectory [T, N]; steps with mask 0 change nothing.
      judge: `(values [M], one step) -> (entry, Judgement)`.
      step_size, step_size_decay: scalars α and ω.

    Returns:
      Table and eligibility after the last step, and the mean square of the errors.
    """
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    weight = weights(data)
    envs = jnp.broadcast_to(jnp.arange(weight.shape[1]), weight.shape)
    steps = jax.tree.map(jnp.ravel, (envs, data._replace(aux=(), memory=(), mask=weight)))

    def step(carry: tuple[Table, Eligibility], xs: tuple[jax.Array, Transition]) -> Any:
        (table, all_of_them), (i, x) = carry, xs
        old = (table, jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, i, keepdims=False), all_of_them))
        index, judgement = judge(table.value, x)
        table, after = trace_step(kind, *old, index, judgement, step_size, step_size_decay)
        after = jax.tree.map(lambda leaf: jnp.where(x.terminated | x.truncated, 0, leaf), after)
        table, after = jax.tree.map(lambda new, old: jnp.where(x.mask > 0, new, old), (table, after), old)
        put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=0)
        return (table, jax.tree.map(put, all_of_them, after)), judgement.error

    (table, eligibility), error = jax.lax.scan(step, (table, eligibility), steps)
    return table, eligibility, mean_square(error, steps[1].mask)


def mean_square(error: jax.Array, weight: jax.Array) -> jax.Array:
    """Weighted mean of the squares, 0 where no error counts; errors of weight 0 may be NaN."""
    return jnp.where(weight > 0, weight * error**2, 0).sum() / jnp.maximum(weight.sum(), 1)


def trace_step(
    kind: str,
    table: Table,
    eligibility: Eligibility,
    index: jax.Array,
    judgement: Judgement,
    step_size: Any,
    step_size_decay: Any,
) -> tuple[Table, Eligibility]:
    """One step of TD(λ) at entry i, with x = table.value and α = step_size / n[i]^ω.

        accumulating:  e ← ρ (k e + 1ᵢ);                 x ← x + α δ e
        replacing:     e ← ρ (k e with 1 at i);          x ← x + α δ e
        dutch:         e ← k e + (1 − α k e[i]) 1ᵢ;      x ← x + α (δ + x[i] − x_old) e − α (x[i] − x_old) 1ᵢ

    Args:
      kind: one of `TRACES`.
      table, eligibility: what to step.
      index: int scalar, i.
      judgement: δ, k, ρ (not used by dutch traces), and the value of the successor, the next step's x_old.
      step_size, step_size_decay: scalars α and ω.

    Returns:
      Table and eligibility after the step.

    Source: Sutton & Barto (2018), eq. 12.5 to 12.7 and 12.22; dutch is true online TD(λ), section 12.5.
    """
    error, next_value, decay, rho = judgement
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

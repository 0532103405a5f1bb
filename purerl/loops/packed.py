"""The loop over updates, which carries few arrays on an accelerator: there each array that is written is a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp

from purerl import branches
from purerl.distributed import mesh
from purerl.hparams import get_hparams, set_hparams
from purerl.packing import Unpack, pack, pack_one
from purerl.types import Hparams, Metrics, PyTree, State

if TYPE_CHECKING:
    from purerl.loops.training import LoopState

Update: TypeAlias = Callable[[Any], tuple[Any, PyTree]]
"""One update: `state -> (state, metrics)`."""
Loop: TypeAlias = Callable[[Update, Any], tuple[Any, PyTree]]
"""Repeats an update from a first state: `(update, state) -> (state, metrics of every update)`."""

_WIDE = 2**11  # elements from which on a leaf is carried as it is: copying it would cost more than a kernel


def scan(update: Update, state: LoopState, num_updates: int) -> tuple[LoopState, Metrics]:
    """The state after so many updates, and metrics with leaves [num_updates]."""
    return _repeat(lambda step, state: jax.lax.scan(lambda x, _: step(x), state, None, num_updates), update, state)


def up_to(update: Update, state: LoopState, count: jax.Array, capacity: int) -> tuple[LoopState, Metrics]:
    """As `scan` with the number of updates as data: metrics with leaves [capacity], zeros from `count` on."""

    def loop(step: Update, state: Any) -> tuple[Any, PyTree]:
        def body(i: jax.Array, carry: tuple[Any, PyTree]) -> tuple[Any, PyTree]:
            state, found = carry
            state, metrics = step(state)
            return state, jax.tree.map(lambda all, new: all.at[i].set(new), found, metrics)

        shapes = jax.eval_shape(step, state)[1]
        empty = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shapes)  # [...] -> [capacity, ...]
        return jax.lax.fori_loop(0, count, body, (state, empty))

    return _repeat(loop, update, state)


def _repeat(loop: Loop, update: Update, state: LoopState) -> tuple[LoopState, Metrics]:
    """The loop over the state; on an accelerator over the state and the metrics as few arrays, with the same values."""
    update = jax.jit(update)  # so that it is traced once for all platforms

    def as_it_is(state: LoopState) -> tuple[LoopState, Metrics]:
        return loop(update, state)

    def as_rows(state: LoopState) -> tuple[LoopState, Metrics]:
        rows, unpack = _pack(state)
        unpack_metrics: Unpack | None = None

        def step(rows: PyTree) -> tuple[PyTree, list[jax.Array]]:
            nonlocal unpack_metrics
            state, metrics = update(unpack(rows))
            packed, unpack_metrics = pack({name: x[None] for name, x in metrics.items()})  # [...] -> [1, ...]
            return _pack(state)[0], packed

        rows, packed = loop(step, rows)
        assert unpack_metrics is not None
        return unpack(rows), {name: x[:, 0] for name, x in unpack_metrics(packed).items()}

    if mesh.num_devices():  # what is split over devices and what is whole must not share an array
        return as_it_is(state)
    return branches.dependent(state, cpu=as_it_is, default=as_rows)


def _pack(state: LoopState) -> tuple[PyTree, Callable[[PyTree], LoopState]]:
    """The state with all that leads with [N] as rows [N, D] and the rest as rows [1, D], and the inverse."""
    actors, (agent_state, fixed) = state.actors, _without_hparams(state.agent_state)
    per_env, unpack_per_env = pack(actors._replace(info=(), info_at_end=()))
    whole, unpack_whole = pack_one((agent_state, actors.info, actors.info_at_end, state.num_updates), _WIDE)

    def unpack(rows: PyTree) -> LoopState:
        per_env, whole, fixed, key, env_params = rows
        agent_state, info, info_at_end, num_updates = unpack_whole(whole)
        agent_state = set_hparams(agent_state, *fixed) if fixed else agent_state
        actors = unpack_per_env(per_env)._replace(info=info, info_at_end=info_at_end)
        return type(state)(key, agent_state, actors, env_params, num_updates)

    return (per_env, whole, fixed, state.key, state.env_params), unpack


def _without_hparams(agent_state: State) -> tuple[State, tuple[Hparams, ...]]:
    """The agent's state without its hyperparameters, which an update rarely changes, and these if it says where."""
    try:
        hparams = get_hparams(agent_state)
    except TypeError:
        return agent_state, ()
    return set_hparams(agent_state, ()), (hparams,)

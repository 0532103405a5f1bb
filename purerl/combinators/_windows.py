"""What replay stores of a step beside the step itself, and windows of rows as the agent sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.agents.common import trajectories
from purerl.types import ActFn, Agent, Key, PyTree, State, Transition

MASK = "action_mask"


class Recorded(NamedTuple):
    """`aux` of a step of an agent with memory behind replay: its own, and its memory before the step."""

    aux: PyTree
    memory: PyTree


def recording(agent: Agent) -> ActFn:
    """The `act` of the agent behind replay, whose `aux` also holds the memory before the step."""

    def act(key: Key | None, state: Any, obs: PyTree, memory: PyTree) -> tuple[PyTree, Recorded, PyTree]:
        action, aux, following = agent.act(key, state.agent, obs, memory)
        return action, Recorded(aux, memory), following

    return act


class Layout(NamedTuple):
    """How rows hold a window.

    Attributes:
      length: steps of the window, L.
      burn_in: rows before the window that bring memory up to date, K.
      next_obs: whether successors are stored; if not, one more row holds the last one.
      num_frames: observations that `envs.frame_stack` joined, F; F − 1 rows in front hold those of the first one.
    """

    length: int
    burn_in: int
    next_obs: bool
    num_frames: int

    @property
    def num_rows(self) -> int:
        """Rows to draw for one window."""
        return self.num_frames - 1 + self.burn_in + self.length + (not self.next_obs)


def stored(layout: Layout, data: Transition) -> Transition:
    """What is stored of steps: without what other rows hold."""
    obs = newest_frames(data.obs, layout.num_frames)
    next_obs = newest_frames(data.next_obs, layout.num_frames) if layout.next_obs else ()
    return data._replace(memory=(), obs=obs, next_obs=next_obs)


def newest_frames(obs: PyTree, num_frames: int) -> PyTree:
    """The last of the frames that each leaf [..., F · d] joins, [..., d]; an action mask stays as it is.

    Raises:
      ValueError: a leaf is not a stack of that many frames.
    """

    def newest(x: jax.Array) -> jax.Array:
        if not x.ndim or x.shape[-1] % num_frames:
            raise ValueError(
                f"num_frames = {num_frames}, but an observation has shape {x.shape}, not of so many frames"
            )
        return x[..., -(x.shape[-1] // num_frames) :]

    return obs if num_frames == 1 else _without_mask(newest, obs)


def shown(agent: Agent, state: State, rows: Transition, layout: Layout) -> Transition:
    """The windows [L, B] as the agent sees them, from the rows that were drawn for them.

    Args:
      agent: the agent.
      state: its state.
      rows: [num_rows, B], as they were stored.
      layout: of the rows.
    """
    burn_in = layout.burn_in
    rows = rows if layout.num_frames == 1 else _stacked(rows, layout.num_frames)
    rows = rows if layout.next_obs else _with_successors(rows)
    if not agent.requires.memory:
        return rows
    memory = jax.tree.map(lambda x: x[0], rows.aux.memory)  # [K + L, B, ...] -> [B, ...]
    rows = rows._replace(aux=rows.aux.aux)
    if burn_in:
        before = jax.tree.map(lambda x: x[:burn_in], rows)
        rows = jax.tree.map(lambda x: x[burn_in:], rows)
        memory = _burnt_in(agent, state, before, memory)
    return rows._replace(memory=memory)


def _burnt_in(agent: Agent, state: State, before: Transition, memory: PyTree) -> PyTree:
    """The memories [B] after the steps before the windows, [K, B], as the present parameters make them."""
    start = agent.memory
    assert start is not None
    fresh = start(None, state)

    def step(memory: PyTree, xs: tuple[PyTree, jax.Array]) -> tuple[PyTree, None]:
        obs, ended = xs

        def restart(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(ended.reshape(ended.shape + (1,) * (old.ndim - 1)), new, old)  # [B] -> [B, 1, ...]

        after = jax.vmap(lambda obs, memory: agent.act(None, state, obs, memory)[2])(obs, memory)
        return jax.tree.map(restart, fresh, after), None

    memory, _ = jax.lax.scan(step, memory, (before.obs, trajectories.done(before)))
    return jax.lax.stop_gradient(memory)


def _with_successors(rows: Transition) -> Transition:
    """Windows [L, B] from rows [L + 1, B] without successors, weight 0 where a successor is another episode's."""
    window = jax.tree.map(lambda x: x[:-1], rows)
    cut = (window.truncated & ~window.terminated).any(axis=0)  # [B]
    weight = jnp.where(cut, 0, trajectories.step_weight(window))
    return window._replace(next_obs=jax.tree.map(lambda x: x[1:], rows.obs), weight=weight)


def _stacked(rows: Transition, num_frames: int) -> Transition:
    """Rows [F − 1 + R, B] of single frames as R rows whose observations join F of them, oldest first.

    A frame of an earlier episode is replaced by the first one of the row's own, as `envs.frame_stack` does at a reset.
    """
    history = num_frames - 1
    ended = trajectories.done(rows)  # [F − 1 + R, B]
    count = len(ended) - history

    def back(x: jax.Array, k: int) -> jax.Array:
        return x[history - k : history - k + count]  # of the row k steps earlier

    def stack(x: jax.Array) -> jax.Array:
        frames, same = [back(x, 0)], jnp.ones_like(back(ended, 0))
        for k in range(1, num_frames):
            same = same & ~back(ended, k)
            frames.append(jnp.where(same.reshape(same.shape + (1,) * (x.ndim - 2)), back(x, k), frames[-1]))
        return jnp.concatenate(frames[::-1], axis=-1)  # F times [R, B, ..., d] -> [R, B, ..., F · d]

    def push(frames: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.concatenate([frames[..., x.shape[-1] :], x], axis=-1)

    kept = jax.tree.map(lambda x: back(x, 0), rows)
    obs = _without_mask(stack, rows.obs, kept=kept.obs)
    if isinstance(kept.next_obs, tuple) and not kept.next_obs:
        return kept._replace(obs=obs)
    return kept._replace(obs=obs, next_obs=_without_mask(push, obs, kept.next_obs, kept=kept.next_obs))


def _without_mask(function: Callable[..., jax.Array], obs: PyTree, *rest: PyTree, kept: PyTree = None) -> PyTree:
    """The function applied to every leaf except an action mask at the top of a dict, which is that of `kept`."""
    if not isinstance(obs, dict) or MASK not in obs:
        return jax.tree.map(function, obs, *rest)
    parts = [{name: value for name, value in tree.items() if name != MASK} for tree in (obs, *rest)]
    return jax.tree.map(function, *parts) | {MASK: (obs if kept is None else kept)[MASK]}

"""`train_in_chunks`: `train` with the host in between, where plain functions log, evaluate, save and stop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from purerl.hparams import check_positive
from purerl.loops.chunks import reduce_metrics, split_updates
from purerl.loops.rollouts import Rollout, rollout
from purerl.loops.training import LoopState, advance_up_to, start
from purerl.types import Agent, Env, Hparams, Key, Metrics, PyTree, State


class Chunk(NamedTuple):
    """Part of a run that has just ended, as callbacks see it.

    Attributes:
      num_updates: updates since the start of the run.
      num_steps: environment steps since then, over all environments.
      metrics: numbers of this chunk by name, as `reduce_metrics` makes them; arrays [S] in `purerl train` with S > 1
        seeds. A callback may add its own, which the callbacks after it see.
      state: the agent's state, as `evaluate` takes it.
      loop_state: all that the run is resumed from; None for environments on the host.
    """

    num_updates: int
    num_steps: int
    metrics: dict[str, Any]
    state: State
    loop_state: LoopState | None = None


class Callback(Protocol):
    """A function that the host calls after every chunk: it logs, evaluates, saves, or ends the run.

    It runs between compiled programs and never inside one, so it may do anything; `purerl.callbacks` has examples.
    """

    def __call__(self, chunk: Chunk, /) -> bool | None:
        """True ends the run after the other callbacks of this chunk."""


def train_in_chunks(
    key: Key,
    agent: Agent,
    env: Env,
    hparams: Hparams,
    *,
    num_updates: int,
    num_envs: int,
    rollout_length: int,
    callbacks: Sequence[Callback],
    num_chunks: int = 100,
    env_params: PyTree = None,
    state: State | None = None,
    rollout: Rollout = rollout,
) -> tuple[State, dict[str, np.ndarray]]:
    """Train as `train` does, and call functions on the host after every chunk of updates.

    The updates are those of `train` with the same key, up to the rounding of another program. All chunks are one
    compiled program, whatever their lengths.

    Args:
      key, agent, env, hparams, num_updates, num_envs, rollout_length, env_params, state, rollout: as in `train`.
      callbacks: called in order after every chunk, as `callback(chunk)`; one that returns True ends the run.
      num_chunks: approximate number of chunks; see `split_updates`.

    Returns:
      The agent's state, and metrics with NumPy leaves [C] for the C chunks that were made, those of callbacks too,
      with NaN for chunks that lack one.

    Raises:
      As `train`; ValueError if `num_chunks` is not positive.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe()
      >>> agent = purerl.actor_critic(purerl.networks.actor_critic(env, (4,)))
      >>> steps = []
      >>> _, metrics = train_in_chunks(
      ...     jax.random.key(0), agent, env, purerl.ActorCriticHparams(), num_updates=8, num_envs=2, rollout_length=4,
      ...     callbacks=[lambda chunk: steps.append(chunk.num_steps), lambda chunk: chunk.num_updates == 6],
      ...     num_chunks=4,
      ... )
      >>> steps, metrics["num_episodes"].shape
      ([16, 32, 48], (3,))
    """
    check_positive(num_updates=num_updates, num_chunks=num_chunks, rollout_length=rollout_length)
    loop_state = start(key, agent, env, hparams, num_envs=num_envs, env_params=env_params, state=state)
    lengths = split_updates(num_updates, num_chunks)
    done, found = 0, []
    for length in lengths:
        loop_state, metrics = _advance(loop_state, jnp.int32(length), agent, env, lengths[0], rollout_length, rollout)
        done += length
        reduced = reduce_metrics({name: value[:length] for name, value in jax.device_get(metrics).items()})
        numbers = {name: value.item() for name, value in reduced.items()}
        chunk = Chunk(done, done * num_envs * rollout_length, numbers, loop_state.agent_state, loop_state)
        found.append(chunk.metrics)
        if call_all(callbacks, chunk):
            break
    return loop_state.agent_state, stacked(found)


def stacked(found: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Metrics of one chunk after another, leaves [...], as leaves [C, ...], with NaN where a chunk lacks one.

    Examples:
      >>> {name: x.tolist() for name, x in stacked([{"a": 1}, {"a": 2, "b": 3.0}]).items()}
      {'a': [1, 2], 'b': [nan, 3.0]}
    """
    names = dict.fromkeys(name for metrics in found for name in metrics)
    return {name: np.stack([metrics.get(name, np.nan) for metrics in found]) for name in names}


def call_all(callbacks: Sequence[Callable[[Any], Any]], chunk: Any) -> bool:
    """Call every callback in order, and tell whether one of them ends the run.

    Raises:
      TypeError: one returns neither True, False nor None.
    """
    answers = [_says_to_end(callback, callback(chunk)) for callback in callbacks]
    return any(answers)


def _says_to_end(callback: Callable[[Any], Any], answer: Any) -> bool:
    if answer is None:
        return False
    if np.shape(answer) != () or np.asarray(answer).dtype != bool:
        name = getattr(callback, "__name__", repr(callback))
        raise TypeError(f"the callback {name} must return True, False or None, got {answer!r}")
    return bool(answer)


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))
def _advance(
    loop_state: LoopState,
    count: jax.Array,
    agent: Agent,
    env: Env,
    capacity: int,
    rollout_length: int,
    rollout: Rollout,
) -> tuple[LoopState, Metrics]:
    return advance_up_to(
        loop_state, count, agent, env, capacity=capacity, rollout_length=rollout_length, rollout=rollout
    )

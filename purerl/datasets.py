"""Datasets of recorded steps: made from an agent in an environment, and kept on disk.

A dataset is a `Transition` whose leaves lead with [B], one row per step.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl import checkpoint, loops
from purerl.hparams import check_positive
from purerl.prng import check_key
from purerl.spaces import check_action, clip_action, in_range
from purerl.types import Agent, Env, Key, PyTree, State, Transition


def record(
    key: Key,
    agent: Agent,
    env: Env,
    state: State,
    *,
    num_steps: int,
    num_envs: int = 16,
    greedy: bool = False,
    env_params: PyTree = None,
) -> Transition:
    """Record the steps of an agent that does not learn.

    Args:
      key: typed key.
      agent, env: the agent and the environment.
      state: the agent's state.
      num_steps: rows, B; a multiple of `num_envs`.
      num_envs: parallel environments, each of which makes B / num_envs steps.
      greedy: take the greedy action; otherwise sample as in training.
      env_params: parameters of the environment; None takes its own.

    Returns:
      A `Transition` [B]. The steps of one environment follow each other. If its last step is neither terminated nor
      truncated, recording stopped there. Actions are clipped to their bounds, as the environment takes them. `aux` is
      the agent's, such as the log-probability before that.

    Raises:
      ValueError: a size is not positive, or the steps do not divide among the environments.
    """
    check_key(key)
    check_positive(num_steps=num_steps, num_envs=num_envs)
    if num_steps % num_envs:
        raise ValueError(f"num_steps = {num_steps} does not divide among num_envs = {num_envs} environments")
    agent = _greedy(agent) if greedy else agent
    start_key, rollout_key = jax.random.split(key)
    actors = loops.init_actors(start_key, agent, env, state, num_envs=num_envs, env_params=env_params)
    length = num_steps // num_envs
    _, steps = loops.rollout(rollout_key, agent, env, state, actors, length=length, env_params=env_params)
    steps = steps._replace(action=clip_action(steps.action, env.action_space), memory=())
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(num_steps, *x.shape[2:]), steps)  # [T, N] -> [N * T]


def rows(data: Transition) -> loops.Rollout:
    """Recorded rows in place of a rollout, so that `train`, `advance` and searches learn offline.

    Each update sees `length · num_envs` rows, drawn uniformly with replacement; the environment is not stepped. The
    data are a constant of the compiled program, and the function is compared by identity: make one and keep it.

    Args:
      data: a `Transition` [B].

    Returns:
      A `loops.Rollout`, whose steps lead with [length · num_envs].

    Raises:
      ValueError: columns of different lengths; when called, an agent that needs more than single rows.
    """
    num_rows = _num_rows(data)

    def rollout(
        key: Key,
        agent: Agent,
        env: Env,
        state: State,
        actors: loops.Actors,
        *,
        length: int,
        env_params: PyTree = None,
    ) -> tuple[loops.Actors, Transition]:
        if agent.requires.data != "rows":
            raise ValueError("recorded rows have no order, but this agent needs steps in order of time")
        count = length * actors.episode_return.shape[0]
        drawn = jax.random.randint(key, (count,), 0, num_rows)
        return actors, jax.tree.map(lambda x: jnp.asarray(x)[drawn], data)  # [B, ...] -> [length * N, ...]

    return rollout


def check_fits(data: Transition, env: Env) -> None:
    """Reject steps that cannot come from an environment. Masked rows may hold anything.

    Raises:
      ValueError: columns of different lengths, observations of another shape, or actions outside the action space; the
        message has the value found and the one expected.
      TypeError: actions of another shape or kind than the environment's.
    """
    _num_rows(data)
    obs, _ = jax.eval_shape(env.reset, jax.random.key(0))
    wanted, found = jax.tree.map(lambda x: x.shape, obs), jax.tree.map(lambda x: x.shape[1:], data.obs)
    if found != wanted:
        raise ValueError(f"the dataset's observations have shape {found}, those of the environment {wanted}")
    check_action(jax.tree.map(lambda x: x[0], data.action), env.action_space)
    counted = slice(None) if isinstance(data.mask, tuple) else np.asarray(data.mask) != 0
    action = jax.tree.map(lambda x: np.asarray(x)[counted], data.action)
    if not in_range(action, env.action_space):
        found = ", ".join(f"[{np.min(leaf)}, {np.max(leaf)}]" for leaf in jax.tree.leaves(action))
        raise ValueError(f"the dataset's actions, in {found}, are not all in the action space {env.action_space}")


def _num_rows(data: Transition) -> int:
    lengths = sorted({leaf.shape[0] for leaf in jax.tree.leaves(data)})
    if len(lengths) != 1:
        raise ValueError(f"the dataset's columns have different lengths {lengths}")
    return lengths[0]


def save(
    directory: str | os.PathLike[str],
    data: Transition,
    metadata: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a dataset, whole or not at all, with a SHA-256 of every file; `load` reads it back.

    Args:
      directory: where to.
      data: a `Transition`; its fields are arrays, or dicts and tuples of such.
      metadata: a JSON-serialisable mapping, which `checkpoint.read_metadata` returns under "about".
      overwrite: replace a directory that already exists.

    Returns:
      The directory.

    Raises:
      FileExistsError, TypeError: as `checkpoint.save`.
    """
    tree = data._asdict()
    described = {"dataset": _describe(tree), "about": dict(metadata or {})}
    return checkpoint.save(directory, tree, described, overwrite=overwrite)


def load(directory: str | os.PathLike[str]) -> Transition:
    """Read a dataset back, bit for bit, after checking every file.

    Raises:
      CheckpointError: a file has changed or is missing, or the directory holds no dataset.
    """
    metadata = checkpoint.read_metadata(directory)
    if "dataset" not in metadata:
        raise checkpoint.CheckpointError(f"{directory} holds a checkpoint, but no dataset")
    return Transition(**checkpoint.restore(directory, _like(metadata["dataset"])))


@functools.lru_cache(maxsize=8)
def _greedy(agent: Agent) -> Agent:
    """The same agent without its keys; one object per agent, so that it compiles once."""
    begin = agent.memory
    return agent._replace(
        act=lambda key, *rest: agent.act(None, *rest),
        memory=None if begin is None else lambda key, state: begin(None, state),
    )


def _describe(tree: Any) -> Any:
    """The structure as JSON, leaves as "float32[5,4]"."""
    if isinstance(tree, Mapping):
        return {name: _describe(part) for name, part in tree.items()}
    if isinstance(tree, tuple):
        return [_describe(part) for part in tree]
    return f"{tree.dtype}[{','.join(map(str, tree.shape))}]"


def _like(described: Any) -> Any:
    """Inverse of `_describe`, with shapes in place of arrays."""
    if isinstance(described, dict):
        return {name: _like(part) for name, part in described.items()}
    if isinstance(described, list):
        return tuple(_like(part) for part in described)
    match = re.fullmatch(r"(\w+)\[([\d,]*)\]", described)
    assert match is not None, described
    return jax.ShapeDtypeStruct(tuple(int(n) for n in match[2].split(",") if n), match[1])

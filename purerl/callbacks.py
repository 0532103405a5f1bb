"""Functions that `train_in_chunks` and `train_on_host` call after every chunk of a run.

    state, metrics = purerl.train_in_chunks(
        key, agent, env, hparams, num_updates=500, num_envs=8, rollout_length=128,
        callbacks=[
            callbacks.evaluate_every(20_000, agent, env),
            callbacks.save_best("best"),
            callbacks.log_to(logging.csv_writer("metrics.csv")),
            callbacks.stop_at(475),
        ],
    )

A callback is a function of a `Chunk` (its metrics, and the agent's state); one that returns True ends the run.
"""

from __future__ import annotations

import math
import os

import jax

from purerl import checkpoint
from purerl.envs import HostEnv
from purerl.logging import Writer
from purerl.loops import Callback, Chunk, evaluate
from purerl.loops.host import evaluate_on_host
from purerl.types import Agent, Env, Key, PyTree

__all__ = ["crosses", "evaluate_every", "log_to", "save_best", "stop_at"]


def evaluate_every(
    num_steps: int,
    agent: Agent,
    env: Env | HostEnv,
    *,
    num_episodes: int = 16,
    max_steps: int | None = None,
    env_params: PyTree = None,
    key: Key | None = None,
) -> Callback:
    """Evaluate greedily at the end of each chunk that reaches a multiple of `num_steps`.

    It adds the metrics `eval_return` and `eval_length`, means over episodes, which are NaN in other chunks.

    Args:
      num_steps: environment steps between two evaluations.
      agent, env: the agent, and the environment to evaluate it in, which may differ from that of training.
      num_episodes, max_steps, env_params: as in `evaluate`; `max_steps` has no effect on the host.
      key: of the episodes, the same ones in every evaluation; None for key 0.

    Raises:
      ValueError: `num_steps` is not positive.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps = {num_steps} must be positive")
    key = jax.random.key(0) if key is None else key
    before = 0

    def callback(chunk: Chunk) -> None:
        nonlocal before
        due, before = crosses(num_steps, before, chunk.num_steps), chunk.num_steps
        chunk.metrics.update(eval_return=math.nan, eval_length=math.nan)
        if not due:
            return
        if isinstance(env, HostEnv):
            played = evaluate_on_host(key, agent, env, chunk.state, num_episodes=num_episodes)
        else:
            played = evaluate(
                key, agent, env, chunk.state, num_episodes=num_episodes, max_steps=max_steps, env_params=env_params
            )
        chunk.metrics.update({f"eval_{name[8:]}": float(value.mean()) for name, value in played._asdict().items()})

    return callback


def crosses(every: int, before: int, after: int) -> bool:
    """Whether a multiple of `every` was reached on the way from one number of steps to another.

    Examples:
      >>> [crosses(10, before, before + 4) for before in (0, 4, 8, 16)]
      [False, False, True, True]
    """
    return after // every > before // every


def save_best(directory: str | os.PathLike[str], metric: str = "eval_return") -> Callback:
    """Save the agent's state whenever a metric exceeds all its values so far, in place of the state saved before.

    Args:
      directory: a checkpoint, which `checkpoint.restore` reads; its metadata holds the metric and the steps.
      metric: name of the metric; after `evaluate_every` in the list of callbacks for `eval_return`.

    Raises:
      KeyError: in the call, no callback before made such a metric; the known ones are named.
    """
    best = -math.inf

    def callback(chunk: Chunk) -> None:
        nonlocal best
        value = _value(chunk, metric)
        if value > best:
            best = value
            details = {metric: value, "num_steps": chunk.num_steps, "num_updates": chunk.num_updates}
            checkpoint.save(directory, chunk.state, details, overwrite=True)

    return callback


def stop_at(value: float, metric: str = "eval_return") -> Callback:
    """End the run once a metric reaches a value.

    Raises:
      KeyError: in the call, there is no such metric; the known ones are named.
    """
    return lambda chunk: _value(chunk, metric) >= value


def log_to(writer: Writer) -> Callback:
    """Write the metrics of every chunk; the writer is left open."""
    return lambda chunk: writer.write(chunk.num_steps, {"num_updates": chunk.num_updates} | chunk.metrics)


def _value(chunk: Chunk, metric: str) -> float:
    if metric not in chunk.metrics:
        raise KeyError(f"no metric {metric!r} at this place among the callbacks; there are {', '.join(chunk.metrics)}")
    return chunk.metrics[metric]

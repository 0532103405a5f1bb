"""The compiled parts of `purerl train`: one agent, or several seeds of it side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import loops, presets
from purerl.commands.runs import Task
from purerl.hparams import cast
from purerl.sweep.run.blocks import split_updates
from purerl.types import Agent, Env, Metrics

NUM_CHUNKS = 100


class Config(NamedTuple):
    """What a training run is, but for where its results go.

    Attributes:
      task: the agent and the environment.
      num_seeds: how many agents are trained side by side.
      seed: of all random numbers.
    """

    task: Task
    num_seeds: int
    seed: int

    @property
    def update_steps(self) -> int:
        """Environment steps of one update."""
        return self.task.preset.num_envs * self.task.preset.rollout_length

    def to_json(self) -> dict[str, Any]:
        """Plain data, as in `config.json`."""
        return {"command": "train", "num_seeds": self.num_seeds, "seed": self.seed, "task": self.task.to_json()}


class Program(NamedTuple):
    """The three compiled parts of a run; every leaf leads with [num_seeds] where there are several.

    Attributes:
      start: `() -> LoopState`.
      compile: `(LoopState, num_updates) -> advance`, where `advance(LoopState) -> (LoopState, metrics)` makes that
        many updates, reduces their metrics to one number a seed, and is given the memory of its argument.
      evaluate: `(agent_state, num_episodes) -> Evaluation` of greedy episodes, the same ones for every seed.
      chunk: how many updates to make at a time.
    """

    start: Callable[[], loops.LoopState]
    compile: Callable[[loops.LoopState, int], Callable[[loops.LoopState], tuple[loops.LoopState, Metrics]]]
    evaluate: Callable[[Any, int], loops.Evaluation]
    chunk: int


def program(config: Config) -> Program:
    """Build the agent and the environment of a run, and trace a part of it, but compile nothing yet.

    Raises:
      ValueError, TypeError: what is wrong with the settings, by name.
    """
    task, preset = config.task, config.task.preset
    env = task.make_env()
    agent, rollout = presets.build(preset, env), presets.rollout(preset)
    check(task, agent, env)
    hparams = cast(presets.hparams(preset))
    train_key, eval_key = jax.random.split(jax.random.key(config.seed))
    max_steps = task.max_episode_steps()
    chunk = split_updates(preset.num_updates, NUM_CHUNKS)[0]

    def over_seeds(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return function if config.num_seeds == 1 else jax.vmap(function)

    def start(seeds: jax.Array, hparams: Any) -> loops.LoopState:
        def one(seed: jax.Array) -> loops.LoopState:
            return loops.start(jax.random.fold_in(train_key, seed), agent, env, hparams, num_envs=preset.num_envs)

        return over_seeds(one)(seeds)

    def advance(states: loops.LoopState, num_updates: int) -> tuple[loops.LoopState, Metrics]:
        def one(state: loops.LoopState) -> tuple[loops.LoopState, Metrics]:
            state, metrics = loops.advance(
                state, agent, env, num_updates=num_updates, rollout_length=preset.rollout_length, rollout=rollout
            )
            return state, reduce_metrics(metrics)

        return over_seeds(one)(states)

    def evaluate(states: Any, num_episodes: int) -> loops.Evaluation:
        def one(state: Any) -> loops.Evaluation:
            return loops.evaluate(eval_key, agent, env, state, num_episodes=num_episodes, max_steps=max_steps)

        return over_seeds(one)(states)

    seeds = jnp.arange(config.num_seeds) if config.num_seeds > 1 else jnp.int32(0)
    jitted_start = jax.jit(start)
    jitted_advance = jax.jit(advance, static_argnums=1, donate_argnums=0)
    return Program(
        start=lambda: jitted_start(seeds, hparams),
        compile=lambda states, num_updates: jitted_advance.lower(states, num_updates).compile(),
        evaluate=jax.jit(evaluate, static_argnums=1),
        chunk=chunk,
    )


def check(task: Task, agent: Agent, env: Env) -> None:
    """Trace one update of a task, so that what does not fit is said before anything is compiled or written.

    Raises:
      ValueError, TypeError: what does not fit, by name.
    """
    preset = task.preset
    hparams = cast(presets.hparams(preset))

    def one_update() -> Any:
        state = loops.start(jax.random.key(0), agent, env, hparams, num_envs=preset.num_envs)
        rollout = presets.rollout(preset)
        return loops.advance(state, agent, env, num_updates=1, rollout_length=preset.rollout_length, rollout=rollout)

    jax.eval_shape(one_update)


def reduce_metrics(metrics: Metrics) -> Metrics:
    """Metrics of a chunk of updates, leaves [U], as scalars: sums and means over what each of them counts.

    `num_episodes` is summed, `episode_return` and `episode_length` are means over the episodes, NaN where none ended;
    everything else is the mean over the updates.
    """
    episodes = metrics["num_episodes"]
    reduced = {name: jnp.mean(value, axis=0) for name, value in metrics.items()}
    for name in ("episode_return", "episode_length"):
        reduced[name] = jnp.sum(jnp.where(episodes > 0, metrics[name] * episodes, 0)) / episodes.sum()
    return reduced | {"num_episodes": episodes.sum()}


def num_updates(state: loops.LoopState) -> int:
    """Updates that a run has made, the same for every seed."""
    return int(np.ravel(state.num_updates)[0])


def select_seed(tree: Any, num_seeds: int, seed: int) -> Any:
    """One seed's part of a tree."""
    return tree if num_seeds == 1 else jax.tree.map(lambda leaf: leaf[seed], tree)

"""The compiled parts of `purerl train`: one agent, or several seeds of it side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl import ahead, loops, numerics, presets
from purerl.envs import HostEnv
from purerl.hparams import cast, get_hparams, set_hparams
from purerl.presets.tasks import Task, check_update
from purerl.types import Hparams, Metrics, PyTree, State

NUM_CHUNKS = 100


class Config(NamedTuple):
    """The settings of a training run.

    Attributes:
      task: the agent and the environment.
      num_seeds: number of agents trained side by side.
      seed: random seed.
      eval_every: environment steps of each seed between two evaluations; 0: none but the one at the end.
      until: mean return of an evaluation at which training ends; None: it takes all its steps.
    """

    task: Task
    num_seeds: int
    seed: int
    eval_every: int = 0
    until: float | None = None

    @property
    def update_steps(self) -> int:
        """Environment steps of one update."""
        return self.task.preset.num_envs * self.task.preset.rollout_length

    def to_json(self) -> dict[str, Any]:
        """Plain data, as in `config.json`."""
        during = {"eval_every": self.eval_every, "until": self.until}
        run = {"command": "train", "num_seeds": self.num_seeds, "seed": self.seed}
        return run | during | {"task": self.task.to_json()}

    @property
    def chunk(self) -> int:
        """Updates per row of metrics, of which a whole number makes up the time between two evaluations."""
        num_updates = self.task.preset.num_updates
        chunk = loops.split_updates(num_updates, NUM_CHUNKS)[0]
        if not self.eval_every:
            return chunk
        between = min(max(1, self.eval_every // self.update_steps), num_updates)
        return loops.split_updates(between, max(1, round(between / chunk)))[0]


Advance: TypeAlias = Callable[[loops.LoopState, int], tuple[loops.LoopState, Metrics]]


class Program(NamedTuple):
    """The compiled parts of a run; with several seeds every leaf leads with [num_seeds].

    Attributes:
      start: `() -> LoopState`.
      begin: `num_episodes -> LoopState`: `start`, with all programs compiled side by side.
      compile: `(LoopState, num_episodes) -> advance`, with the program that evaluates compiled beside it. Then
        `advance(LoopState, count) -> (LoopState, metrics)` makes `count` updates, at most `chunk`; metrics lead with
        [chunk], zeros from `count` on. The state is donated.
      evaluate: `(agent_state, num_episodes) -> Evaluation` of greedy episodes, the same ones for every seed.
      diverged: `agent_state -> bool`, or [num_seeds] of them; see `numerics.diverged`.
      chunk: largest number of updates to make at a time.
    """

    start: Callable[[], loops.LoopState]
    begin: Callable[[int], loops.LoopState]
    compile: Callable[[loops.LoopState, int], Advance]
    evaluate: Callable[[State, int], loops.Evaluation]
    diverged: Callable[[State], jax.Array]
    chunk: int


def program(config: Config) -> Program:
    """Build the agent and the environment of a run, and trace one update, but compile nothing yet.

    Raises:
      ValueError, TypeError: the setting that is wrong, by name.
    """
    task, preset = config.task, config.task.preset
    env = task.make_env()
    if isinstance(env, HostEnv):
        from purerl.commands import host_training

        return host_training.program(config, env)
    agent, rollout = presets.build(preset, env), presets.rollout(preset)
    check_update(task, agent, env)
    hparams = cast(presets.hparams(preset))
    train_key, eval_key = jax.random.split(jax.random.key(config.seed))
    max_steps = task.max_episode_steps()
    chunk = config.chunk

    def over_seeds(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return function if config.num_seeds == 1 else jax.vmap(function)

    def start(seeds: jax.Array, hparams: Hparams) -> loops.LoopState:
        def one(seed: jax.Array) -> loops.LoopState:
            return loops.start(jax.random.fold_in(train_key, seed), agent, env, hparams, num_envs=preset.num_envs)

        return over_seeds(one)(seeds)

    def advance(states: loops.LoopState, count: jax.Array) -> tuple[loops.LoopState, Metrics]:
        def one(state: loops.LoopState) -> tuple[loops.LoopState, Metrics]:
            return loops.advance_up_to(
                state, count, agent, env, capacity=chunk, rollout_length=preset.rollout_length, rollout=rollout
            )

        return over_seeds(one)(states)

    def evaluate(states: State, num_episodes: int) -> loops.Evaluation:
        def one(state: State) -> loops.Evaluation:
            return loops.evaluate(eval_key, agent, env, state, num_episodes=num_episodes, max_steps=max_steps)

        return over_seeds(one)(states)

    seeds = jnp.arange(config.num_seeds) if config.num_seeds > 1 else jnp.int32(0)
    jitted_start = jax.jit(start)
    jitted_advance = jax.jit(advance, donate_argnums=0)
    jitted_evaluate = jax.jit(evaluate, static_argnums=1)

    def compile(states: loops.LoopState, num_episodes: int) -> Advance:
        lowered = jitted_advance.lower(states, jnp.int32(0))
        with ahead.beside(lowered):
            jitted_evaluate.lower(states.agent_state, num_episodes).compile()
        compiled = lowered.compile()
        return lambda states, count: compiled(states, jnp.int32(count))

    def begin(num_episodes: int) -> loops.LoopState:
        with ahead.beside(jitted_start.lower(seeds, hparams)):
            compile(jitted_start.eval_shape(seeds, hparams), num_episodes)
        return jitted_start(seeds, hparams)

    return Program(
        start=lambda: jitted_start(seeds, hparams),
        begin=begin,
        compile=compile,
        evaluate=jitted_evaluate,
        diverged=jax.jit(over_seeds(numerics.diverged)),
        chunk=chunk,
    )


def num_updates(state: loops.LoopState) -> int:
    """Updates that a run has made, the same for every seed."""
    return int(np.ravel(state.num_updates)[0])


def select_seed(tree: PyTree, num_seeds: int, seed: int) -> PyTree:
    """One seed's part of a tree."""
    return tree if num_seeds == 1 else jax.tree.map(lambda leaf: leaf[seed], tree)


def anneal_to_the_end(state: loops.LoopState, task: Task) -> tuple[loops.LoopState, bool]:
    """The state of a run that was made longer, with its learning rate annealed over the new number of updates.

    Returns:
      The state, and whether anything changed.
    """
    hparams = get_hparams(state.agent_state)
    if not task.preset.anneal or not hasattr(hparams, "anneal_updates"):
        return state, False
    wanted = jnp.full_like(hparams.anneal_updates, task.preset.num_agent_updates)
    changed = bool((wanted != hparams.anneal_updates).any())
    agent_state = set_hparams(state.agent_state, hparams._replace(anneal_updates=wanted))
    return state._replace(agent_state=agent_state), changed

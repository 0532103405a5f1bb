"""The parts of `purerl train` for environments that run on the host, in the form of `training.Program`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl import loops, numerics, presets
from purerl.commands.training import Advance, Config, Program
from purerl.envs import HostEnv
from purerl.hparams import cast
from purerl.loops import LoopState
from purerl.loops.host import HostActors, begin_on_host, evaluate_on_host, update_on_host
from purerl.presets.tasks import first_observation
from purerl.types import Metrics, State


def program(config: Config, env: HostEnv) -> Program:
    """Build the agent of a run on the host. Its episodes are not saved: a run that is resumed begins new ones.

    Raises:
      ValueError, TypeError: the setting that is wrong, by name.
    """
    task, preset = config.task, config.task.preset
    if config.num_seeds > 1:
        raise ValueError(f"{task.env} runs on the host, where one seed is trained at a time: --num-seeds must be 1")
    if preset.rollout != "rollout" or preset.dataset:
        raise ValueError(f"{preset.algorithm} needs whole episodes or a dataset, but {task.env} runs on the host")
    spaces: Any = env  # all that the factories of agents read
    agent, hparams = presets.build(preset, spaces), cast(presets.hparams(preset))
    train_key, eval_key = jax.random.split(jax.random.key(config.seed))
    init_key, loop_key = jax.random.split(train_key)
    example = first_observation(env, init_key)
    running: list[HostActors] = []

    def start() -> LoopState:
        state = agent.init(init_key, hparams, example, env.num_envs)
        return LoopState(loop_key, state, (), None, jnp.int32(0))  # type: ignore[arg-type]

    def compile(state: LoopState, num_episodes: int) -> Advance:
        """Begin the episodes; whatever the agent remembers of earlier ones is cut."""
        first = int(state.num_updates)
        begun = agent.cut(state.agent_state) if first and agent.cut else state.agent_state
        running[:] = [begin_on_host(jax.random.fold_in(loop_key, first), agent, env, begun)]
        return lambda state, count: advance(state, count, first)

    def advance(state: LoopState, count: int, first: int) -> tuple[LoopState, Metrics]:
        done, found = int(state.num_updates), []
        learner = state.agent_state
        if done == first > 0 and agent.cut:
            learner = agent.cut(learner)
        for i in range(done, done + count):
            learner, running[0], metrics = update_on_host(
                loop_key, i, agent, env, learner, running[0], preset.rollout_length
            )
            found.append(jax.device_get(metrics))
        stacked: Any = {name: np.stack([metrics[name] for metrics in found]) for name in found[0]}
        return state._replace(agent_state=learner, num_updates=jnp.int32(done + count)), stacked

    def evaluate(state: State, num_episodes: int) -> loops.Evaluation:
        played = task.make_env()
        assert isinstance(played, HostEnv)
        try:
            return evaluate_on_host(eval_key, agent, played, state, num_episodes=num_episodes)
        finally:
            played.close()

    beginning = jax.jit(start)
    return Program(
        beginning, lambda num_episodes: beginning(), compile, evaluate, jax.jit(numerics.diverged), config.chunk
    )

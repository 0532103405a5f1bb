"""Time, memory and disk of a search on an accelerator that need not be there, or on this machine: `forecast`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np

from purerl import loops
from purerl.accelerators.targets import Target
from purerl.hparams import check_positive
from purerl.sweep.run import blocks, fastest, memory, rungs
from purerl.sweep.run import forecast as forecasts
from purerl.sweep.run import plan as plans
from purerl.sweep.run.forecast import Forecast, Group
from purerl.sweep.run.plan import Plan
from purerl.sweep.run.programs import MemberData, Program, with_choices
from purerl.sweep.trials.algorithms import AgentSource
from purerl.sweep.trials.trials import Trials
from purerl.types import Env


def forecast(
    target: Target | None,
    agent: AgentSource,
    env: Env,
    trials: Trials,
    *,
    num_seeds: int = 2,
    num_updates: int,
    num_envs: int,
    rollout_length: int,
    schedule: rungs.Schedule = rungs.full,
    rollout: Callable[..., Any] = loops.rollout,
    block_size: int | Literal["measured"] | None = None,
    memory_limit: float | None = None,
    num_chunks: int = 20,
    eval_episodes: int = 16,
    eval_max_steps: int = 1000,
) -> list[Forecast]:
    """Widths, memory and time of a search on one device of an accelerator, where nothing runs, or on this machine.

    The programs of the search are compiled for the device, at a few widths. Memory is the compiler's own account. For
    an accelerator the time is a lower bound, from counts times constants (`accelerators.programs.modelled_seconds`),
    with evaluations of `eval_max_steps` steps. Here a part of the training and an evaluation run at each width.

    Args:
      target: the accelerator, one of `accelerators.targets.TARGETS`; None: this machine.
      memory_limit: bytes that a block may take; None takes 0.8 of the device's memory, or here of what is free.
      block_size: largest width; None takes all members, or what `search` takes here. "measured" is tried by the search
        alone, and counts as None.
      agent, env, trials, num_seeds, num_updates, num_envs, rollout_length, schedule, rollout, num_chunks,
        eval_episodes, eval_max_steps: as in `search`.

    Returns:
      A `Forecast` for each rung and group of static choices.

    Raises:
      ModuleNotFoundError: the accelerator's compiler is missing; the message says how to install it.
      MemoryError: not even one agent fits.
    """
    check_positive(num_seeds=num_seeds, num_updates=num_updates, num_envs=num_envs, rollout_length=rollout_length)
    size = fastest.given(block_size)
    key = jax.random.key(0)
    impl = str(jax.random.key_impl(key))
    base = Program(agent, env, num_envs, rollout_length, rollout, eval_episodes, eval_max_steps, impl)  # type: ignore
    programs = tuple(with_choices(base, group) for group in trials.groups)
    plan = plans.make(schedule(trials.size, num_updates), programs, base.update_steps, trials.size, num_chunks)
    groups = [
        Group(program, _first_member(trials, number, key), _counts(trials, plan, number, num_seeds))
        for number, program in enumerate(programs)
    ]
    if target is None:
        limit = memory.device_limit(memory_limit)
        size = size or blocks.default_size(trials.size * num_seeds)
    else:
        limit = memory.HEADROOM * target.memory if memory_limit is None else memory_limit
    return forecasts.forecast(target, plan, groups, limit, size)


def _first_member(trials: Trials, group: int, key: jax.Array) -> MemberData:
    first = np.flatnonzero(trials.group == group)[:1]
    hparams, env_params = jax.tree.map(lambda leaf: leaf[first], (trials.hparams, trials.env_params))  # [P] -> [1]
    return MemberData(np.asarray(jax.random.key_data(key))[None], hparams, env_params)


def _counts(trials: Trials, plan: Plan, group: int, num_seeds: int) -> tuple[tuple[int, ...], ...]:
    """Members of each rung of each bracket in a group, if it keeps its share of the trials."""
    share = float(np.mean(trials.group == group))
    return tuple(
        tuple(max(1, round(rung.num_trials * share)) * num_seeds for rung in bracket) for bracket in plan.brackets
    )

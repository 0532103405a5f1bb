"""The search: trials x seeds as blocks of one vmapped program, advanced in chunks from a loop on the host."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import loops
from purerl.distributed import num_parts
from purerl.sweep import population, spaces, statistics
from purerl.sweep.results import Result, rank
from purerl.types import Agent, Env, PyTree, cast, check_hparams, check_key, check_positive

BLOCK_SIZE = 64


class Progress(NamedTuple):
    """Where a search stands, as its `progress` callback sees it after every chunk.

    Attributes:
      phase: "compile" (before the first chunk), "train" or "evaluate".
      block, num_blocks: which block of agents runs, from 0, and of how many.
      steps, total_steps: environment steps of all agents, done and in all.
      seconds: since the search began.
      steps_per_second: since the first chunk ended, so without compiling; NaN until the second one has.
      seconds_left: at that rate; NaN until it is known.
      best_return: highest training return of a trial in a chunk so far, the mean over its seeds; NaN while none.
    """

    phase: str
    block: int
    num_blocks: int
    steps: int
    total_steps: int
    seconds: float
    steps_per_second: float
    seconds_left: float
    best_return: float


def search(
    key: jax.Array,
    agent: Agent,
    env: Env,
    hparams: Any,
    space: spaces.SearchSpace | None = None,
    *,
    num_trials: int | None = None,
    num_seeds: int = 2,
    num_updates: int,
    num_envs: int,
    rollout_length: int,
    env_params: Any = None,
    rollout: Callable[..., Any] = loops.rollout,
    block_size: int = BLOCK_SIZE,
    num_chunks: int = 20,
    eval_episodes: int = 16,
    eval_max_steps: int = 1000,
    keep: int | None = 10,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Train every trial with every seed, evaluate all of them on the same episodes, and rank the trials.

    The agents, trial by trial and seed by seed, are cut into equal blocks of at most `block_size`, the last one filled
    up with repeats, so that one compiled program serves all. Seed s is the same key in every trial: trials start from
    the same random numbers and differ by their hyperparameters alone. A rerun with the same arguments gives the same
    bits; another width differs by rounding, which training then amplifies.

    Args:
      key: typed key.
      agent: any agent.
      env: the environment.
      hparams: the agent's hyperparameters: the values of what the space leaves out. Without a space, a table of
        trials, leaves [P], as `sample` and `grid` return.
      space: from names of hyperparameters to spaces or constants.
      num_trials: number of trials P to draw at random from the space; None takes its grid.
      num_seeds: training runs of each trial.
      num_updates, num_envs, rollout_length, env_params, rollout: as in `loops.train`, for each agent.
      block_size: largest number of agents in one program.
      num_chunks: into about how many parts a run is cut, for progress and as points of the learning curves; the
        nearest number that divides `num_updates` is taken, if there is one from half to twice as many.
      eval_episodes: greedy episodes of each agent at the end; their mean is the agent's return.
      eval_max_steps: longest of them, in steps.
      keep: of how many of the best trials the trained states are kept; None: of all.
      progress: called with a `Progress` before the first chunk, after each chunk, and before each evaluation.

    Returns:
      The `Result`. On the host it holds O(P · num_seeds · (num_chunks + eval_episodes)) numbers.

    Raises:
      TypeError, ValueError: a size is not positive, or the space does not fit the hyperparameters (see
        `check_space`); all before anything is compiled.
    """
    check_key(key)
    check_positive(num_seeds=num_seeds, num_updates=num_updates, num_envs=num_envs, rollout_length=rollout_length)
    check_positive(block_size=block_size, num_chunks=num_chunks, eval_episodes=eval_episodes)
    check_positive(eval_max_steps=eval_max_steps, keep=1 if keep is None else keep)
    sample_key, seed_key, eval_key, bootstrap_key = jax.random.split(key, 4)
    trials, searched = make_trials(sample_key, hparams, space, num_trials)
    num_trials = len(jax.tree.leaves(trials)[0])
    blocks = split_agents(num_trials * num_seeds, block_size, jax.local_device_count())
    chunks = split_updates(num_updates, num_chunks)
    update_steps = num_envs * rollout_length

    seed_keys = jax.vmap(functools.partial(jax.random.fold_in, seed_key))(jnp.arange(num_seeds))
    curves = np.full((num_trials, num_seeds, len(chunks)), np.nan, np.float32)
    returns = np.full((num_trials, num_seeds, eval_episodes), np.nan, np.float32)
    kept, states = np.empty(0, int), None
    monitor = _Monitor(progress, len(blocks), num_trials * num_seeds * num_updates * update_steps)
    monitor.report("compile", 0)
    for block, agents in enumerate(blocks):
        trial, seed = np.divmod(agents, num_seeds)
        table = jax.tree.map(lambda leaf, trial=trial: leaf[trial], trials)
        running = population.start(seed_keys[seed], table, env_params, agent=agent, env=env, num_envs=num_envs)
        for chunk, updates in enumerate(chunks):
            running, curve = population.advance(
                running, agent=agent, env=env, num_updates=updates, rollout_length=rollout_length, rollout=rollout
            )
            curves[trial, seed, chunk] = curve
            best = np.fmax.reduce(curves[..., chunk].mean(axis=1))
            monitor.report("train", block, len(np.unique(agents)) * updates * update_steps, best)
        monitor.report("evaluate", block)
        returns[trial, seed] = population.evaluate(
            running, eval_key, agent=agent, env=env, num_episodes=eval_episodes, max_steps=eval_max_steps
        )
        wanted = _agents_to_keep(returns, curves, agents[-1] + 1, keep)
        kept, states = _merge(kept, states, agents, running.agent_state, wanted)

    interval = statistics.bootstrap_interval(bootstrap_key, returns.mean(axis=2, dtype=np.float64))
    settings = {
        "num_seeds": num_seeds,
        "num_updates": num_updates,
        "num_envs": num_envs,
        "rollout_length": rollout_length,
        "width": blocks.shape[1],
        "num_devices": num_parts(blocks.shape[1]),
        "eval_max_steps": eval_max_steps,
        "seconds": monitor.seconds(),
        "steps_per_second": monitor.steps_per_second(),
    }
    steps = np.cumsum(chunks) * update_steps
    return Result(trials, searched, steps, curves, returns, interval, kept, states, settings)


def make_trials(
    key: jax.Array, hparams: Any, space: spaces.SearchSpace | None, num_trials: int | None
) -> tuple[Any, dict[str, spaces.Space]]:
    """The table of trials, leaves [P], and the spaces it was drawn from; arguments and errors as in `search`."""
    if space is None:
        sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(hparams)}
        if len(sizes) != 1 or sizes == {()}:
            raise ValueError("without a space, every leaf of hparams must have the same leading axis: the trials")
        if num_trials is not None:
            raise ValueError(f"num_trials = {num_trials} needs a space to draw from; hparams is a table of trials")
        check_hparams(hparams)
        return jax.tree.map(np.asarray, cast(hparams)), {}
    _, searched = spaces.check_space(hparams, space)
    if num_trials is None:
        return spaces.grid(hparams, space), searched
    return spaces.sample(key, hparams, space, num_trials), searched


def split_agents(num_agents: int, block_size: int, num_devices: int = 1) -> np.ndarray:
    """Agents 0, ..., A - 1 in as few blocks of at most `block_size` as can be, of one width, as even as can be.

    Returns:
      [num_blocks, width] indices; what the last block lacks is filled up with the last agent. Where there are as many
      agents as devices, and blocks are as large, the width is a multiple of `num_devices`.
    """
    unit = num_devices if min(num_agents, block_size) >= num_devices else 1
    num_blocks = math.ceil(num_agents / (block_size // unit * unit))
    width = math.ceil(num_agents / num_blocks / unit) * unit
    return np.minimum(np.arange(num_blocks * width), num_agents - 1).reshape(num_blocks, width)


def split_updates(num_updates: int, num_chunks: int) -> list[int]:
    """Cut a run into about `num_chunks` chunks of one length, since every other length is another program.

    The nearest number of chunks (in ratio) that divides `num_updates` is taken, from half to twice as many. Where none
    does, the last chunk is shorter and compiles once more.
    """
    even = [n for n in range((num_chunks + 1) // 2, 2 * num_chunks + 1) if num_updates % n == 0]
    if even:
        count = min(even, key=lambda n: abs(math.log(n / num_chunks)))
        return [num_updates // count] * count
    length = math.ceil(num_updates / num_chunks)
    whole, rest = divmod(num_updates, length)
    return [length] * whole + [rest] * (rest > 0)


def _agents_to_keep(returns: np.ndarray, curves: np.ndarray, num_done: int, keep: int | None) -> np.ndarray:
    """Agents of the best trials among the finished ones, and of the one that the next block goes on with."""
    num_seeds = returns.shape[1]
    finished = num_done // num_seeds
    best = rank(returns[:finished], curves[:finished])[:keep]
    agents = best[:, None] * num_seeds + np.arange(num_seeds)
    return np.concatenate([agents.reshape(-1), np.arange(finished * num_seeds, num_done)])


def _merge(
    kept: np.ndarray, states: PyTree, agents: np.ndarray, new: PyTree, wanted: np.ndarray
) -> tuple[np.ndarray, PyTree]:
    """The states of the wanted agents out of those kept so far and a block's; leaves [K, ...] and [W, ...]."""
    both, first = np.unique(np.concatenate([kept, agents]), return_index=True)
    rows = first[np.isin(both, wanted)]
    if states is None:
        return agents[rows], jax.tree.map(lambda new: new[rows], new)
    together = jax.tree.map(lambda old, new: jnp.concatenate([old, new])[rows], states, new)
    return np.concatenate([kept, agents])[rows], together


class _Monitor:
    """Measures a search as it runs and tells the callback."""

    def __init__(self, callback: Callable[[Progress], None] | None, num_blocks: int, total_steps: int) -> None:
        self._callback = callback
        self._num_blocks = num_blocks
        self._total_steps = total_steps
        self._steps = 0
        self._best = math.nan
        self._begin = time.perf_counter()
        self._first = self._last = (self._begin, 0)

    def report(self, phase: str, block: int, steps: int = 0, best: float = math.nan) -> None:
        """Count environment steps that have just ended, and call the callback."""
        self._steps += steps
        self._best = float(np.fmax(self._best, best))
        if steps:
            self._last = time.perf_counter(), self._steps
            self._first = self._first if self._first[1] else self._last
        if self._callback is None:
            return
        rate = self.steps_per_second()
        left = (self._total_steps - self._steps) / rate
        self._callback(
            Progress(
                phase, block, self._num_blocks, self._steps, self._total_steps, self.seconds(), rate, left, self._best
            )
        )

    def seconds(self) -> float:
        """Seconds since the search began."""
        return time.perf_counter() - self._begin

    def steps_per_second(self) -> float:
        """Environment steps a second since the first chunk ended; NaN before the second has."""
        (first_time, first_steps), (last_time, last_steps) = self._first, self._last
        return (last_steps - first_steps) / (last_time - first_time) if last_steps > first_steps else math.nan

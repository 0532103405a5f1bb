"""The parts that all rungs of a search share, and the data of its members."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from purerl.hparams import get_learner, get_params
from purerl.sweep.results.rules import Rules
from purerl.sweep.run import fingerprint, packing, programs
from purerl.sweep.run.budget import Budget
from purerl.sweep.run.executors import Executor
from purerl.sweep.run.journal import Journal
from purerl.sweep.run.measurements import Measurements
from purerl.sweep.run.monitor import Monitor
from purerl.sweep.run.pool import Pool
from purerl.sweep.run.programs import MemberData, Program
from purerl.sweep.run.work import Callback
from purerl.sweep.trials import trials
from purerl.sweep.trials.members import MemberIndex
from purerl.sweep.trials.trials import Trials
from purerl.types import PyTree, State


class Engine(NamedTuple):
    """Everything that the rungs of a search share.

    Attributes:
      programs: by group of static choices.
      trials: the trials.
      measured: the measurements of all members so far.
      seed_keys: [S, ...] data of the keys, one per seed.
      eval_key: data of the key of the evaluations.
      log: the journal, where finished blocks are written.
      execute: the executor of blocks.
      monitor: counts steps and tells the caller.
      block_size: largest number of members in a block.
      measures_width: the fastest width is tried, `block_size` first.
      limit: bytes that a block may take on a device.
      rules: what is optimised, and how ties are broken.
      eval_params: parameters of the environments of the evaluations, leaves [Q, ...]; None: each member's own.
      save_seconds: training that a crash may lose.
      budget: when the search stops early.
      callbacks: called after every chunk.
    """

    programs: tuple[Program, ...]
    trials: Trials
    measured: Measurements
    seed_keys: np.ndarray
    eval_key: np.ndarray
    log: Journal
    execute: Executor
    monitor: Monitor
    block_size: int
    measures_width: bool
    limit: float
    rules: Rules
    eval_params: PyTree = None
    save_seconds: float = 300.0
    budget: Budget = Budget()
    callbacks: tuple[Callback, ...] = ()

    @property
    def member_index(self) -> MemberIndex:
        """The numbers of the members."""
        return MemberIndex(len(self.seed_keys))

    @property
    def blocks_folder(self) -> Path | None:
        """The folder for the states of finished blocks; None without a directory."""
        return None if self.log.directory is None else self.log.directory / "blocks"


def group_of(engine: Engine, members: np.ndarray) -> np.ndarray:
    """The group of static choices of members, [W] to [W]."""
    trial, _ = engine.member_index.decode(members)
    return engine.trials.group[trial]


def data_of(engine: Engine, members: np.ndarray) -> MemberData:
    """Keys, hyperparameters and environment parameters of members, leaves [W]."""
    trial, seed = engine.member_index.decode(members)
    tables = (engine.trials.hparams, engine.trials.env_params)
    hparams, env_params = jax.tree.map(lambda leaf: leaf[trial], tables)  # [P, ...] -> [W, ...]
    return MemberData(engine.seed_keys[seed], hparams, env_params)


def packed_like(engine: Engine, group: int, width: int) -> PyTree:
    """Shapes and dtypes of the packed states of a block of a group."""
    data = data_of(engine, _first_of(engine, group))
    return packing.packed_like(programs.states_like(engine.programs[group], data, width))


def check_programs(engine: Engine) -> None:
    """Compare the program of each group with the one in the journal; see `fingerprint.check`."""
    for group, program in enumerate(engine.programs):
        data, label = data_of(engine, _first_of(engine, group)), trials.label(engine.trials.groups[group])
        fingerprint.check(engine.log, program, data, group, label)


def agent_states(engine: Engine, pool: Pool, members: np.ndarray) -> tuple[PyTree, ...]:
    """The agent's own state of each of these members."""
    states = []
    for member in members[:, None]:  # [1]: a block of one
        state = jax.tree.map(lambda leaf: leaf[0], pool.gather(member).agent_state)  # [1, ...] -> [...]
        states.append(unpacked_agent(engine, member, state))
    return tuple(states)


def unpacked_agent(engine: Engine, member: np.ndarray, packed: PyTree) -> State:
    """The state of the agent of one member [1], as `packing.unpack` returns it."""
    program = engine.programs[group_of(engine, member)[0]]
    return packing.unpack(packed, programs.state_like(program, data_of(engine, member)).agent_state)


def num_parameters(engine: Engine) -> tuple[int, ...]:
    """The learned numbers of an agent of each group: its parameters, or its whole learner if it names none."""
    counts = []
    for group, program in enumerate(engine.programs):
        state = programs.state_like(program, data_of(engine, _first_of(engine, group))).agent_state
        try:
            learned = get_params(state)
        except TypeError:
            learned = get_learner(state)
        counts.append(sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(learned)))
    return tuple(counts)


def _first_of(engine: Engine, group: int) -> np.ndarray:
    """[1], the first member of a group."""
    (found,) = np.nonzero(engine.trials.group == group)
    return engine.member_index.of_trials(found[:1])[:1]

"""Asynchronous successive halving: the next block is chosen when a worker is free, from what has finished by then.

An executor takes blocks from a generator, one whenever it has room, so the decision is made in the generator: trials
that may be promoted first, from the highest rung down, and otherwise new ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from purerl.sweep.results.objectives import Evidence
from purerl.sweep.results.rules import order_of
from purerl.sweep.run import blocks, budget, rungs, stages, widths, within
from purerl.sweep.run.budget import Enough
from purerl.sweep.run.engine import Engine
from purerl.sweep.run.plan import Plan
from purerl.sweep.run.pool import Pool
from purerl.sweep.run.stages import Place
from purerl.sweep.run.work import AgentStates, Block, Partial


class _Board:
    """Who is where: the trials that wait, and those that finished each rung, were promoted out of it, or run."""

    def __init__(self, engine: Engine, plan: Plan, eta: int) -> None:
        self.engine, self.plan, self.eta = engine, plan, eta
        self.stages = [plan.stage(0, r) for r in range(len(plan.brackets[0]))]
        self.pools = [Pool() for _ in self.stages]
        self.entered: list[set[int]] = [set() for _ in self.stages]  # trials that run in a rung, or have finished it
        self.finished: list[set[int]] = [set() for _ in self.stages]
        self.numbers = [0 for _ in self.stages]

    def next(self) -> tuple[int, Place] | None:
        """The rung and the members of the next block; None if there is nothing to do until one finishes."""
        for r in reversed(range(1, len(self.stages))):
            ready = self._promotable(r - 1)
            if ready.size:
                return r, self._place(r, ready)
        waiting = np.setdiff1d(np.arange(self.engine.trials.size), list(self.entered[0]))
        return (0, self._place(0, waiting)) if waiting.size else None

    def finish(self, r: int, members: np.ndarray) -> None:
        """A block of a rung has ended; states of trials that went on are dropped from the rung before."""
        self.finished[r].update(np.unique(self.engine.member_index.decode(members)[0]).tolist())
        if r:
            left = np.array(sorted(self.finished[r - 1] - self.finished[r]), int)
            self.pools[r - 1].retain(self.engine.member_index.of_trials(left))

    def furthest(self) -> Pool:
        """The states after the last rung that a trial has finished: of few trials none may reach the last of all."""
        return next((pool for pool in reversed(self.pools) if pool.members.size), self.pools[-1])

    def everywhere(self) -> Pool:
        """The last states of every trial that was trained: the one that ended the search may be in any rung."""
        whole = Pool()
        for pool in reversed(self.pools):  # states of a higher rung come first
            whole.merge(pool)
        return whole

    def _promotable(self, r: int) -> np.ndarray:
        trials = np.array(sorted(self.finished[r]), int)
        if not trials.size:
            return trials
        order, score = order_of(self.engine.rules, self._evidence(trials, r))
        return trials[rungs.promotable(order, ~np.isnan(score[order]), self._rows(trials, r + 1), self.eta)]

    def _evidence(self, trials: np.ndarray, r: int) -> Evidence:
        """Measurements of trials when they finished a rung; some of them have been trained further since."""
        measured = self.engine.measured
        last = self.stages[r].points.max(initial=-1)
        curves = np.where(np.arange(len(measured.steps)) <= last, measured.curves[trials], np.nan)
        return measured.evidence(trials)._replace(returns=measured.rung_returns[r, trials], curves=curves)

    def _rows(self, trials: np.ndarray, r: int) -> np.ndarray:
        return np.flatnonzero(np.isin(trials, list(self.entered[r])))

    def _place(self, r: int, trials: np.ndarray) -> Place:
        """As many of the trials as one block holds, all of one group."""
        group = int(self.engine.trials.group[trials[0]])
        trials = trials[self.engine.trials.group[trials] == group]
        every = self.engine.member_index.of_trials(np.flatnonzero(self.engine.trials.group == group))
        width = widths.settle(self.engine, self.stages[r], group, every)
        seeds = self.engine.member_index.num_seeds
        mine = self.engine.member_index.of_trials(np.sort(trials[: max(1, width // seeds)]))
        self.entered[r].update(np.unique(mine // seeds).tolist())
        self.numbers[r] += 1
        rows = blocks.into_blocks(len(mine), max(width, len(mine)))[0]
        return Place(f"{self.stages[r].name}-group{group}-block{self.numbers[r]:04d}", group, mine[rows])


def run(engine: Engine, plan: Plan, eta: int) -> tuple[Pool, Enough | None]:
    """Run the one bracket of the plan asynchronously, which fills the engine's measurements.

    Finished blocks that are in the journal count as finished; those that were running begin again.

    Returns:
      The states of the trials that were trained furthest, and why the search stopped early, if it did.
    """
    board, rung_of = _Board(engine, plan, eta), dict[str, int]()
    _recall(board)
    execute = engine.execute.asynchronous() if hasattr(engine.execute, "asynchronous") else engine.execute

    def work() -> Iterator[Block]:
        while (chosen := board.next()) is not None:
            r, place = chosen
            rung_of[place.name] = r
            before = board.pools[r - 1] if r else None
            yield stages.make_block(engine, board.stages[r], place, before, board.pools[r])

    curves: dict[str, list[np.ndarray]] = {}

    def report(block: Block, chunk: int, curve: np.ndarray | None, states: AgentStates | None = None) -> bool:
        engine.monitor.report("evaluate" if curve is None else "train", stages.steps_of(engine, block, chunk, curve))
        stage = board.stages[rung_of[block.name]]
        if curve is not None:
            stages.call_back(engine, stage, block, chunk, curve, states)
        budget.check_spent(engine)
        if curve is None:
            return False
        curves.setdefault(block.name, []).append(curve)
        return within.may_end(engine, stage, block, np.stack(curves[block.name], axis=1))

    try:
        budget.check_spent(engine)
        while True:  # a generator that has ended stays so: what finished after it may have made others promotable
            ran = 0
            for block, result in execute(engine.programs, work(), report):
                ran, r = ran + 1, rung_of[block.name]
                if isinstance(result, Partial):
                    within.check(engine, board.stages[r], block, result, board.pools[r])
                    continue
                stages.enter(engine, board.stages[r], block, result, board.pools[r])
                board.finish(r, block.members)
                budget.check_reached(engine, np.unique(block.members), block.members)
            if not ran:
                break
    except Enough as enough:
        return board.everywhere(), enough
    return board.furthest(), None


def _recall(board: _Board) -> None:
    """Enter the blocks that earlier processes finished, in the order in which they did."""
    engine = board.engine
    for kind in ("block", "failed"):
        for name, event in engine.log.all(kind).items():
            for r, stage in enumerate(board.stages):
                if not name.startswith(f"{stage.name}-group"):
                    continue
                group = int(name.removeprefix(f"{stage.name}-group").partition("-")[0])
                members = np.array(event["members"], int)
                width = engine.log.find("width", f"{stage.name}-group{group}")
                rows = blocks.into_blocks(len(members), max(len(members), width["width"] if width else 1))[0]
                stages.take(engine, stage, Place(name, group, members[rows]), board.pools[r])
                board.entered[r].update(np.unique(engine.member_index.decode(members)[0]).tolist())
                board.numbers[r] = max(board.numbers[r], int(name.rpartition("block")[2]))
                board.finish(r, members)

"""The plan of a search: the rungs of its brackets, cut into chunks for each group of static choices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from purerl.loops.chunks import chunk_length
from purerl.loops.chunks import cut as into_chunks
from purerl.sweep.run.programs import Program
from purerl.sweep.run.rungs import Bracket


class Stage(NamedTuple):
    """A rung of a bracket as it is run.

    Attributes:
      name: unique in the search.
      rung: its position in the bracket, from 0.
      num_updates: updates of a trial at its end.
      chunks: updates of each chunk, by group.
      points: indices of the points of the learning curves that lie in it.
      first_step: environment steps of a member before it.
      stretch: by how much the search was made longer before it, as a ratio of its lengths; 1 if it was not.
    """

    name: str
    rung: int
    num_updates: int
    chunks: tuple[tuple[int, ...], ...]
    points: np.ndarray
    first_step: int
    stretch: float = 1.0


class Plan(NamedTuple):
    """The plan of a search.

    Attributes:
      brackets: brackets of rungs from the schedule, cut to the number of trials.
      lengths: length of a chunk in each group, in its updates.
      scales: updates of each group per update at the nominal sizes.
      length: length of a chunk at the nominal sizes.
      update_steps: environment steps of one update of a member at the nominal sizes.
      prefix: of the names of all stages; see `extension`.
      stops: updates after which it ended before it was made longer, each time.
      continued: the trials that were trained further from there, each time.
    """

    brackets: tuple[Bracket, ...]
    lengths: tuple[int, ...]
    scales: tuple[float, ...]
    length: int
    update_steps: int
    prefix: str = ""
    stops: tuple[int, ...] = ()
    continued: tuple[tuple[int, ...], ...] = ()

    @property
    def num_updates(self) -> int:
        """Updates of a trial that runs to the end."""
        return max(bracket[-1].num_updates for bracket in self.brackets)

    @property
    def steps(self) -> np.ndarray:
        """[C] environment steps of a member at the end of each chunk: the points of the learning curves."""
        return (
            np.cumsum([n for begin, end in self._parts() for n in into_chunks(end - begin, self.length)])
            * self.update_steps
        )

    def stage(self, bracket: int, rung: int) -> Stage:
        """A rung of a bracket, cut into chunks."""
        begin, end = self._span(bracket, rung)
        return self._stage(f"{self.prefix}bracket{bracket}-rung{rung}", rung, begin, end)

    def whole(self, name: str) -> list[Stage]:
        """A whole run: a stage from the beginning, and one for each time that the search was made longer."""
        return [
            self._stage(f"{name}{f'-longer{part}' if part else ''}", 0, begin, end)
            for part, (begin, end) in enumerate(self._parts())
        ]

    def chosen(self, bracket: int, rung: int) -> np.ndarray | None:
        """The trials of a rung that makes the search longer; None: another rung, whose trials are the survivors."""
        begin, _ = self._span(bracket, rung)
        return np.array(self.continued[self.stops.index(begin)], int) if begin in self.stops else None

    def total_steps(self, num_seeds: int, num_whole: int = 0) -> int:
        """Environment steps of all members and of `num_whole` further runs from the beginning to the end.

        It is exact apart from the rounding of groups and from trials that diverge.
        """
        spans = [
            (rung.num_trials, self._span(b, r)) for b, each in enumerate(self.brackets) for r, rung in enumerate(each)
        ]
        updates = num_seeds * sum(count * (end - begin) for count, (begin, end) in spans)
        return self.update_steps * (updates + num_whole * self.num_updates)

    def _stage(self, name: str, rung: int, begin: int, end: int) -> Stage:
        spans = [_scaled((begin, end), scale) for scale in self.scales]
        chunks = tuple(tuple(into_chunks(last - first, length)) for (first, last), length in zip(spans, self.lengths))
        updates = self.steps // self.update_steps
        points = np.flatnonzero((updates > begin) & (updates <= end))
        stretch = end / begin if begin in self.stops else 1.0
        return Stage(name, rung, end, chunks, points, begin * self.update_steps, stretch)

    def _parts(self) -> Iterator[tuple[int, int]]:
        """The updates of a whole run, cut where the search ended before."""
        return itertools.pairwise((0, *self.stops, self.num_updates))

    def _span(self, bracket: int, rung: int) -> tuple[int, int]:
        ends = [0, *(each.num_updates for each in self.brackets[bracket])]
        return ends[rung], ends[rung + 1]


def make(
    brackets: Sequence[Bracket], programs: Sequence[Program], update_steps: int, num_trials: int, num_chunks: int
) -> Plan:
    """Plan a search.

    Args:
      brackets: as the schedule returns them.
      programs: by group.
      update_steps: environment steps of one update of a member at the nominal sizes.
      num_trials: number of trials; brackets take them in turn, and are cut when none are left.
      num_chunks: approximate number of chunks of the longest run.

    Raises:
      ValueError: a rung does not have more updates than the one before, or has more trials; the brackets have fewer
        trials than there are; or a rung is too short for a group with larger updates.
    """
    brackets = cut(brackets, num_trials)
    brackets = tuple(
        _aligned(bracket, [program.update_steps for program in programs], update_steps) for bracket in brackets
    )
    ends = [rung.num_updates for bracket in brackets for rung in bracket]
    scales = tuple(update_steps / program.update_steps for program in programs)
    lengths = tuple(chunk_length([_scaled((0, end), scale)[1] for end in ends], num_chunks) for scale in scales)
    return Plan(brackets, lengths, scales, chunk_length(ends, num_chunks), update_steps)


def _scaled(span: tuple[int, int], scale: float) -> tuple[int, int]:
    """The same environment steps in another group's updates; at least one."""
    begin, end = round(span[0] * scale), round(span[1] * scale)
    return begin, max(end, begin + 1)


def cut(brackets: Sequence[Bracket], num_trials: int) -> tuple[Bracket, ...]:
    """Brackets cut to the number of trials; errors as in `make`."""
    left, kept = num_trials, []
    for bracket in brackets:
        _check(bracket)
        count = min(left, bracket[0].num_trials)
        if count:
            kept.append(tuple(rung._replace(num_trials=min(count, rung.num_trials)) for rung in bracket))
        left -= count
    if left:
        raise ValueError(f"the schedule has brackets for {num_trials - left} of {num_trials} trials")
    return tuple(kept)


def _aligned(bracket: Bracket, group_steps: Sequence[int], update_steps: int) -> Bracket:
    """A bracket whose rungs, but the last, end after the same environment steps in every group.

    Their ends move to the nearest multiple of what all groups can reach in whole updates. Where the rungs are too short
    for that, each group makes the number of its updates that comes nearest to the end, if that is within a twentieth.
    The last rung ends where it was asked to, in the nearest number of updates of each group.
    """
    common = math.lcm(*group_steps, update_steps) // update_steps
    ends = [max(1, round(rung.num_updates / common)) * common for rung in bracket[:-1]]
    ends.append(bracket[-1].num_updates)
    if common == 1 or len(bracket) == 1:
        return bracket
    if all(before < after for before, after in itertools.pairwise(ends)):
        return tuple(rung._replace(num_updates=end) for rung, end in zip(bracket, ends))
    for rung in bracket[:-1]:
        asked = rung.num_updates * update_steps
        made = [max(1, round(asked / steps)) * steps for steps in group_steps]
        if max(abs(steps - asked) for steps in made) > asked / 20:
            raise ValueError(
                f"rungs of {', '.join(str(each.num_updates) for each in bracket)} updates are too short for groups "
                f"whose updates are of {', '.join(f'{n:,}' for n in sorted(set(group_steps)))} steps: in whole updates "
                f"they come to {min(made):,} and {max(made):,} steps where {asked:,} were asked; make each rung a "
                f"multiple of {common} updates, or use fewer rungs, more updates, or sizes that divide each other"
            )
    return bracket


def _check(bracket: Bracket) -> None:
    if not bracket:
        raise ValueError("a bracket needs at least one rung")
    for i, (before, rung) in enumerate(zip((bracket[0]._replace(num_updates=0), *bracket), bracket)):
        if rung.num_updates <= before.num_updates:
            raise ValueError(f"rung {i} ends after {rung.num_updates} updates, which must be more than before it")
        if not 1 <= rung.num_trials <= before.num_trials:
            raise ValueError(f"rung {i} trains {rung.num_trials} trials, but the rung before only {before.num_trials}")

"""Executors of blocks: what runs them where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from purerl.sweep.run import training
from purerl.sweep.run.programs import Program
from purerl.sweep.run.work import Block, Report, Result


class Executor(Protocol):
    """Executes the blocks of a rung, in any order and anywhere.

    A search hands over all blocks at once and takes results as they come, so an executor may keep as many in flight as
    its machines allow. A block depends on nothing but its own data: an executor may repeat one that was lost. One with
    a method `num_parallel()` is asked how many blocks it runs at a time, which decides how wide they are.
    """

    def __call__(
        self, programs: tuple[Program, ...], blocks: Iterable[Block], report: Report, /
    ) -> Iterator[tuple[Block, Result]]:
        """Yield each block with its outcome or failure, and before that its partial results.

        `programs` are those of the groups.
        """


def local(programs: tuple[Program, ...], blocks: Iterable[Block], report: Report, /) -> Iterator[tuple[Block, Result]]:
    """Execute one block after the other in this process, on its devices.

    Args:
      programs: by group.
      blocks: the blocks of a rung.
      report: see `Report`.

    Yields:
      Each block with its results.
    """
    for block in blocks:
        for result in training.run(programs[block.group], block, report):
            yield block, result


def num_parallel(executor: Any) -> int:
    """How many blocks an executor runs at a time; 1 if it does not say."""
    return int(executor.num_parallel()) if hasattr(executor, "num_parallel") else 1

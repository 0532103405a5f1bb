"""Options of `purerl report`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from purerl.commands.options import UsageError, count, option, parse_number, services


@dataclasses.dataclass(frozen=True)
class Options:
    """Write one HTML page about a search, finished or not. Any browser opens it without a network.

    The page has the ranked table, the figures, the importance of each hyperparameter, the command that trains the best
    trial again, and how far the results can be trusted.
    """

    EXAMPLES: ClassVar = (
        "purerl report sweep-ppo-CartPole-v1",
        "purerl report runs/big --output big.html",
        "purerl report runs/big --log tensorboard --top 100",
    )

    run: str = option("Name or directory of the search.", "", metavar="RUN", positional=True)
    runs_dir: str = option("Directory of all runs.", "runs", metavar="RUNS_DIR")
    watch: float | None = option(
        "Write the page again every so many seconds until the search has finished; the browser shows the newest one.",
        parse=parse_number(low=1.0),
        metavar="SECONDS",
        shown="once",
    )
    output: str | None = option("The file to write.", metavar="FILE", shown="RUN/report.html")
    log: tuple[str, ...] = services(
        "Instead of the page, write each trial, with its hyperparameters, learning curve and final figures, as one run",
        files=("csv", "jsonl"),
    )
    top: int | None = count("With --log: the best N trials only.", shown="all")


def check(options: Options) -> None:
    """Reject options that do not go together.

    Raises:
      UsageError: an option that has no effect beside another one; it is named.
    """
    if options.log and (options.output is not None or options.watch is not None):
        raise UsageError("--log writes no page: leave out --output and --watch")
    if options.top is not None and not options.log:
        raise UsageError("--top has no effect without --log")

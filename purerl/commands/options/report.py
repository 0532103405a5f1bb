"""Options of `purerl report`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from purerl.commands.options import option, parse_number


@dataclasses.dataclass(frozen=True)
class Options:
    """Write one HTML page about a search, finished or not. Any browser opens it without a network.

    The page has the ranked table, the figures, the importance of each hyperparameter, the command that trains the best
    trial again, and how far the results can be trusted.
    """

    EXAMPLES: ClassVar = (
        "purerl report sweep-ppo-CartPole-v1",
        "purerl report runs/big --output big.html",
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

"""Options of `purerl evaluate`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from purerl.commands.options import count, flag, option, seed


@dataclasses.dataclass(frozen=True)
class Options:
    """Play the policy that `purerl train` or `purerl sweep` saved, and print its returns.

    The return of every episode is saved in evaluation.csv of the run. With --record, the steps of the policy are saved
    as a dataset instead, for the algorithms that learn from recorded steps.
    """

    EXAMPLES: ClassVar = (
        "purerl evaluate first --num-episodes 200",
        "purerl evaluate runs/first --record data/first --record-steps 100k --sample",
    )

    run: str = option("Name or directory of the run, or a saved policy.", "", metavar="RUN", positional=True)
    runs_dir: str = option("Directory of all runs.", "runs", metavar="RUNS_DIR")
    num_episodes: int = count("Number of episodes.", 100)
    sample: bool = flag("Sample the actions from the policy instead of taking the greedy ones.")
    max_steps: int | None = count("Longest episode, in steps.", shown="the environment's time limit")
    seed: int = seed("Random seed of the episodes.")
    record: str | None = option(
        "Directory for a dataset of --record-steps steps, which `purerl train --dataset DIR` learns from.",
        metavar="DIR",
    )
    record_steps: int = count("Steps of that dataset, from 16 environments side by side.", 100_000)

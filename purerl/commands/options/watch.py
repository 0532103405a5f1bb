"""Options of `purerl watch`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from purerl.commands.options import count, flag, option, seed


@dataclasses.dataclass(frozen=True)
class Options:
    """Play an episode of a saved policy and save it as an animation, replay.gif in the run unless --output says else.

    Environments without pictures of their own are drawn from their observations.
    """

    EXAMPLES: ClassVar = (
        "purerl watch first",
        "purerl watch first --output first.mp4 --seed 3",
        "purerl watch first --live",
    )

    run: str = option("Name or directory of the run, or a saved policy.", "", metavar="RUN", positional=True)
    runs_dir: str = option("Directory of all runs.", "runs", metavar="RUNS_DIR")
    output: str | None = option(
        "File that ends with .gif or .mp4, or .html for the viewer of brax.", metavar="FILE", shown="RUN/replay.gif"
    )
    live: bool = flag("Show the episode in this terminal instead of saving it.")
    sample: bool = flag("Sample the actions from the policy instead of taking the greedy ones.")
    max_steps: int | None = count("Longest episode, in steps.", shown="the environment's time limit")
    max_frames: int = count("Number of steps that are drawn.", 500)
    fps: int = count("Frames per second.", 30)
    seed: int = seed("Random seed of the episode.")

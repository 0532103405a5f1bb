"""Options of `purerl train`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from purerl.commands.options import Output, Setup, cores, count, option, parse_number, seed, services, several


@dataclasses.dataclass(frozen=True)
class Options:
    """Train an agent, or several seeds of it side by side, and save the policy.

    Everything is saved in runs/NAME/: config.json, metrics.csv, checkpoints/, policy/ and learning_curve.png. Ctrl-C
    saves and stops; `purerl train --resume NAME` resumes from there, bit for bit the same run.
    """

    EXAMPLES: ClassVar = (
        "purerl train --env CartPole-v1 --num-steps 500k --name first",
        "purerl train --env Pendulum-v1 --num-seeds 5 --hparams learning_rate=3e-4",
        "purerl train --env CartPole-v1 --eval-every 10k --until 475",
    )

    setup: Setup = dataclasses.field(default_factory=Setup)
    output: Output = dataclasses.field(default_factory=Output)
    num_steps: int | None = count("Environment steps of each seed, such as 500_000, 500k or 5e5.", shown="the preset's")
    num_seeds: int | None = count("Number of agents trained side by side, differing only in their seed.", shown="1")
    seed: int | None = seed("Random seed.", None, shown="0")
    resume: str | None = option(
        "Resume a run, by name or directory. Its settings stay as they are; --num-steps may be larger, also after the "
        "run has finished.",
        metavar="RUN",
        optional_value="",
    )
    eval_episodes: int = count("Greedy episodes that each seed plays at the end.", 32)
    eval_every: int | None = count(
        "Also evaluate after every N steps of each seed, and keep the best policy in best/.",
        shown="only at the end; with --until, 20 times",
    )
    until: float | None = option(
        "End training once an evaluation reaches this mean return.", parse=parse_number(), metavar="RETURN"
    )
    callbacks: tuple[str, ...] = several(
        "Functions of yours, called with a purerl.loops.Chunk after every row of metrics; True ends training.",
        metavar="MODULE:FUNCTION",
    )
    checkpoint_seconds: float = option(
        "Save a checkpoint at least every this many seconds, and at the end.",
        60.0,
        parse=parse_number(low=0.0),
        metavar="SECONDS",
        shown="60",
    )
    keep: int = count("Number of checkpoints that are kept.", 2)
    cores: str | None = cores("one for a single small agent on a classic control task, otherwise all")
    log: tuple[str, ...] = services()

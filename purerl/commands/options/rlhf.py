"""Options of `purerl rlhf`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

from purerl.commands.options import count, flag, one_of, option, seed, several


@dataclasses.dataclass(frozen=True)
class Options:
    """Learn from preferences on a task whose true reward is known.

    language: a small GPT on a synthetic language: SFT, reward model, RL and DPO, with figures of reward
    against KL and of the diversity of completions.
    goodhart: how optimising a reward model of a few pairs ever harder changes the true reward, computed exactly.
    pendulum: swing up from answers to "which of these two segments is better?", one in ten of them random.
    clicks: relevance from clicks on ranked lists, with and without a correction of the position bias.
    """

    EXAMPLES: ClassVar = (
        "purerl rlhf language --quick --output figures",
        "purerl rlhf goodhart --num-pairs 1000 --output figures",
    )

    task: str = option(
        "language, goodhart, pendulum or clicks.",
        "language",
        parse=one_of("language", "goodhart", "pendulum", "clicks"),
        metavar="TASK",
        positional=True,
    )
    methods: tuple[str, ...] = several(
        "language: ppo, rloo, grpo, or direct losses: dpo, ipo, robust, hinge, exo, nca, aot, apo_zero, simpo, ...",
        ("ppo", "rloo", "grpo", "dpo"),
        metavar="METHOD",
        shown="ppo rloo grpo dpo",
    )
    num_pairs: int | None = count(
        "Labelled pairs (clicks: lists).", shown="language 15,000, goodhart 1,000, pendulum 700, clicks 5,000"
    )
    seed: int = seed("Random seed of the task and of the run.")
    quick: bool = flag("language: a tenth of everything, to see that it runs.")
    output: Path | None = option(
        "Directory for TASK.png and TASK.json.", parse=Path, metavar="DIR", shown="nothing is saved"
    )

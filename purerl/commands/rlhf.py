"""`purerl rlhf`: learning from preferences on built-in tasks whose truth is known, with pictures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import tyro

from purerl.commands import console
from purerl.commands.options import UsageError

_METHODS = ("ppo", "rloo", "grpo", "dpo")


@dataclasses.dataclass(frozen=True)
class Options:
    """Learn from preferences on a task whose truth is known.

    language: a small GPT on a synthetic language: SFT, reward model, RL and DPO, and reward against KL in a picture.
    goodhart: what optimising a reward model of a few pairs ever harder does to the true reward, exactly.
    """

    task: tyro.conf.Positional[Literal["language", "goodhart"]] = "language"
    """Which task."""

    methods: tuple[str, ...] = _METHODS
    """language: which methods, among ppo, rloo, grpo, dpo, ipo, robust, hinge, simpo, cpo, orpo, sppo."""

    num_pairs: int | None = None
    """Labelled pairs; by default 15,000 for language, 1,000 for goodhart."""

    seed: int = 0
    """Seed of the task and of the run."""

    quick: bool = False
    """language: a tenth of everything, to see that it runs."""

    output: Path | None = None
    """Directory for <task>.png and <task>.json; by default none are saved."""


def run(options: Options) -> None:
    """Run the task and report it.

    Raises:
      UsageError: an unknown method, or a number that is not positive.
    """
    if options.num_pairs is not None and options.num_pairs < 1:
        raise UsageError("--num-pairs must be positive")
    if options.task == "language":
        _language(options)
    else:
        _goodhart(options)


def _language(options: Options) -> None:
    from purerl.rlhf import language, pictures
    from purerl.rlhf.direct import DIRECT_LOSSES

    known = ("ppo", "rloo", "grpo", *(name for name in DIRECT_LOSSES if name != "plackett_luce"))
    for method in options.methods:
        if method not in known:
            raise UsageError(f"--methods: unknown method {method!r}; there are {', '.join(known)}")
    sizes = language.Sizes(num_pairs=options.num_pairs or language.Sizes().num_pairs)
    road = language.Road(options.seed, language.quick(sizes) if options.quick else sizes, console.say)
    points, accuracies = language.travel(road, options.methods)
    console.print_table(
        "Held-out prompts",
        ["method", "true reward", "learned reward", "KL to SFT"],
        [(p.method, f"{p.true_reward:.2f}", f"{p.proxy_reward:.2f}", f"{p.kl:.2f}") for p in points],
    )
    results = {"reward_model": accuracies, "points": [point._asdict() for point in points]}
    _save(options, lambda: pictures.frontier_figure(points), results)


def _goodhart(options: Options) -> None:
    from purerl.rlhf import exact, pictures

    curve = exact.goodhart(options.seed, options.num_pairs or 1_000)
    rows = [[f"{float(x):.2f}" for x in row] for row in list(zip(*curve))[::5]]
    console.print_table("Exact means", ["beta", "true reward", "learned reward", "KL"], rows)
    results = {name: [float(x) for x in column] for name, column in curve._asdict().items()}
    _save(options, lambda: pictures.goodhart_figure(curve), results)


def _save(options: Options, figure: Any, results: dict[str, Any]) -> None:
    if options.output is None:
        return
    from purerl.rlhf import pictures

    options.output.mkdir(parents=True, exist_ok=True)
    pictures.save(figure(), options.output / f"{options.task}.png")
    (options.output / f"{options.task}.json").write_text(json.dumps(results, indent=1))
    console.say(f"saved {options.output / options.task}.png and .json")

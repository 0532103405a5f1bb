"""`purerl rlhf`: learn from preferences on built-in tasks whose true reward is known, with figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from purerl.commands import console
from purerl.commands.options import UsageError
from purerl.commands.options.rlhf import Options
from purerl.experiments import goodhart, language, pendulum, pictures
from purerl.preferences import clicks, control, reward_ensemble
from purerl.rlhf.direct import DIRECT_LOSSES


def run(options: Options) -> None:
    """Run the task and print its results.

    Raises:
      UsageError: an unknown method, or a number that is not positive.
    """
    if options.num_pairs is not None and options.num_pairs < 1:
        raise UsageError("--num-pairs must be positive")
    {"language": _language, "goodhart": _goodhart, "pendulum": _pendulum, "clicks": _clicks}[options.task](options)


def _language(options: Options) -> None:
    known = ("ppo", "rloo", "grpo", *(name for name in DIRECT_LOSSES if name != "plackett_luce"))
    for method in options.methods:
        if method not in known:
            raise UsageError(f"--methods: unknown method {method!r}; known are {', '.join(known)}")
    sizes = language.Sizes(num_pairs=options.num_pairs or language.Sizes().num_pairs)
    road = language.Road(options.seed, language.quick(sizes) if options.quick else sizes, console.say)
    points, accuracies = language.travel(road, options.methods)
    console.print_table(
        "Held-out prompts",
        ["method", "true reward", "learned reward", "KL to SFT"],
        [(p.method, f"{p.true_reward:.2f}", f"{p.proxy_reward:.2f}", f"{p.kl:.2f}") for p in points],
    )
    policies = [(p.method, p.diversity) for p in points if p.diversity is not None]
    console.print_table(
        "Diversity of completions of the same prompt",
        ["method", "entropy, nats", "per token", "distinct-1", "distinct-2", "self-similarity"],
        [(method, *(f"{x:.2f}" for x in found)) for method, found in policies],
    )
    results = {
        "reward_model": accuracies,
        "points": [p._asdict() | {"diversity": p.diversity and p.diversity._asdict()} for p in points],
    }
    _save(options, lambda: pictures.frontier_figure(points), results)
    _save_picture(options, lambda: pictures.diversity_figure(points), "diversity")


def _goodhart(options: Options) -> None:
    curve = goodhart.goodhart(options.seed, options.num_pairs or 1_000)
    rows = [[f"{float(x):.2f}" for x in row] for row in list(zip(*curve))[::5]]
    console.print_table("Exact means", ["beta", "true reward", "learned reward", "KL"], rows)
    results = {name: [float(x) for x in column] for name, column in curve._asdict().items()}
    _save(options, lambda: pictures.goodhart_figure(curve), results)


def _pendulum(options: Options) -> None:
    sizes = pendulum.SIZES
    labels = options.num_pairs or sizes.num_labels
    if labels < sizes.num_rounds:
        raise UsageError(f"--num-pairs {labels}: give at least 1 for each of the {sizes.num_rounds} rounds of answers")
    each = labels // sizes.num_rounds
    sizes = sizes._replace(first_labels=labels - (sizes.num_rounds - 1) * each, labels_per_round=each)

    def say(ended: control.Round) -> None:
        number, reward, correlation = (float(x) for x in ended)
        console.say(
            f"{number:.0f} answers: true reward {reward:.2f} per step, correlation {correlation:.2f} with learned"
        )

    found = pendulum.run(jax.random.key(options.seed), pendulum.task(), sizes, say)
    console.say(f"greedy policy: mean return {float(found.greedy_return):.0f}")
    rounds, steps = found.result.rounds, found.result.steps
    learned = reward_ensemble.learned_reward(found.result.reward, steps.features)
    results = {name: x.tolist() for name, x in rounds._asdict().items()}
    results["greedy_return"] = float(found.greedy_return)
    _save(options, lambda: pictures.control_figure(rounds, np.ravel(steps.reward), np.ravel(learned)), results)


def _clicks(options: Options) -> None:

    bias = jnp.linspace(0.0, 2.0, 9)
    curve = clicks.bias_curve(jax.random.key(options.seed), bias, options.num_pairs or 5_000)
    columns = {name: clicks.alignment(getattr(curve, name), curve.true) for name in ("naive", "corrected")}
    rows = [[f"{float(x):.2f}" for x in row] for row in zip(bias, *columns.values())]
    console.print_table("Cosine between learned and true weights", ["position bias", *columns], rows)
    results = {name: x.tolist() for name, x in curve._asdict().items()}
    _save(options, lambda: pictures.clicks_figure(curve), results)


def _save(options: Options, figure: Callable[[], Figure], results: dict[str, Any]) -> None:
    if options.output is None:
        return

    options.output.mkdir(parents=True, exist_ok=True)
    pictures.save(figure(), options.output / f"{options.task}.png")
    (options.output / f"{options.task}.json").write_text(json.dumps(results, indent=1))
    console.say(f"Saved {options.output / options.task}.png and .json.")


def _save_picture(options: Options, figure: Callable[[], Figure], name: str) -> None:
    if options.output is None:
        return
    pictures.save(figure(), options.output / f"{options.task}_{name}.png")
    console.say(f"Saved {options.output / options.task}_{name}.png.")

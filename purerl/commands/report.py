"""`purerl report`: a search as one HTML page; and what the other commands say and draw about returns."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from purerl.commands import console
from purerl.commands.options import UsageError, hint

if TYPE_CHECKING:
    import numpy as np

    from purerl.commands.runs import Task
    from purerl.sweep import Result


@dataclasses.dataclass(frozen=True)
class Options:
    """Write a finished search as one HTML page that any browser opens without a network.

    The page has the ranked table, pictures, what mattered, how to train the best trial again, and how far all of it can
    be believed.
    """

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN")]]
    """Directory of the search, such as runs/sweep-ppo-CartPole-v1."""
    output: Annotated[Path | None, hint("RUN/report.html")] = None
    """The file to write."""


def run(options: Options) -> None:
    """Write the report.

    Raises:
      UsageError: there is no finished search there.
      CheckpointError: it is damaged.
    """
    from purerl.commands import runs

    directory = Path(options.run)
    config = runs.read_config(directory)
    if config.get("command") != "sweep":
        raise UsageError(f"{directory} was made by purerl {config.get('command')}: a report is about a purerl sweep")
    write = next((write for name, write in _REPORTS.items() if (directory / name).is_file()), None)
    if write is None:
        raise UsageError(f"{directory} has not ended; go on with: purerl sweep --resume --name {directory.name}")
    task = runs.task_from_json(config["task"])
    versions = {name: str(version) for name, version in config.get("versions", {}).items()}
    about = {"run": str(directory), "agent": runs.describe(task)} | versions
    path = write(directory, options.output or directory / "report.html", task, about)
    console.say(f"report: {path}")


def _write_search(directory: Path, path: Path, task: Task, about: dict[str, str]) -> Path:
    from purerl import reports, sweep

    result = sweep.load(directory)
    title = f"{task.preset.algorithm} on {task.env}: {result.num_trials:,} trials"
    return reports.write_html(result, path, title=title, about=about, use=_train_again(task, result))


def _write_population(directory: Path, path: Path, task: Task, about: dict[str, str]) -> Path:
    from purerl import pbt, reports

    result = pbt.load_pbt(directory)
    title = f"{task.preset.algorithm} on {task.env}: a population of {result.population_size:,}"
    sizes = {name: result.settings[name] for name in ("num_envs", "rollout_length")}
    updates = {"updates_per_round": result.settings["updates"]} | sizes
    use = (
        f"schedule = purerl.pbt.load_pbt({str(directory)!r}).schedule()\n"
        "state, metrics = purerl.pbt.train_schedule(\n"
        f"    jax.random.key(1), agent, env, schedule, {', '.join(f'{n}={v}' for n, v in updates.items())}\n)"
    )
    return reports.write_population_html(result, path, title=title, about=about, use=use)


# What a finished search has in its directory, and how it is reported.
_REPORTS = {"sweep.json": _write_search, "pbt.json": _write_population}


def _train_again(task: Task, result: Result) -> str:
    """The command that trains the best trial; what differs from the table of settings is said in full."""
    best = result.best
    hparams = {name: value for name, value in best.hparams._asdict().items() if name in result.searched}
    options = {"hparams": {**task.preset.hparams, **hparams}, "agent": {}, "network": {}}
    plain = [f"--algorithm {task.preset.algorithm}", f"--env {task.env}", f"--num-steps {best.steps}"]
    plain += [f"--dataset {task.preset.dataset}"] if task.preset.dataset else []
    notes = []
    for name, value in best.choices.items():
        part, _, field = name.partition(".")
        if part == "env":
            notes.append(
                f"# trained with {field} = {value!r} of the environment, which `train` takes by --env-settings"
            )
        elif field:
            options[part][field] = value
        else:
            plain.append(f"--{name.replace('_', '-')} {value}")
    pairs = [
        f"--{part} " + " ".join(f"{n}={_typed(v)}" for n, v in each.items()) for part, each in options.items() if each
    ]
    return "\n".join([" \\\n    ".join(["purerl train", *plain, *pairs]), *notes])


def _typed(value: Any) -> str:
    """A value as the options take it: 64,64 for a tuple."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def summary(returns: np.ndarray) -> str:
    """Mean, interquartile mean and its 95% bootstrap interval, over the seeds or, where there is one, its episodes.

    Args:
      returns: [S, E] of S seeds and E episodes each.
    """
    import jax

    from purerl.commands.console import format_number
    from purerl.sweep import bootstrap_interval, interquartile_mean

    num_seeds, num_episodes = returns.shape
    values = returns.mean(axis=1) if num_seeds > 1 else returns[0]
    over = f"{num_seeds} seeds" if num_seeds > 1 else f"{num_episodes} episodes"
    mean, middle = format_number(float(values.mean())), format_number(float(interquartile_mean(values)))
    low, high = (format_number(float(end)) for end in bootstrap_interval(jax.random.key(0), values))
    interval = f", 95% interval {low} to {high}" if len(values) > 1 else ""
    return f"mean return {mean}, interquartile mean {middle}{interval} over {over}"


def draw_run(directory: Path, title: str) -> Path:
    """Draw the learning curves of a training run, one a seed, from its metrics.csv to learning_curve.png.

    They are of the return; of the loss where nothing was played, as in learning from recorded steps.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    from purerl.plots import COLORS

    with open(directory / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shown, label = "episode_return", "training return"
    if not any(row[shown] for row in rows):
        shown = label = next(name for name in rows[0] if name.startswith("loss/"))
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row[shown]:
            curves.setdefault(row["seed"], []).append((int(row["step"]), float(row[shown])))
    figure = Figure(figsize=(7, 4.3), layout="constrained")
    axes = figure.subplots()
    for i, (seed, points) in enumerate(curves.items()):
        axes.plot(*zip(*points), color=COLORS[i % len(COLORS)], linewidth=1.3, label=f"seed {seed}")
    axes.set_title(title, loc="left")
    axes.set_xlabel("environment steps" if shown == "episode_return" else "rows")
    axes.set_ylabel(label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if 1 < len(curves) <= len(COLORS):
        axes.legend(frameon=False)
    path = directory / "learning_curve.png"
    figure.savefig(path, dpi=150)
    return path


def draw_sweep(directory: Path, result: Result) -> list[Path]:
    """Draw a search: all of it at a glance, and its parts."""
    from purerl import plots

    figures = {"learning_curves": plots.learning_curves(result), "ranking": plots.ranking(result)}
    figures["rank_stability"] = plots.rank_stability(result)
    if result.searched:
        figures = {"sweep": plots.sweep_figure(result), "parameters": plots.parameters(result)} | figures
        figures["parallel_coordinates"] = plots.parallel_coordinates(result)
    if len(result.fresh_trials):
        figures["optimism"] = plots.optimism(result)
    paths = [directory / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values()):
        figure.savefig(path, dpi=150)
    return paths

"""`purerl report`: a search as one HTML page, or as runs of a logging service."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from purerl import films, pbt, reports, runs, sweep
from purerl.commands import compared, console, parser, tasks, writers
from purerl.commands.options import UsageError, usage_errors
from purerl.commands.options import report as report_options
from purerl.commands.options import sweep as sweep_options
from purerl.commands.options.report import Options
from purerl.commands.options.sweep import ADDED
from purerl.commands.searches import replay_command
from purerl.commands.summaries import train_command
from purerl.envs import HostEnv
from purerl.presets.tasks import Task, task_from_json
from purerl.sweep import Result
from purerl.sweep.run import journal
from purerl.text import plural, with_tuples

_MAX_FRAMES = 200  # of the replay, which is part of the page


def run(options: Options) -> None:
    """Write the report.

    Raises:
      UsageError: there is no search, or nothing of it has been evaluated yet.
      CheckpointError: it is damaged.
    """
    report_options.check(options)
    writers.check(options.log)
    tasks.reject_missing("report", options.run, options.runs_dir, "*.json")
    with usage_errors():
        directory = runs.find(options.run, options.runs_dir)
        config = runs.read_config(directory)
    if config.get("command") != "sweep":
        raise UsageError(
            f"{directory} was made by purerl {config.get('command')}; a report describes a search by purerl sweep"
        )
    with usage_errors():
        task = task_from_json(config["task"])
        several = list(_compared(config).values())
    versions = {name: str(version) for name, version in config.get("versions", {}).items()}
    agents = " or ".join(each.describe() for each in several or [task])
    about = {"run": str(directory), "agent": agents} | versions
    if options.log:
        return _log(options, directory, task, config)
    output = Path(options.output) if options.output else directory / "report.html"
    if output.is_dir():
        raise UsageError(f"--output {output} is a directory: give the name of a file, such as {output}/report.html")
    output.parent.mkdir(parents=True, exist_ok=True)
    while True:
        finished = _finished(directory)
        again = None if finished else options.watch
        write = _REPORTS[finished] if finished else _unfinished(directory)
        console.say(f"report: {_refreshing(write(directory, output, task, about, config), again)}")
        if again is None:
            return
        time.sleep(again)


def _log(options: Options, directory: Path, task: Task, config: Mapping[str, Any]) -> None:
    """Write the trials of a search as runs of services.

    Raises:
      UsageError: there is no search, or a view of it is there already.
    """
    if (directory / "pbt.json").is_file():
        raise UsageError(
            f"{directory} is a population, whose members have no learning curves of their own; read lineage.csv"
        )
    for name in options.log:
        if (directory / name).exists():
            raise UsageError(f"{directory / name} has been written before: remove it to write it again")
    if _finished(directory):
        result = sweep.load(directory)
    else:
        _unfinished(directory)
        result = _so_far(directory)
    top = options.top or result.num_trials
    logged = writers.of_trials(directory, options.log, task, _compared(config), result, top)
    console.prose(f"Wrote {len(logged):,} trials to {', '.join(str(directory / name) for name in options.log)}")


def _compared(config: Mapping[str, Any]) -> dict[str, Task]:
    """The tasks of the algorithms that a search compares; empty if it is of one alone."""
    return {name: task_from_json(each) for name, each in config.get("compared", {}).items()}


def _finished(directory: Path) -> str | None:
    """The file of a result that is the latest; None if there is none, or a search that had stopped has been resumed."""
    found = next((name for name in _REPORTS if (directory / name).is_file()), None)
    if found != "sweep.json" or not journal.exists(directory) or not (directory / "begun").is_dir():
        return found
    kinds = [event["kind"] for event in journal.read(directory) if event["kind"] in ("end", "size")]
    times = [(directory / name).stat().st_mtime_ns for name in (found, journal.NAME)]
    return found if kinds[-1:] == ["end"] or times[0] >= times[1] else None


def _unfinished(directory: Path) -> Callable[..., Path]:
    if (directory / "begun").is_dir():
        return _write_unfinished
    raise UsageError(f"{directory} has no result yet. Resume it with: purerl sweep --resume {runs.quoted(directory)}")


def _refreshing(path: Path, seconds: float | None) -> Path:
    """The page, which the browser loads again after this time."""
    if seconds is not None:
        refresh = f'<head>\n<meta http-equiv="refresh" content="{seconds:.0f}">'
        path.write_text(path.read_text(encoding="utf-8").replace("<head>", refresh, 1), encoding="utf-8")
    return path


def _further(directory: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Code that loads the best policy, the command that repeats the search, and the best agent playing."""
    options = sweep_options.restored(sweep_options.Options(), with_tuples(config["options"]))
    words = parser.as_typed(options, leave_out=("name", "runs_dir", "resume", "replay", "distributed", "ray", *ADDED))
    run, name = runs.quoted(directory), f"{directory.name}-again"
    load = (
        f"# Play it, watch it, export it:\npurerl evaluate {run}\npurerl watch {run}\n"
        f"purerl export {run}\n\n"
        f"# The same policy in Python:\n# policy = purerl.load({str(directory)!r})\n# action = policy.act(obs)"
    )
    words += ["--name", name] if options.add_steps else []
    again = f"# In a directory of its own:\n{shlex.join(['purerl', 'sweep', *words])}"
    if options.add_steps:
        again += f"\n{shlex.join(['purerl', 'sweep', '--resume', name, '--add-steps', str(options.add_steps)])}"
    return {"load": load, "repeat": again, "replay": _replay(directory)}


def _replay(directory: Path) -> bytes | None:
    """The episode that `purerl watch` saved; otherwise one that is played now, if a policy is saved."""
    path = directory / "replay.gif"
    if not path.is_file():
        if not (directory / "policy").is_dir():
            return None
        policy = runs.load(directory)
        if isinstance(policy.env, HostEnv):
            return None
        images, _ = films.film(
            jax.random.key(0), policy.agent, policy.env, policy.state, title=policy.task.env,
            max_steps=policy.task.max_episode_steps(), max_frames=_MAX_FRAMES,
        )  # fmt: skip
        films.save(images, path)
    return path.read_bytes()


def _write_search(directory: Path, path: Path, task: Task, about: dict[str, str], config: Mapping[str, Any]) -> Path:
    return _write_result(sweep.load(directory), directory, path, task, about, config)


def _write_unfinished(
    directory: Path, path: Path, task: Task, about: dict[str, str], config: Mapping[str, Any]
) -> Path:
    """The report on what a search that runs, or was interrupted, has measured so far."""
    return _write_result(_so_far(directory), directory, path, task, about, config)


def _so_far(directory: Path) -> Result:
    """What a search has measured so far."""
    result = sweep.load_unfinished(directory)
    if not result.num_updates.any():
        raise UsageError(f"{directory}: no trial has been evaluated yet")
    return result


def _write_result(
    result: Result, directory: Path, path: Path, task: Task, about: dict[str, str], config: Mapping[str, Any]
) -> Path:
    best = result.best
    several = _compared(config)
    algorithms = ", ".join(several) or task.preset.algorithm
    title = f"{algorithms} on {task.env}: {plural(result.num_trials, 'trial')}"
    own = compared.own(task, several, best)
    again = f"# With other seeds:\n{train_command(own.task, own.searched, own.choices, best.steps)}"
    replay = replay_command(directory, config["options"].get("method", "random"), best.number)
    if replay is not None:
        again += f"\n\n# To the bit, with the seeds of the search:\n{replay}"
    return reports.write_html(result, path, title=title, about=about, use=again, **_further(directory, config))


def _write_population(
    directory: Path, path: Path, task: Task, about: dict[str, str], config: Mapping[str, Any]
) -> Path:
    result = pbt.load_pbt(directory)
    title = f"{task.preset.algorithm} on {task.env}: a population of {result.population_size:,}"
    sizes = {name: result.settings[name] for name in ("num_envs", "rollout_length")}
    updates = {"updates_per_round": result.settings["updates"]} | sizes
    keywords = ", ".join(f"{name}={value}" for name, value in updates.items())
    use = (
        f"schedule = purerl.pbt.load_pbt({str(directory)!r}).schedule()\n"
        "state, metrics = purerl.pbt.train_schedule(\n"
        f"    jax.random.key(1), agent, env, schedule, {keywords}\n)"
    )
    further = _further(directory, config)
    return reports.write_population_html(result, path, title=title, about=about, use=use, **further)


# The file by which a finished search is recognised, and the function that writes its report.
_REPORTS = {"sweep.json": _write_search, "pbt.json": _write_population}

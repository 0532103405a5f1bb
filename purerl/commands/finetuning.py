"""What `purerl sft`, `purerl dpo` and `purerl reward` do once they know what is learned."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from purerl import logging
from purerl import runs as directories
from purerl.commands import console, writers
from purerl.commands.options import UsageError, usage_errors
from purerl.lm import finetuning, pictures, reference, runs
from purerl.lm.finetuning import Prepared
from purerl.lm.settings import Settings, Task
from purerl.lm.store import Report
from purerl.lm.training import Learner
from purerl.text import format_number

_FREE = ("resume", "log", "checkpoint_seconds", "keep", "eval_every")  # may change when a run is resumed


def settings_of(options: Any, learning_rate: float) -> Settings:
    """The settings that options on the command line describe.

    Args:
      options: of the command, with the groups of `options.finetuning`.
      learning_rate: unless one is given.

    Raises:
      UsageError: the data, --model or --output is missing, or --output exists.
    """
    check_required(options, "the file of rows, such as data.jsonl")
    groups = (options.model, options.rows, options.lora, options.optimization, options.devices, options.run)
    found = {name: value for group in groups for name, value in dataclasses.asdict(group).items()}
    if found["learning_rate"] is None:
        found["learning_rate"] = learning_rate
    settings = Settings(data=options.data, **{k: v for k, v in found.items() if k in Settings._fields})
    return settings


def check_required(options: Any, data: str) -> None:
    """Check what every command on language models needs.

    Args:
      options: with the groups `model` and `run`.
      data: what the positional argument is, for the error.

    Raises:
      UsageError: the data, --model or --output is missing; a service of --log is not installed.
    """
    if not options.data:
        raise UsageError(f"give {data}")
    if options.model.model is None:
        raise UsageError("--model is missing: give a model directory")
    if options.run.output is None:
        raise UsageError("--output is missing: give a directory")
    with usage_errors():
        writers.check(options.run.log)


def run(command: str, options: Any, task: Task, settings: Settings) -> None:
    """Train, with progress, and save the model.

    Raises:
      UsageError: something about files or settings is wrong.
      FloatingPointError: training diverged.
      SystemExit: with 130 after Ctrl-C, once the run is saved.
    """
    files = [settings.data, *([settings.eval_data] if settings.eval_data else [])]
    with claimed(settings.output, description(command, options, files), options.run.resume):
        with usage_errors():
            prepared = finetuning.prepare(task, settings)
        finetuning.save_reports(settings.training, prepared.rows.reports)
        _announce(prepared, settings)
        learner = runs.begin(prepared.job)
        prepared = finetuning.begun(prepared)
        _train(prepared, learner, settings, options)


def _train(prepared: Prepared, learner: Learner, settings: Settings, options: Any) -> None:
    done, total = int(learner.num_updates), prepared.job.num_updates
    if done:
        console.say(f"Resuming after {done:,} of {total:,} updates.")
    writer = writer_of(settings.output, options, done)
    with console.stop_signals() as stopped, console.progress(total, done=done, unit="updates") as show:

        def say(number: int, row: dict[str, float]) -> None:
            show(number, f"loss {format_number(row['loss/total'])}  {row['tokens_per_second']:,.0f} tokens/s")

        learner = runs.train(prepared.job, learner, writer, say, stopped)
    after = runs.evaluate(prepared.job, learner)
    writer.close()
    if int(learner.num_updates) < total:
        console.say(f"Saved. Resume with the same command and --resume: {settings.output}")
        raise SystemExit(130)
    finetuning.finish(prepared, settings, learner)
    _conclude(settings, after)


def description(command: str, options: Any, files: Iterable[str]) -> dict[str, Any]:
    """All that a resumed run must have in common with the one that was interrupted: options, and contents of files."""
    with usage_errors():
        contents = {f"content of {file}": reference.digest(Path(file)) for file in files}
    return {"command": command} | plain(options) | contents


def plain(options: Any) -> dict[str, Any]:
    """Options as JSON has them."""
    return json.loads(json.dumps(dataclasses.asdict(options), default=str))


@contextlib.contextmanager
def claimed(output: Path, wanted: dict[str, Any], resume: bool) -> Iterator[None]:
    """Hold the directory of a run: that of a new one, or of a resumed one with the same settings.

    A new one is removed if the body fails before its first checkpoint.

    Args:
      output: the directory.
      wanted: the settings, as JSON has them.
      resume: whether the run exists.

    Raises:
      UsageError: a new one whose directory is not empty; one to resume that does not exist, or has other settings.
      RunError: another process holds it.
    """
    directory = output / "training"
    if resume:
        _check_settings(output, wanted)
    elif not is_free(output):
        raise UsageError(f"{output} exists and is not empty: choose another --output, or add --resume")
    directory.mkdir(parents=True, exist_ok=True)
    with directories.removed_if_it_fails(directory, new=not resume), directories.locked(directory):
        directories.write_config(directory, wanted)
        yield


def is_free(output: Path) -> bool:
    """Whether there is nothing, or only what a run leaves that was killed before its settings were written."""
    left = {output / "training" / name for name in ("", ".lock", ".config.json.incomplete")}
    return not output.exists() or (output.is_dir() and all(path in left for path in output.rglob("*")))


def _check_settings(output: Path, wanted: dict[str, Any]) -> None:
    file = output / "training" / "config.json"
    if not file.is_file():
        raise UsageError(f"--resume: {output} is not the output of a run: it has no training/config.json")
    try:
        saved = _flat(directories.read_config(file.parent))
    except directories.RunError as error:
        raise UsageError(f"--resume: {error}") from None
    for name, value in _flat(wanted).items():
        option = name.split(".")[-1]
        if name.startswith("content of ") and saved.get(name, value) != value:
            raise UsageError(f"--resume: {name.removeprefix('content of ')} has changed since the run began")
        if option not in _FREE and saved.get(name, value) != value:
            raise UsageError(f"--resume: the run has --{option.replace('_', '-')} {saved[name]}, not {value}")


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def _announce(prepared: Prepared, settings: Settings) -> None:
    say_reports(prepared.rows.reports)
    for note in prepared.model.notes:
        console.prose(f"{settings.model}: {note}")
    held_out = 0 if prepared.rows.held_out is None else len(prepared.rows.held_out.line)
    console.prose(
        f"{prepared.job.num_updates:,} updates of {settings.batch_size} rows, {held_out:,} rows held out, "
        f"{prepared.padding:.1%} padding -> {settings.output}"
    )


def say_reports(reports: Mapping[str, Report]) -> None:
    """Print what became of the rows of each file."""
    for name, report in reports.items():
        for sentence in report.sentences(name):
            console.prose(sentence)


def writer_of(output: Path, options: Any, done: int) -> logging.Writer:
    """metrics.csv, and the services of --log; rows after update `done` are dropped."""
    directory = output / "training"
    table = logging.csv_writer(directory / "metrics.csv", resume_at=done or None)
    places = {name: directory / ("metrics" if name == "jsonl" else name) for name in options.run.log}
    services = [writers.service(name, place, output.name, plain(options), done) for name, place in places.items()]
    return logging.tee(table, *services)


def _conclude(settings: Settings, after: dict[str, float]) -> None:
    """Print the held-out metrics before and after, draw the curves, and say where the model is."""
    found = finetuning.summary(pictures.read_columns(settings.training / "metrics.csv"), after)
    if found:
        rows = [(name, format_number(first), format_number(last)) for name, (first, last) in found.items()]
        console.print_table("Held-out rows", ["metric", "before", "after"], rows)
    results = {name: {"before": first, "after": last} for name, (first, last) in found.items()}
    (settings.training / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    pictures.save_curves(settings.training / "metrics.csv", settings.training / "curves.png", after)
    console.say(f"Saved the model: {settings.output}")

"""Writers of metrics: pairs of plain functions that a host loop calls between the chunks of a compiled run.

    writer = logging.tee(logging.csv_writer("runs/a/metrics.csv"), logging.tensorboard_writer("runs/a/tb"))
    writer.write(step, {"episode_return": 195.0, "loss/value": 0.3})
    writer.close()

Metrics carry this package's names (`episode_return`, `episode_length`, `num_episodes`, `loss/...`, `env/...`);
`tensorboard_name` maps them to those that users of Stable-Baselines3 know.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from purerl import files
from purerl.runtime import install_hint
from purerl.text import csv_text

Row = Mapping[str, Any]

_TENSORBOARD_NAMES = {
    "episode_return": "rollout/ep_rew_mean",
    "episode_length": "rollout/ep_len_mean",
    "num_episodes": "rollout/num_episodes",
    "num_steps": "time/total_timesteps",
    "num_updates": "time/iterations",
    "seconds": "time/time_elapsed",
    "steps_per_second": "time/fps",
    "learning_rate": "train/learning_rate",
    "loss/policy": "train/policy_gradient_loss",
    "loss/value": "train/value_loss",
    "loss/entropy": "train/entropy",
    "loss/total": "train/loss",
    "eval_return": "eval/mean_reward",
    "eval_length": "eval/mean_ep_length",
}


class Writer(NamedTuple):
    """A destination of metrics.

    Attributes:
      write: `(step, metrics) -> None`: `step` is the number of environment steps so far, an increasing integer, and
        `metrics` a mapping from names to numbers (or to strings, which TensorBoard skips).
      close: `() -> None`: flush and release; nothing may be written afterwards.
    """

    write: Callable[[int, Row], None]
    close: Callable[[], None]


def tee(*writers: Writer) -> Writer:
    """A writer that passes everything to each of several writers, in order."""

    def write(step: int, metrics: Row) -> None:
        for writer in writers:
            writer.write(step, metrics)

    def close() -> None:
        for writer in writers:
            writer.close()

    return Writer(write, close)


def csv_writer(path: str | os.PathLike[str], *, resume_at: int | None = None) -> Writer:
    """A CSV file with a column `step` and one column per metric, flushed after every row.

    The first row written sets the columns. NaN and missing metrics are empty cells.

    Args:
      path: the file; its parents are created, and an existing file is replaced.
      resume_at: keep the rows of an existing file up to and including this step, drop those after it (written between
        the last checkpoint and the end of an interrupted run) and those that cannot be read, and append. None starts a
        new file. A crash at any moment leaves the old file or the new one.

    Raises:
      ValueError: in `write`, a metric that is not a column of the file; it is named.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns, rows = ([], []) if resume_at is None else _read_csv(path, resume_at)
    kept = io.StringIO()
    csv.writer(kept, lineterminator="\n").writerows([columns, *rows] if columns else [])
    file = _appended(path, kept.getvalue())
    output = csv.writer(file, lineterminator="\n")

    def write(step: int, metrics: Row) -> None:
        if not columns:
            columns.extend(["step", *metrics])
            output.writerow(columns)
        unknown = [name for name in metrics if name not in columns]
        if unknown:
            raise ValueError(f"{path} has no column {unknown[0]!r}; it has {', '.join(columns)}")
        output.writerow([int(step), *(_cell(metrics.get(name)) for name in columns[1:])])
        file.flush()

    return Writer(write, file.close)


def jsonl_writer(path: str | os.PathLike[str], *, resume_at: int | None = None) -> Writer:
    """One JSON object per line, `{"step": ..., <metric>: ...}`, flushed after each. NaN and infinities become null.

    Arguments as in `csv_writer`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = "" if resume_at is None else _read_jsonl(path, resume_at)
    file = _appended(path, kept)

    def write(step: int, metrics: Row) -> None:
        file.write(json.dumps({"step": int(step)} | {name: _json_value(value) for name, value in metrics.items()}))
        file.write("\n")
        file.flush()

    return Writer(write, file.close)


def tensorboard_writer(directory: str | os.PathLike[str], *, resume_at: int | None = None) -> Writer:
    """TensorBoard event files, under the names that Stable-Baselines3 uses (see `tensorboard_name`).

    Args:
      directory: of the event files; TensorBoard shows it as one run.
      resume_at: hide what an interrupted run wrote after this step. None starts a new event file and hides nothing.

    Raises:
      ModuleNotFoundError: tensorboardX is not installed; the message says how to install it.
    """
    check_tensorboard()
    from tensorboardX import SummaryWriter

    purge = {} if resume_at is None else {"purge_step": resume_at + 1}
    summary = SummaryWriter(str(directory), **purge)

    def write(step: int, metrics: Row) -> None:
        for name, value in metrics.items():
            if not isinstance(value, str) and not math.isnan(float(value)):
                summary.add_scalar(tensorboard_name(name), float(value), int(step))
        summary.flush()

    return Writer(write, summary.close)


def check_tensorboard() -> None:
    """Check that `tensorboard_writer` can be used.

    Raises:
      ModuleNotFoundError: tensorboardX is not installed; the message says how to install it.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise ModuleNotFoundError(f"TensorBoard events need tensorboardX: {install_hint('tensorboard')}")


def tensorboard_name(name: str) -> str:
    """The name that Stable-Baselines3 has for a metric; otherwise `loss/x` becomes `train/x` and other names stay.

    The entropy is `train/entropy`: Stable-Baselines3's `train/entropy_loss` is its negative.
    """
    if name in _TENSORBOARD_NAMES:
        return _TENSORBOARD_NAMES[name]
    return f"train/{name.removeprefix('loss/')}" if name.startswith("loss/") else name


def _appended(path: Path, kept: str) -> TextIO:
    """The file with this content, open for more; it is replaced in one step, and only if it has another content."""
    if not path.is_file() or path.read_bytes() != kept.encode():
        files.write_whole(path, kept)
    return open(path, "a", newline="", encoding="utf-8")


def _read_csv(path: Path, last_step: int) -> tuple[list[str], list[list[str]]]:
    if not path.is_file():
        return [], []
    text = path.read_bytes().decode("utf-8", errors="replace").replace("\0", "")
    try:
        columns, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
    except csv.Error:
        columns, rows = [], []
    if columns[:1] != ["step"]:
        path.replace(path.with_name(f"{path.name}.damaged"))
        return [], []
    whole = [row for row in rows if len(row) == len(columns) and row[0].isdecimal()]
    return columns, [row for row in whole if int(row[0]) <= last_step]


def _read_jsonl(path: Path, last_step: int) -> str:
    if not path.is_file():
        return ""
    lines = path.read_bytes().decode("utf-8", errors="replace").splitlines(keepends=True)
    return "".join(line for line in lines if line.endswith("\n") and _step(line) <= last_step)


def _step(line: str) -> float:
    """The step of a line; infinite if it cannot be read."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return math.inf
    return step if isinstance(step, int) else math.inf


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return csv_text(value)
    if value is None or isinstance(value, int):
        return value
    return "" if math.isnan(float(value)) else repr(float(value))


def _json_value(value: Any) -> Any:
    if value is None or isinstance(value, str | int):
        return value
    return float(value) if math.isfinite(float(value)) else None

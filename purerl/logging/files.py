"""Writers of plain files: CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any, TextIO

from purerl import files
from purerl.logging.writer import Row, Writer
from purerl.text import csv_text


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
        with files.naming(path):
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
        with files.naming(path):
            file.flush()

    return Writer(write, file.close)


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

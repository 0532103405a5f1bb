"""Output of the commands: tables, and progress as a live bar on a terminal or as plain lines everywhere else."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from purerl import runtime
from purerl.text import format_bytes, format_rate, format_seconds

Update = Callable[..., None]
_PLAIN_SECONDS = 10.0


def console() -> Console:
    """A rich console on standard output, as wide as the terminal; 100 columns if there is none."""
    return Console(highlight=False, width=width())


def width() -> int:
    """Columns of the terminal, or of `COLUMNS`; 100 if there is neither."""
    return shutil.get_terminal_size((100, 24)).columns


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def prose(text: str) -> None:
    """Print a sentence at once, in lines of the width of the terminal."""
    columns = shutil.get_terminal_size((10_000, 24)).columns
    say(textwrap.fill(text, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table of plain texts; columns whose cells are all numbers are aligned to the right."""
    rows = [tuple(row) for row in rows]
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
    )
    for i, column in enumerate(columns):
        numeric = all(row[i][:1] in set("0123456789-+. ") for row in rows if row[i])
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console().print(table)


@contextlib.contextmanager
def progress(total: int, *, done: int = 0, unit: str = "steps") -> Iterator[Update]:
    """Show the progress of a run: call `update(done, note, total=None)` after every part of it.

    The rate counts from the first update, which is expected once the program is compiled: call it with the same `done`.

    Args:
      total: number of units; a total given to `update` replaces it.
      done: units that are done already.
      unit: name of the units.
    """
    if sys.stdout.isatty():
        yield from _live(total, done, unit)
    else:
        yield _plain(total, unit)


class Rate(NamedTuple):
    """Speed of a run and time to its end."""

    per_second: float
    seconds_left: float


def meter() -> Callable[[int, int], Rate]:
    """A function from the units done, and the total, to the rate since its first call; NaN until there is one."""
    begun: list[tuple[float, int]] = []

    def rate(done: int, total: int) -> Rate:
        now = time.monotonic()
        if not begun:
            begun.append((now, done))
        seconds, made = now - begun[0][0], done - begun[0][1]
        per_second = made / seconds if made > 0 and seconds > 0 else math.nan
        return Rate(per_second, (total - done) / per_second)

    return rate


def memory_in_use() -> str:
    """Memory in use on the device, or by this process on a CPU, such as 1.2 GB."""
    used = runtime.memory_in_use()
    return "" if used is None else format_bytes(used)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C (or SIGTERM, or the end of the terminal) into a flag that the loop reads.

    The second one interrupts as usual. SIGHUP stays ignored under `nohup`.
    """
    stopped = threading.Event()

    def handler(number: int, frame: Any) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()
        if number == signal.SIGHUP and sys.stdout.isatty():
            _mute()
        with contextlib.suppress(OSError):
            say("\nStopping after this part. Press Ctrl-C again to stop without saving.")

    if threading.current_thread() is not threading.main_thread():
        yield stopped.is_set
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    numbers += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield stopped.is_set
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def watchdog(what: str, seconds: float = 600.0) -> Iterator[None]:
    """Say so, once, if the body takes longer than it should: an environment or the compiler may hang."""

    def complain() -> None:
        with contextlib.suppress(OSError):
            text = f"{what} has taken more than {format_seconds(seconds)}: the environment or the compiler may hang"
            print(text, file=sys.stderr, flush=True)

    timer = threading.Timer(seconds, complain)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def phase(name: str) -> None:
    """Say what a run is doing before its progress can be measured; a terminal shows it in the bar already."""
    if not sys.stdout.isatty():
        say(name)


@contextlib.contextmanager
def waiting(name: str) -> Iterator[None]:
    """Say what a run is doing while no progress can be measured: a spinner on a terminal, a line everywhere else."""
    if sys.stdout.isatty():
        with console().status(name):
            yield
    else:
        say(name)
        yield


def _mute() -> None:
    """Send what is printed from now on nowhere: the terminal is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _plain(total: int, unit: str) -> Update:
    rate = meter()
    due: float | None = None

    def update(done: int, note: str, new_total: int | None = None) -> None:
        nonlocal total, due
        total = new_total or total
        speed, now = rate(done, total), time.monotonic()
        if due is None:
            due = now + min(1.0, _PLAIN_SECONDS)  # the rate of the first moments says little
        if math.isnan(speed.per_second) or (now < due and done < total):
            return
        due = now + _PLAIN_SECONDS
        parts = [f"{done:>12,} of {total:,} {unit}", format_rate(speed.per_second, unit), note]
        left = [f"{format_seconds(speed.seconds_left)} left"] if done < total else []
        say("  ".join(part for part in parts + left if part))

    return update


def _live(total: int, done: int, unit: str) -> Iterator[Update]:
    narrow = width() < 110
    columns = (
        BarColumn(bar_width=8 if narrow else 30),
        TextColumn("{task.percentage:>3.0f}%" if narrow else f"{{task.completed:,}} of {{task.total:,}} {unit}"),
        TextColumn("[cyan]{task.fields[speed]}"),
        TextColumn("[green]{task.fields[note]}"),
        TextColumn("[dim]{task.fields[left]}"),
    )
    rate = meter()
    with Progress(*columns, console=console(), refresh_per_second=5) as bar:
        task = bar.add_task("", total=total, completed=done, speed="", note="compiling", left="")

        def update(done: int, note: str, new_total: int | None = None) -> None:
            nonlocal total
            total = new_total or total
            speed = rate(done, total)
            left = f"{format_seconds(speed.seconds_left)} left" if done < total else ""
            bar.update(
                task, completed=done, total=total, speed=format_rate(speed.per_second, unit), note=note, left=left
            )

        yield update

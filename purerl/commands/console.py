"""What commands print: tables, and progress as a live bar on a terminal or as plain lines everywhere else."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Update = Callable[..., None]
_PLAIN_SECONDS = 10.0


def console() -> Any:
    """A rich console on standard output, 140 columns wide where that is no terminal."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def say(text: str) -> None:
    """One line on standard output, at once."""
    print(text, flush=True)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table; columns whose cells are all numbers are aligned to the right."""
    from rich import box
    from rich.table import Table

    rows = [tuple(row) for row in rows]
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
    )
    for i, column in enumerate(columns):
        numeric = all(row[i][:1] in set("0123456789-+. ") for row in rows if row[i])
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


@contextlib.contextmanager
def progress(total: int, *, done: int = 0, unit: str = "steps") -> Iterator[Update]:
    """Show how far a run is: `update(done, note, total=None)` after every part of it; a total replaces the first one.

    The rate counts from the first update, which is expected once the program is compiled: call it with the same `done`.

    Args:
      total: how many units there are.
      done: how many are done already.
      unit: what is counted.
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
    """A function from what is done, and the total, to the rate since its first call; NaN until there is one."""
    begun: list[tuple[float, int]] = []

    def rate(done: int, total: int) -> Rate:
        now = time.monotonic()
        if not begun:
            begun.append((now, done))
        seconds, made = now - begun[0][0], done - begun[0][1]
        per_second = made / seconds if made > 0 and seconds > 0 else math.nan
        return Rate(per_second, (total - done) / per_second)

    return rate


def format_seconds(seconds: float) -> str:
    """Such as 45 s, 12:30 min or 3:05:00 h; ? where unknown."""
    if not math.isfinite(seconds):
        return "?"
    whole = math.ceil(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def format_rate(per_second: float, unit: str = "steps") -> str:
    """Such as 182,331 steps/s; empty where unknown."""
    return f"{per_second:,.0f} {unit}/s" if math.isfinite(per_second) else ""


def memory_in_use() -> str:
    """What the device has in use, or on a CPU this process: such as 1.2 GB."""
    import jax

    stats = jax.local_devices()[0].memory_stats() or {}
    used = stats.get("bytes_in_use")
    if used is None and Path("/proc/self/statm").is_file():
        used = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return "" if used is None else f"{used / 1e9:.2g} GB"


def format_number(value: float) -> str:
    """Up to four significant digits, without an exponent where that is readable; - for NaN."""
    if math.isnan(value):
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:.2e}"


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C (or SIGTERM) into a flag that the loop asks for; the second one interrupts as usual."""
    stopped = threading.Event()

    def handler(number: int, frame: Any) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()
        say("\nstopping after this part (once more to stop at once, without saving) ...")

    if threading.current_thread() is not threading.main_thread():
        yield stopped.is_set
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped.is_set
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _plain(total: int, unit: str) -> Update:
    rate = meter()
    last = [-math.inf]

    def update(done: int, note: str, new_total: int | None = None) -> None:
        nonlocal total
        total = new_total or total
        speed = rate(done, total)
        if math.isnan(speed.per_second) or (time.monotonic() - last[0] < _PLAIN_SECONDS and done < total):
            return
        last[0] = time.monotonic()
        parts = [f"{done:>12,} of {total:,} {unit}", format_rate(speed.per_second, unit), note]
        left = [f"{format_seconds(speed.seconds_left)} left"] if done < total else []
        say("  ".join(part for part in parts + left if part))

    return update


def _live(total: int, done: int, unit: str) -> Iterator[Update]:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        BarColumn(bar_width=30),
        TextColumn(f"{{task.completed:,}} of {{task.total:,}} {unit}"),
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

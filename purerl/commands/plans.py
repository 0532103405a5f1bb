"""`purerl sweep --plan`: what a search would take, on an accelerator that need not be there or on this machine."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from purerl.accelerators.targets import ALIASES, TARGETS, Target, devices
from purerl.commands import console
from purerl.sweep.run.forecast import Forecast, disk_bytes
from purerl.sweep.run.memory import HEADROOM, device_limit
from purerl.text import format_bytes, format_number, format_seconds

HERE = "here"
_COLUMNS = ("rung", "agents", "blocks", "memory", "most that fit")


def find(name: str) -> Target | None:
    """The accelerator of that name, whose compiler is installed; None: this machine.

    Raises:
      ModuleNotFoundError: it is not; the message says how to install it.
    """
    if name == HERE:
        return None
    target = TARGETS[ALIASES.get(name, name)]
    devices(target)
    return target


def show(
    target: Target | None, forecasts: Sequence[Forecast], limit: float | None, keep: int, price: float | None
) -> None:
    """Print a row for each rung, and what the numbers are."""
    seconds = sum(each.seconds for each in forecasts)
    compiling = sum({(each.group, each.block): each.block.compile_seconds for each in forecasts}.values())
    if target is None:
        where = f"on this machine ({jax.default_backend()}, {jax.local_device_count()} devices)"
        title = f"{where}, blocks of at most {format_bytes(device_limit(limit))} per device"
        console.print_table(title, (*_COLUMNS, "time"), [_row(each) for each in forecasts])
        console.prose(f"{format_seconds(seconds)} in all, and {format_seconds(compiling)} for compiling.")
    else:
        limit = limit or HEADROOM * target.memory
        title = f"on one {target.label}, blocks of at most {format_bytes(limit)} of {format_bytes(target.memory)}"
        rows = [(*_row(each), f"{_kernels(each):.0%}") for each in forecasts]
        console.print_table(title, (*_COLUMNS, "time at least", "of it kernels"), rows)
        console.prose(f"{format_seconds(seconds)} at least, in all; compiling took {format_seconds(compiling)} here.")
    if price is not None:
        cost = format_number(price * (seconds + compiling) / 3600)
        console.prose(f"At {price:g} per hour that is {cost}{' at least' if target else ''}, compiling included.")
    largest = format_bytes(max(each.state_bytes for each in forecasts))
    stored = format_bytes(disk_bytes(forecasts, keep))
    console.prose(f"An agent's state takes {largest}; on disk they take at most {stored} at a time.")
    console.prose(_HOW_HERE if target is None else _how(target))


_HOW_HERE = (
    "Nothing was saved. A part of the training and an evaluation of agents that have learned little ran once at each "
    "width; agents that hold out longer take longer to evaluate."
)


def _how(target: Target) -> str:
    return (
        "Nothing was run. Memory is the compiler's account of each block. The time is a model: "
        f"{1e6 * target.launch_seconds:g} µs per kernel, {1e6 * target.wait_seconds:g} µs per wait of the host, bytes "
        f"over {target.bandwidth / 1e12:.3g} TB/s, operations over {target.peak / 1e12:.0f} TFLOP/s. Evaluations play "
        "all of their steps."
    )


def _row(each: Forecast) -> tuple[str, ...]:
    name = each.stage.replace("bracket0-", "") + f", group {each.group}" * bool(each.group)
    blocks = f"{each.num_blocks} of {each.block.width:,}"
    memory, most = format_bytes(each.block.bytes), f"{each.most:,}"
    return name, f"{each.num_agents:,}", blocks, memory, most, format_seconds(each.seconds)


def _kernels(each: Forecast) -> float:
    update = each.block.update
    return (update.launches + update.waits) / max(update.total, 1e-30)

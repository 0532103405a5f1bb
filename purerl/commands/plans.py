"""`purerl sweep --plan`: what a search would take on an accelerator that need not be there."""

from __future__ import annotations

from collections.abc import Sequence

from purerl.accelerators.targets import ALIASES, TARGETS, Target, devices
from purerl.commands import console
from purerl.sweep.run.forecast import Forecast
from purerl.sweep.run.memory import HEADROOM
from purerl.text import format_bytes, format_seconds

_COLUMNS = ("rung", "agents", "blocks", "memory", "most that fit", "time at least", "of it kernels")


def find(name: str) -> Target:
    """The accelerator of that name, whose compiler is installed.

    Raises:
      ModuleNotFoundError: it is not; the message says how to install it.
    """
    target = TARGETS[ALIASES.get(name, name)]
    devices(target)
    return target


def show(target: Target, forecasts: Sequence[Forecast], limit: float | None) -> None:
    """Print a row for each rung, and what the numbers are."""
    limit = limit or HEADROOM * target.memory
    title = f"on one {target.label}, blocks of at most {format_bytes(limit)} of {format_bytes(target.memory)}"
    console.print_table(title, _COLUMNS, map(_row, forecasts))
    console.prose(f"{format_seconds(sum(each.seconds for each in forecasts))} at least, in all.")
    console.prose(
        "Nothing was run. Memory is the compiler's account of each block. The time is a model: "
        f"{1e6 * target.launch_seconds:g} µs per kernel, {1e6 * target.wait_seconds:g} µs per wait of the host, bytes "
        f"over {target.bandwidth / 1e12:.3g} TB/s, operations over {target.peak / 1e12:.0f} TFLOP/s. Evaluations play "
        "all of their steps. Compiling is not in it."
    )


def _row(each: Forecast) -> tuple[str, ...]:
    name = each.stage.replace("bracket0-", "") + f", group {each.group}" * bool(each.group)
    blocks = f"{each.num_blocks} of {each.block.width:,}"
    update = each.block.update
    share = (update.launches + update.waits) / max(update.total, 1e-30)
    memory, most = format_bytes(each.block.bytes), f"{each.most:,}"
    return name, f"{each.num_agents:,}", blocks, memory, most, format_seconds(each.seconds), f"{share:.0%}"

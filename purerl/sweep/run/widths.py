"""The width of a rung's blocks: chosen once from sizes and memory, or from trials, and noted in the journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from purerl.checkpoint import Json
from purerl.distributed import num_parts
from purerl.sweep.run import blocks, fastest, memory, programs
from purerl.sweep.run.engine import Engine, data_of
from purerl.sweep.run.plan import Stage
from purerl.sweep.trials import trials
from purerl.text import format_bytes


def settle(engine: Engine, stage: Stage, group: int, members: np.ndarray) -> int:
    """The width of a group's blocks in a stage, from the journal or chosen now."""
    name = f"{stage.name}-group{group}"
    known = engine.log.find("width", name)
    if known is None:
        known = _choose(engine, stage, group, members)
        engine.log.add("width", name, **known)
        label = " ".join([stage.name.replace("bracket0-", ""), trials.label(engine.trials.groups[group])]).strip()
        engine.monitor.report("compile", note=_describe(label, len(members), known))
    return int(known["width"])


def narrower(engine: Engine, stage: Stage, group: int, members: np.ndarray) -> int:
    """The width at which a rung that another machine began can be continued here: the same one if it fits.

    Another width, and another number of devices, round differently; that is said.
    """
    known: Any = engine.log.find("width", f"{stage.name}-group{group}")
    width, devices = known["width"], num_parts(known["width"])
    if devices == known["devices"] and known["bytes"] <= engine.limit:
        return int(width)
    found, _ = memory.widest(width, devices, engine.limit, _measure(engine, stage, group, members))
    what = f"on {devices} devices instead of {known['devices']}" if devices != known["devices"] else "with less memory"
    at = f"at width {found} instead of {width}" if found < width else f"at width {width}"
    engine.monitor.report("compile", note=f"continued {what}, {at}: its bits differ from those of the other machine")
    return found


def _measure(engine: Engine, stage: Stage, group: int, members: np.ndarray) -> Callable[[int], float]:
    """From the width of a block to its bytes on each device, by compiling its programs."""
    program, data, lengths = engine.programs[group], data_of(engine, members[:1]), set(stage.chunks[group])
    return lambda width: max(
        programs.block_bytes(program, data, width, updates, engine.eval_params) for updates in lengths
    )


def _choose(engine: Engine, stage: Stage, group: int, members: np.ndarray) -> dict[str, Json]:
    parts, name = jax.device_count(), f"group{group}"
    compiled = (engine.log.find("compiled", name) or {"widths": []})["widths"]
    limit_width = engine.log.find("limit", name)
    size = _fastest(engine, stage, group, members) if engine.measures_width else engine.block_size
    size = min(size, limit_width["width"]) if limit_width else size
    wanted = blocks.choose_width(len(members), size, parts, compiled, jax.process_count())
    first = None if jax.default_backend() == "cpu" else memory.FIRST_WIDTH * num_parts(wanted)
    measure = _measure(engine, stage, group, members)
    width, taken = memory.widest(wanted, num_parts(wanted), engine.limit, measure, first=first)
    if width < wanted:
        engine.log.add("limit", name, width=width)
        width = blocks.split_agents(len(members), width, parts, jax.process_count()).shape[1]
    if width not in compiled:
        engine.log.add("compiled", name, widths=[*compiled, width])
    return {"width": width, "devices": num_parts(width), "bytes": taken, "limit": engine.limit}


def _fastest(engine: Engine, stage: Stage, group: int, members: np.ndarray) -> int:
    """The fastest width of a group, from the journal or tried now."""
    known = engine.log.find("fastest", f"group{group}")
    if known is None:
        unit = num_parts(min(len(members), jax.device_count()))
        sizes: dict[str, Any] = {"first": engine.block_size, "most": len(members), "unit": unit, "limit": engine.limit}
        program, data = engine.programs[group], data_of(engine, members[:1])
        known = fastest.width(program, data, max(stage.chunks[group]), **sizes)
        engine.log.add("fastest", f"group{group}", **known)
        engine.monitor.report("compile", note=_tried(known))
    return int(known["width"])


def _tried(known: dict[str, Any]) -> str:
    """The widths that were tried in words.

    Examples:
      >>> print(_tried({"width": 32, "updates_per_second": {"16": 50.0, "32": 100.0}, "remembered": False}))
      32 agents side by side are fastest here: 16 at 0.50, 32 at 1.00 of the rate
      >>> print(_tried({"width": 32, "updates_per_second": {"32": 9.0}, "remembered": True}))
      32 agents side by side are fastest here, as measured before: 32 at 1.00 of the rate
    """
    rates = {int(width): rate for width, rate in known["updates_per_second"].items()}
    shares = ", ".join(f"{width} at {rates[width] / max(rates.values()):.2f}" for width in sorted(rates))
    before = ", as measured before" if known["remembered"] else ""
    return f"{known['width']} agents side by side are fastest here{before}: {shares} of the rate"


def _describe(label: str, count: int, known: dict[str, Json]) -> str:
    """The blocks of a rung in words, with what fills the last one up.

    Examples:
      >>> print(_describe("rung0", 31, {"width": 32, "devices": 8, "bytes": 1e6, "limit": 1e9}))
      rung0: 31 agents in 1 block of 32 on 8 devices (1 repeated to fill it), 1 MB of 1 GB each
      >>> print(_describe("rung0", 100, {"width": 32, "devices": 1, "bytes": 1e6, "limit": 1e9}))
      rung0: 100 agents in 4 blocks of 32 (28 repeated to fill the last), 1 MB of 1 GB each
    """
    width, devices = known["width"], known["devices"]
    over = f" on {devices} devices" if devices > 1 else ""
    taken, limit = format_bytes(known["bytes"]), format_bytes(known["limit"])
    number = -(-count // width)
    plural = "s" if number > 1 else ""
    idle = number * width - count
    waste = f" ({idle} repeated to fill {'the last' if number > 1 else 'it'})" if idle else ""
    return f"{label}: {count:,} agents in {number} block{plural} of {width}{over}{waste}, {taken} of {limit} each"

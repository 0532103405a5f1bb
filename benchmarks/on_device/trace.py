"""A profiler's trace, split into time in which the device was busy and time in which it was not."""

from __future__ import annotations

import gzip
import json
import pathlib
from typing import Any


def newest(directory: pathlib.Path) -> dict[str, Any]:
    """The newest trace that JAX's profiler left under a directory.

    Raises:
      FileNotFoundError: there is none.
    """
    found = sorted(directory.rglob("*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(f"{directory} holds no *.trace.json.gz")
    with gzip.open(found[-1], "rt") as file:
        return json.load(file)


def split(trace: dict[str, Any]) -> dict[str, Any]:
    """Seconds in kernels and between them, on the first device that has any.

    Args:
      trace: events in Chrome's format: names of processes and threads (ph "M"), and spans in microseconds (ph "X").

    Returns:
      `kernels`: their number; `busy` and `gaps`: seconds; `largest`: the ten names that took most, with seconds. Only
      `kernels`, 0, if no device has events, as on a CPU.
    """
    events = trace["traceEvents"]
    names = {each["pid"]: each["args"]["name"] for each in events if each.get("name") == "process_name"}
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    spans: dict[int, list[tuple[float, float, str]]] = {}
    for each in events:
        on_device = names.get(each.get("pid"), "").startswith("/device:")
        if each.get("ph") == "X" and on_device and _runs_kernels(threads.get((each["pid"], each["tid"]), "")):
            spans.setdefault(each["pid"], []).append((each["ts"], each["ts"] + each["dur"], each["name"]))
    if not spans:
        return {"kernels": 0}
    first = sorted(spans[min(spans)])
    busy = _union(first)
    whole = max(end for _, end, _ in first) - first[0][0]
    by_name: dict[str, float] = {}
    for begin, end, name in first:
        by_name[name] = by_name.get(name, 0.0) + (end - begin) * 1e-6
    largest = dict(sorted(by_name.items(), key=lambda pair: -pair[1])[:10])
    return {"kernels": len(first), "busy": busy * 1e-6, "gaps": (whole - busy) * 1e-6, "largest": largest}


def _runs_kernels(thread: str) -> bool:
    """Whether a thread of a device holds kernels and copies, not the profiler's own summaries of them."""
    return "Stream" in thread or thread == "XLA Ops"


def _union(spans: list[tuple[float, float, str]]) -> float:
    """Length of the union of sorted spans."""
    total, reached = 0.0, float("-inf")
    for begin, end, _ in spans:
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total

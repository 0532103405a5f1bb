"""Measure training programs on the device that JAX finds, and compare with what the compiled programs predict.

    python -m benchmarks.on_device --output results             # on a GPU; less than eight minutes
    python -m benchmarks.on_device --output results --tiny      # a rehearsal with tiny sizes, on any machine

Every part writes OUTPUT/on_device.json when it is done, so a run that is cut leaves what it had. Parts whose turn comes
after --seconds are skipped, and named.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
import traceback
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.on_device import parts


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=420.0, help="no part begins after this time")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--only", default="", help="parts whose names contain this")
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    device = jax.devices()[0]
    found: dict[str, Any] = {"device": device.device_kind, "platform": device.platform, "jax": jax.__version__}
    begun = time.perf_counter()
    for name, part in parts.PARTS.items():
        if chosen.only in name:
            found[name] = _run(part, parts.Sizes(chosen.tiny), begun + chosen.seconds, chosen.output)
            print(name, json.dumps(found[name]), flush=True)
            (chosen.output / "on_device.json").write_text(json.dumps(found, indent=1) + "\n")
    failed = [name for name, result in found.items() if isinstance(result, dict) and "error" in result]
    raise SystemExit(f"failed: {', '.join(failed)}" if failed else 0)


def _run(part: Callable[..., Any], sizes: parts.Sizes, end: float, output: pathlib.Path) -> Any:
    """The result of a part, or what went wrong; the other parts run all the same."""
    if time.perf_counter() > end:
        return {"skipped": "time was over"}
    begun = time.perf_counter()
    try:
        result = part(sizes, output)
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {str(error)[:300]}"}
    return result | {"seconds": round(time.perf_counter() - begun, 1)}


if __name__ == "__main__":
    main()

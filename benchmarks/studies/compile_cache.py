"""How long a search takes to start: for the first time, and again with what was compiled kept on disk.

    python -m benchmarks.studies.compile_cache

`purerl sweep` in a new process every time, until its first agents are trained (1,024 steps, which is nothing);
the cache is empty at first. Writes results/compile_cache.json.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

RESULTS = pathlib.Path(__file__).parents[1] / "results"
SWEEP = ["--num-trials=16", "--num-seeds=1", "--num-steps=1024", "--eval-episodes=2"]
REPEATS = 3


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as root:
        start(pathlib.Path(root), "python")  # whose own compiled files are then there for all
    pairs = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as root:
            pairs.append([start(pathlib.Path(root), name) for name in ("first", "second")])
        print(f"first {pairs[-1][0]:.1f} s, second {pairs[-1][1]:.1f} s", flush=True)
    ratios = sorted(second / first for first, second in pairs)
    record = {"command": ["purerl", "sweep", *SWEEP], "seconds": pairs, "second_over_first": ratios[REPEATS // 2]}
    (RESULTS / "compile_cache.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"second / first: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


def start(root: pathlib.Path, name: str) -> float:
    """Seconds from starting the process until the first agents are trained; then it is left to end."""
    purerl = [sys.executable, "-c", "from purerl.cli import main; main()"]
    command = [*purerl, "sweep", *SWEEP, "--name", name, "--runs-dir", str(root / "runs")]
    environment = os.environ | {"PURERL_COMPILE_CACHE": str(root / "cache")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    begin, trained = time.perf_counter(), 0.0
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            if not trained and "steps/s" in line:
                trained = time.perf_counter() - begin
    assert process.returncode == 0, f"the search failed: {process.returncode}"
    return trained


if __name__ == "__main__":
    main()

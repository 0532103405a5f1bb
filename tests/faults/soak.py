"""Train for a while with saving, evaluation and logging on, and watch memory, open files, speed and disk.

    python tests/faults/soak.py [--seconds 120]

One line with the slopes over the last two thirds of the time.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from purerl import cli

SAMPLES = []
END = [0.0]


def watch(chunk):
    """A callback of `purerl train`: take a sample, and end the run in time."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = len(os.listdir("/proc/self/fd"))
    SAMPLES.append((time.monotonic(), pages * resource.getpagesize() / 1e3, files, chunk.num_steps))
    return time.monotonic() > END[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=120.0)
    options = parser.parse_args()
    sys.modules["soak"] = sys.modules[__name__]
    END[0] = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as root:
        where = ["--name", "soak", "--runs-dir", root, "--callbacks", "soak:watch"]
        sizes = ["--num-steps", "1e9", "--eval-every", "20k", "--eval-episodes", "4", "--checkpoint-seconds", "0"]
        cli.main(["train", *where, *sizes, "--network", "hidden=16"])
        disk = sum(path.stat().st_size for path in Path(root).rglob("*") if path.is_file())
        saves = len((Path(root) / "soak" / "metrics.csv").read_text().splitlines()) - 1
    times, memory, files, steps = np.array(SAMPLES[len(SAMPLES) // 3 :]).T
    slope = np.polyfit(times - times[0], memory, 1)[0]
    half = len(times) // 2
    rates = [np.diff(part)[-1] if len(part) < 2 else (part[-1] - part[0]) for part in (steps[:half], steps[half:])]
    spans = times[half - 1] - times[0], times[-1] - times[half]
    seconds = times[-1] - times[0]
    print(
        f"{seconds:.0f} s, {saves} rows, as many evaluations and at least as many saves: memory grows by "
        f"{slope:.2f} kB/s ({slope * seconds / len(times):.2f} kB a row), open files {files.min():.0f} to "
        f"{files.max():.0f}, speed of the second half {rates[1] / spans[1] / (rates[0] / spans[0]):.2f} of the first, "
        f"disk {disk / 1e6:.2f} MB"
    )


if __name__ == "__main__":
    main()

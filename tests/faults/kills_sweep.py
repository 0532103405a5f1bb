"""Kill searches and a population at random moments until they have finished, and compare their tables.

    python tests/faults/kills_sweep.py [--kills 3] [--seed 0] [full] [halving] [hyperband] [asha] [pbt]

Each schedule runs twice undisturbed. Another run is killed by SIGKILL and resumed, and after so many kills it may
finish: its tables, with the returns of every seed in full precision, must be those of the undisturbed run, byte for
byte. The states that it keeps are not compared.
"""

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import common

from purerl.commands import pbt, sweep_results

sweep_results.finish = pbt._finish = lambda *_: None  # pictures and the evaluation of the best: not what is compared

SCHEDULES = ("full", "halving", "hyperband", "asha", "pbt")
SIZES = (
    "--num-trials",
    "8",
    "--num-steps",
    "9600",
    "--num-envs",
    "4",
    "--rollout-length",
    "16",
    "--network",
    "hidden=8",
)
OF_SEARCHES = ("--num-seeds", "2", "--block-size", "8", "--save-seconds", "0")


def words(schedule, root, name):
    more = () if schedule == "pbt" else OF_SEARCHES
    return ["sweep", "--name", name, "--runs-dir", root, "--schedule", schedule, *SIZES, *more]


def ended(directory):
    """SHA-256 of each table that a search left."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.glob("*.csv"))}


def check(schedule, root, most, rng):
    """One schedule; a line of the table."""
    warm, straight, killed = (root / f"{schedule}-{name}" for name in ("warm", "straight", "killed"))
    log, kills, code = root / "log", 0, None
    for directory in (warm, straight):  # the first one compiles
        begun = time.monotonic()
        if common.run(words(schedule, root, directory.name), log, whole=True, cache=root / "cache"):
            return False, f"| {schedule} | could not run: {log.read_text()[-300:]!r} |"
        duration = time.monotonic() - begun
    while code != 0:
        log.unlink(missing_ok=True)
        resumed = (killed / "config.json").is_file()
        argv = ["sweep", "--resume", killed] if resumed else words(schedule, root, killed.name)
        process = common.start(argv, log, whole=True, cache=root / "cache")
        if kills < most:
            time.sleep(rng.uniform(0.2, 0.6) * duration)
            os.kill(process, signal.SIGKILL)
        code = common.wait(process)
        if code not in (0, -signal.SIGKILL):
            return False, f"| {schedule} | {kills} | exit code {code}: {log.read_text()[-300:]!r} |"
        kills += code != 0
    first, second = ended(straight), ended(killed)
    if not first or first != ended(warm):
        return False, f"| {schedule} | {kills} | two undisturbed runs differ |"
    other = sorted(name for name in first | second if first.get(name) != second.get(name))
    verdict = f"differs in {', '.join(other)}" if other else f"equal: {', '.join(first)}"
    return not other, f"| {schedule} | {kills} | {verdict} |"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("schedules", nargs="*", default=list(SCHEDULES))
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    equal = []
    with tempfile.TemporaryDirectory() as folder:
        for schedule in options.schedules:
            same, line = check(schedule, Path(folder), options.kills, random.Random(f"{options.seed}{schedule}"))
            print(line, flush=True)
            equal.append(same)
    sys.exit(not all(equal))


if __name__ == "__main__":
    main()

"""Kill training at random moments, again and again, and compare what it ends in with a run that nobody disturbs.

    python tests/faults/kills.py [--seconds 240] [--signal KILL] [--kills 12] [--latest 1] [ALGORITHM ...]

Each algorithm is trained three times: undisturbed twice (their bits must be the same), and once killed at random
moments and resumed until it has finished; after `--kills` kills it may. The moments lie within `--latest` times the
time of an undisturbed run, so a smaller number gives more kills before the run has finished. A line per algorithm; the
process fails if any is not as it must be.
"""

import argparse
import os
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import common

from purerl import checkpoint


def last_complete(directory):
    found = checkpoint.steps(directory / "checkpoints")
    return int(found[-1].name) if found else 0


def disturbed(algorithm, root, duration, number, most, latest, rng):
    """Kill and resume a run until it has finished; the kills, the longest wait for the end, and what was wrong."""
    directory, log = root / f"{algorithm}-killed", root / f"{algorithm}.log"
    kills, slowest, wrong, resumed_at = 0, 0.0, [], 0
    while True:
        begun = (directory / "config.json").is_file()
        saved = last_complete(directory)
        argv = ["train", "--resume", directory] if begun else common.arguments(algorithm, root, directory.name)
        log.unlink(missing_ok=True)
        process = common.start([*argv, "--checkpoint-seconds", "0"], log, cache=root / "cache")
        if kills < most:
            time.sleep(rng.uniform(0.0, latest * duration))
            sent = time.monotonic()
            os.kill(process, number)
        code = common.wait(process)
        text = log.read_text()
        resumed_at = re.search(r"Resuming from .*/0*(\d+), after", text)
        if resumed_at and int(resumed_at[1]) != saved:
            wrong.append(f"resumed from {resumed_at[1]} although {saved} was complete")
        if "Traceback" in text and code not in (-number, 0):
            wrong.append(text[-300:])
        if code == 0:
            return kills, slowest, wrong
        kills += 1
        if number != signal.SIGKILL:
            slowest = max(slowest, time.monotonic() - sent)
        if code not in (-number, 130):
            wrong.append(f"exit code {code}: {text[-300:]}")
            return kills, slowest, wrong
        rows = common.table(directory)[-1:] if (directory / "metrics.csv").is_file() else []
        behind = (int(rows[0]["num_updates"]) if rows and rows[0]["num_updates"] else 0) - last_complete(directory)
        if behind > 1:
            wrong.append(f"{behind} rows were lost")


def check(algorithm, root, number, most, latest, rng):
    """One algorithm; a line of the table."""
    ends, times = [], []
    for name in ("first", "second"):
        begun = time.monotonic()
        argv = common.arguments(algorithm, root, f"{algorithm}-{name}", "--checkpoint-seconds", "0")
        code = common.run(argv, root / f"{name}.log", cache=root / "cache")
        if code:
            return 0, f"| {algorithm} | could not run: {(root / f'{name}.log').read_text()[-200:]!r} |"
        times.append(time.monotonic() - begun)
        ends.append((root / f"{algorithm}-{name}" / "digest").read_text())
    kills, slowest, wrong = disturbed(algorithm, root, times[1], number, most, latest, rng)
    killed = root / f"{algorithm}-killed"
    if not wrong and (killed / "digest").read_text() != ends[0]:
        wrong.append("ends in other bits")
    if not wrong and common.table(killed) != common.table(root / f"{algorithm}-first"):
        wrong.append("has other rows")
    if ends[0] != ends[1]:
        wrong.append("two undisturbed runs differ")
    if slowest > 5:
        wrong.append("took more than 5 s to end")
    wait = "" if number == signal.SIGKILL else f" {slowest:.1f} s |"
    return kills, f"| {algorithm} | {kills} |{wait} {'; '.join(wrong) or 'equal, also the two undisturbed runs'} |"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("algorithms", nargs="*", default=list(common.RUNS))
    parser.add_argument("--seconds", type=float, default=500.0)
    parser.add_argument("--signal", default="KILL")
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--latest", type=float, default=1.0, help="of the time of an undisturbed run")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    total, lines = 0, []
    with tempfile.TemporaryDirectory() as folder:
        common.record(Path(folder))
        for algorithm in common.in_time(options.algorithms, options.seconds):
            rng = random.Random(f"{options.seed}{algorithm}")
            number = signal.Signals[f"SIG{options.signal}"]
            kills, line = check(algorithm, Path(folder), number, options.kills, options.latest, rng)
            print(line, flush=True)
            total += kills
            lines.append(line)
    print(f"{total} kills by SIG{options.signal}")
    sys.exit(not all("equal, also" in line for line in lines))


if __name__ == "__main__":
    main()

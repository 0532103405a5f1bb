"""Kill a sweep at random moments, by SIGKILL, resume it, and compare its tables.

    python -m benchmarks.studies.sweep_faults --kills 20

A sweep of PPO on CartPole (successive halving, several blocks a rung, the best trained again on fresh seeds) runs once
undisturbed. Then it is begun again for each kill, killed at a moment drawn uniformly over its length, and resumed
by `purerl sweep --resume`. The final tables must be the same, byte for byte. Writes results/sweep_faults.json.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

RESULTS = pathlib.Path(__file__).parents[1] / "results"
SWEEP = [
    "--num-trials=12", "--num-seeds=2", "--num-steps=16k", "--schedule=halving", "--eta=2", "--rungs=2",
    "--block-size=8", "--confirm=2", "--confirm-seeds=2", "--eval-episodes=4", "--network", "hidden=16,16",
    "--num-envs=4", "--rollout-length=64",
]  # fmt: skip
FILES = ("trials.csv", "curves.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        record = kill_and_resume(pathlib.Path(root), arguments.kills, arguments.seed)
    print(f"{record['same']} of {record['kills']} sweeps ended in the same table")
    raise SystemExit(record["same"] != record["kills"])


def kill_and_resume(root: pathlib.Path, kills: int, seed: int) -> dict:
    """Kill a sweep `kills` times, each time a fresh one, resume it, and compare its tables with an undisturbed one.

    Returns:
      How many there were, how many ended the same, and of each when it was killed and what was done by then.
    """
    begin(root, "warm").wait()  # fills the compile cache
    begun = time.perf_counter()
    whole = begin(root, "whole")
    assert whole.wait() == 0, "the sweep itself fails"
    seconds = time.perf_counter() - begun
    rng, events = random.Random(seed), []
    for i in range(kills):
        name, moment = f"killed-{i}", rng.uniform(0, seconds)
        process = begin(root, name)
        time.sleep(moment)
        process.kill()
        process.wait()
        journal = root / name / "journal"
        lines = len(journal.read_bytes().splitlines()) if journal.is_file() else None
        resumed = begin(root, name, resume=(root / name / "config.json").is_file())
        code = resumed.wait()
        same = code == 0 and all((root / name / f).read_bytes() == (root / "whole" / f).read_bytes() for f in FILES)
        events.append({"seconds": round(moment, 2), "journal_lines": lines, "same": same})
        record = {"kills": i + 1, "same": sum(event["same"] for event in events), "seconds": seconds, "events": events}
        (RESULTS / "sweep_faults.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"killed after {moment:5.1f} s of {seconds:.1f}, {lines} lines in the journal: {same}", flush=True)
    return record


def begin(root: pathlib.Path, name: str, *, resume: bool = False) -> subprocess.Popen:
    """Start the sweep of a name, or resume it; one that died before it had a journal is started again."""
    where = ["--name", name, "--runs-dir", str(root)]
    directory = root / name
    if not resume and directory.exists():
        for path in sorted(directory.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        directory.rmdir()
    purerl = [sys.executable, "-c", "from purerl.cli import main; main()"]
    command = [*purerl, "sweep", *(["--resume"] if resume else SWEEP), *where]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()

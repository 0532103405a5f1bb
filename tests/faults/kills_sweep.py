"""Kill searches and a population at random moments until they have finished, and compare their tables.

    python tests/faults/kills_sweep.py [--kills 3] [--seed 0] [full] [halving] [hyperband] [asha] [pbt]

Each schedule runs twice undisturbed. Further runs are killed by SIGKILL and resumed until they have finished, as many
runs as give so many kills. Their tables, with the returns of every seed in full precision, must be those of the
undisturbed run, byte for byte, and the states of the agents that they keep must be the same bits.
"""

import argparse
import functools
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import common

from purerl import presets, runs, sweep
from purerl.commands import pbt, sweep_results
from purerl.pbt import load_pbt
from purerl.presets.tasks import task_from_json

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
    """SHA-256 of each table that a search left, and of all states that it kept."""
    tables = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.glob("*.csv"))}
    common.in_child(functools.partial(read_states, directory))
    return tables | {"states": (directory / "digest").read_text()}


def read_states(directory):
    """Write the SHA-256 of the states of a search or of a population, and how many agents they are of."""
    task = task_from_json(runs.read_config(directory)["task"])
    env = task.make_env()
    load = load_pbt if (directory / "pbt.json").is_file() else sweep.load
    result = load(directory, presets.build(task.preset, env), env, presets.hparams(task.preset))
    number = result.population_size if load is load_pbt else len(result.kept)
    assert number
    assert result.states is not None
    (directory / "digest").write_text(f"{common.digest(result.states)} of {number}")


def undisturbed(schedule, root):
    """What two whole runs end in, and how long the second one took, which found all programs compiled."""
    for name in ("warm", "straight"):
        begun = time.monotonic()
        if common.run(words(schedule, root, f"{schedule}-{name}"), root / "log", whole=True, cache=root / "cache"):
            raise RuntimeError(f"{schedule} could not run: {(root / 'log').read_text()[-300:]!r}")
        duration = time.monotonic() - begun
    return *(ended(root / f"{schedule}-{name}") for name in ("warm", "straight")), duration


def disturbed(schedule, root, directory, duration, most, rng):
    """Kill and resume a search until it has finished; the kills."""
    log, kills, code = root / "log", 0, None
    while code != 0:
        log.unlink(missing_ok=True)
        resumed = (directory / "config.json").is_file()
        argv = ["sweep", "--resume", directory] if resumed else words(schedule, root, directory.name)
        process = common.start(argv, log, whole=True, cache=root / "cache")
        if kills < most:
            time.sleep(rng.uniform(0.2, 0.6) * duration)
            os.kill(process, signal.SIGKILL)
        code = common.wait(process)
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{schedule} ended with code {code}: {log.read_text()[-300:]!r}")
        kills += code != 0
    return kills


def check(schedule, root, most, rng):
    """One schedule; whether all is as it must be, and a line of the table."""
    warm, straight, duration = undisturbed(schedule, root)
    if warm != straight:
        return False, f"| {schedule} | two undisturbed runs differ |"
    kills, number = 0, 0
    while kills < most:
        directory = root / f"{schedule}-killed{number}"
        kills += disturbed(schedule, root, directory, duration, most - kills, rng)
        number += 1
        found = ended(directory)
        if other := sorted(name for name in straight | found if straight.get(name) != found.get(name)):
            return False, f"| {schedule} | {kills} kills of {number} runs | differs in {', '.join(other)} |"
        shutil.rmtree(directory)
    agents = straight["states"].rpartition(" ")[2]
    return True, f"| {schedule} | {kills} kills of {number} runs | equal: {', '.join(straight)} of {agents} agents |"


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

"""A search by several processes, all of which are started again whenever one of them is killed, as on spot instances.

    python tests/faults/fleet.py [--processes 4] [--devices 2] [--trials 64] [--every 60] [--laps N] [--folder DIR]

`purerl sweep --distributed` trains PPO on CartPole with successive halving: once undisturbed by the fleet, once by one
process with as many devices, and once by a fleet that loses a process by SIGKILL `every` seconds after each start,
until it ends sooner. All tables must be the same, byte for byte, and no process may end before the kill. In a folder
that is kept, a run that was ended after N laps goes on where it stopped.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SWEEP = [
    "--algorithm=ppo", "--num-seeds=2", "--num-steps=100k", "--num-envs=4", "--rollout-length=128",
    "--schedule=halving", "--eta=2", "--rungs=3", "--save-seconds=10",
]  # fmt: skip
TABLES = ("trials.csv", "curves.csv")


def begin(root, name, processes, devices, trials):
    """All processes of the search of a name, which is resumed if it has begun."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    words = ["--resume"] if (root / name / "journal").is_file() else [*SWEEP, "--num-trials", str(trials)]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
    started = []
    for i in range(processes):
        several = ["--distributed", f"localhost:{port},{processes},{i}"] if processes > 1 else []
        command = [sys.executable, "-m", "purerl", "sweep", *words, "--name", name, "--runs-dir", str(root), *several]
        with (root / f"{name}-{i}.log").open("a") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment))
    return started


def wait(processes, seconds):
    """The exit codes of all processes; None if one is still there after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and (
        any(each.poll() is None for each in processes) and all(each.poll() in (None, 0) for each in processes)
    ):
        time.sleep(0.1)
    if any(each.poll() not in (None, 0) for each in processes):
        time.sleep(25)  # the others end by themselves
    return [each.poll() for each in processes]


def undisturbed(root, name, processes, devices, trials):
    """Run a search without a kill; its seconds."""
    begun = time.monotonic()
    if not (root / name / "trials.csv").is_file():
        codes = wait(begin(root, name, processes, devices, trials), 3600)
        assert codes == [0] * processes, f"{name} ended with {codes}: see {root}"
        (root / f"{name}.seconds").write_text(f"{time.monotonic() - begun:.1f}")
    return float((root / f"{name}.seconds").read_text())


def lap(root, every, victim, processes, devices, trials):
    """Start the fleet and kill one after `every` seconds; whether it had ended before, and how long the others took."""
    started = begin(root, "lossy", processes, devices, trials)
    codes = wait(started, every)
    if any(code is not None for code in codes):
        assert codes == [0] * processes, f"the fleet ended with {codes} without a kill: see {root}"
        return True, 0.0
    started[victim].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    codes = [each.wait(60) for each in started]
    assert codes[victim] == -signal.SIGKILL
    assert all(codes), f"the fleet ended with {codes} after a kill"
    return False, time.monotonic() - killed


def lossy(root, every, most, seed, processes, devices, trials):
    """Kill and start again until the search has ended; kills, seconds in all, and the longest wait after a kill."""
    done = root / "lossy.laps"
    laps = done.read_text().splitlines() if done.is_file() else []
    over, last = (root / "lossy" / "trials.csv").is_file(), len(laps) + most
    while not over:
        if len(laps) == last:
            sys.exit(f"{most} laps were made, and the search has not ended")
        begun, victim = time.monotonic(), random.Random(f"{seed}-{len(laps)}").randrange(processes)
        over, waited = lap(root, every, victim, processes, devices, trials)
        laps.append(f"{time.monotonic() - begun:.1f} {waited:.1f}")
        done.write_text("\n".join(laps))
        print(f"lap {len(laps)}: {laps[-1]} s, {'ended' if over else 'killed'}", flush=True)
    seconds, waits = zip(*(map(float, line.split()) for line in laps))
    return len(laps) - 1, sum(seconds), max(waits)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--every", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--laps", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.folder or Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        alone = undisturbed(root, "alone", 1, options.processes * options.devices, options.trials)
        print(f"one process: {alone:.0f} s", flush=True)
        whole = undisturbed(root, "whole", options.processes, options.devices, options.trials)
        print(f"{options.processes} processes: {whole:.0f} s", flush=True)
        sizes = options.processes, options.devices, options.trials
        kills, seconds, waited = lossy(root, options.every, options.laps, options.seed, *sizes)
        print(f"{kills} kills: {seconds:.0f} s, the others ended within {waited:.1f} s of a kill")
        same = all(
            (root / name / table).read_bytes() == (root / "alone" / table).read_bytes()
            for name in ("whole", "lossy")
            for table in TABLES
        )
        print("the tables are the same" if same else "THE TABLES DIFFER")
        sys.exit(not same)


if __name__ == "__main__":
    main()

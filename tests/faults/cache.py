"""The compile cache: damaged entries, two processes that fill one cache at once, and processes killed while they write.

    python tests/faults/cache.py [damaged|shared|killed] [--number 12] [--seconds 140]

`damaged`: a run whose largest entries are flipped, cut or empty warns, compiles again, replaces them, and the next run
warns of nothing. `shared`: two runs start at once on an empty cache. `killed`: two such runs are killed at a random
moment; the next run must not find half an entry. Every run ends in the same bits, and every entry is whole. The process
fails if anything is not so.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import common

WARNING = "persistent compilation cache"


def start(root, name, cache):
    return common.start(common.arguments("ppo", root, name), root / f"{name}.log", cache=cache)


def ended(root, name, process):
    """The digest with which a run ended, and how often it warned; deletes the run."""
    code = common.wait(process)
    end = root / name / "digest"
    found = end.read_text() if not code and end.is_file() else f"exit code {code}"
    warned = (root / f"{name}.log").read_text().count(WARNING)
    shutil.rmtree(root / name, ignore_errors=True)
    (root / f"{name}.log").unlink()
    return found, warned


def trained(root, cache):
    return ended(root, "run", start(root, "run", cache))


def broken(cache):
    """Entries that are not whole."""

    def fails(entry):
        try:
            return not zlib.decompress(entry.read_bytes())
        except zlib.error:
            return True

    return [entry.name for entry in cache.glob("*-cache") if fails(entry)]


def damaged(root, cache, rng, kind):
    """A line on a run whose four largest entries are damaged, and on the run after it."""
    for entry in sorted(cache.glob("*-cache"), key=lambda path: -path.stat().st_size)[:4]:
        data = bytearray(entry.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        entry.write_bytes({"flipped": data, "cut": data[: len(data) // 2], "empty": b""}[kind])
    number = len(broken(cache))
    first, second = trained(root, cache), trained(root, cache)
    wrong = number != 4 or first[1] != 4 or second[1] or broken(cache)
    said = f"{number} {kind} | {first[1]} warnings, then {second[1]}, {len(broken(cache))} still broken"
    return (first[0], second[0]), wrong, said


def shared(root, cache, rng, kind):
    """A line on two runs that start at once on an empty cache, and on the run after them."""
    shutil.rmtree(cache)
    processes = {name: start(root, name, cache) for name in ("one", "other")}
    runs = [ended(root, name, process) for name, process in processes.items()]
    entries = len(list(cache.glob("*-cache")))
    runs.append(trained(root, cache))
    warned = sum(warned for _, warned in runs)
    wrong = warned or broken(cache) or entries != len(list(cache.glob("*-cache")))
    return [run[0] for run in runs], wrong, f"two at once | {warned} warnings, {entries} entries, all whole"


def killed(root, cache, rng, kind):
    """A line on two runs on an empty cache that are killed, and on the run after them."""
    shutil.rmtree(cache)
    processes = {name: start(root, name, cache) for name in ("one", "other")}
    time.sleep(rng.uniform(1.0, 6.0))
    for process in processes.values():
        os.kill(process, signal.SIGKILL)
    for name, process in processes.items():
        ended(root, name, process)
    entries, halves = len(list(cache.glob("*-cache"))), len(list(cache.glob(".*")))
    wrong, run = broken(cache), trained(root, cache)
    said = f"two killed | {entries} entries, {len(wrong)} broken, {halves} unfinished; then {run[1]} warnings"
    return [run[0]], wrong or run[1] or broken(cache), said


PARTS = {"damaged": damaged, "shared": shared, "killed": killed}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--number", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=140.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    end, rng, good, i = time.monotonic() + options.seconds, random.Random(options.seed), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cache = root / "cache"
        expected, _ = trained(root, cache)
        while i < options.number and time.monotonic() < end:
            kind = ("flipped", "cut", "empty")[i % 3]
            found, wrong, said = PARTS[options.part](root, cache, rng, kind)
            same = all(end == expected for end in found)
            print(f"| {said} | {'same bits' if same else f'WRONG {found}'} | {'WRONG' if wrong else ''} |", flush=True)
            good += same and not wrong
            i += 1
    print(f"{good} of {i} as they must be")
    sys.exit(good < i)


if __name__ == "__main__":
    main()

"""Damaged entries of the compile cache: does a run still end in the same bits, and is the entry replaced?

    python tests/faults/cache.py [--number 12] [--seconds 140]

The process fails if a run ends in other bits or with an error.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import common


def trained(root, name, cache):
    """The exit code of a run, what it ends in, and what it printed."""
    log = root / f"{name}.log"
    code = common.run(common.arguments("ppo", root, name), log, cache=cache)
    end = root / name / "digest"
    return code, end.read_text() if end.is_file() else "", log.read_text()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--number", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=140.0)
    options = parser.parse_args()
    end, rng, wrong = time.monotonic() + options.seconds, random.Random(0), 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cache = root / "cache"
        code, expected, _ = trained(root, "straight", cache)
        assert code == 0
        whole = shutil.copytree(cache, root / "whole")
        for i in range(options.number):
            if time.monotonic() > end:
                break
            shutil.rmtree(cache)
            shutil.copytree(whole, cache)
            number = len(list(cache.rglob("*-cache")))
            # The largest entries are the programs of the run; each damaged run reads all of them.
            entries = sorted(cache.rglob("*-cache"), key=lambda path: -path.stat().st_size)[:4]
            kind = ("flipped", "cut", "empty")[i % 3]
            before = {}
            for entry in entries:
                data = bytearray(entry.read_bytes())
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                data = {"flipped": data, "cut": data[: len(data) // 2], "empty": b""}[kind]
                entry.write_bytes(data)
                before[entry] = bytes(data)
            code, found, text = trained(root, f"run-{i}", cache)
            replaced = sum(entry.read_bytes() != data for entry, data in before.items())
            warned = text.count("persistent compilation cache")
            good = code == 0 and found == expected
            wrong += not good
            new = len(list(cache.rglob("*-cache"))) - number
            said = "same bits" if good else f"WRONG {text[-300:]}"
            changed = f"{replaced} of {len(before)} replaced, {new} new entries"
            print(f"| {kind} | {code} | {said} | {warned} warnings | {changed} |", flush=True)
    print(f"{wrong} wrong")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()

"""Train every preset in processes of their own, and compare the bits of the whole state and of the rows.

    python tests/faults/bits.py [--seconds 160] [ALGORITHM ...]

The first run compiles, the second finds its programs in the compile cache, and the third compiles again: they must be
equal. A fourth one has one core alone; if its state differs, the largest relative difference of a leaf is said. Layers
are wide enough for matrix products to be split over cores, except those of CMA-ES, whose covariance is of all pairs of
parameters.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import common


def command(algorithm, root, name):
    """The command line of a few updates with layers of 256 units and 8 environments."""
    words = [str(word) for word in common.arguments(algorithm, root, name)]
    if algorithm != "cma_es":
        words = ["hidden=256,256" if word == "hidden=8" else word for word in words]
    return [("8" if before == "--num-envs" else word) for before, word in zip(["", *words], words)]


def trained(algorithm, root, name, **options):
    """The digest of the state in which a run ends, its rows, and the number of programs it added to the cache."""
    cache, log = options["cache"], root / f"{algorithm}-{name}.log"
    before = len(list(cache.glob("*-cache")))
    code = common.run(command(algorithm, root, f"{algorithm}-{name}"), log, **options)
    if code:
        raise SystemExit(f"{algorithm} {name}: exit code {code}: {log.read_text()[-500:]}")
    directory = root / f"{algorithm}-{name}"
    added = len(list(cache.glob("*-cache"))) - before
    return (directory / "digest").read_text(), common.table(directory), added


def difference(directory, other):
    """The largest difference of a leaf of two states, relative to its largest number, and how many leaves differ."""
    found = []
    with np.load(directory / "end.npz") as ours, np.load(other / "end.npz") as theirs:
        for name in ours.files:
            a, b = ours[name], theirs[name]
            if a.tobytes() != b.tobytes():
                a, b = a.astype(float), b.astype(float)
                found.append(float(np.nanmax(np.abs(a - b)) / max(np.nanmax(np.abs(a)), 1e-30)))
        return f"{max(found):.1g} in {len(found)} of {len(ours.files)} leaves"


def check(algorithm, root):
    """Whether the first three runs are equal; prints a line of the table."""
    caches = [root / f"{algorithm}-cache-{i}" for i in range(3)]
    cold = trained(algorithm, root, "cold", cache=caches[0])
    warm = trained(algorithm, root, "warm", cache=caches[0])
    again = trained(algorithm, root, "again", cache=caches[1])
    pinned = trained(algorithm, root, "pinned", cache=caches[2], cores=sorted(os.sched_getaffinity(0))[:1])
    wrong = [name for name, run in (("warm", warm), ("again", again)) if run[:2] != cold[:2]]
    if warm[2] or not all(run[2] for run in (cold, again, pinned)):
        wrong.append(f"programs compiled: {[run[2] for run in (cold, warm, again, pinned)]}")
    alone = (
        "equal"
        if pinned[:2] == cold[:2]
        else difference(*(root / f"{algorithm}-{name}" for name in ("cold", "pinned")))
    )
    print(f"| {algorithm} | {cold[1][-1]['num_updates']} | {'; '.join(wrong) or 'equal'} | {alone} |", flush=True)
    return not wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("algorithms", nargs="*", default=list(common.RUNS))
    parser.add_argument("--seconds", type=float, default=160.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        common.record(Path(folder))
        good = sum(check(algorithm, Path(folder)) for algorithm in common.in_time(options.algorithms, options.seconds))
    print(f"{good} of {len(options.algorithms)} equal")
    sys.exit(good < len(options.algorithms))


if __name__ == "__main__":
    main()

"""How long do ranking, intervals and the report of 10,000 trials x 3 seeds x 200 points take, and how much memory?

    python -m benchmarks.studies.search_scale

The search is synthetic: saturated returns, so that thousands of trials tie. Journal and resuming are measured by events
of such a search: their cost per block at 1,000 and at 10,000 of them. Writes results/search_scale.json.
"""

from __future__ import annotations

import json
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from purerl import reports, sweep
from purerl.sweep.run import journal
from purerl.sweep.trials.trials import Trials

RESULTS = pathlib.Path(__file__).parents[1] / "results"
TRIALS, SEEDS, POINTS, EPISODES = 10_000, 3, 200, 16


def main() -> None:
    record: dict[str, Any] = {"trials": TRIALS, "seeds": SEEDS, "points": POINTS}
    result = made(np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder)
        parts: dict[str, Callable[[], Any]] = {
            "interval": lambda: sweep.bootstrap_interval(jax.random.key(0), result.seed_returns),
            "rank": lambda: result.order,
            "rows": result.rows,
            "importance": lambda: (result.importance(), result.importance_noise()),
            "save": lambda: result.save(directory / "search"),
            "report": lambda: reports.write_html(result, directory / "report.html"),
        }
        for name, run in parts.items():
            begun = time.process_time()
            run()
            record[f"{name}_cpu_seconds"] = round(time.process_time() - begun, 2)
            print(name, record[f"{name}_cpu_seconds"], flush=True)
        record["report_megabytes"] = round((directory / "report.html").stat().st_size / 1e6, 1)
        for count in (1000, 10_000):
            record[f"journal_{count}_blocks"] = _journal(directory / str(count), count)
    record["peak_gigabytes"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    (RESULTS / "search_scale.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


def made(rng: np.random.Generator) -> sweep.Result:
    """A finished search over three names, most of whose trials reach 500."""
    from purerl import PPOHparams

    space = {
        "learning_rate": sweep.log_uniform(1e-4, 1e-1),
        "clip_epsilon": sweep.uniform(0.1, 0.4),
        "entropy_coef": sweep.log_uniform(1e-4, 1e-1),
    }
    hparams = sweep.sample(jax.random.key(0), PPOHparams(), space, TRIALS)
    columns = {name: getattr(hparams, name) for name in space}
    trials = Trials(hparams, None, np.zeros(TRIALS, int), ({},), columns, dict(space))
    speed = 2 - np.abs(np.log10(hparams.learning_rate) + 2.5)[:, None, None] + 0.3 * rng.random((TRIALS, SEEDS, 1))
    curves = (500 / (1 + np.exp(4 - 8 * speed * np.linspace(0, 1, POINTS)))).astype(np.float32)
    returns = np.minimum(500, np.round(1.1 * curves[:, :, -1:] + np.zeros(EPISODES))).astype(np.float32)
    steps, nobody = 1000 * np.arange(1, POINTS + 1), np.empty(0, int)
    settings = {"num_updates": POINTS, "brackets": (((TRIALS, POINTS),),), "seconds": 1.0, "steps_per_second": 1.0}
    interval = sweep.bootstrap_interval(jax.random.key(0), returns.mean(axis=2, dtype=np.float64))
    fresh = np.empty((0, 1, EPISODES), np.float32)
    whole = np.full(TRIALS, POINTS)
    return sweep.Result(
        trials, steps, curves, returns, returns[None], whole, interval, nobody, fresh, nobody, None, settings
    )


def _journal(directory: pathlib.Path, count: int) -> dict[str, float]:
    """Milliseconds per block to write and to read, without the time of the disk."""
    array = journal.encode(np.zeros((3, POINTS), np.float32))
    begun = time.process_time()
    with journal.opened(directory, resume=False) as log:
        for number in range(count):
            log.add("block", f"block{number}", curves=array, returns=array)
    written = time.process_time()
    with journal.opened(directory, resume=True) as log:
        assert len(log.all("block")) == count
    read = time.process_time()
    return {"write_ms": round(1e3 * (written - begun) / count, 3), "read_ms": round(1e3 * (read - written) / count, 3)}


if __name__ == "__main__":
    main()

"""Do models and asynchronous halving find more than random search and halving do? On recorded trials.

    python -m benchmarks.studies.model_quality                   # models, and then asynchronous halving
    python -m benchmarks.studies.model_quality a2c_acrobot_wide  # models on some tables only

The records are those of `search_quality`, trials of three tasks, evaluated after all of their steps and after a
quarter, which are two landscapes each; and the tables of `model_tables`, with wider spaces. A model chooses its trials
out of the record, 8 at random, then 4 at a time; random search goes on at random from the same 8. Both see two of the
seeds and are judged by the others, 30 times. All trials share their seeds, so which ones these are is drawn each time:
one seed that favours some trials would otherwise decide for all repetitions. Asynchronous halving runs on four
simulated workers, the speed of each block being drawn from a log-normal distribution of σ = 0.5. Writes
results/model_quality.json and .png.
"""

from __future__ import annotations

import functools
import heapq
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.studies import model_tables
from benchmarks.studies.search_quality import (
    EPISODES,
    ETA,
    NUM_RUNGS,
    REPEATS,
    RESULTS,
    RULES,
    SEARCH_SIZE,
    SEARCHED_SEEDS,
    TASKS,
    evidence,
    interval,
    made,
    path_of,
)
from purerl.sweep.model_search import MODELS
from purerl.sweep.models.encoding import axes_of, encode, observed
from purerl.sweep.results.rules import order_of
from purerl.sweep.run import rungs
from purerl.sweep.trials.spaces import Choice, Range

FIRST, BATCH, MOST = 8, 4, 24
WORKERS, SPREAD = 4, 0.5


def main() -> None:
    path, chosen = RESULTS / "model_quality.json", sys.argv[1:]
    record = json.loads(path.read_text(encoding="utf-8")) if chosen else {"models": {}, "asha": {}}
    for name, table in landscapes():
        if not chosen or name in chosen:
            record["models"][name] = models(*table())
            print(name, json.dumps(record["models"][name]), flush=True)
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name in TASKS if not chosen else ():
        record["asha"][name] = asynchronous(np.load(path_of(name))["returns"])
        print(name, json.dumps(record["asha"][name]), flush=True)
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(record["models"])


def landscapes() -> Iterator[tuple[str, Callable[[], tuple[np.ndarray, tuple[int, ...], np.ndarray]]]]:
    """The names of all landscapes, each with a function that reads its points, categories and returns [P, S, E]."""
    for name in TASKS:
        for rung, share in ((1, "a quarter of the steps"), (2, "all steps")):
            yield f"{name}, {share}", functools.partial(_recorded, name, rung)
    for name in model_tables.TABLES:
        yield name, functools.partial(model_tables.load, name)


def _recorded(name: str, rung: int) -> tuple[np.ndarray, tuple[int, ...], np.ndarray]:
    spaces = {key: each for key, each in made(name)[2].items() if isinstance(each, Range | Choice)}
    columns = np.load(path_of(name))
    points = encode(spaces, {key: columns[f"hparams_{key}"] for key in spaces})
    return points, axes_of(spaces).sizes, columns["returns"][rung]


# --- Models -----------------------------------------------------------------------------------------------------------


def models(points: np.ndarray, sizes: tuple[int, ...], recorded: np.ndarray) -> dict[str, Any]:
    """The return of the trial found after 8, 12, ..., 24 trials, [P, S, E] returns of all."""
    found: dict[str, list[list[float]]] = {"random": [], **{model: [] for model in MODELS}}
    for repeat in range(REPEATS):
        rng = np.random.default_rng(repeat)
        order = rng.permutation(len(recorded)).tolist()
        returns = recorded[:, rng.permutation(recorded.shape[1])]  # the first seeds are those that searches see
        found["random"].append([worth(returns, order[:size]) for size in range(FIRST, MOST + 1, BATCH)])
        for model in MODELS:
            found[model].append(_one(model, sizes, points, returns, order[:FIRST], repeat))
    random = np.array(found["random"])
    figures: dict[str, Any] = {"random": random.mean(axis=0).tolist()}
    for model in MODELS:
        values = np.array(found[model])
        over = (values - random)[:, 1:]
        figures[model] = {
            "found": values.mean(axis=0).tolist(),
            "difference_at_24": interval(over[:, -1]),
            "mean_difference_at_12_to_24": interval(over.mean(axis=1)),
        }
    return figures


def _one(
    model: str, sizes: tuple[int, ...], points: np.ndarray, returns: np.ndarray, tried: list[int], seed: int
) -> list[float]:
    tried, values = list(tried), [worth(returns, tried)]
    score = returns[:, :SEARCHED_SEEDS, : EPISODES // 2].mean(axis=(1, 2))
    while len(tried) < MOST:
        closed = jnp.asarray(np.isin(np.arange(len(points)), tried))
        seen = observed(points[tried], score[tried])
        key = jax.random.fold_in(jax.random.key(seed), len(tried))
        tried += MODELS[model](key, seen, jnp.asarray(points), closed, sizes=sizes, count=BATCH).tolist()
        values.append(worth(returns, tried))
    return values


def worth(returns: np.ndarray, tried: list[int]) -> float:
    """Return, on the seeds that no search sees, of the best of some trials by those that it sees."""
    seen = returns[tried][:, :SEARCHED_SEEDS, : EPISODES // 2]
    best = tried[int(order_of(RULES, evidence(seen))[0][0])]
    return float(returns[best, SEARCHED_SEEDS:].mean(dtype=np.float64))


# --- Asynchronous halving ---------------------------------------------------------------------------------------------


def asynchronous(returns: np.ndarray) -> dict[str, Any]:
    """Hours, in units of one whole training, and what is found, of halving with and without waiting."""
    rows = np.array([[*_waiting(returns, repeat), *_not_waiting(returns, repeat)] for repeat in range(REPEATS)])
    names = ("halving: time", "halving: found", "asha: time", "asha: found")
    figures = {name: interval(column) for name, column in zip(names, rows.T)}
    figures["time over halving"] = interval(rows[:, 2] / rows[:, 0])
    figures["found over halving"] = interval(rows[:, 3] - rows[:, 1])
    return figures


def _drawn(returns: np.ndarray, repeat: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(repeat)
    trials = rng.choice(returns.shape[1], SEARCH_SIZE, replace=False)
    return rng, trials, np.diff([0, *(ETA**r for r in range(NUM_RUNGS))]) / ETA ** (NUM_RUNGS - 1)


def _waiting(returns: np.ndarray, repeat: int) -> tuple[float, float]:
    rng, trials, lengths = _drawn(returns, repeat)
    alive, now = trials, 0.0
    for r, length in enumerate(lengths):
        free = [now] * WORKERS
        for _ in alive:
            heapq.heappush(free, heapq.heappop(free) + length * rng.lognormal(0, SPREAD))
        now = max(free)
        order, _ = order_of(RULES, evidence(returns[r, alive, :SEARCHED_SEEDS, : EPISODES // 2]))
        alive = alive[order[: len(alive) // ETA]] if r < NUM_RUNGS - 1 else alive[order]
    return now, float(returns[-1, alive[0], SEARCHED_SEEDS:].mean())


def _not_waiting(returns: np.ndarray, repeat: int) -> tuple[float, float]:
    """A worker that is free takes what `rungs.promotable` says, and else a new trial."""
    rng, trials, lengths = _drawn(returns, repeat)
    entered: list[list[int]] = [[] for _ in lengths]
    done: list[list[int]] = [[] for _ in lengths]
    running: list[tuple[float, int, int]] = []
    now, new = 0.0, iter(trials.tolist())
    while True:
        while len(running) < WORKERS and (job := _job(returns, entered, done, new)) is not None:
            r, trial = job
            entered[r].append(trial)
            heapq.heappush(running, (now + lengths[r] * rng.lognormal(0, SPREAD), r, trial))
        if not running:
            break
        now, r, trial = heapq.heappop(running)
        done[r].append(trial)
    last = np.array(done[-1])
    order, _ = order_of(RULES, evidence(returns[-1, last, :SEARCHED_SEEDS, : EPISODES // 2]))
    return now, float(returns[-1, last[order[0]], SEARCHED_SEEDS:].mean())


def _job(returns: np.ndarray, entered: list[list[int]], done: list[list[int]], new: Any) -> tuple[int, int] | None:
    for r in reversed(range(1, len(done))):
        if not done[r - 1]:
            continue
        trials = np.array(done[r - 1])
        order, score = order_of(RULES, evidence(returns[r - 1, trials, :SEARCHED_SEEDS, : EPISODES // 2]))
        promoted = np.flatnonzero(np.isin(trials, entered[r]))
        ready = rungs.promotable(order, ~np.isnan(score[order]), promoted, ETA)
        if ready.size:
            return r, int(trials[ready[0]])
    trial = next(new, None)
    return None if trial is None else (0, trial)


# --- The picture ------------------------------------------------------------------------------------------------------


def draw(record: dict[str, Any]) -> None:
    """What was found against the trials that were trained."""
    figure = Figure(figsize=(16, 6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, -(-len(record) // 2)).T.reshape(-1)
    for unused in panels[len(record) :]:
        unused.remove()
    for axes, (name, figures) in zip(panels, record.items()):
        sizes = range(FIRST, MOST + 1, BATCH)
        axes.plot(sizes, figures["random"], "-o", color="0.5", label="random search")
        for model, color in zip(MODELS, ("#0072b2", "#d55e00")):
            axes.plot(sizes, figures[model]["found"], "-o", color=color, label={"tpe": "TPE", "gp": "GP"}[model])
        axes.set_title(name.replace("_", " "), loc="left", fontsize=10)
        axes.set_xlabel("trials trained")
    figure.supylabel("return of what was found, unseen seeds", fontsize=10)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
    figure.savefig(RESULTS / "model_quality.png", dpi=120)


if __name__ == "__main__":
    main()

"""How good is what a search finds? Successive halving and population-based training against random search.

    python -m benchmarks.studies.search_quality record     # train every trial to the end, evaluating it on the way
    python -m benchmarks.studies.search_quality halving    # 30 repeated searches on those records, also by Hyperband
    python -m benchmarks.studies.search_quality pbt        # population-based training against those records

each followed by names of tasks, or none for all. A search is judged by how the trial that it chose does on seeds that
the search never saw (halving), or how the agent that it ends with does on episodes that it never saw (PBT), the same
ones for both sides: the mean of Pendulum's best policy over 16 episodes lies 20 higher or lower for others. Writes
results/search_quality_<task>.npz (the records), results/search_quality.json and .png.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

import purerl
from purerl import distributed, pbt, presets, sweep
from purerl.sweep.results.objectives import Evidence
from purerl.sweep.results.rules import Rules, order_of
from purerl.sweep.run import rungs
from purerl.sweep.trials.parsing import parse_spaces

RESULTS = pathlib.Path(__file__).parents[1] / "results"
REPEATS, ETA, NUM_RUNGS = 30, 4, 3
SEARCHED_SEEDS = 2  # of each trial; the others judge
EPISODES = 32  # of each agent after each rung; the first half is what searches see


class Task(NamedTuple):
    """A preset, the updates of an agent that is trained to the end, and how many trials and seeds are recorded.

    `pbt_rounds` of population-based training make as many updates; 0: none is run.
    """

    algorithm: str
    env: str
    num_updates: int
    num_trials: int
    num_seeds: int
    pbt_rounds: int = 0


TASKS = {
    "ppo_cartpole": Task("ppo", "CartPole-v1", 192, 96, 4),
    "ppo_pendulum": Task("ppo", "Pendulum-v1", 192, 96, 3, pbt_rounds=12),
    "dqn_acrobot": Task("dqn", "Acrobot-v1", 768, 48, 3, pbt_rounds=8),
}
SCHEDULES = {
    "random search": rungs.full,
    "halving, 2 rungs": rungs.successive_halving(ETA, 2),
    "halving, 3 rungs": rungs.successive_halving(ETA, 3),
    "Hyperband": rungs.hyperband(ETA, 3),
}
SEARCH_SIZE = 32  # trials of a repeated search
POPULATION = 16
RECORD_SEED = 0
RULES = Rules(sweep.final_return())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "halving", "pbt"))
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; none: all")
    parser.add_argument("--pbt-repeats", type=int, default=10, help="runs of population-based training (10)")
    arguments = parser.parse_args()
    distributed.use_all_cores()
    for name in arguments.tasks or TASKS:
        if arguments.what == "record":
            record(name)
        elif arguments.what == "halving":
            note(name, "halving", halving(load(name)))
        elif TASKS[name].pbt_rounds:
            note(name, "pbt", population_based(name, arguments.pbt_repeats))
    if arguments.what == "halving":
        draw([name for name in TASKS if path_of(name).exists()])


def made(name: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Preset of a task, what `search` and `pbt` both take, and the search space."""
    task = TASKS[name]
    env = purerl.envs.make(task.env)
    preset = presets.find(task.algorithm, task.env, env)
    preset = preset._replace(num_steps=task.num_updates * preset.num_envs * preset.rollout_length)
    env = presets.environment(task.algorithm, env)
    common = {"agent": presets.build(preset, env), "env": env, "hparams": presets.hparams(preset)}
    common |= {"num_envs": preset.num_envs, "rollout_length": preset.rollout_length}
    common |= {"rollout": presets.rollout(preset), "eval_max_steps": 500}
    return preset, common, parse_spaces(presets.algorithm(task.algorithm).space)


# --- Records ----------------------------------------------------------------------------------------------------------


def record(name: str) -> None:
    """Train all trials to the end and evaluate them where halving would: [rungs, trials, seeds, episodes]."""
    task, (_, common, space) = TASKS[name], made(name)
    lengths = [
        rung.num_updates for rung in rungs.successive_halving(ETA, NUM_RUNGS)(task.num_trials, task.num_updates)[0]
    ]
    begin = time.perf_counter()
    result = sweep.search(
        jax.random.key(RECORD_SEED), space=space, num_trials=task.num_trials, num_seeds=task.num_seeds,
        num_updates=task.num_updates, eval_episodes=EPISODES, keep=1, num_chunks=16,
        schedule=lambda count, _: (tuple(rungs.Rung(count, length) for length in lengths),),
        progress=lambda at: at.phase == "evaluate" and print(f"{name}: {at.steps / at.total_steps:.0%}", flush=True),
        **common,
    )  # fmt: skip
    columns = {f"hparams_{column}": result.values(column) for column in result.searched}
    steps = np.array(lengths) * result.update_steps
    np.savez_compressed(path_of(name), returns=result.rung_returns, steps=steps, **columns)
    print(
        f"{name}: {time.perf_counter() - begin:.0f} s, best {result.best.iqm:.1f}, median {np.median(result.iqm):.1f}"
    )


def path_of(name: str) -> pathlib.Path:
    return RESULTS / f"search_quality_{name}.npz"


def load(name: str) -> np.ndarray:
    return np.load(path_of(name))["returns"]


# --- Halving on the records -------------------------------------------------------------------------------------------


def halving(returns: np.ndarray) -> dict[str, Any]:
    """Repeated searches over trials drawn out of the record, by every schedule."""
    worth = judged(returns)
    rows = [[find(np.random.default_rng(i), returns, SEARCH_SIZE, each) for each in SCHEDULES] for i in range(REPEATS)]
    random, *others = np.array(rows).T
    figures = {
        "repeats": REPEATS,
        "trials": SEARCH_SIZE,
        "all_trials_10_50_90_100_percent": np.quantile(worth, [0.1, 0.5, 0.9, 1.0]).tolist(),
        "random search": interval(random),
    }
    for schedule, found in zip(list(SCHEDULES)[1:], others):
        figures[schedule] = interval(found) | {
            "steps_over_random": cost(SEARCH_SIZE, schedule) / SEARCH_SIZE,
            "difference": interval(found - random),
            "same_trial_or_better": float((found >= random).mean()),
        }
    return figures


def find(rng: np.random.Generator, returns: np.ndarray, size: int, schedule: str) -> float:
    """Return of the trial that a search over one draw of trials chose, on unseen seeds."""
    trials = rng.choice(returns.shape[1], brackets_of(size, schedule)[1], replace=False)
    seen = returns[:, trials, :SEARCHED_SEEDS, : EPISODES // 2]
    ended, first = [], 0
    for bracket in brackets_of(size, schedule)[0]:
        alive = np.arange(first, first + bracket[0].num_trials)
        first += bracket[0].num_trials
        for recorded, rung in zip(seen[-len(bracket) :], bracket[1:]):
            alive = alive[rungs.survivors(jax.random.key(0), RULES, evidence(recorded[alive]), rung.num_trials)]
        ended.extend(alive)
    best = ended[order_of(RULES, evidence(seen[-1, ended]))[0][0]]
    return judged(returns)[trials[best]]


def evidence(returns: np.ndarray) -> Evidence:
    """Of returns [P, S, E] alone; the records hold no learning curves."""
    blank = np.zeros((*returns.shape[:2], 1))
    return Evidence(returns, blank, np.ones(1), blank[..., 0])


def judged(returns: np.ndarray) -> np.ndarray:
    """[P] mean return of each fully trained trial on the seeds that no search sees."""
    return returns[-1, :, SEARCHED_SEEDS:].mean(axis=(1, 2), dtype=np.float64)


def brackets_of(size: int, schedule: str) -> tuple[tuple[rungs.Bracket, ...], int]:
    """The brackets of a search of about so many trials, and how many they are; the records' unit is the update."""
    brackets = SCHEDULES[schedule](size, ETA ** (NUM_RUNGS - 1))
    return brackets, sum(bracket[0].num_trials for bracket in brackets)


def cost(size: int, schedule: str) -> float:
    """Of a search, in units of one trial that is trained to the end; trials go on where they stopped."""
    updates = 0
    for bracket in brackets_of(size, schedule)[0]:
        before = [0, *(rung.num_updates for rung in bracket)]
        updates += sum(rung.num_trials * (rung.num_updates - done) for rung, done in zip(bracket, before))
    return updates / ETA ** (NUM_RUNGS - 1)


# --- Population-based training ----------------------------------------------------------------------------------------


def population_based(name: str, repeats: int) -> dict[str, Any]:
    """PBT of 16 members, run for real, against random search over as many agents of the record, equally long."""
    task, (_, common, space) = TASKS[name], made(name)
    found, scores = [], []
    for repeat in range(repeats):
        result = pbt.pbt(
            jax.random.key(1000 + repeat), space=space, population_size=POPULATION, num_rounds=task.pbt_rounds,
            updates_per_round=task.num_updates // task.pbt_rounds, eval_episodes=EPISODES // 2, **common,
        )  # fmt: skip
        played = purerl.evaluate(
            episodes_key(), common["agent"], common["env"], result.best, num_episodes=EPISODES, max_steps=500
        )
        found.append(float(played.episode_return[EPISODES // 2 :].mean()))
        scores.append(float(np.nanmax(result.lineage.scores[-1])))
        print(f"{name}: PBT {repeat + 1} of {repeats}: {found[-1]:.1f}, {result.seconds:.0f} s", flush=True)
    agents = load(name)[-1].reshape(-1, EPISODES)
    random = np.array([random_agent(np.random.default_rng(repeat), agents) for repeat in range(REPEATS)])
    ours, theirs = interval(np.array(found)), interval(random)
    draws = np.random.default_rng(0)
    gaps = [resampled_mean(draws, np.array(found)) - resampled_mean(draws, random) for _ in range(10_000)]
    return {
        "population": POPULATION,
        "rounds": task.pbt_rounds,
        "repeats": repeats,
        "pbt": ours,
        "random": theirs,
        "difference": {"mean": ours["mean"] - theirs["mean"], "interval_95": np.percentile(gaps, [2.5, 97.5]).tolist()},
        "margin_of_2_percent": 0.02 * abs(theirs["mean"]),
        "found": found,
        "scores_that_chose": scores,
    }


def episodes_key() -> jax.Array:
    """Of the episodes that recorded agents were evaluated on: the third of the keys that `search` makes of its own."""
    return jax.random.split(jax.random.key(RECORD_SEED), 4)[2]


def random_agent(rng: np.random.Generator, agents: np.ndarray) -> float:
    """The best of 16 recorded agents by half of its episodes, judged by the other half."""
    drawn = agents[rng.choice(len(agents), POPULATION, replace=False)]
    return float(drawn[np.argmax(drawn[:, : EPISODES // 2].mean(axis=1)), EPISODES // 2 :].mean())


# --- What is written --------------------------------------------------------------------------------------------------


def interval(values: np.ndarray) -> dict[str, Any]:
    """Mean over repeats with its 95% bootstrap interval."""
    rng = np.random.default_rng(0)
    means = [resampled_mean(rng, values) for _ in range(10_000)]
    return {"mean": float(values.mean()), "interval_95": np.percentile(means, [2.5, 97.5]).tolist()}


def resampled_mean(rng: np.random.Generator, values: np.ndarray) -> float:
    return float(rng.choice(values, len(values)).mean())


def note(name: str, part: str, figures: dict[str, Any]) -> None:
    path = RESULTS / "search_quality.json"
    whole = json.loads(path.read_text()) if path.exists() else {}
    whole.setdefault(name, {})[part] = figures
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(name, part, json.dumps(figures, indent=1), flush=True)


def draw(names: list[str]) -> None:
    """Return found against steps taken, with ever more trials, at most 2/3 of those recorded."""
    figure = Figure(figsize=(4.2 * len(names), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names):
        records, task = np.load(path_of(name)), TASKS[name]
        steps = records["steps"][-1]
        most = 2 * task.num_trials // 3
        for schedule in SCHEDULES:
            used = [
                size for size in (2, 4, 8, 16, 24, 32, 48, 64) if size <= most and (size > 8 or "random" in schedule)
            ]
            values = np.array(
                [
                    [find(np.random.default_rng(i), records["returns"], size, schedule) for i in range(REPEATS)]
                    for size in used
                ]
            )
            spent = np.array([cost(size, schedule) for size in used]) * steps * SEARCHED_SEEDS
            axes.plot(spent, values.mean(axis=1), marker="o", label=schedule)
            low, high = np.array([interval(row)["interval_95"] for row in values]).T
            axes.fill_between(spent, low, high, alpha=0.2)
        axes.set(title=f"{task.algorithm.upper()}, {task.env}", xlabel="environment steps of the search")
        axes.set_xlim(0, SEARCH_SIZE * SEARCHED_SEEDS * steps * 1.05)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    figure.axes[0].set_ylabel("return of what was found, unseen seeds")
    figure.axes[0].legend(frameon=False)
    figure.savefig(RESULTS / "search_quality.png", dpi=120)


if __name__ == "__main__":
    main()

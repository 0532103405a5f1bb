"""Learning curves and final returns: each task is trained on several seeds side by side and evaluated greedily.

    python -m benchmarks.studies.learning                    every task
    python -m benchmarks.studies.learning dqn ppo_breakout   those whose name begins with one of these
    python -m benchmarks.studies.learning --list             their names and targets

Each task writes results/learning_<name>.json (settings, returns of every seed, curves, time) and .png (the curves).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

import purerl
from purerl import distributed, presets, sweep
from purerl.plots.curves import bridge

RESULTS = pathlib.Path(__file__).parents[1] / "results"
LONGEST_EPISODE = 2500  # Freeway's; an evaluation ends when its last episode does


class Task(NamedTuple):
    """A preset of an environment (`presets.find`) with what is changed of it, and what must come out.

    Attributes:
      target: least interquartile mean of the final greedy evaluation over the seeds.
      changes: fields of the preset that are replaced.
      fast: the fast preset.
      ceiling: greatest interquartile mean that may come out, where an agent is shown to lack something.
    """

    algorithm: str
    env: str
    num_seeds: int
    target: float
    changes: dict[str, Any] = {}
    ceiling: float = float("inf")
    fast: bool = False


GSDE = {
    "num_steps": 24_000,
    "hparams": {"actor_learning_rate": 1e-3, "temperature": 0.1, "tau": 0.01, "noise_theta": 0.03},
    "agent": {"exploration": "gsde", "learn_temperature": False},
}
FORGETFUL = {  # all as the agent with memory has it
    "num_steps": 1_000_000,
    "num_envs": 32,
    "rollout_length": 64,
    "hparams": {"learning_rate": 2e-3, "discount": 0.98, "gae_lambda": 0.8, "entropy_coef": 0.0},
    "combinators": ("with_observation_normalization", "with_reward_scaling"),
}
TASKS = {
    "ppo_cartpole_500k": Task("ppo", "CartPole-v1", 16, 495.0),
    "ppo_cartpole_fast": Task("ppo", "CartPole-v1", 128, 495.0, fast=True),
    "ppo_cartpole_100k": Task("ppo", "CartPole-v1", 128, 470.0, {"num_steps": 100_000, "anneal": False}),
    "ppo_acrobot_200k": Task("ppo", "Acrobot-v1", 16, -95.0),
    "ppo_pendulum_1m": Task("ppo", "Pendulum-v1", 8, -200.0),
    "ppo_breakout_5m": Task("ppo", "Breakout-MinAtar", 10, 28.0, {"num_steps": 5_000_000}),
    "ppo_breakout_10m": Task("ppo", "Breakout-MinAtar", 8, 28.0),
    "ppo_asterix_10m": Task("ppo", "Asterix-MinAtar", 4, 15.0),
    "ppo_asterix_5m": Task("ppo", "Asterix-MinAtar", 5, 5.0, presets.ALGORITHMS["ppo"].presets["image"]._asdict()),
    "pqn_asterix_5m": Task("pqn", "Asterix-MinAtar", 5, 5.0),
    "ppo_freeway_5m": Task("ppo", "Freeway-MinAtar", 5, 50.0),
    "ppo_space_invaders_5m": Task("ppo", "SpaceInvaders-MinAtar", 5, 60.0),
    "sac_pendulum": Task("sac", "Pendulum-v1", 64, -150.0),
    "td3_pendulum": Task("td3", "Pendulum-v1", 64, -150.0),
    "sac_mountain_car_24k": Task("sac", "MountainCarContinuous-v0", 30, 85.0, {"num_steps": 24_000}),
    "sac_mountain_car_gsde": Task("sac", "MountainCarContinuous-v0", 30, 85.0, GSDE),
    "dqn_cartpole": Task("dqn", "CartPole-v1", 30, 475.0),
    "dqn_acrobot": Task("dqn", "Acrobot-v1", 30, -100.0),
    "dqn_mountain_car": Task("dqn", "MountainCar-v0", 10, -130.0),
    "ppo_mountain_car": Task("ppo", "MountainCar-v0", 30, -130.0),
    "pqn_cartpole": Task("pqn", "CartPole-v1", 30, 475.0),
    "actor_critic_cartpole": Task("actor_critic", "CartPole-v1", 128, 475.0),
    "actor_critic_acrobot": Task("actor_critic", "Acrobot-v1", 30, -100.0),
    "alphazero_cartpole": Task("alphazero", "CartPole-v1", 64, 475.0),
    "muzero_cartpole": Task("muzero", "CartPole-v1", 10, 475.0),
    "reinforce_cartpole": Task("reinforce", "CartPole-v1", 30, 450.0),
    "evolution_cartpole": Task("evolution", "CartPole-v1", 30, 450.0),
    "recurrent_ppo_position_cartpole": Task("recurrent_ppo", "PositionCartPole-v1", 30, 400.0),
    "ppo_position_cartpole": Task("ppo", "PositionCartPole-v1", 30, 0.0, FORGETFUL, 200.0),
    "recurrent_ppo_memory_chain": Task("recurrent_ppo", "MemoryChain-bsuite", 30, 0.95),
    "ppo_memory_chain": Task("ppo", "MemoryChain-bsuite", 30, -0.2, {"num_steps": 200_000}, 0.2),
}


def run(name: str, task: Task, seed: int, eval_episodes: int) -> dict[str, Any]:
    """Train and evaluate one task; the record that is written down."""
    env = purerl.envs.make(task.env)
    preset = presets.find(task.algorithm, task.env, env, fast=task.fast)._replace(**task.changes)
    env = presets.environment(task.algorithm, env)
    hparams = presets.hparams(preset)
    one_trial = jax.tree.map(lambda x: np.asarray([x]), hparams)
    result = sweep.search(
        jax.random.key(seed), presets.build(preset, env), env, one_trial, num_seeds=task.num_seeds,
        num_updates=preset.num_updates, num_envs=preset.num_envs, rollout_length=preset.rollout_length,
        rollout=presets.rollout(preset), num_chunks=50,
        eval_episodes=eval_episodes, eval_max_steps=LONGEST_EPISODE, keep=1,
        progress=lambda p: print(f"{name}: {p.steps:,} of {p.total_steps:,} steps, {p.seconds:.0f} s", flush=True),
    )  # fmt: skip
    returns = result.seed_returns[0]
    record = {
        "command": f"python -m benchmarks.studies.learning {name} --seed {seed} --num-seeds {task.num_seeds}",
        "preset": preset._asdict(),
        "hparams": {k: float(v) for k, v in hparams._asdict().items()},
        "num_seeds": task.num_seeds,
        "eval_episodes": eval_episodes,
        "target": task.target,
        **({} if task.ceiling == float("inf") else {"ceiling": task.ceiling}),
        "interquartile_mean": float(result.iqm[0]),
        "interval_95": [float(x) for x in result.interval[0]],
        "seed_returns": [round(float(x), 2) for x in returns],
        "seconds": round(result.settings["seconds"], 1),
        "steps_per_second": round(result.settings["steps_per_second"]),
        "num_devices": result.settings["num_devices"],
        "machine": f"{jax.devices()[0].platform}, {platform.machine()}, jax {jax.__version__}",
        "steps": result.steps.tolist(),
        "curves": np.round(result.curves[0].astype(float), 2).tolist(),
    }
    draw(name, record).savefig(RESULTS / f"learning_{name}.png", dpi=110)
    (RESULTS / f"learning_{name}.json").write_text(json.dumps(record, default=float).replace("NaN", "null") + "\n")
    return record


def draw(name: str, record: dict[str, Any]) -> Figure:
    """Every seed's training return, and their interquartile mean."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    curves = bridge(np.asarray(record["curves"], float))
    axes.plot(record["steps"], curves.T, color="0.8", linewidth=0.8)
    middle = [sweep.interquartile_mean(c[np.isfinite(c)]) if np.isfinite(c).any() else np.nan for c in curves.T]
    axes.plot(record["steps"], middle, color="#0072b2", linewidth=2, label="interquartile mean of training")
    axes.axhline(record["target"], color="#d55e00", linewidth=1, linestyle="--", label="target of the final evaluation")
    iqm, (low, high) = record["interquartile_mean"], record["interval_95"]
    axes.errorbar(
        record["steps"][-1], iqm, [[iqm - low], [high - iqm]], fmt="o", color="black", label="final greedy evaluation"
    )
    axes.set_title(f"{name}: {iqm:.1f} [{low:.1f}, {high:.1f}], {record['num_seeds']} seeds", loc="left", fontsize=10)
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names of tasks; none: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-seeds", type=int, help="in place of each task's own number")
    parser.add_argument("--eval-episodes", type=int, default=32)
    parser.add_argument("--list", action="store_true", help="list the tasks and end")
    arguments = parser.parse_args()
    chosen = {n: t for n, t in TASKS.items() if not arguments.names or any(map(n.startswith, arguments.names))}
    if arguments.list:
        for name, task in chosen.items():
            print(f"{name:24s} {task.num_seeds:3d} seeds, at least {task.target}")
        return
    distributed.use_all_cores()
    RESULTS.mkdir(exist_ok=True)
    for name, task in chosen.items():
        task = task._replace(num_seeds=arguments.num_seeds or task.num_seeds)
        record = run(name, task, arguments.seed, arguments.eval_episodes)
        low, high = record["interval_95"]
        verdict = "reached" if task.target <= record["interquartile_mean"] <= task.ceiling else "MISSED"
        print(f"{name}: interquartile mean {record['interquartile_mean']:.1f} [{low:.1f}, {high:.1f}]")
        print(f"  target {task.target}: {verdict}; {record['seconds']} s, {record['steps_per_second']:,} steps/s")
        print(f"  seeds {sorted(record['seed_returns'])}")


if __name__ == "__main__":
    main()

"""Tables of trials in wide spaces, like those of ARLBench, on which models of a search are compared with chance.

    python -m benchmarks.studies.model_tables [TASK ...]    # a few minutes each

The ranges are as wide as those of Becktepe et al. (2024), "ARLBench: Flexible and Efficient Benchmarking for
Hyperparameter Optimization in Reinforcement Learning": most trials learn little. All are trained to the end. Writes
results/model_table_<task>.npz.
"""

from __future__ import annotations

import sys
import time
from typing import Any, NamedTuple

import jax
import numpy as np

import purerl
from benchmarks.studies.search_quality import EPISODES, RESULTS
from purerl import presets, sweep
from purerl.sweep.models.encoding import axes_of, encode
from purerl.sweep.trials.parsing import parse_spaces

_RATE = {"learning_rate": "log_uniform(1e-6, 0.1)", "discount": "uniform(0.8, 0.9999)"}
_ACTOR_CRITIC = _RATE | {
    "gae_lambda": "uniform(0.8, 0.9999)", "entropy_coef": "uniform(0, 0.5)", "value_coef": "uniform(0, 1)",
    "max_grad_norm": "uniform(0.01, 1)",
}  # fmt: skip
_PPO = _ACTOR_CRITIC | {"clip_epsilon": "uniform(0.01, 0.5)"}
_PQN = _RATE | {
    "epsilon": "uniform(0.001, 0.5)", "epsilon_anneal_updates": "log_uniform(3, 300)", "trace_decay": "uniform(0, 1)",
    "max_grad_norm": "log_uniform(0.1, 100)",
}  # fmt: skip


class Table(NamedTuple):
    """A preset, whose learning rate is not annealed, the updates of a trial, and what is searched."""

    algorithm: str
    env: str
    num_updates: int
    space: dict[str, str]


TABLES = {
    "ppo_cartpole_wide": Table("ppo", "CartPole-v1", 48, _PPO),
    "a2c_acrobot_wide": Table("actor_critic", "Acrobot-v1", 240, _ACTOR_CRITIC),
    "pqn_cartpole_wide": Table("pqn", "CartPole-v1", 16, _PQN),
}
NUM_TRIALS, NUM_SEEDS = 128, 3


def main() -> None:
    for name in sys.argv[1:] or TABLES:
        begun = time.perf_counter()
        result = record(name)
        columns = {f"hparams_{column}": result.values(column) for column in result.searched}
        np.savez_compressed(RESULTS / f"model_table_{name}.npz", returns=result.returns, **columns)
        print(f"{name}: {time.perf_counter() - begun:.0f} s, best {result.best.iqm:.1f}, {np.median(result.iqm):.1f}")


def record(name: str) -> sweep.Result:
    """Train all trials of a table to the end."""
    table = TABLES[name]
    env = purerl.envs.make(table.env)
    preset = presets.find(table.algorithm, table.env, env)._replace(anneal=False)
    env = presets.environment(table.algorithm, env)
    sizes: dict[str, Any] = {"num_envs": preset.num_envs, "rollout_length": preset.rollout_length}
    return sweep.search(
        jax.random.key(0), presets.build(preset, env), env, presets.hparams(preset), parse_spaces(table.space),
        num_trials=NUM_TRIALS, num_seeds=NUM_SEEDS, num_updates=table.num_updates, eval_episodes=EPISODES,
        eval_max_steps=500, keep=1, num_chunks=4, rollout=presets.rollout(preset), **sizes,
    )  # fmt: skip


def load(name: str) -> tuple[np.ndarray, tuple[int, ...], np.ndarray]:
    """Points [P, D] of the trials, the categories of each axis, and the returns [P, S, E]."""
    columns, spaces = np.load(RESULTS / f"model_table_{name}.npz"), parse_spaces(TABLES[name].space)
    points = encode(spaces, {key: columns[f"hparams_{key}"] for key in spaces})
    return points, axes_of(spaces).sizes, columns["returns"]


if __name__ == "__main__":
    main()

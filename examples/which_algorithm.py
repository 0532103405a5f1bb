"""Which algorithm learns CartPole best within 98k steps? PPO, DQN and PQN in one search, halved and ranked together.

python examples/which_algorithm.py [directory]
"""

import sys

import jax
import rich

import purerl
from purerl import plots, presets, sweep
from purerl.sweep.trials.parsing import parse_spaces


def algorithm(name: str, env: purerl.types.Env) -> sweep.Algorithm:
    """An algorithm with the settings and the space that `purerl sweep --algorithm NAME` has for the environment."""
    preset = presets.find(name, "CartPole-v1", env)._replace(num_steps=98_304)
    agent, hparams = presets.build(preset, env), presets.hparams(preset)
    space = parse_spaces(presets.algorithm(name).space)
    return sweep.Algorithm(agent, hparams, space, preset.num_envs, preset.rollout_length)


def main(directory: str = "runs/which_algorithm") -> None:
    env = purerl.envs.make("CartPole-v1")
    every = sweep.algorithms({name: algorithm(name, env) for name in ("ppo", "dqn", "pqn")})
    result = sweep.search(
        jax.random.key(0), every.agent, env, every.hparams, every.space, static=every.static, num_trials=48,
        num_updates=192, num_envs=4, rollout_length=128, schedule=sweep.successive_halving(eta=3, num_rungs=3),
        confirm=3, directory=directory,
    )  # fmt: skip
    rich.print(sweep.table(result))
    for row in sweep.by_algorithm(result):
        rich.print(row)
    best = result.best
    rich.print(every.own(best.hparams, best.choices["algorithm"]))
    plots.learning_curves(result).savefig(f"{directory}/learning_curves.png", dpi=150)


if __name__ == "__main__":
    main(*sys.argv[1:])

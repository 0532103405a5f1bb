"""Search PPO's hyperparameters on CartPole: 64 trials x 3 seeds x 100k steps, and the best three again on fresh seeds.

python examples/hyperparameter_search.py [directory]
"""

import sys

import jax
import rich

import purerl
from purerl import plots, sweep


def show(progress: sweep.Progress) -> None:
    done = progress.steps / progress.total_steps
    print(f"{progress.phase:8} {done:4.0%}  {progress.steps_per_second:9,.0f} steps/s  best {progress.best_return:.0f}")


def main(directory: str = "runs/hyperparameter_search") -> None:
    env = purerl.envs.make("CartPole-v1")
    agent = purerl.ppo(purerl.networks.actor_critic(env))
    space = {
        "learning_rate": sweep.log_uniform(1e-4, 3e-2),
        "entropy_coef": sweep.log_uniform(1e-4, 1e-1),
        "clip_epsilon": sweep.uniform(0.1, 0.4),
    }
    result = sweep.search(
        jax.random.key(0), agent, env, purerl.PPOHparams(), space, num_trials=64, num_seeds=3,
        num_updates=195, num_envs=4, rollout_length=128, confirm=3, progress=show,
    )  # fmt: skip
    rich.print(sweep.table(result))
    result.save(directory)
    plots.sweep_figure(result).savefig(f"{directory}/sweep.png", dpi=150)

    # The best of many was also chosen for its luck, and so was the best of its seeds: further episodes of that agent
    # would not undo the choice. The return to quote is that of the same hyperparameters on fresh seeds.
    best = result.best
    print(f"best trial: {best.iqm:.1f} in the search, {best.fresh_iqm:.1f} on fresh seeds")


if __name__ == "__main__":
    main(*sys.argv[1:])

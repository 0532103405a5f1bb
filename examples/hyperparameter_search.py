"""Search PPO's hyperparameters on CartPole: 64 trials x 2 seeds x 100k steps, all in one compiled program.

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
        num_updates=195, num_envs=4, rollout_length=128, eval_max_steps=500, progress=show,
    )  # fmt: skip
    rich.print(sweep.table(result))
    result.save(directory)
    plots.sweep_figure(result).savefig(f"{directory}/sweep.png", dpi=150)

    # The best of many was also chosen for its luck: evaluate it again, on other episodes.
    fresh = purerl.evaluate(jax.random.key(1), agent, env, result.best.state, num_episodes=100, max_steps=500)
    print(f"best trial on fresh episodes: {fresh.episode_return.mean():.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])

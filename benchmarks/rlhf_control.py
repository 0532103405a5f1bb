"""Pendulum from 700 preference labels with 10% random answers (Christiano et al. 2017): the true reward stays hidden.

    python benchmarks/rlhf_control.py [--seeds 5] [--output benchmarks/results/rlhf_control.json]

The seeds are one vmapped program. The same with reward models left untrained says what the labels are worth.
"""

import argparse
import json
import time
from pathlib import Path

import jax

import purerl
from purerl.combinators import with_observation_normalization, with_reward_scaling
from purerl.rlhf import control

ENV = purerl.envs.make("Pendulum-v1")
PPO = purerl.ppo(purerl.networks.actor_critic(ENV), num_epochs=10, num_minibatches=16)
AGENT = with_reward_scaling(with_observation_normalization(PPO))
HPARAMS = purerl.PPOHparams(learning_rate=1e-3, discount=0.9, entropy_coef=0.0, anneal_updates=420)


def run(seeds, sizes):
    """Mean greedy return, and correlation of learned and true reward on the last policy's steps, of each seed."""

    def one(key):
        result = control.learn_from_preferences(key, AGENT, ENV, HPARAMS, sizes)
        episodes = purerl.evaluate(jax.random.key(99), AGENT, ENV, result.state, num_episodes=64, max_steps=200)
        return episodes.episode_return.mean(), result.correlation

    start, cpu = time.perf_counter(), time.process_time()
    returns, correlations = (x.tolist() for x in jax.vmap(one)(jax.random.split(jax.random.key(0), seeds)))
    return {
        "mean_return": round(sum(returns) / seeds, 1),
        "returns": [round(x, 1) for x in returns],
        "correlations": [round(x, 3) for x in correlations],
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output")
    options = parser.parse_args()
    sizes = control.ControlSizes()
    results = {"sizes": sizes._asdict(), "labels": sizes.num_labels}
    for name, chosen in [("trained", sizes), ("untrained_reward_model", sizes._replace(reward_updates=1))]:
        results[name] = run(options.seeds, chosen)
        print(name, results[name], flush=True)
        if options.output:
            record = {"command": "python benchmarks/rlhf_control.py", "results": results}
            Path(options.output).write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()

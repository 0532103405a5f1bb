"""Pendulum from 700 preference labels with 10% random answers (Christiano et al. 2017): the true reward stays hidden.

python benchmarks/rlhf_control.py [--seeds 5] [--output benchmarks/results/rlhf_control.json]
"""

import argparse
import json
import time

import jax

import purerl
from purerl.combinators import with_observation_normalization
from purerl.rlhf import control

ENV = purerl.envs.make("Pendulum-v1")
AGENT = with_observation_normalization(purerl.ppo(purerl.networks.actor_critic(ENV), num_epochs=10, num_minibatches=16))
HPARAMS = purerl.PPOHparams(learning_rate=1e-3, discount=0.9, entropy_coef=0.0, anneal_updates=500)


def greedy_return(state):
    episodes = purerl.evaluate(jax.random.key(99), AGENT, ENV, state, num_episodes=64, max_steps=200)
    return float(episodes.episode_return.mean())


def run(seed, sizes):
    start = time.process_time()
    result = control.learn_from_preferences(jax.random.key(seed), AGENT, ENV, HPARAMS, sizes)
    return {
        "return": greedy_return(result.state),
        "correlation": float(result.correlation),
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output")
    options = parser.parse_args()
    sizes = control.ControlSizes()
    runs = []
    for seed in range(options.seeds):
        runs.append(run(seed, sizes))
        print(seed, runs[-1], flush=True)
    untrained = run(0, sizes._replace(reward_updates=1))
    print("reward model untrained", untrained, flush=True)
    results = {"labels": sizes.num_rounds * sizes.labels_per_round, "runs": runs, "untrained_reward_model": untrained}
    if options.output:
        with open(options.output, "w") as file:
            json.dump({"command": "python benchmarks/rlhf_control.py", "results": results}, file, indent=1)


if __name__ == "__main__":
    main()

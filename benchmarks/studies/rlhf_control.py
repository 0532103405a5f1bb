"""Pendulum from 700 preference labels with 10% random answers (Christiano et al. 2017): the true reward stays hidden.

    python -m benchmarks.studies.rlhf_control [--seeds 5] [--output benchmarks/results/rlhf_control.json]

The seeds are one vmapped program. The same with reward models left untrained says what the labels are worth. With
--output the rounds of seed 0 are drawn beside the record.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np

from purerl.experiments import pendulum, pictures
from purerl.preferences import reward_ensemble

TASK = pendulum.task()


def run(seeds, sizes):
    """The record of all seeds, and what they found."""
    start, cpu = time.perf_counter(), time.process_time()
    keys = jax.random.split(jax.random.key(0), seeds)
    found = jax.block_until_ready(jax.vmap(lambda key: pendulum.run(key, TASK, sizes))(keys))
    returns, rounds = found.greedy_return.tolist(), found.result.rounds
    return {
        "mean_return": round(sum(returns) / seeds, 1),
        "returns": [round(x, 1) for x in returns],
        "returns_of_the_explorer": [round(x, 1) for x in found.explorer_return.tolist()],
        "correlations": [round(x, 3) for x in rounds.correlation[:, -1].tolist()],
        "true_reward_by_round": [[round(x, 2) for x in row] for row in rounds.true_reward.tolist()],
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }, found


def draw(found, path):
    """The picture of seed 0."""
    first = jax.tree.map(lambda x: x[0], found.result)
    learned = reward_ensemble.learned_reward(first.reward, first.steps.features)
    pictures.save(pictures.control_figure(first.rounds, np.ravel(first.steps.reward), np.ravel(learned)), path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    parser.add_argument(
        "--only", choices=("trained", "untrained_reward_model"), help="one of both; the record keeps the other"
    )
    options = parser.parse_args()
    sizes = pendulum.SIZES
    hparams = {name: float(x) for name, x in pendulum.hparams(sizes)._asdict().items()}
    results = {
        "sizes": sizes._asdict(),
        "labels": sizes.num_labels,
        "explorer": hparams,
        "learner": pendulum.SAC._asdict(),
    }
    if options.output and options.only and options.output.exists():
        results = json.loads(options.output.read_text())["results"]
    for name, chosen in [("trained", sizes), ("untrained_reward_model", sizes._replace(reward_learning_rate=0.0))]:
        if options.only not in (None, name):
            continue
        results[name], found = run(options.seeds, chosen)
        print(name, results[name], flush=True)
        if options.output:
            record = {"command": "python -m benchmarks.studies.rlhf_control", "results": results}
            options.output.write_text(json.dumps(record, indent=1) + "\n")
        if options.output and name == "trained":
            draw(found, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()

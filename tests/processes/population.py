"""One process of a run that trains a small population: `population.py PORT NUM_PROCESSES PROCESS DEVICES FILE MODE`.

Process 0 writes the expected result to FILE. In the mode `forever` it trains until it is ended, in the mode `fail`
until process 1 raises an exception.
"""

import pathlib
import sys

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "helpers"))

from bandits import EPISODE, Hparams, make_agent, make_env

from purerl import distributed, sweep
from purerl.pbt import rounds as rounds_module
from purerl.pbt.rounds import advance, rounds, start

SIZE = 16


def program():
    space = {"learning_rate": sweep.log_uniform(0.01, 1.0), "target": sweep.uniform(-1.0, 1.0)}
    return rounds(
        make_agent(), make_env(), space, population_size=SIZE, updates_per_round=2, rollout_length=EPISODE,
        eval_episodes=2, eval_max_steps=EPISODE,
    )  # fmt: skip


def main(port, num_processes, process, num_devices, file, mode=None):
    jax.config.update("jax_num_cpu_devices", int(num_devices))
    if int(num_processes) > 1:
        distributed.initialize(f"localhost:{port}", int(num_processes), int(process))
    each = program()
    population = start(jax.random.key(0), each, Hparams(), population_size=SIZE, num_envs=2)
    population, lineage = advance(population, each, num_rounds=4)
    assert len(population.members.key.sharding.device_set) == jax.device_count()
    population, lineage = advance(population, each, num_rounds=4)
    assert rounds_module._advance._cache_size() == 1  # arrays have the same placement from the first call on
    whole = distributed.to_host((lineage, population))
    if distributed.is_main():
        whole = jax.tree.map(lambda x: x if isinstance(x, np.ndarray) else jax.random.key_data(x), whole)
        np.savez(file, *jax.tree.leaves(whole))
    while mode:
        population, lineage = advance(population, each, num_rounds=4)
        distributed.to_host(lineage)
        print("training", flush=True)
        if mode == "fail" and int(process) == 1:
            raise RuntimeError("something is wrong here")


if __name__ == "__main__":
    main(*sys.argv[1:])

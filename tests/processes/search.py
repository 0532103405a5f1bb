"""One process of a search with successive halving: `search.py PORT NUM_PROCESSES PROCESS DEVICES DIRECTORY [slow]`.

It resumes the search in DIRECTORY if there is one. `slow` waits after every chunk, so that it can be killed.
"""

import pathlib
import sys
import time

import jax

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "helpers"))

from bandits import Hparams, make_agent, make_env

from purerl import distributed, sweep
from purerl.sweep.run import journal

SPACE = {"learning_rate": sweep.log_uniform(1e-2, 1.0), "target": sweep.uniform(-1.0, 1.0)}
OPTIONS = {
    "num_updates": 8, "num_envs": 3, "rollout_length": 4, "eval_episodes": 5, "eval_max_steps": 4, "num_trials": 16,
    "num_seeds": 2, "num_chunks": 4, "block_size": 8, "keep": 2, "confirm": 2, "confirm_seeds": 2,
}  # fmt: skip


def search(directory=None, **options):
    resume = directory is not None and journal.exists(directory)
    schedule = sweep.successive_halving(eta=2, num_rungs=3)
    return sweep.search(
        jax.random.key(5), make_agent(), make_env(), Hparams(), SPACE, schedule=schedule, directory=directory,
        resume=resume, **OPTIONS | options,
    )  # fmt: skip


def small_search(**options):
    """31 trials of one seed, which 8 devices do not divide."""
    sizes = OPTIONS | {"num_trials": 31, "num_seeds": 1, "confirm": 0}
    return sweep.search(jax.random.key(5), make_agent(), make_env(), Hparams(), SPACE, **sizes | options)


def main(port, num_processes, process, num_devices, directory, mode=None):
    jax.config.update("jax_num_cpu_devices", int(num_devices))
    if int(num_processes) > 1:
        distributed.initialize(f"localhost:{port}", int(num_processes), int(process))

    def progress(event):
        print(event.phase, event.steps, flush=True)
        time.sleep(1.0 if mode == "slow" else 0.0)

    search(directory, progress=progress)


if __name__ == "__main__":
    main(*sys.argv[1:])

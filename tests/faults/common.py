"""`purerl` in processes that may be killed, small enough to be started hundreds of times.

A process is forked from one that has imported everything and initialized no backend, so a start costs a second or two.
"""

import csv
import hashlib
import os
import resource
import sys
import time
import traceback
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import numpy as np
from jax._src import xla_bridge

import purerl.commands.evaluate
import purerl.commands.sweep
import purerl.commands.train
from purerl import cli, datasets, presets
from purerl.prng import is_key

TINY = ("--num-envs", "2", "--rollout-length", "8", "--network", "hidden=8", "--num-steps", "640")
MINIBATCHES = ("--agent", "num_epochs=1", "num_minibatches=2")
SEARCHES = ("--agent", "num_epochs=1", "num_minibatches=2", "num_simulations=4")
# Command lines of each algorithm: 40 updates or so.
RUNS = {
    "ppo": (*TINY, *MINIBATCHES),
    "recurrent_ppo": (*TINY, "--network", "hidden=8", "--agent", "num_epochs=1", "num_minibatches=2"),
    "actor_critic": TINY,
    "reinforce": TINY,
    "dqn": TINY,
    "pqn": (*TINY, *MINIBATCHES),
    "discrete_sac": TINY,
    "sac": (*TINY, "--env", "Pendulum-v1"),
    "td3": (*TINY, "--env", "Pendulum-v1"),
    "tqc": (*TINY, "--env", "Pendulum-v1"),
    "droq": (*TINY, "--env", "Pendulum-v1", "--agent", "policy_delay=2"),
    "crossq": (*TINY, "--env", "Pendulum-v1", "--agent", "policy_delay=2"),
    "iqn": TINY,
    "r2d2": (*TINY, "--network", "hidden=8", "memory_size=8"),
    "evolution": ("--num-envs", "4", "--rollout-length", "20", "--network", "hidden=8", "--num-steps", "3200"),
    "cma_es": ("--num-envs", "4", "--rollout-length", "20", "--network", "hidden=8", "--num-steps", "3200"),
    "alphazero": (*TINY, *SEARCHES),
    "muzero": (*TINY, "--agent", "num_epochs=1", "num_minibatches=2", "num_simulations=4", "unroll_length=2"),
    "cql": (*TINY, "--dataset", "DATASET"),
    "td3_bc": (*TINY, "--env", "Pendulum-v1", "--dataset", "DATASET"),
    "iql": (*TINY, "--env", "Pendulum-v1", "--dataset", "DATASET"),
    "behavior_cloning": (*TINY, "--dataset", "DATASET"),
}


def small(preset):
    """A preset whose replay is ready after a few updates."""
    replay = dict(preset.replay)
    if replay:
        replay |= {
            "capacity": 256,
            "batch_size": 16,
            "min_size": 32,
            "num_updates": min(2, replay.get("num_updates", 1)),
        }
    return preset._replace(replay=replay)


def arguments(algorithm, root, name, *more):
    """The command line that begins a run."""
    words = dict_of_options(RUNS[algorithm])
    recorded = root / ("pendulum" if "Pendulum-v1" in words else "dataset")
    words = [str(recorded) if word == "DATASET" else word for word in words]
    return ["train", "--algorithm", algorithm, "--name", name, "--runs-dir", str(root), *words, *more]


def dict_of_options(words):
    """The words with each option once: the last one wins."""
    options, last = {}, None
    for word in words:
        if word.startswith("--"):
            last = word
            options[last] = []
        else:
            options[last].append(word)
    return [word for option, values in options.items() for word in (option, *values)]


def digest(tree):
    """SHA-256 of all leaves."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        total.update(np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf).tobytes())
    return total.hexdigest()


def _quick_end(job, state, diverged):
    """In place of the evaluation at the end: what the run ends in."""
    (job.directory / "digest").write_text(digest(state))
    leaves = [jax.random.key_data(leaf) if is_key(leaf) else leaf for leaf in jax.tree.leaves(state)]
    np.savez(job.directory / "end.npz", *map(np.asarray, leaves))


def start(argv, log, *, whole=False, largest_file=None, cache=None, cores=None):
    """Start `purerl argv` in a process of its own, and return its number.

    `whole`: with the evaluation at the end; `largest_file`: bytes that a file may have, as on a disk that is full;
    `cache`: directory of compiled programs, otherwise there is none, since JAX was imported before; `cores`: those that
    the process may use.
    """
    assert not xla_bridge.backends_are_initialized(), "a process with a backend must not be forked"
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
        if cores is not None:
            os.sched_setaffinity(0, cores)
        if cache is not None:
            jax.config.update("jax_compilation_cache_dir", str(cache))
        find = presets.find
        presets.find = lambda *args, **settings: small(find(*args, **settings))
        if not whole:
            purerl.commands.train._finish = _quick_end
            purerl.commands.train._draw = lambda job: None
        cli.main([str(word) for word in argv])
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(process, seconds=300.0):
    """The exit code of a process: negative for a signal. A process that takes longer is killed, and fails."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, 9)
    os.waitpid(process, 0)
    raise TimeoutError(f"process {process} took more than {seconds} s")


def run(argv, log, **options):
    """Start a process and wait for it."""
    return wait(start(argv, log, **options))


def in_child(function):
    """Call a function in a process of its own, so that this one keeps no backend; it must not fail."""
    process = os.fork()
    if process:
        assert wait(process) == 0
        return
    try:
        function()
        os._exit(0)
    finally:
        traceback.print_exc()
        os._exit(1)


def in_time(algorithms, seconds):
    """The algorithms one by one; those that are left after so many seconds are printed as not run."""
    end = time.monotonic() + seconds
    for algorithm in algorithms:
        if time.monotonic() > end:
            print(f"| {algorithm} | not run: out of time |", flush=True)
        else:
            yield algorithm


def record(root):
    """Two datasets of random actions, for the algorithms that learn from one: of CartPole and of the pendulum."""

    def make():
        for name, env_id in (("dataset", "CartPole-v1"), ("pendulum", "Pendulum-v1")):
            env = purerl.envs.make(env_id)
            agent = purerl.ppo(purerl.networks.actor_critic(env, (4,)))
            state = agent.init(jax.random.key(0), purerl.PPOHparams(), env.reset(jax.random.key(1))[0])
            data = datasets.record(jax.random.key(2), agent, env, state, num_steps=256, num_envs=4)
            datasets.save(root / name, data._replace(aux=()))

    in_child(make)


def table(directory):
    """The rows of a run without what the clock says."""
    path = Path(directory) / "metrics.csv"
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name not in ("seconds", "steps_per_second")} for row in rows]

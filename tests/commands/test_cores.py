"""Which runs are computed on one core: read off the options, before JAX starts."""

import json
import os
import subprocess
import sys

import pytest

from purerl import presets, runtime
from purerl.commands import cores, parser
from purerl.commands.options import bench, sweep, train

_PROGRAM = """
import os, sys
from purerl import distributed, runtime
import jax, jax.numpy as jnp
distributed.use_one_core()
for _ in range(2):
    runtime.keep_programs_for_one_core()
print(jax.config.jax_compilation_cache_dir)
jax.block_until_ready(jax.jit(lambda x: x @ x)(jnp.ones((512, 512))))
names = [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]
print(jax.device_count(), sum("Eigen" in name for name in names))
distributed.use_one_core()  # again, without effect
del os.environ["PJRT_NPROC"]
try:
    distributed.use_one_core()
except RuntimeError as error:
    print("RuntimeError")
"""


def options(module, *arguments):
    name = module.__name__.rpartition(".")[2]
    return parser.parse(name, module.Options, list(arguments))[0]


@pytest.fixture
def chosen(monkeypatch):
    """Whether the options choose one core, without changing this process."""
    monkeypatch.delenv("PJRT_NPROC", raising=False)
    monkeypatch.delenv("NPROC", raising=False)
    calls = []
    monkeypatch.setattr("purerl.distributed.use_one_core", lambda: calls.append(1))
    monkeypatch.setattr(cores, "keep_programs_for_one_core", lambda: None)

    def choose(module, *arguments):
        calls.clear()
        cores.choose(options(module, *arguments))
        return bool(calls)

    return choose


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--algorithm", "dqn"),
        ("--algorithm", "rainbow"),
        ("--preset", "fast"),
        ("--env", "Pendulum-v1", "--algorithm", "sac"),
        ("--env", "gymnasium/CartPole-v1"),
        ("--num-seeds", "1"),
        ("--env", "Breakout-MinAtar", "--cores", "one"),
        ("--num-seeds", "4", "--cores", "one"),
    ],
)
def test_one_small_agent_is_computed_on_one_core(chosen, arguments):
    assert chosen(train, *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--num-envs", "64"),  # minibatches of 2,048 rows
        ("--num-seeds", "2"),
        ("--network", "hidden=256,256"),
        ("--env", "Breakout-MinAtar"),
        ("--env", "brax/ant"),
        ("--cores", "all"),
        ("--resume", "nothing"),  # which the command refuses
        ("--algorithm", "nothing"),
        ("--agent", "num_minibatches=none"),
        ("--agent", "num_minibatches=0"),
    ],
)
def test_all_others_are_computed_on_all(chosen, arguments):
    assert not chosen(train, *arguments)


def test_other_commands_stay_on_all_cores_unless_told(chosen):
    assert [chosen(bench, "--cores", "one"), chosen(bench), chosen(sweep)] == [True, False, False]


@pytest.mark.parametrize(("num_seeds", "expected"), [(1, True), (2, False)])
def test_a_resumed_run_is_computed_as_it_was(chosen, tmp_path, num_seeds, expected):
    preset = presets.ALGORITHMS["ppo"].presets["CartPole-v1"]
    task = {"env": "CartPole-v1", "env_settings": {}, "preset": preset._asdict()}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(
        json.dumps({"command": "train", "num_seeds": num_seeds, "seed": 0, "task": task})
    )
    assert chosen(train, "--resume", "run", "--runs-dir", str(tmp_path)) is expected


def test_the_users_own_choice_wins(chosen, monkeypatch):
    monkeypatch.setenv("PJRT_NPROC", "3")
    assert not chosen(train)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted in /proc")
def test_xla_has_one_thread_and_the_choice_comes_too_late_once_jax_has_started(tmp_path):
    """Programs are kept apart from those for all cores."""
    environment = {name: value for name, value in os.environ.items() if "JAX" not in name and "NPROC" not in name}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / runtime.machine())
    command = [sys.executable, "-c", _PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    kept = str(tmp_path / runtime.machine(cores=1))
    assert done.stdout.split() == [kept, "1", "1", "RuntimeError"], done.stderr

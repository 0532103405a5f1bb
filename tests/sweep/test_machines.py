"""Searches on several processes and on Ray, whole and with one of them killed; each process compiles for itself."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "processes" / "search.py"
sys.path.insert(0, str(SCRIPT.parent))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def start(directory, num_processes, num_devices, *mode):
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(port), str(num_processes), str(i), str(num_devices), directory, *mode],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for i in range(num_processes)
    ]  # fmt: skip


def finish(processes):
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The search by one process with as many devices as the others have together."""
    directory = tmp_path_factory.mktemp("searches") / "whole"
    finish(start(str(directory), 1, 4))
    return (directory / "trials.csv").read_bytes()


def test_two_processes_end_in_the_table_of_one(whole, tmp_path):
    finish(start(str(tmp_path / "two"), 2, 2))
    assert (tmp_path / "two" / "trials.csv").read_bytes() == whole


def test_after_the_death_of_a_process_the_other_ends_and_both_go_on(whole, tmp_path):
    processes = start(str(tmp_path / "two"), 2, 2, "slow")
    for line in processes[0].stdout:
        if line.startswith("evaluate"):
            break
    processes[1].kill()
    begun = time.monotonic()
    processes[0].communicate(timeout=60)
    assert time.monotonic() - begun < 20
    assert processes[0].returncode != 0
    assert not (tmp_path / "two" / "trials.csv").exists()
    finish(start(str(tmp_path / "two"), 2, 2))
    assert (tmp_path / "two" / "trials.csv").read_bytes() == whole


def test_ray_does_every_block_once_also_when_a_worker_is_killed():
    ray = pytest.importorskip("ray")
    from search import search

    from purerl.sweep import ray_blocks

    os.environ["PYTHONPATH"] = os.pathsep.join([str(SCRIPT.parent), str(pathlib.Path(__file__).parent)])
    alone = search()
    killed = []

    def progress(event):
        if event.phase == "train" and not killed:
            workers = [w for w in ray_workers() if w != os.getpid()]
            if workers:
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])

    try:
        result = search(executor=ray_blocks.on_ray(), progress=progress)
    finally:
        ray.shutdown()
    assert killed
    for name in ("returns", "curves", "rung_returns", "num_updates", "fresh_returns"):
        np.testing.assert_array_equal(getattr(result, name), getattr(alone, name))


def ray_workers():
    """Processes of Ray that run blocks; they are children of a raylet that is our own."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            name = path.read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue
        if name.startswith("ray::_run"):
            found.append(int(path.parent.name))
    return found

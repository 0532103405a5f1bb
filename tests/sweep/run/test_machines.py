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

SCRIPT = pathlib.Path(__file__).parents[2] / "processes" / "search.py"
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


def test_a_fleet_that_loses_a_process_again_and_again_ends_in_the_table_of_one(tmp_path):
    """4 processes of 2 devices, as spot instances: whenever one is lost, all are started again and resume."""
    finish(start(str(tmp_path / "whole"), 1, 8))
    begun = time.monotonic()
    finish(start(str(tmp_path / "fleet"), 4, 2, "slow"))
    undisturbed, begun = time.monotonic() - begun, time.monotonic()
    for victim, reports in ((1, 3), (3, 5), (0, 4), (2, 6)):
        processes = start(str(tmp_path / "lossy"), 4, 2, "slow")
        main = processes[0]
        for _ in range(reports):
            assert main.stdout.readline()
        processes[victim].kill()
        for process in processes:
            process.communicate(timeout=60)
        assert all(process.returncode for process in processes)
    finish(start(str(tmp_path / "lossy"), 4, 2, "slow"))
    print(f"undisturbed {undisturbed:.0f} s, with four losses {time.monotonic() - begun:.0f} s")
    whole = (tmp_path / "whole" / "trials.csv").read_bytes()
    assert (tmp_path / "fleet" / "trials.csv").read_bytes() == whole
    assert (tmp_path / "lossy" / "trials.csv").read_bytes() == whole


@pytest.fixture(scope="module")
def alone():
    """The search without Ray."""
    from search import search

    return search()


@pytest.fixture
def ray(monkeypatch):
    found = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SCRIPT.parent), str(SCRIPT.parents[1] / "helpers")]))
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")  # for workers of a cluster that the test starts
    yield found
    found.shutdown()


def check_equal(result, alone):
    for name in ("returns", "curves", "rung_returns", "num_updates", "fresh_returns"):
        np.testing.assert_array_equal(getattr(result, name), getattr(alone, name))


def search_on_ray(address, interrupt):
    """The search by Ray; `interrupt()` is asked after every chunk until it says that it has done its work."""
    from search import search

    from purerl.sweep.run import ray_executor

    done = []

    def progress(event):
        if event.phase == "train" and not done and interrupt():
            done.append(event)

    result = search(executor=ray_executor.on_ray(address), progress=progress)
    assert done
    return result


def test_ray_does_every_block_once_also_when_a_worker_is_killed(ray, alone):
    def kill_a_worker():
        workers = ray_workers()
        for worker in workers[:1]:
            os.kill(worker, signal.SIGKILL)
        return bool(workers)

    check_equal(search_on_ray(None, kill_a_worker), alone)


def test_ray_does_every_block_once_also_when_a_raylet_is_killed(ray, alone):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    raylet = second.all_processes["raylet"][0].process.pid

    def kill_the_second_raylet():
        at_work = [worker for worker in ray_workers() if parent(worker) == raylet]
        if at_work:
            cluster.remove_node(second, allow_graceful=False)
        return bool(at_work)

    try:
        ray.init(cluster.address, log_to_driver=False)
        check_equal(search_on_ray(None, kill_the_second_raylet), alone)
        assert not pathlib.Path(f"/proc/{raylet}/exe").exists()
    finally:
        ray.shutdown()
        cluster.shutdown()


def ray_workers():
    """Processes of Ray that run blocks; each is a child of its raylet."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            name = path.read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue
        if name.startswith("ray::_run"):
            found.append(int(path.parent.name))
    return found


def parent(process):
    return int(pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])

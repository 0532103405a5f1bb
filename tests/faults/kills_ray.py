"""Kill nodes and workers of a Ray cluster of two nodes while a search runs on it, and compare its results.

    python tests/faults/kills_ray.py [--kills 20] [--seed 0]

Each search (31 blocks, halving, fresh seeds) loses the raylet of the second node, with its workers, or one worker, at a
random block; then another second node joins. Its returns, curves and fresh returns must be those without Ray.
"""

# ruff: noqa: E402 (Ray's workers inherit the environment)

import argparse
import os
import pathlib
import random
import signal
import sys
import time

TESTS = pathlib.Path(__file__).parents[1]
HELPERS = [str(TESTS / "processes"), str(TESTS / "helpers")]
sys.path[:0] = [*HELPERS, str(TESTS / "sweep" / "run")]
os.environ["PYTHONPATH"] = os.pathsep.join([*HELPERS, os.environ.get("PYTHONPATH", "")])
os.environ["JAX_NUM_CPU_DEVICES"] = "1"

import numpy as np
import ray
from ray.cluster_utils import Cluster
from search import search
from test_machines import check_equal, parent, ray_workers

from purerl.sweep.run import ray_executor


def killed_search(cluster, node, raylet, kind, after):
    """A search of which the node, or one of its workers, is killed once `after` chunks have ended; how it went."""
    chunks, done = [], []

    def progress(event):
        if event.phase != "train" or done:
            return
        chunks.append(event)
        mine = [worker for worker in ray_workers() if parent(worker) == raylet]
        if len(chunks) >= after and mine:
            done.append(len(chunks))
            if kind == "node":
                cluster.remove_node(node, allow_graceful=False)
            else:
                os.kill(mine[0], signal.SIGKILL)

    return search(executor=ray_executor.on_ray(), progress=progress), done


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    alone, rng, kills = search(), random.Random(options.seed), {"node": 0, "worker": 0}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(cluster.address, log_to_driver=False)
    node = None
    while sum(kills.values()) < options.kills:
        node = cluster.add_node(num_cpus=1) if node is None else node
        cluster.wait_for_nodes()
        raylet, kind = node.all_processes["raylet"][0].process.pid, rng.choice(("node", "node", "worker"))
        begun = time.monotonic()
        result, done = killed_search(cluster, node, raylet, kind, rng.randrange(1, 6))
        check_equal(result, alone)
        if done and kind == "node":
            assert not pathlib.Path(f"/proc/{raylet}/exe").exists()
            node = None
        kills[kind] += len(done)
        print(f"{kind} lost after {done or 'no'} chunks, equal, {time.monotonic() - begun:.0f} s", flush=True)
    ray.shutdown()
    cluster.shutdown()
    print(f"{kills['node']} nodes and {kills['worker']} workers killed: returns, curves and fresh returns are equal")
    np.testing.assert_array_equal(search().returns, alone.returns)


if __name__ == "__main__":
    main()

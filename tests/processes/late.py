"""One of two processes, of which process 1 comes late to one point: `late.py PORT PROCESS POINT SECONDS`."""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from purerl import distributed
from purerl.distributed import mesh
from purerl.sweep.run import packing

DEVICES = 4  # of both processes


def spread():
    """An array whose parts are on the devices of both processes."""
    sharding = distributed.population_sharding(DEVICES)
    return packing.unpack(np.arange(DEVICES), jnp.arange(DEVICES), sharding)


def wait_for_all(late):
    late()
    distributed.wait_for_all()
    return 0


def from_main(late):
    late()
    return int(distributed.from_main(np.int32(7 + jax.process_index())))


def to_host(late):
    array = spread()
    late()
    return distributed.to_host(array).tolist()


def data_parallel(late):
    with distributed.data_parallel():
        late()
        return int(jax.jit(lambda x: mesh.whole(mesh.split(x).sum()))(jnp.arange(DEVICES)).addressable_data(0))


def population(late):
    from population import SIZE, Hparams, advance, program, start

    each = program()
    state = start(jax.random.key(0), each, Hparams(), population_size=SIZE, num_envs=2)
    late()
    return distributed.to_host(advance(state, each, num_rounds=2)[1].parents).shape


POINTS = {each.__name__: each for each in (wait_for_all, from_main, to_host, data_parallel, population)}


def main(port, process, point, seconds):
    jax.config.update("jax_num_cpu_devices", DEVICES // 2)
    distributed.initialize(f"localhost:{port}", 2, int(process))
    print("found", POINTS[point](lambda: time.sleep(float(seconds) * int(process))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

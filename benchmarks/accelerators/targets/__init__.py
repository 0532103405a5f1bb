"""The accelerators that programs are compiled for, and the constants of the modelled time."""

from __future__ import annotations

import pathlib
from typing import Any, NamedTuple

HERE = pathlib.Path(__file__).parent


class Target(NamedTuple):
    """An accelerator that need not be there.

    Attributes:
      name: as on the command line.
      platform: for lowering, "cuda" or "tpu".
      num_devices: how many of them one program may use here.
      packages: what its environment needs beside purerl, `{jax}` being the version of jax.
      bare_packages: the same, installed without their dependencies.
      variables: of its environment.
      memory: bytes of one device.
      bandwidth: bytes per second between a device and its memory.
      peak: floating-point operations per second of matrix products.
      launch_seconds: what the start of a kernel costs.
      wait_seconds: what it costs that the host fetches a value before it can launch more.
    """

    name: str
    platform: str
    num_devices: int
    packages: tuple[str, ...]
    bare_packages: tuple[str, ...]
    variables: dict[str, str]
    memory: float
    bandwidth: float
    peak: float
    launch_seconds: float
    wait_seconds: float


H100 = Target(
    name="h100",
    platform="cuda",
    num_devices=8,
    packages=(),
    bare_packages=("jax-cuda12-plugin=={jax}", "jax-cuda12-pjrt=={jax}"),
    variables={"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"},
    memory=80e9,
    bandwidth=3.35e12,
    peak=495e12,  # TensorFloat-32, dense
    launch_seconds=3e-6,
    wait_seconds=15e-6,
)
V5E = Target(
    name="v5e",
    platform="tpu",
    num_devices=4,
    packages=("jax[tpu]=={jax}",),
    bare_packages=(),
    variables={
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
    },
    memory=16e9,
    bandwidth=819e9,
    peak=197e12,  # bfloat16, which float32 products are made of by default
    launch_seconds=1e-6,  # a guess: a TPU runs the whole program by itself, an operation of it takes about so long
    wait_seconds=0.0,
)
TARGETS = {target.name: target for target in (H100, V5E)}


def devices(target: Target) -> list[Any]:
    """Devices to compile for. Call it in the target's environment."""
    if target.platform == "tpu":
        from jax.experimental import topologies

        return list(topologies.get_topology_desc("v5e:2x2", platform="tpu").devices)
    return _gpus(target.num_devices)


def _gpus(count: int) -> list[Any]:
    import contextlib
    import logging

    import jax
    from jax._src import xla_bridge

    logging.getLogger("jax._src.xla_bridge").setLevel(logging.CRITICAL)  # the second registration fails, harmlessly
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        xla_bridge.discover_pjrt_plugins()
    topology = xla_bridge.make_pjrt_topology(
        "cuda",
        "NVIDIA H100 80GB HBM3",
        target_config=(HERE / "h100.txtpb").read_text(),
        topology=f"1x1x{count}",
    )
    return list(topology._make_compile_only_devices())

"""The accelerators that programs are compiled for without one, and the constants of the modelled time."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
import pathlib
import re
from typing import Any, NamedTuple

HERE = pathlib.Path(__file__).parent


class Target(NamedTuple):
    """An accelerator that need not be there.

    Attributes:
      name: as on the command line.
      label: as people call it.
      platform: for lowering, "cuda" or "tpu".
      num_devices: how many of them one program may use here.
      compiler: the packages that compile for it, `{jax}` being the version of jax.
      bare: whether these are installed without their dependencies.
      variables: of the environment, set before JAX looks for devices.
      memory: bytes of one device.
      bandwidth: bytes per second between a device and its memory.
      peak: floating-point operations per second of matrix products.
      launch_seconds: the cost of starting one kernel.
      wait_seconds: the cost of fetching a value to the host before it can launch more.
    """

    name: str
    label: str
    platform: str
    num_devices: int
    compiler: tuple[str, ...]
    bare: bool
    variables: dict[str, str]
    memory: float
    bandwidth: float
    peak: float
    launch_seconds: float
    wait_seconds: float


H100 = Target(
    name="h100",
    label="NVIDIA H100 80GB HBM3",
    platform="cuda",
    num_devices=8,
    compiler=("jax-cuda12-plugin=={jax}", "jax-cuda12-pjrt=={jax}"),
    bare=True,
    variables={"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1", "TF_CPP_MIN_LOG_LEVEL": "1"},  # 1: no news, only warnings
    memory=80e9,
    bandwidth=3.35e12,
    peak=495e12,  # TensorFloat-32, dense
    launch_seconds=3e-6,
    wait_seconds=15e-6,
)
H200 = H100._replace(name="h200", label="NVIDIA H200", memory=141e9, bandwidth=4.8e12)
V5E = Target(
    name="v5e",
    label="TPU v5e",
    platform="tpu",
    num_devices=4,
    compiler=("jax[tpu]=={jax}",),
    bare=False,
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
TARGETS = {target.name: target for target in (H100, H200, V5E)}
ALIASES = {"gpu": "h100", "tpu": "v5e"}


def devices(target: Target) -> list[Any]:
    """Devices to compile for; nothing runs on them.

    Raises:
      ModuleNotFoundError: the packages that compile for them are missing; the message says how to install them.
    """
    return list(_devices(target.name))


@functools.cache
def _devices(name: str) -> tuple[Any, ...]:
    target = TARGETS[name]
    if not _installed(target):
        raise ModuleNotFoundError(_how_to_install(target))
    os.environ.update({name: value for name, value in target.variables.items() if name not in os.environ})
    return tuple(_tpus() if target.platform == "tpu" else _gpus(target))


def _tpus() -> list[Any]:
    from jax.experimental import topologies

    return list(topologies.get_topology_desc("v5e:2x2", platform="tpu").devices)


def _gpus(target: Target) -> list[Any]:
    import jax
    from jax._src import xla_bridge

    logging.getLogger("jax._src.xla_bridge").setLevel(logging.CRITICAL)  # the second registration fails, harmlessly
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        xla_bridge.discover_pjrt_plugins()
    topology = xla_bridge.make_pjrt_topology(
        "cuda", target.label, target_config=_configuration(target), topology=f"1x1x{target.num_devices}"
    )
    return list(topology._make_compile_only_devices())


def _configuration(target: Target) -> str:
    """XLA's description of a Hopper GPU, with the target's own memory, bandwidth and name."""
    text = (HERE / "h100.txtpb").read_text()
    if target.name == "h100":
        return text
    text = re.sub(r"device_memory_size: \d+", f"device_memory_size: {target.memory:.0f}", text)
    text = re.sub(r"memory_bandwidth: \d+", f"memory_bandwidth: {target.bandwidth:.0f}", text)
    return text.replace(H100.label, target.label)


def _installed(target: Target) -> bool:
    return importlib.util.find_spec("libtpu" if target.platform == "tpu" else "jax_cuda12_plugin") is not None


def _how_to_install(target: Target) -> str:
    import jax

    packages = " ".join(f"'{name.format(jax=jax.__version__)}'" for name in target.compiler)
    return (
        f"compiling for {target.name} without one needs its compiler, in an environment of its own: "
        f"pip install {'--no-deps ' * target.bare}{packages}"
    )

"""Set-up that all tests share."""

import os
import pathlib
import tempfile

# The programs of tests are small, so most of the time goes to compiling. Less optimized programs compile in half the
# time, and the persistent cache lets the workers and later runs share them.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(tempfile.gettempdir()) / "purerl-test-programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import pytest

import purerl


@pytest.fixture(scope="session")
def cartpole():
    return purerl.envs.make("CartPole-v1")

"""What many tests share."""

import os

# The programs of tests are small: compiling them is most of the time, and less optimised ones are sooner compiled.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

import pytest

import purerl


@pytest.fixture(scope="session")
def cartpole():
    return purerl.envs.make("CartPole-v1")

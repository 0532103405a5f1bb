"""One compile cache for the whole run, and small things that many tests share."""

import jax
import pytest

import purerl


@pytest.fixture(scope="session")
def cartpole():
    return purerl.envs.make("CartPole-v1")


@pytest.fixture(scope="session")
def key():
    return jax.random.key(0)

"""What many tests share."""

import pytest

import purerl


@pytest.fixture(scope="session")
def cartpole():
    return purerl.envs.make("CartPole-v1")

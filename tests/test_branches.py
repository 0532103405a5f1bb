"""Programs for CPUs alone, and for any platform."""

import jax
import pytest

import purerl
from purerl import branches

ENV = purerl.envs.probe()
DQN = purerl.dqn(purerl.networks.q_network(ENV, hidden=(4,)))
AGENT = purerl.combinators.with_replay(DQN, capacity=16, batch_size=4)
SIZES = {"num_updates": 2, "num_envs": 2, "rollout_length": 2}


def train(key):
    return purerl.train(key, AGENT, ENV, purerl.DQNHparams(), **SIZES)


def evaluate(key):
    state = AGENT.init(key, purerl.DQNHparams(), ENV.reset(key)[0])
    return purerl.evaluate(key, AGENT, ENV, state, num_episodes=2, max_steps=3)


def test_a_process_with_cpus_alone_traces_only_their_branches():
    """And so takes two thirds of the time to trace."""
    assert "platform_index" not in str(jax.make_jaxpr(train)(jax.random.key(0)))


@pytest.mark.parametrize("function", [train, evaluate])
def test_a_program_for_any_platform_has_the_branches_of_accelerators(function):
    """In a context that was entered before the loops are called."""
    with branches.for_any_platform():
        assert "platform_index" in str(jax.make_jaxpr(function)(jax.random.key(0)))


def test_a_program_for_cpus_alone_can_be_lowered_for_another_platform():
    """It computes there what it does on a CPU."""
    lowered = jax.jit(train).trace(jax.random.key(0)).lower(lowering_platforms=("cuda",))
    assert "stablehlo.while" in lowered.as_text()


def test_contexts_do_not_share_programs():
    """JAX's caches are kept by them."""

    @jax.jit
    def which(x):
        return branches.dependent(x, cpu=lambda x: x + 1, default=lambda x: x + 2)

    def traced():
        return "platform_index" in str(jax.make_jaxpr(which)(1.0))

    with branches.for_this_process():
        inside = traced()
    assert (inside, traced()) == (False, True)

"""Building twice from the same arguments gives one object, which compiles once."""

import warnings

import jax
import numpy as np
import pytest

import purerl
from purerl import presets
from purerl.once import build_once

ENV = purerl.envs.make("CartPole-v1")


def network():
    return purerl.networks.actor_critic(ENV, hidden=(4,))


@build_once
def pair(first, *rest, last=None):
    """A pair."""
    return object()


@pytest.mark.parametrize(
    "other", [((1, 2), {"last": 3}), ((2, 1), {"last": 3}), ((1.0,), {}), ((True,), {}), ((1,), {"last": 0.0})]
)
def test_other_arguments_build_another(other):
    args, kwargs = other
    assert pair(1) is pair(1, last=None)
    assert pair(*args, **kwargs) is not pair(1)


@pytest.mark.parametrize("array", [np.zeros(2), jax.numpy.zeros(2), [1]])
def test_arguments_without_a_hash_are_taken_and_build_anew(array):
    assert pair(array) is not pair(array)


def test_a_wrong_argument_is_refused_in_the_words_of_the_function():
    with pytest.raises(TypeError, match=r"ppo\(\) got an unexpected keyword argument 'epochs'"):
        purerl.ppo(network(), epochs=2)


def test_a_value_that_is_refused_is_refused_again():
    for _ in range(2):
        with pytest.raises(ValueError, match="num_epochs"):
            purerl.ppo(network(), num_epochs=0)


def test_arguments_that_are_traced_are_not_remembered():
    same = []
    jax.jit(lambda x: same.append(pair(x) is pair(x)))(1.0)
    assert same == [False]


ALGORITHMS = [name for name, algorithm in presets.ALGORITHMS.items() if not algorithm.offline]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_agent_that_is_built_again_is_the_same(name):
    env_id = "CartPole-v1" if "Discrete" in presets.algorithm(name).actions else "Pendulum-v1"
    env = purerl.envs.make(env_id)

    def build():
        return presets.build(presets.find(name, env_id, env), presets.environment(name, env))

    assert build() == build()


@pytest.mark.parametrize("name", [name for name in purerl.combinators.__all__ if name.startswith("with_")])
def test_a_combinator_gives_the_same_agent_again(name):
    rest = {
        "with_replay": {"capacity": 8, "batch_size": 2},
        "with_minibatches": {"batch_size": 2},
        "with_sampler": {"draw": purerl.rollout},
        "with_shared_policy": {"num_agents": 2},
        "with_separate_policies": {"num_agents": 2},
    }
    agent = purerl.dqn(purerl.networks.q_network(ENV)) if name == "with_replay" else purerl.actor_critic(network())
    combine = getattr(purerl.combinators, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert combine(agent, **rest.get(name, {})) == combine(agent, **rest.get(name, {}))


def test_every_public_factory_of_agents_builds_once():
    public = [getattr(module, name) for module in (purerl, purerl.rlhf, purerl.combinators) for name in module.__all__]
    factories = [each for each in public if getattr(each, "__annotations__", {}).get("return") == "Agent"]
    assert len(factories) > 40
    assert [each.__name__ for each in factories if not hasattr(each, "__wrapped__")] == []


def test_training_an_agent_that_was_built_again_compiles_nothing():
    compiled = []
    sizes = {"num_updates": 2, "num_envs": 2, "rollout_length": 3}

    def listen(name, seconds, **about):
        if name.endswith("backend_compile_duration"):
            compiled.append(about)

    def train(seed):
        agent = purerl.actor_critic(network(), num_steps=3)
        return purerl.train(jax.random.key(seed), agent, ENV, purerl.ActorCriticHparams(), **sizes)

    train(0)
    jax.monitoring.register_event_duration_secs_listener(listen)
    train(1)
    jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled

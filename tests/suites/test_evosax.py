"""Strategies of evosax as agents, beside its own loop and on CartPole."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import purerl
from purerl import envs, loops, networks
from purerl.agents.ask_tell import AskTellHparams, from_evosax

algorithms = pytest.importorskip("evosax.algorithms")
ENV = envs.make("CartPole-v1")
NETWORK = networks.actor_critic(ENV, hidden=(), shared_torso=True)
SOLUTION = NETWORK.init(jax.random.key(0), jnp.zeros(4))


def test_a_generation_is_that_of_its_own_loop():
    """The candidates that the agent plays are those of `ask`, and its next search that of `tell` with their returns."""
    strategy = algorithms.CMA_ES(population_size=8, solution=SOLUTION)
    agent = from_evosax(NETWORK, strategy)
    state = agent.init(jax.random.key(1), AskTellHparams(), jnp.zeros(4))
    actors = loops.init_actors(jax.random.key(2), agent, ENV, state, num_envs=8)
    _, data = loops.rollout_episodes(jax.random.key(3), agent, ENV, state, actors, length=500)
    new, _ = agent.update(jax.random.key(4), state, data)
    for ours, theirs in zip(jax.tree.leaves(data.memory), jax.tree.leaves(state.population)):
        np.testing.assert_array_equal(ours, theirs)
    returns = (data.reward * data.mask).sum(axis=0)
    tell_key, ask_key = jax.random.split(jax.random.key(4))
    search, _ = strategy.tell(tell_key, state.population, -returns, state.search, strategy.default_params)
    population, _ = strategy.ask(ask_key, search, strategy.default_params)
    for ours, theirs in zip(jax.tree.leaves(new.population), jax.tree.leaves(population)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: algorithms.CMA_ES(population_size=32, solution=SOLUTION),
        lambda: algorithms.SNES(population_size=32, solution=SOLUTION),
        lambda: algorithms.Open_ES(
            population_size=32, solution=SOLUTION, optimizer=optax.adam(0.1),
            std_schedule=optax.constant_schedule(0.5),
        ),
    ],
    ids=["CMA_ES", "SNES", "Open_ES"],
)  # fmt: skip
def test_cartpole_is_learned(make):
    agent = from_evosax(NETWORK, make())
    sizes = {"num_updates": 40, "num_envs": 32, "rollout_length": 500, "rollout": loops.rollout_episodes}
    state, _ = purerl.train(jax.random.key(0), agent, ENV, AskTellHparams(), **sizes)
    played = purerl.evaluate(jax.random.key(5), agent, ENV, state, num_episodes=32, max_steps=500)
    print(played.episode_return.mean())
    assert played.episode_return.mean() > 400

"""A strategy that asks and tells as an agent: who plays what, and what is told."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from flax import struct

import purerl
from purerl import loops
from purerl.agents.ask_tell import AskTellHparams, from_evosax
from purerl.distributions import categorical
from purerl.spaces import Box, Discrete
from purerl.types import Env, EnvStep, Transition


@struct.dataclass
class Settings:
    spread: Any = 1.0


@struct.dataclass
class Search:
    mean: Any
    told: Any
    fitness: Any
    generation: int


class Best:
    """Candidates at -2, -1, 1 and 2 times `spread` around the mean, which moves to the best of them."""

    population_size, default_params = 4, Settings()

    def init(self, key, mean, params):
        none = jnp.zeros(4)
        return Search(mean, jax.tree.map(lambda leaf: jnp.zeros((4, *leaf.shape)), mean), none, 0)

    def ask(self, key, state, params):
        steps = params.spread * jnp.array([-2.0, -1.0, 1.0, 2.0])
        return jax.tree.map(lambda leaf: leaf + steps, state.mean), state

    def tell(self, key, population, fitness, state, params):
        best = jax.tree.map(lambda leaf: leaf[fitness.argmin()], population)
        return Search(best, population, fitness, state.generation + 1), {}

    def get_mean(self, state):
        return state.mean


class Hparams(NamedTuple):
    spread: float = 1.0


class Number:
    """A policy of one parameter, whose action 1 is taken where it is positive."""

    def init(self, key, obs):
        return {"number": jnp.float32(-1.0)}

    def apply(self, params, obs):
        return categorical(jnp.stack([jnp.float32(0), params["number"]])), jnp.float32(0)


def env():
    """Two steps, each paid the action; observations are nothing."""

    def step(key, time, action, env_params=None):
        return EnvStep(jnp.zeros(1), time + 1, action * 1.0, time >= 1, jnp.bool_(False))

    return Env(lambda key, env_params=None: (jnp.zeros(1), jnp.int32(0)), step, Box(0.0, 1.0, (1,)), Discrete(2))


ENV, AGENT = env(), from_evosax(Number(), Best())
SIZES = {"num_envs": 4, "rollout_length": 2, "rollout": loops.rollout_episodes}


def test_each_environment_plays_a_candidate_and_its_negative_return_is_told():
    state, metrics = purerl.train(jax.random.key(0), AGENT, ENV, AskTellHparams(), num_updates=1, **SIZES)
    assert state.search.told["number"].tolist() == [-3, -2, 0, 1]
    assert state.search.fitness.tolist() == [0, 0, 0, -2]
    assert state.params["number"].item() == 1
    assert (metrics["fitness_mean"].item(), metrics["fitness_max"].item(), state.num_updates.item()) == (0.5, 2, 1)


def test_the_centre_plays_greedily():
    state, _ = purerl.train(jax.random.key(0), AGENT, ENV, AskTellHparams(), num_updates=1, **SIZES)
    played = purerl.evaluate(jax.random.key(1), AGENT, ENV, state, num_episodes=3, max_steps=2)
    assert played.episode_return.tolist() == [2, 2, 2]


def test_hyperparameters_of_the_strategy_are_data_also_in_a_population():
    run = lambda spread: purerl.train(  # noqa: E731
        jax.random.key(0), AGENT, ENV, Hparams(spread), num_updates=2, **SIZES
    )[0].search.told["number"]
    assert jax.vmap(run)(jnp.array([1.0, 0.25])).tolist() == [[-1, 0, 2, 3], [-2, -1.75, -1.25, -1]]


def test_what_it_refuses():
    with pytest.raises(ValueError, match="Best has no hyperparameter 'learning_rate'"):
        AGENT.init(jax.random.key(0), purerl.PPOHparams(), jnp.zeros(1))
    state = AGENT.init(jax.random.key(0), AskTellHparams(), jnp.zeros(1))
    memory = jax.vmap(AGENT.memory, (0, None))(jax.random.split(jax.random.key(1), 3), state)
    ones, never = jnp.ones((1, 3)), jnp.zeros((1, 3), bool)
    data = Transition((), (), ones, never, never, (), memory=memory, mask=ones)
    with pytest.raises(ValueError, match="num_envs = 3 must be the strategy's population_size, 4"):
        AGENT.update(jax.random.key(0), state, data)
    with pytest.raises(ValueError, match="from_evosax needs whole episodes"):
        AGENT.update(jax.random.key(0), state, data._replace(mask=()))

"""An agent and an environment with closed-form runs, which are an oracle for a whole search.

An episode lasts EPISODE steps and shows its goal g ~ 0.3 + 0.1 N(0, 1); an action a is worth 1 - (a - g)². The agent's
action is its parameter θ, and an update moves it: θ <- θ + learning_rate (target - θ). So after n updates

    θ = target + (θ₀ - target) (1 - learning_rate)ⁿ,      return = Σ 1 - (θ - g)².
"""

import collections
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.hparams import UnitInterval
from purerl.spaces import Box
from purerl.types import Agent, Env, EnvStep

EPISODE = 4


class Hparams(NamedTuple):
    learning_rate: UnitInterval = 0.5
    target: float = 0.3
    spread: int = 1


class Learner(NamedTuple):
    theta: jax.Array
    hparams: Hparams
    nothing: jax.Array  # without elements, as the state of an optimizer of no parameters


def make_env():
    def reset(key, env_params=None):
        goal = 0.3 + 0.1 * jax.random.normal(key)
        return goal, (goal, jnp.int32(0))

    def step(key, env_state, action, env_params=None):
        goal, count = env_state
        count += 1
        reward = 1 - (action - goal) ** 2
        return EnvStep(goal, (goal, count), reward, count >= EPISODE, jnp.bool_(False))

    return Env(reset, step, Box(-10.0, 10.0), Box(-10.0, 10.0))


def make_agent(traced=None):
    """`traced`: a Counter of how often each function was traced."""
    traced = collections.Counter() if traced is None else traced

    def init(key, hparams, example, num_envs=1):
        traced["init"] += 1
        return Learner(0.1 * hparams.spread * jax.random.normal(key), hparams, jnp.zeros(0))

    def act(key, state, obs):
        return state.theta, ()

    def update(key, state, data):
        traced["update"] += 1
        theta = state.theta + state.hparams.learning_rate * (state.hparams.target - state.theta)
        return state._replace(theta=theta), {}

    return Agent(init, act, update)

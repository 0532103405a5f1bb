"""A finite MDP as an environment to be sampled, so that a learner can be compared with the MDP's exact solution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.envs import pictures
from purerl.hparams import check_positive
from purerl.mdp import MDP, check
from purerl.spaces import Discrete
from purerl.types import Env, EnvStep, Key


class MDPState(NamedTuple):
    """Progress of an episode.

    Attributes:
      state: int32, the MDP's state.
      time: int32, steps taken in this episode.
    """

    state: jax.Array
    time: jax.Array


def from_mdp(mdp: MDP, max_steps: int, layout: Sequence[str] | None = None) -> Env:
    """The MDP as an environment: the observation is the state's number, int32.

    The environment's parameters are an MDP too: `env_params=None` is the given one, another of the same shape replaces
    it without compiling again, and a stack of them can be vmapped over. Pass a very large MDP as `env_params`, because
    the one given here becomes a constant of the compiled program.

    Args:
      mdp: outcome lists [S, A, K].
      max_steps: number of steps after which an episode that has not ended is truncated.
      layout: rows of text, as `mdp.gridworld` takes them, from which `render` draws; None draws numbered cells.

    Returns:
      `Env` with `Discrete(S)` observations and `Discrete(A)` actions, which are not validated.

    Raises:
      ValueError: the MDP is malformed (see `purerl.mdp.check`) or `max_steps` is not a positive integer;
        `layout` has another number of cells than the MDP has states;
        when called with it, `env_params` has another shape.

    Examples:
      >>> from purerl import mdp
      >>> env = from_mdp(mdp.gridworld(["S+"]), max_steps=10)
      >>> env.observation_space.n, env.action_space.n
      (2, 4)
    """
    check_positive(max_steps=max_steps)
    given = check(mdp)
    num_states, num_actions, _ = shape = given.next_state.shape

    def params(env_params: MDP | None) -> MDP:
        if env_params is None:
            return given
        if env_params.next_state.shape != shape:
            raise ValueError(f"env_params must be an MDP of shape {shape}, got {env_params.next_state.shape}")
        return env_params

    def reset(key: Key, env_params: MDP | None = None) -> tuple[jax.Array, MDPState]:
        cumulative = _cumulative(params(env_params).initial)
        state = jnp.searchsorted(cumulative, jax.random.uniform(key) * cumulative[-1], side="right")
        state = state.astype(jnp.int32)
        return state, MDPState(state, jnp.zeros((), jnp.int32))

    def step(key: Key, env_state: MDPState, action: jax.Array, env_params: MDP | None = None) -> EnvStep:
        outcomes = params(env_params)
        at = (env_state.state, action)
        k = _first_above(jax.random.uniform(key), outcomes.probability[at])
        state, time = outcomes.next_state[at][k], env_state.time + 1
        terminated = outcomes.terminated[at][k]
        reward = outcomes.reward[at][k].astype(jnp.float32)
        return EnvStep(state, MDPState(state, time), reward, terminated, ~terminated & (time >= max_steps))

    draw = pictures.of_mdp(num_states, layout)
    return Env(reset, step, Discrete(num_states), Discrete(num_actions), render=draw, max_steps=max_steps)


def _cumulative(probability: jax.Array) -> jax.Array:
    """The cumulative sum [N], which rises nowhere that the probability is 0, and never falls; rounded sums may."""
    return jax.lax.cummax(jnp.where(probability > 0, jnp.cumsum(probability), 0))


def _first_above(uniform: jax.Array, probability: jax.Array) -> jax.Array:
    """The first event of a probability above 0 whose cumulative sum exceeds `uniform` times the total.

    The event that a search in `_cumulative` finds; over a few events this is several times faster.
    """
    cumulative = jnp.where(probability > 0, jnp.cumsum(probability), 0)  # [K]
    event = jnp.arange(len(cumulative))
    return jnp.min(jnp.where(cumulative > uniform * cumulative.max(), event, len(cumulative) - 1))

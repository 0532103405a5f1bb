"""Pgx: board and card games, and MinAtar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs import drawings, pictures
from purerl.envs.families import Family, check_member
from purerl.spaces import Box, Dict, Discrete, Space
from purerl.types import Env, EnvStep, Key, PyTree, RenderFn

Environment: TypeAlias = Any
"""A `pgx.Env`."""
Opponent: TypeAlias = Callable[[Key, PyTree], jax.Array]
"""`(key, state) -> action` of the player to move, from a `pgx.State`: its `observation`, `legal_action_mask`, ..."""


def random_player(key: Key, state: PyTree) -> jax.Array:
    """An action drawn uniformly from those that `state.legal_action_mask` allows."""
    return jax.random.categorical(key, jnp.where(state.legal_action_mask, 0.0, -jnp.inf))


def one_step_player(env: Environment) -> Opponent:
    """The policy that looks one move ahead: a move that wins at once if there is one, otherwise a random one.

    Among all allowed moves it draws from those with the highest reward to the player who moves.
    """

    def act(key: Key, state: PyTree) -> jax.Array:
        step_key, draw_key = jax.random.split(key)
        moves = jnp.arange(env.num_actions)
        after = jax.vmap(lambda move: env.step(state, move, step_key).rewards[state.current_player])(moves)  # [A]
        after = jnp.where(state.legal_action_mask, after, -jnp.inf)
        return jax.random.categorical(draw_key, jnp.where(after == after.max(), 0.0, -jnp.inf))

    return act


def from_pgx(env: Environment, opponent: Opponent = random_player) -> Env:
    """A game of Pgx against opponents: the agent is player 0, and a step lasts until it is to move again.

        reward = Σ of player 0's rewards over the moves of the step

    Who begins is drawn by the game. Observations are those of the player to move, with `action_mask` of allowed moves;
    a move that is not allowed loses the game. At the end the observation is that of whoever would move next.

    Args:
      env: a `pgx.Env`.
      opponent: the policy of all other players.

    Returns:
      An `Env`. A new one in every call, so keep it: environments compare by identity.
    """

    def others(key: Key, state: PyTree) -> PyTree:
        """The state when player 0 is to move, or the game is over, with the rewards since then added up."""

        def turn(carry: tuple[Key, PyTree]) -> tuple[Key, PyTree]:
            key, state = carry
            key, act_key, step_key = jax.random.split(key, 3)
            new = env.step(state, opponent(act_key, state), step_key)
            return key, new.replace(rewards=state.rewards + new.rewards)

        def waiting(carry: tuple[Key, PyTree]) -> jax.Array:
            state = carry[1]
            return (state.current_player != 0) & ~(state.terminated | state.truncated)

        return jax.lax.while_loop(waiting, turn, (key, state))[1]

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        init_key, key = jax.random.split(key)
        state = others(key, env.init(init_key))
        return _observe(state), state

    def step(key: Key, env_state: PyTree, action: jax.Array, env_params: PyTree = None) -> EnvStep:
        step_key, key = jax.random.split(key)
        return _step(others(key, env.step(env_state, action, step_key)), 0)

    return Env(reset, step, *_spaces(env), render=_renderer(env))


def from_pgx_self_play(env: Environment, random_opening: int = 0) -> Env:
    """A game of two players of Pgx in which the agent makes the moves of both in turn.

        reward = that of the player who moved,   observation: that of the player to move next

    The value of a position to one player is minus its value to the other, so a return is Σ (−γ)^t r[t]: plan and train
    with a negative discount, `AlphaZeroHparams(discount=-1.0)`. An agent that was trained on `envs.with_state` of this
    environment also plays in `envs.with_state(from_pgx(env, opponent))`, where it is player 0.

    Once both sides play well, every game is the same one, and nothing is learned about other positions. Games that
    begin with 0 to `random_opening` random moves keep them in the data.

    Args:
      env: a `pgx.Env` of two players who move in turns, with rewards that sum to 0.
      random_opening: largest number of random moves before the first of the agent; the number is drawn uniformly.

    Returns:
      An `Env`. A new one in every call, so keep it: environments compare by identity.

    Raises:
      ValueError: the game has another number of players.
    """
    if env.num_players != 2:
        raise ValueError(f"self-play needs a game of two players, {env.id} has {env.num_players}")

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        if not random_opening:
            state = env.init(key)
        else:
            init_key, opening_key = jax.random.split(key)
            state = _opened(env, opening_key, env.init(init_key), random_opening)
        return _observe(state), state

    def step(key: Key, env_state: PyTree, action: jax.Array, env_params: PyTree = None) -> EnvStep:
        return _step(env.step(env_state, action, key), env_state.current_player)

    return Env(reset, step, *_spaces(env), render=_renderer(env))


def _renderer(env: Environment) -> RenderFn:
    """A function that draws a game as Pgx does; MinAtar, which Pgx does not draw, by its observation."""
    if env.id.startswith("minatar"):
        return lambda env_state: pictures.board(np.asarray(env_state.observation))
    return lambda env_state: drawings.svg(jax.tree.map(jnp.asarray, env_state).to_svg())


def _opened(env: Environment, key: Key, first: PyTree, most: int) -> PyTree:
    """The state after 0 to `most` random moves; the first one if they end the game."""
    count_key, move_key = jax.random.split(key)
    count = jax.random.randint(count_key, (), 0, most + 1)

    def move(i: jax.Array, state: PyTree) -> PyTree:
        act_key, step_key = jax.random.split(jax.random.fold_in(move_key, i))
        new = env.step(state, random_player(act_key, state), step_key)
        return jax.tree.map(lambda new, old: jnp.where(i < count, new, old), new, state)

    state = jax.lax.fori_loop(0, most, move, first)
    over = state.terminated | state.truncated
    return jax.tree.map(lambda first, then: jnp.where(over, first, then), first, state)


def _observe(state: PyTree) -> PyTree:
    return {"obs": state.observation.astype(jnp.float32), "action_mask": state.legal_action_mask}


def _step(state: PyTree, player: int | jax.Array) -> EnvStep:
    reward, truncated = state.rewards[player].astype(jnp.float32), state.truncated & ~state.terminated
    return EnvStep(_observe(state), state, reward, state.terminated, truncated)


def _spaces(env: Environment) -> tuple[Space, Space]:
    board = Box(-float("inf"), float("inf"), tuple(env.observation_shape))
    mask = Box(0, 1, (env.num_actions,), "bool")
    return Dict((("obs", board), ("action_mask", mask))), Discrete(env.num_actions)


def _make(name: str, *, self_play: bool = False, random_opening: int = 0) -> Env:
    import pgx

    check_member("pgx", name, _names())
    game = pgx.make(name)
    return from_pgx_self_play(game, random_opening) if self_play else from_pgx(game)


def _names() -> Sequence[str]:
    import pgx

    return sorted(pgx.available_envs())


FAMILY = Family(_make, _names, "pgx", "pgx", "board and card games", "tic_tac_toe")

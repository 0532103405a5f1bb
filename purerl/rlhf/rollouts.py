"""The rollout of language models: whole completions, or whole conversations, in one trajectory."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.loops.actors import Actors, Finished
from purerl.loops.rollouts import Rollout
from purerl.once import build_once
from purerl.rlhf.generation import Advance, Completions, Writing, append, decoder, write_turn
from purerl.rlhf.tokens import TokenState, place, prompt_mask, reply_size
from purerl.types import Agent, Env, Key, Network, Params, PyTree, State, Transition


class Prompt(NamedTuple):
    """The prompt of every completion: the `memory` of a trajectory of `token_rollout`.

    Attributes:
      tokens: [N, L] int32, padded on the left.
      mask: [N, L] bool, false on padding.
      group: [N, G] int32, the rows whose completions answer the same prompt, the row itself among them.
    """

    tokens: jax.Array
    mask: jax.Array
    group: jax.Array


class Turns(NamedTuple):
    """Conversations of which some turns are finished.

    Attributes:
      writing: where the texts stand.
      state, obs: the environments' states and observations.
      alive: [N] bool, conversations that go on.
      log_prob: [N, C] nats, 0 on what the model did not write.
      reward: [N, C], at the last token of a turn that was paid.
    """

    writing: Writing
    state: TokenState
    obs: PyTree
    alive: jax.Array
    log_prob: jax.Array
    reward: jax.Array


@build_once
def token_rollout(network: Network, *, eos_id: int, pad_id: int, group_size: int = 1) -> Rollout:
    """The rollout of language models, for the keyword `rollout` of `train` on a `token_env`.

    Every environment starts with a fresh prompt and plays one whole episode, generated from the parameters in the
    agent's state: one completion, or all turns of a conversation with the user's replies between them. The environment
    is stepped once per turn, with the turn's last token, so a reward is computed once per turn.

    Args:
      network: the policy's network, the agent's own.
      eos_id, pad_id: as in `token_env`.
      group_size: G; consecutive environments that get the same prompt, as `rloo` and `grpo` need.

    Returns:
      A function with the signature of `loops.rollout`, whose `length` must be C: the environment's `max_length`, or for
      a conversation num_turns · max_length + (num_turns - 1) · reply_length. In its trajectory `obs` and `next_obs`
      are (); `memory` is a `Prompt`, with the group of each completion; the mask counts the model's own tokens;
      `aux["written"]` is true on the user's tokens too.

    Raises:
      ValueError: in use, `rollout_length` is not C, or `num_envs` not a multiple of `group_size`.
    """

    def rollout(
        key: Key, agent: Agent, env: Env, state: State, actors: Actors, /, *, length: int, env_params: PyTree = None
    ) -> tuple[Actors, Transition]:
        num_envs = actors.episode_return.shape[0]
        if num_envs % group_size:
            raise ValueError(f"num_envs = {num_envs} is not a multiple of group_size = {group_size}")
        reset_key, token_key, env_key = jax.random.split(key, 3)
        begun = jax.vmap(env.reset, (0, None))(jax.random.split(reset_key, num_envs // group_size), env_params)
        obs, begun = jax.tree.map(lambda x: jnp.repeat(x, group_size, axis=0), begun)  # [N / G, ...] -> [N, ...]
        if begun.completion.shape[1] != length:
            raise ValueError(f"rollout_length = {length} must be the environment's {begun.completion.shape[1]}")
        begin, advance = decoder(network, _params(state))
        mask = prompt_mask(begun.prompt, pad_id)
        logits, memory = begin(begun.prompt, mask, length)
        start = _start(logits, memory, begun, obs)
        last = _converse((token_key, env_key), env, advance, start, eos_id, pad_id, env_params)
        trajectory = _trajectory(last, Prompt(begun.prompt, mask, _groups(num_envs, group_size)))
        return_sum, counted = jnp.sum(last.reward, axis=1), jnp.sum(last.state.counted, axis=1, dtype=jnp.int32)
        finished = Finished(return_sum, counted, jnp.ones(num_envs, jnp.int32))
        return actors._replace(env_state=last.state, obs=last.obs, finished=finished), trajectory

    return rollout


def _groups(num_envs: int, group_size: int) -> jax.Array:
    """[N, G]: rows in order, G at a time, each group beside every one of its rows."""
    return jnp.repeat(jnp.arange(num_envs, dtype=jnp.int32).reshape(-1, group_size), group_size, axis=0)


def _start(logits: jax.Array, memory: PyTree, begun: TokenState, obs: PyTree) -> Turns:
    """Conversations before their first turn."""
    num_envs, room = begun.completion.shape
    column = jnp.int32(begun.prompt.shape[1])
    if begun.turn_length.shape[1] > 1:  # earlier turns will differ in length, so each text has a column of its own
        column = jnp.full(num_envs, column)
    zeros = jnp.zeros((num_envs, room), jnp.float32)
    return Turns(Writing(logits, memory, column), begun, obs, jnp.ones(num_envs, bool), zeros, zeros)


def _converse(
    keys: tuple[Key, Key], env: Env, advance: Advance, turns: Turns, eos_id: int, pad_id: int, env_params: PyTree
) -> Turns:
    """Play all turns of every conversation."""
    room, num_turns, reply_length = (x.shape[1] for x in (turns.reward, turns.state.turn_length, turns.state.reply))
    max_length = (room - (num_turns - 1) * reply_length) // num_turns

    def turn(turns: Turns, keys: tuple[Key, Key]) -> tuple[Turns, None]:
        writing = _read(advance, turns.writing, turns.state.reply, turns.alive, pad_id)
        writing, out = write_turn(
            keys[0], advance, writing, turns.alive, max_length=max_length, eos_id=eos_id, pad_id=pad_id
        )
        return _finish_turn(keys[1], env, turns._replace(writing=writing), out, env_params), None

    if num_turns == 1:
        return turn(turns, keys)[0]
    return jax.lax.scan(turn, turns, (jax.random.split(keys[0], num_turns), jax.random.split(keys[1], num_turns)))[0]


def _read(advance: Advance, writing: Writing, reply: jax.Array, alive: jax.Array, pad_id: int) -> Writing:
    """The user's reply [N, R] behind the texts that are alive."""
    size = jax.vmap(reply_size, (0, None))(reply, pad_id)
    for i in range(reply.shape[1]):
        writing = append(advance, writing, reply[:, i], alive & (i < size))
    return writing


def _finish_turn(key: Key, env: Env, turns: Turns, out: Completions, env_params: PyTree) -> Turns:
    """Step the environments once, with the last token of the turn [N, T] that was written."""
    state, alive = turns.state, turns.alive
    size = jnp.sum(out.mask, axis=1, dtype=jnp.int32)  # 0 where the conversation had ended before
    last = jnp.maximum(size - 1, 0)
    written = jax.vmap(place)
    before = state._replace(
        completion=written(state.completion, out.tokens, state.length, last),
        counted=written(state.counted, out.mask, state.length, last),
        length=state.length + last,
        turn_length=jax.vmap(lambda x, at, add: x.at[at].add(add))(state.turn_length, state.turn, last),
    )
    final = jnp.take_along_axis(out.tokens, last[:, None], axis=1)[:, 0]
    end = jax.vmap(env.step, (0, 0, 0, None))(jax.random.split(key, alive.shape[0]), before, final, env_params)

    def select(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(alive.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    paid = (jnp.arange(state.completion.shape[1])[None] == (state.length + last)[:, None]) & alive[:, None]
    return Turns(
        writing=turns.writing,
        state=jax.tree.map(select, end.env_state, state),
        obs=jax.tree.map(select, end.obs, turns.obs),
        alive=alive & ~end.terminated,
        log_prob=written(turns.log_prob, out.log_prob, state.length, size),
        reward=jnp.where(paid, end.reward[:, None], turns.reward),
    )


def _trajectory(last: Turns, prompt: Prompt) -> Transition:
    counted = last.state.counted
    columns = jnp.arange(counted.shape[1])
    at_end = columns[None] == jnp.max(jnp.where(counted, columns[None], 0), axis=1, keepdims=True)
    return Transition(
        obs=(),
        action=last.state.completion.T,  # [N, C] -> [C, N]
        reward=last.reward.T,
        terminated=at_end.T,
        truncated=jnp.zeros_like(at_end.T),
        next_obs=(),
        aux={"log_prob": last.log_prob.T, "written": (columns[None] < last.state.length[:, None]).T},
        memory=prompt,
        mask=counted.T.astype(jnp.float32),
    )


def _params(state: State) -> Params:
    return _params(state.agent) if hasattr(state, "agent") else state.params

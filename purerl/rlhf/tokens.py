"""Text generation as an environment: a prompt, then one token per action, then a reward; in one turn or several."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from purerl.hparams import check_positive
from purerl.spaces import Box, Dict, Discrete
from purerl.types import Env, EnvStep, Key, PyTree

_ANY_TOKEN = 2**31 - 1


class Conversation(NamedTuple):
    """Several turns of the model, with a user's reply after each but the last.

    Attributes:
      user: the simulated user, a pure function `(key, tokens [W], mask [W]) -> reply [reply_length]`, padded on the
        right with `pad_id`; `mask` is true on what the model wrote. With `hidden` data of the environment it is
        `(key, tokens, mask, hidden)`. A reply of nothing but padding ends the conversation.
      num_turns: turns of the model at most.
      reply_length: R, longest reply.
      reward_at: "end" pays `reward_fn` once, with the last token; "turn" pays it with the last token of every turn, for
        the text up to there.
    """

    user: Callable[..., jax.Array]
    num_turns: int
    reply_length: int
    reward_at: str = "end"


class TokenState(NamedTuple):
    """An unfinished text: no cache, no logits, only tokens.

    Attributes:
      prompt: [L] int32, padded on the left, so that every completion begins at column L.
      completion: [C] int32, turns and replies without a gap, padded on the right; C = n T + (n - 1) R for n turns of at
        most T tokens with replies of at most R.
      length: int32, tokens of the completion so far.
      counted: [C] bool, the tokens that the model wrote.
      turn: int32, turns finished.
      turn_length: [n] int32, tokens of each turn so far.
      reply: [R] int32, the user's last reply, padded on the right.
      hidden: what the prompt's user and reward know and the model does not see.
    """

    prompt: jax.Array
    completion: jax.Array
    length: jax.Array
    counted: jax.Array
    turn: jax.Array
    turn_length: jax.Array
    reply: jax.Array
    hidden: PyTree = ()


def token_env(
    prompts: ArrayLike,
    reward_fn: Callable[..., jax.Array],
    max_length: int,
    eos_id: int,
    pad_id: int,
    *,
    vocab_size: int | None = None,
    conversation: Conversation | None = None,
    hidden: PyTree = (),
) -> Env:
    """The environment in which a language model acts.

    `reset` draws one of the prompts; an action is the next token; a turn ends with `eos_id` or with its token number
    `max_length`. With its only turn, or the last one of a conversation, the episode terminates, and only then is there
    a reward, `reward_fn(tokens, mask)`.

    Args:
      prompts: [P, L] integers, padded with `pad_id` on either side; moved to the right edge here.
      reward_fn: `(tokens [W], mask [W]) -> scalar` of one text; `mask` is true on what the model wrote, each `eos_id`
        included. With `hidden` data they are its third argument; with `env_params` (a reward model's parameters, say)
        these are the last.
      max_length: T, longest turn.
      eos_id: the token that ends a turn; -1 if none does.
      pad_id: the token that fills up; it must not occur inside a prompt, unless it is `eos_id` and pads on the left.
      vocab_size: number of tokens, for the action space only; None leaves it open.
      conversation: None for one turn.
      hidden: leaves [P, ...], data that go with each prompt and that the model does not see, such as the right answer.

    Returns:
      An environment whose observations are `{"tokens": [W] int32, "mask": [W] bool}`, W = L + C, the mask true on
      everything but padding. `token_rollout` generates with a cache; the ordinary rollouts work too, and run the
      network over the whole text for every token.

    Raises:
      ValueError: `prompts` is not a table, one of them is empty (its index is named), `hidden` does not lead with [P],
        or a size is not positive.

    Examples:
      >>> env = token_env([[5, 6]], lambda tokens, mask: jnp.sum(mask), 3, eos_id=0, pad_id=1)
      >>> obs, state = env.reset(jax.random.key(0))
      >>> step = env.step(jax.random.key(1), state, 7)
      >>> step.obs["tokens"].tolist(), bool(step.terminated)
      ([5, 6, 7, 1, 1], False)
      >>> step = env.step(jax.random.key(1), step.env_state, 0)
      >>> float(step.reward), bool(step.terminated)
      (2.0, True)
    """
    check_positive(max_length=max_length)
    talk = conversation or Conversation(_silent_user(pad_id), 1, 0)
    _check_conversation(talk)
    table = jnp.asarray(pad_left(prompts, pad_id, inside_allowed=pad_id == eos_id >= 0))
    hidden = jax.tree.map(jnp.asarray, hidden)
    if any(leaf.shape[:1] != table.shape[:1] for leaf in jax.tree.leaves(hidden)):
        raise ValueError(f"every leaf of hidden must lead with the {table.shape[0]} prompts")
    rules = _Rules(table, hidden, reward_fn, talk, max_length, eos_id, pad_id)
    width = table.shape[1] + rules.room
    observation_space = Dict((("tokens", Box(0, _ANY_TOKEN, (width,), "int32")), ("mask", Box(0, 1, (width,), "bool"))))
    actions = Discrete(vocab_size or _ANY_TOKEN)
    return Env(functools.partial(_reset, rules), functools.partial(_step, rules), observation_space, actions)


class _Rules(NamedTuple):
    """The arguments of `token_env`, checked."""

    table: jax.Array
    hidden: PyTree
    reward_fn: Callable[..., jax.Array]
    talk: Conversation
    max_length: int
    eos_id: int
    pad_id: int

    @property
    def room(self) -> int:
        """C, the longest completion."""
        return self.talk.num_turns * self.max_length + (self.talk.num_turns - 1) * self.talk.reply_length


def _reset(rules: _Rules, key: Key, env_params: PyTree = None) -> tuple[dict[str, jax.Array], TokenState]:
    row = jax.random.randint(key, (), 0, rules.table.shape[0])
    state = TokenState(
        prompt=rules.table[row],
        completion=jnp.full(rules.room, rules.pad_id, jnp.int32),
        length=jnp.int32(0),
        counted=jnp.zeros(rules.room, bool),
        turn=jnp.int32(0),
        turn_length=jnp.zeros(rules.talk.num_turns, jnp.int32),
        reply=jnp.full(rules.talk.reply_length, rules.pad_id, jnp.int32),
        hidden=jax.tree.map(lambda leaf: leaf[row], rules.hidden),
    )
    return _observe(rules, state), state


def _step(rules: _Rules, key: Key, env_state: TokenState, action: jax.Array, env_params: PyTree = None) -> EnvStep:
    talk = rules.talk
    action = jnp.asarray(action, jnp.int32)
    state = _write(env_state, action)
    turn_over = (action == rules.eos_id) | (state.turn_length[state.turn] == rules.max_length)
    seen = _view(rules, state)
    extra = () if env_params is None else (env_params,)
    reward = jnp.asarray(rules.reward_fn(*seen, *extra), jnp.float32)
    reply, size = state.reply, jnp.int32(0)
    if talk.num_turns > 1:
        reply = jnp.asarray(talk.user(key, *seen), jnp.int32)
        size = jnp.where(turn_over & (state.turn + 1 < talk.num_turns), reply_size(reply, rules.pad_id), 0)
    terminated = turn_over & (size == 0)
    reply = jnp.where(jnp.arange(talk.reply_length) < size, reply, rules.pad_id)
    state = _read(state, reply, size, turn_over)
    paid = turn_over if talk.reward_at == "turn" else terminated
    return EnvStep(_observe(rules, state), state, jnp.where(paid, reward, 0.0), terminated, jnp.bool_(False))


def _observe(rules: _Rules, state: TokenState) -> dict[str, jax.Array]:
    tokens, mask = text(state, rules.pad_id)
    return {"tokens": tokens, "mask": mask}


def _view(rules: _Rules, state: TokenState) -> tuple[PyTree, ...]:
    """Arguments of reward and user: the tokens, which of them the model wrote, and the hidden data if there are any."""
    counted = jnp.concatenate([jnp.zeros(state.prompt.shape, bool), state.counted])
    secret = (state.hidden,) if jax.tree.leaves(rules.hidden) else ()
    return text(state, rules.pad_id)[0], counted, *secret


def _silent_user(pad_id: int) -> Callable[..., jax.Array]:
    return lambda *_: jnp.full(0, pad_id, jnp.int32)


def _check_conversation(talk: Conversation) -> None:
    check_positive(num_turns=talk.num_turns)
    if talk.num_turns > 1:
        check_positive(reply_length=talk.reply_length)
    if talk.reward_at not in ("end", "turn"):
        raise ValueError(f"reward_at must be 'end' or 'turn', got {talk.reward_at!r}")


def _write(state: TokenState, action: jax.Array) -> TokenState:
    """The model's next token."""
    return state._replace(
        completion=state.completion.at[state.length].set(action),
        counted=state.counted.at[state.length].set(True),
        length=state.length + 1,
        turn_length=state.turn_length.at[state.turn].add(1),
    )


def _read(state: TokenState, reply: jax.Array, size: jax.Array, turn_over: jax.Array) -> TokenState:
    """The user's reply [R], of which `size` tokens count, behind what is written."""
    completion = place(state.completion, reply, state.length, size)
    return state._replace(
        completion=completion, length=state.length + size, turn=state.turn + turn_over.astype(jnp.int32), reply=reply
    )


def place(row: jax.Array, part: jax.Array, start: jax.Array, size: jax.Array) -> jax.Array:
    """The row [C] with the first `size` entries of a part [R] at columns `start`, `start` + 1, ..."""
    if not part.shape[0]:
        return row
    offset = jnp.arange(row.shape[0]) - start
    return jnp.where((offset >= 0) & (offset < size), part[jnp.clip(offset, 0, part.shape[0] - 1)], row)


def reply_size(reply: jax.Array, pad_id: int) -> jax.Array:
    """int32, tokens of a reply [R], which is padded on the right."""
    return jnp.max(jnp.where(reply != pad_id, jnp.arange(reply.shape[0], dtype=jnp.int32) + 1, 0), initial=0)


def text(state: TokenState, pad_id: int) -> tuple[jax.Array, jax.Array]:
    """Prompt and completion in one row: tokens [L + C], and the mask of everything but padding."""
    written = jnp.arange(state.completion.shape[0]) < state.length
    tokens = jnp.concatenate([state.prompt, state.completion])
    return tokens, jnp.concatenate([prompt_mask(state.prompt, pad_id), written])


def prompt_mask(prompts: jax.Array, pad_id: int) -> jax.Array:
    """[..., L] bool of prompts padded on the left: true from the first token other than padding on.

    An end token inside a prompt of several turns belongs to the prompt even if `pad_id` is the same token.
    """
    return jnp.cumsum(prompts != pad_id, axis=-1) > 0


def pad_left(rows: ArrayLike, pad_id: int, inside_allowed: bool = False) -> np.ndarray:
    """The same rows with all their padding on the left.

    Args:
      rows: [P, L] integers, padded on the left or on the right.
      pad_id: the padding.
      inside_allowed: `pad_id` may occur inside a row, as the end token of a turn. A row that begins with `pad_id` is
        then taken to be padded on the left alone, and its last tokens are kept.

    Returns:
      [P, L] int32.

    Raises:
      ValueError: not a table of integers; a row is nothing but padding, or has padding inside.

    Examples:
      >>> pad_left([[5, 6, 0], [0, 7, 8]], pad_id=0).tolist()
      [[0, 5, 6], [0, 7, 8]]
    """
    table = np.asarray(rows)
    if table.ndim != 2 or not np.issubdtype(table.dtype, np.integer):
        raise ValueError(f"prompts must be a table [P, L] of integers, got {table.dtype}{list(table.shape)}")
    used = table != pad_id
    if not used.any(axis=1).all():
        raise ValueError(f"prompts[{int(np.argmin(used.any(axis=1)))}] is empty")
    first, last = used.argmax(axis=1), table.shape[1] - 1 - used[:, ::-1].argmax(axis=1)
    holes = last - first + 1 != used.sum(axis=1)
    if inside_allowed:
        last = np.where(first > 0, table.shape[1] - 1, last)
    elif holes.any():
        raise ValueError(f"prompts[{int(np.argmax(holes))}] has pad_id = {pad_id} inside")
    shifted = (np.arange(table.shape[1]) + last[:, None] + 1) % table.shape[1]
    return np.take_along_axis(table, shifted, axis=1).astype(np.int32)

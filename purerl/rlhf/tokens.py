"""Text generation as an environment: a prompt, then one token an action, then a reward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.hparams import check_positive
from purerl.spaces import Box, Dict, Discrete
from purerl.types import Env, EnvStep

_ANY_TOKEN = 2**31 - 1


class TokenState(NamedTuple):
    """An unfinished text: no cache, no logits, only tokens.

    Attributes:
      prompt: [L] int32, padded on the left, so that every completion begins at column L.
      completion: [T] int32, padded on the right.
      length: int32, tokens of the completion so far.
    """

    prompt: jax.Array
    completion: jax.Array
    length: jax.Array


def token_env(
    prompts: Any,
    reward_fn: Callable[..., jax.Array],
    max_length: int,
    eos_id: int,
    pad_id: int,
    *,
    vocab_size: int | None = None,
) -> Env:
    """The environment in which a language model acts.

    `reset` draws one of the prompts; an action is the next token; the episode terminates with `eos_id` or with the
    completion's token number `max_length`, and only then is there a reward, reward_fn(tokens, mask).

    Args:
      prompts: [P, L] integers, padded with `pad_id` on either side; moved to the right edge here.
      reward_fn: `(tokens [L + T], mask [L + T]) -> scalar` of one finished text; `mask` is true on the completion, its
        `eos_id` included. With `env_params` (a reward model's parameters, say): `(tokens, mask, env_params)`.
      max_length: longest completion, T tokens.
      eos_id: the token that ends a completion; -1 if none does.
      pad_id: the token that fills up; it must not occur inside a prompt.
      vocab_size: number of tokens, for the action space only; None leaves it open.

    Returns:
      An environment whose observations are `{"tokens": [L + T] int32, "mask": [L + T] bool}`, the mask true on
      everything that is no padding. `token_rollout` generates with a cache; the ordinary rollouts work too, and run
      the network over the whole text for every token.

    Raises:
      ValueError: `prompts` is not a table, one of them is empty (its index is named), or `max_length` not positive.
    """
    check_positive(max_length=max_length)
    table = jnp.asarray(pad_left(prompts, pad_id))
    width = table.shape[1] + max_length

    def observe(state: TokenState) -> dict[str, jax.Array]:
        tokens, mask = text(state, pad_id)
        return {"tokens": tokens, "mask": mask}

    def reset(key: jax.Array, env_params: Any = None) -> tuple[dict[str, jax.Array], TokenState]:
        prompt = table[jax.random.randint(key, (), 0, table.shape[0])]
        state = TokenState(prompt, jnp.full(max_length, pad_id, jnp.int32), jnp.int32(0))
        return observe(state), state

    def step(key: jax.Array, env_state: TokenState, action: jax.Array, env_params: Any = None) -> EnvStep:
        action = jnp.asarray(action, jnp.int32)
        completion = env_state.completion.at[env_state.length].set(action)
        state = TokenState(env_state.prompt, completion, env_state.length + 1)
        obs = observe(state)
        terminated = (action == eos_id) | (state.length == max_length)
        counted = obs["mask"] & (jnp.arange(width) >= width - max_length)
        extra = () if env_params is None else (env_params,)
        reward = jnp.asarray(reward_fn(obs["tokens"], counted, *extra), jnp.float32)
        return EnvStep(obs, state, jnp.where(terminated, reward, 0.0), terminated, jnp.bool_(False))

    observation_space = Dict((("tokens", Box(0, _ANY_TOKEN, (width,), "int32")), ("mask", Box(0, 1, (width,), "bool"))))
    return Env(reset, step, observation_space, Discrete(vocab_size or _ANY_TOKEN))


def text(state: TokenState, pad_id: int) -> tuple[jax.Array, jax.Array]:
    """Prompt and completion in one row: tokens [L + T], and the mask of what is no padding."""
    written = jnp.arange(state.completion.shape[0]) < state.length
    tokens = jnp.concatenate([state.prompt, state.completion])
    return tokens, jnp.concatenate([state.prompt != pad_id, written])


def pad_left(rows: Any, pad_id: int) -> np.ndarray:
    """The same rows with all their padding on the left.

    Args:
      rows: [P, L] integers, padded on the left or on the right.
      pad_id: the padding.

    Returns:
      [P, L] int32.

    Raises:
      ValueError: not a table of integers; a row is nothing but padding, or has padding inside.
    """
    table = np.asarray(rows)
    if table.ndim != 2 or not np.issubdtype(table.dtype, np.integer):
        raise ValueError(f"prompts must be a table [P, L] of integers, got {table.dtype}{list(table.shape)}")
    used = table != pad_id
    if not used.any(axis=1).all():
        raise ValueError(f"prompts[{int(np.argmin(used.any(axis=1)))}] is empty")
    first, last = used.argmax(axis=1), table.shape[1] - 1 - used[:, ::-1].argmax(axis=1)
    holes = last - first + 1 != used.sum(axis=1)
    if holes.any():
        raise ValueError(f"prompts[{int(np.argmax(holes))}] has pad_id = {pad_id} inside")
    shifted = (np.arange(table.shape[1]) + last[:, None] + 1) % table.shape[1]
    return np.take_along_axis(table, shifted, axis=1).astype(np.int32)

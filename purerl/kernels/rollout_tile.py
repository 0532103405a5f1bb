"""The body of the fused rollout: all steps of one tile of environments, inside a kernel.

Everything that the kernel reads and writes per environment is words of four bytes, one vector [tile] each, in the order
of `packing.pack`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas

from purerl.kernels import lanes
from purerl.kernels.policy import Policy, log_probs
from purerl.types import PyTree


class Plan(NamedTuple):
    """Everything static about a kernel.

    Attributes:
      step: one step of one environment: (state words, action, parameters) -> (row of the step, state after it).
      state_like: tree of shapes of an observation and an environment's state.
      row_like: tree of shapes of a step's row, without what the policy adds.
      length, tile, num_actions: T, environments per block, A.
    """

    step: Any
    state_like: PyTree
    row_like: PyTree
    length: int
    tile: int
    num_actions: int


def run_tile(plan: Plan, structure: Policy, num_params: int, *refs: Any) -> None:
    """All steps of one tile of environments."""
    running_ref, counts_ref, noise_ref, fresh_ref, *rest = refs
    numbers, weights, (rows_ref, last_ref, after_ref) = rest[:num_params], rest[num_params:-3], rest[-3:]
    here = pallas.ds(pallas.program_id(0) * plan.tile, plan.tile)
    policy = structure.load(weights)
    params = [lanes.single(ref[0]) for ref in numbers]
    num_state = running_ref.shape[0]
    likes = jax.tree.leaves(plan.state_like)

    def step(t: jax.Array, carry: tuple[Any, ...]) -> tuple[Any, ...]:
        words, (return_, length, *ended) = carry[:num_state], carry[num_state:]
        before = _from_words(words, likes)
        scores = log_probs(policy, list(before[0]))  # from D vectors [tile]
        action = _argmax([score + noise_ref[t, a, here] for a, score in enumerate(scores)])
        log_prob = _at(scores, action)
        results = lanes.run(plan.step, [*before, lanes.single(action), *params])
        num_row = len(jax.tree.leaves(plan.row_like))
        row, after = results[:num_row], results[num_row:]
        for i, word in enumerate(_to_words([*row, lanes.single(log_prob)], plan.tile)):
            rows_ref[t, i, here] = word
        transition = jax.tree.unflatten(jax.tree.structure(plan.row_like), row)[0]
        reward = _vector(transition.reward[()], plan.tile)
        done = _vector(transition.terminated[()] | transition.truncated[()], plan.tile)
        return_, length = return_ + reward, length + 1
        zero = jnp.zeros_like
        ended = [
            ended[0] + jnp.where(done, return_, zero(return_)),
            ended[1] + jnp.where(done, length, zero(length)),
            ended[2] + done.astype(jnp.int32),
        ]
        state = [jnp.where(done, fresh_ref[t, i, here], word) for i, word in enumerate(_to_words(after, plan.tile))]
        return (*state, jnp.where(done, zero(return_), return_), jnp.where(done, zero(length), length), *ended)

    floats = functools.partial(jax.lax.bitcast_convert_type, new_dtype=jnp.float32)
    counts = [counts_ref[i, here] for i in range(5)]
    first = (*(running_ref[i, here] for i in range(num_state)), floats(counts[0]), counts[1], floats(counts[2]))
    carry = jax.lax.fori_loop(0, plan.length, step, (*first, *counts[3:]))
    for i in range(num_state):
        last_ref[i, here] = carry[i]
    for i, count in enumerate(carry[num_state:]):
        after_ref[i, here] = _word(count)


def _word(x: jax.Array) -> jax.Array:
    if x.dtype == bool:
        return x.astype(jnp.int32)
    return x if x.dtype == jnp.int32 else jax.lax.bitcast_convert_type(x, jnp.int32)


def _to_words(leaves: list[lanes.Lanes], tile: int) -> list[jax.Array]:
    """Every number of the leaves as words [tile], in the order of `packing.pack`."""
    return [_word(_vector(x, tile)) for leaf in leaves for x in leaf.reshape(-1)]


def _vector(x: Any, tile: int) -> jax.Array:
    """A vector [tile], also of a number that all lanes share."""
    is_constant = isinstance(x, np.generic)
    return jnp.full((tile,), x) if is_constant else jnp.broadcast_to(x, (tile,))


def _from_words(words: tuple[jax.Array, ...], likes: list[Any]) -> list[lanes.Lanes]:
    """The inverse, for leaves of these shapes."""
    dtypes = [like.dtype for like in likes for _ in range(like.size)]
    return lanes.tree_of([_from_word(word, dtype) for word, dtype in zip(words, dtypes)], likes)


def _from_word(word: jax.Array, dtype: Any) -> jax.Array:
    if jnp.issubdtype(dtype, jnp.bool_):
        return word != 0
    return word if dtype == jnp.int32 else jax.lax.bitcast_convert_type(word, dtype)


def _argmax(scores: list[jax.Array]) -> jax.Array:
    """The first largest of A vectors [tile]."""
    best, action = scores[0], jnp.zeros_like(scores[0], jnp.int32)
    for a, score in enumerate(scores[1:], start=1):
        action = jnp.where(score > best, jnp.full_like(action, a), action)
        best = jnp.maximum(score, best)
    return action


def _at(scores: list[jax.Array], action: jax.Array) -> jax.Array:
    """scores[action], lane by lane."""
    found = scores[0]
    for a, score in enumerate(scores[1:], start=1):
        found = jnp.where(action == a, score, found)
    return found

"""Resets that are dear: drawn once, and then taken from a pool."""

from __future__ import annotations

import functools

import jax

from purerl.envs.wrappers.inner import check_inner, check_order
from purerl.hparams import check_positive
from purerl.once import build_once
from purerl.types import Env, Key, PyTree


@build_once
def cached_resets(env: Env, num_resets: int = 256, seed: int = 0) -> Env:
    """Start every episode in one of `num_resets` starts that are drawn once, uniformly at random.

        start ~ uniform{reset(k[0]), ..., reset(k[num_resets − 1])}

    This is NOT the environment's own distribution of starts but a sample of it: an agent may learn the starts by heart,
    so evaluate on `env` itself. Typed keys within a state are drawn anew, so episodes from one start go different ways.
    It pays where a reset is dearer than a step (brax, Playground, Craftax): populations and accelerators compute a
    reset in every step. The starts are constants of the compiled program.

    Args:
      env: any environment in JAX, except one of `with_state`, which must be the outermost wrapper.
      num_resets: number of starts.
      seed: of the starts.

    Raises:
      TypeError: the environment runs on the host.
      ValueError: `num_resets` is not positive; in a call, `env_params` are given, under which the starts do not hold.

    Examples:
      >>> from purerl import envs
      >>> env = cached_resets(envs.make("CartPole-v1"), 4)
      >>> len({float(env.reset(jax.random.key(i))[0][0]) for i in range(40)})
      4
    """
    check_inner(env, "cached_resets")
    check_positive(num_resets=num_resets)
    keys = jax.random.split(jax.random.key(seed), num_resets)

    @functools.cache
    def pool() -> tuple[PyTree, PyTree]:
        with jax.ensure_compile_time_eval():
            return jax.jit(jax.vmap(env.reset))(keys)  # leaves [num_resets, ...]

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        if env_params is not None:
            raise ValueError("cached_resets holds starts under the environment's own parameters: pass no env_params")
        pick_key, fresh_key = jax.random.split(key)
        i = jax.random.randint(pick_key, (), 0, num_resets)
        obs, env_state = jax.tree.map(lambda leaf: leaf[i], pool())
        check_order(obs, env.observation_space, "cached_resets")
        return obs, _with_fresh_keys(fresh_key, env_state)

    return env._replace(reset=reset)


def _with_fresh_keys(key: Key, env_state: PyTree) -> PyTree:
    """The state with its typed keys replaced."""
    leaves, structure = jax.tree.flatten(env_state)
    fresh = [
        jax.random.split(jax.random.fold_in(key, i), leaf.shape)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else leaf
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, fresh)

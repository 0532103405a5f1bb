"""A policy as one function of batches of plain arrays, which is what other runtimes can call."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import loops
from purerl.envs import HostEnv
from purerl.presets.tasks import first_observation
from purerl.prng import is_key
from purerl.runs import Policy
from purerl.spaces import clip_action
from purerl.types import PyTree


class Signature(NamedTuple):
    """The greedy policy as `call(*inputs) -> outputs`, arrays that lead with a batch axis.

    Attributes:
      call: inputs are the leaves of the observation, then those of the memory; outputs the leaves of the action, within
        the bounds of its space, then those of the next memory.
      inputs, outputs: their names, such as "obs", "obs.position", "memory.0"; "action", "next_memory.0".
      shapes: shape and dtype of each input without the batch axis.
      memory: the values of the memory inputs at the start of an episode.
    """

    call: Callable[..., tuple[jax.Array, ...]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: tuple[jax.ShapeDtypeStruct, ...]
    memory: tuple[np.ndarray, ...] = ()


def signature(policy: Policy) -> Signature:
    """The function that is exported of a policy.

    Raises:
      TypeError: an observation or a memory holds random keys, which other runtimes do not know.
    """
    agent, env, state = policy.agent, policy.env, policy.state
    obs = jax.eval_shape(lambda: first_observation(env, jax.random.key(0)))
    memory = () if agent.memory is None else agent.memory(None, state)
    obs_tree, memory_tree = jax.tree.structure(obs), jax.tree.structure(memory)
    num_obs, num_memory = len(jax.tree.leaves(obs)), len(jax.tree.leaves(memory))
    inputs = _names("obs", obs) + _names("memory", memory)
    leaves = [*jax.tree.leaves(obs), *jax.tree.leaves(memory)]
    for name, leaf in zip(inputs, leaves):
        if is_key(leaf):
            raise TypeError(f"{name} is a random key, which cannot be exported")

    def one(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        obs = jax.tree.unflatten(obs_tree, arrays[:num_obs])
        before = jax.tree.unflatten(memory_tree, arrays[num_obs:])
        action, _, *after = agent.act(None, state, obs, *([before] if agent.memory else []))
        return (*jax.tree.leaves(clip_action(action, env.action_space)), *jax.tree.leaves(after))

    shapes = tuple(jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    num_actions = len(jax.eval_shape(one, *shapes)) - num_memory
    action = ("action",) if num_actions == 1 else tuple(f"action.{i}" for i in range(num_actions))
    starts = tuple(np.asarray(leaf) for leaf in jax.tree.leaves(memory))
    return Signature(jax.vmap(one), inputs, action + _names("next_memory", memory), shapes, starts)


def examples(policy: Policy, signature: Signature, num_envs: int = 8, length: int = 8) -> list[list[np.ndarray]]:
    """Batches of inputs [length · num_envs, ...]: a rollout's observations, with fresh memories and with later ones."""
    obs = _observed(policy, num_envs, length)  # [T, N, ...]
    leaves = [np.asarray(leaf).reshape(-1, *leaf.shape[2:]) for leaf in jax.tree.leaves(obs)]  # [T · N, ...]
    fresh = [np.broadcast_to(value, (len(leaves[0]), *value.shape)) for value in signature.memory]
    if not fresh:
        return [leaves]
    later = jax.jit(signature.call)(*leaves, *fresh)[-len(fresh) :]
    return [[*leaves, *fresh], [*leaves, *map(np.asarray, later)]]


def _observed(policy: Policy, num_envs: int, length: int) -> PyTree:
    """Observations of a rollout, leaves [T, N, ...]; on the host those of resets."""
    agent, env, state = policy.agent, policy.env, policy.state
    if isinstance(env, HostEnv):
        begun = [jax.tree.map(np.array, env.reset(seed)) for seed in range(-(-num_envs * length // env.num_envs))]
        return jax.tree.map(lambda *x: np.stack(x), *begun)
    actors_key, key = jax.random.split(jax.random.key(0))
    actors = loops.init_actors(actors_key, agent, env, state, num_envs=num_envs)
    return loops.rollout(key, agent, env, state, actors, length=length)[1].obs


def _names(root: str, tree: PyTree) -> tuple[str, ...]:
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    if len(paths) == 1 and not paths[0]:
        return (root,)
    if root.endswith("memory"):
        return tuple(f"{root}.{i}" for i in range(len(paths)))
    return tuple(root + "." + jax.tree_util.keystr(path, simple=True, separator=".") for path in paths)

"""A block of agents as one program: the three steps of a run, vmapped, each compiled once for a width and its sizes.

The block is spread over the devices where its width divides by their number. Agents differ in their key, their
hyperparameters and their environment's parameters; everything else is static. What comes back to the host is one number
an agent and chunk, and the states where they go on in another block: then as a plain tree of NumPy arrays.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from purerl import loops
from purerl.distributed import over_devices, population_sharding, to_host
from purerl.loops import LoopState
from purerl.prng import is_key, key_implementation
from purerl.sweep.run import memory
from purerl.types import Agent, Env, Metrics, PyTree


class Program(NamedTuple):
    """What is the same for all agents of a block. Hashable: everything is static."""

    agent: Agent
    env: Env
    num_envs: int
    rollout_length: int
    rollout: Callable[..., Any]
    eval_episodes: int
    eval_max_steps: int
    key_impl: str = "threefry2x32"

    @property
    def update_steps(self) -> int:
        """Environment steps of one update of one agent."""
        return self.num_envs * self.rollout_length


class Members(NamedTuple):
    """What tells W agents apart, leaves [W, ...]: data of their keys, hyperparameters, environment parameters."""

    keys: Any
    hparams: Any
    env_params: PyTree


class Compiled(NamedTuple):
    """A compiled program, the seconds it took to compile, and the bytes it takes on each device."""

    call: Callable[..., Any]
    seconds: float
    bytes: float


def start(program: Program, members: Members) -> LoopState:
    """`loops.start` of every member."""
    return _start(members, program=program)


def advance(program: Program, states: LoopState, num_updates: int) -> tuple[LoopState, jax.Array]:
    """`loops.advance` of W agents; the memory of `states` is given to the result.

    Returns:
      The next states, and the mean return of the episodes that finished in these updates, [W]; NaN where none did.
    """
    return compiled_advance(program, num_updates, _spec(states)).call(states)


def evaluate(program: Program, states: LoopState, key: jax.Array) -> jax.Array:
    """Returns of greedy episodes, [W, eval_episodes]; all agents play with one key, so they meet the same episodes."""
    return compiled_evaluate(program, _spec(states)).call(states, key)


def block_bytes(program: Program, members: Members, width: int, num_updates: int) -> float:
    """Bytes that a block of `width` agents like these takes on each device, by compiling its programs."""
    spec = _spec(states_like(program, members, width))
    return max(compiled_advance(program, num_updates, spec).bytes, compiled_evaluate(program, spec).bytes)


def compile_seconds(program: Program, members: Members, width: int, num_updates: int) -> float:
    """Seconds that the programs of a block took to compile, or take now."""
    spec = _spec(states_like(program, members, width))
    return compiled_advance(program, num_updates, spec).seconds + compiled_evaluate(program, spec).seconds


def pack(states: PyTree) -> PyTree:
    """The states on the host: NumPy arrays, typed keys as their data. `unpack` is the inverse."""
    return to_host(jax.tree.map(_key_data, states))


def unpack(packed: PyTree, like: PyTree, sharding: Any = None) -> PyTree:
    """The tree that `pack` was given, of arrays; `like` has its types, such as `states_like` returns."""

    def typed(leaf: Any, spec: Any) -> Any:
        leaf = jax.device_put(leaf, _leaf_sharding(leaf, sharding))
        return jax.random.wrap_key_data(leaf, impl=key_implementation(spec)) if is_key(spec) else leaf

    return jax.tree.map(typed, packed, like)


def to_devices(program: Program, members: Members, packed: PyTree) -> LoopState:
    """The states of a block that `pack` was given, spread over the devices."""
    width = len(members.keys)
    return unpack(packed, states_like(program, members, width), population_sharding(width))


def state_like(program: Program, members: Members) -> Any:
    """Shapes and types of the state of one of these agents."""
    return jax.eval_shape(functools.partial(_start_one, program), *jax.tree.map(lambda leaf: leaf[0], tuple(members)))


def packed_like(like: PyTree) -> PyTree:
    """Shapes and types of `pack(states)`, from those of the states."""
    return jax.eval_shape(lambda tree: jax.tree.map(_key_data, tree), like)


def states_like(program: Program, members: Members, width: int) -> Any:
    """Shapes and types of the states of `width` agents like these."""
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((width, *leaf.shape[1:]), leaf.dtype), members)
    return _states_like(program, _spec(like))


@functools.lru_cache(maxsize=256)
def _states_like(program: Program, spec: _Spec) -> Any:
    return jax.eval_shape(functools.partial(_start, program=program), spec.tree())


@functools.partial(jax.jit, static_argnames="program")
def _start(members: Members, *, program: Program) -> LoopState:
    return over_devices(jax.vmap(functools.partial(_start_one, program)), tuple(members))


def _start_one(program: Program, key: jax.Array, hparams: Any, env_params: Any) -> LoopState:
    key = jax.random.wrap_key_data(key, impl=program.key_impl)
    return loops.start(key, program.agent, program.env, hparams, num_envs=program.num_envs, env_params=env_params)


class _Spec(NamedTuple):
    """Structure, shapes and types of a tree, hashable."""

    treedef: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    def tree(self) -> Any:
        return jax.tree.unflatten(self.treedef, self.leaves)


def _spec(tree: PyTree) -> _Spec:
    leaves, treedef = jax.tree.flatten(tree)
    sharding = population_sharding(leaves[0].shape[0])

    def spec(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_leaf_sharding(leaf, sharding))

    return _Spec(treedef, tuple(map(spec, leaves)))


def _leaf_sharding(leaf: Any, sharding: Any) -> Any:
    """Where a leaf lies: a compiled program leaves one without elements whole on every device."""
    if sharding is None or leaf.size:
        return sharding
    return NamedSharding(sharding.mesh, PartitionSpec())


@functools.lru_cache(maxsize=64)
def compiled_advance(program: Program, num_updates: int, spec: _Spec) -> Compiled:
    """The program that `advance` runs; it is kept, so the same sizes compile once in a process."""

    def one(state: LoopState) -> tuple[LoopState, jax.Array]:
        agent, env, rollout = program.agent, program.env, program.rollout
        state, metrics = loops.advance(
            state, agent, env, num_updates=num_updates, rollout_length=program.rollout_length, rollout=rollout
        )
        return state, _episode_return(metrics)

    def run(states: LoopState) -> tuple[LoopState, jax.Array]:
        return over_devices(jax.vmap(one), (states,))

    return _compile(jax.jit(run, donate_argnums=0), spec.tree())


@functools.lru_cache(maxsize=64)
def compiled_evaluate(program: Program, spec: _Spec) -> Compiled:
    """The program that `evaluate` runs."""

    def one(state: LoopState, key: jax.Array) -> jax.Array:
        return loops.evaluate(
            key,
            program.agent,
            program.env,
            state.agent_state,
            num_episodes=program.eval_episodes,
            max_steps=program.eval_max_steps,
            env_params=state.env_params,
        ).episode_return

    def run(states: LoopState, key: jax.Array) -> jax.Array:
        return over_devices(jax.vmap(one, (0, None)), (states,), (key,))

    return _compile(jax.jit(run), spec.tree(), jax.eval_shape(lambda: jax.random.key(0, impl=program.key_impl)))


def _compile(function: Any, *arguments: Any) -> Compiled:
    begun = time.perf_counter()
    compiled = function.lower(*arguments).compile()
    return Compiled(compiled, time.perf_counter() - begun, memory.of_compiled(compiled))


def _episode_return(metrics: Metrics) -> jax.Array:
    """Σ episodes · mean return / Σ episodes over the updates of a chunk, leaves [U]."""
    episodes = metrics["num_episodes"]
    total = jnp.sum(jnp.where(episodes > 0, metrics["episode_return"] * episodes, 0))
    return total / episodes.sum()


def _key_data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if is_key(leaf) else leaf

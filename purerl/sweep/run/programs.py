"""The programs of a block: `start`, `advance` and `evaluate` vmapped over members, compiled once per width and length.

A block is spread over the devices if their number divides its width. Members differ in their key, their hyperparameters
and their environment's parameters; everything else is static. One number per member and chunk returns to the host, and
the states of members that continue in the next rung, as `packing.pack` makes them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import loops
from purerl.distributed import over_devices, population_sharding
from purerl.loops import LoopState
from purerl.numerics import diverged
from purerl.sweep.run import memory
from purerl.sweep.run.packing import Leaf, leaf_sharding, unpack
from purerl.types import Agent, Env, Hparams, PyTree


class Program(NamedTuple):
    """Everything that the members of a block share. Hashable: all of it is static."""

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
        """Environment steps of one update of one member."""
        return self.num_envs * self.rollout_length


class MemberData(NamedTuple):
    """Everything that distinguishes W members, leaves [W, ...]; `keys` are the data of typed keys."""

    keys: Any
    hparams: Hparams
    env_params: PyTree


class Compiled(NamedTuple):
    """A compiled program, the seconds it took to compile, and the bytes it takes on each device."""

    call: Callable[..., Any]
    seconds: float
    bytes: float


def start(program: Program, members: MemberData) -> LoopState:
    """`loops.start` of every member."""
    return _start(members, program=program)


def advance(program: Program, states: LoopState, num_updates: int) -> tuple[LoopState, jax.Array]:
    """`loops.advance` of W members; the memory of `states` is given to the result.

    Returns:
      The next states, and the mean return of the episodes that finished in these updates, [W]; NaN if none did.
    """
    return compiled_advance(program, num_updates, _spec(states)).call(states)


def evaluate(program: Program, states: LoopState, key: jax.Array) -> jax.Array:
    """Returns of greedy episodes, [W, eval_episodes]; NaN for a member whose learner has become NaN.

    There is one key for all members, so they play the same episodes.
    """
    return compiled_evaluate(program, _spec(states)).call(states, key)


def block_bytes(program: Program, members: MemberData, width: int, num_updates: int) -> float:
    """Bytes that a block of `width` members like these takes on each device, by compiling its programs."""
    spec = _spec(states_like(program, members, width))
    return max(compiled_advance(program, num_updates, spec).bytes, compiled_evaluate(program, spec).bytes)


def compile_seconds(program: Program, members: MemberData, width: int, num_updates: int) -> float:
    """Seconds that the programs of a block took to compile; they are compiled now if they were not yet."""
    spec = _spec(states_like(program, members, width))
    return compiled_advance(program, num_updates, spec).seconds + compiled_evaluate(program, spec).seconds


def to_devices(program: Program, members: MemberData, packed: PyTree) -> LoopState:
    """The states of a block, packed before, spread over the devices."""
    width = len(members.keys)
    return unpack(packed, states_like(program, members, width), population_sharding(width))


def state_like(program: Program, members: MemberData) -> Any:
    """Shapes and dtypes of the state of one of these members."""
    return jax.eval_shape(functools.partial(_start_one, program), *jax.tree.map(lambda leaf: leaf[0], tuple(members)))


def states_like(program: Program, members: MemberData, width: int) -> Any:
    """Shapes and dtypes of the states of `width` members like these."""
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((width, *leaf.shape[1:]), leaf.dtype), members)  # [W, ...]
    return _states_like(program, _spec(like))


@functools.lru_cache(maxsize=256)
def _states_like(program: Program, spec: _Spec) -> Any:
    return jax.eval_shape(functools.partial(_start, program=program), spec.tree())


@functools.partial(jax.jit, static_argnames="program")
def _start(members: MemberData, *, program: Program) -> LoopState:
    return over_devices(jax.vmap(functools.partial(_start_one, program)), tuple(members))


def _start_one(program: Program, key: jax.Array, hparams: Hparams, env_params: PyTree) -> LoopState:
    key = jax.random.wrap_key_data(key, impl=program.key_impl)
    return loops.start(key, program.agent, program.env, hparams, num_envs=program.num_envs, env_params=env_params)


class _Spec(NamedTuple):
    """Structure, shapes and dtypes of a tree, hashable."""

    treedef: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    def tree(self) -> Any:
        return jax.tree.unflatten(self.treedef, self.leaves)


def _spec(tree: PyTree) -> _Spec:
    leaves, treedef = jax.tree.flatten(tree)
    sharding = population_sharding(leaves[0].shape[0])

    def spec(leaf: Leaf) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf_sharding(leaf, sharding))

    return _Spec(treedef, tuple(map(spec, leaves)))


@functools.lru_cache(maxsize=64)
def compiled_advance(program: Program, num_updates: int, spec: _Spec) -> Compiled:
    """The program that `advance` runs; it is kept, so the same sizes compile once in a process."""

    def one(state: LoopState) -> tuple[LoopState, jax.Array]:
        agent, env, rollout = program.agent, program.env, program.rollout
        state, metrics = loops.advance(
            state, agent, env, num_updates=num_updates, rollout_length=program.rollout_length, rollout=rollout
        )
        return state, loops.reduce_metrics(metrics)["episode_return"]  # [U] -> []

    def run(states: LoopState) -> tuple[LoopState, jax.Array]:
        return over_devices(jax.vmap(one), (states,))  # leaves [W, ...]

    return _compile(jax.jit(run, donate_argnums=0), spec.tree())


@functools.lru_cache(maxsize=64)
def compiled_evaluate(program: Program, spec: _Spec) -> Compiled:
    """The program that `evaluate` runs."""

    def one(state: LoopState, key: jax.Array) -> jax.Array:
        returns = loops.evaluate(
            key,
            program.agent,
            program.env,
            state.agent_state,
            num_episodes=program.eval_episodes,
            max_steps=program.eval_max_steps,
            env_params=state.env_params,
        ).episode_return
        return jnp.where(diverged(state.agent_state), jnp.nan, returns)

    def run(states: LoopState, key: jax.Array) -> jax.Array:
        return over_devices(jax.vmap(one, (0, None)), (states,), (key,))  # [W, E]; the key is shared

    return _compile(jax.jit(run), spec.tree(), jax.eval_shape(lambda: jax.random.key(0, impl=program.key_impl)))


def _compile(function: jax.stages.Wrapped, *arguments: PyTree) -> Compiled:
    begun = time.perf_counter()
    compiled = function.lower(*arguments).compile()
    return Compiled(compiled, time.perf_counter() - begun, memory.of_compiled(compiled))

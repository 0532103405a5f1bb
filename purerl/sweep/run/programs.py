"""The programs of a block: `start`, `advance` and `evaluate` vmapped over members, compiled once per width and length.

A block is spread over the devices if their number divides its width. Members differ in their key, their hyperparameters
and their environment's parameters; everything else is static. One number per member and chunk returns to the host, and
the states of members that continue in the next rung, as `packing.pack` makes them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import loops
from purerl.ahead import Shapes, beside, shapes_of
from purerl.distributed import over_devices, population_sharding
from purerl.hparams import check_positive, suggestion
from purerl.loops import LoopState
from purerl.numerics import diverged
from purerl.sweep.run import memory
from purerl.sweep.run.packing import Leaf, leaf_sharding, unpack
from purerl.sweep.trials.algorithms import built
from purerl.types import Agent, Env, Hparams, PyTree

EVALUATION = "eval_return"  # the curve of greedy evaluations at the ends of chunks


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
    curve: str = "episode_return"

    @property
    def update_steps(self) -> int:
        """Environment steps of one update of one member."""
        return self.num_envs * self.rollout_length


class Updates(NamedTuple):
    """Metrics after each of U updates of W members, leaves [W, U].

    Attributes:
      value: the metric of the learning curves; NaN if it has no value.
      weight: its weight in the mean of a chunk: the episodes that ended, or 1.
      skipped: the metric `loss/skipped`; 0 if the agent has none.
    """

    value: Any
    weight: Any
    skipped: Any


def with_choices(base: Program, static: Mapping[str, Any]) -> Program:
    """The program of a group of static choices.

    Raises:
      TypeError: there are choices for the agent, but `agent` is not a function of them, or it does not return an agent.
    """
    sizes = {name: static[name] for name in ("num_envs", "rollout_length") if name in static}
    check_positive(**sizes)
    made = built(base.agent, {name: value for name, value in static.items() if name not in sizes})
    own: dict[str, Any] = {name: value for name, value in zip(made._fields, made) if value is not None}
    return base._replace(**own | sizes)


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


def advance(program: Program, states: LoopState, num_updates: int) -> tuple[LoopState, Updates]:
    """`loops.advance` of W members; the memory of `states` is given to the result."""
    return compiled_advance(program, num_updates, spec_of(states)).call(states)


def evaluate(program: Program, states: LoopState, key: jax.Array, env_params: PyTree = None) -> jax.Array:
    """Returns of greedy episodes, [W, eval_episodes]; NaN for a member whose learner has become NaN.

    There is one key for all members, so they play the same episodes.

    Args:
      program: of the members.
      states: of the members.
      key: typed key.
      env_params: leaves [Q, ...], the environments that all members play in, as many episodes in each; None: each plays
        in its own.
    """
    return compiled_evaluate(program, spec_of(states), shapes_of(env_params)).call(states, key, env_params)


def block_bytes(
    program: Program, members: MemberData, width: int, num_updates: int, env_params: PyTree = None
) -> float:
    """Bytes that a block of `width` members like these takes on each device, by compiling its programs."""
    spec, params = spec_of(states_like(program, members, width)), shapes_of(env_params)
    with beside(lowered_evaluate(program, spec, params)):
        trained = compiled_advance(program, num_updates, spec)
    return max(trained.bytes, compiled_evaluate(program, spec, params).bytes)


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
    return _states_like(program, spec_of(like))


@functools.lru_cache(maxsize=256)
def _states_like(program: Program, spec: Shapes) -> Any:
    return jax.eval_shape(functools.partial(_start, program=program), spec.tree())


@functools.partial(jax.jit, static_argnames="program")
def _start(members: MemberData, *, program: Program) -> LoopState:
    return over_devices(jax.vmap(functools.partial(_start_one, program)), tuple(members))


def _start_one(program: Program, key: jax.Array, hparams: Hparams, env_params: PyTree) -> LoopState:
    key = jax.random.wrap_key_data(key, impl=program.key_impl)
    return loops.start(key, program.agent, program.env, hparams, num_envs=program.num_envs, env_params=env_params)


def spec_of(tree: PyTree) -> Shapes:
    """Structure, shapes and dtypes of the states of a block, spread over the devices."""
    leaves, treedef = jax.tree.flatten(tree)
    sharding = population_sharding(leaves[0].shape[0])

    def spec(leaf: Leaf) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf_sharding(leaf, sharding))

    return Shapes(treedef, tuple(map(spec, leaves)))


@functools.lru_cache(maxsize=64)
def compiled_advance(program: Program, num_updates: int, spec: Shapes) -> Compiled:
    """The program that `advance` runs; it is kept, so the same sizes compile once in a process."""
    one = functools.partial(advance_one, program, num_updates)

    def run(states: LoopState) -> tuple[LoopState, Updates]:
        return over_devices(jax.vmap(one), (states,))  # leaves [W, ...]

    return _compile(lambda: jax.jit(run, donate_argnums=0).lower(spec.tree()))


@functools.lru_cache(maxsize=64)
def lowered_evaluate(program: Program, spec: Shapes, env_params: Shapes) -> jax.stages.Lowered:
    """The program that `evaluate` runs, traced and lowered."""
    one = functools.partial(evaluate_one, program)

    def run(states: LoopState, key: jax.Array, env_params: PyTree) -> jax.Array:
        return over_devices(jax.vmap(one, (0, None, None)), (states,), (key, env_params))  # [W, E]; the key is shared

    return jax.jit(run).lower(spec.tree(), eval_key_like(program), env_params.tree())


@functools.lru_cache(maxsize=64)
def compiled_evaluate(program: Program, spec: Shapes, env_params: Shapes) -> Compiled:
    """The program that `evaluate` runs."""
    return _compile(lambda: lowered_evaluate(program, spec, env_params))


def advance_one(program: Program, num_updates: int, state: LoopState) -> tuple[LoopState, Updates]:
    """`advance` of one member: its next state, and the metrics after each update."""
    agent, env, rollout = program.agent, program.env, program.rollout
    state, metrics = loops.advance(
        state, agent, env, num_updates=num_updates, rollout_length=program.rollout_length, rollout=rollout
    )
    curve = "episode_return" if program.curve == EVALUATION else program.curve
    if curve not in metrics:
        raise ValueError(f"curve = {curve!r} is not a metric of this agent{suggestion(curve, metrics)}")
    value = metrics[curve]  # [U]
    episodes = metrics["num_episodes"] if curve.startswith("episode_") else 1
    skipped = metrics.get("loss/skipped", jnp.float32(0))
    return state, Updates(value, jnp.broadcast_to(episodes, value.shape), jnp.broadcast_to(skipped, value.shape))


def evaluate_one(program: Program, state: LoopState, key: jax.Array, env_params: PyTree) -> jax.Array:
    """`evaluate` of one member, [eval_episodes]; in each of the environments [Q] of `env_params`, if there are any."""
    leaves = jax.tree.leaves(env_params)
    rows = leaves[0].shape[0] if leaves else 1

    def play(key: jax.Array, state: LoopState, env_params: PyTree) -> jax.Array:
        return loops.evaluate(
            key,
            program.agent,
            program.env,
            state.agent_state,
            num_episodes=program.eval_episodes // rows,
            max_steps=program.eval_max_steps,
            env_params=env_params,
        ).episode_return

    if leaves:
        returns = jax.vmap(play, (None, None, 0))(key, state, env_params).reshape(-1)  # [Q, E / Q] -> [E]
    else:
        returns = play(key, state, state.env_params)
    return jnp.where(diverged(state.agent_state), jnp.nan, returns)


def eval_key_like(program: Program) -> Any:
    """Shape and dtype of the key of an evaluation."""
    return jax.eval_shape(lambda: jax.random.key(0, impl=program.key_impl))


def _compile(lower: Callable[[], jax.stages.Lowered]) -> Compiled:
    begun = time.perf_counter()
    compiled = lower().compile()
    return Compiled(compiled, time.perf_counter() - begun, memory.of_compiled(compiled))

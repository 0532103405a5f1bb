"""Applying actor-critic networks, with and without memory: acting, and evaluating whole trajectories.

A network is `init(key, obs)` and `apply(params, obs) -> (distribution, value)`, for one example. A network with memory
has `unroll` and `memory` too:

    memory() -> memory of a new episode
    init(key, obs, memory) -> params
    apply(params, obs, memory) -> ((distribution, value), memory)
    unroll(params, obs [T], memory, reset [T]) -> ((distributions, values), memory), both [T]

where `reset[t]` starts a new memory before `obs[t]` is read. It may also have `trace`, which is `unroll` with the
memories after each of the T steps, and is what accelerators run. Agents built on this module take either kind.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp

from purerl import branches
from purerl.agents.common import batches, plug_ins, trajectories
from purerl.calls import not_inlined
from purerl.distributed import mesh
from purerl.types import ActFn, Key, MemoryFn, Network, Params, PyTree, State, Transition

ActorCriticNetwork: TypeAlias = Any
"""A network as described above; one without memory is a `types.Network`."""
Distribution: TypeAlias = Any
"""A distribution of `purerl.distributions` or distrax, with `sample`, `mode`, `log_prob` and `entropy`."""
Result = TypeVar("Result")


def has_memory(network: Network) -> bool:
    """Whether the network carries a memory from step to step."""
    return hasattr(network, "unroll")


def init(network: ActorCriticNetwork, key: Key, obs: PyTree) -> Params:
    """Parameters of the network, from one observation."""
    return plug_ins.init(network, key, obs, *([network.memory()] if has_memory(network) else []))


def make_act(network: ActorCriticNetwork) -> tuple[ActFn, MemoryFn | None]:
    """`act` and `memory` of an agent that samples from the network's policy; its `aux` is {"log_prob": scalar}.

    The log-probability is computed as learning computes it, so that ratios of the two start at exactly 1.
    """

    def choose(key: Key | None, distribution: Distribution) -> tuple[PyTree, dict[str, jax.Array]]:
        action = distribution.mode() if key is None else distribution.sample(seed=key)
        return action, {"log_prob": _log_prob_as_stored(distribution, action)}

    def act(key: Key | None, state: State, obs: PyTree) -> tuple[PyTree, dict[str, jax.Array]]:
        distribution, _ = plug_ins.policy_and_value(network.apply(state.params, obs))
        return choose(key, distribution)

    def act_with_memory(key: Key | None, state: State, obs: PyTree, memory: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        output, memory = network.apply(state.params, obs, memory)
        distribution, _ = plug_ins.policy_and_value(output)
        return *choose(key, distribution), memory

    def memory(key: Key | None, state: State) -> PyTree:
        return network.memory()

    return (act_with_memory, memory) if has_memory(network) else (act, None)


def _log_prob_as_stored(distribution: Distribution, action: PyTree) -> jax.Array:
    """The log-probability of the action that is stored.

    XLA on a CPU would compute a real action again for its log-probability, with other roundings than the stored one.
    Where squashed actions saturate, the last bit of the action decides over the log-probability.
    """
    if not any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(action)):
        return distribution.log_prob(action)
    log_prob = jax.jit(lambda action: distribution.log_prob(action))
    return branches.dependent(action, cpu=functools.partial(not_inlined, log_prob), default=distribution.log_prob)


def log_prob_and_entropy(distribution: Distribution, action: PyTree) -> tuple[jax.Array, jax.Array]:
    """Log-probability of one action and entropy of its distribution, two scalars; vmap it."""
    return distribution.log_prob(action), distribution.entropy()


def evaluate_actions(
    network: ActorCriticNetwork, params: Params, obs: PyTree, action: PyTree, memory: PyTree, reset: PyTree
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Log-probability, entropy and value of every row of a minibatch.

    Args:
      network: with or without memory.
      params: its parameters.
      obs, action: rows: single steps [B], or with memory whole environments [B, T].
      memory: [B] memories before the first step, or `()`.
      reset: [B, T], true where the memory starts anew, or `()`.

    Returns:
      Three arrays [B], or [B, T].
    """

    def environment(
        obs: PyTree, action: PyTree, memory: PyTree, reset: PyTree
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        (distribution, value), _ = network.unroll(params, obs, memory, reset)  # [T], [T]
        return *jax.vmap(log_prob_and_entropy)(distribution, action), value

    if has_memory(network):
        return jax.vmap(environment)(obs, action, memory, reset)
    output = batches.apply_batch(network, params, obs)
    distribution, value = plug_ins.policy_and_value(output, jax.tree.leaves(obs)[0].shape[:1])
    return *jax.vmap(log_prob_and_entropy)(distribution, action), value


class _Traced(NamedTuple):
    """A network with memory that is unrolled by its `trace`."""

    network: ActorCriticNetwork

    def unroll(self, params: Params, obs: PyTree, memory: PyTree, reset: jax.Array) -> tuple[PyTree, PyTree]:
        outputs, memories = self.network.trace(params, obs, memory, reset)
        return outputs, jax.tree.map(lambda x: x[-1], memories)


def by_platform(network: ActorCriticNetwork, function: Callable[..., Result], *args: PyTree) -> Result:
    """`function(network, *args)`, which may evaluate actions and differentiate.

    On an accelerator a network that has a `trace` is unrolled by it. The whole function is chosen and not the unroll
    within it, since JAX would round the derivative of a choice differently on a CPU.
    """
    if not hasattr(network, "trace"):
        return function(network, *args)
    usual, traced = (functools.partial(function, each) for each in (network, _Traced(network)))
    return branches.dependent(*args, cpu=usual, default=traced)


def resets(data: Transition) -> jax.Array:
    """[T, N] bool: whether a new episode begins at the step. The memory of the first step is that of the trajectory."""
    done = trajectories.done(data)
    return jnp.concatenate([jnp.zeros_like(done[:1]), done[:-1]])


def evaluate(
    network: ActorCriticNetwork, params: Params, data: Transition, *, differentiated: bool = True
) -> tuple[Distribution, jax.Array, jax.Array]:
    """The policy and the values along a trajectory.

    next_obs[t] is obs[t+1] unless an episode ended at t, and the value of a terminated successor does not count. So one
    pass over obs and the last next_obs gives everything except the successors of steps truncated before the last one.
    Only if there are such steps is every successor evaluated, with the memory that its own episode had after the step.

    Args:
      network: with or without memory.
      params: its parameters.
      data: a trajectory [T, N]; its `memory` [N] is that before the first step.
      differentiated: False if nothing is differentiated with respect to `params`; an accelerator then makes one half of
        the pass after the other, since in a population its activations are what takes most memory.

    Returns:
      The distributions [T, N], the values of obs [T, N], and those of next_obs [T, N], which are stopped and are free
      where terminated.
    """
    obs = jax.tree.map(lambda x, y: jnp.concatenate([x, y[-1:]]), data.obs, data.next_obs)  # [T + 1, N]
    if hasattr(network, "trace") and not differentiated:
        stepwise, traced = (functools.partial(each, network) for each in (_evaluate, _evaluate_traced))
        return branches.dependent(params, data, obs, cpu=stepwise, default=traced)
    return _evaluate(network, params, data, obs, differentiated)


def _evaluate_traced(
    network: ActorCriticNetwork, params: Params, data: Transition, obs: PyTree
) -> tuple[Distribution, jax.Array, jax.Array]:
    """As `evaluate`, not differentiated: successors are read with the memories that the pass over obs has made."""
    reset = jnp.pad(resets(data), ((0, 1), (0, 0)))
    (distribution, value), memories = jax.vmap(network.trace, (None, 1, 0, 1), 1)(params, obs, data.memory, reset)
    apply = jax.vmap(jax.vmap(network.apply, (None, 0, 0)), (None, 0, 0))
    (_, next_value), _ = apply(params, data.next_obs, jax.tree.map(lambda x: x[:-1], memories))  # [T, N]
    return jax.tree.map(lambda x: x[:-1], distribution), value[:-1], next_value


def _evaluate(
    network: ActorCriticNetwork, params: Params, data: Transition, obs: PyTree, differentiated: bool = True
) -> tuple[Distribution, jax.Array, jax.Array]:
    fixed = jax.lax.stop_gradient(params)
    if has_memory(network):
        reset = jnp.pad(resets(data), ((0, 1), (0, 0)))
        unroll = jax.vmap(network.unroll, (None, 1, 0, 1), (1, 0))
        (distribution, value), _ = unroll(params, obs, data.memory, reset)
        successors = lambda next_obs: outputs_of_successors(network, fixed, data)[1]  # noqa: E731
    else:
        apply = functools.partial(_apply_steps, network, in_halves=not differentiated and not mesh.num_devices())
        distribution, value = apply(params, obs)
        successors = jax.jit(lambda next_obs: apply(fixed, next_obs)[1])  # traced once
    following = jax.lax.stop_gradient(value[1:])  # [T + 1, N] -> [T, N]

    def if_any() -> jax.Array:
        return jax.lax.cond(data.truncated[:-1].any(), lambda: successors(data.next_obs), lambda: following)

    def always() -> jax.Array:
        """One more pass, which is less than a wait for the condition, after the first one."""
        return successors(_after(following, data.next_obs))

    next_value = if_any() if has_memory(network) else branches.dependent(cpu=if_any, default=always)
    return jax.tree.map(lambda x: x[:-1], distribution), value[:-1], next_value


def _after(first: PyTree, then: PyTree) -> PyTree:
    """`then`, once `first` has been computed."""
    return jax.lax.optimization_barrier((then, first))[0]


def _apply_steps(network: Network, params: Params, obs: PyTree, *, in_halves: bool) -> tuple[Distribution, jax.Array]:
    """The network for observations [T, N], on an accelerator one half after the other if asked for.

    Environments that are split over devices come first in the batch, since rows [T · N] could not stay split.
    """
    turn = functools.partial(jnp.swapaxes, axis1=0, axis2=1) if mesh.num_devices() else lambda x: x
    obs = jax.tree.map(turn, obs)  # [T, N] -> [N, T] where they are split
    first, second = jax.tree.leaves(obs)[0].shape[:2]
    rows = trajectories.flatten(obs)  # [T * N]
    whole = functools.partial(batches.apply_batch, network, params)

    def halves(rows: PyTree) -> PyTree:
        half = first * second // 2
        one = whole(jax.tree.map(lambda x: x[:half], rows))
        other = whole(_after(one, jax.tree.map(lambda x: x[half:], rows)))
        return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), one, other)

    out = branches.dependent(rows, cpu=whole, default=halves) if in_halves else whole(rows)
    return jax.tree.map(lambda x: turn(x.reshape(first, second, *x.shape[1:])), out)


def outputs_of_successors(network: ActorCriticNetwork, params: Params, data: Transition) -> PyTree:
    """Outputs [T, N] of a network with memory for next_obs, each read with the memory after its own step."""
    apply = jax.vmap(network.apply, (None, 0, 0))

    def step(memory: PyTree, xs: tuple[PyTree, jax.Array]) -> tuple[PyTree, PyTree]:
        obs, reset = xs
        _, memory = apply(params, obs, reset_memory(network, reset, memory))
        return memory, memory

    _, memories = jax.lax.scan(step, data.memory, (data.obs, resets(data)))  # [N] -> [T, N]
    return jax.vmap(apply, (None, 0, 0))(params, data.next_obs, memories)[0]


def reset_memory(network: ActorCriticNetwork, reset: jax.Array, memory: PyTree) -> PyTree:
    """The memories [N], those of a new episode where `reset` [N] is true."""

    def leaf(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(reset.reshape(reset.shape + (1,) * (old.ndim - reset.ndim)), new, old)

    return jax.tree.map(leaf, network.memory(), memory)

"""A whole rollout in one GPU kernel: weights and a tile of environments stay on the chip for all steps.

A rollout step is some ten launches, each of a few microseconds, however small the network. Here it is a pass of a loop
inside one kernel: the policy acts, the environments step, those whose episode ended start again, and the step's row is
written. Random numbers are those of `loops.rollout`, drawn before the kernel: noise for actions and fresh episodes.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas
from jax.experimental.pallas import triton

from purerl import loops
from purerl.envs.checking import check
from purerl.hparams import cast, check_positive
from purerl.kernels import lanes
from purerl.kernels.policy import policy_of
from purerl.kernels.rollout_tile import Plan, run_tile
from purerl.loops.actors import Actors, Finished, begin_episodes
from purerl.loops.rollouts import Rollout
from purerl.networks import ActorCritic
from purerl.packing import Unpack, pack
from purerl.prng import check_key
from purerl.spaces import Box, Discrete
from purerl.types import Agent, Env, Key, PyTree, State, Transition

_TILES = (128, 64, 32, 16)


def fused_rollout(network: ActorCritic, *, interpret: bool = False) -> Rollout:
    """`loops.rollout` as one kernel, on an NVIDIA GPU; elsewhere it is `loops.rollout`. Not yet run on a GPU.

        train(key, agent, env, hparams, ..., rollout=kernels.fused_rollout(network))

    It serves agents that sample from an `actor_critic` network, such as PPO, in environments whose step is arithmetic
    on single numbers and draws no random numbers, such as CartPole and MountainCar. Random numbers are those of
    `loops.rollout`, so the steps are the same up to the rounding of the network's products.

    Args:
      network: the agent's: hidden layers, whose widths are powers of two from 16 on, `Discrete` actions and an
        observation that is a vector of float32.
      interpret: run the kernel step by step on any platform, for tests.

    Raises:
      TypeError, ValueError: the network or the environment does not fit; the message says why.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.make("CartPole-v1")
      >>> network = purerl.networks.actor_critic(env, hidden=(16, 16))
      >>> agent = purerl.ppo(network)
      >>> sizes = dict(num_updates=1, num_envs=16, rollout_length=8)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.PPOHparams(), **sizes, rollout=fused_rollout(network))
      >>> jax.eval_shape(run, jax.random.key(0))[1]["episode_return"].shape  # run(key) trains
      (1,)
    """
    _check_network(network)
    return functools.partial(_rollout, _Same(network, interpret))


class _Same(NamedTuple):
    """The factory's arguments, hashable, so that equal ones compile once."""

    network: ActorCritic
    interpret: bool


def _rollout(
    made: _Same, key: Key, agent: Agent, env: Env, state: State, actors: Actors, /, *, length: int,
    env_params: PyTree = None,
) -> tuple[Actors, Transition]:  # fmt: skip
    check_key(key)
    check_positive(length=length)
    env_params = cast(env_params)
    return _fused(key, made, agent, check(env, env_params), state, actors, length, env_params)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 6))
def _fused(
    key: Key, made: _Same, agent: Agent, env: Env, state: State, actors: Actors, length: int, env_params: PyTree
) -> tuple[Actors, Transition]:
    plan = _plan(env, actors, env_params, length)

    def kernel(key: Key, state: State, actors: Actors, env_params: PyTree) -> tuple[Actors, Transition]:
        return _by_kernel(key, plan, made, agent, env, state, actors, env_params)

    def plain(key: Key, state: State, actors: Actors, env_params: PyTree) -> tuple[Actors, Transition]:
        return loops.rollout(key, agent, env, state, actors, length=length, env_params=env_params)

    if made.interpret:
        return kernel(key, state, actors, env_params)
    return jax.lax.platform_dependent(key, state, actors, env_params, cuda=kernel, default=plain)


# --- What is static ---------------------------------------------------------------------------------------------------


def _check_network(network: ActorCritic) -> None:
    if not isinstance(network, ActorCritic):
        raise TypeError(f"network must be made by networks.actor_critic, got {type(network).__name__}")
    space = network.observation_space
    if not (isinstance(space, Box) and len(space.shape) == 1 and space.dtype == "float32"):
        raise TypeError(f"the observation must be a vector of float32, got {space}")
    if not isinstance(network.action_space, Discrete):
        raise TypeError(f"the action space must be Discrete, got {network.action_space}")
    if not network.hidden or any(width < 16 or width & (width - 1) for width in network.hidden):
        raise ValueError(f"hidden widths must be powers of two from 16 on, got {network.hidden}")


def _plan(env: Env, actors: Actors, env_params: PyTree, length: int) -> Plan:
    """Trace one step of one environment, and check that it is elementwise."""
    num_envs = actors.episode_return.shape[0]
    tile = next((tile for tile in _TILES if num_envs % tile == 0), 0)
    if not tile:
        raise ValueError(f"num_envs = {num_envs} must be a multiple of {_TILES[-1]}")

    def step(obs: PyTree, env_state: PyTree, action: jax.Array, env_params: PyTree) -> PyTree:
        new = env.step(jax.random.key(0), env_state, action, env_params)
        row = Transition(obs, action, new.reward, new.terminated, new.truncated, new.obs), new.info
        return row, (new.obs, new.env_state)

    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (actors.obs, actors.env_state))
    params_like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), env_params)
    closed, (row_like, after) = jax.make_jaxpr(step, return_shape=True)(
        *like, jax.ShapeDtypeStruct((), jnp.int32), params_like
    )
    closed = _without_dead_code(closed)
    lanes.check(closed, "the environment's step")
    del after
    return Plan(closed, like, row_like, length, tile, env.action_space.n)  # type: ignore[union-attr]


def _without_dead_code(closed: Any) -> Any:
    """The same function without what no result needs, such as an unused key."""
    from jax.interpreters import partial_eval

    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)
    used = dict(zip(closed.jaxpr.constvars, closed.consts))
    return type(closed)(jaxpr, [used[var] for var in jaxpr.constvars])


# --- The kernel -------------------------------------------------------------------------------------------------------


def _by_kernel(
    key: Key, plan: Plan, made: _Same, agent: Agent, env: Env, state: State, actors: Actors, env_params: PyTree
) -> tuple[Actors, Transition]:
    num_envs, length = actors.episode_return.shape[0], plan.length
    noise, fresh = _draw(key, plan, agent, env, state, num_envs, env_params)
    (running,), unpack_state = pack((actors.obs, actors.env_state))  # [N, D]
    row, unpack_row = _pack_like((plan.row_like, jax.ShapeDtypeStruct((), jnp.float32)), num_envs)
    policy = policy_of(state.params, made.network)
    counts = jnp.stack([jax.lax.bitcast_convert_type(actors.episode_return, jnp.int32), actors.episode_length])
    counts = jnp.concatenate([counts, jnp.zeros((3, num_envs), jnp.int32)])  # [5, N]: and what ended within
    numbers = _numbers(env_params)
    rows, last, counts = pallas.pallas_call(
        functools.partial(run_tile, plan, policy.structure, len(numbers)),
        grid=(num_envs // plan.tile,),
        out_shape=[
            jax.ShapeDtypeStruct((length, row, num_envs), jnp.int32),
            jax.ShapeDtypeStruct((running.shape[1], num_envs), jnp.int32),
            jax.ShapeDtypeStruct((5, num_envs), jnp.int32),
        ],
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=1),
        interpret=made.interpret,
        name="fused_rollout",
    )(running.T, counts, noise, fresh, *numbers, *policy.leaves)
    (transition, info), log_prob = unpack_row([rows.swapaxes(1, 2)])  # [T, D, N] -> [T, N, D]
    obs, env_state = unpack_state([last.T])
    return_, ended_return = (jax.lax.bitcast_convert_type(counts[i], jnp.float32) for i in (0, 2))
    actors = actors._replace(
        env_state=env_state,
        obs=obs,
        episode_return=return_,
        episode_length=counts[1],
        finished=Finished(ended_return, counts[3], counts[4]),
        info={name: jnp.mean(x.astype(jnp.float32)) for name, x in (info or {}).items()},
    )
    return actors, transition._replace(aux={"log_prob": log_prob}, memory=())


def _draw(
    key: Key, plan: Plan, agent: Agent, env: Env, state: State, num_envs: int, env_params: PyTree
) -> tuple[jax.Array, jax.Array]:
    """The random numbers of `loops.rollout`: noise of actions [T, A, N], and fresh episodes [T, D, N]."""
    step_key, reset_key = jax.random.split(key)
    keys = jax.random.split(step_key, (plan.length, num_envs, 2))[..., 0]

    def gumbel(key: Key) -> jax.Array:
        return jax.random.gumbel(key, (plan.num_actions,))

    def begin(key: Key) -> jax.Array:
        obs, env_state, _ = begin_episodes(key, agent, env, state, num_envs, env_params)
        return pack((obs, env_state))[0][0].T  # [N, D] -> [D, N]

    noise = jax.vmap(jax.vmap(gumbel))(keys)  # [T, N, A]
    return noise.swapaxes(1, 2), jax.vmap(begin)(jax.random.split(reset_key, plan.length))


def _pack_like(like: PyTree, num_envs: int) -> tuple[int, Unpack]:
    """The number of words of a row, and the function that takes rows apart."""
    found: list[Unpack] = []

    def packed(tree: PyTree) -> jax.Array:
        arrays, unpack = pack(tree)
        if len(arrays) != 1:
            raise TypeError("the kernel needs leaves of four bytes, or bools")
        found.append(unpack)
        return arrays[0]

    wide = jax.tree.map(lambda x: jax.ShapeDtypeStruct((num_envs, *x.shape), x.dtype), like)
    return jax.eval_shape(packed, wide).shape[1], found[0]


def _numbers(env_params: PyTree) -> list[jax.Array]:
    """Every number of the parameters of the environment as an array [1]."""
    return [leaf.reshape(-1)[i : i + 1] for leaf in jax.tree.leaves(env_params) for i in range(leaf.size)]

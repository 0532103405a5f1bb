"""JaxMARL: several agents in one environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs import drawings
from purerl.envs.adapters.spaces import converted, repeated
from purerl.envs.families import Family, check_member
from purerl.envs.wrappers import agents
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Space
from purerl.types import Env, EnvStep, Key, PyTree, RenderFn

Environment: TypeAlias = Any
"""A `jaxmarl.environments.MultiAgentEnv`."""


def from_jaxmarl(env: Environment) -> Env:
    """Wrap an environment of JaxMARL: one observation holds what all A agents see, one action what all do.

        obs = {"agents": [A, D]},   action: [A] or [A, K],   reward = mean over agents of their rewards

    Observations are vectors, padded with zeros to the longest one and followed by the agent's number as a one-hot
    vector, so that one policy can play every agent. Beyond what its space names, an observation has "rewards" [A], each
    agent's own reward in the step that led to it (0 after a reset), and "alive" [A], false from the step on in which an
    agent was done before the others; `with_shared_policy` and `with_separate_policies` read them. If the library knows
    which actions are available, "action_mask" [A, n] says so.

    JaxMARL reports one end. It counts as a time-out if the environment has a limit of steps that is reached in it
    while no agent was done before; otherwise it terminates.

    Args:
      env: a `MultiAgentEnv`; `step_env` is used, so nothing resets by itself.

    Returns:
      An `Env`. A new one in every call, so keep it: environments compare by identity.

    Raises:
      TypeError: agents whose actions are of different kinds.
    """
    names = list(env.agents)
    limit = _limit(env)
    actions, split = _actions(env, names)
    shapes = jax.eval_shape(lambda key: env.reset(key), jax.eval_shape(lambda: jax.random.key(0)))
    sizes = [int(np.prod(shapes[0][name].shape)) for name in names]
    masked = isinstance(actions, MultiDiscrete) and _has_masks(env, shapes[1])

    def observe(obs: PyTree, state: PyTree, rewards: jax.Array, alive: jax.Array) -> PyTree:
        vectors = [jnp.ravel(obs[name]).astype(jnp.float32) for name in names]
        padded = jnp.stack([jnp.pad(each, (0, max(sizes) - each.size)) for each in vectors])  # [A, D]
        seen = {"agents": jnp.concatenate([padded, jnp.eye(len(names), dtype=jnp.float32)], axis=1)}
        if masked:
            available = env.get_avail_actions(state)
            seen["action_mask"] = jnp.stack([jnp.asarray(available[name], bool) for name in names])
        return seen | {"rewards": rewards, "alive": alive}

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        obs, state = env.reset(key)
        alive = jnp.ones(len(names), bool)
        return observe(obs, state, jnp.zeros(len(names), jnp.float32), alive), (state, alive, jnp.int32(0))

    def step(key: Key, env_state: PyTree, action: jax.Array, env_params: PyTree = None) -> EnvStep:
        state, alive, time = env_state
        obs, state, rewards, done, _ = env.step_env(key, state, split(action))
        own = jnp.stack([jnp.asarray(rewards[name], jnp.float32).reshape(()) for name in names])
        gone = jnp.stack([jnp.asarray(done[name], bool).reshape(()) for name in names])
        ended, time = jnp.asarray(done["__all__"], bool).reshape(()), time + 1
        truncated = ended & (time >= limit) if limit else jnp.zeros((), bool)
        alive &= ~gone | truncated
        seen = observe(obs, state, own, alive)
        return EnvStep(seen, (state, alive, time), own.mean(), ended & ~truncated, truncated)

    spaces: dict[str, Space] = {"agents": Box(-np.inf, np.inf, (len(names), max(sizes) + len(names)))}
    if masked:
        spaces["action_mask"] = Box(0, 1, (len(names), actions.num_values[0]), "bool")
    return Env(reset, step, Dict(spaces), actions, _renderer(env, shapes[1]), limit)


def _renderer(env: Environment, state: PyTree) -> RenderFn | None:
    """A function that draws the discs of the particle environments (MPE); None for others."""
    if not (hasattr(state, "p_pos") and hasattr(env, "rad") and hasattr(env, "colour")):
        return None
    radii, colors = np.asarray(env.rad), np.asarray(env.colour)
    return lambda env_state: drawings.discs(np.asarray(env_state[0].p_pos), radii, colors, reach=2.0)


def _limit(env: Environment) -> int | None:
    """The number of steps of an episode, under any of the names that the library's environments give it.

    The particle environments (MPE) compare before they count, so their episodes have one step more than `max_steps`.
    """
    from jaxmarl.environments.mpe.simple import SimpleMPE

    found = next((getattr(env, name) for name in ("max_steps", "num_inner_steps") if hasattr(env, name)), None)
    return None if found is None else int(found) + isinstance(env, SimpleMPE)


def _actions(env: Environment, names: list[str]) -> tuple[Any, Any]:
    """The joint space, and the function from a joint action to one for each agent."""
    spaces = [converted(env.action_space(name)) for name in names]
    if all(isinstance(space, Discrete) for space in spaces):
        counts = tuple(space.n for space in spaces)  # type: ignore[union-attr]
        return MultiDiscrete(counts), lambda action: {name: action[i] for i, name in enumerate(names)}
    if len(set(spaces)) > 1 or not isinstance(spaces[0], Box):
        raise TypeError(f"the agents' action spaces must be Discrete, or one Box for all; got {spaces}")
    low, high = (np.broadcast_to(bound, (len(names), *bound.shape)) for bound in spaces[0].bounds())
    clip = lambda action: jnp.clip(action, low, high)  # noqa: E731
    return repeated(spaces[0], len(names)), lambda action: dict(zip(names, clip(action)))


def _has_masks(env: Environment, state: PyTree) -> bool:
    try:
        jax.eval_shape(env.get_avail_actions, state)
    except (NotImplementedError, AttributeError, TypeError):
        return False
    return True


def _make(name: str, *, central_critic: bool = False, **settings: Any) -> Env:
    """`central_critic`: see `envs.central_critic`."""
    import jaxmarl

    check_member("jaxmarl", name, _names())
    env = from_jaxmarl(jaxmarl.make(name, **settings))
    return agents.central_critic(env) if central_critic else env


def _names() -> Sequence[str]:
    from jaxmarl import registration

    return sorted(registration.registered_envs)


FAMILY = Family(_make, _names, "jaxmarl", "jaxmarl", "several agents", "MPE_simple_spread_v3")

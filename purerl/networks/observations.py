"""One observation of any space as floats that a network can read."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from purerl.spaces import Dict, Discrete, MultiDiscrete, Space, Tuple


def encode(obs: Any, space: Space) -> jax.Array:
    """One observation as floats: an image [H, W, C] as it is, anything else as one vector.

    Integers of a discrete space become one-hot; the parts of a dict (but for `action_mask`) or tuple are concatenated.
    """
    if isinstance(space, Discrete):
        return jax.nn.one_hot(obs, space.n)
    if isinstance(space, MultiDiscrete):
        return jnp.concatenate([jax.nn.one_hot(obs[i], n) for i, n in enumerate(space.num_values)])
    if isinstance(space, Dict):
        parts = [encode(obs[name], part).reshape(-1) for name, part in space.spaces if name != "action_mask"]
        return jnp.concatenate(parts)
    if isinstance(space, Tuple):
        return jnp.concatenate([encode(o, part).reshape(-1) for o, part in zip(obs, space.spaces)])
    obs = jnp.asarray(obs).astype(jnp.result_type(float))
    return obs if obs.ndim == 3 else obs.reshape(-1)


def check_observation(obs: Any, space: Space, name: str = "obs") -> None:
    """Reject an observation of another structure or shape than the space's.

    Raises:
      ValueError: names the part, its shape and the shape expected.
    """
    if isinstance(space, Dict):
        for part, inner in space.spaces:
            if part not in obs:
                raise ValueError(f"{name} has no entry {part!r}")
            check_observation(obs[part], inner, f"{name}[{part!r}]")
    elif isinstance(space, Tuple):
        for i, inner in enumerate(space.spaces):
            check_observation(obs[i], inner, f"{name}[{i}]")
    elif jnp.shape(obs) != space.shape:
        raise ValueError(
            f"{name} has shape {jnp.shape(obs)}, but the network was built for {space.shape} (one example)"
        )


def has_mask(space: Space) -> bool:
    """Whether observations name the allowed actions."""
    return isinstance(space, Dict) and "action_mask" in space

"""Whether training has diverged."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from purerl.hparams import get_learner
from purerl.types import State


def diverged(state: State) -> jax.Array:
    """Whether what an agent has learned holds NaN, or its parameters an infinity.

    Replay and hyperparameters are not looked at.

    Args:
      state: an agent's state.

    Returns:
      bool scalar.
    """
    try:
        learner = get_learner(state)
    except (TypeError, NameError):  # not a NamedTuple, or one whose annotations cannot be resolved
        learner = {"params": state}
    bad = jnp.bool_(False)
    for path, leaf in jax.tree_util.tree_flatten_with_path(learner)[0]:
        name = jax.tree_util.keystr(path)
        if "hparams" in name or not jnp.issubdtype(leaf.dtype, jnp.floating):
            continue
        bad |= ~jnp.isfinite(leaf).all() if "params" in name else jnp.isnan(leaf).any()
    return bad

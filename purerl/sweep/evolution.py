"""The decisions of population-based training: whose learner each member takes over, and with which hyperparameters.

Both are pure functions of a key and of the scores, so a population decides inside its own compiled program.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

from purerl.sweep.spaces import Choice, Range, Space
from purerl.types import get_learner, set_hparams, set_learner


def exploit(key: jax.Array, scores: jax.Array, num_replaced: int) -> jax.Array:
    """Truncation selection: each of the worst `num_replaced` members takes a random one of the best `num_replaced`.

    A NaN score is the worst. Every member with NaN is replaced, however many there are, and none is ever taken; where
    all are NaN, nobody is replaced. Equal scores rank in the order of the members.

    Args:
      key: typed key.
      scores: [P].
      num_replaced: at most P / 2; 0 replaces nobody.

    Returns:
      int32 [P], the member whose learner each takes over, most often its own.

    Source: Jaderberg et al. 2017, arXiv:1711.09846, section 4.1.1 ("truncation selection").
    """
    chex.assert_rank(scores, 1)
    size = scores.shape[0]
    members, healthy = jnp.arange(size), ~jnp.isnan(scores)
    order = jnp.argsort(jnp.where(healthy, -scores, jnp.inf), stable=True)
    rank = jnp.zeros(size, jnp.int32).at[order].set(members)
    num_donors = jnp.minimum(num_replaced, healthy.sum())
    donors = order[jax.random.randint(key, (size,), 0, jnp.maximum(num_donors, 1))]
    replaced = (num_donors > 0) & ((rank >= size - num_replaced) | ~healthy)
    return jnp.where(replaced, donors, members).astype(jnp.int32)


def explore(
    key: jax.Array,
    hparams: Any,
    spaces: Mapping[str, Space],
    *,
    factors: tuple[float, ...],
    resample_probability: float,
) -> Any:
    """Move each searched hyperparameter of one member a little, or with `resample_probability` draw it anew.

    A factor f is drawn for each of them, and a value x becomes, clipped to its range and rounded to its kind,

        logarithmic range:  f x
        linear range:       x + (f - 1) (high - low)
        choice:             its neighbour in the order given, above where f > 1 and below where f < 1.

    An integer moves by 1 at least, unless f = 1.

    Args:
      key: typed key.
      hparams: a NamedTuple of scalars.
      spaces: the hyperparameters that may change. A draw depends on the key and the own name alone.
      factors: each as likely.
      resample_probability: of a uniform draw from the space in place of the move.

    Returns:
      The NamedTuple with those fields changed, of the same dtypes.

    Source: Jaderberg et al. 2017, arXiv:1711.09846, section 4.1.1 ("perturb" and "resample"); linear ranges, which a
    factor could never carry over 0, are this package's addition.
    """

    def changed(name: str, space: Space) -> jax.Array:
        value = getattr(hparams, name)
        which, anew, how = jax.random.split(jax.random.fold_in(key, zlib.crc32(name.encode())), 3)
        drawn = _draw(jax.random.uniform(anew), space)
        moved = _move(value, space, jax.random.choice(how, jnp.array(factors)))
        return jnp.where(jax.random.bernoulli(which, resample_probability), drawn, moved).astype(value.dtype)

    return hparams._replace(**{name: changed(name, space) for name, space in spaces.items()})


def inherit(state: Any, parents: jax.Array, hparams: Any) -> Any:
    """The states of the members after each took over its parent's learner, with these hyperparameters.

    Args:
      state: agents' states, leaves [P, ...]; replay and all other experience stay, see `types.get_learner`.
      parents: int32 [P].
      hparams: leaves [P].
    """
    learner = jax.tree.map(lambda x: x[parents], get_learner(state))
    return set_hparams(set_learner(state, learner), hparams)


def _draw(unit: jax.Array, space: Space) -> jax.Array:
    if isinstance(space, Choice):
        return jnp.asarray(space.values)[(unit * len(space.values)).astype(int)]
    return space.from_unit(unit)


def _move(value: jax.Array, space: Space, factor: jax.Array) -> jax.Array:
    if isinstance(space, Choice):
        values = jnp.asarray(space.values)
        index = jnp.argmin(jnp.abs(values.astype(float) - value.astype(float))) + jnp.sign(factor - 1).astype(int)
        return values[jnp.clip(index, 0, len(space.values) - 1)]
    return _move_in_range(value.astype(float), space, factor)


def _move_in_range(value: jax.Array, space: Range, factor: jax.Array) -> jax.Array:
    change = (factor - 1) * (value if space.log else space.high - space.low)
    if space.integer:
        change = jnp.sign(change) * jnp.maximum(jnp.rint(jnp.abs(change)), 1)
    return jnp.clip(value + change, space.low, space.high)

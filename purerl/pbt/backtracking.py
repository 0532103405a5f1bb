"""Population-based training with backtracking: members may also copy elites, the best learners of earlier rounds.

Members that train on from a good learner can lose what it could, all of them at once. The elites keep it: the best E
learners so far, as they were when they were scored.

Source: Zhang et al. 2021, "On the Importance of Hyperparameter Optimization for Model-based Reinforcement Learning",
arXiv:2102.13651 (PBT-BT). Here elites are candidates of the truncation selection of `exploit_explore.exploit`, beside
the members, and the hyperparameters of a copy are perturbed as always.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.hparams import get_learner
from purerl.types import PyTree, State


class Elites(NamedTuple):
    """The best E learners of the rounds before the last one.

    Attributes:
      learners: as `hparams.get_learner` returns them, leaves [E, ...].
      scores: float32 [E], when they were kept; NaN for one that is still missing.
      rounds, places: int32 [E], the round and the member that each was.
    """

    learners: PyTree
    scores: jax.Array
    rounds: jax.Array
    places: jax.Array


def none_yet(state: State, num_elites: int) -> Elites:
    """Elites before the first round, with the shapes and types of the learners of `state`, leaves [P, ...]."""
    first = jnp.zeros(num_elites, jnp.int32)
    learners = jax.tree.map(lambda x: x[first], get_learner(state))  # [P, ...] -> [E, ...]
    return Elites(learners, jnp.full(num_elites, jnp.nan, jnp.float32), first, first)


def candidates(state: State, scores: jax.Array, last: jax.Array, elites: Elites) -> Elites:
    """The members after round `last` and then the elites, leaves [P + E, ...]; before a round no score is known."""
    members = jnp.arange(scores.size, dtype=jnp.int32)
    scores = jnp.where(last >= 0, scores, jnp.nan)
    now = Elites(get_learner(state), scores, jnp.full_like(members, last), members)
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), now, elites)


def best_of(found: Elites, num_elites: int) -> Elites:
    """The elites of the next round; of equal ones the newest are kept.

    Examples:
      >>> number = jnp.arange(3)
      >>> best_of(Elites((), jnp.array([1.0, jnp.nan, 2.0]), number, number), 1).places.tolist()
      [2]
    """
    order = jnp.argsort(jnp.where(jnp.isnan(found.scores), jnp.inf, -found.scores), stable=True)
    return jax.tree.map(lambda x: x[order[:num_elites]], found)  # [P + E, ...] -> [E, ...]


def origin(found: Elites, chosen: jax.Array, last: jax.Array, population_size: int) -> jax.Array:
    """int32 [P], parents as a `Lineage` records them: place + P (rounds before the last one)."""
    return (found.places + population_size * (last - found.rounds))[chosen]

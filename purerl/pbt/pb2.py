"""Population-based bandits: a copy goes on with the hyperparameters that promise the fastest growth of its score.

A Gaussian process learns the growth of the score in one round from the time, the score at its beginning and the
hyperparameters, and its expected improvement chooses among random candidates. Parker-Holder et al. (2020), "Provably
Efficient Online Hyperparameter Optimization with Population-Based Bandits", algorithm 1. Deviations: time is one more
axis of the kernel instead of a factor that forgets, expected improvement takes the place of the upper bound, and
choices are axes too.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from purerl.pbt import exploit_explore
from purerl.pbt.rounds import Lineage
from purerl.sweep.models import gp
from purerl.sweep.models.encoding import axes_of, encode, observed
from purerl.sweep.trials.spaces import Space
from purerl.types import Hparams

_WINDOW, _CANDIDATES = 256, 256  # growths that the process learns from, and points it chooses among


def decide(
    key: jax.Array,
    lineage: Lineage,
    hparams: Hparams,
    spaces: Mapping[str, Space],
    num_rounds: int,
    num_replaced: int,
) -> Lineage:
    """The parents and hyperparameters of the next round, leaves [1, P], from the rounds so far.

    Parents are those of `exploit_explore.exploit`. A copy draws its hyperparameters at random until two rounds are
    known.

    Args:
      key: typed key.
      lineage: of the rounds so far, on the host, leaves [r, P].
      hparams: of the members now, leaves [P], or [P, A] of A policies, which may have adapted some of them themselves.
      spaces: the hyperparameters that may change.
      num_rounds: rounds of the whole run.
      num_replaced: as in `exploit`.
    """
    exploit_key, explore_key = jax.random.split(key)
    scores = np.asarray(lineage.scores)
    parents = np.asarray(exploit_explore.exploit(exploit_key, jnp.asarray(scores[-1]), num_replaced))
    chosen = {name: np.array(getattr(hparams, name)[parents]) for name in spaces}
    context, growth = _growths(lineage, spaces, num_rounds)
    for member in np.flatnonzero(parents != np.arange(len(parents))).tolist():
        now = (len(scores) / num_rounds, float(_scaled(scores, scores[-1, parents[member]])))
        point = _choose(jax.random.fold_in(explore_key, member), context, growth, spaces, now)
        for name, values in axes_of(spaces).decode(spaces, point[None]).items():
            chosen[name][member] = values[0]
    inherited = jax.tree.map(lambda leaf: np.asarray(leaf)[parents], hparams)
    moved = {name: values.astype(getattr(inherited, name).dtype) for name, values in chosen.items()}
    told = Lineage(parents, inherited._replace(**moved), scores[-1])
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], told)  # [P] -> [1, P]


def _growths(lineage: Lineage, spaces: Mapping[str, Space], num_rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Time, score at the beginning and hyperparameters, [n, 2 + D], and the growth of the score, [n]; the last n."""
    scores, parents = np.asarray(lineage.scores, np.float64), np.asarray(lineage.parents)
    before = np.take_along_axis(scores[:-1], parents[1:], axis=1)  # [r - 1, P] of the learner that was copied
    columns = {name: np.asarray(getattr(lineage.hparams, name))[1:].reshape(-1) for name in spaces}
    if not before.size:
        return np.empty((0, 2 + len(spaces))), np.empty(0)
    time = np.repeat(np.arange(1, len(scores)) / num_rounds, scores.shape[1])
    context = np.column_stack([time, _scaled(scores, before.reshape(-1)), encode(spaces, columns)])
    growth = (scores[1:] - before).reshape(-1)
    known = np.isfinite(before.reshape(-1))
    return context[known][-_WINDOW:], growth[known][-_WINDOW:]


def _choose(
    key: jax.Array, context: np.ndarray, growth: np.ndarray, spaces: Mapping[str, Space], now: tuple[float, float]
) -> np.ndarray:
    """[D], the hyperparameters to go on with from `now`, the time and the score."""
    draw_key, model_key = jax.random.split(key)
    points = np.asarray(jax.random.uniform(draw_key, (_CANDIDATES, len(spaces))))
    if not len(growth):
        return points[0].astype(np.float64)
    candidates = np.column_stack([np.full((_CANDIDATES, 2), now), points])
    sizes = (0, 0, *axes_of(spaces).sizes)
    seen, here = observed(context, growth), jnp.asarray(candidates, jnp.float32)
    (best,) = gp.propose(model_key, seen, here, sizes=sizes, count=1)
    return points[int(best)].astype(np.float64)


def _scaled(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Scores as parts of their range so far; the middle if one is missing."""
    known = scores[np.isfinite(scores)]
    if not known.size or np.ptp(known) == 0:
        return np.full_like(np.asarray(values, np.float64), 0.5)
    return np.nan_to_num((np.asarray(values, np.float64) - known.min()) / np.ptp(known), nan=0.5)

"""The tree-structured Parzen estimator: try what is likely among the good trials and unlikely among the others.

Bergstra et al. (2011), "Algorithms for Hyper-Parameter Optimization", section 4; one density over all names at once, as
in Falkner et al. (2018), "BOHB", section 3. A batch is drawn point by point, each of which joins the others as if it
were bad, so that the next one keeps away from it.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from purerl.sweep.models.encoding import Observed

_GOOD = 0.15  # share of the trials that are good
_NARROWEST = 0.03  # bandwidth, as a share of the range


@functools.partial(jax.jit, static_argnames=("sizes", "count", "num_candidates"))
def propose(
    key: jax.Array,
    seen: Observed,
    candidates: jax.Array,
    closed: jax.Array | None = None,
    *,
    sizes: tuple[int, ...],
    count: int,
    num_candidates: int = 64,
) -> jax.Array:
    """The points to try next: those with the highest ratio l(x) / g(x), one after the other.

    l is the density of the good trials, of which there are ⌈0.15 n⌉, and g that of the others; each is a mixture of a
    kernel per trial and of one uniform density, which keeps some of every region.

    Args:
      key: typed key.
      seen: the evaluated points.
      candidates: [M, D] points to choose from; M = 0 draws `num_candidates` from l for each.
      closed: bool [M], candidates that must not be chosen; None: all may be.
      sizes: number of categories of each axis; 0 for numbers.
      count: number of points.
      num_candidates: see above.

    Returns:
      [count, D] points, or int32 [count] indices of the candidates, none twice.
    """
    good, bad = _split(seen)
    width_good, width_bad = _bandwidth(seen.points, good), _bandwidth(seen.points, bad)
    kinds = jnp.array(sizes)
    room = jnp.zeros((count, seen.points.shape[1]))

    def step(carry: tuple[jax.Array, jax.Array], inputs: tuple[jax.Array, jax.Array]) -> tuple[tuple, jax.Array]:
        taken, blocked = carry  # [count, D] points of this batch; [M] candidates that are used up
        place, key = inputs
        drawn = candidates if candidates.shape[0] else _draw(key, seen.points, good, width_good, kinds, num_candidates)
        every = jnp.concatenate([seen.points, taken])  # [N + count, D]
        members = jnp.concatenate([bad, jnp.arange(count) < place])
        ratio = _log_density(drawn, seen.points, good, width_good, kinds) - _log_density(
            drawn, every, members, width_bad, kinds
        )
        best = jnp.argmax(jnp.where(blocked, -jnp.inf, ratio))
        blocked = blocked.at[best].set(True) if candidates.shape[0] else blocked
        return (taken.at[place].set(drawn[best]), blocked), best if candidates.shape[0] else drawn[best]

    blocked = jnp.zeros(candidates.shape[0] or num_candidates, bool) if closed is None else closed
    _, chosen = jax.lax.scan(step, (room, blocked), (jnp.arange(count), jax.random.split(key, count)))
    return chosen


def _split(seen: Observed) -> tuple[jax.Array, jax.Array]:
    """[N] and [N] bool, the good trials and the others."""
    number = jnp.ceil(_GOOD * seen.known.sum()).astype(int)
    order = jnp.argsort(jnp.where(seen.known, -seen.scores, jnp.inf), stable=True)
    rank = jnp.zeros(len(order), int).at[order].set(jnp.arange(len(order)))
    good = seen.known & (rank < number)
    return good, seen.known & ~good


def _bandwidth(points: jax.Array, members: jax.Array) -> jax.Array:
    """[D] by Scott's rule, σ n^(-1 / (D + 4)), σ at least that of a uniform density over n."""
    number = jnp.maximum(members.sum(), 1)
    mean = jnp.where(members[:, None], points, 0).sum(axis=0) / number
    spread = jnp.sqrt(jnp.where(members[:, None], (points - mean) ** 2, 0).sum(axis=0) / number)
    return jnp.clip(spread * number ** (-1 / (points.shape[1] + 4)), _NARROWEST, 0.5)


def _log_density(
    at: jax.Array, centers: jax.Array, members: jax.Array, width: jax.Array, kinds: jax.Array
) -> jax.Array:
    """[M] log-density of a mixture of kernels at points [M, D], with the centers [N, D] that are `members`.

    Normal kernels are cut to [0, 1]; a category has 1 - w, and the others share w, w being twice the bandwidth.
    """
    offset = (at[:, None] - centers[None]) / width  # [M, N, D]
    inside = jax.scipy.special.ndtr((1 - centers) / width) - jax.scipy.special.ndtr(-centers / width)  # [N, D]
    number = -0.5 * offset**2 - 0.5 * jnp.log(2 * jnp.pi) - jnp.log(width) - jnp.log(jnp.maximum(inside, 1e-12))
    same = jnp.floor(at[:, None] * kinds) == jnp.floor(centers[None] * kinds)
    share = jnp.minimum(2 * width, 0.9)
    category = jnp.where(same, jnp.log(1 - share), jnp.log(share / jnp.maximum(kinds - 1, 1))) + jnp.log(
        jnp.maximum(kinds, 1.0)
    )  # density over [0, 1): probability times the number of categories
    kernel = jnp.where(kinds > 0, category, number).sum(axis=2)  # [M, N]
    kernel = jnp.where(members, kernel, -jnp.inf)
    uniform = jnp.zeros((at.shape[0], 1))  # the density of the cube is 1
    return jax.nn.logsumexp(jnp.concatenate([kernel, uniform], axis=1), axis=1) - jnp.log(members.sum() + 1.0)


def _draw(
    key: jax.Array, points: jax.Array, members: jax.Array, width: jax.Array, kinds: jax.Array, count: int
) -> jax.Array:
    """[count, D] points from the mixture of `_log_density`."""
    which, where, off, other, mix = jax.random.split(key, 5)
    weight = jnp.append(jnp.where(members, 0.0, -jnp.inf), 0.0)  # the last one is the uniform density
    kernel = jax.random.categorical(which, weight, shape=(count,))
    center = points[jnp.minimum(kernel, len(points) - 1)]  # [count, D]
    low, high = jax.scipy.special.ndtr(-center / width), jax.scipy.special.ndtr((1 - center) / width)
    unit = jax.random.uniform(where, center.shape)
    number = jnp.clip(center + width * jax.scipy.special.ndtri(low + unit * (high - low)), 0, 1 - 1e-6)
    moved = jax.random.uniform(off, center.shape) < jnp.minimum(2 * width, 0.9)
    step = 1 + jnp.floor(jax.random.uniform(other, center.shape) * (kinds - 1))  # to each of the others
    place = jnp.mod(jnp.floor(center * kinds) + step, jnp.maximum(kinds, 1))
    category = jnp.where(moved, (place + 0.5) / jnp.maximum(kinds, 1), center)
    drawn = jnp.where(kinds > 0, category, number)
    return jnp.where((kernel == len(points))[:, None], jax.random.uniform(mix, center.shape), drawn)

"""A Gaussian process with expected improvement, in batches.

    k(x, x') = s² (1 + √5 r + 5 r² / 3) exp(-√5 r),      r² = Σ_d (x_d - x'_d)² / ℓ_d²        (Matérn 5/2)

Lengths ℓ, scale s² and noise are those of the highest posterior of several starts. A batch is chosen point by point,
each of which is entered with the mean that the model expects there (kriging believer, Ginsbourger et al. 2010), so that
the next one keeps away from it. Snoek et al. (2012), "Practical Bayesian Optimization of Machine Learning Algorithms".
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as linalg
import optax

from purerl.sweep.models.encoding import Observed

_STEPS, _RATE = 150, 0.1  # of Adam on the logarithms of the parameters
_JITTER = 1e-4


class Kernel(NamedTuple):
    """Logarithms of the parameters of a process: lengths [D], scale [] and noise []."""

    lengths: Any
    scale: Any
    noise: Any


@functools.partial(jax.jit, static_argnames=("sizes", "count", "num_candidates"))
def propose(
    key: jax.Array,
    seen: Observed,
    candidates: jax.Array,
    closed: jax.Array | None = None,
    *,
    sizes: tuple[int, ...],
    count: int,
    num_candidates: int = 512,
) -> jax.Array:
    """The points to try next, each with the highest expected improvement over the best one so far.

    Arguments and result are those of `tpe.propose`; without candidates, half of them are uniform and the others lie
    near the best points.
    """
    fit_key, draw_key = jax.random.split(key)
    kinds = jnp.array(sizes)
    kernel = fit(fit_key, seen, kinds)
    drawn = candidates if candidates.shape[0] else _draw(draw_key, seen, kinds, num_candidates)
    room = seen.points.shape[0]
    points = jnp.concatenate([seen.points, jnp.zeros((count, seen.points.shape[1]))])
    scores, known = (jnp.concatenate([leaf, jnp.zeros(count, leaf.dtype)]) for leaf in (seen.scores, seen.known))

    def step(carry: tuple[Observed, jax.Array], place: jax.Array) -> tuple[tuple, jax.Array]:
        seen, blocked = carry
        mean, deviation = predict(kernel, seen, drawn, kinds)
        gain = log_expected_improvement(mean, deviation, jnp.max(jnp.where(seen.known, seen.scores, -jnp.inf)))
        best = jnp.argmax(jnp.where(blocked, -jnp.inf, gain))
        at = room + place
        believed = Observed(
            seen.points.at[at].set(drawn[best]), seen.scores.at[at].set(mean[best]), seen.known.at[at].set(True)
        )
        return (believed, blocked.at[best].set(True)), best

    blocked = jnp.zeros(len(drawn), bool) if closed is None else closed
    _, chosen = jax.lax.scan(step, (Observed(points, scores, known), blocked), jnp.arange(count))
    return chosen if candidates.shape[0] else drawn[chosen]


def fit(key: jax.Array, seen: Observed, kinds: jax.Array, num_starts: int = 4) -> Kernel:
    """The kernel with the highest posterior density, by Adam from several starts side by side.

    The prior of each logarithm is normal: lengths around 0.5, the scale around 1, the noise around 0.1.
    """
    size = seen.points.shape[1]
    middle = Kernel(jnp.full(size, jnp.log(0.5)), jnp.float32(0.0), jnp.float32(jnp.log(0.1)))

    def loss(kernel: Kernel) -> jax.Array:
        prior = sum(jnp.sum((a - b) ** 2) for a, b in zip(kernel, middle)) / 2
        return prior - log_likelihood(kernel, seen, kinds)

    def run(key: jax.Array) -> tuple[Kernel, jax.Array]:
        keys = jax.random.split(key, 3)
        start = Kernel(*(m + 0.7 * jax.random.normal(k, jnp.shape(m)) for m, k in zip(middle, keys)))
        optimizer = optax.adam(_RATE)

        def step(carry: tuple[Kernel, Any], _: None) -> tuple[tuple, None]:
            kernel, state = carry
            updates, state = optimizer.update(jax.grad(loss)(kernel), state)
            return (Kernel(*optax.apply_updates(kernel, updates)), state), None

        (kernel, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, _STEPS)
        return kernel, loss(kernel)

    kernels, losses = jax.vmap(run)(jax.random.split(key, num_starts))  # leaves [starts, ...]
    best = jnp.argmin(jnp.where(jnp.isnan(losses), jnp.inf, losses))
    found: Kernel = jax.tree.map(lambda leaf: leaf[best], kernels)
    return found


def log_likelihood(kernel: Kernel, seen: Observed, kinds: jax.Array) -> jax.Array:
    """-½ yᵀ K⁻¹ y - ½ log |K| of the known points, up to a constant; the others are independent and equal 0."""
    root = _root(kernel, seen, kinds)
    white = linalg.solve_triangular(root, seen.scores, lower=True)  # L⁻¹ y, [N]
    return -0.5 * jnp.sum(white**2) - jnp.sum(jnp.where(seen.known, jnp.log(jnp.diag(root)), 0))


def predict(kernel: Kernel, seen: Observed, at: jax.Array, kinds: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of the process at points [M, D], [M] and [M]."""
    root = _root(kernel, seen, kinds)
    cross = jnp.where(seen.known[:, None], covariance(kernel, seen.points, at, kinds), 0)  # [N, M]
    white = linalg.solve_triangular(root, jnp.concatenate([seen.scores[:, None], cross], axis=1), lower=True)
    y, c = white[:, 0], white[:, 1:]  # L⁻¹ y [N] and L⁻¹ k(X, x) [N, M] of one solve
    variance = jnp.exp(kernel.scale) - jnp.sum(c**2, axis=0)
    return y @ c, jnp.sqrt(jnp.maximum(variance, 1e-8))


def covariance(kernel: Kernel, a: jax.Array, b: jax.Array, kinds: jax.Array) -> jax.Array:
    """[N, M] of the process at points [N, D] and [M, D]; different categories are at distance 1."""
    apart = jnp.where(kinds > 0, jnp.floor(a[:, None] * kinds) != jnp.floor(b[None] * kinds), a[:, None] - b[None])
    squared = jnp.sum((apart / jnp.exp(kernel.lengths)) ** 2, axis=2)
    r = jnp.sqrt(5 * jnp.maximum(squared, 1e-12))
    return jnp.exp(kernel.scale) * (1 + r + r**2 / 3) * jnp.exp(-r)


def log_expected_improvement(mean: jax.Array, deviation: jax.Array, best: jax.Array) -> jax.Array:
    """log E[max(0, f - best)] = log(σ (φ(z) + z Φ(z))), z = (μ - best) / σ, also where it underflows.

    For z < -5 the tail φ(z) / z² is used. Jones et al. (1998), eq. 15.

    Examples:
      >>> float(log_expected_improvement(jnp.float32(0), jnp.float32(1), jnp.float32(0)))  # log φ(0)
      -0.9189385175704956
    """
    z = (mean - best) / deviation
    near = jnp.maximum(z, -5.0)
    density = jnp.exp(-0.5 * near**2) / jnp.sqrt(2 * jnp.pi)
    inside = jnp.log(jnp.maximum(density + near * jax.scipy.special.ndtr(near), 1e-30))
    far = jnp.minimum(z, -5.0)
    tail = -0.5 * far**2 - 0.5 * jnp.log(2 * jnp.pi) - 2 * jnp.log(-far)
    return jnp.log(deviation) + jnp.where(z < -5, tail, inside)


def _root(kernel: Kernel, seen: Observed, kinds: jax.Array) -> jax.Array:
    """[N, N] lower root of the covariance of the observations; rows that are not known are those of the identity."""
    both = seen.known[:, None] & seen.known[None]
    matrix = jnp.where(both, covariance(kernel, seen.points, seen.points, kinds), 0)
    return jnp.linalg.cholesky(matrix + jnp.diag(jnp.where(seen.known, jnp.exp(kernel.noise) + _JITTER, 1.0)))


def _draw(key: jax.Array, seen: Observed, kinds: jax.Array, count: int) -> jax.Array:
    """[count, D], one half uniform and the other near the best tenth of the points."""
    wide, which, near, other, off = jax.random.split(key, 5)
    half, size = count // 2, seen.points.shape[1]
    spread = jax.random.uniform(wide, (count - half, size))
    number = jnp.maximum(1, seen.known.sum() // 10)
    order = jnp.argsort(jnp.where(seen.known, -seen.scores, jnp.inf), stable=True)
    center = seen.points[order[jax.random.randint(which, (half,), 0, number)]]  # [half, D]
    moved = jnp.clip(center + 0.1 * jax.random.normal(near, center.shape), 0, 1 - 1e-6)
    changed = jnp.where(jax.random.uniform(off, center.shape) < 0.2, jax.random.uniform(other, center.shape), center)
    return jnp.concatenate([spread, jnp.where(kinds > 0, changed, moved)])

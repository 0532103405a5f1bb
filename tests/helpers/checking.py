"""Tolerances, conversion, trajectories with every kind of ending and finite differences, shared by the oracle checks.

A check is a function of the module it judges, so that the mutation check can hand it a module with a mistake in it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # for programs that run once


def precisions():
    """Names of the two precisions every check runs in, for `pytest.mark.parametrize`."""
    return ["float32", "float64"]


def precision(name):
    """Context in which jax computes in that precision."""
    return jax.enable_x64(name == "float64")


def tolerance():
    return 1e-9 if jax.config.jax_enable_x64 else 5e-5


def jit(function, **static):
    return jax.jit(lambda *args: function(*args, **static))


def grad(function, argnum=0):
    return jax.jit(jax.grad(function, argnum))


def close(actual, expected, scale=1.0):
    """Equal to the tolerance of the precision in force; `scale` is the size of the numbers that were added up."""
    expected = np.asarray(expected)
    assert np.shape(actual) == expected.shape, f"shape {np.shape(actual)}, not {expected.shape}"
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=tolerance(), atol=scale * tolerance())


def arr(x):
    return jnp.asarray(np.asarray(x), float)


class Trajectory(NamedTuple):
    """Time-major float64 arrays. `next_value` is NaN where terminated, and value[t+1] where nothing ends."""

    reward: np.ndarray
    discount: np.ndarray
    value: np.ndarray
    next_value: np.ndarray
    trace_decay: np.ndarray
    log_rho: np.ndarray

    def arrays(self, *names):
        return [arr(getattr(self, name)) for name in names]


def trajectory(seed=0, length=7, batch=(3,), gamma=0.9, lam=0.8, endings=0.25):
    """Random episodes: each step may terminate, be truncated, or both."""
    rng = np.random.default_rng(seed)
    shape = (length, *batch)
    reward, value, boot, log_rho = rng.normal(size=(4, *shape))
    terminated, truncated = rng.random((2, *shape)) < endings
    done = terminated | truncated
    follows = np.concatenate([value[1:], boot[-1:]])
    next_value = np.where(terminated, np.nan, np.where(done, boot, follows))
    return Trajectory(reward, gamma * ~terminated, value, next_value, lam * ~done, log_rho)


def product_sums(weight, term):
    """Σ_{i ≥ t} (Π_{t ≤ j < i} weight[j]) · term[i] for every t, by a double loop: O(T²) and no recursion."""
    out = np.zeros_like(term)
    for t in range(len(term)):
        factor = np.ones_like(term[0])
        for i in range(t, len(term)):
            out[t] += np.where(factor == 0, 0, factor * term[i])
            factor = factor * weight[i]
    return out


def times(weight, x):
    """weight · x, with 0 where the weight is 0."""
    return np.where(weight == 0, 0, weight * np.where(weight == 0, 0, x))


def gradient_agrees(function, args, indices, seed=0, step=1e-6):
    """The directional derivative of Σ w · function with respect to each of args[indices], against central differences.

    Call it in float64. One compilation of the function and one of its gradient serve all the indices.
    """
    rng = np.random.default_rng(seed)
    args = [jnp.asarray(a) for a in args]
    outputs = jax.tree.leaves(jax.eval_shape(function, *args))
    weights = [rng.normal(size=o.shape) for o in outputs]

    def total(*args):
        return sum(jnp.sum(w * o) for w, o in zip(weights, jax.tree.leaves(function(*args))))

    compiled = jax.jit(total)
    gradients = jax.jit(jax.grad(total, tuple(indices)))(*args)
    for index, gradient in zip(indices, gradients):
        direction = rng.normal(size=args[index].shape)
        ahead, behind = ([*args[:index], args[index] + d * direction, *args[index + 1 :]] for d in (step, -step))
        expected = (float(compiled(*ahead)) - float(compiled(*behind))) / (2 * step)
        actual = float(np.sum(np.asarray(gradient) * direction))
        np.testing.assert_allclose(actual, expected, rtol=3e-4, atol=3e-6, err_msg=f"argument {index}")


def stopped(function, args, index):
    """No gradient reaches args[index]."""
    args = [jnp.asarray(a) for a in args]

    def total(x):
        return sum(jnp.sum(o) for o in jax.tree.leaves(function(*args[:index], x, *args[index + 1 :])))

    np.testing.assert_array_equal(np.asarray(grad(total)(args[index])), 0)

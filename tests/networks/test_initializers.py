import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.networks.initializers import orthogonal


@pytest.mark.parametrize("shape", [(64, 64), (4, 64), (64, 2), (64, 1), (1, 5), (3, 3, 4, 16)])
def test_columns_or_rows_are_orthonormal(shape):
    matrix = np.asarray(orthogonal(2.0)(jax.random.key(0), shape)).reshape(-1, shape[-1]) / 2
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(gram, np.eye(min(matrix.shape)), atol=2e-6)


def test_the_distribution_is_uniform():
    """Every entry of a Haar-distributed matrix has mean 0, variance 1/n and fourth moment 3 / (n (n + 2))."""
    n = 5
    q = np.asarray(jax.jit(jax.vmap(lambda k: orthogonal()(k, (n, n))))(jax.random.split(jax.random.key(3), 20_000)))
    assert np.abs(q.mean(0)).max() < 0.015
    np.testing.assert_allclose((q**2).mean(0), 1 / n, atol=0.01)
    np.testing.assert_allclose((q**4).mean(0), 3 / (n * (n + 2)), atol=0.008)
    assert abs((np.linalg.det(q) > 0).mean() - 0.5) < 0.02


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match="two axes"):
        orthogonal()(jax.random.key(0), (3,))


@pytest.mark.slow
def test_64_vmapped_networks_initialise_on_two_cores():
    """A batched LAPACK call beside another would hang here for ever; so it runs in a process with a time-out."""
    program = (
        "import jax, purerl; env = purerl.envs.make('CartPole-v1'); net = purerl.networks.actor_critic(env);"
        "obs = env.reset(jax.random.key(0))[0];"
        "p = jax.jit(jax.vmap(lambda k: net.init(k, obs)))(jax.random.split(jax.random.key(1), 64));"
        "print(jax.block_until_ready(p)['params']['value']['kernel'].shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert "(64, 64, 1)" in done.stdout, done.stderr


def test_no_lapack_in_the_program():
    text = jax.jit(lambda k: orthogonal()(k, (64, 64))).lower(jax.random.key(0)).as_text()
    assert "custom_call" not in text or "lapack" not in text
    assert jnp.isfinite(orthogonal()(jax.random.key(0), (64, 64))).all()

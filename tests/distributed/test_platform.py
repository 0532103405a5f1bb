"""A branch on a CPU, a selection elsewhere: the same values."""

import jax
import jax.numpy as jnp
import pytest

from purerl.distributed import platform


def choose(predicate, x):
    return platform.select(predicate, lambda x: x, lambda x: jnp.sin(x) * 2, x)


@pytest.mark.parametrize("predicate", [True, False])
def test_it_is_the_branch(predicate):
    x = jnp.arange(3.0)
    expected = x if predicate else jnp.sin(x) * 2
    assert jax.jit(choose)(jnp.bool_(predicate), x).tolist() == pytest.approx(expected.tolist())


def test_a_cpu_keeps_one_branch_and_folds_the_rest():
    text = jax.jit(choose).lower(jnp.bool_(True), jnp.arange(3.0)).compile().as_text()
    assert (text.count(" conditional("), text.count(" select(")) == (1, 0)

"""Reductions of a short last axis, as accelerators compute them, against those of `jax.numpy`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accelerated import on_accelerator

from purerl import reductions


@pytest.fixture
def accelerator(monkeypatch):
    """Programs are traced as for an accelerator."""
    on_accelerator(monkeypatch)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("ours", "usual"),
    [(reductions.sum_last, np.sum), (reductions.max_last, np.max), (reductions.argmax_last, np.argmax)],
)
def test_written_out_it_is_the_reduction(accelerator, x, ours, usual):
    np.testing.assert_allclose(ours(jnp.asarray(x)), usual(x, axis=-1), rtol=1e-6)


def test_any_of_flags(accelerator, x):
    assert reductions.any_last(jnp.asarray(x) > 0.5).tolist() == (x > 0.5).any(axis=-1).tolist()


@pytest.mark.parametrize("row", [[1.0, 3.0, 3.0], [np.nan, 1.0, 2.0], [1.0, np.nan, np.nan], [-np.inf, -np.inf, 0.0]])
def test_the_first_maximum_is_that_of_numpy(accelerator, row):
    assert reductions.argmax_last(jnp.array(row)).item() == np.argmax(row)


@pytest.mark.parametrize("where", [(3, 60), (0,), (69,), ()])
def test_the_first_maximum_of_a_long_row_is_that_of_numpy(where):
    row = np.random.default_rng(0).normal(size=70).astype(np.float32)
    row[list(where)] = 9.0
    for each in (row, np.where(np.arange(70) > 50, np.nan, row), np.full(70, -np.inf)):
        assert reductions.argmax_last(jnp.asarray(each, jnp.float32)).item() == np.argmax(each)


def test_a_cpu_finds_the_maximum_of_a_long_row_before_its_place():
    program = jax.jit(reductions.argmax_last).lower(jnp.zeros((2, 70))).compile().as_text()
    assert "(f32[2]{0}, s32[2]{0})" not in program  # a reduction of pairs, which XLA does not vectorize


def test_nothing_is_reduced_over_a_short_axis_on_an_accelerator(accelerator, x):
    def losses(x):
        shifted = x - reductions.repeat_last(reductions.max_last(x), 3)
        return jnp.exp(shifted) / reductions.repeat_last(reductions.sum_last(jnp.exp(shifted)), 3)

    text = str(jax.make_jaxpr(lambda x: jax.vjp(losses, x)[1](x))(jnp.asarray(x)))
    assert "reduce_" not in text


def test_a_long_axis_is_reduced_as_usual(accelerator):
    assert "reduce_sum" in str(jax.make_jaxpr(reductions.sum_last)(jnp.zeros(reductions.LONGEST + 1)))


def test_on_a_cpu_it_is_the_usual_reduction(x):
    text = jax.jit(reductions.sum_last).lower(x).compile().as_text()
    assert " reduce(" in text

"""A branch on a CPU, a selection elsewhere: the same values."""

import jax
import jax.numpy as jnp
import pytest
from accelerated import on_accelerator

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


def steps_of_a_trip(monkeypatch, length, width, **settings):
    """How many steps of a scan over rows of four make a trip of its loop, on an accelerator."""
    on_accelerator(monkeypatch)
    step = jax.jit(lambda carry, x: (carry + x.sum(), ()))
    args = jnp.ones(width), jnp.ones((length, 4))
    [scan] = jax.make_jaxpr(lambda *args: platform.scan(step, *args, **settings))(*args).eqns
    return scan.params["unroll"]


@pytest.mark.parametrize(("length", "expected"), [(4, 2), (18, 2), (16, 4)])
def test_several_steps_are_a_trip_on_an_accelerator(monkeypatch, length, expected):
    assert steps_of_a_trip(monkeypatch, length, width=4) == expected


@pytest.mark.parametrize(("width", "expected"), [(64, 2), (65, 1)], ids=["light", "heavy"])
def test_a_heavy_carry_is_overwritten_by_each_step_of_a_short_loop(monkeypatch, width, expected):
    assert steps_of_a_trip(monkeypatch, 4, width, in_place=True) == expected
    assert steps_of_a_trip(monkeypatch, 16, width, in_place=True) == 4

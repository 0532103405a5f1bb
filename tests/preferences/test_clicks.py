"""Clicks: the corrected preferences recover relevance where the naive ones learn the order of showing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.preferences import clicks

ETA = clicks.examination(2)


def test_the_weights_of_the_unbiased_pairs_have_the_expectation_of_full_examination():
    relevance = jnp.array([[0.5, -0.3]])
    many = jax.vmap(lambda k: clicks.show(k, jnp.zeros((1, 2, 1)), relevance, relevance, ETA, 0.0))
    impressions = many(jax.random.split(jax.random.key(3), 100_000))
    pairs = jax.vmap(lambda i: clicks.to_pairs(i, ETA))(impressions)
    gamma = 1 / (1 + np.exp(-np.array([0.5, -0.3])))
    expected = [gamma[0] * (1 - gamma[1]), gamma[1] * (1 - gamma[0])]
    np.testing.assert_allclose(pairs.weight.mean(axis=0), expected, atol=0.01)


def test_correction_recovers_relevance_and_its_absence_does_not():
    curve = clicks.bias_curve(jax.random.key(0), jnp.array([0.0, 1.0]), num_lists=4_000)
    np.testing.assert_allclose(curve.naive[0], curve.corrected[0], atol=1e-4)
    naive, corrected = clicks.alignment(curve.naive, curve.true), clicks.alignment(curve.corrected, curve.true)
    assert corrected.min() > 0.97
    assert naive[0] > 0.97
    assert naive[1] < 0.8
    assert curve.naive[1, 2] > 0.5 > abs(curve.corrected[1, 2])


def test_lists_of_one_document_are_refused():
    with pytest.raises(ValueError, match=r"at least two documents.*\(2, 1\)"):
        clicks.to_pairs(clicks.Impressions(jnp.ones((2, 1, 3)), jnp.ones((2, 1), bool)))

"""Clicks: the corrected preferences recover relevance where the naive ones learn the order of showing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.rlhf import LearnerHparams, clicks

LISTS, POSITIONS, FEATURES = 4_000, 5, 3
ETA = clicks.examination(POSITIONS)


@pytest.fixture(scope="module")
def shown():
    """Documents ordered by a feature that is worth nothing; the other two make the relevance."""
    features = jax.random.normal(jax.random.key(0), (LISTS, POSITIONS, FEATURES))
    true = jnp.array([1.0, -1.0, 0.0])
    return clicks.show(jax.random.key(1), features, features @ true, features[..., 2], ETA, noise=0.1), true


def learn(pairs):
    hparams = LearnerHparams(0.1, anneal_updates=60)
    state, _ = purerl.fit(jax.random.key(2), clicks.linear_scorer(), pairs, hparams, num_updates=60)
    return state.params


def test_the_weights_of_the_unbiased_pairs_have_the_expectation_of_full_examination(shown):
    relevance = jnp.array([[0.5, -0.3]])
    many = jax.vmap(lambda k: clicks.show(k, jnp.zeros((1, 2, 1)), relevance, relevance, ETA[:2], 0.0))
    impressions = many(jax.random.split(jax.random.key(3), 100_000))
    pairs = jax.vmap(lambda i: clicks.to_pairs(i, ETA[:2]))(impressions)
    gamma = 1 / (1 + np.exp(-np.array([0.5, -0.3])))
    expected = [gamma[0] * (1 - gamma[1]), gamma[1] * (1 - gamma[0])]
    np.testing.assert_allclose(pairs.weight.mean(axis=0), expected, atol=0.01)


def test_correction_recovers_relevance_and_its_absence_does_not(shown):
    impressions, true = shown
    unbiased, naive = learn(clicks.to_pairs(impressions, ETA)), learn(clicks.to_pairs(impressions))

    def cosine(w):
        return float(w @ true / jnp.linalg.norm(w) / jnp.linalg.norm(true))

    assert cosine(unbiased) > 0.97
    assert cosine(naive) < 0.8
    assert naive[2] > 0.5 > abs(unbiased[2])

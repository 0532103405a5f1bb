"""Preferences from clicks, without and with a correction for the position of the documents."""

import jax
import jax.numpy as jnp

import purerl
from purerl.preferences import AdamHparams, clicks

key = jax.random.key(0)
eta = clicks.examination(num_positions=5)
documents = jax.random.normal(key, (5_000, 5, 3))
true = jnp.array([1.0, -1.0, 0.0])
impressions = clicks.show(key, documents, documents @ true, documents[..., 2], eta)  # ordered by an irrelevant feature

agent = clicks.linear_scorer()
for name, pairs in [("naive", clicks.to_pairs(impressions)), ("corrected", clicks.to_pairs(impressions, eta))]:
    state, _ = purerl.fit(key, agent, pairs, AdamHparams(0.1, anneal_updates=100), num_updates=100)
    print(name, [round(float(w), 2) for w in state.params], "true", true.tolist())

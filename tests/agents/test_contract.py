"""The contract of every agent, tabular and offline ones too, while JAX looks for NaN."""

import functools
import pathlib
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agent_cases import CASES, NAMES, built, first, learn, train, varied

import purerl
from purerl import loops

PAGE = pathlib.Path(purerl.__file__).parents[1] / "docs" / "metrics.md"
DOCUMENTED = set(re.findall(r"^\| `([^`]+)`", PAGE.read_text(), flags=re.MULTILINE))
pytestmark = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True, scope="module")
def _looking_for_nan():
    """NaN is an error wherever it appears. What stands for a missing metric is chosen when a program is traced."""
    with jax.debug_nans(True):
        yield


def test_hashable_and_compared_by_identity(name):
    agent, _, _ = built(name)
    assert hash(agent) == hash(agent._replace())
    assert agent == agent._replace()
    assert agent != CASES[name].make()[0]


def test_update_keeps_the_structure_and_metrics_are_scalars(name):
    start, _ = jax.eval_shape(functools.partial(first, name), jax.random.key(0))
    state, metrics = jax.eval_shape(lambda: train(name, CASES[name].hparams))
    assert jax.tree.structure(state) == jax.tree.structure(start)
    for old, new in zip(jax.tree.leaves(start), jax.tree.leaves(state)):
        assert (old.shape, old.dtype, old.weak_type) == (new.shape, new.dtype, new.weak_type)
    assert {m.shape for m in metrics.values()} == {(1,)}


def test_aux_has_one_structure_with_and_without_a_key(name):
    agent, _, _ = built(name)

    def act(key):
        state, obs = first(name, jax.random.key(0))
        return agent.act(key, state, obs, *([agent.memory(key, state)] if agent.memory else []))

    sampled, greedy = jax.eval_shape(act, jax.random.key(2)), jax.eval_shape(lambda: act(None))
    assert jax.tree.structure(sampled) == jax.tree.structure(greedy)
    assert [x.shape for x in jax.tree.leaves(sampled)] == [x.shape for x in jax.tree.leaves(greedy)]


class Runs(NamedTuple):
    """Runs of one agent: the first one, the same again, one per hyperparameter value, and those as a population."""

    first: Any
    again: Any
    alone: list[Any]
    population: Any
    num_traces: int  # of the update, after the first run and before the population


VALUES = [1, 0.003, np.float64(0.01), np.float32(0.0)]


@functools.cache
def runs(name):
    agent, env, traces = built(name)

    def run(key, value):
        return learn(key, agent, env, varied(name, value), CASES[name].rollout)[0]

    first = train(name, varied(name, 0.01))
    before = len(traces)
    alone = [train(name, varied(name, value), seed) for seed, value in enumerate(VALUES)]
    again = train(name, varied(name, jnp.float32(0.01)))
    num_traces = len(traces) - before
    keys = jax.vmap(jax.random.key)(jnp.arange(len(VALUES)))
    population = jax.vmap(run)(keys, jnp.array([float(value) for value in VALUES]))
    return Runs(first, again, alone, population, num_traces)


def test_a_new_value_of_a_hyperparameter_traces_nothing(name):
    assert runs(name).num_traces == 0


def test_the_same_key_gives_the_same_bits(name):
    jax.tree.map(np.testing.assert_array_equal, runs(name).first, runs(name).again)


def test_vmap_equals_a_loop(name):
    for i in (1, 2, 3):  # a learning rate of 1 is for the trace alone: it amplifies rounding
        one = runs(name).alone[i][0]
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-5, rtol=1e-5), runs(name).population, one
        )


def test_names_of_metrics_are_in_the_table_of_the_docs(name):
    _, metrics = jax.eval_shape(lambda: train(name, CASES[name].hparams))
    assert {metric for metric in metrics if not metric.startswith(("env/", "episode_end/"))} <= DOCUMENTED


def test_it_declares_what_its_update_requires(name):
    agent, _, _ = built(name)
    needs_episodes = CASES[name].rollout is loops.rollout_episodes
    assert (agent.requires.data == "episodes") == needs_episodes

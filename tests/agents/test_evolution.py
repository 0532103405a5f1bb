"""Evolution strategies: ranks, mirrored pairs, the step against its formula and a closed form, and what it learns."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import probing
import pytest

import purerl
from purerl import distributions, envs, loops, networks
from purerl.agents.evolution import shaped
from purerl.types import Transition


class Vector(NamedTuple):
    """A 'network' that is one vector of parameters."""

    init: Any
    apply: Any


def vector(size=3):
    def apply(params, obs):
        return distributions.diagonal_gaussian(params, jnp.zeros(size)), jnp.float32(0)

    return Vector(lambda key, obs: jnp.arange(1.0, size + 1), apply)


def data_of(memory, fitness):
    """A trajectory of two steps whose second one counts half of the environments' fitness."""
    reward = jnp.stack([fitness, jnp.full_like(fitness, 100.0)])
    mask = jnp.stack([jnp.ones_like(fitness), jnp.zeros_like(fitness)])
    never = jnp.zeros(reward.shape, bool)
    return Transition((), (), reward, never, never, (), memory=memory, mask=mask)


def start(agent, **hparams):
    return agent.init(jax.random.key(0), purerl.hparams.cast(purerl.EvolutionHparams(**hparams)), jnp.zeros(1), 4)


def test_ranks_are_centred_and_fair_to_ties():
    np.testing.assert_allclose(shaped(jnp.array([3.0, -1.0, 10.0, 2.0, 5.0])), [0, -0.5, 0.5, -0.25, 0.25])
    np.testing.assert_allclose(shaped(jnp.array([1.0, 1.0, 0.0, 2.0])), np.array([0, 0, -3, 3]) / 6)
    np.testing.assert_allclose(shaped(jnp.full(8, 500.0)), 0)


def test_nan_ranks_last_and_infinities_where_they_belong():
    np.testing.assert_allclose(shaped(jnp.array([jnp.nan, -1.0, 10.0, 2.0, 5.0])), [-0.5, -0.25, 0.5, 0, 0.25])
    np.testing.assert_allclose(shaped(jnp.array([jnp.inf, jnp.inf, -jnp.inf])), [0.25, 0.25, -0.5])


def test_a_return_that_is_nan_costs_its_own_perturbation_alone():
    agent = purerl.evolution(vector())
    state = start(agent)
    memory = jax.vmap(agent.memory, (0, None))(jax.random.split(jax.random.key(1), 4), state)
    update = lambda fitness: agent.update(jax.random.key(0), state, data_of(memory, jnp.array(fitness)))  # noqa: E731
    after, metrics = update([1.0, jnp.nan, 2.0, 3.0])
    assert metrics["loss/skipped"] == 0
    np.testing.assert_array_equal(after.params, update([1.0, -9.0, 2.0, 3.0])[0].params)


def test_perturbations_of_size_zero_are_refused():
    with pytest.raises(ValueError, match=r"noise_std = 0\.0 must be above 0"):
        purerl.hparams.check_hparams(purerl.EvolutionHparams(noise_std=0.0))


def test_perturbations_are_mirrored_within_an_agent_also_under_another_vmap():
    agent = purerl.evolution(vector(1000))
    state = start(agent, noise_std=0.5)
    keys = jax.random.split(jax.random.key(1), (3, 4))
    memory = jax.jit(jax.vmap(jax.vmap(agent.memory, (0, None)), (0, None)))(keys, state)
    np.testing.assert_array_equal(memory.noise[:, 2:], -memory.noise[:, :2])
    apart = np.corrcoef(memory.noise[:, :2].reshape(6, -1))
    np.testing.assert_allclose(apart, np.eye(6), atol=0.15)
    np.testing.assert_allclose(memory.noise[:, :2].std(), 1.0, atol=0.03)
    np.testing.assert_allclose(memory.params, state.params + 0.5 * memory.noise, rtol=1e-5)
    assert (agent.memory(None, state).noise == 0).all()
    alone = jax.vmap(purerl.evolution(vector(1000), antithetic=False).memory, (0, None))(keys[0], state)
    assert abs(np.corrcoef(alone.noise)[0, 2]) < 0.15


def test_a_step_against_the_formula():
    """Plain ascent, in NumPy: θ + α (Σ F ε / (N σ) − λ θ); steps after the end do not count."""
    agent = purerl.evolution(vector(), optimizer=lambda hparams: optax.sgd(hparams.learning_rate))
    state = start(agent, learning_rate=0.3, noise_std=0.2, weight_decay=0.1)
    memory = jax.vmap(agent.memory, (0, None))(jax.random.split(jax.random.key(1), 6), state)
    fitness = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])
    after, metrics = jax.jit(agent.update)(jax.random.key(0), state, data_of(memory, jnp.asarray(fitness, jnp.float32)))
    rank = np.array([sum(np.sign(a - b) for b in fitness) for a in fitness]) / 10
    theta = np.arange(1.0, 4.0)
    expected = theta + 0.3 * (rank @ np.asarray(memory.noise, np.float64) / (6 * 0.2) - 0.1 * theta)
    np.testing.assert_allclose(after.params, expected, rtol=1e-5)
    assert metrics["fitness_mean"] == pytest.approx(fitness.mean())


def test_the_expected_direction_is_that_of_the_gradient():
    """Linear fitness g · θ: E[Σ F ε] is along g, here to within 3 degrees with 4,000 environments."""
    agent = purerl.evolution(vector(), optimizer=lambda hparams: optax.sgd(hparams.learning_rate))
    state = start(agent, learning_rate=1.0)
    memory = jax.vmap(agent.memory, (0, None))(jax.random.split(jax.random.key(1), 4000), state)
    slope = jnp.array([1.0, -2.0, 0.5])
    after, _ = agent.update(jax.random.key(0), state, data_of(memory, memory.params @ slope))
    step = np.asarray(after.params - state.params)
    assert step @ slope / np.linalg.norm(step) / np.linalg.norm(slope) > 0.998


def test_the_best_actions_of_the_probes_with_every_seed():
    """Values are not learned, and where actions do not matter nothing moves: every fitness is the same."""
    env = envs.probe()
    agent = purerl.evolution(networks.actor_critic(env, hidden=(8,)))
    hparams = purerl.EvolutionHparams(learning_rate=0.03, noise_std=0.1)
    sizes = {"num_updates": 150, "num_envs": 32, "rollout_length": 2, "rollout": loops.rollout_episodes}
    states = probing.learn(agent, env, hparams, **sizes)
    probing.check_actions(agent, states)
    for probe in ("value_constant", "discounting"):
        first_moment = jax.tree.leaves(states.opt_state)[1][list(envs.PROBES).index(probe)]
        assert (first_moment == 0).all()


def test_what_it_refuses():
    agent = purerl.evolution(vector())
    state = start(agent)
    memory = jax.vmap(agent.memory, (0, None))(jax.random.split(jax.random.key(1), 3), state)
    data = data_of(memory, jnp.ones(3))
    with pytest.raises(ValueError, match="num_envs = 3 must be at least 2, and even"):
        agent.update(jax.random.key(0), state, data)
    with pytest.raises(ValueError, match="needs whole episodes"):
        agent.update(jax.random.key(0), state, data._replace(mask=()))

"""The dynamic-programming agents under `fit`, against the solvers, and acting in the MDP they solved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import mdp as mdps
from purerl.agents.tabular import dynamic_programming as dp
from purerl.envs import from_mdp

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def grid():
    return mdps.gridworld_3x4(living_reward=-0.03)


@pytest.fixture(scope="module")
def exact(grid):
    return mdps.policy_iteration(grid, 0.9)


CASES = [
    (dp.value_iteration(), dp.DynamicProgrammingHparams(0.9), 60),
    (dp.modified_policy_iteration(), dp.ModifiedPolicyIterationHparams(0.9, num_sweeps=5), 20),
    (dp.policy_iteration(), dp.DynamicProgrammingHparams(0.9), 6),
    (dp.soft_value_iteration(), dp.SoftValueIterationHparams(0.9, temperature=1e-3), 60),
]


@pytest.mark.parametrize(("agent", "hparams", "num_updates"), CASES, ids=["value", "modified", "policy", "soft"])
def test_agents_reach_the_optimum(grid, exact, agent, hparams, num_updates):
    state, metrics = purerl.fit(KEY, agent, grid, hparams, num_updates=num_updates)
    np.testing.assert_allclose(state.value, exact.value, atol=6e-3 if "temperature" in hparams._fields else 1e-5)
    np.testing.assert_array_equal(jnp.argmax(state.policy, 1), jnp.argmax(exact.policy, 1))
    assert metrics["residual"].shape == (num_updates,)
    assert metrics["residual"][-1] < 1e-5
    np.testing.assert_allclose(metrics["initial_value"][-1], state.value[7], rtol=1e-6)
    assert state.num_updates == num_updates
    actions = jax.vmap(lambda s: agent.act(None, state, s)[0])(jnp.arange(11))
    np.testing.assert_array_equal(actions, jnp.argmax(state.policy, 1))


def test_policy_iteration_walks_past_a_trap_that_never_ends():
    """At discount 1 state 0 is worth -inf; state 1 may enter it for nothing, or end at once for -5."""
    trap, end = [(1.0, 0, -1.0, False)], [(1.0, 2, 0.0, True)]
    table = {0: {0: trap, 1: trap}, 1: {0: [(1.0, 2, -5.0, True)], 1: [(1.0, 0, 0.0, False)]}, 2: {0: end, 1: end}}
    problem = mdps.from_table(table, [0, 1, 0])
    hparams = dp.DynamicProgrammingHparams(1.0)
    state, metrics = purerl.fit(KEY, dp.policy_iteration(), problem, hparams, num_updates=4)
    np.testing.assert_array_equal(state.value, [-np.inf, -5, 0])
    assert int(jnp.argmax(state.policy[1])) == 0
    assert metrics["initial_value"][-1] == -5
    assert metrics["residual"][-1] == 0


def test_one_update_is_one_sweep(grid):
    agent, hparams = dp.value_iteration(), dp.DynamicProgrammingHparams(0.9)
    state = agent.init(KEY, hparams, grid)
    for table in mdps.value_iteration_history(grid, 0.9, 4)[1:]:
        state, _ = agent.update(KEY, state, grid)
        np.testing.assert_array_equal(state.value, table)


def test_policy_evaluation_takes_the_policy_as_data(grid):
    policies = jnp.stack([jnp.full((11, 4), 0.25), jax.nn.one_hot(jnp.ones(11, int), 4)])
    agent, hparams = dp.policy_evaluation(), dp.DynamicProgrammingHparams(0.9)
    fit = lambda policy: purerl.fit(KEY, agent, (grid, policy), hparams, num_updates=150)[0]  # noqa: E731
    state = jax.vmap(fit)(policies)
    for i in range(2):
        np.testing.assert_allclose(state.value[i], mdps.policy_evaluation(grid, policies[i], 0.9), atol=1e-5)
    first = jax.tree.map(lambda leaf: leaf[0], state)
    actions = jax.vmap(lambda key: agent.act(key, first, jnp.int32(0))[0])(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(np.bincount(actions, minlength=4) / 4000, 0.25, atol=0.03)


def test_a_population_over_discounts_and_grids(grid):
    agent = dp.value_iteration()
    discounts, rewards = jnp.array([0.5, 0.9]), jnp.array([-0.03, -2.0])

    def fit(discount, living_reward):
        data = mdps.gridworld_3x4(living_reward=living_reward)
        return purerl.fit(KEY, agent, data, dp.DynamicProgrammingHparams(discount), num_updates=60)[0].value

    values = jax.vmap(fit)(discounts, rewards)
    for i in range(2):
        alone = mdps.value_iteration(mdps.gridworld_3x4(living_reward=rewards[i]), discounts[i])
        np.testing.assert_allclose(values[i], alone.value, atol=1e-5)
    with pytest.raises(ValueError, match="discount"):
        purerl.fit(KEY, agent, grid, dp.DynamicProgrammingHparams(1.2), num_updates=1)


def test_the_sampled_return_is_the_computed_value(grid):
    """Undiscounted return of 4,000 episodes against the exact value, within five standard errors."""
    agent = dp.policy_iteration()
    state, _ = purerl.fit(KEY, agent, grid, dp.DynamicProgrammingHparams(1.0), num_updates=8)
    value = mdps.policy_evaluation(grid, state.policy, 1.0)[7]
    result = purerl.evaluate(KEY, agent, from_mdp(grid, 200), state, num_episodes=4000, max_steps=200)
    error = float(np.std(result.episode_return)) / 4000**0.5
    assert float(np.mean(result.episode_return)) == pytest.approx(float(value), abs=5 * error)

"""Guarantees of every learner with a table or linear features: masks, weights, cuts, counters, settings of JAX."""

import functools

import episodes
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import envs
from purerl import mdp as mdps
from purerl.agents.tabular import dynamic_programming as dp

STATES, ACTIONS, ENVS = 4, 2, 3
LAST = np.iinfo(np.int32).max


def features(obs):
    return jax.nn.one_hot(obs, STATES)


def uniform(obs):
    return jnp.full(ACTIONS, 1 / ACTIONS)


@functools.cache
def world():
    return envs.from_mdp(mdps.random_mdp(jax.random.key(0), STATES, ACTIONS, 2), max_steps=10)


CONTROL, PREDICTION = purerl.TDControlHparams(0.3), purerl.TDHparams(0.3)
LEARNERS = {
    "q_learning": (lambda: purerl.q_learning(world()), CONTROL),
    "q_learning, double": (lambda: purerl.q_learning(world(), double=True), CONTROL),
    "q_learning, boltzmann": (lambda: purerl.q_learning(world(), exploration="boltzmann"), CONTROL),
    "sarsa": (lambda: purerl.sarsa(world(), n=2), CONTROL),
    "sarsa, expected, boltzmann": (lambda: purerl.sarsa(world(), expected=True, exploration="boltzmann"), CONTROL),
    "q_lambda": (lambda: purerl.q_lambda(world()), CONTROL),
    "td": (lambda: purerl.td(world(), n=2), PREDICTION),
    "td_lambda": (lambda: purerl.td_lambda(world()), PREDICTION),
    "td_lambda, dutch": (lambda: purerl.td_lambda(world(), traces="dutch"), PREDICTION),
    "monte_carlo": (lambda: purerl.monte_carlo(world()), purerl.MonteCarloHparams()),
    "monte_carlo_control": (lambda: purerl.monte_carlo_control(world()), purerl.MonteCarloControlHparams()),
    "bandit": (lambda: purerl.bandit(world(), rule="gradient"), purerl.BanditHparams(0.3)),
    "bandit, thompson": (lambda: purerl.bandit(world(), rule="thompson_gaussian"), purerl.BanditHparams()),
    "linear": (lambda: purerl.linear_prediction(features, uniform, behavior=uniform), purerl.LinearHparams(0.3)),
    "linear, monte carlo": (
        lambda: purerl.linear_prediction(features, uniform, target="monte_carlo"), purerl.LinearHparams(0.3),
    ),
    "least squares": (lambda: purerl.least_squares(features, uniform), purerl.LinearHparams()),
}  # fmt: skip
EVERY = pytest.mark.parametrize("name", LEARNERS)


@functools.cache
def built(name):
    """The agent and its compiled update."""
    agent = LEARNERS[name][0]()
    return agent, jax.jit(agent.update)


def start(name, agent):
    return agent.init(jax.random.key(0), purerl.hparams.cast(LEARNERS[name][1]), jnp.int32(0), ENVS)


def data(length=12):
    """Episodes in three environments, of which the steps after the first end do not count, [T, N]."""
    columns = [episodes.trajectory(STATES, ACTIONS, length, seed) for seed in range(ENVS)]
    steps = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *columns)
    done = steps.terminated | steps.truncated
    mask = jnp.cumsum(done, axis=0) - done == 0
    return steps._replace(mask=mask.astype(jnp.float32), truncated=steps.truncated.at[-1].set(~steps.terminated[-1]))


def learned(state):
    """Every number of a state but those that wait for the next update."""
    return jax.tree.leaves(purerl.hparams.get_learner(state))


def numbers(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]


@EVERY
def test_a_masked_step_may_hold_nan(name):
    agent, update = built(name)
    steps = data()
    poisoned = steps._replace(reward=jnp.where(steps.mask > 0, steps.reward, jnp.nan))
    assert np.isnan(poisoned.reward).any()
    expected, _ = update(jax.random.key(1), start(name, agent), steps)
    state, metrics = update(jax.random.key(1), start(name, agent), poisoned)
    for found, wanted in zip(learned(state), learned(expected)):
        np.testing.assert_array_equal(found, wanted)
    assert all(np.isfinite(x) for x in metrics.values())


@EVERY
def test_a_weight_of_0_masks_and_a_weight_of_1_changes_nothing(name):
    agent, update = built(name)
    steps = data()
    expected, _ = update(jax.random.key(1), start(name, agent), steps)
    even, _ = update(jax.random.key(1), start(name, agent), steps._replace(weight=jnp.ones_like(steps.reward)))
    nothing = steps._replace(weight=jnp.zeros_like(steps.reward))
    kept, _ = update(jax.random.key(1), start(name, agent), nothing)
    for found, wanted in zip(numbers(learned(even)), numbers(learned(expected))):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    values = ("value", "q", "weights", "preference")
    for field in set(values) & set(kept._fields):
        np.testing.assert_array_equal(getattr(kept, field), getattr(start(name, agent), field))


@EVERY
def test_the_counter_of_updates_saturates(name):
    agent, update = built(name)
    state = start(name, agent)._replace(num_updates=jnp.int32(LAST))
    assert update(jax.random.key(1), state, data())[0].num_updates == LAST


@EVERY
def test_learners_that_remember_their_environments_say_how_to_cut_them(name):
    agent, _ = built(name)
    assert (agent.cut is not None) == (agent.requires.data == "stream")


@pytest.mark.parametrize("name", ["td_lambda", "td_lambda, dutch", "q_lambda", "sarsa"])
def test_a_cut_is_a_truncation(name):
    """Half of the steps, a cut, the rest: as if every environment's episode had been truncated in between."""
    agent, update = built(name)
    steps = data()._replace(mask=())
    halves = [jax.tree.map(lambda x, part=part: x[part], steps) for part in (slice(0, 6), slice(6, 12))]
    ended = halves[0].truncated.at[-1].set(~halves[0].terminated[-1])
    state, _ = update(jax.random.key(1), start(name, agent), halves[0])
    cut, _ = update(jax.random.key(1), agent.cut(state), halves[1])
    state, _ = update(jax.random.key(1), start(name, agent), halves[0]._replace(truncated=ended))
    expected, _ = update(jax.random.key(1), state, halves[1])
    for found, wanted in zip(learned(cut), learned(expected)):
        np.testing.assert_array_equal(found, wanted)


SETTINGS = {
    "enable_x64": lambda: jax.enable_x64(True),
    "numpy_rank_promotion": lambda: jax.numpy_rank_promotion("raise"),
    "debug_key_reuse": lambda: jax.debug_key_reuse(True),
    "debug_nans": lambda: jax.debug_nans(True),
    "default_prng_impl": lambda: jax.default_prng_impl("rbg"),
}


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


@pytest.mark.parametrize("setting", ["enable_x64", "numpy_rank_promotion", "default_prng_impl"])
@EVERY
def test_an_update_keeps_the_structure_under_every_setting_of_jax(name, setting):
    with SETTINGS[setting]():
        agent = LEARNERS[name][0]()
        state = jax.eval_shape(lambda: start(name, agent))
        after, metrics = jax.eval_shape(lambda s: agent.update(jax.random.key(1), s, data()), state)
        jax.eval_shape(lambda s: agent.act(jax.random.key(2), s, jnp.int32(0)), after)
        assert shapes(state) == shapes(after)
        assert {x.shape for x in metrics.values()} == {()}


@pytest.mark.parametrize("setting", ["debug_key_reuse", "debug_nans"])
@EVERY
def test_nothing_is_reported_under_the_debuggers_of_jax(name, setting):
    with SETTINGS[setting]():
        agent = LEARNERS[name][0]()
        state, metrics = jax.jit(agent.update)(jax.random.key(1), start(name, agent), data())
        jax.jit(agent.act)(jax.random.key(2), state, jnp.int32(0))
        assert all(np.isfinite(x).all() for x in numbers((state, metrics)))


SOLVERS = {
    "value_iteration": (dp.value_iteration, dp.DynamicProgrammingHparams(0.9)),
    "soft_value_iteration": (dp.soft_value_iteration, dp.SoftValueIterationHparams(0.9)),
    "modified_policy_iteration": (dp.modified_policy_iteration, dp.ModifiedPolicyIterationHparams(0.9)),
    "policy_iteration": (dp.policy_iteration, dp.DynamicProgrammingHparams(0.9)),
}


@pytest.mark.parametrize("setting", ["enable_x64", "numpy_rank_promotion", "default_prng_impl"])
@pytest.mark.parametrize("name", SOLVERS)
def test_solving_agents_keep_the_structure_under_every_setting_of_jax(name, setting):
    factory, hparams = SOLVERS[name]
    with SETTINGS[setting]():
        agent, maze = factory(), mdps.maze_2x3()
        state = agent.init(jax.random.key(0), purerl.hparams.cast(hparams), maze)
        after, _ = jax.eval_shape(lambda s: agent.update(jax.random.key(0), s, maze), state)
        jax.eval_shape(lambda s: agent.act(jax.random.key(2), s, jnp.int32(0)), after)
        assert shapes(state) == shapes(after)


@pytest.mark.parametrize("setting", ["enable_x64", "numpy_rank_promotion", "debug_nans"])
def test_the_solvers_run_under_every_setting_of_jax(setting):
    with SETTINGS[setting]():
        maze = mdps.maze_2x3()
        for solution in (
            mdps.value_iteration(maze, 0.9),
            mdps.policy_iteration(maze, 0.9),
            mdps.modified_policy_iteration(maze, 0.9),
        ):
            np.testing.assert_allclose(solution.value, [9, 10, 0, 8.1, 9, 0], rtol=1e-5)
        policy = jnp.full((6, 4), 0.25)
        exact = mdps.policy_evaluation(maze, policy, 0.9)
        np.testing.assert_allclose(mdps.iterative_policy_evaluation(maze, policy, 0.9).value, exact, atol=1e-4)
        assert np.isfinite(mdps.soft_value_iteration(maze, 0.9, 0.5).value).all()
        assert mdps.error_bound(mdps.value_iteration(maze, 0.9), 0.9) < 1e-3
        assert mdps.random_mdp(jax.random.key(0), 3, 2, 2).reward.shape == (3, 2, 2)

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandits import EPISODE, Hparams, make_agent

from purerl import loops, sweep
from purerl.spaces import Box
from purerl.types import Env, EnvStep


class Params(NamedTuple):
    goal: float = 0.3
    length: int = EPISODE


def make_env():
    """An episode of `length` steps, in which an action a is worth 1 - (a - goal)²."""

    def reset(key, env_params=None):
        return jnp.float32(0), jnp.int32(0)

    def step(key, env_state, action, env_params=None):
        params = Params() if env_params is None else env_params
        reward = 1 - (action - params.goal) ** 2
        return EnvStep(jnp.float32(0), env_state + 1, reward, env_state + 1 >= params.length, jnp.bool_(False))

    return Env(reset, step, Box(-10.0, 10.0), Box(-10.0, 10.0))


AGENT, ENV = make_agent(), make_env()
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def result():
    return sweep.search(
        KEY, AGENT, ENV, Hparams(), {"target": sweep.uniform(-1.0, 1.0)}, num_trials=4, num_seeds=2, num_updates=3,
        num_envs=2, rollout_length=4, eval_episodes=3, eval_max_steps=6, keep=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def table():
    return sweep.env_grid(Params(), {"goal": sweep.uniform(-1, 1, points=3), "length": sweep.choice([2, 5])})


def test_the_grid_holds_every_combination(table):
    np.testing.assert_allclose(table.env_params.goal, [-1, -1, 0, 0, 1, 1])
    assert table.env_params.length.tolist() == [2, 5] * 3
    assert list(table.columns) == ["goal", "length"]
    with pytest.raises(ValueError, match=r"no such parameter.*goal"):
        sweep.env_grid(Params(), {"gaol": sweep.uniform(-1, 1, points=3)})


def test_returns_are_the_closed_form(result, table):
    returns = sweep.robustness(KEY, AGENT, ENV, result, table.env_params, num_episodes=3, max_steps=6)
    assert returns.shape == (6, 6, 3)
    pairs = sweep.kept_agents(result)
    assert pairs == [(rank, seed) for rank in (1, 2, 3) for seed in (0, 1)]
    theta = np.array([result.select(*pair).state.theta for pair in pairs])
    goal, length = table.env_params.goal.astype(float), table.env_params.length
    expected = length * (1 - (theta[:, None] - goal) ** 2)
    np.testing.assert_allclose(returns, np.repeat(expected[:, :, None], 3, axis=2), rtol=1e-4)


def test_a_tree_of_states_a_list_of_them_and_the_best_of_a_result_are_the_same(result, table):
    def play(states, **options):
        return sweep.robustness(KEY, AGENT, ENV, states, table.env_params, num_episodes=3, max_steps=6, **options)

    states = [result.select(1, seed).state for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    np.testing.assert_array_equal(play(states), play(stacked))
    np.testing.assert_array_equal(play(states), play(result, top=1))


def test_one_row_is_what_evaluate_plays(result, table):
    state = result.best.state
    returns = sweep.robustness(KEY, AGENT, ENV, [state], table.env_params, num_episodes=3, max_steps=6)
    row = jax.tree.map(lambda leaf: leaf[3], table.env_params)
    alone = loops.evaluate(KEY, AGENT, ENV, state, num_episodes=3, max_steps=6, env_params=row).episode_return
    np.testing.assert_allclose(returns[0, 3], alone, rtol=1e-6)


def test_what_is_wrong_is_said(result, table):
    state = result.best.state
    with pytest.raises(ValueError, match="leading axis"):
        sweep.robustness(KEY, AGENT, ENV, [state], Params(jnp.ones(2), jnp.ones(3)))
    with pytest.raises(ValueError, match="differ in shape"):
        sweep.robustness(KEY, AGENT, ENV, [state, state._replace(theta=jnp.ones(2))], table.env_params)
    with pytest.raises(ValueError, match="num_episodes"):
        sweep.robustness(KEY, AGENT, ENV, [state], table.env_params, num_episodes=0)
    with pytest.raises(TypeError, match="typed key"):
        sweep.robustness(jax.random.PRNGKey(0), AGENT, ENV, [state], table.env_params)

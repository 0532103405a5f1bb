"""The textbook's MDPs have the textbook's answers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import mdp as mdps


def arrows(policy):
    return "".join("^>v<"[a] for a in np.argmax(policy, axis=1))


def test_gridworld_3x4_after_two_and_three_sweeps():
    history = np.asarray(mdps.value_iteration_history(mdps.gridworld_3x4(), 0.9, 3))
    two, three = np.zeros(11), np.zeros(11)
    two[[2, 3, 6]] = 0.72, 1, -1
    three[[1, 2, 3, 5, 6]] = 0.52, 0.78, 1, 0.43, -1
    np.testing.assert_allclose(history[2], two, atol=5e-3)
    np.testing.assert_allclose(history[3], three, atol=5e-3)


def test_policies_as_the_living_reward_grows_worse():
    """The four policies of the textbook; in an exit all actions are equal and the first is taken."""
    living_rewards = jnp.array([-0.01, -0.03, -0.4, -2.0])
    grids = jax.vmap(lambda r: mdps.gridworld_3x4(living_reward=r))(living_rewards)
    solutions = jax.vmap(lambda grid: mdps.value_iteration(grid, 1.0))(grids)
    expected = [">>>^^<^^<<v", ">>>^^^^^<<<", ">>>^^^^^>^<", ">>>^^>^>>>^"]
    assert [arrows(policy) for policy in solutions.policy] == expected


def test_maze_2x3():
    solution = mdps.value_iteration(mdps.maze_2x3(), 0.9)
    np.testing.assert_allclose(solution.value, [9, 10, 0, 8.1, 9, 0], atol=1e-5)
    assert arrows(solution.policy) == ">>^^^^"


def test_half_of_the_moves_slip_to_the_left():
    """v = ½ (10 + 0.9 v) in the cell beside the goal, where a move to the right slips up, into the border."""
    mdp = mdps.gridworld(["S+"], noise=(0.5, 0.0), exits={"+": 10.0}, pay_on_arrival=True)
    right = jax.nn.one_hot(jnp.ones(2, int), 4)
    np.testing.assert_allclose(mdps.policy_evaluation(mdp, right, 0.9), [5 / (1 - 0.45), 0], rtol=1e-6)


@pytest.fixture(scope="module")
def toy_text():
    gymnasium = pytest.importorskip("gymnasium")
    names = [
        n for n, spec in gymnasium.registry.items() if "toy_text" in str(spec.entry_point) and "Blackjack" not in n
    ]
    assert len(names) >= 4
    return {name: mdps.from_gymnasium(name) for name in names}


def test_all_tables_of_gymnasium_are_solved(toy_text):
    """The values satisfy Bellman's equation, written out on Gymnasium's own table."""
    import gymnasium

    for name, mdp in toy_text.items():
        value = np.asarray(mdps.value_iteration(mdp, 0.99, 1e-7).value, np.float64)
        table = gymnasium.make(name).unwrapped.P
        for state, actions in table.items():
            q = [sum(p * (r + 0.99 * (not end) * value[s]) for p, s, r, end in row) for row in actions.values()]
            assert max(q) == pytest.approx(value[state], abs=2e-5), (name, state)


def test_frozen_lake_is_worth_what_is_known(toy_text):
    lake = toy_text["FrozenLake-v1"]
    assert mdps.policy_iteration(lake, 0.99).value[0] == pytest.approx(0.5420259, abs=1e-6)
    assert mdps.value_iteration(lake, 0.99, 1e-8).value[0] == pytest.approx(0.5420259, abs=1e-6)
    np.testing.assert_array_equal(lake.initial, np.eye(16)[0])


def test_shortest_paths_without_discount(toy_text):
    """The cliff's start is 13 steps from the goal; a taxi drives, picks up, drives and drops for at most 18 steps."""
    cliff = next(mdp for name, mdp in toy_text.items() if name.startswith("CliffWalking-"))
    for solution in (mdps.value_iteration(cliff, 1.0), mdps.policy_iteration(cliff, 1.0)):
        assert solution.value[36] == -13
    taxi = next(mdp for name, mdp in toy_text.items() if name.startswith("Taxi"))
    solution = mdps.value_iteration(taxi, 1.0)
    possible = np.asarray(taxi.initial) > 0
    value = np.asarray(solution.value)[possible]
    np.testing.assert_array_equal(value, np.round(value))
    assert value.max() == 20 - 4 - 1  # four moves and a pick-up at -1 each, a drop at +20
    assert value.min() == 20 - 17


def test_random_walks_have_linear_values():
    for mdp, left, right in ((mdps.random_walk(5, 0, 1), 0, 1), (mdps.random_walk(), -1, 1)):
        num_states = len(mdp.initial)
        expected = np.linspace(left, right, num_states + 2)[1:-1]
        np.testing.assert_allclose(mdps.policy_evaluation(mdp, np.ones((num_states, 1)), 1.0), expected, atol=1e-6)
    jumping = mdps.random_walk(7, -1, 1, max_jump=3)
    value = mdps.iterative_policy_evaluation(jumping, np.ones((7, 1)), 1.0).value
    neighbours = np.concatenate([[-1.0] * 3, value, [1.0] * 3])
    averages = [(neighbours[i : i + 3].sum() + neighbours[i + 4 : i + 7].sum()) / 6 for i in range(7)]
    np.testing.assert_allclose(value, averages, atol=1e-5)


def test_the_gambler_plays_boldly():
    """Bold play wins from 100 k / 2^n with known probability, and no play is better if heads are unlikely."""
    value = mdps.value_iteration(mdps.gamblers_problem(0.4), 1.0, 1e-8).value
    np.testing.assert_allclose(value[jnp.array([0, 25, 50, 75, 100])], [0, 0.16, 0.4, 0.64, 0], atol=1e-6)
    likely = mdps.value_iteration(mdps.gamblers_problem(0.6), 1.0, 0, 20_000).value
    ruin = 1 - (2 / 3) ** np.arange(1, 100)  # timid play, the best where heads are likely
    np.testing.assert_allclose(likely[1:100], ruin / (1 - (2 / 3) ** 100), atol=1e-4)


def rental_by_hand(cars, requests, returns, most):
    """Distribution of a place's cars in the evening and expected rentals, by enumeration."""
    pmf = lambda mean, n: math.exp(-mean) * mean**n / math.factorial(n)  # noqa: E731
    evening, rented = np.zeros(most + 1), 0.0
    for asked in range(40):
        for returned in range(40):
            chance = pmf(requests, asked) * pmf(returns, returned)
            evening[min(cars - min(asked, cars) + returned, most)] += chance
            rented += chance * min(asked, cars)
    return evening, rented


def test_car_rental():
    mdp = mdps.car_rental()
    state, action, morning = 12 * 21 + 19, 5 - 3, (15, 16)  # three cars move from the second place to the first
    (first, rented_1), (second, rented_2) = rental_by_hand(15, 3, 3, 20), rental_by_hand(16, 4, 2, 20)
    assert morning == (12 + 3, 19 - 3)
    np.testing.assert_allclose(mdp.probability[state, action], np.outer(first, second).ravel(), atol=1e-6)
    assert mdp.reward[state, action, 0] == pytest.approx(10 * (rented_1 + rented_2) - 3 * 2, rel=1e-6)
    solution = mdps.policy_iteration(mdp, 0.9)
    assert solution.iterations <= 6
    moves = np.argmax(solution.policy, axis=1).reshape(21, 21) - 5
    assert moves[20, 0] == 5
    assert moves[10, 10] == 0
    assert moves[0, 20] == -4
    np.testing.assert_allclose(solution.value[0], 421.4, atol=0.1)


def test_catalogue_refuses_senseless_sizes():
    with pytest.raises(ValueError, match="num_states"):
        mdps.random_walk(0)
    with pytest.raises(ValueError, match="goal"):
        mdps.gamblers_problem(goal=1)
    with pytest.raises(ValueError, match="num_outcomes"):
        mdps.random_mdp(jax.random.key(0), 3, 2, 0)
    with pytest.raises(ValueError, match="termination"):
        mdps.random_mdp(jax.random.key(0), 3, 2, 1, termination=2)

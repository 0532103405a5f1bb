"""Malformed MDPs are rejected by name; well-formed ones have the right arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import mdp as mdps

STAY = [(1.0, 0, 0.0, False)]
GO = [(0.25, 1, 1.0, True), (0.75, 0, 0.5, False)]


def table(**changes):
    rows = {0: {0: STAY, 1: GO}, 1: {0: STAY, 1: STAY}}
    for place, outcomes in changes.items():
        state, action = (int(c) for c in place[1:])
        rows[state] = {**rows[state], action: outcomes}
    return rows


def test_from_table_pads_to_the_longest_list():
    mdp = mdps.from_table(table(), [1.0, 0.0])
    assert mdp.next_state.shape == (2, 2, 2)
    assert mdp.next_state.dtype == jnp.int32
    assert mdp.terminated.dtype == jnp.bool_
    np.testing.assert_array_equal(mdp.probability[0], [[1, 0], [0.25, 0.75]])
    np.testing.assert_array_equal(mdp.reward[0, 1], [1, 0.5])
    np.testing.assert_array_equal(mdp.terminated[0, 1], [True, False])
    as_lists = [[row[a] for a in range(2)] for row in table().values()]
    jax.tree.map(np.testing.assert_array_equal, mdp, mdps.from_table(as_lists, [1.0, 0.0]))


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ([(0.5, 0, 0.0, False)], "state 1, action 0.*sum to 0.5"),
        ([(1.0, 2, 0.0, False)], "state 1, action 0.*next_state 2"),
        ([(1.0, -1, 0.0, False)], "state 1, action 0.*next_state -1"),
        ([(1.0, 0.5, 0.0, False)], "state 1, action 0.*next_state 0.5"),
        ([(float("nan"), 0, 0.0, False)], "state 1, action 0.*probability nan"),
        ([(1.5, 0, 0.0, False), (-0.5, 0, 0.0, False)], "state 1, action 0.*probability 1.5"),
        ([(1.0, 0, float("nan"), False)], "state 1, action 0.*reward nan"),
        ([(1.0, 0, float("inf"), False)], "state 1, action 0.*reward inf"),
        ([], "state 1, action 0.*empty"),
        ([(1.0, 0, 0.0)], "state 1, action 0.*terminated"),
    ],
)
def test_from_table_names_the_state_and_action(outcomes, message):
    with pytest.raises(ValueError, match=message):
        mdps.from_table(table(_10=outcomes), [1.0, 0.0])


def test_from_table_refuses_ragged_tables_and_bad_starts():
    with pytest.raises(ValueError, match="state 1 has 3 actions"):
        mdps.from_table(table(_12=STAY), [1.0, 0.0])
    with pytest.raises(ValueError, match="no state 1"):
        mdps.from_table({0: {0: STAY}, 2: {0: STAY}}, [1.0, 0.0])
    with pytest.raises(ValueError, match="state 1 has no action 1"):
        mdps.from_table({0: {0: STAY, 1: STAY}, 1: {0: STAY, 2: STAY}}, [1.0, 0.0])
    for initial in ([0.5, 0.4], [1.5, -0.5], [float("nan"), 1.0]):
        with pytest.raises(ValueError, match="initial"):
            mdps.from_table(table(), initial)
    with pytest.raises(ValueError, match=r"initial must have shape \[S\]"):
        mdps.from_table(table(), [1.0])


def test_solvers_refuse_what_was_put_into_the_tuple_by_hand():
    good = mdps.random_mdp(jax.random.key(0), 4, 2, 3)
    bad = good._replace(next_state=good.next_state.at[2, 1, 0].set(4))
    policy = jnp.full((4, 2), 0.5)
    for solve in (
        lambda: mdps.value_iteration(bad, 0.9),
        lambda: mdps.policy_iteration(bad, 0.9),
        lambda: mdps.policy_evaluation(bad, policy, 0.9),
        lambda: jax.jit(lambda g: mdps.value_iteration(bad, g).value)(0.9),
    ):
        with pytest.raises(ValueError, match=r"state 2, action 1.*next_state 4"):
            solve()
    with pytest.raises(ValueError, match="discount"):
        mdps.value_iteration(good, 1.5)
    with pytest.raises(ValueError, match="discount"):
        mdps.policy_iteration(good, float("nan"))
    with pytest.raises(ValueError, match="tolerance"):
        mdps.value_iteration(good, 0.9, -1.0)
    with pytest.raises(ValueError, match="policy in state 3"):
        mdps.policy_evaluation(good, policy.at[3].set(0.4), 0.9)
    with pytest.raises(ValueError, match=r"policy must have shape"):
        mdps.policy_evaluation(good, policy.T, 0.9)
    with pytest.raises(ValueError, match="temperature"):
        mdps.soft_value_iteration(good, 0.9, 0.0)
    with pytest.raises(ValueError, match="probability must have the shape"):
        mdps.check(good._replace(probability=good.probability[..., :2]))


def test_from_dense_spells_out_every_next_state():
    transition = np.array([[[0.5, 0.5, 0.0]], [[0.0, 0.0, 1.0]], [[0.0, 0.0, 0.0]]])
    reward = np.array([[1.0], [2.0], [float("nan")]])
    mdp = mdps.from_dense(transition, reward, terminal=np.array([False, False, True]))
    assert mdp.next_state.shape == (3, 1, 3)
    np.testing.assert_allclose(mdp.initial, 1 / 3)
    value = mdps.policy_evaluation(mdp, np.ones((3, 1)), 0.9)
    np.testing.assert_allclose(value, [(1 + 0.45 * 2) / (1 - 0.45), 2, 0], rtol=1e-6)

    on_arrival = np.zeros((3, 1, 3))
    on_arrival[0, 0, 1], on_arrival[1, 0, 2] = 10, 4
    mdp = mdps.from_dense(transition, on_arrival, initial=[0, 1, 0], terminal=[False, False, True])
    value = mdps.policy_evaluation(mdp, np.ones((3, 1)), 0.9)
    np.testing.assert_allclose(value, [(5 + 0.45 * 4) / (1 - 0.45), 4, 0], rtol=1e-6)


def test_from_dense_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"state 1, action 0.*sum to 0.5"):
        mdps.from_dense([[[1, 0]], [[0.5, 0]]], [[0], [0]])
    with pytest.raises(ValueError, match=r"transition must have shape"):
        mdps.from_dense(np.ones((2, 1, 3)), np.ones((2, 1)))
    with pytest.raises(ValueError, match=r"reward must have shape"):
        mdps.from_dense(np.ones((2, 1, 2)) / 2, np.ones(2))
    with pytest.raises(ValueError, match=r"terminal must have shape"):
        mdps.from_dense(np.ones((2, 1, 2)) / 2, np.ones((2, 1)), terminal=[True])


def test_from_gymnasium_needs_a_table():
    pytest.importorskip("gymnasium")
    with pytest.raises(ValueError, match="no transition table"):
        mdps.from_gymnasium("CartPole-v1")


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (["  +", " "], "one length"),
        ("  +", "rows of text"),
        ([], "rows of text"),
        (["S ?"], "row 0, column 2: unknown character"),
        (["#+-"], "no free cell"),
    ],
)
def test_gridworld_refuses_bad_layouts(layout, message):
    with pytest.raises(ValueError, match=message):
        mdps.gridworld(layout)


def test_gridworld_refuses_bad_numbers():
    with pytest.raises(ValueError, match="noise"):
        mdps.gridworld(["S+"], noise=1.2)
    with pytest.raises(ValueError, match=r"noise\[0\] \+ noise\[1\]"):
        mdps.gridworld(["S+"], noise=(0.6, 0.6))
    with pytest.raises(ValueError, match=r"noise\[1\]"):
        mdps.gridworld(["S+"], noise=(0.6, -0.1))
    with pytest.raises(ValueError, match="a pair"):
        mdps.gridworld(["S+"], noise=(0.1, 0.1, 0.1))
    with pytest.raises(ValueError, match="exits"):
        mdps.gridworld(["S+"], exits={"+": float("nan")})
    with pytest.raises(ValueError, match="exits"):
        mdps.gridworld(["S+"], exits={"#": 1.0})


def test_gridworld_slips_to_one_side():
    mdp = mdps.gridworld(("S #", "  +"), noise=(0.5, 0.1))
    np.testing.assert_allclose(mdp.probability[0, 1], [0.4, 0.5, 0.1])
    np.testing.assert_array_equal(mdp.next_state[2, 1], [3, 0, 2])  # right, up (to its left), down (the border)
    many = jax.vmap(lambda noise: mdps.gridworld(["S+"], noise=(noise, 0.0)).probability)(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(many[:, 0, 0, 1], [0.1, 0.2])


def test_an_exit_that_pays_on_arrival_ends_the_step_that_enters_it():
    mdp = mdps.gridworld(["S+"], noise=0.0, living_reward=-0.5, pay_on_arrival=True)
    np.testing.assert_array_equal(mdp.reward[:, 1, 0], [1, 0])
    np.testing.assert_array_equal(mdp.terminated[:, 1, 0], [True, True])
    np.testing.assert_array_equal(mdp.reward[0, 0], [-0.5] * 2 + [1])  # up, and its slips to the left and right


def test_gridworld_moves_slips_and_bumps():
    mdp = mdps.gridworld(("S #", "  +"), noise=0.2, living_reward=-0.5)  # states 0 1 / 2 3 4
    moves = {0: [0, 1, 2, 0], 1: [1, 1, 3, 0], 2: [0, 3, 2, 2], 3: [1, 4, 3, 2]}
    for state, target in moves.items():
        np.testing.assert_array_equal(mdp.next_state[state, :, 0], target)
        sides = [[target[(a - 1) % 4], target[(a + 1) % 4]] for a in range(4)]
        np.testing.assert_array_equal(mdp.next_state[state, :, 1:], sides)
    np.testing.assert_allclose(mdp.probability[0, 0], [0.8, 0.1, 0.1])
    np.testing.assert_array_equal(mdp.reward[:, 0, 0], [-0.5, -0.5, -0.5, -0.5, 1])
    np.testing.assert_array_equal(mdp.terminated[:, 0, 0], [False, False, False, False, True])
    np.testing.assert_array_equal(mdp.initial, [1, 0, 0, 0, 0])
    np.testing.assert_allclose(mdps.gridworld(("  #", " #+")).initial, [1 / 3, 1 / 3, 1 / 3, 0])

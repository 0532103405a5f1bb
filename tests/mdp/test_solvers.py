"""Solvers against an independent float64 solution, closed forms and each other."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import mdp as mdps

NUM, SHAPE = 10, (33, 6, 4)  # one state more than an elimination block


def dense(mdp):
    """Float64 transition [S, A, S] of continuing, and expected reward [S, A]."""
    fields = [np.asarray(field) for field in mdp]
    next_state, probability, reward, terminated = fields[0], fields[1].astype(np.float64), fields[2], fields[3]
    num_states = next_state.shape[0]
    transition = np.einsum("sak,sakt->sat", probability * ~terminated, np.eye(num_states)[next_state])
    return transition, (probability * reward).sum(-1)


def evaluate(mdp, policy, discount):
    """Float64 value of a policy by LAPACK on the host. Float32 probabilities are first made to sum to 1 exactly."""
    probability = np.asarray(mdp.probability, np.float64)
    transition, reward = dense(mdp._replace(probability=probability / probability.sum(-1, keepdims=True)))
    policy = np.asarray(policy, np.float64)
    policy = policy / policy.sum(-1, keepdims=True)
    chain = np.einsum("sa,sat->st", policy, transition)
    return np.linalg.solve(np.eye(len(chain)) - discount * chain, (policy * reward).sum(-1))


def optimal(mdp, discount):
    """Float64 optimal value by Howard's algorithm on the host."""
    transition, reward = dense(mdp)
    states, value = np.arange(len(reward)), np.full(len(reward), -np.inf)
    action = np.zeros(len(reward), int)
    for _ in range(50):
        new = np.linalg.solve(np.eye(len(reward)) - discount * transition[states, action], reward[states, action])
        if not (new > value + 1e-10).any():
            return new
        value, action = new, (reward + discount * transition @ new).argmax(1)
    raise AssertionError("did not converge")


def soft_optimal(mdp, discount, temperature):
    """Float64 fixed point of v = τ log Σ exp(q / τ) by plain iteration."""
    transition, reward = dense(mdp)
    value = np.zeros(len(reward))
    for _ in range(400):
        value = temperature * np.log(np.exp((reward + discount * transition @ value) / temperature).sum(-1))
    return value


def member(mdp, i):
    return jax.tree.map(lambda leaf: leaf[i], mdp)


# compiled once, for all tests that solve a batch
policy_iterations = jax.jit(jax.vmap(mdps.policy_iteration))


@pytest.fixture(scope="module")
def many():
    return jax.vmap(lambda key: mdps.random_mdp(key, *SHAPE, termination=0.05))(
        jax.random.split(jax.random.key(7), NUM)
    )


@pytest.fixture(scope="module")
def garnet(many):
    return member(many, 0)


@pytest.fixture(scope="module")
def policy():
    return np.random.default_rng(0).dirichlet(np.ones(SHAPE[1]), SHAPE[0])


def test_random_mdps_are_as_asked(many):
    assert many.next_state.shape == (NUM, *SHAPE)
    assert np.mean(many.terminated) == pytest.approx(0.05, abs=0.01)
    assert len(np.unique(many.next_state[0])) == SHAPE[0]
    np.testing.assert_allclose(jnp.sum(many.probability, -1), 1, atol=1e-6)


def test_backup_is_the_sum_over_outcomes(garnet):
    value = np.random.default_rng(1).normal(size=SHAPE[0]).astype(np.float32)
    transition, reward = dense(garnet)
    expected = reward + 0.9 * transition @ value.astype(np.float64)
    np.testing.assert_allclose(mdps.bellman_backup(garnet, value, 0.9), expected, atol=1e-6)


def test_value_iteration_solves_and_says_how_well(garnet):
    exact = optimal(garnet, 0.95)
    for tolerance in (1e-1, 1e-3, 1e-6):
        solution = mdps.value_iteration(garnet, 0.95, tolerance)
        assert solution.residual <= tolerance
        error = np.abs(np.asarray(solution.value) - exact).max()
        bound = float(mdps.error_bound(solution, 0.95))
        assert error <= bound + 3e-5  # rounding: eps |v| / (1 - γ)
        assert bound <= 0.95 / 0.05 * float(solution.residual) + 3e-5
    np.testing.assert_allclose(solution.value, exact, atol=5e-5)
    np.testing.assert_allclose(solution.q, mdps.bellman_backup(garnet, solution.value, 0.95), atol=2e-6)
    np.testing.assert_array_equal(solution.policy, np.eye(SHAPE[1])[np.argmax(solution.q, axis=1)])


def test_value_iteration_stops_where_it_is_told_to(garnet):
    history = mdps.value_iteration_history(garnet, 0.95, 30)
    assert history.shape == (31, SHAPE[0])
    np.testing.assert_array_equal(history[0], 0)
    for sweeps in (0, 1, 7, 30):
        solution = mdps.value_iteration(garnet, 0.95, 0, sweeps)
        np.testing.assert_array_equal(solution.value, history[sweeps])
        assert solution.iterations == sweeps
    np.testing.assert_allclose(solution.residual, np.abs(history[30] - history[29]).max())
    changes = np.abs(np.diff(history, axis=0)).max(1)
    tolerance = float(changes[12])
    assert mdps.value_iteration(garnet, 0.95, tolerance).iterations == 13  # the first change that is not above it


def test_policy_evaluation_is_exact_in_float32(garnet, policy):
    """Mixed rewards lose what they cancel; without cancellation nothing is lost up to γ = 1 − 1e-5."""
    endless = garnet._replace(terminated=jnp.zeros_like(garnet.terminated), reward=jnp.abs(garnet.reward))
    for discount in (0.0, 0.9, 0.999, 0.99999):
        for mdp in (garnet, endless):
            exact = evaluate(mdp, policy, float(np.float32(discount)))
            value = mdps.policy_evaluation(mdp, policy, discount)
            np.testing.assert_allclose(value, exact, atol=3e-6 * np.abs(exact).max())
    exact = evaluate(garnet, policy, 1.0)
    np.testing.assert_allclose(mdps.policy_evaluation(garnet, policy, 1.0), exact, atol=1e-5 * np.abs(exact).max())


def test_policy_evaluation_at_discount_1_where_nothing_ends():
    """States: 0 -> 1 or 2; 1 stays for nothing; 2 and 3 alternate for a reward; 4 pays 5 and ends."""
    next_state = np.array([1, 1, 3, 2, 4]).reshape(5, 1, 1)
    reward = np.array([1, 0, 2, 1, 5.0]).reshape(5, 1, 1)
    terminated = np.array([0, 0, 0, 0, 1], bool).reshape(5, 1, 1)
    mdp = mdps.MDP(next_state, np.ones((5, 1, 1)), reward, terminated, np.full(5, 0.2))
    one = np.ones((5, 1))
    np.testing.assert_allclose(mdps.policy_evaluation(mdp, one, 1.0), [1, 0, np.inf, np.inf, 5])
    lost = mdp._replace(reward=-reward, next_state=next_state.copy())
    lost.next_state[0] = 2
    np.testing.assert_allclose(mdps.policy_evaluation(lost, one, 1.0), [-np.inf, 0, -np.inf, -np.inf, -5])


def test_what_leads_to_an_endless_loop_does_not_spoil_the_rest():
    """States: 0 and 1 alternate for ever at a price; 2, 3 lead there, 4 in half of the cases; 5 ends; 6 leads to 5."""
    next_state = np.array([[1, 1], [0, 0], [0, 0], [2, 2], [3, 5], [5, 5], [5, 5]]).reshape(7, 1, 2)
    terminated = np.zeros((7, 1, 2), bool)
    terminated[5] = True
    mdp = mdps.MDP(next_state, np.full((7, 1, 2), 0.5), np.full((7, 1, 2), -1.0), terminated, np.full(7, 1 / 7))
    never = -np.inf
    for order in (np.arange(7), np.arange(7)[::-1]):  # endless states first, and last
        place = np.argsort(order)
        moved = mdp._replace(next_state=place[next_state[order]], terminated=terminated[order])
        value = mdps.policy_evaluation(moved, np.ones((7, 1)), 1.0)
        np.testing.assert_allclose(value, np.array([never, never, never, never, never, -1, -2])[order])


def test_policy_evaluation_is_differentiable(garnet, policy):
    transition, reward = dense(garnet)
    exact = evaluate(garnet, policy, 0.9)
    chain = np.einsum("sa,sat->st", policy, transition)
    visits = np.asarray(garnet.initial) @ np.linalg.inv(np.eye(SHAPE[0]) - 0.9 * chain)
    expected = visits[:, None] * (reward + 0.9 * transition @ exact)  # the policy gradient theorem
    gradient = jax.grad(lambda pi: garnet.initial @ mdps.policy_evaluation(garnet, pi, 0.9))(jnp.asarray(policy))
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_iterative_evaluation_agrees_with_the_exact_one(garnet, policy):
    solution = mdps.iterative_policy_evaluation(garnet, policy, 0.95, 1e-6)
    exact = evaluate(garnet, policy, 0.95)
    assert np.abs(np.asarray(solution.value) - exact).max() <= float(mdps.error_bound(solution, 0.95)) + 1e-5
    np.testing.assert_allclose(solution.value, exact, atol=2e-5)


def test_all_solvers_of_the_optimum_agree_over_a_batch_of_mdps_and_discounts(many):
    discount = jnp.linspace(0.5, 0.99, NUM)
    solutions = {
        "value": jax.vmap(lambda m, g: mdps.value_iteration(m, g, 1e-7))(many, discount),
        "policy": policy_iterations(many, discount),
        "modified": jax.vmap(lambda m, g: mdps.modified_policy_iteration(m, g, 5, 1e-7))(many, discount),
    }
    for i in range(NUM):
        exact = optimal(member(many, i), float(discount[i]))
        for name, solution in solutions.items():
            np.testing.assert_allclose(solution.value[i], exact, rtol=1e-5, atol=1e-5, err_msg=name)
            np.testing.assert_array_equal(solution.policy[i], solutions["value"].policy[i])
    assert solutions["value"].iterations[0] < 40  # members that are done do not count on
    assert solutions["value"].iterations[-1] > 100
    assert max(solutions["policy"].iterations) < 10
    assert (solutions["modified"].iterations <= solutions["value"].iterations).all()


def test_modified_policy_iteration_with_no_sweeps_is_value_iteration(garnet):
    modified, plain = mdps.modified_policy_iteration(garnet, 0.9, 0), mdps.value_iteration(garnet, 0.9)
    jax.tree.map(np.testing.assert_array_equal, modified, plain)


def test_policy_iteration_does_not_cycle_over_ties(many):
    """Copies of actions and of whole MDPs with outcomes in another order: ties everywhere, unequal only by rounding."""
    half = jax.tree.map(lambda leaf: leaf[:, :, :3], many._replace(initial=many.probability))
    tied = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[..., ::-1]], axis=2), half)
    tied = tied._replace(reward=100 * tied.reward, initial=many.initial)
    solution = policy_iterations(tied, jnp.full(NUM, 0.99))
    assert solution.iterations.max() < 12
    for i in range(NUM):
        np.testing.assert_allclose(solution.value[i], optimal(member(tied, i), float(np.float32(0.99))), rtol=1e-4)
    same = many._replace(reward=jnp.zeros_like(many.reward))
    np.testing.assert_array_equal(policy_iterations(same, jnp.full(NUM, 0.99)).policy[:, :, 0], 1)


@pytest.fixture(scope="module")
def priced():
    """Every reward is a price, so that at discount 1 it pays to end."""
    mdp = mdps.random_mdp(jax.random.key(11), 6, 3, 2, termination=0.2)
    return mdp._replace(reward=-jnp.abs(mdp.reward))


def with_trap(mdp):
    """The MDP with one more state, which nothing leads to and which is never left, at a price."""
    num_states, num_actions, num_outcomes = mdp.next_state.shape
    row = {
        "next_state": num_states,
        "probability": 1 / num_outcomes,
        "reward": -1.0,
        "terminated": False,
    }
    more = {name: np.full((1, num_actions, num_outcomes), value) for name, value in row.items()}
    fields = {name: np.concatenate([getattr(mdp, name), value]) for name, value in more.items()}
    return mdps.MDP(**fields, initial=np.append(mdp.initial, 0.0))


def test_policy_iteration_is_not_spoiled_by_an_endless_state_that_nothing_leads_to(priced):
    plain, solution = mdps.policy_iteration(priced, 1.0), mdps.policy_iteration(with_trap(priced), 1.0)
    np.testing.assert_allclose(plain.value, optimal(priced, 1.0), rtol=1e-5)
    np.testing.assert_allclose(solution.value[:-1], plain.value, rtol=1e-6)
    np.testing.assert_array_equal(solution.policy[:-1], plain.policy)
    assert solution.value[-1] == -np.inf
    assert solution.residual < 1e-5


TRAP = mdps.from_table(
    {  # state 0 is never left, at a price; from state 1 a price leads out; lists are padded with next state 0
        0: {0: [(1.0, 0, -1.0, False)], 1: [(1.0, 0, -1.0, False)]},
        1: {0: [(0.5, 2, -5.0, True), (0.5, 2, -5.0, True)], 1: [(1.0, 0, 0.0, False)]},
        2: {0: [(1.0, 2, 0.0, True)], 1: [(1.0, 2, 0.0, True)]},
    },
    [0, 1, 0],
)


def test_policy_iteration_pays_to_avoid_an_endless_state():
    solution = mdps.policy_iteration(TRAP, 1.0)
    np.testing.assert_array_equal(solution.value, [-np.inf, -5, 0])
    np.testing.assert_array_equal(solution.q, [[-np.inf, -np.inf], [-5, -np.inf], [0, 0]])
    np.testing.assert_array_equal(solution.policy[1], [1, 0])
    assert solution.residual == 0


def test_a_backup_of_infinite_values_spoils_only_what_leads_to_them():
    value = mdps.policy_evaluation(TRAP, [[1.0, 0.0]] * 3, 1.0)
    np.testing.assert_array_equal(mdps.bellman_backup(TRAP, value, 1.0)[:, 0], value)


def test_a_backup_is_differentiable_in_probabilities_of_0():
    gradient = jax.grad(lambda p: mdps.bellman_backup(TRAP._replace(probability=p), [1.0, 2.0, 3.0], 1.0)[0, 0])
    assert gradient(TRAP.probability)[0, 0].tolist() == [0.0, 1.0]  # reward + value of the next state, 0


def test_soft_value_iteration_has_its_own_fixed_point(garnet):
    temperature = 0.3
    solution = mdps.soft_value_iteration(garnet, 0.9, temperature, 1e-6)
    exact = soft_optimal(garnet, 0.9, temperature)
    np.testing.assert_allclose(solution.value, exact, atol=2e-5)
    transition, reward = dense(garnet)
    advantage = reward + 0.9 * transition @ exact - exact[:, None]
    np.testing.assert_allclose(solution.policy, np.exp(advantage / temperature), atol=1e-4)
    rough = mdps.soft_value_iteration(garnet, 0.9, temperature, 1e-2)
    bound = mdps.error_bound(rough, 0.9, temperature)
    assert np.abs(np.asarray(rough.value) - exact).max() <= bound + 1e-5
    cold = mdps.soft_value_iteration(garnet, 0.9, 1e-4, 1e-6)
    np.testing.assert_allclose(cold.value, optimal(garnet, 0.9), atol=1e-3)


def test_no_bound_without_discount():
    solution = mdps.value_iteration(mdps.gridworld_3x4(living_reward=-0.1), 1.0)
    assert np.isinf(mdps.error_bound(solution, 1.0))


def test_new_numbers_do_not_compile_again(garnet):
    from purerl.mdp import sweeps

    mdps.value_iteration(garnet, 0.9)
    before = sweeps._value_iteration._cache_size()
    for arguments in ((1, 0, 3), (np.float64(0.5), 1e-3, 10), (jnp.float32(0.7), np.float32(0.1), np.int64(5))):
        mdps.value_iteration(garnet, *arguments)
    assert sweeps._value_iteration._cache_size() == before


def test_two_batched_evaluations_in_one_program_do_not_hang():
    program = """
import jax, jax.numpy as jnp
from purerl import mdp
keys = jax.random.split(jax.random.key(0), 8)
batch = jax.vmap(lambda key: mdp.random_mdp(key, 40, 2, 3))(keys)
policies = jax.nn.softmax(jax.random.normal(jax.random.key(1), (2, 8, 40, 2)))
evaluate = jax.vmap(lambda m, p: mdp.policy_evaluation(m, p, 0.9))
both = jax.jit(lambda m, p: (evaluate(m, p[0]), evaluate(m, p[1])))
for value in jax.block_until_ready(both(batch, policies)):
    print(bool(jnp.isfinite(value).all()))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=True)
    assert run.stdout.split() == ["True", "True"]

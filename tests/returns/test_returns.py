"""Returns, on-policy and off-policy: oracles in both precisions, gradients, properties, rlax, shapes."""

import checks_returns
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
from checking import arr, close, gradient_agrees, jit, precision, precisions, trajectory
from hypothesis import given, settings
from hypothesis import strategies as st

from purerl import returns

CHECKS = [check for name, check in vars(checks_returns).items() if name.startswith("check_")]


@pytest.mark.parametrize("dtype", precisions())
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_oracle(check, dtype):
    with precision(dtype), jax.numpy_rank_promotion("raise"):
        check(returns)


# --- every estimator as a function of a trajectory, so that one property serves them all ------------------------------


def q_values(data, seed=0):
    """Action values at the successor, NaN where terminated, and the action taken next."""
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(*data.reward.shape, 3)) + np.nan_to_num(data.next_value)[..., None]
    return np.where(np.isnan(data.next_value)[..., None], np.nan, q)


def nstep(r, d, v, w, k, rho):
    return returns.n_step_returns(r, d, w, jnp.sign(k), 3)


ESTIMATORS = {
    "reward_to_go": lambda r, d, v, w, k, rho: returns.reward_to_go(r, d * jnp.sign(k)),
    "whole_returns": lambda r, d, v, w, k, rho: returns.whole_returns(r, d * jnp.sign(k)),
    "n_step_returns": nstep,
    "lambda_returns": lambda r, d, v, w, k, rho: returns.lambda_returns(r, d, w, k),
    "gae": lambda r, d, v, w, k, rho: returns.gae(r, d, v, w, k),
    "vtrace": lambda r, d, v, w, k, rho: returns.vtrace(r, d, v, w, k, rho)[0],
    "vtrace_advantage": lambda r, d, v, w, k, rho: returns.vtrace(r, d, v, w, k, rho)[1],
    "retrace": lambda r, d, v, w, k, rho: returns.retrace(r, d, w, 0.5 * w, k * jnp.minimum(1, jnp.exp(rho))),
    "tree_backup": lambda r, d, v, w, k, rho: returns.tree_backup(r, d, w, 0.5 * w, jax.nn.sigmoid(rho), k),
    "q_lambda": lambda r, d, v, w, k, rho: returns.q_lambda(
        r, d, jnp.stack([w, 0.5 * w], -1), jnp.asarray(rho > 0, jnp.int32), k
    ),
    "ordinary": lambda r, d, v, w, k, rho: returns.ordinary_importance_sampling(r, d * jnp.sign(k), rho),
    "per_decision": lambda r, d, v, w, k, rho: returns.per_decision_importance_sampling(r, d * jnp.sign(k), rho),
}
COMPILED = {name: jax.jit(function) for name, function in ESTIMATORS.items()}
EVERY = pytest.mark.parametrize("name", ESTIMATORS)
BOTH = pytest.mark.parametrize("dtype", precisions())
SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=5, deadline=None, derandomize=True)


def apply(name, data):
    return np.asarray(COMPILED[name](*[arr(x) for x in data]), np.float64)


def size(*arrays):
    return 1 + max(np.abs(a).max() for a in arrays)


@EVERY
@BOTH
@FEW
@given(seed=SEEDS)
def test_permuting_the_batch_permutes_the_result(name, dtype, seed):
    with precision(dtype):
        data, order = trajectory(seed), np.random.default_rng(seed).permutation(3)
        whole = apply(name, data)
        close(apply(name, type(data)(*[x[:, order] for x in data])), whole[:, order], size(whole))


@EVERY
@BOTH
@FEW
@given(seed=SEEDS)
def test_two_episodes_in_a_row_are_as_two_apart(name, dtype, seed):
    with precision(dtype):
        first, second = trajectory(seed), trajectory(seed + 1)
        first.trace_decay[-1] = 0
        joined = apply(name, type(first)(*[np.concatenate(pair) for pair in zip(first, second)]))
        apart = np.concatenate([apply(name, first), apply(name, second)])
        close(joined, apart, size(apart))


@EVERY
@BOTH
@FEW
@given(seed=SEEDS)
def test_padding_after_the_end_changes_nothing(name, dtype, seed):
    """Steps after a terminal one may hold anything, infinities and NaN included."""
    with precision(dtype):
        data = trajectory(seed)
        data.discount[-1] = data.trace_decay[-1] = 0
        data.next_value[-1] = np.nan
        rubbish = [np.full_like(x, fill) for x, fill in zip(data, (np.nan, 0.9, np.inf, np.nan, 0.8, 0.5))]
        padded = apply(name, type(data)(*[np.concatenate(pair) for pair in zip(data, rubbish)]))
        close(padded[: len(data.reward)], apply(name, data), size(apply(name, data)))


@EVERY
@BOTH
@FEW
@given(seed=SEEDS, scale=st.sampled_from([-2.0, 0.01, 100.0]))
def test_scaling_rewards_and_values_scales_the_result(name, dtype, seed, scale):
    if name == "q_lambda" and scale < 0:
        scale = -scale  # a maximum is equivariant to positive factors only
    with precision(dtype):
        data = trajectory(seed)
        scaled = data._replace(reward=scale * data.reward, value=scale * data.value, next_value=scale * data.next_value)
        expected = scale * apply(name, data)
        close(apply(name, scaled), expected, size(expected))


@EVERY
@BOTH
@FEW
@given(seed=SEEDS)
def test_each_column_is_alone(name, dtype, seed):
    """Trailing axes are free: any shape, and no column sees another."""
    with precision(dtype):
        data = trajectory(seed)
        for column in range(3):
            alone = apply(name, type(data)(*[x[:, column] for x in data]))
            close(alone, apply(name, data)[:, column], size(alone))


@EVERY
@BOTH
@FEW
@given(seed=SEEDS)
def test_the_past_of_a_step_does_not_matter(name, dtype, seed):
    """Dropping the first steps leaves the rest as it was, save for the whole return, which looks back by definition."""
    with precision(dtype):
        data = trajectory(seed)
        if name == "whole_returns":
            data.trace_decay[2] = 0
        tail = apply(name, type(data)(*[x[3:] for x in data]))
        close(apply(name, data)[3:], tail, size(tail))


# --- identities between them ------------------------------------------------------------------------------------------


def inputs(seed, *names, **kwargs):
    return trajectory(seed, **kwargs).arrays(*names)


RETURN = ("reward", "discount", "next_value", "trace_decay")
JIT = {name: jax.jit(getattr(returns, name)) for name in ("lambda_returns", "gae", "vtrace", "reward_to_go", "retrace")}
N_STEP = jax.jit(returns.n_step_returns, static_argnums=4)


@BOTH
@FEW
@given(seed=SEEDS)
def test_n_step_of_the_whole_batch_is_lambda_one(dtype, seed):
    with precision(dtype):
        args = inputs(seed, *RETURN, lam=1.0)
        close(N_STEP(*args, 7), np.asarray(JIT["lambda_returns"](*args)), 5)
        close(N_STEP(*args, 50), np.asarray(JIT["lambda_returns"](*args)), 5)


@BOTH
@FEW
@given(seed=SEEDS)
def test_lambda_zero_is_one_step(dtype, seed):
    with precision(dtype):
        args = inputs(seed, *RETURN, lam=0.0)
        close(JIT["lambda_returns"](*args), np.asarray(N_STEP(*args, 1)))


@BOTH
@FEW
@given(seed=SEEDS)
def test_lambda_return_is_the_geometric_mixture_of_n_step_returns(dtype, seed):
    with precision(dtype):
        lam = 0.8
        args = inputs(seed, *RETURN, lam=lam)
        ones = [*args[:3], jnp.sign(args[3])]
        mixture = sum((1 - lam) * lam ** (n - 1) * np.asarray(N_STEP(*ones, n)) for n in range(1, 7))
        mixture = mixture + lam**6 * np.asarray(N_STEP(*ones, 7))
        close(JIT["lambda_returns"](*args), mixture, 5)


@BOTH
@FEW
@given(seed=SEEDS)
def test_gae_plus_value_is_the_lambda_return(dtype, seed):
    with precision(dtype):
        reward, discount, value, next_value, decay = inputs(seed, "reward", "discount", "value", *RETURN[2:])
        advantage = np.asarray(JIT["gae"](reward, discount, value, next_value, decay))
        close(advantage + value, np.asarray(JIT["lambda_returns"](reward, discount, next_value, decay)), 5)


@BOTH
@FEW
@given(seed=SEEDS)
def test_on_policy_vtrace_is_the_lambda_return(dtype, seed):
    with precision(dtype):
        reward, discount, value, next_value, decay = inputs(seed, "reward", "discount", "value", *RETURN[2:])
        target, advantage = JIT["vtrace"](reward, discount, value, next_value, decay, jnp.zeros_like(reward))
        expected = np.asarray(JIT["lambda_returns"](reward, discount, next_value, decay))
        close(target, expected, 5)
        close(advantage, expected - np.asarray(value), 5)


@BOTH
@FEW
@given(seed=SEEDS)
def test_retrace_without_traces_is_expected_sarsa_and_with_all_of_them_is_monte_carlo(dtype, seed):
    with precision(dtype):
        reward, discount, next_value, decay = inputs(seed, *RETURN, lam=1.0)
        zero = jnp.zeros_like(reward)
        one_step = np.asarray(JIT["retrace"](reward, discount, next_value, next_value, zero))
        close(one_step, np.asarray(N_STEP(reward, discount, next_value, decay, 1)))
        every = np.asarray(JIT["retrace"](reward, discount, next_value, next_value, decay))
        close(every, np.asarray(JIT["lambda_returns"](reward, discount, next_value, decay)), 5)


@BOTH
@FEW
@given(seed=SEEDS)
def test_without_values_the_lambda_one_return_is_the_reward_to_go(dtype, seed):
    with precision(dtype):
        reward, discount, next_value, decay = inputs(seed, *RETURN, lam=1.0)
        without = JIT["lambda_returns"](reward, discount, jnp.zeros_like(next_value), decay)
        close(JIT["reward_to_go"](reward, discount * decay), np.asarray(without), 5)


# --- gradients, NaN, rlax, refusals -----------------------------------------------------------------------------------


@EVERY
def test_gradient_is_that_of_finite_differences(name):
    """In every argument, except q_lambda's in the ratio, which stands for the integer action there."""
    with precision("float64"):
        data = [np.nan_to_num(x) for x in trajectory(3, endings=0)]
        gradient_agrees(ESTIMATORS[name], data, range(5 if name == "q_lambda" else 6))


@EVERY
def test_nan_behind_a_termination_reaches_no_gradient(name):
    data = trajectory(5)
    assert np.isnan(data.next_value).any()
    gradients = jax.jit(jax.grad(lambda *a: jnp.sum(ESTIMATORS[name](*a)), range(6)))(*[arr(x) for x in data])
    for gradient in gradients:
        assert np.isfinite(gradient).all()


def columns(function, *arrays):
    return jax.jit(jax.vmap(function, 1, 1))(*[arr(a) for a in arrays])


def test_rlax_agrees():
    """rlax works on one column and knows no truncation: its λ is our trace_decay, its discount ours.

    Where an episode is truncated its discount would have to be 0, which drops the bootstrap; so there are none here.
    Its GAE and V-trace take one row of values, so next_value is value one step on.
    """
    with precision("float64"):
        data = trajectory(6, endings=0)
        rho, ends = np.exp(data.log_rho), np.random.default_rng(0).random(data.reward.shape) < 0.2
        discount = data.discount * ~ends
        r, v, w, k = data.reward, data.value, data.next_value, np.full_like(data.reward, 0.8)
        args = [arr(x) for x in (r, discount, w, k)]
        close(returns.lambda_returns(*args), columns(rlax.lambda_returns, r, discount, w, k))
        close(returns.reward_to_go(*args[:2]), columns(lambda r, d: rlax.discounted_returns(r, d, 0.0), r, discount))
        ones = jnp.ones_like(args[0])
        for n in (1, 3, 7):
            close(
                returns.n_step_returns(*args[:3], ones, n),
                columns(lambda r, d, w, n=n: rlax.n_step_bootstrapped_returns(r, d, w, n), r, discount, w),
            )
        row = np.concatenate([v, w[-1:]])
        expected = columns(rlax.truncated_generalized_advantage_estimation, r, discount, k, row)
        close(returns.gae(arr(r), arr(discount), arr(v), arr(w), arr(k)), expected)
        check_rlax_vtrace(r, discount, v, w, rho)
        check_rlax_action_values(data, discount, k)


def check_rlax_vtrace(r, discount, v, w, rho):
    """rlax's λ scales c here as there. Its policy-gradient advantage bootstraps λ vs + (1 − λ) v, as ours does."""
    output = columns(
        lambda v, w, r, d, rho: rlax.vtrace_td_error_and_advantage(v, w, r, d, rho, 0.8), v, w, r, discount, rho
    )
    decay = np.full_like(r, 0.8)
    target, advantage = returns.vtrace(*[arr(x) for x in (r, discount, v, w, decay, np.log(rho))])
    close(np.asarray(target) - v, np.asarray(output.errors), 10)
    close(np.asarray(advantage)[:-1], np.asarray(output.pg_advantage)[:-1], 10)


def check_rlax_action_values(data, discount, k):
    """rlax returns errors target − q. Its Q(λ) is Peng's, which is our λ-return of max q."""
    rng = np.random.default_rng(1)
    q, next_q = rng.normal(size=(2, *data.reward.shape, 3))
    probs = rng.dirichlet(np.ones(3), size=data.reward.shape)
    action, next_action = rng.integers(0, 3, (2, *data.reward.shape)).astype(np.int32)
    taken, next_taken = (
        np.take_along_axis(x, a[..., None], -1)[..., 0] for x, a in ((q, action), (next_q, next_action))
    )
    best = next_q.max(-1)
    expected = columns(rlax.lambda_returns, data.reward, discount, best, k)
    close(returns.lambda_returns(*[arr(x) for x in (data.reward, discount, best, k)]), expected)
    peng = jax.vmap(rlax.q_lambda, 1, 1)(arr(q), action, arr(data.reward), arr(discount), arr(next_q), arr(k))
    close(np.asarray(peng), np.asarray(expected) - taken)
    c = k * np.minimum(1, np.exp(data.log_rho))
    ours = returns.retrace(*[arr(x) for x in (data.reward, discount, np.sum(probs * next_q, -1), next_taken, c)])
    theirs = columns(
        rlax.general_off_policy_returns_from_q_and_v,
        next_taken[:-1], np.sum(probs * next_q, -1), data.reward, discount, c[:-1],
    )  # fmt: skip
    close(np.asarray(ours), np.asarray(theirs), 5)


SCALARS = {  # an estimator of (reward, discount, value, next value, trace decay) in a trajectory without an end
    "reward_to_go": lambda r, d, v, w, k: returns.reward_to_go(r, d),
    "n_step_returns": lambda r, d, v, w, k: returns.n_step_returns(r, d, w, k > 0, 2),
    "lambda_returns": lambda r, d, v, w, k: returns.lambda_returns(r, d, w, k),
    "gae": returns.gae,
    "vtrace": lambda r, d, v, w, k: returns.vtrace(r, d, v, w, k, jnp.float32(0.5)),
    "retrace": lambda r, d, v, w, k: returns.retrace(r, d, w, v, k),
    "tree_backup": lambda r, d, v, w, k: returns.tree_backup(r, d, w, v, 0.5, k),
}


@pytest.mark.parametrize("name", SCALARS)
def test_a_scalar_stands_for_an_array_of_it(name):
    reward, value, next_value = (arr(x) for x in np.random.default_rng(0).normal(size=(3, 4, 2)))
    expected = SCALARS[name](reward, jnp.full_like(reward, 0.99), value, next_value, jnp.full_like(reward, 0.95))
    for scalars in ((0.99, 0.95), (np.float64(0.99), np.float64(0.95)), (jnp.float32(0.99), jnp.float32(0.95))):
        found = SCALARS[name](reward, scalars[0], value, next_value, scalars[1])
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_scalar_does_not_change_the_dtype():
    with precision("float64"):
        reward = jnp.ones(3, jnp.float32)
        assert returns.gae(reward, np.float64(0.99), reward, reward, jnp.float64(0.95)).dtype == jnp.float32


def test_refusals_name_what_is_wrong():
    two, three = jnp.zeros((4, 2)), jnp.zeros((4, 3))
    with pytest.raises(AssertionError, match="shape"):
        returns.reward_to_go(two, three)
    with pytest.raises(AssertionError, match="type"):
        returns.lambda_returns(jnp.zeros((4,), jnp.int32), *[jnp.zeros(4)] * 3)
    with pytest.raises(AssertionError, match="shape"):
        returns.q_lambda(two, 0.5, jnp.zeros((4, 2, 3)), jnp.zeros((4, 2), int), jnp.zeros(2))
    with pytest.raises(ValueError, match="n = 0"):
        returns.n_step_returns(two, two, two, two, 0)


def test_half_precision_and_integer_flags_keep_the_rewards_dtype():
    """Flags may be integers; the result has the dtype of the floats."""
    ones = jnp.ones((3,), jnp.bfloat16)
    out = jit(returns.lambda_returns)(ones, jnp.ones((3,), jnp.int32), ones, jnp.array([1, 0, 1]))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(out, np.float32), [3, 2, 2])


def test_arrays_of_different_shapes_are_named():
    with pytest.raises(AssertionError, match=r"reward is \[3\], value is \[4\], next_value is \[3\]"):
        returns.gae(jnp.ones(3), 0.99, jnp.ones(4), jnp.ones(3), 0.95)


@pytest.mark.parametrize("flags", [jnp.array([False, True, False]), np.ones(3, bool), True])
@pytest.mark.parametrize("name", ["discount", "trace_decay"])
def test_flags_in_the_place_of_a_factor_are_refused(name, flags):
    arguments = {"discount": 0.99, "trace_decay": 0.95} | {name: flags}
    with pytest.raises(AssertionError, match=rf"{name} must be numbers, such as .*terminated.*, not bool"):
        returns.gae(jnp.ones(3), value=jnp.zeros(3), next_value=jnp.zeros(3), **arguments)


def test_a_whole_number_is_a_factor():
    ones = jnp.ones(3)
    expected = returns.lambda_returns(ones, 1.0, ones, 1.0)
    assert returns.lambda_returns(ones, 1, ones, 1).tolist() == expected.tolist()


@pytest.mark.parametrize("wide", [np.float32, np.float64])
def test_the_bounds_of_vtrace_do_not_change_the_dtype(wide):
    with jax.enable_x64(wide == np.float64):
        narrow = jnp.ones(3, jnp.float32 if wide == np.float64 else jnp.bfloat16)
        found = returns.vtrace(narrow, 0.9, narrow, narrow, 0.9, narrow, jnp.asarray(1, wide), jnp.asarray(1, wide))
    assert {array.dtype for array in found} == {narrow.dtype}


def test_next_values_may_be_nan_behind_a_termination_in_the_gradient_of_q_lambda():
    reward, discount, next_q = jnp.ones(2), jnp.array([0.0, 0.9]), jnp.array([[jnp.nan, jnp.nan], [2.0, 1.0]])

    def total(next_q):
        return jnp.sum(returns.q_lambda(reward, discount, next_q, jnp.zeros(2, int), discount))

    np.testing.assert_allclose(jax.grad(total)(next_q), [[0, 0], [0.9, 0]], rtol=1e-6)

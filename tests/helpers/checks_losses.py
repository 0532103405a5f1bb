"""Oracle checks of `purerl.losses` (all but preferences): numbers by hand, SciPy in float64, what is stopped."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from checking import arr, close, grad, jit, stopped
from scipy import special, stats


def rng_arrays(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


# --- value ----------------------------------------------------------------------------------------------------------


def check_action_value(m):
    close(jit(m.action_value)(arr([[1, 2, 3], [4, 5, 6]]), np.array([2, 0])), [3.0, 4.0])


def check_td_error(m):
    close(jit(m.td_error)(arr([1, 2]), arr([4, 1])), [3.0, -1.0])
    close(grad(m.td_error)(arr(1), arr(4)), -1.0)
    stopped(m.td_error, [arr(1), arr(4)], 1)


REWARD, DISCOUNT = [1.0, 2.0, 3.0], [0.5, 0.9, 0.0]
NEXT_Q = [[1.0, 5.0, 2.0], [4.0, -1.0, 0.0], [np.nan, np.nan, np.nan]]


def check_td_target(m):
    close(jit(m.td_target)(arr(REWARD), arr(DISCOUNT), arr([2, 4, np.nan])), [2.0, 5.6, 3.0])
    for index in (0, 2):
        stopped(m.td_target, [arr(REWARD), arr(DISCOUNT), arr([2, 4, 5])], index)


def check_q_learning_target(m):
    close(jit(m.q_learning_target)(arr(REWARD), arr(DISCOUNT), arr(NEXT_Q)), [3.5, 5.6, 3.0])
    stopped(m.q_learning_target, [arr(REWARD), arr(DISCOUNT), arr(np.nan_to_num(NEXT_Q))], 2)


def check_double_q_target(m):
    online = arr([[1, 5, 2], [4, -1, 0], [0, 0, 0]])
    target = arr([[10, 20, 30], [40, 50, 60], [np.nan, np.nan, np.nan]])
    close(jit(m.double_q_target)(arr(REWARD), arr(DISCOUNT), online, target), [1 + 10, 2 + 36, 3.0])
    args = [arr(REWARD), arr(DISCOUNT), online, jnp.nan_to_num(target)]
    for index in (2, 3):
        stopped(m.double_q_target, args, index)


def check_sarsa_target(m):
    action = np.array([2, 1, 0])
    close(jit(m.sarsa_target)(arr(REWARD), arr(DISCOUNT), arr(NEXT_Q), action), [2.0, 1.1, 3.0])


def check_expected_sarsa_target(m):
    probs = arr([[0.5, 0.25, 0.25], [0, 1, 0], [1, 0, 0]])
    close(jit(m.expected_sarsa_target)(arr(REWARD), arr(DISCOUNT), arr(NEXT_Q), probs), [1 + 0.5 * 2.25, 1.1, 3.0])
    args = [arr(REWARD), arr(DISCOUNT), arr(np.nan_to_num(NEXT_Q)), probs]
    for index in (2, 3):
        stopped(m.expected_sarsa_target, args, index)


def check_soft_q_target(m):
    q = np.array(NEXT_Q)
    expected = np.array(REWARD) + np.nan_to_num(np.array(DISCOUNT) * 0.7 * special.logsumexp(q / 0.7, axis=-1))
    close(jit(m.soft_q_target)(arr(REWARD), arr(DISCOUNT), arr(q), 0.7), expected)
    close(jit(m.soft_q_target)(arr(REWARD), arr(DISCOUNT), arr(q), 0.0), [3.5, 5.6, 3.0])
    assert m.soft_q_target(arr(1), arr(1), arr([-np.inf, -np.inf]), 0.7) == -np.inf
    stopped(lambda q: m.soft_q_target(arr(REWARD), arr(DISCOUNT), q, 0.7), [arr(np.nan_to_num(q))], 0)


def check_entropy_regularized_target(m):
    args = [arr(REWARD), arr(DISCOUNT), arr([2, 4, np.nan]), arr([-1, 2, np.nan])]
    close(jit(m.entropy_regularized_target)(*args, 0.5), [1 + 0.5 * 2.5, 2 + 0.9 * 3, 3.0])
    args = [jnp.nan_to_num(a) for a in args]
    stopped(lambda *a: m.entropy_regularized_target(*a, 0.5), args, 3)


# --- distributional -------------------------------------------------------------------------------------------------


def projection_oracle(target_support, probs, support):
    """Algorithm 1 of Bellemare et al. (2017): floor and ceiling, with the mass kept where they coincide."""
    size, spacing = len(support), (support[-1] - support[0]) / (len(support) - 1)
    out = np.zeros(size)
    for y, p in zip(target_support, probs):
        b = (np.clip(y, support[0], support[-1]) - support[0]) / spacing
        b = round(b) if abs(b - round(b)) < 1e-12 else b
        low, high = int(np.floor(b)), int(np.ceil(b))
        if low == high:
            out[low] += p
        else:
            out[low] += p * (high - b)
            out[high] += p * (b - low)
    return out


def check_categorical_projection(m):
    support = np.linspace(-1, 2, 4)
    hand = jit(m.categorical_projection)(arr([0.25, 1.0, 9.0]), arr([0.4, 0.35, 0.25]), arr(support))
    close(hand, [0.0, 0.3, 0.1 + 0.35, 0.25])
    rng = np.random.default_rng(0)
    target, probs = rng.normal(size=(5, 6)) * 2, rng.dirichlet(np.ones(6), size=5)
    target[0, :4] = support
    expected = [projection_oracle(t, p, support) for t, p in zip(target, probs)]
    close(jit(m.categorical_projection)(arr(target), arr(probs), arr(support)), expected)


def check_quantile_huber(m):
    hand = jit(m.quantile_huber)(arr([0.0]), arr([0.25]), arr([0.5, -3.0]), 1.0)
    close(hand, (0.25 * 0.125 + 0.75 * 2.5) / 2)
    quantiles, targets = rng_arrays(1, (4, 5), (4, 3))
    taus = (np.arange(5) + 0.5) / 5
    for kappa in (0.0, 0.6):
        expected = np.zeros(4)
        for b, i, j in itertools.product(range(4), range(5), range(3)):
            u = targets[b, j] - quantiles[b, i]
            huber = abs(u) if kappa == 0 else (u * u / 2 if abs(u) <= kappa else kappa * (abs(u) - kappa / 2)) / kappa
            expected[b] += abs(taus[i] - (u < 0)) * huber / 3
        close(jit(m.quantile_huber)(arr(quantiles), arr(taus), arr(targets), kappa), expected)
    stopped(m.quantile_huber, [arr(quantiles), arr(taus), arr(targets)], 2)
    # The minimiser of the pinball loss is the quantile: its derivative is F(θ) − τ.
    samples = arr(np.linspace(0, 1, 101)[None])
    slope = grad(lambda q: jnp.sum(m.quantile_huber(q, arr([0.3]), samples, 0.0)))(arr([[0.505]]))
    close(slope, [[51 / 101 - 0.3]])


# --- policy gradient ------------------------------------------------------------------------------------------------


def check_reinforce(m):
    close(jit(m.reinforce)(arr([-1, -2]), arr([3, -4])), [3.0, -8.0])
    stopped(m.reinforce, [arr([-1, -2]), arr([3, -4])], 1)
    logits, reward = np.array([0.3, -0.2, 1.1]), np.array([1.0, 4.0, -2.0])
    probs = special.softmax(logits)

    def expected_loss(x):
        return jnp.sum(jax.lax.stop_gradient(jax.nn.softmax(x)) * m.reinforce(jax.nn.log_softmax(x), arr(reward)))

    close(grad(expected_loss)(arr(logits)), -probs * (reward - probs @ reward))


def check_clipped_surrogate(m):
    ratios, advantages = np.array([1.0, 1.5, 1.5, 0.5, 0.5]), np.array([2.0, 2.0, -2.0, 2.0, -2.0])
    args = [arr(np.log(ratios) - 3), arr(np.full(5, -3.0)), arr(advantages)]
    close(jit(m.clipped_surrogate)(*args, 0.2), [-2.0, -2.4, 3.0, -1.0, 1.6], 2)
    close(jit(m.clipped_surrogate)(*args, 0.2, 0.3), [-2.0, -2.6, 3.0, -1.0, 1.6], 2)
    slope = grad(lambda *a: jnp.sum(m.clipped_surrogate(*a, 0.2)))(*args)
    close(slope, [-2.0, 0.0, 3.0, -1.0, 0.0], 2)
    for index in (1, 2):
        stopped(lambda *a: m.clipped_surrogate(*a, 0.2), args, index)


def check_clipped_surrogate_with_a_largest_ratio(m):
    ratios, advantages = np.array([4.0, 4.0, 1.0]), np.array([2.0, -2.0, -2.0])
    args = [arr(np.log(ratios)), arr(np.zeros(3)), arr(advantages), 0.2, None, 3.0]
    close(jit(m.clipped_surrogate)(*args), [-2.4, 6.0, 2.0], 2)
    close(grad(lambda *a: jnp.sum(m.clipped_surrogate(*a)))(*args), [0.0, 0.0, 2.0], 2)


def check_surrogates_far_apart(m):
    """Ratios beyond the largest float: a finite loss, and a finite gradient that lowers the ratio."""
    log_prob, old = arr([-1.0, -1.0, -2000.0]), arr([-95.0, -1e4, -1.0])
    for loss in (
        lambda x: m.clipped_surrogate(x, old, arr([-1.0, -3.0, -1.0]), 0.2),
        lambda x: m.clipped_surrogate(x, old, arr([0.0, 0.0, 0.0]), 0.2),
        lambda x: m.kl_penalized_surrogate(x, old, arr([-1.0, -3.0, -1.0]), 0 * x, 0.1),
    ):
        assert np.isfinite(loss(log_prob)).all()
        slope = np.asarray(grad(lambda x, loss=loss: jnp.sum(loss(x)))(log_prob))
        assert np.isfinite(np.square(slope)).all()
        assert (slope >= 0).all()


def check_clipped_value(m):
    args = [arr([1, 1, 1, 0]), arr([0, 0, 0.9, 2]), arr([2, 0, 2, 0])]
    close(jit(m.clipped_value)(*args, 0.2), [0.5 * 1.8**2, 0.5, 0.5, 0.5 * 1.8**2])
    close(jit(m.clipped_value)(*args, np.inf), [0.5, 0.5, 0.5, 0.0])
    slope = grad(lambda *a: jnp.sum(m.clipped_value(*a, 0.2)))(*args)
    close(slope, [0.0, 1.0, -1.0, 0.0])
    for index in (1, 2):
        stopped(lambda *a: m.clipped_value(*a, 0.2), args, index)


def check_kl_penalized_surrogate(m):
    args = [arr(np.log([1.5, 0.5])), arr([0, 0]), arr([2, -1]), arr([0.3, 0.1])]
    close(jit(m.kl_penalized_surrogate)(*args, 2.0), [-3 + 0.6, 0.5 + 0.2])
    close(grad(lambda *a: jnp.sum(m.kl_penalized_surrogate(*a, 2.0)), 3)(*args), [2.0, 2.0])
    for index in (1, 2):
        stopped(lambda *a: m.kl_penalized_surrogate(*a, 2.0), args, index)


def check_adaptive_kl_coef(m):
    close(jit(m.adaptive_kl_coef)(arr([1, 1, 1, 1]), arr([0.5, 0.7, 1.4, 1.6]), 1.0), [0.5, 1.0, 1.0, 2.0])


def check_normalize(m):
    x = rng_arrays(2, (4, 5))[0] * 3 + 1
    close(jit(m.normalize)(arr(x)), (x - x.mean()) / (x.std() + 1e-8))
    mask = np.arange(20).reshape(4, 5) % 3 > 0
    expected = np.where(mask, (x - x[mask].mean()) / (x[mask].std() + 1e-8), 0)
    close(jit(m.normalize)(arr(np.where(mask, x, np.nan)), arr(mask)), expected)
    close(jit(m.normalize)(arr(x), arr(np.zeros_like(x))), np.zeros_like(x))
    for value in (0.1, 1.3, 123.4, -1e6 / 3):
        same = arr(np.where(np.arange(127) % 5 > 0, value, 99.0))
        np.testing.assert_array_equal(m.normalize(same, arr(np.arange(127) % 5)), 0)
        np.testing.assert_array_equal(m.normalize(arr(np.full(127, value))), 0)
    assert np.isfinite(grad(lambda x: jnp.sum(m.normalize(x) ** 2))(arr([2, 2, 2]))).all()


def check_vtrace_actor_critic(m):
    """One truncated step each: the advantage is ρ · (r + γ v' − v), and nothing but its own network is trained."""
    args = [arr(x) for x in ([[-1, -2]], [[-1.5, -1]], [[1, 2]], [[0.5, 0.5]], [[3, 1]], [[4, 2]], [[0, 0]])]
    policy_loss, value_loss = jit(m.vtrace_actor_critic)(*args)
    rho = np.minimum(1, np.exp([[0.5, -1.0]]))
    delta = rho * np.array([[0.0, 2.0]])
    close(policy_loss, -np.array([[-1, -2]]) * delta)
    close(value_loss, 0.5 * delta**2)
    gradients = jax.jit(jax.jacrev(lambda *a: [jnp.sum(x) for x in m.vtrace_actor_critic(*a)], range(7)))(*args)
    for loss, own, slope in ((0, 0, -delta), (1, 4, -delta)):
        for index, gradient in enumerate(gradients[loss]):
            close(gradient, slope if index == own else np.zeros((1, 2)))


# --- divergences ----------------------------------------------------------------------------------------------------


def check_kl_estimate(m):
    log_prob, ref = arr([-1, -2]), arr([-1.5, -1])
    ell = np.array([-0.5, 1.0])
    for kind, expected in (("k1", -ell), ("k2", 0.5 * ell**2), ("k3", np.exp(ell) - 1 - ell)):
        close(jit(m.kl_estimate, kind=kind)(log_prob, ref), expected)
    distance = 2.0**-30 if jax.config.jax_enable_x64 else 2.0**-10
    np.testing.assert_allclose(jit(m.kl_estimate)(arr([-1]), arr([distance - 1])), distance**2 / 2, rtol=1e-3)


def check_kl_estimate_far_apart(m):
    """k3 of an action that the policy hardly takes: finite, rising, with a gradient that makes it likelier."""
    log_prob, ref = arr([-95.0, -1e4, -30.0, -20.0]), arr([-1.0] * 4)
    estimate = np.asarray(m.kl_estimate(log_prob, ref))
    assert np.isfinite(estimate).all()
    assert (np.diff(estimate[[3, 2, 0, 1]]) > 0).all()
    close(estimate[3] / (np.exp(19) - 1 - 19), 1.0)
    slope = np.asarray(grad(lambda x: jnp.sum(m.kl_estimate(x, ref)))(log_prob))
    assert np.isfinite(np.square(slope)).all()
    assert (slope < -1e6).all()


def check_kl_estimate_gradients(m):
    """Exact expectation over all actions of the gradient of each estimate, as the docstring states it."""
    logits, ref = np.array([0.3, -0.5, 1.0]), special.log_softmax([0.0, 0.7, -0.4])
    probs, log_probs = special.softmax(logits), special.log_softmax(logits)
    forward = probs - np.exp(ref)
    reverse = probs * (log_probs - ref - probs @ (log_probs - ref))

    def expected(x, kind):
        estimate = m.kl_estimate(jax.nn.log_softmax(x), arr(ref), kind)
        return jnp.sum(jax.lax.stop_gradient(jax.nn.softmax(x)) * estimate)

    for kind, slope in (("k1", np.zeros(3)), ("k2", reverse), ("k3", forward)):
        close(grad(lambda x, kind=kind: expected(x, kind))(arr(logits)), slope)


def check_categorical_entropy(m):
    logits = rng_arrays(3, (4, 5))[0]
    close(jit(m.categorical_entropy)(arr(logits)), stats.entropy(special.softmax(logits, -1), axis=-1))
    forbidden = arr([0.0, -np.inf, 0.0])
    close(jit(m.categorical_entropy)(forbidden), np.log(2))
    assert np.isfinite(grad(m.categorical_entropy)(forbidden)).all()


def check_gaussian_entropy(m):
    log_std = rng_arrays(4, (4, 3))[0]
    close(jit(m.gaussian_entropy)(arr(log_std)), stats.norm.entropy(scale=np.exp(log_std)).sum(-1))


def check_categorical_kl(m):
    p, q = rng_arrays(5, (4, 5), (4, 5))
    close(jit(m.categorical_kl)(arr(p), arr(q)), stats.entropy(special.softmax(p, -1), special.softmax(q, -1), axis=-1))
    close(jit(m.categorical_kl)(arr([0, -np.inf, 0]), arr([0, 0, 0])), np.log(1.5))


def check_gaussian_kl(m):
    mean, log_std, other_mean, other_log_std = rng_arrays(6, *[(4, 3)] * 4)
    expected = np.sum(
        other_log_std
        - log_std
        + (np.exp(2 * log_std) + (mean - other_mean) ** 2) / (2 * np.exp(2 * other_log_std))
        - 0.5,
        axis=-1,
    )
    close(jit(m.gaussian_kl)(*[arr(x) for x in (mean, log_std, other_mean, other_log_std)]), expected, 10)


# --- groups ---------------------------------------------------------------------------------------------------------


def check_group_advantages(m):
    rewards = np.array([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]])
    spread = np.array([[np.sqrt(7.0)], [0.0]]) + 1e-4
    centred = rewards - np.array([[3.0], [5.0]])
    close(jit(m.group_advantages)(arr(rewards)), centred / spread)
    close(jit(m.group_advantages, scale=False)(arr(rewards)), centred)
    close(jit(m.group_advantages)(arr([[4.0]])), [[0.0]])
    stopped(m.group_advantages, [arr(rewards[:1])], 0)


def check_equal_rewards(m):
    """Exact zeros: the rounding of a mean of equal numbers is not divided by itself."""
    for reward, size in ((0.7, 15), (12.3, 15), (9876.54, 31), (-1e6 / 3, 31)):
        group = arr(np.full((2, size), reward))
        np.testing.assert_array_equal(m.group_advantages(group), 0)
        np.testing.assert_array_equal(m.group_advantages(group, mask=arr(np.arange(2 * size).reshape(2, size) % 3)), 0)
        np.testing.assert_array_equal(m.leave_one_out_advantages(group), 0)


def check_masked_rewards(m):
    """A masked reward may be NaN: the others have the advantages of the group without it."""
    rewards = np.array([[1.0, np.nan, 2.0, 6.0], [4.0, 5.0, np.nan, np.nan], [np.nan] * 4])
    mask = np.isfinite(rewards)
    for function in (m.group_advantages, m.leave_one_out_advantages):
        found = np.asarray(function(arr(rewards), mask=arr(mask)))
        close(found[0][[0, 2, 3]], np.asarray(function(arr([1.0, 2.0, 6.0]))))
        close(found[1][:2], np.asarray(function(arr([4.0, 5.0]))))
        np.testing.assert_array_equal(found[~mask], 0)
    alone = m.leave_one_out_advantages(arr([3.0, np.nan]), mask=arr([1, 0]))
    np.testing.assert_array_equal(alone, 0)


def check_grpo(m):
    args = [arr(x) for x in (np.log([[1.0, 1.5]]), [[0.0, 0.0]], np.log([[1.0, 3.0]]), [2.0])]
    close(jit(m.grpo)(*args, 0.2, 0.5), [[-2.0, -2.4 + 0.5 * (2 - np.log(2) - 1)]], 2)
    close(jit(m.grpo)(*args, 0.2, 0.0, 0.3), [[-2.0, -2.6]], 2)
    for index in (1, 2, 3):
        stopped(lambda *a: m.grpo(*a, 0.2, 0.5), args, index)


def check_grpo_by_token(m):
    """Advantages of tokens, and a bound on the ratio where the advantage is negative."""
    log_prob, old, advantage = arr(np.log([[1.0, 1.5, 4.0]])), arr([[0.0] * 3]), arr([[3.0, -1.0, -2.0]])
    close(jit(m.grpo)(log_prob, old, old, advantage, 0.2, 0.0), [[-3.0, 1.5, 8.0]], 2)
    capped = m.grpo(log_prob, old, old, advantage, 0.2, 0.0, max_ratio=3.0)
    close(capped, [[-3.0, 1.5, 6.0]], 2)


def check_grpo_masked(m):
    """Whatever stands at a masked token reaches neither the losses nor the gradient."""
    args = [arr(x) for x in ([[-1.0, np.nan]], [[-1.2, np.nan]], [[-0.7, np.nan]], [[2.0, np.nan]])]
    mask = arr([[1, 0]])
    alone = m.grpo(*[x[:, :1] for x in args], 0.2, 0.5)
    close(m.grpo(*args, 0.2, 0.5, mask=mask), [[float(alone[0, 0]), 0.0]])
    slope = grad(lambda *a: jnp.sum(m.grpo(*a, 0.2, 0.5, mask=mask)))(*args)
    assert np.isfinite(slope).all()
    assert slope[0, 1] == 0


def check_gspo(m):
    """One ratio per sequence, the geometric mean of its tokens' ratios; NaN at a masked token reaches nothing."""
    log_ratio, advantage = np.array([[0.3, 0.1, np.nan], [-0.2, np.nan, np.nan], [np.nan] * 3]), [2.0, -1.0, 5.0]
    mask, old = np.isfinite(log_ratio), np.full((3, 3), -2.0)
    ratio = np.exp([0.2, -0.2, 0.0])
    expected = -np.minimum(ratio * advantage, np.clip(ratio, 0.9, 1.15) * advantage)
    args = [arr(old + log_ratio), arr(old), arr(advantage), arr(mask), 0.1, 0.15]
    close(jit(m.gspo)(*args), expected)
    slope = np.asarray(grad(lambda *a: jnp.sum(m.gspo(*a)))(*args))
    close(slope, [[0, 0, 0], [0, 0, 0], [0, 0, 0]])  # the first and the second one are clipped, the third is empty
    slope = np.asarray(grad(lambda *a: jnp.sum(m.gspo(*a, 0.5, 0.5)))(*args[:4]))
    close(slope, [[-2 * ratio[0] / 2] * 2 + [0], [ratio[1], 0, 0], [0, 0, 0]])
    for index in (1, 2):
        stopped(lambda *a: m.gspo(*a, arr([[1, 1]]), 0.2), [arr([[-1, -2]]), arr([[-1.1, -2]]), arr([2])], index)


def check_cispo(m):
    log_prob, old = np.array([[-1.0, -1.0, -3.0, np.nan]]), np.array([[-1.5, -4.0, -1.0, np.nan]])
    weight = np.minimum(np.exp(log_prob - old), 3.0)
    mask, advantage = arr([[1, 1, 1, 0]]), arr([2.0])
    expected = np.nan_to_num(-weight * 2 * log_prob)
    close(jit(m.cispo)(arr(log_prob), arr(old), advantage, 2.0, None, mask), expected)
    slope = grad(lambda *a: jnp.sum(m.cispo(*a, 2.0, None, mask)))(arr(log_prob), arr(old), advantage)
    close(slope, np.nan_to_num(-weight * 2))
    low = m.cispo(arr(log_prob[:, :3]), arr(old[:, :3]), arr([[2.0, -1.0, 1.0]]), 2.0, 0.4)
    close(low, [[-weight[0, 0] * 2 * -1, 3.0 * -1, -0.6 * -3]])
    for index in (1, 2):
        stopped(lambda *a: m.cispo(*a, 2.0), [arr([[-1, -2]]), arr([[-1.1, -2]]), arr([2])], index)


def check_aggregate_tokens(m):
    loss, mask = arr([[1, 2, np.nan], [6, np.nan, np.nan], [np.nan] * 3]), arr([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    for kind, expected in (("grpo", (1.5 + 6) / 3), ("dapo", 9 / 3), ("dr_grpo", 9 / 9)):
        close(jit(m.aggregate_tokens, kind=kind)(loss, mask), expected)
        assert np.isfinite(grad(lambda x, kind=kind: m.aggregate_tokens(x, mask, kind))(loss)).all()
        close(jit(m.aggregate_tokens, kind=kind)(loss, arr(np.zeros((3, 3)))), 0.0)
    close(jit(m.aggregate_tokens, kind="dr_grpo", max_length=10)(loss, mask), 9 / 30)

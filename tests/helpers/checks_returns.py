"""Oracle checks of `purerl.returns`: numbers done by hand, double loops in float64, and the cuts."""

import itertools

import numpy as np
from checking import arr, close, jit, product_sums, times, trajectory


def check_reward_to_go(m):
    close(jit(m.reward_to_go)(arr([1, 2, 3, 4]), arr([0.5, 0.0, 0.5, 0.5])), [2.0, 2.0, 5.0, 4.0])
    data = trajectory(1)
    reward, discount = data.arrays("reward", "discount")
    close(jit(m.reward_to_go)(reward, discount), product_sums(data.discount, data.reward))


def check_whole_returns(m):
    close(jit(m.whole_returns)(arr([1, 2, 3, 4]), arr([0.5, 0.0, 0.5, 0.5])), [2.0, 2.0, 5.0, 5.0])


def n_step_oracle(data, n):
    """Walks at most n steps from each start, and stops at a cut or at the end of the batch."""
    out = np.zeros_like(data.reward)
    for index in np.ndindex(out.shape):
        factor, (start, column) = 1.0, (index[0], index[1:])
        for i in range(start, min(start + n, len(out))):
            at = (i, *column)
            out[index] += factor * data.reward[at]
            if i == min(start + n, len(out)) - 1 or data.trace_decay[at] == 0:
                out[index] += times(factor * data.discount[at], data.next_value[at])
                break
            factor *= data.discount[at]
    return out


def check_n_step_returns(m):
    hand = [arr(x) for x in ([1, 2, 3], [0.5, 0.5, 0.5], [10, 20, 30])]
    close(jit(m.n_step_returns, n=2)(*hand, arr([1, 1, 1])), [1 + 1 + 5, 2 + 1.5 + 7.5, 3 + 15])
    close(jit(m.n_step_returns, n=3)(*hand, arr([1, 0, 1])), [1 + 0.5 * (2 + 10), 2 + 10, 3 + 15])
    data = trajectory(2, lam=1.0, endings=0.12)
    inputs = data.arrays("reward", "discount", "next_value", "trace_decay")
    for n in (1, 3, 4, 20):
        close(jit(m.n_step_returns, n=n)(*inputs), n_step_oracle(data, n), 5)


def lambda_oracle(data):
    """Every reward and every bootstrap with the product of what lies before it; the last step bootstraps whole."""
    decay = data.trace_decay.copy()
    decay[-1] = 0
    term = data.reward + times(data.discount * (1 - decay), data.next_value)
    return product_sums(data.discount * decay, term)


def check_lambda_returns(m):
    hand = [arr(x) for x in ([1, 2, 3], [0.5, 0.5, 0.0], [10, 20, np.nan], [0.5, 0.5, 0.0])]
    close(jit(m.lambda_returns)(*hand), [1 + 0.5 * (5 + 0.5 * 7.75), 2 + 0.5 * (10 + 1.5), 3.0])
    cut = [arr(x) for x in ([1, 2, 3], [0.5, 0.5, 0.5], [10, 20, 30], [1.0, 0.0, 1.0])]
    close(jit(m.lambda_returns)(*cut), [1 + 0.5 * (2 + 10), 2 + 10, 3 + 15])
    data = trajectory(3)
    inputs = data.arrays("reward", "discount", "next_value", "trace_decay")
    close(jit(m.lambda_returns)(*inputs), lambda_oracle(data))


def check_gae(m):
    hand = [arr(x) for x in ([1, 2], [0.5, 0.5], [4, 6], [6, 8], [0.5, 0.5])]
    close(jit(m.gae)(*hand), [0 + 0.25 * 0, 0.0])
    hand[0] = arr([3, 5])
    close(jit(m.gae)(*hand), [2 + 0.25 * 3, 3.0])
    data = trajectory(4)
    delta = data.reward + times(data.discount, data.next_value) - data.value
    inputs = data.arrays("reward", "discount", "value", "next_value", "trace_decay")
    close(jit(m.gae)(*inputs), product_sums(data.discount * data.trace_decay, delta))


def check_vtrace(m):
    hand = [arr(x) for x in ([1, 1], [0.5, 0.5], [2, 4], [4, 6], [0.5, 0.5], np.log([0.5, 4.0]))]
    target, advantage = jit(m.vtrace)(*hand, 2.0, 1.0)
    close(target, [2 + 0.5 * 1 + 0.5 * 0.5 * 0.5 * 0, 4 + 2 * 0])
    data = trajectory(5)
    rho, c = (np.minimum(bar, np.exp(data.log_rho)) for bar in (1.3, 0.9))
    delta = rho * (data.reward + times(data.discount, data.next_value) - data.value)
    trace = data.discount * data.trace_decay * c
    expected = data.value + product_sums(trace, delta)
    last = np.where(np.isnan(data.next_value[-1:]), 0, data.next_value[-1:])
    follows = np.concatenate([expected[1:], last])
    boot = data.trace_decay * follows + (1 - data.trace_decay) * np.nan_to_num(data.next_value)
    inputs = data.arrays("reward", "discount", "value", "next_value", "trace_decay", "log_rho")
    target, advantage = jit(m.vtrace)(*inputs, 1.3, 0.9)
    close(target, expected)
    close(advantage, rho * (data.reward + times(data.discount, boot) - data.value))


def check_vtrace_advantage_over_a_cut(m):
    """After a truncation the advantage bootstraps from the true successor, whatever the next episode is like."""
    data = [arr(x) for x in ([1, 1], [0.5, 0.5], [2, 1e6], [4, 6], [0.0, 0.5], [0, 0])]
    target, advantage = jit(m.vtrace)(*data)
    close(target[0], 3.0)
    close(advantage[0], 1.0)


def retrace_oracle(data, expected_q, q_taken, c):
    """Munos et al. (2016), eq. 3: the sum of corrected errors; q of the first action cancels."""
    c = c.copy()
    c[-1] = 0
    q = np.concatenate([np.zeros_like(q_taken[:1]), np.nan_to_num(q_taken[:-1])])
    target = data.reward + times(data.discount, expected_q)
    weight = data.discount * c
    out = target.copy()
    for t, i in itertools.combinations(range(len(out)), 2):
        out[t] += np.prod(weight[t:i], axis=0) * (target[i] - q[i])
    return out


def off_policy_data(seed):
    rng = np.random.default_rng(seed)
    data = trajectory(seed)
    q = rng.normal(size=(*data.reward.shape, 4))
    q[np.isnan(data.next_value)] = np.nan
    probs = rng.dirichlet(np.ones(4), size=data.reward.shape)
    return data, q, probs, rng.integers(0, 4, data.reward.shape)


def pick(x, action):
    return np.take_along_axis(x, action[..., None], -1)[..., 0]


def check_retrace(m):
    hand = [arr(x) for x in ([1, 2], [0.5, 0.5], [4, 6], [3, 5], [0.5, 1.0])]
    close(jit(m.retrace)(*hand), [1 + 0.5 * (4 + 0.5 * (5 - 3)), 5.0])
    data, q, probs, action = off_policy_data(6)
    expected_q, taken = np.sum(probs * q, -1), pick(q, action)
    c = data.trace_decay * np.minimum(1, np.exp(data.log_rho))
    inputs = [arr(x) for x in (data.reward, data.discount, expected_q, taken, c)]
    close(jit(m.retrace)(*inputs), retrace_oracle(data, expected_q, taken, c), 3)


def check_tree_backup(m):
    """Against the tree itself: bootstrap every action not taken, weigh the branch taken by its probability."""
    data, q, probs, action = off_policy_data(7)
    out = np.zeros_like(data.reward)
    for t in reversed(range(len(out))):
        leaves = np.sum(probs * q, axis=-1)
        branch = leaves
        if t + 1 < len(out):
            taken = np.arange(4) == action[t][..., None]
            lam = data.trace_decay[t]
            mixed = lam * out[t + 1] + (1 - lam) * np.nan_to_num(pick(q, action)[t])
            tree = np.where(taken, 0, probs[t] * q[t]).sum(-1) + pick(probs, action)[t] * mixed
            branch = {t: np.where(lam == 0, leaves[t], tree)}
        out[t] = data.reward[t] + times(data.discount[t], branch[t])
    columns = (data.reward, data.discount, np.sum(probs * q, -1), pick(q, action), pick(probs, action))
    close(jit(m.tree_backup)(*[arr(x) for x in (*columns, data.trace_decay)]), out, 3)


def check_q_lambda(m):
    data, q, _, action = off_policy_data(8)
    action[::2] = np.nan_to_num(q[::2]).argmax(-1)
    best = q.max(-1)
    greedy = pick(q, action) == best
    c = np.where(greedy, data.trace_decay, 0.0)
    assert (c > 0).any()
    assert ((c == 0) & (data.trace_decay > 0)).any()
    inputs = [arr(data.reward), arr(data.discount), arr(q), action.astype(np.int32), arr(data.trace_decay)]
    close(jit(m.q_lambda)(*inputs), retrace_oracle(data, best, best, c), 3)


def episode_weights(data):
    """Product of the ratios from each step to the end of its episode, by a double loop."""
    out = np.ones_like(data.reward)
    for index in np.ndindex(out.shape):
        for i in range(index[0], len(out)):
            out[index] *= np.exp(data.log_rho[(i, *index[1:])])
            if data.discount[(i, *index[1:])] == 0:
                break
    return out


def check_ordinary_importance_sampling(m):
    hand = [arr(x) for x in ([1, 2, 4], [0.5, 0.0, 0.5], np.log([2.0, 3.0, 5.0]))]
    close(jit(m.ordinary_importance_sampling)(*hand), [6 * 2, 3 * 2, 5 * 4], 10)
    data = trajectory(9)
    expected = episode_weights(data) * product_sums(data.discount, data.reward)
    close(jit(m.ordinary_importance_sampling)(*data.arrays("reward", "discount", "log_rho")), expected, 30)


def check_weighted_importance_sampling(m):
    hand = [arr(x) for x in ([[1.0, 3.0]], [[0.0, 0.0]], np.log([[1.0, 3.0]]))]
    close(np.asarray(jit(m.weighted_importance_sampling)(*hand)).mean(), (1 * 1 + 3 * 3) / 4)
    data = trajectory(10, length=5, batch=(6,))
    weights, returns = episode_weights(data), product_sums(data.discount, data.reward)
    expected = (weights * returns).sum(1) / weights.sum(1)
    estimate = jit(m.weighted_importance_sampling)(*data.arrays("reward", "discount", "log_rho"))
    close(np.asarray(estimate).mean(axis=1), expected)
    never = jit(m.weighted_importance_sampling)(arr([[1.0, 3.0]]), arr([[0.0, 0.0]]), arr([[-np.inf, -np.inf]]))
    close(never, [[0.0, 0.0]])


def check_per_decision_importance_sampling(m):
    hand = [arr(x) for x in ([1, 2, 4], [0.5, 0.0, 0.5], np.log([2.0, 3.0, 5.0]))]
    close(jit(m.per_decision_importance_sampling)(*hand), [2 * (1 + 0.5 * 6), 6.0, 20.0], 10)
    data = trajectory(11)
    rho = np.exp(data.log_rho)
    inputs = data.arrays("reward", "discount", "log_rho")
    close(jit(m.per_decision_importance_sampling)(*inputs), product_sums(rho * data.discount, rho * data.reward), 10)


def check_importance_sampling_is_unbiased(m):
    """Two-step bandit tree, all four trajectories enumerated: each estimator's exact expectation is the value of π."""
    behaviour, target, payoff = np.array([0.3, 0.7]), np.array([0.6, 0.4]), np.array([[1.0, 2.0], [-1.0, 3.0]])
    paths = list(itertools.product((0, 1), repeat=2))
    log_rho = np.log(target / behaviour)[np.array(paths).T]
    reward = np.array([[0.5 * a for a, _ in paths], [payoff[a, b] for a, b in paths]])
    discount = np.array([[0.9] * 4, [0.0] * 4])
    chance = np.array([behaviour[a] * behaviour[b] for a, b in paths])
    value = sum(target[a] * (0.5 * a + 0.9 * sum(target[b] * payoff[a, b] for b in (0, 1))) for a in (0, 1))
    for name in ("ordinary_importance_sampling", "per_decision_importance_sampling"):
        estimates = jit(getattr(m, name))(arr(reward), arr(discount), arr(log_rho))
        close(np.sum(chance * np.asarray(estimates)[0]), value)

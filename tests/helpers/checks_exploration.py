"""Oracle checks of `purerl.exploration`: frequencies against probabilities worked out by hand, exact ends."""

import jax
import jax.numpy as jnp
import numpy as np
from checking import arr, close, grad, jit
from scipy import special, stats


def draws(function, num_actions, count=5_000):
    """How often each action is chosen, over many keys."""
    keys = jax.random.split(jax.random.key(7), count)
    actions = jax.jit(jax.vmap(function))(keys)
    assert actions.dtype == jnp.int32
    return np.bincount(np.asarray(actions), minlength=num_actions)


def plausible(observed, probs):
    """Chi-square over the possible actions, at one in a million; nothing impossible is ever drawn."""
    probs = np.asarray(probs, float)
    assert (observed[probs == 0] == 0).all()
    if (probs > 0).sum() > 1:
        possible = probs > 0
        assert stats.chisquare(observed[possible], probs[possible] * observed.sum()).pvalue > 1e-6, observed


TIED = [1.0, 3.0, 3.0, 0.0, 9.0]
MASK = [True, True, True, True, False]


def check_greedy(m):
    plausible(draws(lambda key: m.greedy(key, arr(TIED), np.array(MASK)), 5), [0, 0.5, 0.5, 0, 0])
    assert m.greedy(None, arr(TIED), np.array(MASK)) == 1


def check_epsilon_greedy(m):
    plausible(draws(lambda key: m.epsilon_greedy(key, arr(TIED), 0.2, np.array(MASK)), 5), [0.05, 0.45, 0.45, 0.05, 0])
    plausible(draws(lambda key: m.epsilon_greedy(key, arr(TIED[:4]), 0.0), 4), [0, 0.5, 0.5, 0])
    plausible(draws(lambda key: m.epsilon_greedy(key, arr(TIED[:4]), 1.0), 4), [0.25] * 4)


def check_epsilon_greedy_probs(m):
    close(jit(m.epsilon_greedy_probs)(arr(TIED), 0.2, np.array(MASK)), [0.05, 0.45, 0.45, 0.05, 0])
    close(jit(m.epsilon_greedy_probs)(arr([[1, 2], [2, 1]]), arr([0.0, 1.0])), [[0, 1], [0.5, 0.5]])


def check_boltzmann_probs(m):
    probs = jit(m.boltzmann_probs)
    close(probs(arr(TIED[:4]), 0.7), special.softmax(np.array(TIED[:4]) / 0.7))
    close(probs(arr(TIED), 0.7, np.array(MASK)), [*special.softmax(np.array(TIED[:4]) / 0.7), 0])
    close(probs(arr(TIED[:4]), 0.0), [0, 0.5, 0.5, 0])
    close(probs(arr([1, 3, 2]), 1e-30), [0, 1, 0])
    close(probs(arr(TIED[:4]), np.inf), [0.25] * 4)
    close(probs(arr([1e30, 0]), 1.0), [1, 0])
    slope = grad(lambda q: m.boltzmann_probs(q, 0.0)[1])(arr([1, 3, 2]))
    close(slope, np.zeros(3))


def check_boltzmann(m):
    q = arr(TIED)
    plausible(draws(lambda k: m.boltzmann(k, q, 2.0, np.array(MASK)), 5), [*special.softmax(np.array(TIED[:4]) / 2), 0])
    plausible(draws(lambda key: m.boltzmann(key, q[:4], 0.0), 4), [0, 0.5, 0.5, 0])


def check_ucb1(m):
    value, count = arr([0.2, 0.5, 0.4]), arr([4, 2, 10])
    expected = [0.2 + np.sqrt(2 * np.log(16) / 4), 0.5 + np.sqrt(np.log(16)), 0.4 + np.sqrt(np.log(16) / 5)]
    close(jit(m.ucb1_scores)(value, count), expected)
    assert m.ucb1(None, value, count) == 1
    assert m.ucb1(None, value, count, 0.0) == 1
    plausible(draws(lambda key: m.ucb1(key, arr([9, np.nan, np.nan]), arr([3, 0, 0])), 3), [0, 0.5, 0.5])
    assert np.isinf(m.ucb1_scores(value, arr([0, 0, 0]))).all()


def check_gradient_bandit_update(m):
    preference = arr([0.5, -0.5, 1.0])
    probs = special.softmax([0.5, -0.5, 1.0])
    updated = jit(m.gradient_bandit_update)(preference, np.int32(2), arr(3.0), 1.0, 0.1)
    close(updated, [0.5 - 0.2 * probs[0], -0.5 - 0.2 * probs[1], 1 + 0.2 * (1 - probs[2])])


def check_thompson_bernoulli(m):
    """P(Beta(1, 1) > Beta(3, 1)) = ∫ 3x² (1 − x) dx = 1/4."""
    plausible(draws(lambda key: m.thompson_bernoulli(key, arr([0, 2]), arr([0, 0])), 2, 1_000), [0.25, 0.75])


def check_gaussian_posterior(m):
    mean, variance = jit(m.gaussian_posterior)(arr([6, 0]), arr([3, 0]), 2.0, 1.0, 4.0)
    close(variance, [1 / (1 / 4 + 3 / 2), 4.0])
    close(mean, [(1 / 4 + 6 / 2) / (1 / 4 + 3 / 2), 1.0])
    mean, variance = jit(m.gaussian_posterior)(arr([6, 0]), arr([3, 0]), 2.0, 1.0, np.inf)
    close(mean, [2.0, 1.0])
    close(variance, [2 / 3, np.inf])


def check_thompson_gaussian(m):
    """The difference of two Gaussians is Gaussian: P(arm 1 best) = Φ((m₁ − m₀) / √(v₀ + v₁))."""
    chance = stats.norm.cdf((1.5 - 0) / np.sqrt(1 + 0.25))
    observed = draws(lambda key: m.thompson_gaussian(key, arr([0, 6]), arr([0, 3])), 2)
    plausible(observed, [1 - chance, chance])


def check_linear_schedule(m):
    steps = np.array([0, 1, 2, 3, 9])
    values = np.asarray(jit(m.linear_schedule)(steps, 0.7, 0.1, 3))
    close(values, [0.7, 0.5, 0.3, 0.1, 0.1])
    assert (values[[0, 3, 4]] == np.asarray([0.7, 0.1, 0.1], values.dtype)).all()
    assert m.linear_schedule(0, 0.7, 0.1, 0) == arr(0.1)
    assert m.linear_schedule(5, 0.7, 0.1, np.inf) == arr(0.7)


def check_exponential_schedule(m):
    values = np.asarray(jit(m.exponential_schedule)(np.array([0, 1, 2, 5]), 0.7, 0.1, 2))
    close(values, [0.7, np.sqrt(0.07), 0.1, 0.1])
    assert (values[[0, 2, 3]] == np.asarray([0.7, 0.1, 0.1], values.dtype)).all()


def check_piecewise_schedules(m):
    steps = np.array([0, 2, 3, 7, 8])
    close(jit(m.piecewise_constant_schedule)(steps, arr([2, 8]), arr([1, 2, 3])), [1, 2, 2, 2, 3])
    knots, levels = arr([1, 3, 7]), arr([0.3, 0.1, 0.7])
    values = np.asarray(jit(m.piecewise_linear_schedule)(np.array([0, 1, 2, 3, 5, 7, 9]), knots, levels))
    close(values, [0.3, 0.3, 0.2, 0.1, 0.4, 0.7, 0.7])
    assert (values[[1, 3, 5, 6]] == np.asarray([0.3, 0.1, 0.7, 0.7], values.dtype)).all()

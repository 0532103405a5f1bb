"""Oracle checks of `purerl.distributions` against SciPy, numerical integration, and arbitrary precision by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from checking import arr, close, grad, jit
from scipy import integrate, special, stats

LOGITS = np.array([[0.3, -1.0, 2.0], [0.0, 0.5, -0.5]])
MASK = np.array([[True, False, True], [True, True, True]])


def masked_probs():
    probs = np.where(MASK, np.exp(LOGITS), 0)
    return probs / probs.sum(-1, keepdims=True)


def check_categorical(m):
    """Scores, entropy, mode and divergence, without and with invalid actions."""
    for mask, probs in ((None, special.softmax(LOGITS, -1)), (MASK, masked_probs())):
        scores = jit(lambda x, mask=mask: [f(m.categorical(x, mask)) for f in (entropy, mode, self_kl, score)])
        h, best, kl, log_prob = scores(arr(LOGITS))
        close(h, stats.entropy(probs, axis=-1))
        np.testing.assert_array_equal(best, probs.argmax(-1))
        close(kl, [0.0, 0.0])
        close(log_prob, np.log(probs[[0, 1], [2, 1]]))
    kl = jit(lambda x, y: m.categorical(x).kl_divergence(m.categorical(y)))(arr(LOGITS[0]), arr(LOGITS[1]))
    close(kl, stats.entropy(special.softmax(LOGITS[0]), special.softmax(LOGITS[1])))


def entropy(d):
    return d.entropy()


def mode(d):
    return d.mode()


def self_kl(d):
    return d.kl_divergence(d)


def score(d):
    return d.log_prob(np.array([2, 1]))


def check_categorical_gradients_stay_finite(m):
    """Under a mask and under −∞ logits the gradients are those of the smaller problem, and 0 for what is forbidden."""
    valid = grad(lambda x: m.categorical(x).entropy())(arr([0.3, 2.0]))
    for logits, mask in (([0.3, 7.0, 2.0], [True, False, True]), ([0.3, -np.inf, 2.0], None)):
        mask = None if mask is None else np.array(mask)
        slope = grad(lambda x, mask=mask: m.categorical(x, mask).entropy())(arr(logits))
        close(slope, [valid[0], 0.0, valid[1]])
        slope = grad(lambda x, mask=mask: m.categorical(x, mask).log_prob(0))(arr(logits))
        close(slope, [special.expit(1.7), 0.0, -special.expit(1.7)])
        slope = grad(lambda x, mask=mask: m.categorical(x, mask).log_prob(1))(arr(logits))
        assert np.isfinite(slope).all()


def check_actions_off_range(m):
    """A value outside the support is as improbable as the dtype can say, and leaves gradients finite."""
    lowest = jnp.finfo(arr(0.0).dtype).min
    for build, params, off in (
        (m.categorical, LOGITS[0], [-1, 3, 7]),
        (lambda x: m.multi_discrete(x, (1, 2)), LOGITS[0], [[0, 2], [1, 0], [-1, 5]]),
        (lambda x: m.tanh_gaussian(x, arr([0.1, 0.2, 0.3]), -2.0, 4.0), LOGITS[0], [[0, 0, 4.1], [-9, 0, 9]]),
    ):
        value, slope = jit(jax.vmap(jax.value_and_grad(lambda x, a, build=build: build(x).log_prob(a)), (None, 0)))(
            arr(params), np.array(off)
        )
        assert (np.asarray(value) == lowest).all()
        assert np.isfinite(slope).all()


def check_categorical_samples(m):
    keys = jax.random.split(jax.random.key(3), 20_000)
    sample = jax.jit(jax.vmap(lambda key: m.categorical(arr(LOGITS[0]), MASK[0]).sample_and_log_prob(seed=key)))
    actions, log_prob = sample(keys)
    assert actions.dtype == jnp.int32
    observed, probs = np.bincount(actions, minlength=3), masked_probs()[0]
    assert observed[1] == 0
    assert stats.chisquare(observed[[0, 2]], 20_000 * probs[[0, 2]]).pvalue > 1e-6
    close(log_prob, np.log(probs[np.asarray(actions)]))


def check_multi_discrete(m):
    logits, num_values = LOGITS.reshape(-1)[:5], (2, 3)
    parts = [special.log_softmax(logits[:2]), special.log_softmax(logits[2:])]
    distribution = m.multi_discrete(arr(logits), num_values)
    close(jit(distribution.log_prob)(np.array([1, 2])), parts[0][1] + parts[1][2])
    close(jit(distribution.entropy)(), sum(stats.entropy(np.exp(part)) for part in parts))
    np.testing.assert_array_equal(jit(distribution.mode)(), [part.argmax() for part in parts])
    other = m.multi_discrete(arr(logits[::-1].copy()), num_values)
    reverse = [special.softmax(logits[::-1][:2]), special.softmax(logits[::-1][2:])]
    expected = sum(stats.entropy(np.exp(p), q) for p, q in zip(parts, reverse))
    close(jit(distribution.kl_divergence)(other), expected)
    samples = jax.jit(jax.vmap(lambda key: distribution.sample(seed=key)))(jax.random.split(jax.random.key(0), 20_000))
    joint = np.histogram2d(*np.asarray(samples).T, bins=[[0, 1, 2], [0, 1, 2, 3]])[0]
    chance = np.outer(np.exp(parts[0]), np.exp(parts[1]))
    assert stats.chisquare(joint.ravel(), 20_000 * chance.ravel()).pvalue > 1e-6
    only = m.multi_discrete(arr(logits), num_values, np.array([True, False, False, True, False]))
    close(jit(only.entropy)(), 0.0)


MEAN, LOG_STD = np.array([[0.5, -1.0], [2.0, 0.0]]), np.array([[0.1, -0.7], [-2.0, 1.0]])


def check_diagonal_gaussian(m):
    x = MEAN + np.array([[0.3, 0.1], [-0.2, 2.0]])
    distribution = m.diagonal_gaussian(arr(MEAN), arr(LOG_STD))
    close(jit(distribution.log_prob)(arr(x)), stats.norm.logpdf(x, MEAN, np.exp(LOG_STD)).sum(-1), 10)
    close(jit(distribution.entropy)(), stats.norm.entropy(MEAN, np.exp(LOG_STD)).sum(-1))
    close(distribution.mode(), MEAN)
    key = jax.random.key(1)
    sample, log_prob = jit(lambda: distribution.sample_and_log_prob(seed=key))()
    close(log_prob, stats.norm.logpdf(np.asarray(sample), MEAN, np.exp(LOG_STD)).sum(-1), 20)
    many = jit(lambda: m.diagonal_gaussian(arr(np.full((20_000, 1), 2.0)), arr([-1.0])).sample(seed=key))()
    assert stats.kstest(np.asarray(many)[:, 0], "norm", args=(2.0, np.exp(-1))).pvalue > 1e-6
    other = m.diagonal_gaussian(arr(MEAN[::-1].copy()), arr(LOG_STD[::-1].copy()))
    std, mean2, std2 = np.exp(LOG_STD), MEAN[::-1], np.exp(LOG_STD[::-1])
    expected = np.log(std2 / std) + (std**2 + (MEAN - mean2) ** 2) / (2 * std2**2) - 0.5
    close(jit(distribution.kl_divergence)(other), expected.sum(-1), 100)


def check_event_axes(m):
    """A scalar and a matrix event score one number."""
    scalar = m.diagonal_gaussian(arr(0.5), arr(0.1), event_ndims=0)
    close(jit(scalar.log_prob)(arr(1.0)), stats.norm.logpdf(1.0, 0.5, np.exp(0.1)))
    matrix = m.tanh_gaussian(arr(MEAN), arr(LOG_STD), event_ndims=2)
    rows = m.tanh_gaussian(arr(MEAN), arr(LOG_STD))
    whole, by_row = jit(lambda x: [jnp.stack([d.log_prob_of_raw(x), d.entropy()]) for d in (matrix, rows)])(arr(MEAN))
    close(whole, np.asarray(by_row).sum(-1), 10)


def check_tanh_gaussian_density(m):
    """The density integrates to 1, and its logarithm is SciPy's Gaussian with the slope done in float64."""
    low, high, mean, std = -2.0, 4.0, 0.4, 0.8
    distribution = m.tanh_gaussian(arr([mean]), arr([np.log(std)]), low, high)
    x = np.linspace(low, high, 2001)[1:-1, None]
    log_prob = np.asarray(jit(jax.vmap(distribution.log_prob))(arr(x)), np.float64)
    u = np.arctanh((2 * x[:, 0] - low - high) / (high - low))
    expected = stats.norm.logpdf(u, mean, std) - np.log((high - low) / 2 * (1 - np.tanh(u) ** 2))
    middle = slice(200, -200)
    close(log_prob[middle], expected[middle], 3)
    np.testing.assert_allclose(integrate.trapezoid(np.exp(log_prob), x[:, 0]), 1, rtol=1e-4)
    close(jit(distribution.mode)(), [low + (high - low) * (np.tanh(mean) + 1) / 2], 3)


def check_tanh_gaussian_saturation(m):
    """At |u| = 20, log(1 − tanh²u) = log 4 − 40 to 17 digits; the action is the bound itself; no gradient is NaN."""
    for sign in (-1.0, 1.0):
        distribution = m.tanh_gaussian(arr([sign * 20]), arr([-1.0]), -2.0, 4.0)
        expected = stats.norm.logpdf(0.0, scale=np.exp(-1)) - np.log(3) - (np.log(4) - 40)
        close(jit(distribution.log_prob_of_raw)(arr([sign * 20])), expected)
        action, log_prob = jit(lambda d=distribution: d.sample_and_log_prob(seed=jax.random.key(0)))()
        close(action, [4.0 if sign > 0 else -2.0])
        assert -2 <= float(action[0]) <= 4
        noise = float(jax.random.normal(jax.random.key(0), (1,))[0])
        u = sign * 20 + np.exp(-1) * noise
        close(log_prob, stats.norm.logpdf(noise) + 1 - np.log(3) - (np.log(4) - 2 * abs(u)), 10)
        score = jit(lambda mean, x: m.tanh_gaussian(mean, arr([-1.0]), -2.0, 4.0).log_prob(x))
        assert np.isfinite(score(arr([sign * 3]), action))
        assert np.isfinite(jax.jit(jax.grad(score))(arr([sign * 3]), action)).all()


def check_tanh_gaussian_entropy(m):
    """Against adaptive quadrature of the density of u."""
    for mean, std in ((0.0, 0.1), (0.5, 1.0), (3.0, 3.0), (0.5, 7.0)):

        def slope(u, mean=mean, std=std):
            return stats.norm.pdf(u, mean, std) * 2 * (np.log(2) - u - np.logaddexp(0, -2 * u))

        expected = integrate.quad(slope, mean - 12 * std, mean + 12 * std, points=[0.0, mean], limit=300)[0]
        expected += np.log(3) + stats.norm.entropy(scale=std)
        actual = jit(lambda a, b: m.tanh_gaussian(a, b, -2.0, 4.0).entropy())(arr([mean]), arr([np.log(std)]))
        np.testing.assert_allclose(actual, expected, atol=1e-4 if std > 3 else 1e-5)


def check_tanh_gaussian_divergence_and_samples(m):
    p, q = m.tanh_gaussian(arr([0.5]), arr([0.1])), m.tanh_gaussian(arr([0.0]), arr([0.4]))
    expected = 0.3 + (np.exp(0.2) + 0.25) / (2 * np.exp(0.8)) - 0.5
    close(jit(p.kl_divergence)(q), expected)
    wide = m.tanh_gaussian(arr(np.full((20_000, 1), 0.5)), arr([0.1]), -2.0, 4.0)
    x = np.asarray(jit(lambda: wide.sample(seed=jax.random.key(2)))(), np.float64)[:, 0]
    assert stats.kstest(np.arctanh((x - 1) / 3), "norm", args=(0.5, np.exp(0.1))).pvalue > 1e-6

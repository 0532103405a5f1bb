"""Action distributions: oracles in both precisions, what must hold for any parameters, distrax where it is right."""

import checks_distributions
import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checking import arr, close, gradient_agrees, precision, precisions
from hypothesis import given, settings
from hypothesis import strategies as st

from purerl import distributions

CHECKS = [check for name, check in vars(checks_distributions).items() if name.startswith("check_")]
BOTH = pytest.mark.parametrize("dtype", precisions())
FEW = settings(max_examples=15, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)


@BOTH
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_oracle(check, dtype):
    with precision(dtype):
        check(distributions)


def test_everything_crosses_vmap_jit_and_scan():
    """Distributions leave one vmap and enter another, and a scan, and give what a batch gives at once."""
    keys = jax.random.split(jax.random.key(0), 2)
    for build, args in (
        (distributions.categorical, (checks_distributions.LOGITS, checks_distributions.MASK)),
        (lambda x: distributions.multi_discrete(x, (1, 2)), (checks_distributions.LOGITS,)),
        (distributions.diagonal_gaussian, (checks_distributions.MEAN, checks_distributions.LOG_STD)),
        (distributions.tanh_gaussian, (checks_distributions.MEAN, checks_distributions.LOG_STD)),
    ):
        args = [arr(a) for a in args]
        crossed = jax.jit(jax.vmap(build))(*args)
        sample, log_prob = jax.jit(jax.vmap(lambda d, k: d.sample_and_log_prob(seed=k)))(crossed, keys)
        scanned = jax.lax.scan(lambda c, d: (c, summaries(d)), 0, crossed)[1]
        whole = jax.jit(lambda x, args, build=build: (build(*args).log_prob(x), *summaries(build(*args))))(sample, args)
        for one, all_at_once in zip((log_prob, *scanned), whole):
            close(one, np.asarray(all_at_once), 10)


def summaries(d):
    return d.entropy(), d.mode(), d.kl_divergence(d)


def normal(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [arr(rng.normal(size=shape)) for shape in shapes]


@jax.jit
def all_log_probs(logits, mask):
    distribution = distributions.categorical(logits, mask)
    return jnp.stack([distribution.log_prob(jnp.full(logits.shape[:-1], a)) for a in range(logits.shape[-1])], -1)


@BOTH
@FEW
@given(seed=SEEDS, shift=st.floats(-20, 20))
def test_categorical_is_normalised_and_does_not_see_a_shift(dtype, seed, shift):
    with precision(dtype):
        (logits,) = normal(seed, (4, 5))
        mask = np.random.default_rng(seed).random((4, 5)) < 0.6
        log_probs = np.asarray(all_log_probs(logits, mask))
        close(np.exp(log_probs).sum(-1), np.ones(4))
        close(np.exp(all_log_probs(logits + shift, mask)), np.exp(log_probs), 5)
        some = mask.any(-1)
        assert (np.exp(log_probs)[some][~mask[some]] == 0).all()


def test_the_class_normalises_its_logits_as_the_function_does():
    logits, mask = jnp.array([0.5, 3.0, -1.0]), jnp.array([True, True, False])
    np.testing.assert_array_equal(
        distributions.Categorical(logits, mask).log_probs, distributions.categorical(logits, mask).log_probs
    )
    np.testing.assert_allclose(jnp.exp(distributions.Categorical(logits=logits).log_probs).sum(), 1, rtol=1e-6)


def test_crossing_a_transformation_normalises_nothing_again():
    policy = distributions.categorical(jnp.array([[0.5, 3.0, -1.0]]))
    program = str(jax.make_jaxpr(lambda policy: jax.vmap(lambda p: p.log_prob(1))(policy))(policy))
    assert "exp" not in program


@jax.jit
def parts_and_whole(logits, action):
    whole = distributions.multi_discrete(logits, (2, 3))
    parts = [distributions.categorical(x) for x in (logits[..., :2], logits[..., 2:])]
    log_prob = sum(d.log_prob(action[..., i]) for i, d in enumerate(parts))
    return whole.log_prob(action), log_prob, whole.entropy(), sum(d.entropy() for d in parts)


@BOTH
@FEW
@given(seed=SEEDS)
def test_multi_discrete_is_its_parts(dtype, seed):
    with precision(dtype):
        (logits,) = normal(seed, (4, 5))
        action = np.random.default_rng(seed).integers(0, 2, (4, 2))
        whole, parts, entropy, entropies = parts_and_whole(logits, action)
        close(whole, np.asarray(parts))
        close(entropy, np.asarray(entropies))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_a_part_without_a_valid_value_is_uniform_over_the_values_that_it_has(dtype):
    mask = jnp.array([[0, 0, 1, 1, 0], [0, 1, 0, 0, 0]])
    policy = distributions.multi_discrete(jnp.array([[3.0, 1.0, 0.0, 0.0, 0.0]] * 2, dtype), (2, 3), mask)
    probs = np.float32(jnp.exp(policy.parts.log_probs))
    expected = [[[1 / 2, 1 / 2, 0], [1 / 2, 1 / 2, 0]], [[0, 1, 0], [1 / 3, 1 / 3, 1 / 3]]]
    np.testing.assert_allclose(probs, expected, atol=2e-3)


def test_entropies_of_float16_are_finite_beside_impossible_actions():
    masked = distributions.categorical(jnp.array([20, 20, 1], jnp.float16), mask=jnp.array([1, 1, 0]))
    assert float(masked.entropy()) == pytest.approx(np.log(2), abs=1e-2)
    padded = distributions.multi_discrete(jnp.array([20, 20, 0, 0, 0], jnp.float16), (2, 3))
    assert float(padded.entropy()) == pytest.approx(np.log(6), abs=1e-2)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_draws_rare_actions_as_often_as_it_should(dtype):
    policy = distributions.categorical(jnp.array([0, -7], dtype))
    draw = jax.jit(jax.vmap(lambda key: policy.sample(seed=key)))
    expected = 1 / (1 + np.exp(7))
    assert float(draw(jax.random.split(jax.random.key(0), 400_000)).mean()) == pytest.approx(expected, rel=0.15)


@jax.jit
def gaussian_summary(p, q, x, shift):
    kl = distributions.diagonal_gaussian(*p).kl_divergence(distributions.diagonal_gaussian(*q))
    moved = distributions.diagonal_gaussian(p[0] + shift, p[1]).log_prob(x + shift)
    return kl, moved, distributions.diagonal_gaussian(*p).log_prob(x)


@BOTH
@FEW
@given(seed=SEEDS, shift=st.floats(-3, 3))
def test_gaussian_moves_with_its_mean_and_divergence_is_positive(dtype, seed, shift):
    with precision(dtype):
        mean, log_std, other, other_std, x = normal(seed, *[(4, 2)] * 5)
        kl, moved, here = gaussian_summary((mean, log_std), (other, other_std), x, shift)
        assert (np.asarray(kl) > 0).all()
        close(moved, np.asarray(here), 200)


@jax.jit
def squashed(mean, log_std, key, low, high):
    distribution = distributions.tanh_gaussian(mean, log_std, low, high)
    unit = distributions.tanh_gaussian(mean, log_std)
    x, log_prob = distribution.sample_and_log_prob(seed=key)
    return x, log_prob, distribution.log_prob(x), unit.sample_and_log_prob(seed=key)


@BOTH
@FEW
@given(seed=SEEDS, low=st.floats(-5, 0), width=st.floats(0.5, 10))
def test_tanh_gaussian_stays_in_its_box_and_scores_its_own_samples(dtype, seed, low, width):
    with precision(dtype):
        mean, log_std = normal(seed, (4, 2), (4, 2))
        low, high = arr(low), arr(low + width)
        x, fused, scored, (y, unit) = squashed(mean, log_std - 1, jax.random.key(seed % 997), low, high)
        assert (np.asarray(x) >= low).all()
        assert (np.asarray(x) <= high).all()
        np.testing.assert_allclose(fused, scored, atol=0.05 if dtype == "float32" else 1e-6)
        close(x, np.asarray(low + (high - low) * (y + 1) / 2), 10)
        close(fused, np.asarray(unit) - 2 * np.log(float(high - low) / 2), 20)


def test_distrax_agrees_where_it_is_right():
    """Categorical and Independent(Normal) everywhere; the tanh bijector away from the bounds."""
    with precision("float64"):
        logits, other, mean, log_std = normal(0, (4, 3), (4, 3), (4, 2), (4, 2))
        ours, theirs = distributions.categorical(logits), distrax.Categorical(logits=logits)
        action = jnp.array([0, 2, 1, 1])
        for name in ("entropy", "mode"):
            close(getattr(ours, name)(), np.asarray(getattr(theirs, name)()))
        close(ours.log_prob(action), np.asarray(theirs.log_prob(action)))
        divergence = theirs.kl_divergence(distrax.Categorical(logits=other))
        close(ours.kl_divergence(distributions.categorical(other)), np.asarray(divergence))
        key = jax.random.key(0)
        np.testing.assert_array_equal(ours.sample(seed=key), jax.random.categorical(key, logits))
        gaussian = distrax.Independent(distrax.Normal(mean, jnp.exp(log_std)), 1)
        x = jnp.tanh(mean)
        close(distributions.diagonal_gaussian(mean, log_std).log_prob(x), np.asarray(gaussian.log_prob(x)), 10)
        tanh = distrax.Transformed(gaussian, distrax.Block(distrax.Tanh(), 1))
        close(distributions.tanh_gaussian(mean, log_std).log_prob(x), np.asarray(tanh.log_prob(x)), 100)


def test_distrax_is_wrong_at_the_bound_where_we_are_finite():
    """The reason for a tanh of our own, which falls away when this no longer holds."""
    gaussian = distrax.Independent(distrax.Normal(jnp.array([3.0]), jnp.array([0.5])), 1)
    tanh = distrax.Transformed(gaussian, distrax.Block(distrax.Tanh(), 1))
    assert not np.isfinite(tanh.log_prob(jnp.array([1.0])))
    assert np.isfinite(distributions.tanh_gaussian(jnp.array([3.0]), jnp.log(jnp.array([0.5]))).log_prob(jnp.ones(1)))


ACTION = np.array([0, 2], np.int32)
SMOOTH = {
    "categorical.log_prob": (lambda x: distributions.categorical(x).log_prob(ACTION), 1),
    "categorical.entropy": (lambda x: distributions.categorical(x).entropy(), 1),
    "multi_discrete.log_prob": (lambda x: distributions.multi_discrete(x, (1, 2)).log_prob(ACTION % 2), 1),
    "diagonal_gaussian.log_prob": (lambda m, s, x: distributions.diagonal_gaussian(m, s).log_prob(x), 3),
    "tanh_gaussian.log_prob": (lambda m, s, x: distributions.tanh_gaussian(m, s).log_prob(0.5 * jnp.tanh(x)), 3),
    "tanh_gaussian.entropy": (lambda m, s: distributions.tanh_gaussian(m, s).entropy(), 2),
    "tanh_gaussian.sample": (
        lambda m, s: distributions.tanh_gaussian(m, s).sample_and_log_prob(seed=jax.random.key(0)), 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_is_that_of_finite_differences(name):
    function, count = SMOOTH[name]
    with precision("float64"):
        gradient_agrees(function, normal(1, *[(2, 3)] * count), range(count))


def test_a_matching_number_of_values_is_required():
    with pytest.raises(ValueError, match="num_values"):
        distributions.multi_discrete(jnp.zeros(5), (2, 2))
    with pytest.raises(AssertionError, match="type"):
        distributions.categorical(jnp.zeros(3, jnp.int32))
    with pytest.raises(AssertionError, match="rank"):
        distributions.diagonal_gaussian(jnp.zeros(()), jnp.zeros(()))


def test_numpys_float64_is_taken_as_jaxs_own_float():
    policy = distributions.categorical(np.zeros(3), np.array([True, True, False]))
    assert policy.entropy() == pytest.approx(np.log(2))
    assert policy.log_prob(2) == jnp.finfo("float32").min

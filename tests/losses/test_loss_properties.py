"""Properties of the losses that hold for any numbers, in both precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checking import arr, close, precision, precisions, tolerance
from hypothesis import given, settings
from hypothesis import strategies as st

from purerl import losses

BOTH = pytest.mark.parametrize("dtype", precisions())
FEW = settings(max_examples=15, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)
COMPILED = {}


def call(name, *args, **static):
    """A loss under jit, compiled once for each set of static arguments."""
    key = (name, *sorted(static.items()))
    if key not in COMPILED:
        COMPILED[key] = jax.jit(lambda *a: getattr(losses, name)(*a, **static))
    return np.asarray(COMPILED[key](*args), np.float64)


def normal(seed, *shapes, scale=1.0):
    rng = np.random.default_rng(seed)
    return [arr(scale * rng.normal(size=shape)) for shape in shapes]


def probabilities(seed, *shape):
    return arr(np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), size=shape[:-1]))


@BOTH
@FEW
@given(seed=SEEDS, shift=st.floats(-20, 20))
def test_softmax_shift_changes_neither_entropy_nor_divergence(dtype, seed, shift):
    with precision(dtype):
        p, q = normal(seed, (4, 5), (4, 5))
        close(call("categorical_entropy", p + shift), call("categorical_entropy", p), 5)
        close(call("categorical_kl", p + shift, q), call("categorical_kl", p, q), 5)


@BOTH
@FEW
@given(seed=SEEDS)
def test_entropy_lies_between_zero_and_that_of_the_uniform(dtype, seed):
    with precision(dtype):
        entropy = call("categorical_entropy", *normal(seed, (4, 5), scale=4))
        assert (entropy >= 0).all()
        assert (entropy <= np.log(5) + tolerance()).all()


@BOTH
@FEW
@given(seed=SEEDS)
def test_exact_divergences_are_positive_and_zero_at_equality(dtype, seed):
    with precision(dtype):
        p, q, mean, other = normal(seed, *[(4, 5)] * 4)
        assert (call("categorical_kl", p, q) > 0).all()
        assert (call("gaussian_kl", mean, p, other, q) > 0).all()
        close(call("categorical_kl", p, p), np.zeros(4))
        close(call("gaussian_kl", mean, p, mean, p), np.zeros(4))


@BOTH
@FEW
@given(seed=SEEDS)
def test_k3_is_never_negative_and_k1_plus_its_correction(dtype, seed):
    with precision(dtype):
        log_prob, ref = normal(seed, (50,), (50,))
        k1, k3 = (call("kl_estimate", log_prob, ref, kind=kind) for kind in ("k1", "k3"))
        assert (k3 >= 0).all()
        close(k3 - k1, np.expm1(-k1), 20)


@BOTH
@FEW
@given(seed=SEEDS)
def test_k1_and_k3_are_unbiased(dtype, seed):
    with precision(dtype):
        p, q = normal(seed, (4, 5), (4, 5))
        log_p, log_q = jax.nn.log_softmax(p), jax.nn.log_softmax(q)
        for kind in ("k1", "k3"):
            mean = np.sum(np.exp(np.asarray(log_p, np.float64)) * call("kl_estimate", log_p, log_q, kind=kind), -1)
            close(mean, call("categorical_kl", p, q), 20)


@BOTH
@FEW
@given(seed=SEEDS)
def test_projection_keeps_mass_and_inside_the_support_the_mean(dtype, seed):
    with precision(dtype):
        support, probs = jnp.linspace(-10, 10, 51), probabilities(seed, 4, 6)
        (target,) = normal(seed, (4, 6), scale=3)
        projected = call("categorical_projection", target, probs, support)
        close(projected.sum(-1), np.ones(4))
        inside = np.clip(np.asarray(target, np.float64), -10, 10)
        close(projected @ np.linspace(-10, 10, 51), np.sum(np.asarray(probs) * inside, -1), 10)


@BOTH
@FEW
@given(seed=SEEDS)
def test_projection_of_the_support_itself_is_the_identity(dtype, seed):
    with precision(dtype):
        support, probs = jnp.linspace(-10, 10, 51), probabilities(seed, 4, 51)
        target = jnp.broadcast_to(support, (4, 51))
        close(call("categorical_projection", target, probs, support), np.asarray(probs))


@BOTH
@FEW
@given(seed=SEEDS)
def test_projection_does_not_depend_on_the_order_of_the_atoms(dtype, seed):
    with precision(dtype):
        support, probs = jnp.linspace(-2, 2, 9), probabilities(seed, 4, 6)
        (target,) = normal(seed, (4, 6))
        order = np.random.default_rng(seed).permutation(6)
        expected = call("categorical_projection", target, probs, support)
        close(call("categorical_projection", target[:, order], probs[:, order], support), expected)


@BOTH
@FEW
@given(seed=SEEDS, shift=st.floats(-5, 5))
def test_quantile_loss_is_positive_and_does_not_see_a_common_shift(dtype, seed, shift):
    with precision(dtype):
        quantiles, targets = normal(seed, (4, 5), (4, 3))
        taus = (jnp.arange(5) + 0.5) / 5
        loss = call("quantile_huber", quantiles, taus, targets)
        assert (loss > 0).all()
        close(call("quantile_huber", quantiles + shift, taus, targets + shift), loss, 20)


@BOTH
@FEW
@given(seed=SEEDS)
def test_quantile_loss_tends_to_the_pinball_loss(dtype, seed):
    with precision(dtype):
        quantiles, targets = normal(seed, (4, 5), (4, 3))
        taus = (jnp.arange(5) + 0.5) / 5
        small, none = (call("quantile_huber", quantiles, taus, targets, kappa) for kappa in (1e-4, 0.0))
        np.testing.assert_allclose(small, none, atol=5e-4)


@BOTH
@FEW
@given(seed=SEEDS, shift=st.floats(-5, 5))
def test_group_advantages_sum_to_zero_and_do_not_see_a_shift(dtype, seed, shift):
    with precision(dtype):
        (rewards,) = normal(seed, (4, 6))
        for scale in (True, False):
            advantage = call("group_advantages", rewards, scale=scale)
            close(advantage.sum(-1), np.zeros(4), 10)
            close(call("group_advantages", rewards + shift, scale=scale), advantage, 20)


@BOTH
@FEW
@given(seed=SEEDS, scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_normalized_advantages_do_not_see_an_affine_map(dtype, seed, scale, shift):
    with precision(dtype):
        (x,) = normal(seed, (6, 4))
        centred = np.asarray(x, np.float64) - np.asarray(x, np.float64).mean()
        close(call("normalize", scale * x + shift), centred / (centred.std() + 1e-8 / scale), 100)
        masked = call("normalize", x, jnp.ones_like(x))
        close(masked, call("normalize", x), 5)


@BOTH
@FEW
@given(seed=SEEDS)
def test_surrogate_is_pessimistic_and_plain_inside_the_clip(dtype, seed):
    with precision(dtype):
        log_prob, old, advantage = normal(seed, (50,), (50,), (50,))
        plain = -np.exp(np.asarray(log_prob - old, np.float64)) * np.asarray(advantage)
        clipped = call("clipped_surrogate", log_prob, old, advantage, 0.2)
        assert (clipped >= plain - 10 * tolerance()).all()
        close(call("clipped_surrogate", log_prob, old, advantage, 1e9), plain, 50)
        close(call("clipped_surrogate", old, old, advantage, 0.2), -np.asarray(advantage))


@BOTH
@FEW
@given(seed=SEEDS)
def test_clipped_value_is_pessimistic_and_plain_without_a_bound(dtype, seed):
    with precision(dtype):
        value, old, target = normal(seed, (50,), (50,), (50,))
        plain = 0.5 * (np.asarray(value, np.float64) - np.asarray(target)) ** 2
        assert (call("clipped_value", value, old, target, 0.2) >= plain - 10 * tolerance()).all()
        close(call("clipped_value", value, old, target, jnp.inf), plain, 10)


@BOTH
@FEW
@given(seed=SEEDS)
def test_targets_agree_where_their_policies_do(dtype, seed):
    """Double Q with one network, expected SARSA and SARSA with the greedy policy: all are Q-learning."""
    with precision(dtype):
        reward, discount, q = normal(seed, (4,), (4,), (4, 3))
        expected = call("q_learning_target", reward, discount, q)
        best = jnp.argmax(q, axis=-1)
        close(call("double_q_target", reward, discount, q, q), expected)
        close(call("sarsa_target", reward, discount, q, best), expected)
        close(call("expected_sarsa_target", reward, discount, q, jax.nn.one_hot(best, 3)), expected)
        close(call("soft_q_target", reward, discount, q, 0.0), expected)


@BOTH
@FEW
@given(seed=SEEDS, temperature=st.floats(0.01, 5))
def test_soft_maximum_lies_within_its_bounds(dtype, seed, temperature):
    with precision(dtype):
        reward, q = normal(seed, (4,), (4, 3))
        ones = jnp.ones_like(reward)
        excess = call("soft_q_target", reward, ones, q, temperature) - call("q_learning_target", reward, ones, q)
        assert (excess >= -10 * tolerance()).all()
        assert (excess <= temperature * np.log(3) + 10 * tolerance()).all()


@BOTH
@FEW
@given(seed=SEEDS)
def test_soft_target_is_the_entropy_regularized_one_of_its_own_policy(dtype, seed):
    """τ log Σ exp(q/τ) = q(a) − τ log π(a) for every a, where π = softmax(q/τ)."""
    with precision(dtype):
        reward, discount, q = normal(seed, (4,), (4,), (4, 3))
        log_probs = jax.nn.log_softmax(q / 0.7)
        for a in range(3):
            one = call("entropy_regularized_target", reward, discount, q[:, a], log_probs[:, a], 0.7)
            close(one, call("soft_q_target", reward, discount, q, 0.7), 5)


@BOTH
@FEW
@given(seed=SEEDS, scale=st.floats(0.1, 10))
def test_scaling_rewards_and_values_scales_the_targets(dtype, seed, scale):
    with precision(dtype):
        reward, discount, q = normal(seed, (4,), (4,), (4, 3))
        for name in ("q_learning_target", "soft_q_target"):
            extra = [1.0] if name == "soft_q_target" else []
            scaled = call(name, scale * reward, discount, scale * q, *[scale * x for x in extra])
            close(scaled, scale * call(name, reward, discount, q, *extra), 20)


@BOTH
@FEW
@given(seed=SEEDS)
def test_aggregations_agree_on_sequences_of_one_length(dtype, seed):
    with precision(dtype):
        (loss,) = normal(seed, (3, 5))
        mask = jnp.broadcast_to(jnp.arange(5) < 4, (3, 5))
        expected = np.asarray(loss)[:, :4].mean()
        for kind in ("grpo", "dapo"):
            close(call("aggregate_tokens", loss, mask, kind=kind), expected)
        close(call("aggregate_tokens", loss, mask, kind="dr_grpo", max_length=4), expected)


@BOTH
@FEW
@given(seed=SEEDS)
def test_padding_and_order_of_sequences_do_not_matter(dtype, seed):
    with precision(dtype):
        rng = np.random.default_rng(seed)
        (loss,) = normal(seed, (3, 5))
        mask, order = jnp.asarray(rng.random((3, 5)) < 0.6), rng.permutation(3)
        wide = jnp.pad(loss, [(0, 0), (0, 2)], constant_values=jnp.nan), jnp.pad(mask, [(0, 0), (0, 2)])
        for kind in ("grpo", "dapo"):
            expected = call("aggregate_tokens", loss, mask, kind=kind)
            close(call("aggregate_tokens", *wide, kind=kind), expected)
            close(call("aggregate_tokens", loss[order], mask[order], kind=kind), expected)


@BOTH
@FEW
@given(seed=SEEDS, shift=st.floats(-5, 5))
def test_a_baseline_does_not_change_the_expected_gradient(dtype, seed, shift):
    with precision(dtype):
        logits, weight = normal(seed, (5,), (5,))

        def expected(x, weight):
            losses_of_all = losses.reinforce(jax.nn.log_softmax(x), weight)
            return jnp.sum(jax.lax.stop_gradient(jax.nn.softmax(x)) * losses_of_all)

        if dtype not in COMPILED:
            COMPILED[dtype] = jax.jit(jax.grad(expected))
        gradient = COMPILED[dtype]
        close(gradient(logits, weight + shift), np.asarray(gradient(logits, weight)), 10)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_equal_advantages_are_normalized_to_zero_in_every_precision(dtype):
    equal = jnp.full(7, 12.3, dtype)
    for mask in (None, jnp.arange(7) % 2):
        assert not losses.normalize(equal, mask).any()
        assert not losses.group_advantages(equal, mask=mask).any()


HALF = pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])


@HALF
def test_half_precision_has_entropies_and_divergences_beside_impossible_actions(dtype):
    logits = jnp.array([20, 19, -jnp.inf], dtype)
    found = losses.categorical_entropy(logits), losses.categorical_kl(logits, jnp.array([20, 20, -jnp.inf], dtype))
    p = 1 / (1 + np.exp(-1))
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    np.testing.assert_allclose(np.float32(found), [entropy, np.log(2) - entropy], atol=0.02)
    assert np.isfinite(np.float32(jax.grad(losses.categorical_entropy)(logits))).all()


@HALF
def test_variances_of_half_precision_do_not_overflow(dtype):
    rewards = np.array([1000.0, 0.0, 500.0, 0.0], np.float32)
    for function in (losses.group_advantages, losses.normalize):
        found = function(jnp.asarray(rewards, dtype))
        assert found.dtype == dtype
        np.testing.assert_allclose(np.float32(found), function(jnp.asarray(rewards)), atol=0.01)


@HALF
@pytest.mark.parametrize("value", [-290.0, -10.0, 100.0, 290.0])
def test_projections_of_half_precision_keep_their_mass_on_hundreds_of_atoms(dtype, value):
    support = jnp.linspace(-300, 300, 601).astype(dtype)
    found = losses.categorical_projection(jnp.array([value], dtype), jnp.ones(1, dtype), support)
    assert found.dtype == dtype
    assert float(found.astype(jnp.float32).sum()) == 1
    assert int(found.argmax()) == round(float(jnp.asarray(value, dtype)) + 300)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("best", [-jnp.inf, 2.0, jnp.inf])
def test_the_soft_maximum_of_one_valid_action_or_none_is_its_value(temperature, best):
    target = losses.soft_q_target(jnp.zeros(1), jnp.ones(1), jnp.array([[best, -jnp.inf]]), temperature)
    assert target.tolist() == [best]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.clipped_surrogate(jnp.ones(5), jnp.ones((5, 1)), jnp.ones(5), 0.2), r"old_log_prob is \[5, 1"),
        (lambda: losses.td_error(jnp.ones((5, 1)), jnp.ones(5)), r"value is \[5, 1\], target is \[5\]"),
        (lambda: losses.dpo(jnp.ones(3), jnp.ones(3), jnp.ones(3), jnp.ones(2), 0.1), r"ref_rejected_logps is \[2\]"),
        (lambda: losses.normalize(jnp.ones(3), jnp.ones(2)), r"advantage is \[3\], mask is \[2\]"),
        (lambda: losses.td_target(jnp.ones(2), jnp.array([True, False]), jnp.ones(2)), "discount must be numbers"),
        (lambda: losses.q_learning_target(jnp.ones(2), jnp.ones(2), jnp.ones((3, 3))), r"next_q .*reward, \[2\].*\[3"),
        (lambda: losses.action_value(jnp.ones((2, 3)), jnp.ones(3, int)), r"q must have the shape of action, \[3\]"),
        (lambda: losses.grpo(*[jnp.ones((2, 3))] * 3, jnp.ones(3), 0.2, 0.1), r"log_prob .* of advantage, \[3\]"),
        (lambda: losses.cispo(*[jnp.ones((2, 3))] * 2, jnp.ones(2), 0.2, mask=jnp.ones(2)), r"log_prob is .*mask is"),
        (lambda: losses.kl_penalized_reward(jnp.ones(2), jnp.ones(3), jnp.ones(3), 0.1), r"reward is \[2\]"),
        (lambda: losses.segment_preference(*[jnp.ones((2, 3))] * 2, jnp.ones(4)), r"rewards_1 .*2\].*preference is"),
        (lambda: losses.quantile_huber(jnp.ones((2, 3)), jnp.ones(3), jnp.ones((4, 3))), r"target_quantiles .*\[4, 3"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_named(call, message):
    with pytest.raises(AssertionError, match=message):
        call()


def test_numpys_float64_is_taken_as_jaxs_own_float():
    logits, zero = np.array([0.0, 0.0, -np.inf]), np.zeros(())
    assert losses.categorical_entropy(logits) == pytest.approx(np.log(2))
    assert losses.categorical_kl(logits, logits) == 0
    assert losses.soft_q_target(zero, np.ones(()), np.array([3.0, 2.0]), temperature=0.0) == 3


@HALF
def test_sums_of_half_precision_do_not_overflow(dtype):
    ones, far = jnp.ones((10, 7000), dtype), jnp.full(2000, 100, dtype)
    for kind in ("grpo", "dapo", "dr_grpo"):
        assert losses.aggregate_tokens(20 * ones, ones, kind) == 20
    assert jnp.isfinite(losses.gspo(ones, -9 * ones, ones[:, 0], ones, clip_epsilon=1e3)).all()
    assert losses.kto_kl(far, 0 * far) == 100
    assert losses.bco_delta(far, 0 * far, far, 1.0) == 100
    spread = jnp.where(jnp.arange(4000) % 2, 100, -100).astype(dtype)
    np.testing.assert_allclose(
        np.float32(losses.normalize(spread, jnp.ones(4000))), np.sign(np.float32(spread)), rtol=0.01
    )


def test_the_advantages_of_no_prompts_are_none():
    assert losses.group_advantages(jnp.zeros((0, 3))).shape == (0, 3)

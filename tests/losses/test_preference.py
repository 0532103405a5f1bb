"""Preference losses against float64 NumPy formulas, at extremes, and with masks over anything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks_preferences import CASES, COMPLETION, LENGTHS, LOGITS, PAIR, TOKENS, check, np_sequence, sigmoid
from scipy.optimize import minimize

from purerl import losses


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{c.name}" for i, c in enumerate(CASES)])
def test_value_and_gradient_are_those_of_the_formula(case):
    with jax.numpy_rank_promotion("raise"):
        check(case, getattr(losses, case.name))


B, EPS, Z = 0.7, 0.1, 0.3
LOGPS = [-2.1, -1.3, -1.9, -0.8]  # chosen, rejected, and the reference's
H = (LOGPS[0] - LOGPS[2]) - (LOGPS[1] - LOGPS[3])
ONLY = LOGPS[0] - LOGPS[1]
S = sigmoid(B * (LOGPS[0] - LOGPS[2] - Z))
Q = 0.9 * sigmoid(ONLY) + 0.05
ODDS = ONLY - np.log1p(-np.exp(LOGPS[0])) + np.log1p(-np.exp(LOGPS[1]))
STATED = {  # the gradient that a docstring states with respect to the first argument, of the arguments beside it
    "dpo": (B * (sigmoid(B * H) - (1 - EPS)), (*LOGPS, B, EPS)),
    "robust_dpo": (-B * ((1 - EPS) * sigmoid(-B * H) + EPS * sigmoid(B * H)) / (1 - 2 * EPS), (*LOGPS, B, EPS)),
    "ipo": (2 * (H - 1 / (2 * B)), (*LOGPS, B)),
    "kto": (-2 * B * S * (1 - S), (LOGPS[0], LOGPS[2], True, Z, B, 2.0)),
    "orpo": (-B * sigmoid(-ODDS) / (1 - np.exp(LOGPS[0])), (LOGPS[0], LOGPS[1], 0.0, B)),
    "simpo": (B * (sigmoid(B * ONLY - 0.5) - (1 - EPS)), (LOGPS[0], LOGPS[1], B, 0.5, EPS)),
    "cpo": (B * (sigmoid(B * ONLY) - (1 - EPS)), (LOGPS[0], LOGPS[1], B, EPS)),
    "exo": (B * sigmoid(B * H) * sigmoid(-B * H) * (B * H - np.log((1 - EPS) / EPS)), (*LOGPS, B, EPS)),
    "nca": (B * (1.5 * sigmoid(B * (LOGPS[0] - LOGPS[2])) - 1), (*LOGPS, B)),
    "bco": (-2 * B * sigmoid(Z - B * (LOGPS[0] - LOGPS[2])), (LOGPS[0], LOGPS[2], True, Z, B, 2.0)),
    "sppo": (2 * (LOGPS[0] - LOGPS[2] - 0.5 / B), (*LOGPS, B)),
    "bradley_terry": (sigmoid(ONLY - 0.2) - (1 - EPS), (LOGPS[0], LOGPS[1], 0.2, EPS)),
    "reward_centering": (2 * (LOGPS[0] + LOGPS[1]), (LOGPS[0], LOGPS[1])),
}


@pytest.mark.parametrize("name", STATED)
def test_the_gradient_is_the_one_that_the_docstring_states(name):
    stated, arguments = STATED[name]
    arrays = [jnp.float32(x) if isinstance(x, float) else x for x in arguments]
    assert jax.jit(jax.grad(getattr(losses, name)))(*arrays) == pytest.approx(stated, rel=1e-5)


def test_the_gradients_of_rankings_and_segments_are_the_stated_ones():
    r = np.array(LOGPS)
    share = [[np.exp(r[i]) / np.exp(r[k:]).sum() for k in range(i + 1)] for i in range(4)]
    expected = [sum(s) - 1 for s in share]
    np.testing.assert_allclose(jax.jit(jax.grad(losses.plackett_luce))(jnp.float32(r)), expected, atol=1e-6)
    win = sigmoid(r[:, None] - r)
    expected = [(win[i, :i].sum() - win[i + 1 :, i].sum()) / 6 for i in range(4)]
    np.testing.assert_allclose(jax.jit(jax.grad(losses.pairwise_ranking))(jnp.float32(r)), expected, atol=1e-6)
    expected = 0.9 * sigmoid(ONLY) * sigmoid(-ONLY) * (Q - 0.25) / (Q * (1 - Q))
    found = jax.jit(jax.grad(losses.segment_preference, (0, 1)))(
        jnp.float32(r[:1]), jnp.float32(r[1:2]), jnp.float32(0.25), error_rate=0.1
    )
    np.testing.assert_allclose(found, [[expected], [-expected]], rtol=1e-5)


EXTREME = {
    "dpo": (0.5,), "robust_dpo": (0.5, 0.1), "hinge_dpo": (0.5,), "ipo": (0.5,), "sppo": (0.5,),
    "bradley_terry": (0.0, 0.1), "simpo": (2.0, 1.0), "cpo": (0.5,), "orpo": (jnp.ones(4), 0.5),
    "kto": (jnp.array([1, 0, 1, 0]), 3.0, 0.5), "bco": (jnp.array([1, 0, 1, 0]), 3.0, 0.5), "exo": (0.5,),
    "nca": (0.5,), "apo_zero": (0.5,), "apo_down": (0.5,), "aot": (0.5, 0.1), "aot_unpaired": (0.5, 0.1),
    "discopop": (0.5,),
}  # fmt: skip


@pytest.mark.parametrize("name", EXTREME)
def test_losses_and_gradients_are_finite_at_differences_of_2000(name):
    chosen, rejected = jnp.array([0.0, -2000.0, 0.0, -2000.0]), jnp.array([-2000.0, 0.0, 0.0, -2000.0])
    free = ("bradley_terry", "simpo", "cpo", "orpo", "kto", "bco")
    reference = () if name in free else (jnp.zeros(4), jnp.zeros(4))

    def total(c, r):
        return jnp.sum(getattr(losses, name)(c, r, *reference, *EXTREME[name]))

    value, gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(chosen, rejected)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradients)
    if name in ("dpo", "cpo"):
        assert value == pytest.approx(0.5 * 2000 + 2 * np.log(2), rel=1e-5)


@pytest.mark.parametrize("name", ["plackett_luce", "pairwise_ranking"])
def test_rankings_are_finite_at_2000_and_absent_items_may_hold_anything(name):
    rewards = jnp.array([[2000.0, -2000.0, 0.0], [-2000.0, 0.0, 2000.0], [jnp.nan, jnp.inf, -jnp.inf]])
    mask = jnp.array([[1, 1, 1], [1, 1, 1], [0, 0, 0]])
    value, gradient = jax.jit(jax.value_and_grad(lambda r: losses.__dict__[name](r, mask).sum()))(rewards)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert not gradient[2].any()
    assert losses.__dict__[name](rewards, mask)[2] == 0.0


def test_segments_are_finite_at_2000_and_an_empty_pair_teaches_nothing():
    rewards_1, rewards_2 = jnp.full((3, 2), 1000.0).at[2].set(jnp.nan), jnp.full((3, 2), -1000.0)
    mask = jnp.array([[1, 1], [1, 1], [0, 0]])
    for error_rate in (0.0, 0.1):

        def loss(a, b, e=error_rate):
            return losses.segment_preference(a, b, jnp.array([1.0, 0.0, 1.0]), mask, mask, e)

        value, pull = jax.vjp(loss, rewards_1, rewards_2)
        gradients = pull(jnp.ones(3))
        assert np.isfinite(value).all()
        assert all(np.isfinite(g).all() for g in gradients)
        assert value[1] == pytest.approx(4000.0 if error_rate == 0 else -np.log(0.05), rel=1e-5)
        assert value[2] == pytest.approx(np.log(2))
        assert not gradients[0][2].any()


@pytest.mark.parametrize("dtype", [bool, jnp.uint8, jnp.int32, jnp.float32])
def test_labels_of_segments_may_be_of_any_type(dtype):
    rewards = jnp.array([[1.0, 1.0], [1.0, 1.0]]), jnp.array([[0.0, 1.0], [0.0, 1.0]])
    found = losses.segment_preference(*rewards, jnp.array([1, 0], dtype))
    np.testing.assert_allclose(found, [np.log1p(np.exp(-1)), np.log1p(np.exp(1))], rtol=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_masked_positions_may_hold_nan_and_minus_100(reduction):
    unread = np.zeros(COMPLETION.shape, bool)
    unread[:, :-1] = COMPLETION[:, 1:] == 0
    unread[:, -1] = True
    logits = jnp.asarray(np.where(unread[..., None], np.nan, LOGITS), jnp.float32)
    tokens = jnp.where(COMPLETION == 0, -100, TOKENS)
    value, pull = jax.vjp(lambda x: losses.sequence_log_probs(x, tokens, COMPLETION, reduction), logits)
    np.testing.assert_allclose(value, np_sequence(LOGITS, TOKENS, COMPLETION, reduction), rtol=1e-5)
    assert value[-1] == 0.0
    assert np.isfinite(pull(jnp.ones(6))[0]).all()


def test_left_and_right_padding_give_the_same_log_probability():
    right = losses.sequence_log_probs(LOGITS[:1].astype(np.float32), TOKENS[:1], COMPLETION[:1])
    rolled = [np.roll(x[:1], 2, axis=1) for x in (LOGITS.astype(np.float32), TOKENS, COMPLETION)]
    np.testing.assert_allclose(losses.sequence_log_probs(*rolled), right, rtol=1e-6)


def test_sequence_log_probs_add_up_in_float32_whatever_the_logits_are():
    logits = jnp.zeros((1, 513, 50), jnp.bfloat16)
    value = losses.sequence_log_probs(logits, jnp.zeros((1, 513), jnp.int32), jnp.ones((1, 513)))
    assert value.dtype == jnp.float32
    assert value[0] == pytest.approx(-512 * np.log(50), rel=1e-5)
    with pytest.raises(ValueError, match="reduction"):
        losses.sequence_log_probs(logits, jnp.zeros((1, 513), jnp.int32), jnp.ones((1, 513)), "average")


def test_kto_reference_point_is_clamped_masked_and_without_gradient():
    policy, reference = jnp.array([1.0, 2.0, jnp.nan]), jnp.zeros(3)
    value, gradient = jax.value_and_grad(losses.kto_kl)(policy, reference, jnp.array([1, 1, 0]))
    assert value == 1.5
    assert not gradient.any()
    assert losses.kto_kl(-policy[:2], reference[:2]) == 0.0
    assert losses.kto_kl(policy, reference, jnp.zeros(3)) == 0.0
    through = jax.grad(lambda z: losses.kto(policy[:2], reference[:2], jnp.array([1, 0]), z, 0.1).sum())(0.5)
    assert through == 0.0


def test_the_reward_shift_of_one_class_is_its_mean():
    logps, reference = jnp.array([1.0, 3.0]), jnp.zeros(2)
    assert losses.bco_delta(logps, reference, jnp.array([True, True]), 0.5) == 1.0
    assert losses.bco_delta(logps[:0], reference[:0], jnp.zeros(0, bool), 0.5) == 0.0


def test_optimal_transport_does_not_see_the_order_of_the_batch():
    chosen, rejected, *reference = [jnp.float32(x) for x in PAIR]
    paired = losses.aot(chosen[::-1], rejected[::-1], *reference, 0.3)
    np.testing.assert_allclose(paired, losses.aot(chosen, rejected, *reference, 0.3), rtol=1e-6)
    unpaired = losses.aot_unpaired(chosen, rejected[::-1], reference[0], reference[1][::-1], 0.3)
    np.testing.assert_allclose(unpaired, losses.aot_unpaired(chosen, rejected, *reference, 0.3), rtol=1e-6)


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
@pytest.mark.parametrize("absent", [0.0, jnp.nan, -jnp.inf, 1e9])
def test_absent_rows_take_no_part_in_the_sort(name, absent):
    present = [jnp.float32(x) for x in PAIR]
    number = len(present[0])
    padded = [jnp.concatenate([jnp.full(1, absent), x, jnp.full(2, absent)]) for x in present]
    mask = jnp.array([0, *[1] * number, 0, 0])

    def total(pair, *rest):
        each = getattr(losses, name)(*pair, 0.3, 0.1, *rest)
        return each.sum(), each

    (_, alone), expected = jax.value_and_grad(total, has_aux=True)(present)
    (_, each), gradient = jax.value_and_grad(total, has_aux=True)(padded, mask)
    np.testing.assert_allclose(each, [*alone, 0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose([g[1:-2] for g in gradient], expected, rtol=1e-6)
    assert not any(g[:1].any() or g[-2:].any() for g in gradient)


def test_ipo_wants_both_lengths():
    with pytest.raises(ValueError, match="chosen_lengths and rejected_lengths"):
        losses.ipo(*PAIR, 0.1, chosen_lengths=LENGTHS[0])


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(AssertionError):
        losses.dpo(jnp.zeros(3), jnp.zeros((3, 1)), jnp.zeros(3), jnp.zeros(3), 0.1)


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("ipo", (0.1, np.ones((3, 1)), np.ones((3, 1)))),
        ("ipo", (0.1, np.ones(3), np.ones((3, 1)))),
        ("sppo", (0.1, np.ones((3, 1)))),
    ],
)
def test_columns_that_would_broadcast_are_refused(name, extra):
    with pytest.raises(AssertionError, match="shape"):
        getattr(losses, name)(*[jnp.zeros(3)] * 4, *extra)


@pytest.mark.parametrize("nll", [np.ones((3, 1), np.float32), np.ones(3, int), 1.0])
def test_orpo_wants_a_float_per_completion(nll):
    with pytest.raises(AssertionError):
        losses.orpo(-jnp.ones(3), -jnp.ones(3), nll, 0.1)


def test_a_margin_is_one_or_one_per_pair():
    np.testing.assert_array_equal(
        losses.bradley_terry(jnp.ones(3), jnp.ones(3), jnp.ones(3)), losses.bradley_terry(jnp.ones(3), jnp.ones(3), 1.0)
    )
    with pytest.raises(AssertionError, match="shape"):
        losses.bradley_terry(jnp.ones(3), jnp.ones(3), jnp.ones((3, 1)))


@pytest.mark.parametrize("smoothing", [0.5, 0.7])
def test_robust_dpo_refuses_half_of_the_labels_flipped(smoothing):
    with pytest.raises(ValueError, match=f"label_smoothing must be below 1/2, got {smoothing}"):
        losses.robust_dpo(*PAIR, 0.1, smoothing)


def test_adaptive_kl_refuses_a_target_of_0():
    with pytest.raises(ValueError, match="target_kl must be positive, got 0"):
        losses.adaptive_kl(1.0, 0.0, 0.0, 100)


def test_adaptive_kl_holds_its_target_on_a_policy_whose_kl_falls_with_beta():
    def step(_, beta):
        return losses.adaptive_kl(beta, kl=3.0 / beta, target_kl=6.0, num_samples=100, horizon=1000.0)

    beta = jax.lax.fori_loop(0, 2000, step, jnp.float32(1.0))
    assert beta == pytest.approx(0.5, rel=0.02)
    assert losses.adaptive_kl(1.0, kl=1e9, target_kl=1.0, num_samples=100, horizon=1000.0) == pytest.approx(1.02)


def test_strengths_are_the_maximum_of_the_likelihood():
    wins = np.random.default_rng(3).integers(0, 9, (6, 6)).astype(float)
    np.fill_diagonal(wins, 0)

    def negative(theta, prior=0.0):
        pairs = -(wins * np.log(sigmoid(theta[:, None] - theta))).sum()
        return pairs - prior * (np.log(sigmoid(theta)) + np.log(sigmoid(-theta))).sum()

    best = minimize(negative, np.zeros(6), tol=1e-12).x
    found = losses.bradley_terry_strengths(jnp.asarray(wins + 5 * np.eye(6)))
    np.testing.assert_allclose(found, best - best.mean(), atol=1e-4)
    best = minimize(lambda t: negative(t, 0.5), np.zeros(6), tol=1e-12).x
    np.testing.assert_allclose(losses.bradley_terry_strengths(wins, prior=0.5), best, atol=1e-4)
    two = losses.bradley_terry_strengths(jnp.array([[0, 3], [1, 0]]))
    assert two[0] - two[1] == pytest.approx(np.log(3), abs=1e-5)


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_one_player_alone_has_the_strength_0(prior):
    assert losses.bradley_terry_strengths(jnp.zeros((1, 1)), prior).tolist() == [0.0]


def test_sequences_without_tokens_have_no_log_probabilities():
    logits, tokens = jnp.zeros((2, 0, 3)), jnp.zeros((2, 0), int)
    assert losses.token_log_probs(logits, tokens, tokens).shape == (2, 0)
    assert losses.sequence_log_probs(logits, tokens, tokens).tolist() == [0.0, 0.0]


def test_strengths_keep_the_dtype_of_the_wins_beside_a_wider_prior():
    with jax.enable_x64(True):
        wins = jnp.ones((2, 2), jnp.float32)
        assert losses.bradley_terry_strengths(wins, prior=jnp.float64(0.5)).dtype == jnp.float32


def test_strengths_that_do_not_exist_are_refused_or_kept_finite_by_a_prior():
    wins = np.array([[0, 2, 3], [0, 0, 1], [0, 1, 0]])
    with pytest.raises(ValueError, match="player 1 to player 0"):
        losses.bradley_terry_strengths(wins)
    theta = losses.bradley_terry_strengths(wins, prior=1.0)
    assert np.isfinite(theta).all()
    assert theta[0] > theta[1]

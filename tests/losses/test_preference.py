"""Preference losses against float64 NumPy formulas, and mutations of their source that the same table must catch."""

import inspect
import types
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from purerl import losses
from purerl.losses import kl_control, preference, reward_modeling, sequence


# --- The formulas, float64, one completion or pair at a time in spirit: nothing here knows of jax ---------------------
def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def smoothed(z, eps):
    return -(1 - eps) * np.log(sigmoid(z)) - eps * np.log(sigmoid(-z))


def np_dpo(c, r, rc, rr, beta, eps=0.0):
    return smoothed(beta * (c - rc - r + rr), eps)


def np_robust(c, r, rc, rr, beta, eps):
    z = beta * (c - rc - r + rr)
    return (-(1 - eps) * np.log(sigmoid(z)) + eps * np.log(sigmoid(-z))) / (1 - 2 * eps)


def np_ipo_average(c, r, rc, rr, beta, n, m):
    return ((c - rc) / n - (r - rr) / m - 0.5 / beta) ** 2


def np_hinge(c, r, rc, rr, beta):
    return np.maximum(0, 1 - beta * (c - rc - r + rr))


def np_simpo(c, r, beta, gamma, eps):
    return smoothed(beta * (c - r) - gamma, eps)


def np_kto(p, ref, good, kl, beta, w_good, w_bad):
    v = np.where(good, sigmoid(beta * (p - ref - kl)), sigmoid(beta * (kl - p + ref)))
    return np.where(good, w_good, w_bad) * (1 - v)


def np_orpo(c, r, nll, beta):
    odds_c, odds_r = np.exp(c) / (1 - np.exp(c)), np.exp(r) / (1 - np.exp(r))
    return nll - beta * np.log(sigmoid(np.log(odds_c / odds_r)))


def np_sppo(c, r, rc, rr, beta, win_c=1.0, win_r=0.0):
    return (c - rc - (win_c - 0.5) / beta) ** 2 + (r - rr - (win_r - 0.5) / beta) ** 2


def np_plackett_luce(rewards, mask=None):
    out = np.zeros(rewards.shape[:-1])
    for index in np.ndindex(out.shape):
        row = rewards[index] if mask is None else rewards[index][mask[index] != 0]
        out[index] = -sum(np.log(np.exp(row[k]) / np.exp(row[k:]).sum()) for k in range(len(row)))
    return out


def np_list_dpo(p, q, beta, mask):
    return np_plackett_luce(beta * (p - q), mask)


def np_pairwise(rewards, mask):
    out = np.zeros(rewards.shape[:-1])
    for index in np.ndindex(out.shape):
        row = rewards[index][mask[index] != 0]
        pairs = [-np.log(sigmoid(row[i] - row[j])) for i in range(len(row)) for j in range(i + 1, len(row))]
        out[index] = np.mean(pairs) if pairs else 0.0
    return out


def np_segment(r1, r2, mu, m1, m2, e):
    p = np.exp((r1 * m1).sum(-1)) / (np.exp((r1 * m1).sum(-1)) + np.exp((r2 * m2).sum(-1)))
    q = 0.9 * p + 0.05 if e == 0.1 else p
    return -mu * np.log(q) - (1 - mu) * np.log(1 - q)


def np_sequence(logits, tokens, mask, reduction):
    out = np.zeros(len(tokens))
    for b, (row, labels, counted) in enumerate(zip(logits, tokens, mask)):
        terms = [row[t - 1][labels[t]] - np.log(np.exp(row[t - 1]).sum()) for t in range(1, len(labels)) if counted[t]]
        out[b] = sum(terms) / (max(len(terms), 1) if reduction == "mean" else 1)
    return out


def np_last_token(values, mask):
    return np.array([v[np.flatnonzero(m)[-1]] if m.any() else 0.0 for v, m in zip(values, mask)])


# --- The table ----------------------------------------------------------------------------------------------------
class Case(NamedTuple):
    name: str
    module: types.ModuleType
    arrays: tuple  # what the loss is differentiated by
    formula: Callable  # float64
    rest: tuple = ()  # further positional arguments
    frozen: tuple = ()  # positions in `arrays` through which no gradient may flow


RNG = np.random.default_rng(0)
PAIR = tuple(RNG.normal(-3.0, 2.0, (5, 4)).T)  # chosen, rejected and both under the reference
MEAN = tuple(-RNG.uniform(0.05, 3.0, (2, 5)))
GOOD = np.array([True, False, True, False, False])
LISTS = RNG.normal(size=(2, 3, 4))
PRESENT = np.array([[[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0]], [[0, 1, 0, 1], [0, 0, 1, 0], [1, 1, 0, 0]]])
SEGMENTS = tuple(RNG.normal(size=(2, 5, 3)))
STEPS = (np.array([[1, 1, 1], [1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]]), np.ones((5, 3)))
MU = np.array([1.0, 0.0, 0.5, 0.3, 1.0])
LENGTHS = (np.array([3, 1, 7, 2, 4]), np.array([2, 5, 1, 1, 4]))
LOGITS = RNG.normal(size=(6, 7, 5))
TOKENS = RNG.integers(0, 5, (6, 7))
COMPLETION = np.array(  # right padding, left padding, from token 0, one token at the end, all, none
    [[0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1], [1] * 7, [0] * 7]
)

CASES = [
    Case("dpo", preference, PAIR, np_dpo, (0.3,), (2, 3)),
    Case("dpo", preference, PAIR, np_dpo, (0.3, 0.2), (2, 3)),
    Case("robust_dpo", preference, PAIR, np_robust, (0.3, 0.2), (2, 3)),
    Case("hinge_dpo", preference, PAIR, np_hinge, (0.3,), (2, 3)),
    Case("ipo", preference, PAIR, lambda c, r, a, b, beta: (c - a - r + b - 0.5 / beta) ** 2, (0.3,), (2, 3)),
    Case("ipo", preference, PAIR, np_ipo_average, (0.3, *LENGTHS), (2, 3)),
    Case("kto", preference, PAIR[:2], np_kto, (GOOD, 0.4, 0.3, 1.5, 0.7), (1,)),
    Case("orpo", preference, (*MEAN, -MEAN[0]), np_orpo, (0.3,)),
    Case("simpo", preference, MEAN, np_simpo, (2.5, 0.8, 0.1)),
    Case("cpo", preference, PAIR[:2], lambda c, r, beta, eps: smoothed(beta * (c - r), eps), (0.3, 0.1)),
    Case("sppo", preference, PAIR, np_sppo, (0.3,), (2, 3)),
    Case("sppo", preference, PAIR, np_sppo, (0.3, 0.8, 0.4), (2, 3)),
    Case("plackett_luce_dpo", preference, (LISTS[0], LISTS[1]), np_list_dpo, (0.7, PRESENT[0]), (1,)),
    Case("bradley_terry", reward_modeling, PAIR[:2], lambda c, r, m, eps: smoothed(c - r - m, eps), (PAIR[2], 0.2)),
    Case("reward_centering", reward_modeling, PAIR[:2], lambda c, r: (c + r) ** 2),
    Case("plackett_luce", reward_modeling, (LISTS,), np_plackett_luce),
    Case("plackett_luce", reward_modeling, (LISTS,), np_plackett_luce, (PRESENT,)),
    Case("pairwise_ranking", reward_modeling, (LISTS,), np_pairwise, (PRESENT,)),
    Case("segment_preference", reward_modeling, SEGMENTS, np_segment, (MU, *STEPS, 0.0)),
    Case("segment_preference", reward_modeling, SEGMENTS, np_segment, (MU, *STEPS, 0.1)),
    Case("sequence_log_probs", sequence, (LOGITS,), np_sequence, (TOKENS, COMPLETION, "sum")),
    Case("sequence_log_probs", sequence, (LOGITS,), np_sequence, (TOKENS, COMPLETION, "mean")),
    Case("last_token", sequence, (LOGITS[..., 0],), np_last_token, (COMPLETION,)),
    Case("kl_penalized_reward", kl_control, PAIR[:3], lambda r, p, q, beta: r - beta * (p - q), (0.3,), (0, 1, 2)),
    Case("kl_regularized_optimum", kl_control, tuple(LISTS),
         lambda q, r, beta: np.log(np.exp(q + r / beta) / np.exp(q + r / beta).sum(-1, keepdims=True)), (0.5,)),
    Case("leave_one_out_advantages", kl_control, (LISTS,),
         lambda r: r - (r.sum(-1, keepdims=True) - r) / (r.shape[-1] - 1)),
]  # fmt: skip


def numeric_gradient(formula, arrays, position, weight):
    """d Σ weight · formula / d arrays[position], by central differences in float64."""
    gradient = np.zeros_like(arrays[position])
    for index in np.ndindex(gradient.shape):
        sides = []
        for step in (1e-5, -1e-5):
            moved = [np.array(a, np.float64) for a in arrays]
            moved[position][index] += step
            sides.append((weight * formula(*moved)).sum())
        gradient[index] = (sides[0] - sides[1]) / 2e-5
    return gradient


def check(case: Case, function: Callable) -> None:
    """Value and gradient of `function` are those of the case's formula."""
    expected = case.formula(*case.arrays, *case.rest)
    weight = np.random.default_rng(1).normal(size=expected.shape)
    arrays = [jnp.asarray(a, jnp.float32) for a in case.arrays]

    def total(*arrays):
        value = function(*arrays, *case.rest)
        return jnp.sum(weight.astype(np.float32) * value), value

    gradients, value = jax.jit(jax.grad(total, argnums=tuple(range(len(arrays))), has_aux=True))(*arrays)
    np.testing.assert_allclose(value, expected, rtol=2e-5, atol=1e-5)
    for i, gradient in enumerate(gradients):
        exact = numeric_gradient(lambda *a: case.formula(*a, *case.rest), case.arrays, i, weight)
        exact = np.zeros_like(exact) if i in case.frozen else exact
        np.testing.assert_allclose(gradient, exact, rtol=2e-4, atol=2e-5)


def check_all(name: str, function: Callable) -> None:
    """All the cases of one loss."""
    for case in CASES:
        if case.name == name:
            check(case, function)


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{c.name}" for i, c in enumerate(CASES)])
def test_value_and_gradient_are_those_of_the_formula(case):
    check(case, getattr(losses, case.name))


MUTATIONS = [  # module, function whose table rows must fail, source, replacement
    (sequence, "sequence_log_probs", 'if reduction == "sum":', 'if reduction == "mean":'),  # mean for sum
    (
        sequence,
        "sequence_log_probs",
        "jnp.where(counted, picked",
        "jnp.where(counted | True, picked",
    ),  # prompt, padding
    (sequence, "sequence_log_probs", "logits[..., :-1, :]", "logits[..., 1:, :]"),  # labels not shifted
    (sequence, "sequence_log_probs", "(mask != 0)[..., 1:]", "(mask != 0)[..., :-1]"),  # mask not shifted
    (sequence, "sequence_log_probs", "sequence_lengths(mask), 1)", "mask.shape[-1], 1)"),  # mean over padding
    (sequence, "last_token", "jnp.where(mask != 0, position, -1)", "position"),  # read at the last column
    (preference, "dpo", "logistic_loss(beta * h", "logistic_loss(-beta * h"),  # pair swapped
    (preference, "dpo", "(chosen - ref_chosen) - (rejected - ref_rejected)", "chosen - rejected"),  # reference ignored
    (preference, "dpo", "jax.lax.stop_gradient(reference)", "reference"),  # gradient into the reference
    (preference, "robust_dpo", "right - label_smoothing * wrong", "right + label_smoothing * wrong"),  # cDPO instead
    (preference, "ipo", "1 / (2 * beta))", "1 / beta)"),
    (preference, "ipo", "chosen_logps / chosen_length", "chosen_logps / rejected_length"),
    (preference, "kto", "(desirable != 0, gain, loss)", "(desirable != 0, loss, gain)"),
    (preference, "kto", "gain = desirable_weight", "gain = undesirable_weight"),  # weights swapped
    (preference, "orpo", "-jnp.expm1(", "jnp.exp("),  # log probability for log odds
    (preference, "simpo", "(chosen - rejected) - gamma", "(chosen - rejected - gamma)"),  # gamma inside beta
    (preference, "sppo", "(rejected_win_rate - 0.5)", "(0.5 - rejected_win_rate)"),
    (reward_modeling, "bradley_terry", "- rejected - margin", "- rejected + margin"),
    (reward_modeling, "plackett_luce", "reverse=True", "reverse=False"),  # ranked worst to best
    (reward_modeling, "segment_preference", "jnp.where(jnp.asarray(mask) != 0, rewards, 0.0)", "rewards"),
    (reward_modeling, "segment_preference", "jnp.asarray(error_rate) / 2", "jnp.asarray(error_rate)"),
    (kl_control, "kl_penalized_reward", "log_prob - ref_log_prob", "ref_log_prob - log_prob"),  # KL direction
    (kl_control, "leave_one_out_advantages", "jnp.mean(rewards, axis=-1, keepdims=True)", "jnp.mean(rewards)"),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[f"{i}-{m[1]}" for i, m in enumerate(MUTATIONS)])
def test_the_table_catches_a_classic_mistake(mutation):
    module, name, old, new = mutation
    source = inspect.getsource(module)
    assert old in source, "the mutation no longer applies"
    mutant = types.ModuleType(module.__name__)
    mutant.__package__ = module.__package__
    exec(compile(source.replace(old, new), module.__name__, "exec"), mutant.__dict__)
    with pytest.raises(AssertionError):
        check_all(name, getattr(mutant, name))


EXTREME = {
    "dpo": (0.5,), "robust_dpo": (0.5, 0.1), "hinge_dpo": (0.5,), "ipo": (0.5,), "sppo": (0.5,),
    "bradley_terry": (0.0, 0.1), "simpo": (2.0, 1.0), "cpo": (0.5,), "orpo": (jnp.ones(4), 0.5),
    "kto": (jnp.array([1, 0, 1, 0]), 3.0, 0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", EXTREME)
def test_losses_and_gradients_are_finite_at_differences_of_2000(name):
    chosen, rejected = jnp.array([0.0, -2000.0, 0.0, -2000.0]), jnp.array([-2000.0, 0.0, 0.0, -2000.0])
    reference = (jnp.zeros(4), jnp.zeros(4)) if name in ("dpo", "robust_dpo", "hinge_dpo", "ipo", "sppo") else ()

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


def test_ipo_wants_both_lengths():
    with pytest.raises(ValueError, match="chosen_lengths and rejected_lengths"):
        losses.ipo(*PAIR, 0.1, chosen_lengths=LENGTHS[0])


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(AssertionError):
        losses.dpo(jnp.zeros(3), jnp.zeros((3, 1)), jnp.zeros(3), jnp.zeros(3), 0.1)


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


def test_strengths_that_do_not_exist_are_refused_or_kept_finite_by_a_prior():
    wins = np.array([[0, 2, 3], [0, 0, 1], [0, 1, 0]])
    with pytest.raises(ValueError, match="player 1 to player 0"):
        losses.bradley_terry_strengths(wins)
    theta = losses.bradley_terry_strengths(wins, prior=1.0)
    assert np.isfinite(theta).all()
    assert theta[0] > theta[1]

"""Preference losses: a table of float64 NumPy formulas, and what values and gradients must agree with."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from checking import QUICK


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


def np_exo(c, r, rc, rr, beta, eps):
    p = sigmoid(beta * (c - rc - r + rr))
    return p * np.log(p / (1 - eps)) + (1 - p) * np.log((1 - p) / eps)


def np_discopop(c, r, rc, rr, beta, tau):
    z = beta * (c - rc - r + rr)
    w = sigmoid(z / tau)
    return (1 - w) * -np.log(sigmoid(z)) + w * np.exp(-z)


def np_nca(c, r, rc, rr, beta):
    good, bad = beta * (c - rc), beta * (r - rr)
    return -np.log(sigmoid(good)) - 0.5 * np.log(sigmoid(-good)) - 0.5 * np.log(sigmoid(-bad))


def np_apo_zero(c, r, rc, rr, beta):
    return 1 - sigmoid(beta * (c - rc)) + sigmoid(beta * (r - rr))


def np_apo_down(c, r, rc, rr, beta):
    return sigmoid(beta * (c - rc)) + 1 - sigmoid(beta * (c - rc - r + rr))


def np_aot(c, r, rc, rr, beta, eps):
    return smoothed(beta * (np.sort(c - r) - np.sort(rc - rr)), eps)


def np_aot_unpaired(c, r, rc, rr, beta, eps):
    return smoothed(beta * (np.sort(c - rc) - np.sort(r - rr)), eps)


def np_bco(p, ref, good, delta, beta, w_good, w_bad):
    logit = beta * (p - ref) - delta
    return -np.where(good, w_good * np.log(sigmoid(logit)), w_bad * np.log(1 - sigmoid(logit)))


def np_bco_delta(p, ref, good, beta):
    reward = beta * (p - ref)
    return np.array((reward[good].mean() + reward[~good].mean()) / 2)


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
    Case("dpo", PAIR, np_dpo, (0.3,), (2, 3)),
    Case("dpo", PAIR, np_dpo, (0.3, 0.2), (2, 3)),
    Case("robust_dpo", PAIR, np_robust, (0.3, 0.2), (2, 3)),
    Case("hinge_dpo", PAIR, np_hinge, (0.3,), (2, 3)),
    Case("ipo", PAIR, lambda c, r, a, b, beta: (c - a - r + b - 0.5 / beta) ** 2, (0.3,), (2, 3)),
    Case("ipo", PAIR, np_ipo_average, (0.3, *LENGTHS), (2, 3)),
    Case("kto", PAIR[:2], np_kto, (GOOD, 0.4, 0.3, 1.5, 0.7), (1,)),
    Case("exo", PAIR, np_exo, (0.3, 0.05), (2, 3)),
    Case("discopop", PAIR, np_discopop, (0.3, 0.5), (2, 3)),
    Case("nca", PAIR, np_nca, (0.3,), (2, 3)),
    Case("apo_zero", PAIR, np_apo_zero, (0.3,), (2, 3)),
    Case("apo_down", PAIR, np_apo_down, (0.3,), (2, 3)),
    Case("aot", PAIR, np_aot, (0.3, 0.1), (2, 3)),
    Case("aot_unpaired", PAIR, np_aot_unpaired, (0.3, 0.1), (2, 3)),
    Case("bco", PAIR[:2], np_bco, (GOOD, 0.4, 0.3, 1.5, 0.7), (1,)),
    Case("bco_delta", PAIR[:2], np_bco_delta, (GOOD, 0.3), (0, 1)),
    Case("orpo", (*MEAN, -MEAN[0]), np_orpo, (0.3,)),
    Case("simpo", MEAN, np_simpo, (2.5, 0.8, 0.1)),
    Case("cpo", PAIR[:2], lambda c, r, beta, eps: smoothed(beta * (c - r), eps), (0.3, 0.1)),
    Case("sppo", PAIR, np_sppo, (0.3,), (2, 3)),
    Case("sppo", PAIR, np_sppo, (0.3, 0.8, 0.4), (2, 3)),
    Case("plackett_luce_dpo", (LISTS[0], LISTS[1]), np_list_dpo, (0.7, PRESENT[0]), (1,)),
    Case("bradley_terry", PAIR[:2], lambda c, r, m, eps: smoothed(c - r - m, eps), (PAIR[2], 0.2)),
    Case("reward_centering", PAIR[:2], lambda c, r: (c + r) ** 2),
    Case("plackett_luce", (LISTS,), np_plackett_luce),
    Case("plackett_luce", (LISTS,), np_plackett_luce, (PRESENT,)),
    Case("pairwise_ranking", (LISTS,), np_pairwise, (PRESENT,)),
    Case("segment_preference", SEGMENTS, np_segment, (MU, *STEPS, 0.0)),
    Case("segment_preference", SEGMENTS, np_segment, (MU, *STEPS, 0.1)),
    Case("sequence_log_probs", (LOGITS,), np_sequence, (TOKENS, COMPLETION, "sum")),
    Case("sequence_log_probs", (LOGITS,), np_sequence, (TOKENS, COMPLETION, "mean")),
    Case("last_token", (LOGITS[..., 0],), np_last_token, (COMPLETION,)),
    Case("kl_penalized_reward", PAIR[:3], lambda r, p, q, beta: r - beta * (p - q), (0.3,), (0, 1, 2)),
    Case("kl_regularized_optimum", tuple(LISTS),
         lambda q, r, beta: np.log(np.exp(q + r / beta) / np.exp(q + r / beta).sum(-1, keepdims=True)), (0.5,)),
    Case("leave_one_out_advantages", (LISTS,),
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

    gradient_and_value = jax.grad(total, argnums=tuple(range(len(arrays))), has_aux=True)
    gradients, value = jax.jit(gradient_and_value, compiler_options=QUICK)(*arrays)
    np.testing.assert_allclose(value, expected, rtol=2e-5, atol=1e-5)
    for i, gradient in enumerate(gradients):
        exact = numeric_gradient(lambda *a: case.formula(*a, *case.rest), case.arrays, i, weight)
        exact = np.zeros_like(exact) if i in case.frozen else exact
        np.testing.assert_allclose(gradient, exact, rtol=2e-4, atol=2e-5)


def check_all(name: str, module: Any) -> None:
    """All the cases of one loss of a module."""
    for case in CASES:
        if case.name == name:
            check(case, getattr(module, name))

"""Every loss but those of preference: oracles in both precisions, finite differences, rlax, the cost of importing."""

import subprocess
import sys

import checks_losses
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
from checking import arr, close, gradient_agrees, precision, precisions

from purerl import losses

CHECKS = [check for name, check in vars(checks_losses).items() if name.startswith("check_")]


@pytest.mark.parametrize("dtype", precisions())
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_oracle(check, dtype):
    with precision(dtype), jax.numpy_rank_promotion("raise"):
        check(losses)


ACTION = np.array([0, 2, 1, 2], np.int32)
TAUS = (np.arange(5) + 0.5) / 5
# function, shapes of its arguments, those it differentiates; the rest is stopped and held to 0 by the oracle checks.
SMOOTH = {
    "action_value": (lambda q: losses.action_value(q, ACTION), [(4, 3)], [0]),
    "td_error": (losses.td_error, [(4,)] * 2, [0]),
    "categorical_projection": (
        lambda y, p: losses.categorical_projection(y, p, jnp.linspace(-3, 3, 7)), [(2, 5)] * 2, [0, 1],
    ),
    "quantile_huber": (lambda q, y: losses.quantile_huber(q, jnp.asarray(TAUS), y, 0.7), [(2, 5), (2, 4)], [0]),
    "reinforce": (losses.reinforce, [(4,)] * 2, [0]),
    "clipped_surrogate": (lambda *a: losses.clipped_surrogate(*a, 0.2, 0.3), [(9,)] * 3, [0]),
    "clipped_value": (lambda *a: losses.clipped_value(*a, 0.4), [(9,)] * 3, [0]),
    "kl_penalized_surrogate": (lambda *a: losses.kl_penalized_surrogate(*a, 0.7), [(4,)] * 4, [0, 3]),
    "normalize": (losses.normalize, [(4, 3)], [0]),
    "normalize_masked": (lambda x: losses.normalize(x, jnp.arange(12).reshape(4, 3) % 3), [(4, 3)], [0]),
    "kl_estimate_k1": (lambda *a: losses.kl_estimate(*a, "k1"), [(4,)] * 2, [0, 1]),
    "kl_estimate_k2": (lambda *a: losses.kl_estimate(*a, "k2"), [(4,)] * 2, [0, 1]),
    "kl_estimate_k3": (losses.kl_estimate, [(4,)] * 2, [0, 1]),
    "categorical_entropy": (losses.categorical_entropy, [(4, 3)], [0]),
    "gaussian_entropy": (losses.gaussian_entropy, [(4, 3)], [0]),
    "categorical_kl": (losses.categorical_kl, [(4, 3)] * 2, [0, 1]),
    "gaussian_kl": (losses.gaussian_kl, [(4, 3)] * 4, [0, 1, 2, 3]),
    "grpo": (lambda *a: losses.grpo(*a, 0.2, 0.5), [(2, 4)] * 3 + [(2,)], [0]),
    "aggregate_grpo": (lambda x: losses.aggregate_tokens(x, jnp.arange(8).reshape(2, 4) % 3), [(2, 4)], [0]),
    "aggregate_dapo": (lambda x: losses.aggregate_tokens(x, jnp.arange(8).reshape(2, 4) % 3, "dapo"), [(2, 4)], [0]),
}  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_is_that_of_finite_differences(name):
    function, shapes, indices = SMOOTH[name]
    rng = np.random.default_rng(1)
    with precision("float64"):
        gradient_agrees(function, [rng.normal(size=shape) for shape in shapes], indices)


# --- rlax -------------------------------------------------------------------------------------------------------------


def rows(function, *arrays):
    return np.asarray(jax.jit(jax.vmap(function))(*arrays))


def test_rlax_agrees_on_values():
    """rlax returns TD errors, target − q[a], of one transition; a target here is its error with q = 0."""
    rng = np.random.default_rng(0)
    with precision("float64"):
        q, next_q, selector = (arr(x) for x in rng.normal(size=(3, 4, 3)))
        reward, discount, temperature = arr(rng.normal(size=4)), arr([0.9, 0, 0.5, 1]), 0.7
        probs, action = arr(rng.dirichlet(np.ones(3), size=4)), jnp.asarray(ACTION)
        taken = np.asarray(losses.action_value(q, action))
        args = (q, action, reward, discount, next_q)
        close(losses.q_learning_target(reward, discount, next_q) - taken, rows(rlax.q_learning, *args))
        close(losses.sarsa_target(reward, discount, next_q, action) - taken, rows(rlax.sarsa, *args, action))
        expected = losses.expected_sarsa_target(reward, discount, next_q, probs)
        close(expected - taken, rows(rlax.expected_sarsa, *args, probs))
        double = losses.double_q_target(reward, discount, selector, next_q)
        close(double - taken, rows(rlax.double_q_learning, *args, selector))
        value = losses.td_error(taken, losses.td_target(reward, discount, next_q[:, 0]))
        close(value, rows(rlax.td_learning, arr(taken), reward, discount, next_q[:, 0]))
        soft = temperature * jax.nn.logsumexp(next_q / temperature, axis=-1)
        target = losses.soft_q_target(reward, discount, next_q, temperature)
        close(target - taken, rows(rlax.td_learning, arr(taken), reward, discount, soft))


def test_rlax_agrees_on_distributions():
    """rlax projects one row; its quantile loss sums over its own quantiles and averages over targets, and divides by κ
    no more than ours at κ = 1, where both agree; it has no κ = 0 but by another branch."""
    rng = np.random.default_rng(1)
    with precision("float64"):
        support, target = arr(np.linspace(-2, 2, 9)), arr(rng.normal(size=(4, 6)) * 2)
        target = jnp.sort(target, axis=-1)
        probs = arr(rng.dirichlet(np.ones(6), size=4))
        expected = rows(lambda y, p: rlax.categorical_l2_project(y, p, support), target, probs)
        close(losses.categorical_projection(target, probs, support), expected)
        quantiles, targets = arr(rng.normal(size=(4, 5))), arr(rng.normal(size=(4, 3)))
        for kappa in (0.0, 1.0):
            expected = rows(lambda q, y, k=kappa: rlax.quantile_regression_loss(q, arr(TAUS), y, k), quantiles, targets)
            close(losses.quantile_huber(quantiles, arr(TAUS), targets, kappa), expected)


def test_rlax_agrees_on_policy_gradients():
    """rlax averages over a batch, takes logits or ratios in place of log-probabilities, and weights each row."""
    rng = np.random.default_rng(2)
    with precision("float64"):
        logits, other = (arr(x) for x in rng.normal(size=(2, 4, 3)))
        advantage, weight, action = arr(rng.normal(size=4)), jnp.ones(4), jnp.asarray(ACTION)
        log_prob = losses.action_value(jax.nn.log_softmax(logits), action)
        old = losses.action_value(jax.nn.log_softmax(other), action)
        close(
            losses.reinforce(log_prob, advantage).mean(),
            rlax.policy_gradient_loss(logits, action, advantage, weight),
        )
        close(
            losses.clipped_surrogate(log_prob, old, advantage, 0.2).mean(),
            rlax.clipped_surrogate_pg_loss(jnp.exp(log_prob - old), advantage, 0.2),
        )
        close(-losses.categorical_entropy(logits).mean(), rlax.entropy_loss(logits, weight))
        close(losses.categorical_kl(logits, other), np.asarray(rlax.categorical_kl_divergence(logits, other)))
        mean, other_mean, std, other_std = (arr(x) for x in rng.normal(size=(4, 4, 3)))
        expected = rlax.multivariate_normal_kl_divergence(mean, jnp.exp(std), other_mean, jnp.exp(other_std))
        close(losses.gaussian_kl(mean, std, other_mean, other_std), np.asarray(expected), 10)


# --- refusals and weight ----------------------------------------------------------------------------------------------


def test_refusals_name_what_is_wrong():
    four, column, whole = jnp.zeros(4), jnp.zeros((4, 1)), jnp.zeros(4, jnp.int32)
    for function, args in (
        (losses.reinforce, (four, column)),
        (losses.clipped_surrogate, (four, four, column, 0.2)),
        (losses.clipped_value, (four, column, four, 0.2)),
        (losses.q_learning_target, (four, four, four)),
        (losses.double_q_target, (four, four, column, four)),
        (losses.td_error, (four, column)),
        (losses.quantile_huber, (column, four, column)),
        (losses.group_advantages, (whole,)),
        (losses.kl_estimate, (whole, whole)),
    ):
        with pytest.raises(AssertionError, match=r"shape|type"):
            function(*args)
    with pytest.raises(ValueError, match="kind = 'k4'"):
        losses.kl_estimate(four, four, "k4")
    with pytest.raises(ValueError, match="kind = 'mean'"):
        losses.aggregate_tokens(column, column, "mean")


@pytest.mark.parametrize("length", [0, -3])
def test_a_constant_divisor_that_is_not_positive_is_refused(length):
    column = jnp.ones((2, 4))
    with pytest.raises(ValueError, match=f"max_length = {length} must be positive"):
        losses.aggregate_tokens(column, column, "dr_grpo", max_length=length)


WEIGH = """
import sys, time
import jax, chex, optax
start = time.process_time()
import purerl.losses
print(time.process_time() - start, [m for m in ("flax", "distrax", "gymnax", "matplotlib", "rlax") if m in sys.modules])
"""


def test_importing_the_losses_costs_nothing_beside_jax_chex_and_optax():
    """At most 50 ms of CPU after jax, chex and optax, in the best of three processes; no framework comes along."""
    outputs = []
    for _ in range(3):
        out = subprocess.run([sys.executable, "-c", WEIGH], capture_output=True, text=True, check=True).stdout
        outputs.append(out.split(" ", 1))
        if float(outputs[-1][0]) < 0.05:
            break
    assert min(float(seconds) for seconds, _ in outputs) < 0.05
    assert all(modules.strip() == "[]" for _, modules in outputs)

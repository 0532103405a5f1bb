"""The two forms of the backward recursion, one for CPUs and one for accelerators, are the same function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import returns
from purerl.returns import recursion

T, N = 23, 3
RNG = np.random.default_rng(0)
REWARD, VALUE, NEXT_VALUE, LOG_RHO = (jnp.asarray(RNG.normal(size=(T, N)), jnp.float32) for _ in range(4))
TERMINATED, TRUNCATED = (jnp.asarray(RNG.random((T, N)) < 0.15) for _ in range(2))
DISCOUNT = 0.95 * (1.0 - TERMINATED)
DECAY = 0.9 * (1.0 - (TERMINATED | TRUNCATED))
ESTIMATORS = {
    "reward_to_go": lambda r, d, v, w, k, p: returns.reward_to_go(r, d),
    "whole_returns": lambda r, d, v, w, k, p: returns.whole_returns(r, d),
    "lambda_returns": lambda r, d, v, w, k, p: returns.lambda_returns(r, d, w, k),
    "gae": lambda r, d, v, w, k, p: returns.gae(r, d, v, w, k),
    "vtrace": lambda r, d, v, w, k, p: returns.vtrace(r, d, v, w, k, p)[0],
    "retrace": lambda r, d, v, w, k, p: returns.retrace(r, d, v, w, k),
    "importance": lambda r, d, v, w, k, p: returns.per_decision_importance_sampling(r, d, p),
}


@pytest.fixture(params=ESTIMATORS)
def both(request, monkeypatch):
    """An estimator, and the same estimator by the associative form."""

    def associative(*arrays):
        with monkeypatch.context() as patch:
            for module in (returns.estimators, returns.off_policy):
                patch.setattr(module, "backward_scan", recursion._associative)
            return ESTIMATORS[request.param](*arrays)

    return jax.jit(ESTIMATORS[request.param]), jax.jit(associative)


def test_values_agree(both):
    arrays = REWARD, DISCOUNT, VALUE, NEXT_VALUE, DECAY, LOG_RHO
    np.testing.assert_allclose(both[0](*arrays), both[1](*arrays), rtol=2e-5, atol=2e-5)


def test_gradients_agree(both):
    arrays = REWARD, DISCOUNT, VALUE, NEXT_VALUE, DECAY, LOG_RHO
    weight = jnp.asarray(RNG.normal(size=(T, N)), jnp.float32)
    gradients = [jax.jit(jax.grad(lambda *x, f=f: jnp.sum(f(*x) * weight), tuple(range(6))))(*arrays) for f in both]
    for ours, theirs in zip(*gradients):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-4)


def test_nan_behind_a_cut_stays_there(both):
    spoilt = jnp.where(TERMINATED, jnp.nan, NEXT_VALUE)
    arrays = REWARD, DISCOUNT, VALUE, spoilt, DECAY, LOG_RHO
    expected = np.asarray(both[0](*arrays))
    np.testing.assert_allclose(both[1](*arrays), expected, rtol=2e-5, atol=2e-5)


def test_the_platform_chooses():
    text = jax.jit(returns.gae).trace(REWARD, DISCOUNT, VALUE, NEXT_VALUE, DECAY)
    loops = {
        name: text.lower(lowering_platforms=(name,)).as_text().count("stablehlo.while") for name in ("cpu", "cuda")
    }
    assert loops == {"cpu": 1, "cuda": 0}

"""CMA-ES: generations against the tutorial's equations in float64, a rotated ellipsoid, and what a policy learns."""

import jax
import jax.numpy as jnp
import numpy as np
import probing
import pytest

import purerl
from purerl import envs, loops, networks
from purerl.agents import cma_es
from purerl.types import Transition

SIZE, LAMBDA = 3, 8


def by_hand(m, sigma, C, pc, ps, x, fitness, g):
    """One generation as the tutorial's figure 6 and table 1 have it, in float64, with C^(−½) by its eigenvectors."""
    n, lam = SIZE, LAMBDA
    mu = lam // 2
    w = np.array([np.log((lam + 1) / 2) - np.log(i) for i in range(1, mu + 1)])
    w /= w.sum()
    mueff = 1 / (w**2).sum()
    csigma = (mueff + 2) / (n + mueff + 5)
    dsigma = 1 + 2 * max(0, np.sqrt((mueff - 1) / (n + 1)) - 1) + csigma
    cc = (4 + mueff / n) / (n + 4 + 2 * mueff / n)
    c1 = 2 / ((n + 1.3) ** 2 + mueff)
    cmu = min(1 - c1, 2 * (mueff - 2 + 1 / mueff) / ((n + 2) ** 2 + mueff))
    chi = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))
    best = sorted(range(lam), key=lambda i: -fitness[i])[:mu]
    y = [(x[i] - m) / sigma for i in best]
    yw = sum(wi * yi for wi, yi in zip(w, y))
    values, vectors = np.linalg.eigh(C)
    ps = (1 - csigma) * ps + np.sqrt(csigma * (2 - csigma) * mueff) * (vectors / np.sqrt(values)) @ vectors.T @ yw
    norm = np.linalg.norm(ps)
    hsig = float(norm / np.sqrt(1 - (1 - csigma) ** (2 * (g + 1))) < (1.4 + 2 / (n + 1)) * chi)
    pc = (1 - cc) * pc + hsig * np.sqrt(cc * (2 - cc) * mueff) * yw
    rank_mu = sum(wi * np.outer(yi, yi) for wi, yi in zip(w, y))
    C = (1 - c1 - cmu + (1 - hsig) * c1 * cc * (2 - cc)) * C + c1 * np.outer(pc, pc) + cmu * rank_mu
    return m + sigma * yw, sigma * np.exp(csigma / dsigma * (norm / chi - 1)), C, pc, ps


def test_generations_against_the_equations_of_the_tutorial():
    search = cma_es.start(jnp.array([1.0, -0.5, 2.0]), 0.4)
    expected = (np.array([1.0, -0.5, 2.0]), 0.4, np.eye(SIZE), np.zeros(SIZE), np.zeros(SIZE))
    ask, tell = jax.jit(jax.vmap(cma_es.ask, (0, None))), jax.jit(cma_es.tell)
    for generation in range(6):
        x = ask(jax.random.split(jax.random.key(generation), LAMBDA), search)
        fitness = -(x**2) @ jnp.array([1.0, 30.0, 5.0])
        if generation == 3:
            fitness = fitness.at[2].set(jnp.nan)  # the worst
        search = tell(search, x, fitness, jnp.int32(generation))
        ranked = np.nan_to_num(np.asarray(fitness, float), nan=-np.inf)
        expected = by_hand(*expected, np.asarray(x, float), ranked, generation)
        found = search.mean, search.std, search.covariance, search.path, search.std_path
        for ours, theirs in zip(found, expected):
            np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(search.root @ search.root, search.covariance, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(search.root @ search.inverse_root, np.eye(SIZE), atol=1e-3)


def test_candidates_have_the_covariance_of_the_search():
    search = cma_es.start(jnp.array([1.0, 2.0]), 0.5)
    root = np.array([[2.0, 0.7], [0.7, 0.5]])
    search = search._replace(root=jnp.asarray(root, jnp.float32))
    x = np.asarray(jax.vmap(cma_es.ask, (0, None))(jax.random.split(jax.random.key(0), 20_000), search))
    np.testing.assert_allclose(x.mean(0), [1.0, 2.0], atol=0.05)
    np.testing.assert_allclose(np.cov(x.T), 0.25 * root @ root, rtol=0.08, atol=0.02)


def test_it_finds_the_optimum_of_a_rotated_ellipsoid_with_several_seeds():
    """Axes differ by 1,000: without an adapted covariance 200 generations of 10 end far away."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    hessian = jnp.asarray(turn @ np.diag(10.0 ** np.linspace(0, 3, 6)) @ turn.T, jnp.float32)

    def run(key):
        def generation(search, xs):
            key, g = xs
            x = jax.vmap(cma_es.ask, (0, None))(jax.random.split(key, 10), search)
            return cma_es.tell(search, x, -jnp.einsum("nd,de,ne->n", x, hessian, x), g), ()

        steps = jax.random.split(key, 200), jnp.arange(200)
        return jax.lax.scan(generation, cma_es.start(jnp.full(6, 3.0), 1.0), steps)[0]

    found = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(1), 5)).mean
    assert (jnp.einsum("nd,de,ne->n", found, hessian, found) < 1e-4).all()


def test_what_it_refuses():
    agent = purerl.cma_es(networks.actor_critic(envs.probe(), hidden=()))
    state = agent.init(jax.random.key(0), purerl.CMAESHparams(), jnp.zeros(1))
    memory = jax.vmap(agent.memory, (0, None))(jax.random.split(jax.random.key(1), 3), state)
    ones, never = jnp.ones((1, 3)), jnp.zeros((1, 3), bool)
    data = Transition((), (), ones, never, never, (), memory=memory, mask=ones)
    with pytest.raises(ValueError, match="num_envs = 3: CMA-ES needs at least four candidates"):
        agent.update(jax.random.key(0), state, data)
    with pytest.raises(ValueError, match="cma_es needs whole episodes"):
        agent.update(jax.random.key(0), state, data._replace(mask=()))


@pytest.mark.slow
def test_the_best_actions_of_the_probes_with_every_seed():
    env = envs.probe()
    agent = purerl.cma_es(networks.actor_critic(env, hidden=(4,), shared_torso=True))
    sizes = {"num_updates": 40, "num_envs": 16, "rollout_length": 2, "rollout": loops.rollout_episodes}
    probing.check_actions(agent, probing.learn(agent, env, purerl.CMAESHparams(), **sizes))

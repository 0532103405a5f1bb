"""CMA-ES: evolution of a policy's parameters whose search distribution adapts its covariance.

Train with `rollout=purerl.loops.rollout_episodes`. The search itself is `ask` and `tell`, two pure functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from purerl.agents.common import counts, network_checks, plug_ins, trajectories
from purerl.hparams import NonNegative
from purerl.once import build_once
from purerl.types import Agent, Key, Metrics, Network, Params, PyTree, Requirements, Transition


class CMAESHparams(NamedTuple):
    """Hyperparameters of CMA-ES; its rates follow from the number of parameters and of environments.

    Attributes:
      noise_std: σ at the start, the standard deviation of every parameter.
    """

    noise_std: NonNegative = 0.5


class Search(NamedTuple):
    """The search distribution N(mean, σ² C) over vectors [D].

    Attributes:
      mean: [D].
      std: σ, the size of steps.
      covariance: C, [D, D].
      root, inverse_root: C^½ and C^(−½), the symmetric ones, [D, D].
      path, std_path: evolution paths p_c and p_σ, [D].
    """

    mean: jax.Array
    std: jax.Array
    covariance: jax.Array
    root: jax.Array
    inverse_root: jax.Array
    path: jax.Array
    std_path: jax.Array


class CMAESState(NamedTuple):
    """State of CMA-ES.

    Attributes:
      params: the parameters of the network at the mean of the search.
      search: the search distribution.
      hparams: the hyperparameters.
      num_updates: int32, generations.
    """

    params: Params
    search: Search
    hparams: CMAESHparams
    num_updates: jax.Array


class Candidate(NamedTuple):
    """The memory of one environment: the candidate as one vector [D], and the parameters that play there."""

    point: jax.Array
    params: Params


@build_once
def cma_es(network: Network) -> Agent:
    """CMA-ES over the parameters of a policy: each environment plays one episode with a candidate of its own.

        x_i = m + σ C^½ z_i,   z_i ~ N(0, I)

    The μ = ⌊N/2⌋ candidates of the largest return, with weights that fall with the logarithm of the rank, move the mean
    m, the step size σ (by the length of its evolution path) and the covariance C (by the rank-one and the rank-μ
    update); see `tell`. The return is undiscounted and the policy takes its greedy action. C is full and decomposed
    after every generation, in O(D³): for networks of some hundreds of parameters.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> (distribution, value)`; the value is ignored, but its
        parameters are part of the search.

    Returns:
      An agent with `CMAESHparams`, or any NamedTuple with the field used.

    Raises:
      TypeError: a network with memory.
      ValueError: in `update`, a trajectory without a mask, whose episodes may be cut; fewer than four environments.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe()
      >>> agent = purerl.cma_es(purerl.networks.actor_critic(env, hidden=(), shared_torso=True))
      >>> sizes = dict(num_updates=3, num_envs=4, rollout_length=4, rollout=purerl.loops.rollout_episodes)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.CMAESHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["fitness_max"].shape
      (3,)

    Source: Hansen 2016, "The CMA evolution strategy: a tutorial", arXiv:1604.00772, figure 6 and table 1, without
    negative weights.
    """
    network_checks.refuse_memory(network, "cma_es", "carries a candidate from step to step")
    return Agent(
        functools.partial(_init, network),
        functools.partial(_act, network),
        _update,
        _memory,
        Requirements(data="episodes"),
    )


def start(mean: jax.Array, std: jax.Array | float) -> Search:
    """The search distribution N(mean, std² I)."""
    size = mean.size
    zeros, eye = jnp.zeros(size, mean.dtype), jnp.eye(size, dtype=mean.dtype)
    return Search(mean, jnp.asarray(std, mean.dtype), eye, eye, eye, zeros, zeros)


def ask(key: Key, search: Search) -> jax.Array:
    """One candidate [D] of the search distribution; vmap it over keys.

    Examples:
      >>> ask(jax.random.key(0), start(jnp.zeros(3), 0.5)).shape
      (3,)
    """
    z = jax.random.normal(key, search.mean.shape, search.mean.dtype)
    return search.mean + search.std * (search.root @ z)


def tell(search: Search, candidates: jax.Array, fitness: jax.Array, generation: jax.Array | int) -> Search:
    """The search distribution after a generation.

    With y_k = (x_k − m) / σ of the k-th best candidate, weights w_k ∝ ln(μ + ½) − ln k for the μ best, ȳ = Σ w_k y_k
    and the constants of the source's table 1:

        m ← m + σ ȳ
        p_σ ← (1 − c_σ) p_σ + √(c_σ (2 − c_σ) μ_w) C^(−½) ȳ
        σ ← σ exp(c_σ / d_σ · (|p_σ| / E|N(0, I)| − 1))
        h = 1{|p_σ| / √(1 − (1 − c_σ)^{2 (g + 1)}) < (1.4 + 2 / (D + 1)) E|N(0, I)|}
        p_c ← (1 − c_c) p_c + h √(c_c (2 − c_c) μ_w) ȳ
        C ← (1 − c₁ − c_μ + (1 − h) c₁ c_c (2 − c_c)) C + c₁ p_c p_cᵀ + c_μ Σ w_k y_k y_kᵀ

    Args:
      search: that the candidates were drawn from.
      candidates: [N, D].
      fitness: [N], to be maximised; NaN is the worst.
      generation: g, from 0.

    Raises:
      ValueError: fewer than four candidates.

    Examples:
      >>> search = start(jnp.zeros(2), 0.5)
      >>> points = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
      >>> tell(search, points, points[:, 0], 0).mean[0] > 0
      Array(True, dtype=bool)
    """
    num_candidates, size = candidates.shape
    if num_candidates < 4:
        raise ValueError(f"num_envs = {num_candidates}: CMA-ES needs at least four candidates per generation")
    weights, rate = _rates(num_candidates, size)
    order = jnp.argsort(jnp.where(jnp.isnan(fitness), -jnp.inf, fitness), descending=True)[: len(weights)]
    tiny = jnp.finfo(candidates.dtype).tiny  # a search without noise stays where it is
    y = (candidates[order] - search.mean[None]) / jnp.maximum(search.std, tiny)  # [μ, D]
    step = jnp.asarray(weights, y.dtype) @ y  # [D]
    white = (rate.std * (2 - rate.std) * rate.mass) ** 0.5 * (search.inverse_root @ step)
    std_path = (1 - rate.std) * search.std_path + white
    length = jnp.linalg.norm(std_path)
    settled = length / jnp.sqrt(1 - (1 - rate.std) ** (2.0 * (generation + 1)))
    h = jnp.where(settled < (1.4 + 2 / (size + 1)) * rate.expected, 1.0, 0.0).astype(y.dtype)
    path = (1 - rate.path) * search.path + h * (rate.path * (2 - rate.path) * rate.mass) ** 0.5 * step
    kept = 1 - rate.one - rate.mu + (1 - h) * rate.one * rate.path * (2 - rate.path)
    covariance = kept * search.covariance + rate.one * jnp.outer(path, path)
    covariance = covariance + rate.mu * (y.T * jnp.asarray(weights, y.dtype)[None]) @ y
    # B diag(d²) Bᵀ; the roots do not depend on which B, unlike candidates m + σ B d ∘ z would
    squares, axes = jnp.linalg.eigh((covariance + covariance.T) / 2)
    scales = jnp.sqrt(jnp.maximum(squares, 1e-14))[None]  # [1, D]
    return Search(
        search.mean + search.std * step,
        search.std * jnp.exp(rate.std / rate.damping * (length / rate.expected - 1)),
        covariance,
        (axes * scales) @ axes.T,
        (axes / scales) @ axes.T,
        path,
        std_path,
    )


class _Rates(NamedTuple):
    """Constants of the source: c_σ, d_σ, c_c, c₁, c_μ, μ_w and E|N(0, I)|."""

    std: float
    damping: float
    path: float
    one: float
    mu: float
    mass: float
    expected: float


def _rates(num_candidates: int, size: int) -> tuple[np.ndarray, _Rates]:
    """The weights [μ] of the best candidates, and the constants, all of table 1."""
    half = num_candidates // 2
    weights = np.log((num_candidates + 1) / 2) - np.log(np.arange(1, half + 1))
    weights = weights / weights.sum()
    mass = float(1 / np.square(weights).sum())  # a Python number, so that float32 stays float32 under x64
    std = (mass + 2) / (size + mass + 5)
    damping = 1 + 2 * max(0.0, ((mass - 1) / (size + 1)) ** 0.5 - 1) + std
    path = (4 + mass / size) / (size + 4 + 2 * mass / size)
    one = 2 / ((size + 1.3) ** 2 + mass)
    mu = min(1 - one, 2 * (mass - 2 + 1 / mass) / ((size + 2) ** 2 + mass))
    expected = size**0.5 * (1 - 1 / (4 * size) + 1 / (21 * size**2))
    return weights, _Rates(std, damping, path, one, mu, mass, expected)


def _init(network: Network, key: Key, hparams: CMAESHparams, example: PyTree, num_envs: int = 1) -> CMAESState:
    params = plug_ins.init(network, key, example)
    return CMAESState(params, start(ravel_pytree(params)[0], hparams.noise_std), hparams, jnp.int32(0))


def _memory(key: Key | None, state: CMAESState) -> Candidate:
    """The candidate that plays one episode; the mean without a key."""
    point = state.search.mean if key is None else ask(key, state.search)
    return Candidate(point, _unraveled(state)(point))


def _unraveled(state: CMAESState) -> Callable[[jax.Array], Params]:
    return ravel_pytree(state.params)[1]


def _act(
    network: Network, key: Key | None, state: CMAESState, obs: PyTree, memory: Candidate
) -> tuple[PyTree, tuple[()], Candidate]:
    distribution = plug_ins.policy_of(network.apply(memory.params, obs))
    return distribution.mode(), (), memory


def _update(key: Key, state: CMAESState, data: Transition) -> tuple[CMAESState, Metrics]:
    """One generation from whole episodes [T, N]."""
    trajectories.require_episodes(data, "cma_es")
    trajectories.refuse_weight(data, "cma_es")
    fitness = trajectories.episode_rewards(data)  # [T, N] -> [N]
    search = tell(state.search, data.memory.point, fitness, state.num_updates)
    params = _unraveled(state)(search.mean)
    metrics = {
        "fitness_mean": fitness.mean(), "fitness_std": fitness.std(), "fitness_max": fitness.max(),
        "search_std": search.std * jnp.sqrt(jnp.diagonal(search.covariance).max()),
    }  # fmt: skip
    return CMAESState(params, search, state.hparams, counts.increment(state.num_updates)), metrics

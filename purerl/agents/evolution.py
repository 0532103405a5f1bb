"""Evolution strategies: the policy's parameters follow the fitness of perturbed copies, one per environment.

Train with `rollout=purerl.loops.rollout_episodes`.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from purerl.agents.common import counts, network_checks, optimization, plug_ins, trajectories
from purerl.hparams import AtLeastOne, NonNegative
from purerl.once import build_once
from purerl.types import Agent, Key, Metrics, Network, Params, PyTree, Requirements, TrainState, Transition


class EvolutionHparams(NamedTuple):
    """Hyperparameters of evolution strategies.

    Attributes:
      learning_rate: Adam's step size.
      noise_std: σ, standard deviation of the perturbations, above 0.
      weight_decay: λ, pulls the parameters to 0.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
    """

    learning_rate: NonNegative = 1e-2
    noise_std: NonNegative = 0.05
    weight_decay: NonNegative = 0.0
    anneal_updates: AtLeastOne = float("inf")

    def check(self) -> None:
        """Reject perturbations of size 0, which estimate no gradient.

        Raises:
          ValueError: `noise_std` is 0.
        """
        if np.any(np.asarray(self.noise_std) <= 0):
            raise ValueError(f"noise_std = {self.noise_std} must be above 0")


class Perturbation(NamedTuple):
    """The memory of one environment: ε as one vector [D], and the perturbed parameters that play there."""

    noise: jax.Array
    params: Params


@optimization.OnVector
def adam(hparams: EvolutionHparams) -> optax.GradientTransformation:
    """Adam on the estimate of the gradient; reads `learning_rate`."""
    return optax.adam(hparams.learning_rate)


class _Settings(NamedTuple):
    """The arguments of `evolution`."""

    network: Network
    antithetic: bool
    optimizer: optimization.Optimizer


@build_once
def evolution(network: Network, *, antithetic: bool = True, optimizer: optimization.Optimizer = adam) -> Agent:
    """OpenAI's evolution strategy: each environment plays one episode with its own perturbed parameters.

        θ_i = θ + σ ε_i,   ε_i ~ N(0, I),   ε_{i + N/2} = −ε_i
        θ ← θ + Adam(1/(N σ) Σ_i F_i ε_i − λ θ),   F_i = Σ_j sign(R_i − R_j) / (2 (N − 1))

    R_i is the undiscounted return of the episode. F is the rank of R_i brought to [−½, ½], the same for equal returns;
    NaN ranks last.
    The policy takes its greedy action, so the only noise is in the parameters; `evaluate(greedy=False)` plays perturbed
    copies.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> (distribution, value)`; the value is ignored.
      antithetic: the second half of the environments plays the mirror images of the first half's perturbations.
      optimizer: `hparams -> optax.GradientTransformation`. It sees the tree of parameters; the default, which treats
        all of them in the same way, one flat vector (see `optimization.OnVector`).

    Returns:
      An agent with `EvolutionHparams`, or any NamedTuple with the fields used.

    Raises:
      TypeError: a network with memory.
      ValueError: in `check_hparams`, no noise; in `update`, a trajectory without a mask, whose episodes may be cut;
        fewer than two environments, or an odd number of them with `antithetic`.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe()
      >>> agent = purerl.evolution(purerl.networks.actor_critic(env, hidden=(4,)))
      >>> sizes = dict(num_updates=3, num_envs=4, rollout_length=4, rollout=purerl.loops.rollout_episodes)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.EvolutionHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["fitness_mean"].shape
      (3,)

    Source: Salimans et al. 2017, arXiv:1703.03864, algorithm 1 and section 2.1; ties share their ranks here.
    """
    network_checks.refuse_memory(network, "evolution", "carries a candidate from step to step")
    settings = _Settings(network, antithetic, optimizer)
    return Agent(
        functools.partial(_init, settings),
        functools.partial(_act, settings),
        functools.partial(_update, settings),
        functools.partial(_memory, settings),
        Requirements(data="episodes"),
    )


def _init(settings: _Settings, key: Key, hparams: EvolutionHparams, example: PyTree, num_envs: int = 1) -> TrainState:
    return optimization.train_state(settings.optimizer, hparams, plug_ins.init(settings.network, key, example))


def _memory(settings: _Settings, key: Key | None, state: TrainState) -> Perturbation:
    """The parameters that play one episode: θ + σ ε, and θ itself without a key."""
    flat, unravel = ravel_pytree(state.params)  # [D]
    noise = jnp.zeros_like(flat) if key is None else (_mirrored if settings.antithetic else _normal)(key, flat)
    return Perturbation(noise, unravel((flat + state.hparams.noise_std * noise).astype(flat.dtype)))


def _act(
    settings: _Settings, key: Key | None, state: TrainState, obs: PyTree, memory: Perturbation
) -> tuple[PyTree, tuple[()], Perturbation]:
    distribution = plug_ins.policy_of(settings.network.apply(memory.params, obs))
    return distribution.mode(), (), memory


def _update(settings: _Settings, key: Key, state: TrainState, data: Transition) -> tuple[TrainState, Metrics]:
    """One step along the estimated gradient of the mean fitness of whole episodes [T, N]."""
    _check(data, settings.antithetic)
    hparams, noise = state.hparams, data.memory.noise  # [N, D]
    fitness = trajectories.episode_rewards(data)  # [T, N] -> [N]
    # 1/(N σ) Σ_i F_i ε_i
    ascent = shaped(fitness) @ noise / (len(fitness) * hparams.noise_std)  # [N] @ [N, D] -> [D]
    flat, unravel = ravel_pytree(state.params)
    descent = (hparams.weight_decay * flat - ascent).astype(flat.dtype)
    grads, _ = optimization.pack(settings.optimizer, unravel(descent))
    packed, unpack = optimization.pack(settings.optimizer, state.params)
    annealed = optimization.annealed(hparams, state.num_updates)
    packed, opt_state = optimization.apply_gradients(settings.optimizer, annealed, grads, packed, state.opt_state)
    metrics = {
        "fitness_mean": fitness.mean(), "fitness_std": fitness.std(), "fitness_max": fitness.max(),
        optimization.SKIPPED: optimization.skipped(grads),
    }  # fmt: skip
    return TrainState(unpack(packed), opt_state, hparams, counts.increment(state.num_updates)), metrics


def shaped(fitness: jax.Array) -> jax.Array:
    """Ranks [N] in [−½, ½], of mean 0 and the same for equal fitness: Σ_j sign(R_i − R_j) / (2 (N − 1)).

    NaN counts as −∞.
    """
    known = jnp.where(jnp.isnan(fitness), -jnp.inf, fitness)
    mine, other = known[:, None], known[None]
    sign = (mine > other).astype(fitness.dtype) - (mine < other)  # [N, N]; of infinities too
    return sign.sum(axis=1) / (2 * (len(fitness) - 1))


def _normal(key: Key, like: jax.Array) -> jax.Array:
    return jax.random.normal(key, like.shape, like.dtype)


@jax.custom_batching.custom_vmap
def _mirrored(key: Key, like: jax.Array) -> jax.Array:
    """ε of one environment. Over a vmapped axis of N environments the second half of them is minus the first half."""
    return _normal(key, like)


@_mirrored.def_vmap
def _mirrored_over_environments(
    axis_size: int, batched: list[bool], key: Key, like: jax.Array
) -> tuple[jax.Array, bool]:
    keys = key if batched[0] else jnp.broadcast_to(key, (axis_size,))
    likes = like if batched[1] else jnp.broadcast_to(like, (axis_size, *like.shape))
    half = jax.vmap(_normal)(keys[: (axis_size + 1) // 2], likes[: (axis_size + 1) // 2])
    return jnp.concatenate([half, -half])[:axis_size], True


def _check(data: Transition, antithetic: bool) -> None:
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    num_envs = data.reward.shape[1]
    trajectories.require_episodes(data, "evolution")
    trajectories.refuse_weight(data, "evolution")
    if num_envs < 2 or (antithetic and num_envs % 2):
        raise ValueError(f"num_envs = {num_envs} must be at least 2, and even if perturbations come in pairs")

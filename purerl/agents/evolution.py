"""Evolution strategies: the policy's parameters follow the fitness of perturbed copies, one an environment.

Train with `rollout=purerl.loops.rollout_episodes`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from purerl.agents.common import optimization
from purerl.hparams import AtLeastOne, NonNegative
from purerl.types import Agent, Metrics, TrainState, Transition


class EvolutionHparams(NamedTuple):
    """Hyperparameters of evolution strategies.

    Attributes:
      learning_rate: Adam's step size.
      noise_std: σ, standard deviation of the perturbations.
      weight_decay: λ, pulls the parameters to 0.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
    """

    learning_rate: NonNegative = 1e-2
    noise_std: NonNegative = 0.05
    weight_decay: NonNegative = 0.0
    anneal_updates: AtLeastOne = float("inf")


class Perturbation(NamedTuple):
    """The memory of one environment: ε as one vector [D], and the perturbed parameters that play there."""

    noise: jax.Array
    params: Any


def adam(hparams: Any) -> optax.GradientTransformation:
    """Adam on the estimate of the gradient; reads `learning_rate`."""
    return optax.adam(hparams.learning_rate)


def evolution(network: Any, *, antithetic: bool = True, optimizer: optimization.Optimizer = adam) -> Agent:
    """OpenAI's evolution strategy: each environment plays one episode with its own perturbed parameters.

        θ_i = θ + σ ε_i,   ε_i ~ N(0, I),   ε_{i + N/2} = −ε_i
        θ ← θ + Adam(1/(N σ) Σ_i F_i ε_i − λ θ),   F_i = Σ_j sign(R_i − R_j) / (2 (N − 1))

    R_i is the undiscounted return of the episode. F is the rank of R_i brought to [−½, ½], equal returns alike. The
    policy takes its greedy action, so the only noise is in the parameters; `evaluate` without greed plays perturbed
    copies.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> (distribution, value)`; the value is ignored.
      antithetic: the second half of the environments plays the mirror images of the first half's perturbations.
      optimizer: `hparams -> optax.GradientTransformation`; it sees all parameters as one flat vector.

    Returns:
      An agent with `EvolutionHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: in `update`, a trajectory without a mask, whose episodes may be cut; fewer than two environments, or
        an odd number of them with `antithetic`.

    Source: Salimans et al. 2017, arXiv:1703.03864, algorithm 1 and section 2.1; ties share their ranks here.
    """

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> TrainState:
        return optimization.train_state(optimizer, hparams, network.init(key, example))

    def memory(key: jax.Array | None, state: TrainState) -> Perturbation:
        flat, unravel = ravel_pytree(state.params)
        noise = jnp.zeros_like(flat) if key is None else (_mirrored if antithetic else _normal)(key, flat)
        return Perturbation(noise, unravel(flat + state.hparams.noise_std * noise))

    def act(
        key: jax.Array | None, state: TrainState, obs: Any, memory: Perturbation
    ) -> tuple[Any, tuple[()], Perturbation]:
        distribution, _ = network.apply(memory.params, obs)
        return distribution.mode(), (), memory

    def update(key: jax.Array, state: TrainState, data: Transition) -> tuple[TrainState, Metrics]:
        _check(data, antithetic)
        hparams, noise = state.hparams, data.memory.noise
        fitness = (data.reward * data.mask).sum(axis=0)
        ascent = shaped(fitness) @ noise / (len(fitness) * hparams.noise_std)
        flat, unravel = ravel_pytree(state.params)
        transform = optimizer(optimization.annealed(hparams, state.num_updates))
        updates, opt_state = transform.update(hparams.weight_decay * flat - ascent, state.opt_state, flat)
        flat = optax.apply_updates(flat, updates)
        metrics = {"fitness_mean": fitness.mean(), "fitness_std": fitness.std(), "fitness_max": fitness.max()}
        return TrainState(unravel(flat), opt_state, hparams, state.num_updates + 1), metrics

    return Agent(init, act, update, memory)


def shaped(fitness: jax.Array) -> jax.Array:
    """Ranks [N] in [−½, ½], of mean 0 and the same for equal fitness: Σ_j sign(R_i − R_j) / (2 (N − 1))."""
    return jnp.sign(fitness[:, None] - fitness).sum(axis=1) / (2 * (len(fitness) - 1))


def _normal(key: jax.Array, like: jax.Array) -> jax.Array:
    return jax.random.normal(key, like.shape, like.dtype)


@jax.custom_batching.custom_vmap
def _mirrored(key: jax.Array, like: jax.Array) -> jax.Array:
    """ε of one environment. Over a vmapped axis of N environments the second half of them is minus the first half."""
    return _normal(key, like)


@_mirrored.def_vmap
def _mirrored_over_environments(
    axis_size: int, batched: list[bool], key: jax.Array, like: jax.Array
) -> tuple[jax.Array, bool]:
    keys = key if batched[0] else jnp.broadcast_to(key, (axis_size,))
    likes = like if batched[1] else jnp.broadcast_to(like, (axis_size, *like.shape))
    half = jax.vmap(_normal)(keys[: (axis_size + 1) // 2], likes[: (axis_size + 1) // 2])
    return jnp.concatenate([half, -half])[:axis_size], True


def _check(data: Transition, antithetic: bool) -> None:
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    num_envs = data.reward.shape[1]
    if isinstance(data.mask, tuple):
        raise ValueError("evolution needs whole episodes: pass rollout=purerl.loops.rollout_episodes to train")
    if num_envs < 2 or (antithetic and num_envs % 2):
        raise ValueError(f"num_envs = {num_envs} must be at least 2, and even where perturbations come in pairs")

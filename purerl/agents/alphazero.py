"""AlphaZero: a search through the environment itself, guided by a network that learns from what the search finds."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl.agents.common import optimization, planning
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval, check_positive
from purerl.spaces import action_mask
from purerl.types import Agent, Env, EnvStep, Metrics, TrainState, Transition


class AlphaZeroHparams(NamedTuple):
    """Hyperparameters of AlphaZero.

    Attributes:
      learning_rate: Adam's step size.
      discount: γ, of the search and of the values.
      trace_decay: λ of the value targets.
      value_coef: weight of the value loss.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
    """

    learning_rate: NonNegative = 1e-3
    discount: UnitInterval = 0.99
    trace_decay: UnitInterval = 0.95
    value_coef: NonNegative = 0.5
    max_grad_norm: NonNegative = 1.0
    anneal_updates: AtLeastOne = float("inf")


class Batch(NamedTuple):
    """What one loss sees of each step, [B]."""

    obs: Any
    policy: jax.Array
    value_target: jax.Array


def alphazero(
    network: Any,
    model: Env,
    *,
    num_simulations: int = 16,
    max_depth: int | None = None,
    num_epochs: int = 1,
    num_minibatches: int = 1,
    optimizer: optimization.Optimizer = optimization.adam,
) -> Agent:
    """Planning with the environment as its own model, by Gumbel MuZero's search (mctx).

    Acting searches `num_simulations` times from the present state of the environment, expanding leaves by `model.step`
    and judging them by the network, and plays the action that the search prefers. An update computes λ-returns G from
    the network's values of the true successors, and then, `num_epochs` times in `num_minibatches`, descends on

        mean(−Σ_a w(a) log π(a|s)) + value_coef · mean ½ (G − v(s))²,   w the search's improved policy.

    A state in which the model has terminated is worth 0. Its random numbers are the search's own: in a stochastic
    environment each node holds one sample of its successor.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> (categorical, value)`, such as
        `networks.actor_critic(model)`.
      model: the environment, whose observations tell its state: `envs.with_state(env)`. Train on the same.
      num_simulations: searches a step.
      max_depth: how deep the search may look; None: as deep as it has simulations.
      num_epochs: passes over each trajectory.
      num_minibatches: gradient steps a pass; must divide rollout_length · num_envs.
      optimizer: `hparams -> optax.GradientTransformation`; it sees all parameters as one flat vector.

    Returns:
      An agent whose hyperparameters are `AlphaZeroHparams`, or any NamedTuple with the fields used.

    Raises:
      ModuleNotFoundError: mctx is not installed.
      ValueError: a count is not positive; in `init`, observations that do not tell the state of the environment; in
        `update`, masked data or a trajectory that does not divide.

    Source: Silver et al. 2018, "A general reinforcement learning algorithm ...", Science 362; the search: Danihelka et
    al. 2022, "Policy improvement by planning with Gumbel", section 4.
    """
    check_positive(num_simulations=num_simulations, num_epochs=num_epochs, num_minibatches=num_minibatches)
    planning.check_installed()

    def act(key: jax.Array | None, state: TrainState, obs: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        batch = jax.tree.map(lambda x: jnp.asarray(x)[None], obs)

        def expand(key: jax.Array, action: jax.Array, node: Any) -> tuple[Any, Any]:
            step = _step(key, model, node, action)
            discount = state.hparams.discount * (1.0 - step.terminated)
            return (step.reward, discount, *_judge(network, state.params, step.obs)), _node(step.obs)

        root = (*_judge(network, state.params, batch), _node(batch))
        action, policy = planning.search(
            key, root, expand, action_mask(obs["obs"]), num_simulations=num_simulations, max_depth=max_depth
        )
        return action, {"policy": policy}

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> TrainState:
        _node(example)
        return optimization.train_state(optimizer, hparams, network.init(key, example))

    def update(key: jax.Array, state: TrainState, data: Transition) -> tuple[TrainState, Metrics]:
        batch = _make_batch(network, state.params, data, state.hparams)
        loss = functools.partial(_loss, network, state.hparams)
        return optimization.descend_in_minibatches(
            key, optimizer, loss, state, batch, num_epochs=num_epochs, num_minibatches=num_minibatches
        )

    return Agent(init, act, update)


def _judge(network: Any, params: Any, obs: Any) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities [B, A] and values [B] of observations."""
    distribution, value = jax.vmap(network.apply, (None, 0))(params, obs)
    return distribution.log_probs, value


def _step(key: jax.Array, model: Env, node: Any, action: jax.Array) -> EnvStep:
    """One step of the model from every node [B]."""
    keys = jax.random.split(key, action.shape[0])
    return jax.vmap(model.step)(keys, node["env_state"], action, node["env_params"])


def _loss(network: Any, hparams: Any, params: Any, part: Batch) -> tuple[jax.Array, Metrics]:
    log_probs, value = _judge(network, params, part.obs)
    policy = -jnp.sum(part.policy * log_probs, axis=-1).mean()
    error = 0.5 * jnp.square(part.value_target - value).mean()
    return policy + hparams.value_coef * error, {"loss/policy": policy, "loss/value": error}


def _node(obs: Any) -> dict[str, Any]:
    """What a node of the search knows: the state of the environment, and its parameters."""
    if not isinstance(obs, dict) or "env_state" not in obs:
        raise ValueError(
            "alphazero needs observations that tell the state: envs.with_state(env), for model and training"
        )
    return {"env_state": obs["env_state"], "env_params": obs["env_params"]}


def _make_batch(network: Any, params: Any, data: Transition, hparams: Any) -> Batch:
    """The λ-returns of a trajectory [T, N] beside what the search found, flattened to [T N]."""
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    if not isinstance(data.mask, tuple):
        raise ValueError("alphazero takes whole rollouts; rollout_episodes masks its steps")
    target = planning.value_targets(network, params, data, hparams)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), Batch(data.obs, data.aux["policy"], target))

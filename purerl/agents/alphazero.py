"""AlphaZero: a search through the environment itself, guided by a network that learns from what the search finds."""

from __future__ import annotations

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl.agents.common import batches, network_checks, optimization, planning, plug_ins, trajectories
from purerl.hparams import AtLeastOne, NonNegative, SignedUnitInterval, UnitInterval, check_positive
from purerl.once import build_once
from purerl.spaces import action_mask
from purerl.types import (
    Agent,
    Env,
    EnvStep,
    Key,
    Metrics,
    Network,
    Params,
    PyTree,
    Requirements,
    TrainState,
    Transition,
)


class AlphaZeroHparams(NamedTuple):
    """Hyperparameters of AlphaZero.

    Attributes:
      learning_rate: Adam's step size.
      discount: γ, of the search and of the values. Negative, −γ, in a game of two players who move in turns, where
        the next position is worth to the other what it costs this one.
      trace_decay: λ of the value targets.
      value_coef: weight of the value loss.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
    """

    learning_rate: NonNegative = 1e-3
    discount: SignedUnitInterval = 0.99
    trace_decay: UnitInterval = 0.95
    value_coef: NonNegative = 0.5
    max_grad_norm: NonNegative = 1.0
    anneal_updates: AtLeastOne = float("inf")


class Batch(NamedTuple):
    """The inputs of the loss, leaves [B]; `weight` is `()` if all steps count equally."""

    obs: PyTree
    policy: jax.Array
    value_target: jax.Array
    weight: PyTree


class _Settings(NamedTuple):
    """The arguments of `alphazero`."""

    network: Network
    model: Env
    num_simulations: int
    max_depth: int | None
    num_epochs: int
    num_minibatches: int
    optimizer: optimization.Optimizer


@build_once
def alphazero(
    network: Network,
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
    and evaluating them by the network, and plays the action that the search prefers. An update computes λ-returns G
    from the network's values of the true successors, and then, `num_epochs` times in `num_minibatches`, makes gradient
    steps on

        mean(−Σ_a w(a) log π(a|s)) + value_coef · mean ½ (G − v(s))²,   w the search's improved policy.

    A state in which the model has terminated is worth 0. Its random numbers are the search's own: in a stochastic
    environment each node holds one sample of its successor. Where the environment's observation has an `action_mask`,
    the policy is restricted to the allowed actions in every node of the search and in the loss.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> (categorical, value)`, such as
        `networks.actor_critic(model)`.
      model: the environment, whose observations contain its state: `envs.with_state(env)`. Train on the same.
      num_simulations: simulations per step.
      max_depth: largest depth of the search; None: as deep as it has simulations.
      num_epochs: passes over each trajectory.
      num_minibatches: gradient steps per pass; must divide rollout_length · num_envs.
      optimizer: `hparams -> optax.GradientTransformation`. It sees the tree of parameters; the default, which treats
        all of them in the same way, one flat vector (see `optimization.OnVector`).

    Returns:
      An agent whose hyperparameters are `AlphaZeroHparams`, or any NamedTuple with the fields used.

    Raises:
      ModuleNotFoundError: mctx is not installed.
      TypeError: a network with memory.
      ValueError: a count is not positive; in `init`, observations without the state of the environment; in
        `update`, masked data or a trajectory that does not divide.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.with_state(purerl.envs.probe())
      >>> agent = purerl.alphazero(purerl.networks.actor_critic(env, (4,)), env, num_simulations=2)
      >>> sizes = dict(num_updates=2, num_envs=2, rollout_length=4)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.AlphaZeroHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["loss/policy"].shape
      (2,)

    Source: Silver et al. 2018, "A general reinforcement learning algorithm ...", Science 362; the search: Danihelka et
    al. 2022, "Policy improvement by planning with Gumbel", section 4.
    """
    check_positive(
        num_simulations=num_simulations,
        max_depth=1 if max_depth is None else max_depth,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
    )
    network_checks.refuse_memory(network, "alphazero")
    planning.check_installed()
    settings = _Settings(network, model, num_simulations, max_depth, num_epochs, num_minibatches, optimizer)
    return Agent(
        functools.partial(_init, settings),
        functools.partial(_act, settings),
        functools.partial(_update, settings),
        requires=Requirements(data="trajectory", raw_observations=True),
    )


def _init(settings: _Settings, key: Key, hparams: AlphaZeroHparams, example: PyTree, num_envs: int = 1) -> TrainState:
    _node(example)
    return optimization.train_state(settings.optimizer, hparams, plug_ins.init(settings.network, key, example))


def _act(
    settings: _Settings, key: Key | None, state: TrainState, obs: PyTree
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The action that a search from the observed state prefers, and the improved policy."""
    batch = jax.tree.map(lambda x: jnp.asarray(x)[None], obs)  # [...] -> [1, ...]

    def expand(key: Key, action: jax.Array, node: PyTree) -> tuple[tuple[jax.Array, ...], PyTree]:
        step = _step(key, settings.model, node, action)
        discount = state.hparams.discount * (1.0 - step.terminated)
        return (step.reward, discount, *_evaluate(settings.network, state.params, step.obs)), _node(step.obs)

    root = (*_evaluate(settings.network, state.params, batch), _node(batch))
    action, policy = planning.search(
        key,
        root,
        expand,
        action_mask(obs["obs"]),
        num_simulations=settings.num_simulations,
        max_depth=settings.max_depth,
    )
    return action, {"policy": policy}


def _update(settings: _Settings, key: Key, state: TrainState, data: Transition) -> tuple[TrainState, Metrics]:
    batch = _make_batch(settings.network, state.params, data, state.hparams)
    loss = functools.partial(_loss, settings.network, state.hparams)
    return optimization.minibatch_update(
        key,
        settings.optimizer,
        loss,
        state,
        batch,
        num_epochs=settings.num_epochs,
        num_minibatches=settings.num_minibatches,
    )


def _evaluate(network: Network, params: Params, obs: PyTree) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities [B, A], of the allowed actions alone, and values [B] of observations."""
    distribution, value = batches.apply_batch(network, params, obs)
    return planning.restrict(distribution.log_probs, action_mask(obs["obs"])), value


def _step(key: Key, model: Env, node: PyTree, action: jax.Array) -> EnvStep:
    """One step of the model from every node [B]."""
    keys = jax.random.split(key, action.shape[0])
    return jax.vmap(model.step)(keys, node["env_state"], action, node["env_params"])


def _loss(network: Network, hparams: AlphaZeroHparams, params: Params, part: Batch) -> tuple[jax.Array, Metrics]:
    """The loss of a minibatch and its parts."""
    log_probs, value = _evaluate(network, params, part.obs)
    policy = trajectories.masked_mean(planning.cross_entropy(part.policy, log_probs), part.weight)
    error = 0.5 * trajectories.masked_mean(jnp.square(part.value_target - value), part.weight)
    return policy + hparams.value_coef * error, {"loss/policy": policy, "loss/value": error}


def _node(obs: PyTree) -> dict[str, PyTree]:
    """The contents of a node of the search: the state of the environment and its parameters."""
    if not isinstance(obs, dict) or "env_state" not in obs:
        raise ValueError(
            "alphazero needs observations that contain the state: envs.with_state(env), for model and training"
        )
    return {"env_state": obs["env_state"], "env_params": obs["env_params"]}


def _make_batch(network: Network, params: Params, data: Transition, hparams: AlphaZeroHparams) -> Batch:
    """The λ-returns of a trajectory [T, N] and the policies of its searches, flattened to [T * N]."""
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    trajectories.refuse_mask(data, "alphazero")
    data = trajectories.clean(data)
    target = planning.value_targets(network, params, data, hparams)
    policy = trajectories.recorded(data, "policy", "alphazero")
    return trajectories.flatten(Batch(data.obs, policy, target, data.weight))

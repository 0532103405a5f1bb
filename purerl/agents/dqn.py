"""Deep Q-networks: double, dueling, n-step, prioritized, C51, QR-DQN, IQN and noisy, as options of one agent."""

from __future__ import annotations

import functools
from typing import Annotated, Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from purerl import exploration as explore
from purerl import replay
from purerl.agents.common import (
    action_values,
    batches,
    network_checks,
    optimization,
    plug_ins,
    q_learner,
    trajectories,
    value_heads,
)
from purerl.agents.common.q_learner import DQNState
from purerl.exploration.selection import annealed_epsilon
from purerl.hparams import AtLeastOne, Interval, NonNegative, UnitInterval
from purerl.once import build_once
from purerl.spaces import action_mask
from purerl.types import Agent, Key, Metrics, Network, Params, PyTree, Requirements, Transition

EXPLORATIONS = ("epsilon_greedy", "boltzmann", "greedy")


class DQNHparams(NamedTuple):
    """Hyperparameters of DQN.

    Attributes:
      learning_rate: Adam's step size.
      discount: γ.
      tau: weight of the online parameters in a copy to the target ones; 1: a hard copy.
      target_period: gradient steps from one copy to the next.
      initial_epsilon, epsilon: probability of a random action at the start, and from `epsilon_anneal_updates` on.
      epsilon_anneal_updates: gradient steps over which the probability falls linearly.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      value_min, value_max: ends of the support of returns, for "categorical"; set them to the returns that occur.
      priority_exponent: α of prioritized replay; 0: uniform.
      importance_exponent: β of prioritized replay at the start.
      importance_anneal_updates: gradient steps over which β rises to 1; inf: it stays.
      anneal_updates: the learning rate falls linearly to 0 over this many gradient steps; inf: it stays.
      temperature: of "boltzmann" exploration, in the units of the values.
    """

    learning_rate: NonNegative = 1e-3
    discount: UnitInterval = 0.99
    tau: UnitInterval = 1.0
    target_period: Annotated[Any, Interval(1, 2**31 - 1)] = 500
    initial_epsilon: UnitInterval = 1.0
    epsilon: UnitInterval = 0.05
    epsilon_anneal_updates: NonNegative = 5000.0
    max_grad_norm: NonNegative = 10.0
    value_min: Any = -100.0
    value_max: Any = 100.0
    priority_exponent: UnitInterval = 0.6
    importance_exponent: UnitInterval = 0.4
    importance_anneal_updates: AtLeastOne = float("inf")
    anneal_updates: AtLeastOne = float("inf")
    temperature: NonNegative = 1.0

    def check(self) -> None:
        """Reject an empty or reversed support of returns.

        Raises:
          ValueError: `value_max` is not above `value_min`.
        """
        if np.any(np.asarray(self.value_max) <= np.asarray(self.value_min)):
            raise ValueError(f"value_max = {self.value_max} must be above value_min = {self.value_min}")


class _Settings(NamedTuple):
    """The arguments of `dqn`; the head as its two functions."""

    network: Network
    read: value_heads.ReadValues
    head_loss: value_heads.HeadLoss
    double: bool
    noisy: bool
    huber: bool
    exploration: str
    optimizer: optimization.Optimizer


@build_once
def dqn(
    network: Network,
    *,
    head: str = "value",
    double: bool = True,
    noisy: bool = False,
    huber: bool = False,
    exploration: str | None = None,
    optimizer: optimization.Optimizer = optimization.adam,
) -> Agent:
    """Deep Q-learning, to be put behind `combinators.with_replay`.

    For each window of n steps (n = `length` of the replay, or the rollout's length without one) with n-step return G,
    bootstrap factor D and successor s' (`replay.n_step`),

        target = G + D q⁻(s', a*),   a* = argmax q(s', ·) if double, else argmax q⁻(s', ·),

    with q⁻ the target network, and the loss is the mean over windows of w · ½ (target − q(s, a))², w the importance
    weights of prioritized replay (the data's weight). If the data have weights, |target − q(s, a)| is the metric
    "priority", of each window. Actions are chosen among those that `obs["action_mask"]` allows, if there is one; a
    successor that allows none has value 0.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> [A]`, such as `networks.q_network(env)`; [A, Z] with the
        heads below; `apply(params, obs, key)` if noisy.
      head: "value"; "categorical": Z logits over returns from `value_min` to `value_max` (C51), with the
        cross entropy to the projected target as loss; "quantile": Z quantiles of the return (QR-DQN); "implicit":
        [A, Z, 2], Z quantiles and their random levels, of `networks.implicit_quantile_network(env)` (IQN), whose values
        are the means over the levels that were drawn.
      double: let the online network choose the action that the target network evaluates.
      noisy: the network draws its own noise, new for each step and each sample.
      huber: the absolute value of errors beyond 1 in place of their square (κ = 1 of "quantile" in place of 0). It is
        biased toward the median, so rare large errors are underweighted: when values are in the tens and terminations
        are rare, CartPole diverges.
      exploration: "epsilon_greedy"; "boltzmann", softmax(q / `temperature`); "greedy", which leaves exploration to the
        network's noise. None: "greedy" if noisy, otherwise "epsilon_greedy".
      optimizer: `hparams -> optax.GradientTransformation`. It sees the tree of parameters; the default, which treats
        all of them in the same way, one flat vector (see `optimization.OnVector`).

    Returns:
      An agent whose hyperparameters are `DQNHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: an unknown head or exploration; a network whose own `noisy` is not that of the agent; in
        `check_hparams`, a support that is empty or reversed.
      TypeError: a network with memory.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe()
      >>> agent = purerl.dqn(purerl.networks.q_network(env, (4,)), exploration="boltzmann")
      >>> agent = purerl.combinators.with_replay(agent, capacity=64, batch_size=8, length=2)
      >>> sizes = dict(num_updates=8, num_envs=2, rollout_length=1)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.DQNHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["q_value"].shape
      (8,)

    Source: Mnih et al. 2015; double: van Hasselt et al. 2016, arXiv:1509.06461, eq. 4; C51: Bellemare et al. 2017,
    arXiv:1707.06887, algorithm 1; QR-DQN: Dabney et al. 2018, arXiv:1710.10044, algorithm 1; IQN: arXiv:1806.06923,
    algorithm 1, with as many levels for acting as for learning; noisy: arXiv:1706.10295; together: Hessel et al. 2018,
    "Rainbow".
    """
    if head not in value_heads.HEADS:
        raise ValueError(f"head must be one of {', '.join(value_heads.HEADS)}; got {head!r}")
    if exploration is None:
        exploration = "greedy" if noisy else "epsilon_greedy"
    if exploration not in EXPLORATIONS:
        raise ValueError(f"exploration must be one of {', '.join(EXPLORATIONS)}; got {exploration!r}")
    network_checks.refuse_memory(network, "dqn")
    _check_noise(network, noisy or head == "implicit")
    drawn = noisy or head == "implicit"  # by a key, in every call
    settings = _Settings(network, *value_heads.HEADS[head], double, drawn, huber, exploration, optimizer)
    return Agent(
        functools.partial(_init, settings),
        functools.partial(_act, settings),
        functools.partial(_update, settings),
        requires=Requirements(data="trajectory"),
    )


def _check_noise(network: Network, noisy: bool) -> None:
    """Reject a network that says to have noise if the agent draws none, or to have none if it draws it.

    Raises:
      ValueError: says which.
    """
    if not noisy:
        network_checks.refuse_noise(network, "dqn without noisy=True")
    elif getattr(network, "noisy", None) is False:
        raise ValueError(
            "dqn(noisy=True) explores by the network's noise, but the network has noisy=False: "
            "use networks.q_network(env, noisy=True)"
        )


def _init(settings: _Settings, key: Key, hparams: DQNHparams, example: PyTree, num_envs: int = 1) -> DQNState:
    params = plug_ins.init(settings.network, key, example)
    return q_learner.init(settings.optimizer, hparams, params)


def _act(settings: _Settings, key: Key | None, state: DQNState, obs: PyTree) -> tuple[jax.Array, tuple[()]]:
    hparams, mask = state.hparams, action_mask(obs)
    if key is None:
        return explore.greedy(None, settings.read(_apply(settings, None, state.params, obs), hparams), mask), ()
    noise_key, key = jax.random.split(key) if settings.noisy else (None, key)
    q = settings.read(_apply(settings, noise_key, state.params, obs), hparams)  # [A]
    if settings.exploration == "boltzmann":
        return explore.boltzmann(key, q, hparams.temperature, mask), ()
    if settings.exploration == "greedy":
        return explore.greedy(key, q, mask), ()
    return explore.epsilon_greedy(key, q, annealed_epsilon(hparams, state.num_updates), mask), ()


def _update(settings: _Settings, key: Key, state: DQNState, data: Transition) -> tuple[DQNState, Metrics]:
    """One gradient step on windows [L, B], and a copy to the target network when it is due."""
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    target_key, choice_key, loss_key = jax.random.split(key, 3)
    batch = _make_batch(settings, target_key, choice_key, state, data)
    loss = functools.partial(_loss, settings, loss_key, state.hparams, batch)
    return q_learner.gradient_step(settings.optimizer, state, loss)


class Batch(NamedTuple):
    """The inputs of the loss, leaves [B]: n-step transitions, and the target network's output for the next action."""

    obs: PyTree
    action: jax.Array
    reward: jax.Array
    discount: jax.Array
    next_taken: jax.Array
    weight: PyTree


def _make_batch(settings: _Settings, target_key: Key, choice_key: Key, state: DQNState, data: Transition) -> Batch:
    """The n-step transitions of windows [L, B]."""
    data = trajectories.clean(data)
    reward, discount, next_obs = replay.n_step(data, state.hparams.discount)  # [L, B] -> [B]
    mask = action_mask(next_obs)
    discount = action_values.bootstrap_factor(discount, mask)
    next_target = _batched(settings, target_key, state.target_params, next_obs)  # [B, A, ...]
    # a* = argmax q(s', ·) if double, else argmax q⁻(s', ·)
    chooser = _batched(settings, choice_key, state.params, next_obs) if settings.double else next_target
    best = explore.greedy(None, settings.read(chooser, state.hparams), mask)  # [B]
    obs, action = (jax.tree.map(lambda x: x[0], x) for x in (data.obs, data.action))  # [L, B] -> [B]
    weight = trajectories.step_weight(data)[0] if trajectories.is_weighted(data) else ()
    return Batch(obs, action, reward, discount, action_values.take(next_target, best), weight)


def _loss(
    settings: _Settings, key: Key, hparams: DQNHparams, batch: Batch, params: Params
) -> tuple[jax.Array, Metrics]:
    """The mean loss of a batch of windows, weighted if it has weights, and its metrics."""
    taken = action_values.take(_batched(settings, key, params, batch.obs), batch.action)  # [B, A, ...] -> [B, ...]
    each, priority, error = settings.head_loss(
        taken, batch.reward, batch.discount, batch.next_taken, hparams, settings.huber
    )
    value = settings.read(taken[:, None], hparams)
    metrics = {"loss/td_error": jnp.abs(error).mean(), "q_value": value.mean()}
    if not trajectories.has(batch.weight):
        return each.mean(), metrics
    weighted = jnp.where(batch.weight != 0, each * batch.weight, 0)
    return weighted.mean(), metrics | {"priority": jnp.abs(priority) + 1e-6}


def _apply(settings: _Settings, key: Key | None, params: Params, obs: PyTree) -> jax.Array:
    """The network's output [A, ...] for one observation; without a key a noisy network shows no noise."""
    return plug_ins.action_values(settings.network.apply(params, obs, *([key] if settings.noisy else [])))


def _batched(settings: _Settings, key: Key, params: Params, obs: PyTree) -> jax.Array:
    """The network's outputs [B, A, ...], each with noise of its own."""
    if not settings.noisy:
        return batches.apply_batch(settings.network, params, obs)
    keys = jax.random.split(key, jax.tree.leaves(obs)[0].shape[0])
    return jax.vmap(settings.network.apply, (None, 0, 0))(params, obs, keys)

"""Implicit Q-learning (IQL): on recorded steps, without asking for the value of an action that was not recorded."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl import losses
from purerl.agents.common import (
    counts,
    network_checks,
    optimization,
    plug_ins,
    policy_network,
    q_critics,
    rows,
    trajectories,
)
from purerl.hparams import NonNegative, UnitInterval, check_positive
from purerl.once import build_once
from purerl.types import Agent, Key, Metrics, Network, Params, PyTree, Requirements

_adam = optimization.adam_of("learning_rate")


class IQLHparams(NamedTuple):
    """Hyperparameters of implicit Q-learning.

    Attributes:
      learning_rate, critic_learning_rate: Adam's step sizes, of the policy with the value, and of the critics.
      discount: γ.
      tau: weight of the online critics in the target ones after every update.
      expectile: of the values of the recorded actions that V estimates, in (0, 1); ½: their mean, near 1: the best.
      inverse_temperature: β; 0 clones all recorded actions equally.
      max_weight: largest weight of a recorded action.
    """

    learning_rate: NonNegative = 3e-4
    critic_learning_rate: NonNegative = 3e-4
    discount: UnitInterval = 0.99
    tau: UnitInterval = 0.005
    expectile: UnitInterval = 0.7
    inverse_temperature: NonNegative = 3.0
    max_weight: NonNegative = 100.0


class IQLParams(NamedTuple):
    """Parameters of the network of policy and value, and a tuple of the critics'."""

    network: Params
    critics: Params


class IQLState(NamedTuple):
    """State of implicit Q-learning.

    Attributes:
      params: an `IQLParams`.
      target_critics: parameters of the target critics.
      opt_state: the optimizers' states, an `IQLParams` too.
      hparams: the hyperparameters.
      num_updates: int32, updates made.
    """

    params: IQLParams
    target_critics: Params
    opt_state: IQLParams
    hparams: IQLHparams
    num_updates: jax.Array


class _Settings(NamedTuple):
    """The arguments of `iql`."""

    network: Network
    critic: Network
    num_critics: int
    optimizer: optimization.Optimizer
    critic_optimizer: optimization.Optimizer


@build_once
def iql(
    network: Network,
    critic: Network,
    *,
    num_critics: int = 2,
    optimizer: optimization.Optimizer = _adam,
    critic_optimizer: optimization.Optimizer = q_critics.critic_adam,
) -> Agent:
    """Implicit Q-learning, for `fit` on recorded steps in minibatches (`combinators.with_minibatches`).

    With u = q⁻(s, a) − V(s), q⁻ the minimum of the target critics, a gradient step on each of

        value:    mean |τ − 1{u < 0}| u²,                                        τ = `expectile`
        policy:   −mean min(exp(β u), `max_weight`) log π(a|s),                  no gradient through u
        critics:  Σ_i mean ½ (r + γ (1 − terminated) V(s') − q_i(s, a))²,        V after its step

    and then q⁻ ← τ' q + (1 − τ') q⁻ with τ' = `tau`. Policy and value are one network and take one step together, on
    the sum of their losses; the policy is weighted by u before the step.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> (distribution, value)`, such as `networks.actor_critic(env)`.
      critic: `init(key, obs, action)` and `apply(params, obs, action) -> q`, such as `networks.critic(env)`.
      num_critics: number of critics.
      optimizer: of the network, `hparams -> optax.GradientTransformation`. It sees the tree of parameters; the default,
        one flat vector (see `optimization.OnVector`).
      critic_optimizer: of the critics, in the same way.

    Returns:
      An agent with `IQLHparams`. Its data are a `Transition`, or a mapping with "obs", "action", "reward",
      "terminated" and "next_obs", leaves [B].

    Raises:
      ValueError: `num_critics` is not positive; a critic with running statistics or dropout.
      TypeError: a network with memory.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe(continuous=True)
      >>> agent = purerl.iql(purerl.networks.actor_critic(env, (4,)), purerl.networks.critic(env, (4,)))
      >>> obs, ends = jnp.array([[0.0], [1.0]]), jnp.array([False, True])
      >>> data = purerl.Transition(obs, obs / 2, jnp.ones(2), ends, ~ends, obs)
      >>> run = lambda key: purerl.fit(key, agent, data, purerl.IQLHparams(), num_updates=3)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["loss/value"].shape
      (3,)

    Source: Kostrikov et al. 2021, arXiv:2110.06169, eq. 5 to 7 and algorithm 1.
    """
    check_positive(num_critics=num_critics)
    network_checks.refuse_memory(network, "iql")
    network_checks.check_critic(critic, "iql")
    settings = _Settings(network, critic, num_critics, optimizer, critic_optimizer)

    def act(key: Key | None, state: IQLState, obs: PyTree) -> tuple[PyTree, tuple[()]]:
        policy, _ = plug_ins.policy_and_value(network.apply(state.params.network, obs))
        return (policy.mode() if key is None else policy.sample(seed=key)), ()

    return Agent(
        functools.partial(_init, settings), act, functools.partial(_update, settings),
        requires=Requirements(data="rows"),
    )  # fmt: skip


def _init(settings: _Settings, key: Key, hparams: IQLHparams, example: PyTree, num_envs: int = 1) -> IQLState:
    network_key, critic_key = jax.random.split(key)
    network_params = plug_ins.init(settings.network, network_key, example)
    policy, _ = plug_ins.policy_and_value(settings.network.apply(network_params, example))
    action = policy.mode()
    critics = q_critics.init(settings.critic, critic_key, example, action, settings.num_critics)
    params = IQLParams(network_params, critics)
    optimizers = settings.optimizer, settings.critic_optimizer
    opt_state = IQLParams(*(optimization.init(o, hparams, p) for o, p in zip(optimizers, params)))
    return IQLState(params, critics, opt_state, hparams, jnp.int32(0))


def _update(settings: _Settings, key: Key, state: IQLState, data: PyTree) -> tuple[IQLState, Metrics]:
    """One gradient step of policy and value, and one of the critics, on rows [B]."""
    hparams, params, opt_state = state.hparams, state.params, state.opt_state
    batch = rows.one_step_batch(data, hparams.discount)
    recorded_q = q_critics.minimum(settings.critic, state.target_critics, batch.obs, batch.action)
    loss = functools.partial(_network_loss, settings.network, hparams, batch, recorded_q)
    network_params, network_opt, metrics = optimization.gradient_step(
        settings.optimizer, hparams, loss, params.network, opt_state.network
    )
    _, next_value = jax.vmap(settings.network.apply, (None, 0))(network_params, batch.next_obs)
    target = losses.td_target(batch.reward, batch.discount, next_value)
    critics, critic_opt, more = q_critics.gradient_step(
        settings.critic_optimizer, hparams, settings.critic, params.critics, opt_state.critics, batch, target
    )
    more.pop("priority", None)  # rows are not replayed
    return IQLState(
        IQLParams(network_params, critics),
        optimization.polyak(critics, state.target_critics, hparams.tau),
        IQLParams(network_opt, critic_opt),
        hparams,
        counts.increment(state.num_updates),
    ), metrics | more


def _network_loss(
    network: Network, hparams: IQLHparams, batch: q_critics.Batch, recorded_q: jax.Array, params: Params
) -> tuple[jax.Array, Metrics]:
    """The expectile loss of the value, and the weighted log-likelihood of the recorded actions."""
    mean = functools.partial(trajectories.masked_mean, mask=batch.weight)
    log_prob, _, value = policy_network.evaluate_actions(network, params, batch.obs, batch.action, (), ())
    advantage = recorded_q - value  # [B]
    value_loss = mean(jnp.abs(hparams.expectile - (advantage < 0)) * jnp.square(advantage))
    # min(exp(β u), w), without an overflow
    weight = jnp.exp(jnp.minimum(hparams.inverse_temperature * advantage, jnp.log(hparams.max_weight)))
    policy_loss = -mean(jax.lax.stop_gradient(weight) * log_prob)
    return value_loss + policy_loss, {"loss/value": value_loss, "loss/policy": policy_loss}

"""Actor-critic methods that learn from whole trajectories: one-step, A2C with n-step returns or GAE, and V-trace."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl import losses, returns
from purerl.agents.common import counts, optimization, policy_network, trajectories
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval, check_positive
from purerl.once import build_once
from purerl.types import Agent, Key, Metrics, Network, Params, PyTree, Requirements, TrainState, Transition

ADVANTAGES = ("gae", "n_step", "vtrace")


class ActorCriticHparams(NamedTuple):
    """Hyperparameters of actor-critic methods.

    Attributes:
      learning_rate: Adam's step size.
      discount: γ.
      gae_lambda: λ of the advantages, and of V-trace; "n_step" does not use it.
      value_coef: weight of the value loss.
      entropy_coef: weight of the entropy bonus.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      rho_bar: V-trace's ρ̄, the largest importance ratio of an error.
      c_bar: V-trace's c̄, the largest importance ratio of a trace.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
    """

    learning_rate: NonNegative = 7e-4
    discount: UnitInterval = 0.99
    gae_lambda: UnitInterval = 0.95
    value_coef: NonNegative = 0.5
    entropy_coef: Any = 0.01
    max_grad_norm: NonNegative = 0.5
    rho_bar: NonNegative = 1.0
    c_bar: NonNegative = 1.0
    anneal_updates: AtLeastOne = float("inf")


class _Settings(NamedTuple):
    """The arguments of `actor_critic`."""

    network: Network
    advantage: str
    num_steps: int
    num_epochs: int
    normalize_advantage: bool
    optimizer: optimization.Optimizer


@build_once
def actor_critic(
    network: Network,
    *,
    advantage: str = "gae",
    num_steps: int = 5,
    num_epochs: int = 1,
    normalize_advantage: bool = False,
    optimizer: optimization.Optimizer = optimization.adam,
) -> Agent:
    """Advantage actor-critic: gradient steps on whole trajectories, values and policy in one pass.

        loss = mean(−log π(a|s) A) + value_coef · mean(½ (V(s) − y)²) − entropy_coef · mean(H(π(·|s)))

        "gae"      δ[t] = r[t] + d[t] V(s'[t]) − V(s[t]),   A[t] = δ[t] + d[t] λ (1 − done[t]) A[t+1],   y = A + V
        "n_step"   y[t] = r[t] + d[t] r[t+1] + ... + V(the state `num_steps` later, or where it was cut),  A = y − V
        "vtrace"   (y, A) = `returns.vtrace` with the ratios of the present policy to the one that acted

    with d = γ (1 − terminated) and A, y stopped. s' is the true successor, so a truncated step bootstraps from where
    its own episode stood. One-step actor-critic is "n_step" with num_steps=1 (or gae_lambda=0); A2C with n-step returns
    is a rollout of n steps and num_steps=n. V-trace corrects for the difference between the present policy and the one
    that acted: in the later ones of several epochs, and with data of an older policy.

    Args:
      network: an actor-critic network, with or without memory.
      advantage: "gae", "n_step" or "vtrace".
      num_steps: rewards in an n-step return.
      num_epochs: gradient steps on each trajectory.
      normalize_advantage: bring the advantages of a trajectory to mean 0 and standard deviation 1.
      optimizer: `hparams -> optax.GradientTransformation`. It sees the tree of parameters; the default, which treats
        all of them in the same way, one flat vector (see `optimization.OnVector`).

    Returns:
      An agent with `ActorCriticHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: an unknown advantage, or a number that is not positive.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe()
      >>> agent = purerl.actor_critic(purerl.networks.actor_critic(env, hidden=(4,)), advantage="n_step", num_steps=4)
      >>> sizes = dict(num_updates=3, num_envs=2, rollout_length=4)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.ActorCriticHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["loss/value"].shape
      (3,)

    Source: Mnih et al. 2016, arXiv:1602.01783, algorithm S3, synchronous; GAE: arXiv:1506.02438, eq. 16; V-trace:
    Espeholt et al. 2018, arXiv:1802.01561, section 4.2; one-step: Sutton & Barto (2018), section 13.5, without γᵗ.
    """
    if advantage not in ADVANTAGES:
        raise ValueError(f"advantage must be one of {', '.join(ADVANTAGES)}; got {advantage!r}")
    check_positive(num_steps=num_steps, num_epochs=num_epochs)
    settings = _Settings(network, advantage, num_steps, num_epochs, normalize_advantage, optimizer)
    act, memory = policy_network.make_act(network)
    init, update = functools.partial(_init, settings), functools.partial(_update, settings)
    return Agent(init, act, update, memory, Requirements("trajectory", memory=memory is not None))


def _init(settings: _Settings, key: Key, hparams: ActorCriticHparams, example: PyTree, num_envs: int = 1) -> TrainState:
    params = policy_network.init(settings.network, key, example)
    return optimization.train_state(settings.optimizer, hparams, params)


def _update(settings: _Settings, key: Key, state: TrainState, data: Transition) -> tuple[TrainState, Metrics]:
    """`num_epochs` gradient steps on one trajectory [T, N]."""
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    data = trajectories.clean(data)
    hparams = state.hparams
    annealed = optimization.annealed(hparams, state.num_updates)
    loss = functools.partial(_loss, settings, hparams, data)

    def epoch(learner: tuple[Params, PyTree], _: None) -> tuple[tuple[Params, PyTree], Metrics]:
        params, opt_state, metrics = optimization.gradient_step(settings.optimizer, annealed, loss, *learner)
        return (params, opt_state), metrics

    learner, metrics = jax.lax.scan(epoch, (state.params, state.opt_state), None, settings.num_epochs)
    return TrainState(*learner, hparams, counts.increment(state.num_updates)), jax.tree.map(jnp.mean, metrics)


def _loss(
    settings: _Settings, hparams: ActorCriticHparams, data: Transition, params: Params
) -> tuple[jax.Array, Metrics]:
    """The loss of a trajectory [T, N] and its parts."""
    mean = functools.partial(trajectories.masked_mean, mask=trajectories.counted(data))
    distribution, value, next_value = policy_network.evaluate(settings.network, params, data)
    log_prob, entropy = jax.vmap(jax.vmap(policy_network.log_prob_and_entropy))(distribution, data.action)  # [T, N]
    advantage, target = jax.lax.stop_gradient(_targets(settings, data, hparams, log_prob, value, next_value))
    if settings.normalize_advantage:
        advantage = losses.normalize(advantage, trajectories.optional_mask(trajectories.counted(data)))
    policy = mean(losses.reinforce(log_prob, advantage))
    error = mean(0.5 * jnp.square(losses.td_error(value, target)))
    entropy = mean(entropy)
    # mean(−log π(a|s) A) + value_coef · mean(½ (V(s) − y)²) − entropy_coef · mean(H)
    total = policy + hparams.value_coef * error - hparams.entropy_coef * entropy
    return total, {"loss/policy": policy, "loss/value": error, "loss/entropy": entropy}


def _targets(
    settings: _Settings,
    data: Transition,
    hparams: ActorCriticHparams,
    log_prob: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Advantages and value targets, [T, N] each."""
    discount = trajectories.discounts(data, hparams.discount)
    if settings.advantage == "n_step":
        continues = 1.0 - trajectories.done(data)
        target = returns.n_step_returns(data.reward, discount, next_value, continues, settings.num_steps)
        return target - value, target
    trace_decay = trajectories.trace_decays(data, hparams.gae_lambda)
    if settings.advantage == "gae":
        advantage = returns.gae(data.reward, discount, value, next_value, trace_decay)
        return advantage, advantage + value
    behaviour_log_prob = trajectories.recorded(data, "log_prob", "actor_critic with vtrace")
    log_rho = log_prob - behaviour_log_prob  # log π(a|s) / μ(a|s), μ the policy that acted
    target, advantage = returns.vtrace(
        data.reward, discount, value, next_value, trace_decay, log_rho, hparams.rho_bar, hparams.c_bar
    )
    return advantage, target

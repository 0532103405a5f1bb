"""Soft actor-critic: a stochastic policy that maximises return and entropy, learned from replayed steps."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl import losses
from purerl.agents.common import optimization, q_critics
from purerl.hparams import NonNegative, UnitInterval, check_positive
from purerl.types import Agent, Metrics, Transition

_temperature_adam = optimization.adam_of("temperature_learning_rate")
_NEEDS = {
    "white": ("apply", "gaussian_actor"),
    "ou": ("action_space", "gaussian_actor"),
    "gsde": ("noise_shape", "gsde_actor"),
}  # of the actor: an attribute, and the network that has it


class SACHparams(NamedTuple):
    """Hyperparameters of soft actor-critic.

    Attributes:
      actor_learning_rate, critic_learning_rate, temperature_learning_rate: Adam's step sizes.
      discount: γ.
      tau: weight of the online critics in the target ones after every gradient step.
      temperature: α at the start, above 0, in the units of the reward; all along with `learn_temperature=False`.
      target_entropy: H̄ per component of the action, in nats, of the density of actions scaled to [−1, 1].
      noise_theta: rate at which lasting noise forgets, per step; 0: it stays for the whole episode.
    """

    actor_learning_rate: NonNegative = 3e-4
    critic_learning_rate: NonNegative = 1e-3
    temperature_learning_rate: NonNegative = 1e-3
    discount: UnitInterval = 0.99
    tau: UnitInterval = 0.005
    temperature: NonNegative = 1.0
    target_entropy: Any = -1.0
    noise_theta: NonNegative = 0.15


class SACParams(NamedTuple):
    """What is learned: the actor's parameters, a tuple of the critics', and log α (`()` where it is fixed)."""

    actor: Any
    critics: Any
    log_temperature: Any


class SACState(NamedTuple):
    """What a soft actor-critic carries.

    Attributes:
      params: what is learned.
      target_critics: parameters of the target critics.
      opt_state: the optimizers' states, an `SACParams` too.
      hparams: the hyperparameters.
      num_updates: int32, gradient steps made.
    """

    params: Any
    target_critics: Any
    opt_state: Any
    hparams: Any
    num_updates: jax.Array


def sac(
    actor: Any,
    critic: Any,
    *,
    num_critics: int = 2,
    learn_temperature: bool = True,
    exploration: str = "white",
    actor_optimizer: optimization.Optimizer = q_critics.actor_adam,
    critic_optimizer: optimization.Optimizer = q_critics.critic_adam,
    temperature_optimizer: optimization.Optimizer = _temperature_adam,
) -> Agent:
    """Soft actor-critic, to be put behind `combinators.with_replay`.

    For each window of n steps with n-step return G, bootstrap factor D and successor s' (`replay.n_step`), and
    q⁻ the least of the target critics, a gradient step on each of

        critics:      Σ_i ½ (G + D (q⁻(s', a') − α log π(a'|s')) − q_i(s, a))²,   a' ~ π(·|s')
        actor:        α log π(ã|s) − min_i q_i(s, ã),                              ã ~ π(·|s), reparametrised
        temperature:  α (−log π(ã|s) − H̄), with respect to log α

    in this order (the actor sees the new critics, all see the old α), then θ⁻ ← (1 − τ) θ⁻ + τ θ. log π is the density
    of actions scaled to [−1, 1], so H̄ and α mean the same whatever the bounds. With n > 1 the entropies of the steps
    between are left out, and the return is that of the actions once taken.

    With `exploration="ou"` the noise ε of acting, a = squash(μ + σ ε), is an Ornstein-Uhlenbeck process of variance 1
    through an episode: in each step the action is distributed as the policy says, but it pushes one way for
    about 1/`noise_theta` steps, which finds what a push must last for to be found. With `exploration="gsde"` the noise
    is zᵀ (exp(L) ∘ ε), z the actor's features of the state and L learned by the actor's loss through log π: a function
    of the state, whose matrix ε is such a process; with `noise_theta` 0 it stays for the episode. Learning is the same.

    Args:
      actor: `init(key, obs)` and `apply(params, obs) -> distributions.TanhGaussian`, such as
        `networks.gaussian_actor(env)`; for "ou" it has the attribute `action_space` too; for "gsde" it
        is `networks.gsde_actor(env)`, with `noise_shape` and `apply(params, obs, epsilon)`, moved by the noise.
      critic: `init(key, obs, action)` and `apply(params, obs, action) -> q`, such as `networks.critic(env)`.
      num_critics: how many critics, of which the least is believed.
      learn_temperature: descend on α; otherwise it stays at the hyperparameter `temperature`, which may be 0.
      exploration: "white", fresh noise a step, or "ou", or "gsde".
      actor_optimizer, critic_optimizer, temperature_optimizer: `hparams -> optax.GradientTransformation`; each sees
        its parameters as one flat vector.

    Returns:
      An agent with `SACHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: `num_critics` is not positive; an unknown exploration, or an actor without the attribute it needs.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 5, 7 and 18 and algorithm 1; lasting noise: Eberhard et al.
    2023, "Pink noise is all you need", which draws it from a power law; gSDE: Raffin et al. 2022, arXiv:2005.05719,
    section 3, whose matrix is drawn anew every n steps in place of forgetting slowly.
    """
    check_positive(num_critics=num_critics)
    q_critics.check_exploration(exploration, tuple(_NEEDS))
    attribute, network = _NEEDS[exploration]
    if not hasattr(actor, attribute):
        raise ValueError(f"exploration={exploration!r} needs an actor with {attribute}, such as {network}(env)")

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> SACState:
        actor_key, critic_key = jax.random.split(key)
        actor_params = actor.init(actor_key, example)
        action = actor.apply(actor_params, example).mode()
        critic_params = q_critics.init(critic, critic_key, example, action, num_critics)
        log_temperature = jnp.log(hparams.temperature) if learn_temperature else ()
        params = SACParams(actor_params, critic_params, log_temperature)
        optimizers = actor_optimizer, critic_optimizer, temperature_optimizer
        opt_state = SACParams(*(optimization.init(o, hparams, p) for o, p in zip(optimizers, params)))
        return SACState(params, critic_params, opt_state, hparams, jnp.int32(0))

    def memory(key: jax.Array | None, state: SACState) -> jax.Array:
        return q_critics.start_noise(key, actor.noise_shape if exploration == "gsde" else actor.action_space.shape)

    def act(key: jax.Array | None, state: SACState, obs: Any, *memory: jax.Array) -> tuple[Any, ...]:
        policy = actor.apply(state.params.actor, obs)
        if key is None:
            return policy.mode(), (), *memory
        if exploration == "white":
            return policy.sample(seed=key), ()
        epsilon = q_critics.lasting_noise(key, memory[0], state.hparams.noise_theta)
        if exploration == "gsde":
            return actor.apply(state.params.actor, obs, epsilon).mode(), (), epsilon
        return policy.squash(policy.base.mean + jnp.exp(policy.base.log_std) * epsilon), (), epsilon

    def update(key: jax.Array, state: SACState, data: Transition) -> tuple[SACState, Metrics]:
        hparams, params, opt_state = state.hparams, state.params, state.opt_state
        next_key, actor_key = jax.random.split(key)
        batch = q_critics.read(data, hparams.discount)
        temperature = jnp.exp(params.log_temperature) if learn_temperature else hparams.temperature

        next_action, next_log_prob = _sample(next_key, actor, params.actor, batch.next_obs)
        next_q = q_critics.smallest(critic, state.target_critics, batch.next_obs, next_action)
        target = losses.entropy_regularized_target(batch.reward, batch.discount, next_q, next_log_prob, temperature)
        critic_params, critic_opt, metrics = q_critics.step(
            critic_optimizer(hparams), critic, params.critics, opt_state.critics, batch, target
        )

        loss = functools.partial(_actor_loss, actor_key, actor, critic, critic_params, temperature, batch.obs)
        actor_params, actor_opt, (total, entropy, size) = optimization.step(
            actor_optimizer(hparams), loss, params.actor, opt_state.actor
        )
        log_temperature, temperature_opt = params.log_temperature, opt_state.log_temperature
        if learn_temperature:
            excess = entropy - hparams.target_entropy * size
            log_temperature, temperature_opt, _ = optimization.step(
                temperature_optimizer(hparams), lambda x: (jnp.exp(x) * excess, ()), log_temperature, temperature_opt
            )
        metrics |= {"loss/actor": total, "entropy": entropy, "temperature": temperature}
        return SACState(
            SACParams(actor_params, critic_params, log_temperature),
            optax.incremental_update(critic_params, state.target_critics, hparams.tau),
            SACParams(actor_opt, critic_opt, temperature_opt),
            hparams,
            state.num_updates + 1,
        ), metrics

    return Agent(init, act, update, None if exploration == "white" else memory)


def _actor_loss(
    key: jax.Array, actor: Any, critic: Any, critic_params: Any, temperature: jax.Array, obs: Any, actor_params: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, int]]:
    """Mean of α log π(ã|s) − min q(s, ã); beside it itself, the entropy in nats, and the components of an action."""
    action, log_prob = _sample(key, actor, actor_params, obs)
    total = (temperature * log_prob - q_critics.smallest(critic, critic_params, obs, action)).mean()
    return total, (total, -log_prob.mean(), math.prod(action.shape[1:]))


def _sample(key: jax.Array, actor: Any, params: Any, obs: Any) -> tuple[jax.Array, jax.Array]:
    """Actions [B, ...] of the policy and their log-densities [B] once scaled to [−1, 1]."""
    policy = jax.vmap(actor.apply, (None, 0))(params, obs)
    action, log_prob = policy.sample_and_log_prob(seed=key)
    return action, log_prob + policy.base.sum_event(jnp.log((policy.high - policy.low) / 2))

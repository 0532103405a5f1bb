"""Soft actor-critic: a stochastic policy that maximises return and entropy, learned from replayed steps."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax

from purerl import losses
from purerl.agents.common import network_checks, optimization, q_critics, soft_actor
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval
from purerl.once import build_once
from purerl.types import Agent, Key, Metrics, Network, Transition


class SACHparams(NamedTuple):
    """Hyperparameters of soft actor-critic.

    Attributes:
      actor_learning_rate, critic_learning_rate, temperature_learning_rate: Adam's step sizes.
      discount: γ.
      tau: weight of the online critics in the target ones after every gradient step.
      temperature: α at the start, above 0, in the units of the reward; constant with `learn_temperature=False`.
      target_entropy: H̄ per component of the action, in nats, of the density of actions scaled to [−1, 1].
      noise_theta: rate at which correlated noise forgets, per step; 0: it stays for the whole episode.
      priority_exponent: α of prioritized replay; 0: uniform.
      importance_exponent: β of prioritized replay at the start.
      importance_anneal_updates: gradient steps over which β rises to 1; inf: it stays.
    """

    actor_learning_rate: NonNegative = 3e-4
    critic_learning_rate: NonNegative = 1e-3
    temperature_learning_rate: NonNegative = 1e-3
    discount: UnitInterval = 0.99
    tau: UnitInterval = 0.005
    temperature: NonNegative = 1.0
    target_entropy: Any = -1.0
    noise_theta: NonNegative = 0.15
    priority_exponent: UnitInterval = 0.6
    importance_exponent: UnitInterval = 0.4
    importance_anneal_updates: AtLeastOne = float("inf")


@build_once
def sac(
    actor: Network,
    critic: Network,
    *,
    num_critics: int = 2,
    learn_temperature: bool = True,
    exploration: str = "white",
    actor_optimizer: optimization.Optimizer = q_critics.actor_adam,
    critic_optimizer: optimization.Optimizer = q_critics.critic_adam,
    temperature_optimizer: optimization.Optimizer = soft_actor.temperature_adam,
) -> Agent:
    """Soft actor-critic, to be put behind `combinators.with_replay`.

    For each window of n steps with n-step return G, bootstrap factor D and successor s' (`replay.n_step`), and
    q⁻ the minimum of the target critics, a gradient step on each of

        critics:      Σ_i ½ (G + D (q⁻(s', a') − α log π(a'|s')) − q_i(s, a))²,   a' ~ π(·|s')
        actor:        α log π(ã|s) − min_i q_i(s, ã),                              ã ~ π(·|s), reparametrised
        temperature:  α (−log π(ã|s) − H̄), with respect to log α

    in this order (the actor sees the new critics, all see the old α), then θ⁻ ← (1 − τ) θ⁻ + τ θ. log π is the density
    of actions scaled to [−1, 1], so H̄ and α mean the same whatever the bounds. With n > 1 the entropies of the steps
    between are left out, and the return is that of the recorded actions.

    With `exploration="ou"` the noise ε of acting, a = squash(μ + σ ε), is an Ornstein-Uhlenbeck process of variance 1
    through an episode: in each step the action has the distribution of the policy, but it pushes one way for
    about 1/`noise_theta` steps: coherent exploration instead of jitter. With `exploration="gsde"` the noise
    is zᵀ (exp(L) ∘ ε), z the actor's features of the state and L learned by the actor's loss through log π: a function
    of the state, whose matrix ε is such a process; with `noise_theta` 0 it stays for the episode. Learning is the same.

    Args:
      actor: `init(key, obs)` and `apply(params, obs) -> distributions.TanhGaussian`, such as
        `networks.gaussian_actor(env)`; for "ou" it has the attribute `action_space` too; for "gsde" it
        is `networks.gsde_actor(env)`, with `noise_shape` and `apply(params, obs, epsilon)`, moved by the noise.
      critic: `init(key, obs, action)` and `apply(params, obs, action) -> q`, such as `networks.critic(env)`.
      num_critics: number of critics; the minimum of the critics is used.
      learn_temperature: learn α by gradient steps; otherwise it is the hyperparameter `temperature`, which may be 0.
      exploration: "white", fresh noise per step, or "ou", or "gsde".
      actor_optimizer, critic_optimizer, temperature_optimizer: `hparams -> optax.GradientTransformation`. Each sees
        the tree of its parameters; the defaults, which treat all of them in the same way, one flat vector (see
        `optimization.OnVector`).

    Returns:
      An agent with `SACHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: `num_critics` is not positive; an unknown exploration, or an actor without the attribute it needs;
        a critic with running statistics or dropout.
      TypeError: an actor with memory.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe(continuous=True)
      >>> agent = purerl.sac(purerl.networks.gaussian_actor(env, (4,)), purerl.networks.critic(env, (4,)))
      >>> agent = purerl.combinators.with_replay(agent, capacity=64, batch_size=8)
      >>> sizes = dict(num_updates=8, num_envs=2, rollout_length=1)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.SACHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["temperature"].shape
      (8,)

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 5, 7 and 18 and algorithm 1; correlated noise: Eberhard et al.
    2023, "Pink noise is all you need", which draws it from a power law; gSDE: Raffin et al. 2022, arXiv:2005.05719,
    section 3, whose matrix is resampled every n steps instead of forgetting slowly.
    """
    network_checks.check_critic(critic, "sac")
    settings = soft_actor.Settings(
        actor, critic, num_critics, learn_temperature, exploration,
        actor_optimizer, critic_optimizer, temperature_optimizer,
    )  # fmt: skip
    return soft_actor.make("sac", settings, functools.partial(_update, settings))


def _update(
    settings: soft_actor.Settings, key: Key, state: soft_actor.SACState, data: Transition
) -> tuple[soft_actor.SACState, Metrics]:
    """One gradient step of the critics, of the actor and of the temperature, on windows [L, B]."""
    hparams, params, opt_state = state.hparams, state.params, state.opt_state
    critic_key, actor_key = jax.random.split(key)
    batch = q_critics.n_step_batch(data, hparams.discount)
    temperature = soft_actor.temperature(settings, params, hparams)

    target = _target(settings, critic_key, state, batch, temperature)
    critics, critic_opt, metrics = q_critics.gradient_step(
        settings.critic_optimizer, hparams, settings.critic, params.critics, opt_state.critics, batch, target
    )
    state, more = soft_actor.follow_critics(
        settings, actor_key, state, critics, critic_opt, batch.obs, temperature,
        functools.partial(q_critics.minimum, settings.critic, critics),
    )  # fmt: skip
    return state, metrics | more


def _target(
    settings: soft_actor.Settings,
    key: Key,
    state: soft_actor.SACState,
    batch: q_critics.Batch,
    temperature: jax.Array,
) -> jax.Array:
    """G + D (q⁻(s', a') − α log π(a'|s')), [B]."""
    action, log_prob = soft_actor.sample(key, settings.actor, state.params.actor, batch.next_obs)
    next_q = q_critics.minimum(settings.critic, state.target_critics, batch.next_obs, action)
    return losses.entropy_regularized_target(batch.reward, batch.discount, next_q, log_prob, temperature)

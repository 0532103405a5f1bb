"""Twin delayed deep deterministic policy gradient (TD3), and DDPG as a setting of it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import losses
from purerl.agents.common import counts, optimization, q_critics
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval, check_positive
from purerl.types import Agent, Key, Metrics, Network, Params, PyTree, Requirements, Transition


class TD3Hparams(NamedTuple):
    """Hyperparameters of TD3. Deviations of noise are in halves of the action's range.

    Attributes:
      actor_learning_rate, critic_learning_rate: Adam's step sizes.
      discount: γ.
      tau: weight of the online parameters in the target ones after every step of the actor.
      exploration_noise: standard deviation of the noise of acting.
      target_noise: standard deviation of the noise on the target actor's action.
      target_noise_clip: that noise is clipped to ± this.
      noise_theta: rate at which "ou" noise forgets, per step.
      warmup_updates: actions are uniformly random until the critics have made this many gradient steps; the default, 1,
        means until learning begins, which is the `min_size` of the replay; 0: never.
      priority_exponent: α of prioritized replay; 0: uniform.
      importance_exponent: β of prioritized replay at the start.
      importance_anneal_updates: gradient steps over which β rises to 1; inf: it stays.
    """

    actor_learning_rate: NonNegative = 3e-4
    critic_learning_rate: NonNegative = 1e-3
    discount: UnitInterval = 0.99
    tau: UnitInterval = 0.005
    exploration_noise: NonNegative = 0.1
    target_noise: NonNegative = 0.2
    target_noise_clip: NonNegative = 0.5
    noise_theta: NonNegative = 0.15
    warmup_updates: NonNegative = 1.0
    priority_exponent: UnitInterval = 0.6
    importance_exponent: UnitInterval = 0.4
    importance_anneal_updates: AtLeastOne = float("inf")


class TD3Params(NamedTuple):
    """The actor's parameters and a tuple of the critics'."""

    actor: Params
    critics: Params


class TD3State(NamedTuple):
    """State of TD3.

    Attributes:
      params, target_params: `TD3Params`, online and target.
      opt_state: the optimizers' states, a `TD3Params` too.
      hparams: the hyperparameters.
      num_updates: int32, gradient steps of the critics made.
    """

    params: TD3Params
    target_params: TD3Params
    opt_state: TD3Params
    hparams: TD3Hparams
    num_updates: jax.Array


class _Settings(NamedTuple):
    """The arguments of `td3`."""

    actor: q_critics.Actor
    critic: Network
    num_critics: int
    policy_delay: int
    exploration: str
    actor_optimizer: optimization.Optimizer
    critic_optimizer: optimization.Optimizer


def td3(
    actor: Network,
    critic: Network,
    *,
    num_critics: int = 2,
    policy_delay: int = 2,
    exploration: str = "white",
    actor_optimizer: optimization.Optimizer = q_critics.actor_adam,
    critic_optimizer: optimization.Optimizer = q_critics.critic_adam,
) -> Agent:
    """TD3, to be put behind `combinators.with_replay`.

    An update cuts its B windows into `policy_delay` parts. For each part in turn, with n-step return G, bootstrap
    factor D and successor s' (`replay.n_step`), the critics make a gradient step on

        Σ_i ½ (G + D min_i q⁻_i(s', ã) − q_i(s, a))²,   ã = clip(μ⁻(s') + h clip(σ̃ ε, −c, c), low, high)

    with h half the range of actions and ε standard normal; then the actor makes one step on −q_1(s, μ(s)) over the last
    part, and the targets move: θ⁻ ← (1 − τ) θ⁻ + τ θ. The delay is thus in the structure of the program: no step is
    computed and thrown away, under `vmap` either, and a part of B / `policy_delay` windows is a batch of the source.

    Until `warmup_updates` gradient steps have been made, actions with a key are uniform in the bounds: those of an
    untrained actor all lie near the middle.

    DDPG is `td3(actor, critic, num_critics=1, policy_delay=1, exploration="ou")` with `target_noise=0` and
    `warmup_updates=0`.

    Args:
      actor: `init(key, obs)`, `apply(params, obs) -> action` and the attribute `action_space`, a `Box`, such as
        `networks.deterministic_actor(env)`.
      critic: `init(key, obs, action)` and `apply(params, obs, action) -> q`, such as `networks.critic(env)`.
      num_critics: number of critics; the minimum of the critics is the target.
      policy_delay: gradient steps of the critics per step of the actor; it divides the `batch_size` of the replay.
      exploration: "white", clip(μ(s) + h σ ε, low, high) with fresh ε per step; "ou", with ε an Ornstein-Uhlenbeck
        process of variance 1 through an episode.
      actor_optimizer, critic_optimizer: `hparams -> optax.GradientTransformation`. Each sees the tree of its
        parameters; the defaults, which treat all of them in the same way, one flat vector (see
        `optimization.OnVector`).

    Returns:
      An agent with `TD3Hparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: a number is not positive, an unknown exploration, an actor without `action_space`, or, in `update`,
        a batch that `policy_delay` does not divide.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe(continuous=True)
      >>> agent = purerl.td3(purerl.networks.deterministic_actor(env, (4,)), purerl.networks.critic(env, (4,)))
      >>> agent = purerl.combinators.with_replay(agent, capacity=64, batch_size=8)
      >>> sizes = dict(num_updates=8, num_envs=2, rollout_length=1)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.TD3Hparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["loss/critic"].shape
      (8,)

    Source: Fujimoto et al. 2018, arXiv:1802.09477, algorithm 1; DDPG: Lillicrap et al. 2016, arXiv:1509.02971; the
    random actions before learning: the authors' code, Stable-Baselines3 and CleanRL.
    """
    check_positive(num_critics=num_critics, policy_delay=policy_delay)
    q_critics.check_exploration(exploration, ("white", "ou"))
    if not hasattr(actor, "action_space"):
        raise ValueError("td3 needs an actor with the attribute action_space, such as deterministic_actor(env)")
    settings = _Settings(actor, critic, num_critics, policy_delay, exploration, actor_optimizer, critic_optimizer)
    return Agent(
        functools.partial(_init, settings),
        functools.partial(_act, settings),
        functools.partial(_update, settings),
        functools.partial(_memory, settings) if exploration == "ou" else None,
        Requirements(data="trajectory"),
    )


def _init(settings: _Settings, key: Key, hparams: TD3Hparams, example: PyTree, num_envs: int = 1) -> TD3State:
    actor_key, critic_key = jax.random.split(key)
    actor_params = settings.actor.init(actor_key, example)
    action = settings.actor.apply(actor_params, example)
    critic_params = q_critics.init(settings.critic, critic_key, example, action, settings.num_critics)
    params = TD3Params(actor_params, critic_params)
    optimizers = settings.actor_optimizer, settings.critic_optimizer
    opt_state = TD3Params(*(optimization.init(o, hparams, p) for o, p in zip(optimizers, params)))
    return TD3State(params, params, opt_state, hparams, jnp.int32(0))


def _memory(settings: _Settings, key: Key | None, state: TD3State) -> jax.Array:
    return q_critics.initial_noise(key, settings.actor.action_space.shape)


def _act(settings: _Settings, key: Key | None, state: TD3State, obs: PyTree, *memory: jax.Array) -> tuple[Any, ...]:
    """The actor's action and noise; with a key and before learning begins, a uniformly random action."""
    action, hparams = settings.actor.apply(state.params.actor, obs), state.hparams
    if key is None:
        return action, (), *memory
    if settings.exploration == "white":
        epsilon = jax.random.normal(key, action.shape)
    else:
        memory = (q_critics.correlated_noise(key, memory[0], hparams.noise_theta),)
        epsilon = memory[0]
    noisy = _perturbed(settings, action, hparams.exploration_noise * epsilon)
    # a key of its own, so that the noise above is what it is without a warm-up
    uniform = _uniform(settings, jax.random.fold_in(key, 1), action)
    return jnp.where(state.num_updates < hparams.warmup_updates, uniform, noisy), (), *memory


def _perturbed(settings: _Settings, action: jax.Array, epsilon: jax.Array) -> jax.Array:
    """clip(a + h ε, low, high), with h half the range of actions."""
    low, high = settings.actor.action_space.bounds()
    return jnp.clip(action + (high - low) / 2 * epsilon, low, high).astype(action.dtype)


def _uniform(settings: _Settings, key: Key, action: jax.Array) -> jax.Array:
    """A uniformly random action of the shape and dtype of another."""
    low, high = settings.actor.action_space.bounds()
    return (low + (high - low) * jax.random.uniform(key, action.shape)).astype(action.dtype)


def _update(settings: _Settings, key: Key, state: TD3State, data: Transition) -> tuple[TD3State, Metrics]:
    """`policy_delay` gradient steps of the critics on windows [L, B], then one of the actor."""
    policy_delay = settings.policy_delay
    batch = q_critics.n_step_batch(data, state.hparams.discount)
    if len(batch.reward) % policy_delay:
        raise ValueError(f"policy_delay = {policy_delay} does not divide the batch of {len(batch.reward)} windows")
    # [B, ...] -> [policy_delay, B / policy_delay, ...]
    parts = jax.tree.map(lambda x: x.reshape(policy_delay, -1, *x.shape[1:]), batch)
    keys = jax.random.split(key, policy_delay)
    state, metrics = jax.lax.scan(lambda state, xs: _critic_step(settings, xs[0], state, xs[1]), state, (keys, parts))
    state, total = _actor_step(settings, state, jax.tree.map(lambda x: x[-1], parts.obs))
    metrics = {name: x.reshape(-1) if name == "priority" else x.mean() for name, x in metrics.items()}
    return state, metrics | {"loss/actor": total}


def _critic_step(settings: _Settings, key: Key, state: TD3State, batch: q_critics.Batch) -> tuple[TD3State, Metrics]:
    """One gradient step of the critics towards G + D min_i q⁻_i(s', ã)."""
    hparams, target_params = state.hparams, state.target_params
    next_action = _apply(settings.actor, target_params.actor, batch.next_obs)  # [B, ...]
    epsilon = hparams.target_noise * jax.random.normal(key, next_action.shape)
    epsilon = jnp.clip(epsilon, -hparams.target_noise_clip, hparams.target_noise_clip)
    next_action = jax.vmap(functools.partial(_perturbed, settings))(next_action, epsilon)
    next_q = q_critics.minimum(settings.critic, target_params.critics, batch.next_obs, next_action)
    target = losses.td_target(batch.reward, batch.discount, next_q)
    params, opt_state, metrics = q_critics.gradient_step(
        settings.critic_optimizer, hparams, settings.critic,
        state.params.critics, state.opt_state.critics, batch, target,
    )  # fmt: skip
    return state._replace(
        params=state.params._replace(critics=params),
        opt_state=state.opt_state._replace(critics=opt_state),
        num_updates=counts.increment(state.num_updates),
    ), metrics


def _actor_step(settings: _Settings, state: TD3State, obs: PyTree) -> tuple[TD3State, jax.Array]:
    """One gradient step of the actor on −q_1(s, μ(s)) over observations [B], and one of the targets; and that loss."""

    def loss(params: Params) -> tuple[jax.Array, jax.Array]:
        action = _apply(settings.actor, params, obs)
        total = -q_critics.minimum(settings.critic, state.params.critics[:1], obs, action).mean()
        return total, total

    actor_params, opt_state, total = optimization.gradient_step(
        settings.actor_optimizer, state.hparams, loss, state.params.actor, state.opt_state.actor
    )
    params = state.params._replace(actor=actor_params)
    return state._replace(
        params=params,
        target_params=optimization.polyak(params, state.target_params, state.hparams.tau),
        opt_state=state.opt_state._replace(actor=opt_state),
    ), total


def _apply(actor: Network, params: Params, obs: PyTree) -> jax.Array:
    """The actor's actions [B, ...] for observations [B]."""
    return jax.vmap(actor.apply, (None, 0))(params, obs)

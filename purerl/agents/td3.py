"""Twin delayed deep deterministic policy gradient (TD3), and DDPG as a setting of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl import losses
from purerl.agents.common import optimization, q_critics
from purerl.hparams import NonNegative, UnitInterval, check_positive
from purerl.types import Agent, Metrics, Transition


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
    """

    actor_learning_rate: NonNegative = 3e-4
    critic_learning_rate: NonNegative = 1e-3
    discount: UnitInterval = 0.99
    tau: UnitInterval = 0.005
    exploration_noise: NonNegative = 0.1
    target_noise: NonNegative = 0.2
    target_noise_clip: NonNegative = 0.5
    noise_theta: NonNegative = 0.15


class TD3Params(NamedTuple):
    """The actor's parameters and a tuple of the critics'."""

    actor: Any
    critics: Any


class TD3State(NamedTuple):
    """What TD3 carries.

    Attributes:
      params, target_params: `TD3Params`, online and target.
      opt_state: the optimizers' states, a `TD3Params` too.
      hparams: the hyperparameters.
      num_updates: int32, gradient steps of the critics made.
    """

    params: Any
    target_params: Any
    opt_state: Any
    hparams: Any
    num_updates: jax.Array


def td3(
    actor: Any,
    critic: Any,
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

    DDPG is `td3(actor, critic, num_critics=1, policy_delay=1)` with `target_noise=0`, commonly with "ou" noise.

    Args:
      actor: `init(key, obs)`, `apply(params, obs) -> action` and the attribute `action_space`, a `Box`, such as
        `networks.deterministic_actor(env)`.
      critic: `init(key, obs, action)` and `apply(params, obs, action) -> q`, such as `networks.critic(env)`.
      num_critics: how many critics, of which the least is the target.
      policy_delay: steps of the critics for one of the actor; it divides the `batch_size` of the replay.
      exploration: "white", clip(μ(s) + h σ ε, low, high) with fresh ε a step; "ou", with ε an Ornstein-Uhlenbeck
        process of variance 1 through an episode.
      actor_optimizer, critic_optimizer: `hparams -> optax.GradientTransformation`; each sees its parameters as one
        flat vector.

    Returns:
      An agent with `TD3Hparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: a number is not positive, an unknown exploration, an actor without `action_space`, or, in `update`,
        a batch that `policy_delay` does not divide.

    Source: Fujimoto et al. 2018, arXiv:1802.09477, algorithm 1; DDPG: Lillicrap et al. 2016, arXiv:1509.02971.
    """
    check_positive(num_critics=num_critics, policy_delay=policy_delay)
    q_critics.check_exploration(exploration, ("white", "ou"))
    if not hasattr(actor, "action_space"):
        raise ValueError("td3 needs an actor with the attribute action_space, such as deterministic_actor(env)")
    low, high = actor.action_space.bounds()

    def perturbed(action: jax.Array, epsilon: jax.Array) -> jax.Array:
        return jnp.clip(action + (high - low) / 2 * epsilon, low, high)

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> TD3State:
        actor_key, critic_key = jax.random.split(key)
        actor_params = actor.init(actor_key, example)
        action = actor.apply(actor_params, example)
        params = TD3Params(actor_params, q_critics.init(critic, critic_key, example, action, num_critics))
        optimizers = actor_optimizer, critic_optimizer
        opt_state = TD3Params(*(optimization.init(o, hparams, p) for o, p in zip(optimizers, params)))
        return TD3State(params, params, opt_state, hparams, jnp.int32(0))

    def memory(key: jax.Array | None, state: TD3State) -> jax.Array:
        return q_critics.start_noise(key, low.shape)

    def act(key: jax.Array | None, state: TD3State, obs: Any, *memory: jax.Array) -> tuple[Any, ...]:
        action, hparams = actor.apply(state.params.actor, obs), state.hparams
        if key is None:
            return action, (), *memory
        if exploration == "white":
            return perturbed(action, hparams.exploration_noise * jax.random.normal(key, low.shape)), ()
        epsilon = q_critics.lasting_noise(key, memory[0], hparams.noise_theta)
        return perturbed(action, hparams.exploration_noise * epsilon), (), epsilon

    def critic_step(key: jax.Array, state: TD3State, batch: q_critics.Batch) -> tuple[TD3State, Metrics]:
        hparams, target_params = state.hparams, state.target_params
        epsilon = hparams.target_noise * jax.random.normal(key, (len(batch.reward), *low.shape))
        epsilon = jnp.clip(epsilon, -hparams.target_noise_clip, hparams.target_noise_clip)
        next_action = perturbed(_act(actor, target_params.actor, batch.next_obs), epsilon)
        next_q = q_critics.smallest(critic, target_params.critics, batch.next_obs, next_action)
        target = losses.td_target(batch.reward, batch.discount, next_q)
        params, opt_state, metrics = q_critics.step(
            critic_optimizer(hparams), critic, state.params.critics, state.opt_state.critics, batch, target
        )
        return state._replace(
            params=state.params._replace(critics=params),
            opt_state=state.opt_state._replace(critics=opt_state),
            num_updates=state.num_updates + 1,
        ), metrics

    def actor_step(state: TD3State, obs: Any) -> tuple[TD3State, jax.Array]:
        def loss(params: Any) -> tuple[jax.Array, jax.Array]:
            total = -q_critics.smallest(critic, state.params.critics[:1], obs, _act(actor, params, obs)).mean()
            return total, total

        transform = actor_optimizer(state.hparams)
        actor_params, opt_state, total = optimization.step(transform, loss, state.params.actor, state.opt_state.actor)
        params = state.params._replace(actor=actor_params)
        return state._replace(
            params=params,
            target_params=optax.incremental_update(params, state.target_params, state.hparams.tau),
            opt_state=state.opt_state._replace(actor=opt_state),
        ), total

    def update(key: jax.Array, state: TD3State, data: Transition) -> tuple[TD3State, Metrics]:
        batch = q_critics.read(data, state.hparams.discount)
        if len(batch.reward) % policy_delay:
            raise ValueError(f"policy_delay = {policy_delay} does not divide the batch of {len(batch.reward)} windows")
        parts = jax.tree.map(lambda x: x.reshape(policy_delay, -1, *x.shape[1:]), batch)
        keys = jax.random.split(key, policy_delay)
        state, metrics = jax.lax.scan(lambda state, xs: critic_step(xs[0], state, xs[1]), state, (keys, parts))
        state, total = actor_step(state, jax.tree.map(lambda x: x[-1], parts.obs))
        metrics = {name: x.reshape(-1) if name == "priority" else x.mean() for name, x in metrics.items()}
        return state, metrics | {"loss/actor": total}

    return Agent(init, act, update, memory if exploration == "ou" else None)


def _act(actor: Any, params: Any, obs: Any) -> jax.Array:
    return jax.vmap(actor.apply, (None, 0))(params, obs)

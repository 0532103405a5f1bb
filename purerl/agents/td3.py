"""Twin delayed deep deterministic policy gradient (TD3), and DDPG as a setting of it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.agents.common import deterministic_actor, optimization, q_critics
from purerl.agents.common.deterministic_actor import Settings, TD3State
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval
from purerl.once import build_once
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


@build_once
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
      ValueError: a number is not positive, an unknown exploration, an actor without `action_space`, a critic with
        running statistics or dropout, or, in `update`, a batch that `policy_delay` does not divide.
      TypeError: an actor with memory.

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
    q_critics.check_exploration(exploration, ("white", "ou"))
    settings = Settings(actor, critic, num_critics, policy_delay, actor_optimizer, critic_optimizer, exploration)
    deterministic_actor.check(settings, "td3")
    return Agent(
        functools.partial(deterministic_actor.init, settings),
        functools.partial(_act, settings),
        functools.partial(_update, settings),
        functools.partial(_memory, settings) if exploration == "ou" else None,
        Requirements(data="trajectory"),
    )


def _memory(settings: Settings, key: Key | None, state: TD3State) -> jax.Array:
    return q_critics.initial_noise(key, settings.actor.action_space.shape)


def _act(
    settings: Settings,
    key: Key | None,
    state: TD3State,
    obs: PyTree,
    *memory: jax.Array,
) -> tuple[Any, ...]:
    """The actor's action and noise; with a key and before learning begins, a uniformly random action."""
    action, hparams = settings.actor.apply(state.params.actor, obs), state.hparams
    if key is None:
        return action, (), *memory
    if settings.exploration == "white":
        epsilon = jax.random.normal(key, action.shape)
    else:
        memory = (q_critics.correlated_noise(key, memory[0], hparams.noise_theta),)
        epsilon = memory[0]
    noisy = deterministic_actor.perturbed(settings, action, hparams.exploration_noise * epsilon)
    # a key of its own, so that the noise above is what it is without a warm-up
    uniform = _uniform(settings, jax.random.fold_in(key, 1), action)
    return jnp.where(state.num_updates < hparams.warmup_updates, uniform, noisy), (), *memory


def _uniform(settings: Settings, key: Key, action: jax.Array) -> jax.Array:
    """A uniformly random action of the shape and dtype of another."""
    low, high = settings.actor.action_space.bounds()
    return (low + (high - low) * jax.random.uniform(key, action.shape)).astype(action.dtype)


def _update(settings: Settings, key: Key, state: TD3State, data: Transition) -> tuple[TD3State, Metrics]:
    """`policy_delay` gradient steps of the critics on windows [L, B], then one of the actor."""
    batch = q_critics.n_step_batch(data, state.hparams.discount)
    state, metrics, last = q_critics.in_parts(
        functools.partial(deterministic_actor.critic_step, settings), key, state, batch, settings.policy_delay
    )
    loss = functools.partial(_actor_loss, settings, state, last.obs)
    state, total = deterministic_actor.actor_step(settings, state, loss)
    return state, metrics | {"loss/actor": total}


def _actor_loss(settings: Settings, state: TD3State, obs: PyTree, params: Params) -> tuple[jax.Array, jax.Array]:
    """Mean of −q_1(s, μ(s)) over observations [B], twice."""
    action = deterministic_actor.apply(settings.actor, params, obs)
    total = -q_critics.minimum(settings.critic, state.params.critics[:1], obs, action).mean()
    return total, total

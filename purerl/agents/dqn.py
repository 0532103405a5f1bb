"""Deep Q-networks and their family: double, dueling, n-step, prioritised, C51, QR-DQN, noisy; options of one agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from purerl import exploration, losses, replay
from purerl.agents.common import optimization
from purerl.exploration.selection import annealed_epsilon
from purerl.hparams import AtLeastOne, Interval, NonNegative, UnitInterval
from purerl.spaces import action_mask
from purerl.types import Agent, Metrics, Transition


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
      value_min, value_max: ends of the support of returns, of "categorical".
      priority_exponent: α of prioritised replay; 0: uniform.
      importance_exponent: β of prioritised replay at the start.
      importance_anneal_updates: gradient steps over which β rises to 1; inf: it stays.
      anneal_updates: the learning rate falls linearly to 0 over this many gradient steps; inf: it stays.
    """

    learning_rate: NonNegative = 1e-3
    discount: UnitInterval = 0.99
    tau: UnitInterval = 1.0
    target_period: Annotated[Any, Interval(1, 2**31 - 1)] = 500
    initial_epsilon: UnitInterval = 1.0
    epsilon: UnitInterval = 0.05
    epsilon_anneal_updates: NonNegative = 5000.0
    max_grad_norm: NonNegative = 10.0
    value_min: Any = 0.0
    value_max: Any = 100.0
    priority_exponent: UnitInterval = 0.6
    importance_exponent: UnitInterval = 0.4
    importance_anneal_updates: AtLeastOne = float("inf")
    anneal_updates: AtLeastOne = float("inf")


class DQNState(NamedTuple):
    """What a DQN carries.

    Attributes:
      params, target_params: of the network, online and target.
      opt_state: the optimizer's state.
      hparams: the hyperparameters.
      num_updates: int32, gradient steps made.
    """

    params: Any
    target_params: Any
    opt_state: Any
    hparams: Any
    num_updates: jax.Array


def dqn(
    network: Any,
    *,
    head: str = "value",
    double: bool = True,
    noisy: bool = False,
    huber: bool = False,
    optimizer: optimization.Optimizer = optimization.adam,
) -> Agent:
    """Deep Q-learning, to be put behind `combinators.with_replay`.

    For each window of n steps (n = `length` of the replay, or the rollout's length without one) with n-step return G,
    bootstrap factor D and successor s' (`replay.n_step`),

        target = G + D q⁻(s', a*),   a* = argmax q(s', ·) if double, else argmax q⁻(s', ·),

    with q⁻ the target network, and the loss is the mean over windows of w · ½ (target − q(s, a))², w the importance
    weights of prioritised replay (the data's mask); where there are such, |target − q(s, a)| is the metric "priority".
    Actions are ε-greedy, among those that `obs["action_mask"]` allows where there is one.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> [A]`, such as `networks.q_network(env)`; [A, Z] with the
        heads below; `apply(params, obs, key)` if noisy.
      head: "value"; "categorical": Z logits over returns from `value_min` to `value_max` (C51), the loss being the
        cross entropy to the projected target; "quantile": Z quantiles of the return (QR-DQN).
      double: let the online network choose the action that the target network judges.
      noisy: explore by the network's own noise; ε should be 0. Each step and each sample draws its own.
      huber: the absolute value of errors beyond 1 in place of their square (κ = 1 of "quantile" in place of 0). It
        leans to the median: where values are in the tens and ends are rare it forgets them, and CartPole diverges.
      optimizer: `hparams -> optax.GradientTransformation`; it sees all parameters as one flat vector.

    Returns:
      An agent whose hyperparameters are `DQNHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: an unknown head.

    Source: Mnih et al. 2015; double: van Hasselt et al. 2016, arXiv:1509.06461, eq. 4; C51: Bellemare et al. 2017,
    arXiv:1707.06887, algorithm 1; QR-DQN: Dabney et al. 2018, arXiv:1710.10044, algorithm 1; noisy: arXiv:1706.10295;
    together: Hessel et al. 2018, "Rainbow".
    """
    if head not in _HEADS:
        raise ValueError(f"head must be one of {', '.join(_HEADS)}; got {head!r}")
    read, loss_of_head = _HEADS[head]

    def apply(key: jax.Array | None, params: Any, obs: Any) -> jax.Array:
        return network.apply(params, obs, key) if noisy else network.apply(params, obs)

    def batched(key: jax.Array, params: Any, obs: Any) -> jax.Array:
        keys = jax.random.split(key, jax.tree.leaves(obs)[0].shape[0]) if noisy else None
        return jax.vmap(apply, (0 if noisy else None, None, 0))(keys, params, obs)

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> DQNState:
        params = network.init(key, example)
        return DQNState(params, params, optimization.init(optimizer, hparams, params), hparams, jnp.int32(0))

    def act(key: jax.Array | None, state: DQNState, obs: Any) -> tuple[jax.Array, tuple]:
        if key is None:
            return exploration.greedy(None, read(apply(None, state.params, obs), state.hparams), action_mask(obs)), ()
        noise_key, key = jax.random.split(key) if noisy else (None, key)
        q = read(apply(noise_key, state.params, obs), state.hparams)
        epsilon = annealed_epsilon(state.hparams, state.num_updates)
        return exploration.epsilon_greedy(key, q, epsilon, action_mask(obs)), ()

    def update(key: jax.Array, state: DQNState, data: Transition) -> tuple[DQNState, Metrics]:
        chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
        hparams = state.hparams
        keys = jax.random.split(key, 3)
        reward, discount, next_obs = replay.n_step(data, hparams.discount)
        obs, action = (jax.tree.map(lambda x: x[0], x) for x in (data.obs, data.action))
        next_target = batched(keys[0], state.target_params, next_obs)
        chooser = batched(keys[1], state.params, next_obs) if double else next_target
        best = jax.vmap(lambda x, mask: exploration.greedy(None, read(x, hparams), mask))(
            chooser, action_mask(next_obs)
        )
        next_taken = _take(next_target, best)

        def loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            taken = _take(batched(keys[2], params, obs), action)
            each, error = loss_of_head(taken, reward, discount, next_taken, hparams, huber)
            weighted = each if isinstance(data.mask, tuple) else each * data.mask[0]
            return weighted.mean(), (error, read(taken[:, None], hparams).mean())

        transform = optimizer(optimization.annealed(hparams, state.num_updates))
        params, opt_state, (error, q) = optimization.step(transform, loss, state.params, state.opt_state)
        num_updates = state.num_updates + 1
        target_params = _refresh(params, state.target_params, num_updates, hparams)
        metrics = {"loss/td_error": jnp.abs(error).mean(), "q_value": q}
        if not isinstance(data.mask, tuple):
            metrics["priority"] = jnp.abs(error) + 1e-6
        return DQNState(params, target_params, opt_state, hparams, num_updates), metrics

    return Agent(init, act, update)


def _take(output: jax.Array, action: jax.Array) -> jax.Array:
    """[B, A, ...] and [B] to [B, ...]: a product with a one-hot, whose gradient is no scatter."""
    chosen = jax.nn.one_hot(action, output.shape[1], dtype=output.dtype)
    return jnp.einsum("ba...,ba->b...", output, chosen)


def _refresh(params: Any, target_params: Any, num_updates: jax.Array, hparams: Any) -> Any:
    """θ⁻ ← (1 − τ) θ⁻ + τ θ in every `target_period`-th gradient step."""
    due = num_updates % jnp.asarray(hparams.target_period).astype(jnp.int32) == 0
    mixed = jax.tree.map(lambda new, old: (1 - hparams.tau) * old + hparams.tau * new, params, target_params)
    return jax.tree.map(lambda new, old: jnp.where(due, new, old), mixed, target_params)


# --- Heads: how an output [..., A, Z] is read as values [..., A], and the loss of the outputs of actions taken --------


def _value_loss(taken, reward, discount, next_taken, hparams, huber):  # type: ignore[no-untyped-def]
    error = reward + discount * next_taken - taken
    return (optax.huber_loss(error) if huber else 0.5 * error**2), error


def _support(logits: jax.Array, hparams: Any) -> jax.Array:
    """The returns that the atoms stand for, [Z]."""
    return jnp.linspace(hparams.value_min, hparams.value_max, logits.shape[-1])


def _categorical_mean(logits: jax.Array, hparams: Any) -> jax.Array:
    return jax.nn.softmax(logits) @ _support(logits, hparams)


def _categorical_loss(taken, reward, discount, next_taken, hparams, huber):  # type: ignore[no-untyped-def]
    support = _support(taken, hparams)
    moved = reward[:, None] + discount[:, None] * support
    target = losses.categorical_projection(moved, jax.nn.softmax(next_taken), support)
    each = optax.softmax_cross_entropy(taken, target)
    return each, each


def _quantile_loss(taken, reward, discount, next_taken, hparams, huber):  # type: ignore[no-untyped-def]
    taus = (jnp.arange(taken.shape[-1]) + 0.5) / taken.shape[-1]
    target = reward[:, None] + discount[:, None] * next_taken
    error = target.mean(axis=-1) - taken.mean(axis=-1)
    return losses.quantile_huber(taken, taus, target, 1.0 if huber else 0.0), error


_HEADS: dict[str, tuple[Callable[..., jax.Array], Callable[..., tuple[jax.Array, jax.Array]]]] = {
    "value": (lambda q, hparams: q, _value_loss),
    "categorical": (_categorical_mean, _categorical_loss),
    "quantile": (lambda quantiles, hparams: quantiles.mean(axis=-1), _quantile_loss),
}

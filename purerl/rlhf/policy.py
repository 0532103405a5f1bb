"""Policy gradients for language models: PPO with values, and RLOO and GRPO with groups in place of values.

All three take a trajectory of `token_rollout`, run the network in parallel over whole texts and minibatch over texts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl import losses, returns
from purerl.agents.common import minibatches
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval, check_positive
from purerl.rlhf.models import logits_of, value_of
from purerl.rlhf.supervised import adam, choose_token, descend
from purerl.types import Agent, Metrics, Transition


class RLHFHparams(NamedTuple):
    """Hyperparameters of PPO, RLOO and GRPO on language models.

    Attributes:
      learning_rate: Adam's step size.
      beta: price of a nat of KL to the reference, in units of reward.
      clip_epsilon: half width of the interval around 1 in which a token's probability ratio is not clipped.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
      discount: γ a token, PPO's alone.
      gae_lambda: λ of the generalised advantage estimate, PPO's alone.
      value_coef: weight of the value loss, PPO's alone.
      value_clip_epsilon: the new value is clipped to within this of the old one, PPO's alone.
    """

    learning_rate: NonNegative = 3e-4
    beta: NonNegative = 0.05
    clip_epsilon: NonNegative = 0.2
    max_grad_norm: NonNegative = 1.0
    anneal_updates: AtLeastOne = float("inf")
    discount: UnitInterval = 1.0
    gae_lambda: UnitInterval = 0.95
    value_coef: NonNegative = 0.5
    value_clip_epsilon: NonNegative = float("inf")


class PolicyState(NamedTuple):
    """Arrays only, as `TrainState`, with the parameters of the frozen reference policy."""

    params: Any
    opt_state: Any
    hparams: Any
    num_updates: jax.Array
    ref_params: Any


class Texts(NamedTuple):
    """A trajectory as N whole texts of W = L + T tokens; numbers stand at the column of their own token.

    Attributes:
      tokens, mask: [N, W], and where they are no padding.
      completion: [N, W] bool, what the policy wrote.
      old_log_prob, ref_log_prob: [N, W], 0 outside the completion.
      reward: [N] the environment's.
      advantage, old_value, value_target: [N, W].
    """

    tokens: jax.Array
    mask: jax.Array
    completion: jax.Array
    old_log_prob: jax.Array
    ref_log_prob: jax.Array
    reward: jax.Array
    advantage: Any = ()
    old_value: Any = ()
    value_target: Any = ()


def initial_state(agent: Agent, key: jax.Array, hparams: Any, env: Any, params: Any, ref_params: Any = None) -> Any:
    """A policy agent's state that starts from trained parameters, for the keyword `state` of `train`.

    Args:
      agent: `ppo`, `rloo` or `grpo`.
      key: typed key.
      hparams: the agent's.
      env: the environment it will act in.
      params: the policy to start from, such as an SFT model's.
      ref_params: the reference; None takes `params`.
    """
    example, _ = env.reset(key)
    state = agent.init(key, hparams, example)
    return state._replace(params=params, ref_params=params if ref_params is None else ref_params)


def ppo(
    network: Any,
    *,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    normalize_advantage: bool = True,
    kl_in: str = "reward",
    kl_kind: str = "k1",
    optimizer: Callable[[Any], optax.GradientTransformation] = adam,
) -> Agent:
    """PPO on tokens against a reward at the end, held near a reference.

    r[t] = -β (log π_old(y[t]) - log π_ref(y[t])) + [t last] R;  A by GAE over the completion, V(s[T]) = 0;
    loss = mean over completion tokens of (clipped surrogate + value_coef · clipped value loss).

    Args:
      network: returns `(logits, value)`; the value at column t is that of the text up to and with t.
      num_epochs: passes over each batch of texts.
      num_minibatches: gradient steps a pass; divides num_envs.
      normalize_advantage: to mean 0 and standard deviation 1 over each minibatch's completion tokens, padding left out.
      kl_in: "reward", as above: optimises E[R] - β KL(π ‖ π_ref). "loss": r holds R alone and β kl_estimate is
        added to the loss of every token; what that optimises depends on `kl_kind`: on data of the current policy
        k1 regularises nothing (its expected gradient is 0), k2 has the gradient of a token's KL(π ‖ π_ref), k3 that of
        KL(π_ref ‖ π), both at the texts that were drawn: how one's tokens change which prefixes come next is left out.
      kl_kind: "k1", "k2" or "k3", used where `kl_in` is "loss".
      optimizer: `hparams -> optax.GradientTransformation`.

    Returns:
      An agent for `train(..., rollout=token_rollout(network, ...))`.

    Raises:
      ValueError: a count is not positive, or `kl_in` or `kl_kind` is unknown.

    Source: Ziegler et al. 2019, equation 2; Ouyang et al. 2022, section 3.5.
    """
    _check_kl(kl_in, kl_kind)

    def prepare(params: Any, texts: Texts, hparams: Any) -> Texts:
        value = _shifted_values(network, params, texts)
        at_end = texts.completion & ~jnp.pad(texts.completion[:, 1:], ((0, 0), (0, 1)))
        reward = jnp.where(at_end, texts.reward[:, None], 0.0)
        if kl_in == "reward":
            reward = losses.kl_penalized_reward(reward, texts.old_log_prob, texts.ref_log_prob, hparams.beta)
        discount = hparams.discount * (1.0 - at_end)
        decay = hparams.gae_lambda * (1.0 - at_end)
        next_value = jnp.pad(value[:, 1:], ((0, 0), (0, 1)))
        columns = (reward, discount, value, next_value, decay)
        advantage = returns.gae(*(jnp.where(texts.completion, x, 0.0).T for x in columns)).T
        return texts._replace(advantage=advantage, old_value=value, value_target=advantage + value)

    def loss(params: Any, texts: Texts, hparams: Any) -> tuple[jax.Array, Metrics]:
        logits, value = _run(network, params, texts)
        log_prob = losses.token_log_probs(logits, texts.tokens, texts.completion)
        advantage = texts.advantage
        if normalize_advantage:
            advantage = losses.normalize(advantage, texts.completion)
        policy = losses.clipped_surrogate(log_prob, texts.old_log_prob, advantage, hparams.clip_epsilon)
        if kl_in == "loss":
            policy += hparams.beta * losses.kl_estimate(log_prob, texts.ref_log_prob, kl_kind)
        value = jnp.pad(value[:, :-1], ((0, 0), (1, 0)))
        value_loss = losses.clipped_value(value, texts.old_value, texts.value_target, hparams.value_clip_epsilon)
        policy, value_loss = _token_mean(policy, texts.completion), _token_mean(value_loss, texts.completion)
        metrics = {"loss/policy": policy, "loss/value": value_loss} | _drift(log_prob, texts, hparams)
        return policy + hparams.value_coef * value_loss, metrics

    return _policy_agent(network, prepare, loss, num_epochs, num_minibatches, optimizer)


def rloo(
    network: Any,
    group_size: int,
    *,
    num_epochs: int = 1,
    num_minibatches: int = 1,
    optimizer: Callable[[Any], optax.GradientTransformation] = adam,
) -> Agent:
    """REINFORCE with a leave-one-out baseline, the KL inside the reward, unbiased for E[R] - β KL(π ‖ π_ref).

    ρ_i = R_i - β (log π(y_i) - log π_ref(y_i)), A_i = ρ_i - mean of the other ρ of its prompt; the loss is the mean
    over texts of A_i's clipped surrogate, summed over tokens: with one epoch and one minibatch, -A_i log π(y_i).

    Args:
      network: returns logits (values beside them are ignored).
      group_size: G, as given to `token_rollout`.
      num_epochs, num_minibatches, optimizer: as in `ppo`.

    Returns:
      An agent for `train(..., rollout=token_rollout(network, ..., group_size=group_size))`.

    Source: Ahmadian et al. 2024, section 2.2.
    """
    if group_size < 2:
        raise ValueError(f"group_size = {group_size}: leave-one-out needs at least 2")

    def prepare(params: Any, texts: Texts, hparams: Any) -> Texts:
        old, ref = texts.old_log_prob.sum(1), texts.ref_log_prob.sum(1)
        reward = losses.kl_penalized_reward(texts.reward, old, ref, hparams.beta)
        return _spread(texts, losses.leave_one_out_advantages(reward.reshape(-1, group_size)))

    def loss(params: Any, texts: Texts, hparams: Any) -> tuple[jax.Array, Metrics]:
        log_prob, policy = _surrogate(network, params, texts, hparams)
        policy = losses.aggregate_tokens(policy, texts.completion, "dr_grpo", max_length=1)
        return policy, {"loss/policy": policy} | _drift(log_prob, texts, hparams)

    return _policy_agent(network, prepare, loss, num_epochs, num_minibatches, optimizer)


def grpo(
    network: Any,
    group_size: int,
    *,
    scale: bool = True,
    aggregation: str = "grpo",
    max_length: int | None = None,
    kl_kind: str = "k3",
    num_epochs: int = 1,
    num_minibatches: int = 1,
    optimizer: Callable[[Any], optax.GradientTransformation] = adam,
) -> Agent:
    """Group-relative policy optimisation: rewards normalised within their prompt's group, the KL in the loss.

    A_i = (R_i - mean) / (std + 1e-4) over the group; a token's loss is its clipped surrogate with A_i, plus
    β kl_estimate(log π, log π_ref). With k3, the paper's choice, the gradient of that term is that of a token's
    KL(π_ref ‖ π); the optimum is then not π_ref exp(r / β) / Z.

    Args:
      network: returns logits.
      group_size: G, as given to `token_rollout`.
      scale: divide by the standard deviation; False is Dr. GRPO's advantage.
      aggregation: how the texts' tokens are averaged: "grpo", "dapo" or "dr_grpo", see `losses.aggregate_tokens`.
      max_length: the constant of "dr_grpo", such as the environment's `max_length`; None takes the texts' width.
      kl_kind: "k1" (regularises nothing), "k2" or "k3".
      num_epochs, num_minibatches, optimizer: as in `ppo`.

    Source: Shao et al. 2024, equations 3 and 4.
    """
    _check_kl("loss", kl_kind)

    def prepare(params: Any, texts: Texts, hparams: Any) -> Texts:
        return _spread(texts, losses.group_advantages(texts.reward.reshape(-1, group_size), scale))

    def loss(params: Any, texts: Texts, hparams: Any) -> tuple[jax.Array, Metrics]:
        log_prob, policy = _surrogate(network, params, texts, hparams)
        policy += hparams.beta * losses.kl_estimate(log_prob, texts.ref_log_prob, kl_kind)
        total = losses.aggregate_tokens(policy, texts.completion, aggregation, max_length)
        return total, {"loss/policy": total} | _drift(log_prob, texts, hparams)

    return _policy_agent(network, prepare, loss, num_epochs, num_minibatches, optimizer)


# --- The parts --------------------------------------------------------------------------------------------------------


def _policy_agent(
    network: Any,
    prepare: Callable[[Any, Texts, Any], Texts],
    loss: Callable[[Any, Texts, Any], tuple[jax.Array, Metrics]],
    num_epochs: int,
    num_minibatches: int,
    optimizer: Callable[[Any], optax.GradientTransformation],
) -> Agent:
    check_positive(num_epochs=num_epochs, num_minibatches=num_minibatches)

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> PolicyState:
        params = network.init(key, example["tokens"], example["mask"])
        return PolicyState(params, optimizer(hparams).init(params), hparams, jnp.int32(0), params)

    def update(key: jax.Array, state: PolicyState, data: Transition) -> tuple[PolicyState, Metrics]:
        texts = _texts(network, state.ref_params, data)
        kl = jnp.sum(texts.old_log_prob - texts.ref_log_prob, axis=1)
        texts = prepare(state.params, texts, state.hparams)

        def step(state: PolicyState, part: Texts) -> tuple[PolicyState, Metrics]:
            grads, metrics = jax.grad(loss, has_aux=True)(state.params, part, state.hparams)
            return descend(state, grads, optimizer), metrics

        state, metrics = minibatches.epochs(
            key, step, state, texts, num_epochs=num_epochs, num_minibatches=num_minibatches
        )
        metrics = jax.tree.map(jnp.mean, metrics) | {
            "rlhf/reward": jnp.mean(texts.reward),
            "rlhf/kl": jnp.mean(kl),
            "rlhf/objective": jnp.mean(texts.reward - state.hparams.beta * kl),
        }
        return state._replace(num_updates=state.num_updates + 1), metrics

    return Agent(init, choose_token(network), update)


def _texts(network: Any, ref_params: Any, data: Transition) -> Texts:
    """A trajectory [T, N] as whole texts, with the reference's log-probabilities."""
    if not (isinstance(data.memory, tuple) and len(data.memory) == 2):
        raise ValueError(
            "this agent learns from whole texts: give train(..., rollout=rlhf.token_rollout(network, ...))"
        )
    prompt, prompt_mask = data.memory
    written = data.mask.T != 0
    completion = jnp.concatenate([jnp.zeros_like(prompt_mask), written], axis=1)
    texts = Texts(
        tokens=jnp.concatenate([prompt, data.action.T], axis=1),
        mask=jnp.concatenate([prompt_mask, written], axis=1),
        completion=completion,
        old_log_prob=jnp.pad(data.aux["log_prob"].T, ((0, 0), (prompt.shape[1], 0))),
        ref_log_prob=(),  # type: ignore[arg-type]
        reward=jnp.sum(data.reward, axis=0),
    )
    logits = logits_of(_run(network, ref_params, texts))
    return texts._replace(ref_log_prob=losses.token_log_probs(logits, texts.tokens, completion))


def _run(network: Any, params: Any, texts: Texts) -> Any:
    return jax.vmap(lambda t, m: network.apply(params, t, m))(texts.tokens, texts.mask)


def _shifted_values(network: Any, params: Any, texts: Texts) -> jax.Array:
    """[N, W]: at each token's column the value of the text before it."""
    value = value_of(_run(network, params, texts))
    return jnp.pad(value[:, :-1], ((0, 0), (1, 0)))


def _surrogate(network: Any, params: Any, texts: Texts, hparams: Any) -> tuple[jax.Array, jax.Array]:
    logits = logits_of(_run(network, params, texts))
    log_prob = losses.token_log_probs(logits, texts.tokens, texts.completion)
    return log_prob, losses.clipped_surrogate(log_prob, texts.old_log_prob, texts.advantage, hparams.clip_epsilon)


def _spread(texts: Texts, advantage: jax.Array) -> Texts:
    """A text's advantage at each of its completion tokens."""
    return texts._replace(advantage=jnp.where(texts.completion, advantage.reshape(-1, 1), 0.0))


def _token_mean(loss: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over the completion tokens of all texts."""
    return losses.aggregate_tokens(loss, mask, "dapo")


def _drift(log_prob: jax.Array, texts: Texts, hparams: Any) -> Metrics:
    """How far the policy has moved from the one that wrote the texts."""
    ratio = jnp.exp(log_prob - texts.old_log_prob)
    return {
        "loss/approx_kl": _token_mean(losses.kl_estimate(texts.old_log_prob, log_prob), texts.completion),
        "loss/clip_fraction": _token_mean(1.0 * (jnp.abs(ratio - 1) > hparams.clip_epsilon), texts.completion),
    }


def _check_kl(kl_in: str, kl_kind: str) -> None:
    if kl_in not in ("reward", "loss"):
        raise ValueError(f"kl_in must be 'reward' or 'loss', got {kl_in!r}")
    if kl_kind not in ("k1", "k2", "k3"):
        raise ValueError(f"kl_kind must be 'k1', 'k2' or 'k3', got {kl_kind!r}")

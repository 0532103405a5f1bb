"""Policy gradients for language models: what they share, and PPO with values. RLOO and GRPO are in `group_policy`.

All three take a trajectory of `token_rollout`, run the network in parallel over whole texts and minibatch over texts.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from purerl import losses, returns
from purerl.agents.common import optimization
from purerl.hparams import AtLeastOne, NonNegative, Positive, UnitInterval, check_positive
from purerl.once import build_once
from purerl.rlhf.models import logits_of, value_of
from purerl.rlhf.supervised import choose_token
from purerl.rlhf.texts import Texts, drift, from_trajectory, next_own, run, shifted_values, token_mean, values_before
from purerl.types import Agent, Env, Hparams, Key, Metrics, Network, Params, PyTree, TrainState, Transition

KLKind = Literal["k1", "k2", "k3"]


class RLHFHparams(NamedTuple):
    """Hyperparameters of PPO, RLOO, GRPO, GSPO and CISPO on language models.

    Attributes:
      learning_rate: Adam's step size.
      beta: price of a nat of KL to the reference, in units of reward; where it starts if `kl_target` is finite.
      clip_epsilon: half width of the interval around 1 in which a token's probability ratio is not clipped.
      clip_epsilon_high: the same above 1, for DAPO's two-sided clip, read by RLOO, GRPO, GSPO and CISPO; inf: equal to
        `clip_epsilon`.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
      discount: γ per token, read by PPO only.
      gae_lambda: λ of the generalised advantage estimate, read by PPO only.
      value_coef: weight of the value loss, read by PPO only.
      value_clip_epsilon: the new value is clipped to within this of the old one, read by PPO only.
      kl_target: the KL to the reference of a whole completion, in nats, that β is adapted to hold; inf: β stays.
      kl_horizon: completions over which an adapted β may change by 20%.
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
    kl_target: Positive = float("inf")
    kl_horizon: AtLeastOne = 10_000.0
    clip_epsilon_high: NonNegative = float("inf")


class PolicyState(NamedTuple):
    """`TrainState`, with the parameters of the frozen reference policy and the present coefficient of the KL."""

    params: PyTree
    opt_state: PyTree
    hparams: Hparams
    num_updates: jax.Array
    ref_params: PyTree
    beta: jax.Array


class Prepare(Protocol):
    """Advantages, and whatever else a loss reads, from whole texts and the groups [N, G] of their prompts."""

    def __call__(self, params: Params, texts: Texts, group: jax.Array, hparams: Hparams, /) -> Texts:
        """The texts, prepared."""


class TextLoss(Protocol):
    """The loss of a minibatch of texts, and its metrics."""

    def __call__(self, params: Params, texts: Texts, hparams: Hparams, /) -> tuple[jax.Array, Metrics]:
        """The scalar to descend on, and its metrics."""


def initial_state(
    agent: Agent, key: Key, hparams: Hparams, env: Env, params: Params, ref_params: Params = None
) -> PolicyState:
    """A policy agent's state that starts from trained parameters, for the keyword `state` of `train`.

    Args:
      agent: `ppo`, `rloo` or `grpo`.
      key: typed key.
      hparams: the agent's.
      env: the environment it will act in.
      params: the policy to start from, such as an SFT model's.
      ref_params: the reference; None takes `params`.
    """
    reset_key, init_key = jax.random.split(key)
    example, _ = env.reset(reset_key)
    state = agent.init(init_key, hparams, example)
    return state._replace(params=params, ref_params=params if ref_params is None else ref_params)


def policy_state(
    hparams: Hparams, params: Params, ref_params: Params, optimizer: optimization.Optimizer = optimization.tree_adam
) -> PolicyState:
    """The state of a policy agent before its first update, of known parameters and a known reference."""
    state = optimization.train_state(optimizer, hparams, params)
    return PolicyState(*state, ref_params=ref_params, beta=jnp.asarray(hparams.beta))


@build_once
def ppo(
    network: Network,
    *,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    normalize_advantage: bool = True,
    kl_in: Literal["reward", "loss"] = "reward",
    kl_kind: KLKind = "k1",
    optimizer: optimization.Optimizer = optimization.tree_adam,
) -> Agent:
    """PPO on tokens against a reward at the end, or after each turn, held near a reference.

    r[t] = -β (log π_old(y[t]) - log π_ref(y[t])) + R[t];  A by GAE over the completion, V(s[T]) = 0;
    loss = mean over completion tokens of (clipped surrogate + value_coef · clipped value loss).
    A user's reply between two turns is skipped: the next turn's first token follows the last one of the turn before.

    Args:
      network: returns `(logits, value)`; the value at column t is that of the text up to and with t.
      num_epochs: passes over each batch of texts.
      num_minibatches: gradient steps per pass; divides num_envs.
      normalize_advantage: to mean 0 and standard deviation 1 over each minibatch's completion tokens, without padding.
      kl_in: "reward", as above: optimises E[R] - β KL(π ‖ π_ref). "loss": r holds R alone and β kl_estimate is
        added to the loss of every token; what that optimises depends on `kl_kind`: on data of the current policy
        k1 regularises nothing (its expected gradient is 0), k2 has the gradient of a token's KL(π ‖ π_ref), k3 that of
        KL(π_ref ‖ π), both at the sampled texts: how one's tokens change which prefixes come next is left out.
      kl_kind: "k1", "k2" or "k3", used if `kl_in` is "loss".
      optimizer: `hparams -> optax.GradientTransformation`.

    Returns:
      An agent for `train(..., rollout=token_rollout(network, ...))`.

    Raises:
      ValueError: a count is not positive, or `kl_in` or `kl_kind` is unknown.

    Source: Ziegler et al. 2019, equation 2 and, for the adaptive β, section 2.2; Ouyang et al. 2022, section 3.5.

    Examples:
      >>> import purerl
      >>> from purerl import rlhf
      >>> network = rlhf.table_network(vocab_size=4, length=2, order=1)
      >>> env = rlhf.token_env([[0]], lambda tokens, mask: jnp.sum(tokens), 2, eos_id=-1, pad_id=-1)
      >>> rollout = rlhf.token_rollout(network, eos_id=-1, pad_id=-1)
      >>> sizes = {"num_updates": 3, "num_envs": 4, "rollout_length": 2, "rollout": rollout}
      >>> agent, hparams = rlhf.ppo(network, num_minibatches=2), rlhf.RLHFHparams(kl_target=1.0)
      >>> _, metrics = jax.eval_shape(lambda key: purerl.train(key, agent, env, hparams, **sizes), jax.random.key(0))
      >>> metrics["rlhf/beta"].shape
      (3,)
    """
    check_kl(kl_in, kl_kind)

    def prepare(params: Params, texts: Texts, group: jax.Array, hparams: Hparams) -> Texts:
        value = shifted_values(network, params, texts)
        reward = texts.reward
        if kl_in == "reward":
            reward = losses.kl_penalized_reward(reward, texts.old_log_prob, texts.ref_log_prob, hparams.beta)
        return _with_advantages(texts, reward, jnp.where(texts.completion, value, 0.0), hparams)

    def loss(params: Params, texts: Texts, hparams: Hparams) -> tuple[jax.Array, Metrics]:
        output = run(network, params, texts)
        log_prob = losses.token_log_probs(logits_of(output), texts.tokens, texts.completion)  # [N, W, V] -> [N, W]
        advantage = texts.advantage
        if normalize_advantage:
            advantage = losses.normalize(advantage, texts.completion)
        policy = losses.clipped_surrogate(log_prob, texts.old_log_prob, advantage, hparams.clip_epsilon)
        if kl_in == "loss":
            policy += hparams.beta * losses.kl_estimate(log_prob, texts.ref_log_prob, kl_kind)
        value = jnp.where(texts.completion, values_before(value_of(output)), 0.0)
        value_loss = losses.clipped_value(value, texts.old_value, texts.value_target, hparams.value_clip_epsilon)
        policy, value_loss = (token_mean(x, texts.completion) for x in (policy, value_loss))
        metrics = {"loss/policy": policy, "loss/value": value_loss} | drift(log_prob, texts, hparams)
        return policy + hparams.value_coef * value_loss, metrics

    return policy_agent(network, prepare, loss, num_epochs, num_minibatches, optimizer)


def _with_advantages(texts: Texts, reward: jax.Array, value: jax.Array, hparams: Hparams) -> Texts:
    """The texts with advantages and value targets from rewards and values [N, W], the latter before each token."""
    own = texts.completion
    following = next_own(own)
    next_value = jnp.take_along_axis(jnp.pad(value, ((0, 0), (0, 1))), following, axis=1)  # [N, W + 1] -> [N, W]
    # On tokens that the policy did not write δ = 0 and nothing decays: the advantage behind them passes through, and is
    # 0 behind the last one.
    columns = (
        jnp.where(own, reward, 0.0),
        jnp.where(own, hparams.discount, 1.0),
        jnp.where(own, value, next_value),
        next_value,
        jnp.where(own, hparams.gae_lambda, 1.0),
    )
    advantage = jnp.where(own, returns.gae(*(x.T for x in columns)).T, 0.0)  # [N, W] -> [W, N] -> [N, W]
    return texts._replace(advantage=advantage, old_value=value, value_target=advantage + value)


def policy_agent(
    network: Network,
    prepare: Prepare,
    loss: TextLoss,
    num_epochs: int,
    num_minibatches: int,
    optimizer: optimization.Optimizer,
) -> Agent:
    """An agent for `train` on whole texts.

    Args:
      network: see `rlhf.models`.
      prepare: called once per update, on all texts.
      loss: descended on, one minibatch of texts at a time.
      num_epochs, num_minibatches, optimizer: as in `ppo`.
    """
    check_positive(num_epochs=num_epochs, num_minibatches=num_minibatches)

    def init(key: Key, hparams: Hparams, example: dict[str, jax.Array], num_envs: int = 1) -> PolicyState:
        params = network.init(key, example["tokens"], example["mask"])
        return policy_state(hparams, params, params, optimizer)

    def update(key: Key, state: PolicyState, data: Transition) -> tuple[PolicyState, Metrics]:
        texts = from_trajectory(network, state.ref_params, data)
        hparams = state.hparams
        adaptive = jnp.isfinite(hparams.kl_target)
        beta = jnp.where(adaptive, state.beta, hparams.beta)
        hparams = hparams._replace(beta=beta)
        texts = prepare(state.params, texts, data.memory.group, hparams)
        learner, metrics = optimization.minibatch_update(
            key,
            optimizer,
            lambda params, part: loss(params, part, hparams),
            TrainState(state.params, state.opt_state, hparams, state.num_updates),
            texts,
            num_epochs=num_epochs,
            num_minibatches=num_minibatches,
        )
        reward = jnp.sum(texts.reward, axis=1)  # [N, W] -> [N]
        kl = jnp.sum(texts.old_log_prob - texts.ref_log_prob, axis=1)
        metrics |= {
            "rlhf/reward": jnp.mean(reward),
            "rlhf/kl": jnp.mean(kl),
            "rlhf/objective": jnp.mean(reward - beta * kl),
            "rlhf/beta": beta,
        }
        adapted = losses.adaptive_kl(beta, jnp.mean(kl), hparams.kl_target, kl.shape[0], hparams.kl_horizon)
        return state._replace(
            params=learner.params,
            opt_state=learner.opt_state,
            num_updates=learner.num_updates,
            beta=jnp.where(adaptive, adapted, beta),
        ), metrics

    return Agent(init, choose_token(network), update)


def check_kl(kl_in: str, kl_kind: str) -> None:
    """Reject an unknown place or estimator of the KL.

    Raises:
      ValueError: names the argument and its values.
    """
    if kl_in not in ("reward", "loss"):
        raise ValueError(f"kl_in must be 'reward' or 'loss', got {kl_in!r}")
    if kl_kind not in ("k1", "k2", "k3"):
        raise ValueError(f"kl_kind must be 'k1', 'k2' or 'k3', got {kl_kind!r}")

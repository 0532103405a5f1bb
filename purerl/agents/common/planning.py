"""Search with a model, and the value targets of planners, shared by AlphaZero and MuZero.

The search is mctx's Gumbel MuZero, which needs the optional extra `planning`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from purerl import distributions, returns
from purerl.agents.common import policy_network, trajectories
from purerl.runtime import install_hint
from purerl.types import Hparams, Key, Params, PyTree, Transition


def check_installed() -> None:
    """Reject planning without mctx.

    Raises:
      ModuleNotFoundError: it is not installed.
    """
    _mctx()


def search(
    key: Key | None,
    root: tuple[jax.Array, jax.Array, PyTree],
    expand: Callable[[Key, jax.Array, PyTree], tuple[tuple[jax.Array, ...], PyTree]],
    mask: jax.Array | None,
    *,
    num_simulations: int,
    max_depth: int | None,
) -> tuple[jax.Array, jax.Array]:
    """The action that a search from one state prefers, and its improved policy.

    Args:
      key: typed key; None searches without Gumbel noise: the same action every time.
      root: log-probabilities [1, A], value [1] and node, leaves [1, ...], of the state.
      expand: `(key, action [B], node) -> ((reward, discount, log-probabilities, value), node)`, one step of the model.
      mask: [A], true where an action is allowed in the state; None: all are.
      num_simulations: how many nodes are expanded.
      max_depth: how deep they may lie; None: as deep as there are simulations.

    Returns:
      int32 action, and the probabilities [A] of the improved policy.

    Source: Danihelka et al. 2022, "Policy improvement by planning with Gumbel", sections 4 and 5; as mctx has it.
    """
    mctx = _mctx()
    chosen = jax.random.key(0) if key is None else key
    # The reuse checker takes the loop that mctx vmaps for a second use of its keys, so it is given their data alone.
    raw = jax.debug_key_reuse.value

    def recurrent(params: tuple[()], key: Key, action: jax.Array, node: PyTree) -> tuple[Any, PyTree]:
        key = jax.random.wrap_key_data(key, impl=jax.random.key_impl(chosen)) if raw else key
        outputs, node = expand(key, action, node)
        reward, discount, log_probs, value = (x.astype(root[1].dtype) for x in outputs)
        return mctx.RecurrentFnOutput(reward=reward, discount=discount, prior_logits=log_probs, value=value), node

    found = mctx.gumbel_muzero_policy(
        (),
        jax.random.key_data(chosen) if raw else chosen,
        mctx.RootFnOutput(prior_logits=root[0], value=root[1], embedding=root[2]),
        recurrent,
        num_simulations,
        invalid_actions=None if mask is None else ~mask.astype(bool)[None],
        max_depth=max_depth,
        gumbel_scale=0.0 if key is None else 1.0,
    )
    return found.action[0].astype(jnp.int32), found.action_weights[0]


def value_targets(
    network: policy_network.ActorCriticNetwork, params: Params, data: Transition, hparams: Hparams
) -> jax.Array:
    """λ-returns [T, N] of a trajectory, from the network's values of the true successors.

    G[t] = r[t] + γ (1 − terminated[t]) ((1 − λ') v(s'[t]) + λ' G[t+1]),   λ' = λ (1 − done[t]).

    Args:
      network: `apply(params, obs) -> (distribution, value)`.
      params: its parameters.
      data: a trajectory [T, N].
      hparams: has `discount`, γ, and `trace_decay`, λ.
    """
    _, _, next_value = policy_network.evaluate(network, params, data)
    discount = trajectories.discounts(data, hparams.discount)
    trace_decay = trajectories.trace_decays(data, hparams.trace_decay)
    return returns.lambda_returns(data.reward, discount, next_value, trace_decay)


def restrict(log_probs: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Log-probabilities [..., A] renormalized over the allowed actions; a mask None allows all.

    A forbidden action has the lowest finite number. If a state allows none, all have the same probability.
    """
    return log_probs if mask is None else distributions.categorical(log_probs, mask).log_probs


def cross_entropy(policy: jax.Array, log_probs: jax.Array) -> jax.Array:
    """−Σ_a w(a) log π(a), [...], of policies w and log-probabilities [..., A]; 0 · log 0 = 0."""
    return -jnp.sum(jnp.where(policy != 0, policy * log_probs, 0), axis=-1)


def _mctx() -> Any:
    try:
        import mctx
    except ImportError as error:
        raise ModuleNotFoundError(f"planning needs mctx: {install_hint('planning')}") from error
    return mctx

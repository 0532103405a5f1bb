"""Reading trajectories: which steps count, discounts, trace decays, and guards on the kind of data."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from purerl import branches
from purerl.types import PyTree, Transition


def is_masked(data: Transition) -> bool:
    """Whether the trajectory has a mask; without one, every step counts."""
    return has(data.mask)


def has(optional: PyTree) -> bool:
    """Whether an optional field of a `Transition`, such as its mask or weight, is there; `()` means that it is not."""
    return not (isinstance(optional, tuple) and not optional)


def step_weight(data: Transition) -> jax.Array:
    """[T, N] float: how much each step counts, 0 where masked. The product of mask and weight; ones without both."""
    weight = data.weight if has(data.weight) else jnp.ones_like(data.reward)
    return jnp.where(data.mask != 0, weight * data.mask, 0) if has(data.mask) else weight


def is_weighted(data: Transition) -> bool:
    """Whether steps count differently: the trajectory has a mask or weights."""
    return has(data.mask) or has(data.weight)


def counted(data: Transition) -> PyTree:
    """How much each step counts, [T, N], as `masked_mean` takes it; `()` if all count equally."""
    return step_weight(data) if is_weighted(data) else ()


def clean(data: Transition) -> Transition:
    """The trajectory with 0 in place of NaN and infinity in every entry that must have no effect.

    These are all floating entries of masked steps, and `next_obs` of steps that terminated. They are replaced before
    the network sees them: multiplying its output by 0, or selecting another value, still gives a gradient of 0 · NaN.

    Args:
      data: leaves lead with [T, N].
    """
    next_obs = _finite_where(data.terminated, data.next_obs)
    if not is_masked(data):
        return data._replace(next_obs=next_obs)
    masked = data.mask == 0
    parts = _finite_where(masked, (data.obs, data.action, data.reward, next_obs, data.aux, data.weight))
    return data._replace(**dict(zip(("obs", "action", "reward", "next_obs", "aux", "weight"), parts)))


def _finite_where(condition: jax.Array, tree: PyTree) -> PyTree:
    """Floating leaves [T, N, ...] with 0 in place of entries that are not finite, if the condition [T, N] holds."""

    def leaf(x: jax.Array) -> jax.Array:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        hidden = condition.reshape(condition.shape + (1,) * (x.ndim - condition.ndim))  # [T, N] -> [T, N, 1, ...]
        return jnp.where(hidden & ~jnp.isfinite(x), 0, x)

    return jax.tree.map(leaf, tree)


def masked_mean(x: jax.Array, mask: PyTree) -> jax.Array:
    """Mean of x over the steps whose mask is nonzero, weighted by it, and 0 if none is; masked values may be NaN.

    Σ mask · x / Σ mask. `()` counts all steps; see `counted` for a mask with the weights of steps.
    """
    if not has(mask):
        return jnp.mean(x, dtype=jnp.result_type(float))
    total = jnp.sum(mask)
    return jnp.sum(jnp.where(mask != 0, x * mask, 0)) / jnp.where(total > 0, total, 1)


def masked_means(xs: list[jax.Array], mask: PyTree) -> list[jax.Array]:
    """`masked_mean` of each of several arrays of one shape; on an accelerator in one reduction."""

    def together(xs: list[jax.Array]) -> list[jax.Array]:
        stacked = jnp.stack([x.astype(float) for x in xs])  # [K, ...]
        mean = jax.vmap(lambda x: masked_mean(x, mask))(stacked)
        return [mean[i] for i in range(len(xs))]

    return branches.dependent(xs, cpu=lambda xs: [masked_mean(x, mask).astype(float) for x in xs], default=together)


def optional_mask(mask: PyTree) -> jax.Array | None:
    """The mask as functions of `purerl.losses` take it: None if there is none."""
    return mask if has(mask) else None


def done(data: Transition) -> jax.Array:
    """[T, N] bool: whether the episode ended at the step, in either way."""
    return data.terminated | data.truncated


def discounts(data: Transition, discount: jax.Array) -> jax.Array:
    """[T, N]: γ (1 − terminated), the weight of what follows a step."""
    return discount * (1.0 - data.terminated)


def trace_decays(data: Transition, decay: jax.Array) -> jax.Array:
    """[T, N]: λ (1 − done), by which a trace shrinks over a step; 0 cuts it."""
    return decay * (1.0 - done(data))


def recorded(data: Transition, name: str, agent: str) -> jax.Array:
    """What the acting agent left beside its actions under this name.

    Raises:
      ValueError: the trajectory does not have it.
    """
    if not isinstance(data.aux, Mapping) or name not in data.aux:
        raise ValueError(f"{agent} needs Transition.aux[{name!r}], which its `act` returns beside the action")
    return data.aux[name]


def require_episodes(data: Transition, agent: str) -> None:
    """Reject a trajectory whose episodes may be cut.

    Raises:
      ValueError: the trajectory has no mask.
    """
    if not is_masked(data):
        raise ValueError(f"{agent} needs whole episodes: pass rollout=purerl.loops.rollout_episodes to train")


def episode_rewards(data: Transition) -> jax.Array:
    """The undiscounted return [N] of masked trajectories [T, N], one episode each."""
    return jnp.where(data.mask != 0, data.reward * data.mask, 0).sum(axis=0)


def flatten(tree: PyTree) -> PyTree:
    """Leaves [T, N, ...] as rows, [T * N, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def refuse_mask(data: Transition, agent: str) -> None:
    """Reject a trajectory with masked steps.

    Raises:
      ValueError: the trajectory has a mask.
    """
    if is_masked(data):
        raise ValueError(
            f"{agent} takes whole rollouts; rollout_episodes masks its steps, so use loops.rollout; with_shared_policy "
            "and with_separate_policies mask the steps of agents that are dead, unless they wrap an agent with replay"
        )


def refuse_weight(data: Transition, agent: str) -> None:
    """Reject a trajectory whose steps have weights, for an agent that learns from whole episodes or texts.

    Raises:
      ValueError: the trajectory has weights.
    """
    if has(data.weight):
        raise ValueError(f"{agent} has no use for the weights of steps: leave Transition.weight empty")

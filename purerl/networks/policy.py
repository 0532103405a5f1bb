"""Actor-critic networks and policy heads."""

from __future__ import annotations

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from purerl import distributions
from purerl.networks.images import Convolution, check_convolution
from purerl.networks.initializers import orthogonal
from purerl.networks.layers import ACTIVATIONS, Torso, check_hidden
from purerl.networks.observations import batched_features, check_observation, features, has_mask
from purerl.networks.products import thin_product
from purerl.networks.towers import layers_of, one_by_one, towers
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Space, check_bounded, check_spaces
from purerl.types import HasSpaces, Params, PyTree


def actor_critic(
    env: HasSpaces,
    hidden: tuple[int, ...] = (64, 64),
    activation: str = "tanh",
    *,
    shared_torso: bool = False,
    squash: bool = False,
    convolution: Convolution = True,
    dtype: str | None = None,
    policy_scale: float = 0.01,
) -> ActorCritic:
    """The network of PPO and its kin: `apply(params, obs) -> (distribution, value)`.

    The distribution follows the action space: categorical for `Discrete` (masked by `obs["action_mask"]` if the
    observation has one), one categorical per element for `MultiDiscrete`, a diagonal Gaussian in the units of the
    bounds for `Box` (the environment clips actions outside). Images, [H, W, C], also those in a dict or tuple, are
    scaled by their bounds and pass a convolution first; discrete observations are one-hot encoded; the parts of a dict
    or tuple are concatenated. See `networks.encode`. If a dict has the parts "actor" and "critic", such as that of
    `envs.central_critic`, actor and critic see theirs alone.

    Args:
      env: the environment, read for its spaces only.
      hidden: widths of the hidden layers.
      activation: one of tanh, relu, silu, gelu, elu.
      shared_torso: actor and critic share all but their last layers; otherwise each has its own.
      squash: for `Box`, a tanh-squashed Gaussian that never leaves the bounds, in place of a clipped one.
      convolution: how images enter: "minatar", "nature" or "impala", True for the one of their size, False to flatten
        them. See `networks.Torso`. Flat images are less to compute, and enough for MinAtar.
      dtype: dtype of the hidden layers' computation, such as "bfloat16"; parameters and outputs stay float32.
      policy_scale: σ of the policy's last layer at the start, W = σQ with Q of orthonormal columns, so |Wᵀx| ≤ σ|x| and
        a small σ is a nearly uniform policy. Few discrete actions learn sooner with 1.0: CartPole had a return of 161
        after 20,000 steps of PPO with 4 environments, 79 with 0.01.

    Source of a small policy_scale: Andrychowicz et al. 2021, "What matters for on-policy deep actor-critic methods?",
    arXiv:2006.05990, section 3.2, for continuous actions.

    Raises:
      ValueError: an unknown activation or convolution, a width that is not positive, images too small for the
        convolution, `squash` with infinite bounds, an action with low == high, a negative or infinite policy_scale, or
        a shared torso of an actor and a critic that see different parts.
      TypeError: an action space it has no distribution for.

    Examples:
      >>> import jax
      >>> from purerl import envs
      >>> network = actor_critic(envs.probe(), hidden=(8,))
      >>> params = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(1))
      >>> sorted(params["params"])
      ['actor', 'critic', 'policy', 'value']
    """
    check_spaces(env)
    check_hidden(hidden, activation)
    check_convolution(env.observation_space, convolution)
    check_action_space(env.action_space, squash)
    check_policy_scale(policy_scale)
    if shared_torso and _is_split(env.observation_space):
        raise ValueError("shared_torso: actor and critic see different parts of the observation")
    return ActorCritic(
        env.observation_space, env.action_space, tuple(hidden), activation, shared_torso, squash, convolution, dtype,
        policy_scale,
    )  # fmt: skip


_TORSOS = ("actor", "critic")


class ActorCritic(nn.Module):
    """See `actor_critic`."""

    observation_space: Space
    action_space: Space
    hidden: tuple[int, ...]
    activation: str
    shared_torso: bool
    squash: bool
    convolution: Convolution
    dtype: str | None
    policy_scale: float = 0.01

    @nn.compact
    def __call__(self, obs: PyTree) -> tuple[distributions.Distribution, jax.Array]:
        """One observation to the action distribution and the value, a scalar."""
        check_observation(obs, self.observation_space)
        space = self.observation_space
        if isinstance(space, Dict) and _is_split(space):
            inputs = [features(obs[name], space[name]) for name in _TORSOS]
        else:
            inputs = [features(obs, space)] * 2
        torso = functools.partial(Torso, self.hidden, self.activation, convolution=self.convolution, dtype=self.dtype)
        if self.shared_torso:
            critic = actor = torso(name="torso")(inputs[0])
        else:
            actor, critic = (torso(name=name)(each) for name, each in zip(_TORSOS, inputs))
        value = nn.Dense(1, kernel_init=orthogonal(1.0), dot_general=thin_product, name="value")(critic)
        mask = obs["action_mask"] if has_mask(self.observation_space) else None
        return PolicyHead(self.action_space, self.squash, self.policy_scale, name="policy")(actor, mask), value[0]

    @nn.nowrap
    def apply_batch(self, params: Params, obs: PyTree) -> tuple[distributions.Distribution, jax.Array]:
        """`apply` for observations [B]."""
        plain = self.hidden and self.dtype is None and not _is_split(self.observation_space)
        x = batched_features(obs, self.observation_space) if plain else None
        if x is None:
            return one_by_one(self, params, obs)
        own = params["params"]
        policy, value = own["policy"]["Dense_0"], own["value"]
        names, heads = (("torso",), ((policy, value),)) if self.shared_torso else (_TORSOS, ((policy,), (value,)))
        outputs = towers(tuple(layers_of(own[name]) for name in names), heads, x, ACTIVATIONS[self.activation])
        raw, values = itertools.chain(*outputs)
        mask = obs["action_mask"] if has_mask(self.observation_space) else None
        log_std = own["policy"].get("log_std")
        distribution = jax.vmap(functools.partial(_distribution, self.action_space, self.squash, log_std))(raw, mask)
        return distribution, values[:, 0]


def _is_split(space: Space) -> bool:
    """Whether actor and critic see different parts of an observation."""
    return isinstance(space, Dict) and all(name in space for name in _TORSOS)


class PolicyHead(nn.Module):
    """Features to an action distribution."""

    action_space: Space
    squash: bool = False
    scale: float = 0.01

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> distributions.Distribution:
        """[D] to a distribution over the action space; mask [A] is true where an action is allowed."""
        last = nn.Dense(_num_outputs(self.action_space), kernel_init=orthogonal(self.scale), dot_general=thin_product)
        raw = last(x)
        log_std = None
        if isinstance(self.action_space, Box):
            log_std = self.param("log_std", nn.initializers.zeros, self.action_space.shape, jnp.float32)
        return _distribution(self.action_space, self.squash, log_std, raw, mask)


def _num_outputs(space: Space) -> int:
    """Size of the last layer of a policy."""
    if isinstance(space, Discrete):
        return space.n
    if isinstance(space, MultiDiscrete):
        return sum(space.num_values)
    assert isinstance(space, Box)
    return int(np.prod(space.shape, dtype=int))


def _distribution(
    space: Space, squash: bool, log_std: jax.Array | None, raw: jax.Array, mask: jax.Array | None
) -> distributions.Distribution:
    """The distribution over the action space whose last layer's outputs are `raw`."""
    if isinstance(space, Discrete):
        return distributions.categorical(raw, mask)
    if isinstance(space, MultiDiscrete):
        return distributions.multi_discrete(raw, space.num_values, mask)
    assert isinstance(space, Box)
    assert log_std is not None
    mean, rank = raw.reshape(space.shape), len(space.shape)
    low, high = space.bounds()
    if squash:
        return distributions.tanh_gaussian(mean, log_std, jnp.asarray(low), jnp.asarray(high), event_ndims=rank)
    half, middle = _scale(low, high)
    return distributions.diagonal_gaussian(middle + half * mean, log_std + np.log(half), event_ndims=rank)


def _scale(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half the width and the middle of the bounds; 1 and 0 if one is infinite."""
    finite = np.isfinite(low) & np.isfinite(high)
    low, high = np.where(finite, low, -1).astype(np.float32), np.where(finite, high, 1).astype(np.float32)
    return (high - low) / 2, (high + low) / 2


def check_policy_scale(scale: float) -> None:
    """Reject a scale of the last layer's initial weights that is not a finite number of at least 0."""
    number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not number or not 0 <= scale < float("inf"):
        raise ValueError(f"policy_scale must be a finite number of at least 0, got {scale!r}")


def check_action_space(space: Space, squash: bool) -> None:
    """Reject action spaces that `PolicyHead` has no distribution for.

    Raises:
      TypeError, ValueError: names the spaces that are possible.
    """
    if not isinstance(space, Discrete | MultiDiscrete | Box):
        raise TypeError(f"action_space must be Discrete, MultiDiscrete or Box, got {space}")
    check_bounded(space)
    if squash and not (isinstance(space, Box) and np.isfinite(space.bounds()).all()):
        raise ValueError(f"squash needs a Box action space with finite bounds, got {space}")

"""The network of IQN: the quantile of the return at any level, for every action."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from purerl.hparams import check_positive
from purerl.networks.images import Convolution, check_convolution
from purerl.networks.initializers import orthogonal
from purerl.networks.layers import Torso, check_hidden
from purerl.networks.observations import check_observation, features
from purerl.spaces import Discrete, Space, check_spaces
from purerl.types import HasSpaces, Key, PyTree


def implicit_quantile_network(
    env: HasSpaces,
    hidden: tuple[int, ...] = (120, 84),
    activation: str = "relu",
    *,
    num_quantiles: int = 32,
    num_cosines: int = 64,
    layer_norm: bool = False,
    convolution: Convolution = True,
    dtype: str | None = None,
) -> ImplicitQuantileNetwork:
    """The network of IQN: `apply(params, obs, key) -> [A, N, 2]`, N quantiles per action, each with its level τ.

        z_τ(s, a) = f_a(ψ(s) ∘ φ(τ)),   φ(τ) = relu(Σ_{i=0}^{n−1} cos(π i τ) w_i + b),   τ uniform in (0, 1)

    ψ are the hidden layers and f a last layer. With a key the levels are random and the same for all actions; without
    one they are the midpoints (i + ½)/N.

    Args:
      env, hidden, activation, layer_norm, convolution, dtype: as for `networks.q_network`.
      num_quantiles: N.
      num_cosines: n.

    Raises:
      ValueError: an unknown activation or convolution, a number that is not positive, or images too small for the
        convolution.
      TypeError: actions that are not `Discrete`.

    Source: Dabney et al. 2018, arXiv:1806.06923, eq. 4 and section 3.1.

    Examples:
      >>> from purerl import envs
      >>> network = implicit_quantile_network(envs.probe(), hidden=(8,), num_quantiles=5)
      >>> obs = jnp.zeros(1)
      >>> jax.eval_shape(lambda key: network.apply(network.init(key, obs), obs, key), jax.random.key(0)).shape
      (2, 5, 2)
    """
    check_spaces(env)
    check_hidden(hidden, activation)
    check_convolution(env.observation_space, convolution)
    check_positive(num_quantiles=num_quantiles, num_cosines=num_cosines)
    if not isinstance(env.action_space, Discrete):
        raise TypeError(f"implicit_quantile_network needs a Discrete action space, got {env.action_space}")
    torso = Torso(tuple(hidden), activation, layer_norm, convolution, dtype)
    return ImplicitQuantileNetwork(env.observation_space, env.action_space.n, torso, num_quantiles, num_cosines)


class ImplicitQuantileNetwork(nn.Module):
    """See `implicit_quantile_network`."""

    observation_space: Space
    num_actions: int
    torso: Torso
    num_quantiles: int
    num_cosines: int

    @nn.compact
    def __call__(self, obs: PyTree, key: Key | None = None) -> jax.Array:
        """One observation to [A, N, 2]: the quantiles, and their levels."""
        check_observation(obs, self.observation_space)
        hidden = self.torso(features(obs, self.observation_space)).astype(jnp.float32)  # [H]
        middle = (jnp.arange(self.num_quantiles, dtype=jnp.float32) + 0.5) / self.num_quantiles
        taus = middle if key is None else jax.random.uniform(key, middle.shape)  # [N]
        cosines = jnp.cos(jnp.pi * taus[:, None] * jnp.arange(self.num_cosines, dtype=jnp.float32)[None])  # [N, n]
        embedded = nn.relu(nn.Dense(hidden.size, kernel_init=orthogonal(2**0.5), name="levels")(cosines))  # [N, H]
        quantiles = nn.Dense(self.num_actions, kernel_init=orthogonal(1.0), name="quantiles")(hidden[None] * embedded)
        levels = jnp.broadcast_to(taus[:, None], quantiles.shape)  # [N, A]
        return jnp.stack([quantiles, levels], axis=-1).swapaxes(0, 1)  # [N, A, 2] -> [A, N, 2]

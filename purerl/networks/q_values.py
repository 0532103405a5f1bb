"""Networks of action values: plain, dueling, noisy, layer-normalised, and of whole return distributions."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from purerl import branches
from purerl.hparams import check_positive
from purerl.networks.images import Convolution, Features, check_convolution, flat_features
from purerl.networks.initializers import Initializer, orthogonal
from purerl.networks.layers import ACTIVATIONS, Torso, check_hidden
from purerl.networks.observations import batched_features, check_observation, features
from purerl.networks.products import thin_product
from purerl.networks.towers import layers_of, one_by_one, towers
from purerl.spaces import Discrete, Space, check_spaces
from purerl.types import HasSpaces, Key, Params, PyTree


def q_network(
    env: HasSpaces,
    hidden: tuple[int, ...] = (120, 84),
    activation: str = "relu",
    *,
    dueling: bool = False,
    noisy: bool = False,
    num_atoms: int | None = None,
    layer_norm: bool = False,
    convolution: Convolution = True,
    dtype: str | None = None,
) -> QNetwork:
    """The network of DQN and its kin: `apply(params, obs) -> [A]`, the value of every action.

    Args:
      env: the environment, read for its spaces only.
      hidden: widths of the hidden layers.
      activation: one of tanh, relu, silu, gelu, elu.
      dueling: q(s, a) = v(s) + b(s, a) − mean over a' of b(s, a'), each half with its own last layer.
      noisy: fully connected layers with learned Gaussian noise: `apply(params, obs, key)`, None for their means.
      num_atoms: outputs per action, [A, num_atoms]: logits for C51, quantiles for QR-DQN; None: one value, [A].
      layer_norm: normalise every hidden layer before its activation, as PQN needs.
      convolution: how images enter: "minatar", "nature" or "impala", True for the one of their size, False to flatten
        them. See `networks.Torso`.
      dtype: dtype of the hidden layers' computation, such as "bfloat16"; the parameters and outputs are float32.

    Raises:
      ValueError: an unknown activation or convolution, a width or `num_atoms` that is not positive, images too small
        for the convolution, or `noisy` with `layer_norm`.
      TypeError: actions that are not `Discrete`.

    Source: Mnih et al. 2015; dueling: Wang et al. 2016, arXiv:1511.06581, eq. 9; noisy: see `NoisyDense`.

    Examples:
      >>> from purerl import envs
      >>> network = q_network(envs.probe(), hidden=(8,), num_atoms=5)
      >>> obs = jnp.zeros(1)
      >>> jax.eval_shape(lambda key: network.apply(network.init(key, obs), obs), jax.random.key(0)).shape
      (2, 5)
    """
    check_spaces(env)
    check_hidden(hidden, activation)
    check_convolution(env.observation_space, convolution)
    check_positive(num_atoms=1 if num_atoms is None else num_atoms)
    if not isinstance(env.action_space, Discrete):
        raise TypeError(f"q_network needs a Discrete action space, got {env.action_space}")
    if noisy and layer_norm:
        raise ValueError("noisy and layer_norm do not combine: choose one")
    return QNetwork(
        env.observation_space,
        env.action_space.n,
        tuple(hidden),
        activation,
        dueling,
        noisy,
        num_atoms,
        layer_norm,
        convolution,
        dtype,
    )


class QNetwork(nn.Module):
    """See `q_network`."""

    observation_space: Space
    num_actions: int
    hidden: tuple[int, ...]
    activation: str
    dueling: bool
    noisy: bool
    num_atoms: int | None
    layer_norm: bool
    convolution: Convolution
    dtype: str | None

    @nn.compact
    def __call__(self, obs: PyTree, key: Key | None = None) -> jax.Array:
        """One observation to [A], or [A, num_atoms]; `key` draws the noise of noisy layers."""
        check_observation(obs, self.observation_space)
        inputs = features(obs, self.observation_space)
        if self.noisy:
            return self._noisy(inputs, key)
        x = Torso(self.hidden, self.activation, self.layer_norm, self.convolution, self.dtype)(inputs)
        advantage = _last_dense(self._width(self.num_actions))(x)
        return self._values(advantage, _last_dense(self._width(1))(x) if self.dueling else None)

    @nn.nowrap
    def apply_batch(self, params: Params, obs: PyTree) -> jax.Array:
        """`apply` for observations [B], without noise."""
        usual = self.hidden and not (self.noisy or self.dtype)
        x = batched_features(obs, self.observation_space) if usual else None
        if x is None:
            return one_by_one(self, params, obs)
        if not self.layer_norm:
            return self._joined(params, x)
        # On a CPU, normalized layers are computed and differentiated one example at a time.
        return branches.dependent(
            params,
            obs,
            x,
            cpu=lambda params, obs, x: one_by_one(self, params, obs),
            default=lambda params, obs, x: self._joined(params, x),
        )

    @nn.nowrap
    def _joined(self, params: Params, x: jax.Array) -> jax.Array:
        """`apply` for the features [B, D] of observations, differentiated as `towers` does it."""
        own = params["params"]
        heads = (own["Dense_0"], *([own["Dense_1"]] if self.dueling else []))
        [outputs] = towers((layers_of(own["Torso_0"]),), (heads,), x, ACTIVATIONS[self.activation])
        return jax.vmap(self._values)(*outputs)

    def _values(self, advantage: jax.Array, value: jax.Array | None = None) -> jax.Array:
        """[A], or [A, num_atoms], from the last layers' outputs; `value` is that of a dueling network."""
        advantage = self._per_action(advantage)
        if value is None:
            return advantage
        return self._per_action(value) + advantage - advantage.mean(axis=0, keepdims=True)

    def _noisy(self, inputs: Features, key: Key | None) -> jax.Array:
        activate = ACTIVATIONS[self.activation]
        keys = [None] * (len(self.hidden) + 2) if key is None else list(jax.random.split(key, len(self.hidden) + 2))
        x = flat_features(inputs, self.convolution, activate, self.dtype)
        for width, layer_key in zip(self.hidden, keys):
            x = activate(NoisyDense(width, self.dtype)(x, layer_key))
        advantage = NoisyDense(self._width(self.num_actions))(x, keys[-2])
        return self._values(advantage, NoisyDense(self._width(1))(x, keys[-1]) if self.dueling else None)

    def _width(self, count: int) -> int:
        return count * (self.num_atoms or 1)

    def _per_action(self, x: jax.Array) -> jax.Array:
        return x if self.num_atoms is None else x.reshape(-1, self.num_atoms)  # [A Z] -> [A, Z]


def _last_dense(size: int) -> nn.Dense:
    return nn.Dense(size, kernel_init=orthogonal(1.0), dot_general=thin_product)


class NoisyDense(nn.Module):
    """A dense layer whose weights carry learned, factorised Gaussian noise.

        y = (M + S ∘ f(ε) f(ε')ᵀ)ᵀ x + m + s ∘ f(ε'),   f(ε) = sign(ε) √|ε|,   ε [D], ε' [features] standard normal

    M, m start uniform in ±1/√D, S, s at 0.5/√D. Without a key ε = ε' = 0: the layer of the means.

    Source: Fortunato et al. 2018, arXiv:1706.10295, eq. 9 to 11 and section 3.2.
    """

    features: int
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, key: Key | None) -> jax.Array:
        """[D] to [features]."""
        bound = x.size**-0.5
        uniform, constant = _uniform(bound), nn.initializers.constant(0.5 * bound, jnp.float32)
        mean = self.param("kernel", uniform, (x.size, self.features))
        spread = self.param("kernel_noise", constant, (x.size, self.features))
        bias = self.param("bias", uniform, (self.features,))
        bias_spread = self.param("bias_noise", constant, (self.features,))
        x, mean, spread, bias, bias_spread = nn.dtypes.promote_dtype(
            x, mean, spread, bias, bias_spread, dtype=self.dtype
        )
        if key is None:
            return x @ mean + bias
        noise_in, noise_out = (
            _signed_sqrt(jax.random.normal(k, (n,), x.dtype)) for k, n in _keys(key, x, self.features)
        )
        return x @ mean + bias + ((x * noise_in) @ spread + bias_spread) * noise_out


def _keys(key: Key, x: jax.Array, features: int) -> list[tuple[jax.Array, int]]:
    first, second = jax.random.split(key)
    return [(first, x.size), (second, features)]


def _signed_sqrt(x: jax.Array) -> jax.Array:
    return jnp.sign(x) * jnp.sqrt(jnp.abs(x))


def _uniform(bound: float) -> Initializer:
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)

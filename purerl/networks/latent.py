"""A learned model of an environment: what MuZero searches through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purerl.distributions import Distribution
from purerl.hparams import check_positive
from purerl.networks.images import Convolution, Features, check_convolution
from purerl.networks.initializers import orthogonal
from purerl.networks.layers import Torso, check_hidden
from purerl.networks.observations import check_observation, features, has_mask
from purerl.networks.policy import PolicyHead
from purerl.once import build_once
from purerl.spaces import Discrete, check_spaces
from purerl.types import HasSpaces, Key, Params, PyTree


class LatentModel(NamedTuple):
    """A model in a learned space, as functions of one example; see `latent_model`.

    Attributes:
      init: `(key, obs) -> params`.
      represent: `(params, obs) -> latent [D]`, the state that an observation stands for.
      predict: `(params, latent, mask=None) -> (distribution, value)`; mask [A], true where an action is allowed.
      step: `(params, latent, action) -> (reward, latent)`.
      apply: `(params, obs) -> (distribution, value)`, `predict` after `represent`, so that it is an actor-critic too.
    """

    init: Callable[..., Params]
    represent: Callable[..., jax.Array]
    predict: Callable[..., tuple[Distribution, jax.Array]]
    step: Callable[..., tuple[jax.Array, jax.Array]]
    apply: Callable[..., tuple[Distribution, jax.Array]]


@build_once
def latent_model(
    env: HasSpaces,
    hidden: tuple[int, ...] = (64,),
    latent_size: int = 32,
    activation: str = "relu",
    *,
    convolution: Convolution = True,
    dtype: str | None = None,
) -> LatentModel:
    """The network of MuZero: representation h, prediction f and dynamics g.

        s = h(o),   (π, v) = f(s),   (r, s') = g(s, one-hot(a)),

    each of hidden layers and linear outputs. g adds to s what it computes. Every latent is brought to [0, 1]:
    s ← (s − min s) / (max s − min s + 1e-5), over its D elements.

    Args:
      env: the environment, read for its spaces only.
      hidden: widths of the hidden layers of each part; images pass a convolution first.
      latent_size: D.
      activation: one of tanh, relu, silu, gelu, elu.
      convolution: how images enter: "minatar", "nature" or "impala", True for the one of their size, False to flatten
        them. See `networks.Torso`.
      dtype: dtype of the hidden layers' computation, such as "bfloat16"; parameters and outputs stay float32.

    Raises:
      ValueError: an unknown activation or convolution, a width that is not positive, or images too small for the
        convolution.
      TypeError: actions that are not `Discrete`.

    Source: Schrittwieser et al. 2020, "Mastering Atari, Go, chess and shogi by planning with a learned model", appendix
    G; values and rewards are numbers here, not distributions over a support.

    Examples:
      >>> from purerl import envs
      >>> model = latent_model(envs.probe(), hidden=(8,), latent_size=4)
      >>> sorted(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(1)))
      ['predict', 'represent', 'step']
    """
    check_spaces(env)
    check_hidden(hidden, activation)
    check_convolution(env.observation_space, convolution)
    check_positive(latent_size=latent_size)
    space = env.action_space
    if not isinstance(space, Discrete):
        raise TypeError(f"latent_model needs a Discrete action space, got {space}")
    parts = {
        "represent": _Part((latent_size,), tuple(hidden), activation, convolution, dtype),
        "step": _Part((latent_size, 1), tuple(hidden), activation, convolution, dtype),
        "predict": _Part((1,), tuple(hidden), activation, convolution, dtype, PolicyHead(space)),
    }

    def init(key: Key, obs: PyTree) -> dict[str, Params]:
        latent = jnp.zeros(latent_size, jnp.float32)
        latent_and_action = jnp.zeros(latent_size + space.n, jnp.float32)
        inputs = (features(obs, env.observation_space), latent_and_action, latent)
        return {name: part.init(k, x) for (name, part), k, x in zip(parts.items(), jax.random.split(key, 3), inputs)}

    def represent(params: Params, obs: PyTree) -> jax.Array:
        check_observation(obs, env.observation_space)
        outputs: PyTree = parts["represent"].apply(params["represent"], features(obs, env.observation_space))
        return _unit_range(outputs[0])

    def predict(params: Params, latent: jax.Array, mask: jax.Array | None = None) -> tuple[Distribution, jax.Array]:
        outputs: PyTree = parts["predict"].apply(params["predict"], latent, mask)
        return outputs[1], outputs[0][0]

    def step(params: Params, latent: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        inputs = jnp.concatenate([latent, jax.nn.one_hot(action, space.n, dtype=jnp.float32)])  # [D + A]
        outputs: PyTree = parts["step"].apply(params["step"], inputs)
        return outputs[1][0], _unit_range(latent + outputs[0])

    def apply(params: Params, obs: PyTree) -> tuple[Distribution, jax.Array]:
        mask = obs["action_mask"] if has_mask(env.observation_space) else None
        return predict(params, represent(params, obs), mask)

    return LatentModel(init, represent, predict, step, apply)


class _Part(nn.Module):
    """Hidden layers, then one linear output of each width, and a policy head if there is one."""

    widths: tuple[int, ...]
    hidden: tuple[int, ...]
    activation: str
    convolution: Convolution
    dtype: str | None
    policy: PolicyHead | None = None

    @nn.compact
    def __call__(self, inputs: Features, mask: jax.Array | None = None) -> tuple[Any, ...]:
        torso = Torso(self.hidden, self.activation, convolution=self.convolution, dtype=self.dtype)
        x = torso(inputs).astype(jnp.float32)
        outputs = tuple(nn.Dense(width, kernel_init=orthogonal(1.0))(x) for width in self.widths)
        return outputs if self.policy is None else (*outputs, self.policy(x, mask))


def _unit_range(latent: jax.Array) -> jax.Array:
    """[D] brought to [0, 1]."""
    low = latent.min()
    return (latent - low) / (latent.max() - low + 1e-5)

"""What agents take from outside: networks, optimizers and losses, checked while they are traced.

A check costs nothing when the program runs. Its error names the option, what was found, and what is expected.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from purerl.types import Key, Network, Params, PyTree

_POLICY = ("sample", "mode", "log_prob", "entropy")


def init(network: Network, key: Key, *inputs: PyTree) -> Params:
    """Parameters of a network for these inputs.

    Raises:
      TypeError: it is not a network, such as a class, or a module of flax nnx.

    Examples:
      >>> init(int, jax.random.key(0), jnp.zeros(3))
      Traceback (most recent call last):
      ...
      TypeError: network is the class int itself; pass an instance of it, int()
    """
    if _is_nnx(network):
        name = (network if isinstance(network, type) else type(network)).__name__
        raise TypeError(f"{name} is a module of flax nnx, which holds its parameters; pass networks.from_nnx({name})")
    if isinstance(network, type):
        raise TypeError(f"network is the class {network.__name__} itself; pass an instance of it, {network.__name__}()")
    if not (hasattr(network, "init") and hasattr(network, "apply")):
        raise TypeError(
            f"a network must have init(key, *inputs) and apply(params, *inputs), as those of purerl.networks; "
            f"got {type(network).__name__}"
        )
    return network.init(key, *inputs)


def _is_nnx(network: Any) -> bool:
    from purerl.networks.nnx import is_module

    return is_module(network)


def policy_and_value(output: Any, shape: tuple[int, ...] = ()) -> tuple[Any, jax.Array]:
    """The output of an actor-critic network, for inputs of the leading axes `shape`.

    Raises:
      TypeError: it is not a pair, or the first of it not a distribution.
      ValueError: the value is not one number for one observation.

    Examples:
      >>> policy_and_value(jnp.zeros(2))
      Traceback (most recent call last):
      ...
      TypeError: the network must return (distribution, value), as networks.actor_critic(env) does; got float32[2]
    """
    distribution, value = policy_of(output), output[1]
    if jnp.shape(value) != shape:
        got = list(jnp.shape(value)[len(shape) :])
        raise ValueError(
            f"the network's value must have shape [] for one observation, got {got}; such as value[..., 0]"
        )
    return distribution, value


def policy_of(output: Any) -> Any:
    """The distribution of an actor-critic network's output, whose value is not read.

    Raises:
      TypeError: as for `policy_and_value`.
    """
    if not isinstance(output, tuple | list) or len(output) != 2:
        wanted = "(distribution, value), as networks.actor_critic(env) does"
        raise TypeError(f"the network must return {wanted}; got {_described(output)}")
    return policy(output[0])


def policy(distribution: Any) -> Any:
    """A distribution that a network returned.

    Raises:
      TypeError: it is none.
    """
    missing = [name for name in _POLICY if not hasattr(distribution, name)]
    if missing:
        raise TypeError(
            "the network must return a distribution, such as purerl.distributions.categorical(logits); "
            f"got {_described(distribution)}, which has no {missing[0]}"
        )
    return distribution


def action_values(output: Any) -> jax.Array:
    """The output of a Q-network.

    Raises:
      TypeError: it is not an array.
      ValueError: it has no axis of actions.
    """
    if not hasattr(output, "dtype"):
        wanted = "action values [A], as networks.q_network(env) does"
        raise TypeError(f"the network must return {wanted}; got {_described(output)}")
    if not jnp.ndim(output):
        raise ValueError("the network must return action values [A] for one observation; got a scalar")
    return output


def each_loss(option: str, loss: jax.Array, like: jax.Array, per: str = "step") -> jax.Array:
    """The losses that a function of the user's own returned, one for each element of `like`.

    Raises:
      ValueError: they have another shape, such as that of their mean.

    Examples:
      >>> each_loss("policy_loss", jnp.float32(0), jnp.zeros(8))
      Traceback (most recent call last):
      ...
      ValueError: policy_loss must return one loss per step, of shape [8], and must not average; got shape []
    """
    if jnp.shape(loss) != jnp.shape(like):
        wanted = f"one loss per {per}, of shape {list(jnp.shape(like))}, and must not average"
        raise ValueError(f"{option} must return {wanted}; got shape {list(jnp.shape(loss))}")
    return loss


def check_optimizer(optimizer: Any) -> None:
    """Reject a gradient transformation in the place of a function that builds one.

    Raises:
      TypeError: says how to write it.

    Examples:
      >>> import optax
      >>> check_optimizer(optax.adam(1e-3))
      Traceback (most recent call last):
      ...
      TypeError: the optimizer must be a function of the hyperparameters, such as optimizer=lambda hparams: \
optax.adam(hparams.learning_rate); got GradientTransformationExtraArgs
    """
    if not callable(optimizer):
        example = "optimizer=lambda hparams: optax.adam(hparams.learning_rate)"
        got = type(optimizer).__name__
        raise TypeError(f"the optimizer must be a function of the hyperparameters, such as {example}; got {got}")


def _described(output: Any) -> str:
    if isinstance(output, tuple | list) and not hasattr(output, "_fields"):
        return f"a {type(output).__name__} of {len(output)}"
    shape = getattr(output, "shape", None)
    is_array = shape is not None and hasattr(output, "dtype")
    return f"{output.dtype}{list(output.shape)}" if is_array else type(output).__name__

"""Networks that remember: a GRU or LSTM between the observation and the heads of an actor-critic or of Q-learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from purerl.distributions import Distribution
from purerl.hparams import check_positive
from purerl.networks import recurrence
from purerl.networks.images import Convolution, check_convolution
from purerl.networks.initializers import Dtype, Initializer, orthogonal
from purerl.networks.layers import Torso, check_hidden
from purerl.networks.observations import check_observation, features, has_mask
from purerl.networks.policy import PolicyHead, check_action_space
from purerl.once import build_once
from purerl.spaces import Discrete, Space, check_spaces
from purerl.types import HasSpaces, Key, Params, PyTree

Memory: TypeAlias = PyTree
"""[H] of a GRU, ([H], [H]) of an LSTM."""
Outputs: TypeAlias = tuple[Distribution, jax.Array]
"""The distribution of the action and the value."""


class RecurrentNetwork(NamedTuple):
    """A network with memory, as functions; see `recurrent_actor_critic` and `recurrent_q_network`.

    Attributes:
      init: `(key, obs, memory) -> params`.
      apply: `(params, obs, memory) -> (outputs, memory)`, one step; outputs are `(distribution, value)`, or values [A].
      unroll: `(params, obs [T], memory, reset [T]) -> (outputs [T], memory)`, T steps; the memory is a fresh one before
        obs[t] is read if reset[t] is true.
      memory: `() -> memory` at the start of an episode.
      trace: as `unroll`, with the memories after each of the T steps; it takes fewer kernels on an accelerator.
    """

    init: Callable[..., Params]
    apply: Callable[..., tuple[PyTree, Memory]]
    unroll: Callable[..., tuple[PyTree, Memory]]
    memory: Callable[[], Memory]
    trace: Callable[..., tuple[PyTree, Memory]]


class Cell(NamedTuple):
    """A recurrent cell: how many gates it has, its first memory, and `step(x [G H], h [G H], memory)`."""

    num_gates: int
    start: Callable[[int], Memory]
    step: Callable[..., tuple[jax.Array, Memory]]


def gru_step(x: jax.Array, h: jax.Array, memory: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One step of a gated recurrent unit, with x = W obs + b and h = U memory + c, three gates [3 H] each.

    r = σ(x₁ + h₁), z = σ(x₂ + h₂), n = tanh(x₃ + r ∘ h₃), memory' = (1 − z) ∘ n + z ∘ memory.

    Returns:
      The output and the new memory, both memory' [H].

    Source: Cho et al. 2014, arXiv:1406.1078, eq. 5 to 8, with the reset gate behind U as in cuDNN.
    """
    (x_reset, x_update, x_new), (h_reset, h_update, h_new) = jnp.split(x, 3), jnp.split(h, 3)
    update = jax.nn.sigmoid(x_update + h_update)
    new = jnp.tanh(x_new + jax.nn.sigmoid(x_reset + h_reset) * h_new)
    memory = (1 - update) * new + update * memory
    return memory, memory


def lstm_step(
    x: jax.Array, h: jax.Array, memory: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """One step of long short-term memory, with x = W obs + b and h = U output + c, four gates [4 H] each.

    i, f, o = σ(x + h) of gates 1, 2, 4, g = tanh(x₃ + h₃), cell' = f ∘ cell + i ∘ g, output' = o ∘ tanh(cell').

    Returns:
      output' [H], and the new memory (output', cell').

    Source: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000.
    """
    i, f, g, o = jnp.split(x + h, 4)
    cell = jax.nn.sigmoid(f) * memory[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    output = jax.nn.sigmoid(o) * jnp.tanh(cell)
    return output, (output, cell)


CELLS = {
    "gru": Cell(3, lambda size: jnp.zeros(size, jnp.float32), gru_step),
    "lstm": Cell(4, lambda size: (jnp.zeros(size, jnp.float32), jnp.zeros(size, jnp.float32)), lstm_step),
}


@build_once
def recurrent_actor_critic(
    env: HasSpaces,
    hidden: tuple[int, ...] = (64,),
    memory_size: int = 64,
    cell: str = "gru",
    activation: str = "tanh",
    *,
    squash: bool = False,
    convolution: Convolution = True,
    dtype: str | None = None,
) -> RecurrentNetwork:
    """The network of recurrent PPO: observation -> hidden layers -> cell -> distribution and value.

    In `unroll` only U memory is sequential; the layers before and after the cell take all T steps in one product.

    Args:
      env: the environment, read for its spaces only; distributions as in `networks.actor_critic`.
      hidden: widths of the layers before the cell; images pass a convolution first.
      memory_size: H, numbers in the cell's output.
      cell: "gru" (memory [H]) or "lstm" (memory ([H], [H])).
      activation: of the hidden layers: tanh, relu, silu, gelu or elu.
      squash: for `Box` actions, a tanh-squashed Gaussian in place of a clipped one.
      convolution: how images enter: "minatar", "nature" or "impala", True for the one of their size, False to flatten
        them. See `networks.Torso`.
      dtype: dtype of the hidden layers' computation, such as "bfloat16"; the cell and the heads stay float32.

    Raises:
      ValueError: an unknown cell, activation or convolution, a width that is not positive, images too small for the
        convolution, `squash` with infinite bounds, or an action with low == high.
      TypeError: an action space it has no distribution for.

    Source: Wierstra et al. 2010, "Recurrent policy gradients"; hidden layers before a cell as in Espeholt et al. 2018.

    Examples:
      >>> from purerl import envs
      >>> network = recurrent_actor_critic(envs.probe(), hidden=(8,), memory_size=4, cell="lstm")
      >>> [array.shape for array in network.memory()]
      [(4,), (4,)]
    """
    _check(env, hidden, memory_size, cell, activation, convolution)
    check_action_space(env.action_space, squash)
    policy, value = PolicyHead(env.action_space, squash), nn.Dense(1, kernel_init=orthogonal(1.0))
    masked = has_mask(env.observation_space)

    def init_heads(keys: Key, output: jax.Array) -> dict[str, Params]:
        return {"policy": policy.init(keys[0], output), "value": value.init(keys[1], output)}

    def heads(params: dict[str, Params], output: jax.Array, obs: PyTree) -> Outputs:
        allowed = obs["action_mask"] if masked else None
        distribution: PyTree = policy.apply(params["policy"], output, allowed)
        return distribution, value.apply(params["value"], output)[0]

    torso = Torso(tuple(hidden), activation, convolution=convolution, dtype=dtype)
    return _network(env.observation_space, torso, memory_size, cell, init_heads, heads)


@build_once
def recurrent_q_network(
    env: HasSpaces,
    hidden: tuple[int, ...] = (64,),
    memory_size: int = 64,
    cell: str = "lstm",
    activation: str = "relu",
    *,
    dueling: bool = True,
    convolution: Convolution = True,
    dtype: str | None = None,
) -> RecurrentNetwork:
    """The network of R2D2: observation -> hidden layers -> cell -> the value of every action, [A].

    Args:
      env, hidden, memory_size, cell, activation, convolution, dtype: as for `recurrent_actor_critic`.
      dueling: q(s, a) = v(s) + b(s, a) − mean over a' of b(s, a').

    Raises:
      ValueError: an unknown cell, activation or convolution, a width that is not positive, or images too small for the
        convolution.
      TypeError: actions that are not `Discrete`.

    Source: Kapturowski et al. 2019, "Recurrent experience replay in distributed reinforcement learning", section 2.3.

    Examples:
      >>> from purerl import envs
      >>> network = recurrent_q_network(envs.probe(), hidden=(8,), memory_size=4)
      >>> obs = jnp.zeros(1)
      >>> run = lambda key: network.apply(network.init(key, obs, network.memory()), obs, network.memory())
      >>> jax.eval_shape(run, jax.random.key(0))[0].shape
      (2,)
    """
    _check(env, hidden, memory_size, cell, activation, convolution)
    if not isinstance(env.action_space, Discrete):
        raise TypeError(f"recurrent_q_network needs a Discrete action space, got {env.action_space}")
    advantage, value = (nn.Dense(size, kernel_init=orthogonal(1.0)) for size in (env.action_space.n, 1))

    def init_heads(keys: Key, output: jax.Array) -> dict[str, Params]:
        params = {"advantage": advantage.init(keys[0], output)}
        return params | {"value": value.init(keys[1], output)} if dueling else params

    def heads(params: dict[str, Params], output: jax.Array, obs: PyTree) -> jax.Array:
        b = jnp.asarray(advantage.apply(params["advantage"], output))  # [A]
        return jnp.asarray(value.apply(params["value"], output)) + b - b.mean(keepdims=True) if dueling else b

    torso = Torso(tuple(hidden), activation, convolution=convolution, dtype=dtype)
    return _network(env.observation_space, torso, memory_size, cell, init_heads, heads)


def _check(
    env: HasSpaces, hidden: tuple[int, ...], memory_size: int, cell: str, activation: str, convolution: Convolution
) -> None:
    check_spaces(env)
    check_hidden(hidden, activation)
    check_convolution(env.observation_space, convolution)
    check_positive(memory_size=memory_size)
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(CELLS)}; got {cell!r}")


def _network(
    space: Space,
    torso: Torso,
    memory_size: int,
    cell: str,
    init_heads: Callable[[Key, jax.Array], dict[str, Params]],
    heads: Callable[[dict[str, Params], jax.Array, PyTree], PyTree],
) -> RecurrentNetwork:
    """The hidden layers and the cell, with heads `(params, output [H], obs) -> outputs` behind them."""
    num_gates, start, cell_step = CELLS[cell]
    width = num_gates * memory_size
    inputs = nn.Dense(width, kernel_init=orthogonal(1.0))
    recurrent = nn.Dense(width, kernel_init=_orthogonal_gates(num_gates))

    def init(key: Key, obs: PyTree, memory: Memory) -> dict[str, Params]:
        keys = jax.random.split(key, 5)
        seen, hidden_size = features(obs, space), jnp.zeros(memory_size, jnp.float32)
        params = {"torso": torso.init(keys[0], seen)}
        params["inputs"] = inputs.init(keys[1], torso.apply(params["torso"], seen))
        params["recurrent"] = recurrent.init(keys[2], hidden_size)
        return params | init_heads(keys[3:], hidden_size)

    def read(params: dict[str, Params], obs: PyTree) -> jax.Array:
        check_observation(obs, space)
        hidden_features: PyTree = torso.apply(params["torso"], features(obs, space))
        return jnp.asarray(inputs.apply(params["inputs"], hidden_features.astype(jnp.float32)))

    def step(params: dict[str, Params], x: jax.Array, memory: Memory) -> tuple[jax.Array, Memory]:
        return cell_step(x, recurrent.apply(params["recurrent"], jax.tree.leaves(memory)[0]), memory)

    def apply(params: dict[str, Params], obs: PyTree, memory: Memory) -> tuple[PyTree, Memory]:
        output, memory = step(params, read(params, obs), memory)
        return heads(params, output, obs), memory

    def unroll(params: dict[str, Params], obs: PyTree, memory: Memory, reset: jax.Array) -> tuple[PyTree, Memory]:
        def advance(memory: Memory, xs: tuple[jax.Array, jax.Array]) -> tuple[Memory, jax.Array]:
            x, new = xs
            memory = jax.tree.map(lambda fresh, old: jnp.where(new, fresh, old), start(memory_size), memory)
            output, memory = step(params, x, memory)
            return memory, output

        read_all = jax.vmap(read, (None, 0))(params, obs)  # [T, G H]
        memory, outputs = jax.lax.scan(advance, memory, (read_all, reset))  # [T, H]
        return jax.vmap(heads, (None, 0, 0))(params, outputs, obs), memory

    memories = recurrence.differentiable(
        lambda x, hidden, memory: cell_step(x, hidden, memory)[1],
        lambda params, output: jnp.asarray(recurrent.apply(params, output)),
    )

    def trace(params: dict[str, Params], obs: PyTree, memory: Memory, reset: jax.Array) -> tuple[PyTree, Memory]:
        found = memories(params["recurrent"], jax.vmap(read, (None, 0))(params, obs), memory, reset)
        return jax.vmap(heads, (None, 0, 0))(params, recurrence.output(found), obs), found

    return RecurrentNetwork(init, apply, unroll, lambda: start(memory_size), trace)


def _orthogonal_gates(num_gates: int) -> Initializer:
    """One orthogonal matrix per gate, side by side."""

    def init(key: Key, shape: tuple[int, int], dtype: Dtype = jnp.float32) -> jax.Array:
        one = orthogonal(1.0)
        return jnp.concatenate([one(k, (shape[0], shape[0]), dtype) for k in jax.random.split(key, num_gates)], axis=1)

    return init

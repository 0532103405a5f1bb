"""Core types: agents, environments, and the data that passes between them. Definitions only.

The spaces of `purerl.spaces` are re-exported, and so are the public names of `purerl.hparams`, on first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol, TypeAlias

import jax

from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Space, Tuple

if TYPE_CHECKING:
    from purerl.hparams import AtLeastOne as AtLeastOne
    from purerl.hparams import Interval as Interval
    from purerl.hparams import NonNegative as NonNegative
    from purerl.hparams import UnitInterval as UnitInterval
    from purerl.hparams import cast as cast
    from purerl.hparams import get_hparams as get_hparams
    from purerl.hparams import get_learner as get_learner
    from purerl.hparams import set_hparams as set_hparams
    from purerl.hparams import set_learner as set_learner

__all__ = [
    "ActFn", "Agent", "Box", "CutFn", "Dict", "Discrete", "Env", "EnvStep", "Experience", "HasSpaces", "Hparams",
    "InitFn", "Key", "MemoryFn", "Metrics", "MultiDiscrete", "Network", "Params", "PyTree", "RenderFn", "Requirements",
    "ResetFn", "Scalar", "Space", "State", "StepFn", "TrainState", "Transition", "Tuple", "UpdateFn", "example_of",
]  # fmt: skip

PyTree: TypeAlias = Any
"""Arrays in any nesting of tuples, lists, dicts and NamedTuples."""
Key: TypeAlias = jax.Array
"""A typed key, as `jax.random.key` makes it."""
Scalar: TypeAlias = jax.Array | float
"""An array of shape [] or a Python number."""
State: TypeAlias = Any
"""An agent's state, a NamedTuple of arrays."""
Params: TypeAlias = Any
"""Parameters of a network, a tree of arrays."""
Hparams: TypeAlias = Any
"""Hyperparameters: a NamedTuple of scalars with the fields that the agent reads. More fields do no harm."""
Metrics: TypeAlias = dict[str, jax.Array]
"""Scalars by name."""


class InitFn(Protocol):
    """Make an agent's state.

    `example` is one observation, which fixes shapes and dtypes; for an agent that learns from an MDP, the whole MDP.
    """

    def __call__(self, key: Key, hparams: Hparams, example: PyTree, num_envs: int = 1, /) -> State: ...


class ActFn(Protocol):
    """Choose an action for ONE observation; loops apply `jax.vmap`. Without a key the action is the greedy one.

    It returns `(action, aux)`, where `aux` (such as the log-probability) has the same structure with and without a key.
    The function of an agent with memory takes a fourth argument and returns `(action, aux, memory)`.
    """

    def __call__(self, key: Key | None, state: State, obs: PyTree, /, *memory: Any, **unused: Any) -> Any: ...


class UpdateFn(Protocol):
    """Learn from data: a trajectory in `train`, the fixed data in `fit`."""

    def __call__(self, key: Key, state: State, data: Any, /) -> tuple[State, Metrics]: ...


class MemoryFn(Protocol):
    """Make the memory of one environment at the start of an episode; without a key, the one for greedy play."""

    def __call__(self, key: Key | None, state: State, /) -> PyTree: ...


class CutFn(Protocol):
    """Mark in a state that its environments' episodes were cut: the next data belong to other episodes.

    Replay marks its newest steps as truncated, traces and running returns start at 0. The learner stays as it is.
    """

    def __call__(self, state: State, /) -> State: ...


class CheckFn(Protocol):
    """Reject hyperparameters that are within their ranges but that this agent cannot use, by a `ValueError`.

    The loops call it with concrete values before anything is compiled. A leaf may have leading axes.
    """

    def __call__(self, hparams: Hparams, /) -> None: ...


class Requirements(NamedTuple):
    """Requirements of an agent's `update` on its data. Combinators and loops check them.

    Attributes:
      data: "rows": steps in any order, the weakest requirement. "trajectory": steps in order of time, [T, N], from
        anywhere. "stream": a trajectory that continues that of the update before, as eligibility traces, running
        returns and replay need. "episodes": whole episodes with a mask. "whole": the data of `fit` as one thing, such
        as an MDP, which `init` sees whole too.
      raw_observations: it reads more than features from an observation, such as a planner the environment's state, so
        observations must not be normalised.
      keeps_data: it stores the data that it is given and learns from them later, such as replay.
      memory: it reads the memory before the first step of a trajectory, as recurrent agents do.
      joint: it takes the data of several agents apart, whose rewards are in the observations: `with_shared_policy`.
        What changes or keeps observations or rewards must be inside it.
    """

    data: Literal["rows", "trajectory", "stream", "episodes", "whole"] = "rows"
    raw_observations: bool = False
    keeps_data: bool = False
    memory: bool = False
    joint: bool = False


class Agent(NamedTuple):
    """A learner as pure functions. It holds no arrays, so it is hashable and static under `jax.jit`.

    Agents compare by the identity of their functions, so another object compiles again. purerl's factories give the
    same one for the same arguments; a factory of your own does with `build_once`.

    Attributes:
      init: `(key, hparams, example, num_envs=1) -> state`; see `InitFn`.
      act: `(key | None, state, obs) -> (action, aux)` for one observation; see `ActFn`.
      update: `(key, state, data) -> (state, metrics)`; see `UpdateFn`.
      memory: None, or `(key | None, state) -> memory`; see `MemoryFn`. If it is not None, `act` is
        `(key, state, obs, memory) -> (action, aux, memory)`.
      requires: requirements of `update` on its data.
      cut: None, or `state -> state` for an agent whose state remembers its environments' episodes; see `CutFn`.
      check: None, or `hparams -> None`, which rejects hyperparameters that this agent cannot use; see `CheckFn`.
    """

    init: InitFn
    act: ActFn
    update: UpdateFn
    memory: MemoryFn | None = None
    requires: Requirements = Requirements()
    cut: CutFn | None = None
    check: CheckFn | None = None


class Network(Protocol):
    """A pair of pure functions, such as a flax module. It sees ONE example; agents apply `jax.vmap`.

    What `inputs` are and what `apply` returns depends on the role: an actor-critic network maps `obs` to
    `(distribution, value)`, a Q-network `obs` to `[A]`, a critic `(obs, action)` to a scalar.
    """

    def init(self, key: Key, /, *inputs: Any, **options: Any) -> Params:
        """Parameters for inputs of these shapes."""

    def apply(self, params: Params, /, *inputs: Any, **options: Any) -> Any:
        """The network's outputs."""


class Transition(NamedTuple):
    """One step of an environment. A trajectory is a Transition whose leaves lead with [T, N].

    Attributes:
      obs: observation the action was chosen from.
      action: action taken.
      reward: float32 reward of the step.
      terminated: bool, the episode ended here by the environment's own rule; nothing follows.
      truncated: bool, the episode was cut here; `next_obs` still has a value.
      next_obs: the true successor, never the first observation of the next episode.
      aux: what `act` returned beside the action, such as the log-probability.
      memory: [N], the agent's memory at the start of the trajectory only.
      mask: [T, N], nonzero where the step counts; `()` if every step does. A masked step may hold NaN anywhere.
      weight: [T, N], how much a step counts, such as importance weights; `()` if all count equally.
    """

    obs: PyTree
    action: PyTree
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    next_obs: PyTree
    aux: PyTree = ()
    memory: PyTree = ()
    mask: PyTree = ()
    weight: PyTree = ()


class TrainState(NamedTuple):
    """Everything a gradient learner carries: arrays only, so every part of it can be vmapped.

    Unlike flax's TrainState it does not hold the optimizer: that is rebuilt from `hparams` in every update.
    """

    params: PyTree
    opt_state: PyTree
    hparams: Any
    num_updates: jax.Array


def example_of(agent: Agent, data: PyTree) -> PyTree:
    """The example of fixed data that an agent's `init` is shown.

    One observation of a `Transition`, or of a mapping with a column "obs"; one row of other data; all of the
    data if the agent requires them whole.

    Examples:
      >>> import numpy as np
      >>> agent = Agent(init=lambda *_: (), act=lambda *_: (0, ()), update=lambda *_: ((), {}))
      >>> example_of(agent, {"obs": np.zeros((7, 3)), "action": np.zeros(7)}).shape
      (3,)
    """
    if agent.requires.data == "whole":
        return data
    if isinstance(data, Transition):
        batch_rank = data.reward.ndim
        return jax.tree.map(lambda x: x[(0,) * batch_rank], data.obs)  # [B, ...] or [T, N, ...] -> [...]
    columns = data["obs"] if isinstance(data, Mapping) and "obs" in data else data
    return jax.tree.map(lambda x: x[0], columns)


class ResetFn(Protocol):
    """Start an episode."""

    def __call__(self, key: Key, env_params: PyTree = None, /) -> tuple[PyTree, PyTree]: ...


class StepFn(Protocol):
    """Make one step. The episode's end is reported, never acted on: resets are up to the loop."""

    def __call__(self, key: Key, env_state: PyTree, action: PyTree, env_params: PyTree = None, /) -> EnvStep: ...


class RenderFn(Protocol):
    """Draw one state on the host: uint8 [H, W, 3], a NumPy array. It is not traced."""

    def __call__(self, env_state: PyTree, /) -> Any: ...


class Env(NamedTuple):
    """An environment as two pure functions and two static spaces. It never resets by itself: the loop does.

    Attributes:
      reset: `(key, env_params=None) -> (obs, env_state)`.
      step: `(key, env_state, action, env_params=None) -> EnvStep`.
      observation_space, action_space: one of the spaces below.
      render: None, or `env_state -> image`; see `RenderFn`.
      max_steps: number of steps within which every episode ends under the environment's own parameters; None if it
        has no such limit or does not say.
      id: the name that `envs.make` knows it by; empty if it has none.
    """

    reset: ResetFn
    step: StepFn
    observation_space: Space
    action_space: Space
    render: RenderFn | None = None
    max_steps: int | None = None
    id: str = ""


class HasSpaces(Protocol):
    """Anything with the two spaces of an environment: an `Env`, or one on the host."""

    @property
    def observation_space(self) -> Space: ...
    @property
    def action_space(self) -> Space: ...


class EnvStep(NamedTuple):
    """The result of one step of an environment.

    Attributes:
      obs: the true successor, also if the episode ended.
      env_state: the environment's next state.
      reward: float32 scalar.
      terminated, truncated: bool scalars.
      info: dict of scalars, `()` for none. Their means over the steps of a rollout become the metrics `env/<name>`, and
        their means over the last steps of its episodes `episode_end/<name>`.
    """

    obs: PyTree
    env_state: PyTree
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    info: PyTree = ()


class ExperienceMark:
    """Marks a field of an agent's state as experience; see `Experience`."""


Experience: TypeAlias = Annotated[Any, ExperienceMark()]
"""A field of an agent's state that belongs to its environments: replay, traces, steps that wait. Not of the learner."""


_OF_HPARAMS = {
    "AtLeastOne", "Interval", "NonNegative", "UnitInterval", "cast", "get_hparams", "get_learner", "set_hparams",
    "set_learner",
}  # fmt: skip

if not TYPE_CHECKING:  # `purerl.hparams` imports this module, so its names are looked up on first use

    def __getattr__(name):
        if name in _OF_HPARAMS:
            return getattr(importlib.import_module("purerl.hparams"), name)
        raise AttributeError(f"module 'purerl.types' has no attribute {name!r}")

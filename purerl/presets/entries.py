"""Types of a preset, an algorithm's entry and an alias: plain data and the functions that build from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from purerl import types


class Preset(NamedTuple):
    """All settings of a training run except its seed, as plain data.

    Attributes:
      algorithm: its name in `ALGORITHMS`.
      num_steps: total environment steps, over all parallel environments.
      num_envs: parallel environments.
      rollout_length: steps in each environment between two updates.
      hparams: hyperparameters that differ from the defaults of the algorithm's class.
      agent: keywords of the agent's factory, which fix the shape of the program.
      network: keywords of the network's builder.
      combinators: names in `purerl.combinators`, applied to the agent in this order.
      replay: keywords of `with_replay`, applied after the combinators, but inside reward scaling; empty: the agent
        learns from its rollouts alone.
      anneal: anneal the learning rate to 0 over the whole run; sets the hyperparameter `anneal_updates`.
      rollout: name of the function in `purerl.loops` that collects experience, such as "rollout_episodes".
      dataset: directory of recorded steps (`purerl.datasets`) to learn from; empty: none. An update then sees
        num_envs · rollout_length rows.
      precision: of matrix products, as `with_precision` takes it; empty: that of JAX.
    """

    algorithm: str
    num_steps: int
    num_envs: int
    rollout_length: int
    hparams: Mapping[str, float] = {}
    agent: Mapping[str, Any] = {}
    network: Mapping[str, Any] = {}
    combinators: tuple[str, ...] = ()
    replay: Mapping[str, Any] = {}
    anneal: bool = False
    rollout: str = "rollout"
    dataset: str = ""
    precision: str = ""

    @property
    def num_updates(self) -> int:
        """Updates in a run: as many as fit into `num_steps`, at least one."""
        return max(1, self.num_steps // (self.num_envs * self.rollout_length))

    @property
    def num_agent_updates(self) -> int:
        """Updates of the agent below the replay, which may make several in each of the run."""
        return self.num_updates * self.replay.get("num_updates", 1)


class Algorithm(NamedTuple):
    """An entry of `ALGORITHMS`.

    Attributes:
      summary: a few words.
      build: `(env, preset) -> Agent`, without the combinators and replay.
      hparams: `() -> type`, the class of its hyperparameters.
      presets: by environment id, by family ("brax/"), and under "frames" (images of 36 x 36 pixels or more), "image",
        "continuous" and "any" for all others.
      space: the search space of `purerl sweep`: strings as `--space` takes them, by hyperparameter.
      actions: names of the action spaces that it can act in.
      wrap: `Env -> Env`, the environment that it trains and plays in instead of the bare one.
      offline: it learns from a dataset alone.
      fast: presets by environment id that reach the environment's threshold in the least time, `find(fast=True)`.
    """

    summary: str
    build: Callable[[types.Env, Preset], types.Agent]
    hparams: Callable[[], type]
    presets: Mapping[str, Preset]
    space: Mapping[str, str]
    actions: tuple[str, ...] = ("Discrete", "MultiDiscrete", "Box")
    wrap: Callable[[types.Env], types.Env] = lambda env: env
    offline: bool = False
    fast: Mapping[str, Preset] = {}


class Alias(NamedTuple):
    """Another name of an algorithm, with the settings that it stands for.

    Attributes:
      algorithm: a name in `ALGORITHMS`.
      hparams, agent, network, replay: put over those of the preset.
      rollout_length: in place of that of the preset; None keeps it.
    """

    algorithm: str
    hparams: Mapping[str, float] = {}
    agent: Mapping[str, Any] = {}
    network: Mapping[str, Any] = {}
    replay: Mapping[str, Any] = {}
    rollout_length: int | None = None

    def apply(self, preset: Preset) -> Preset:
        """The preset with the settings of the alias."""
        names = ("hparams", "agent", "network", "replay")
        merged: Any = {name: dict(getattr(preset, name)) | dict(getattr(self, name)) for name in names}
        length = preset.rollout_length if self.rollout_length is None else self.rollout_length
        return preset._replace(**merged, rollout_length=length)

"""A task: which agent learns in which environment, as plain data that a run saves and reads back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

import purerl
from purerl import types
from purerl.envs import references
from purerl.hparams import cast
from purerl.presets.entries import Preset
from purerl.text import plural, with_tuples

_AS_IN_JAX = types.Env(None, None, types.Discrete(1), types.Discrete(1))  # type: ignore[arg-type]


class Task(NamedTuple):
    """Which agent learns in which environment, as plain data.

    Attributes:
      env: id of the environment, or `module:function` of a function that returns one.
      env_settings: keywords of `envs.make`, or of that function.
      preset: everything else.
    """

    env: str
    env_settings: Mapping[str, Any]
    preset: Preset

    @property
    def name(self) -> str:
        """The algorithm and the environment, as part of a file's name."""
        return f"{self.preset.algorithm}-{file_name(self.env)}"

    def make_env(self) -> types.Env:
        """The environment, as the algorithm takes it; a `HostEnv` of the preset's number if it runs on the host.

        Raises:
          ValueError: an algorithm that plans with an environment on the host.
        """
        if not purerl.envs.runs_on_host(self.env):
            return purerl.presets.environment(self.preset.algorithm, bare_environment(self.env, self.env_settings))
        env = bare_environment(self.env, {"num_envs": self.preset.num_envs} | dict(self.env_settings))
        if purerl.presets.environment(self.preset.algorithm, _AS_IN_JAX) is not _AS_IN_JAX:
            raise ValueError(f"{self.preset.algorithm} plans with the environment, but {self.env} runs on the host")
        return env

    def time_limit(self) -> int | None:
        """Steps after which the environment truncates an episode; None if it does not say."""
        return time_limit(self.env, self.env_settings)

    def max_episode_steps(self) -> int:
        """The time limit; 1,000 if there is none."""
        return self.time_limit() or 1000

    def describe(self) -> str:
        """The agent, the environment and the sizes, in one line."""
        preset = self.preset
        at_most = "at most " if preset.rollout == "rollout_episodes" else ""
        sizes = f"{preset.num_envs} environments x {at_most}{preset.rollout_length} steps"
        if preset.dataset:
            sizes = f"{preset.num_envs * preset.rollout_length} rows of {preset.dataset}"
        return f"{preset.algorithm} on {self.env}: {plural(preset.num_updates, 'update')} of {sizes}"

    def to_json(self) -> dict[str, Any]:
        """Plain data; `task_from_json` is the inverse."""
        return {"env": self.env, "env_settings": dict(self.env_settings), "preset": self.preset._asdict()}


def task_from_json(data: Mapping[str, Any]) -> Task:
    """The task that `Task.to_json` wrote; lists become tuples again.

    Raises:
      ValueError: it is not a task, or names a function that is not the user's own; see `references.check_saved`.
    """
    try:
        references.check_saved([data["env"], *(data["preset"].get(name) for name in ("agent", "network"))])
        preset = {name: with_tuples(value) for name, value in data["preset"].items()}
        return Task(data["env"], with_tuples(data["env_settings"]), Preset(**preset))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the saved task cannot be read: {error!r:.100}") from error


def bare_environment(env: str, settings: Mapping[str, Any]) -> types.Env:
    """The environment that `envs.make` returns.

    Raises:
      ValueError: unknown id or setting, or a function that cannot be found.
      TypeError: the function does not return an environment.
      ModuleNotFoundError: the library of the environment is not installed.
    """
    return purerl.envs.make(env, **settings)


def first_observation(env: types.Env | purerl.envs.HostEnv, key: types.Key) -> types.PyTree:
    """An observation of one environment, as an example for `Agent.init`."""
    if isinstance(env, purerl.envs.HostEnv):
        return jax.tree.map(lambda x: x[0], env.reset(0))
    return env.reset(key)[0]


def file_name(env: str) -> str:
    """The name of an environment without characters that mean something in a path.

    Examples:
      >>> file_name("brax/ant"), file_name("my_games:maze")
      ('brax.ant', 'my_games.maze')
    """
    return env.replace(":", ".").replace("/", ".")


def time_limit(env: str, settings: Mapping[str, Any]) -> int | None:
    """Steps within which every episode of an environment ends; None if it does not say."""
    made: Any = bare_environment(env, settings)
    if purerl.envs.runs_on_host(env):
        made.close()
    return made.max_steps


def check_update(task: Task, agent: types.Agent, env: types.Env) -> list[str]:
    """Trace one update of a task, so that a misfit is reported before anything is compiled or saved.

    Returns:
      The names of its metrics.

    Raises:
      ValueError, TypeError: the setting that does not fit, by name.
    """
    preset = task.preset
    hparams = cast(purerl.presets.hparams(preset))
    rollout: Callable[..., Any] = purerl.presets.rollout(preset)

    def one_update() -> Any:
        state = purerl.loops.start(jax.random.key(0), agent, env, hparams, num_envs=preset.num_envs)
        return purerl.loops.advance(
            state, agent, env, num_updates=1, rollout_length=preset.rollout_length, rollout=rollout
        )

    return list(jax.eval_shape(one_update)[1])

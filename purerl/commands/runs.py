"""Run directories: their names, their `config.json`, and the policies that are saved in them.

runs/<name>/config.json      what was run: everything that `--resume` and `purerl evaluate` need
runs/<name>/metrics.csv      one row a part of the run (and seed)
runs/<name>/checkpoints/     the whole state of the run, the last few
runs/<name>/policy/          the trained agent, playable by `purerl evaluate runs/<name>`
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import purerl
from purerl import presets
from purerl.commands.options import Output, Setup, UsageError, parse_assignments
from purerl.hparams import suggestion
from purerl.presets import Preset
from purerl.sweep.results.storage import with_tuples
from purerl.types import Agent, Env

_DEFAULT_ALGORITHM, _DEFAULT_ENV = "ppo", "CartPole-v1"


class Task(NamedTuple):
    """Which agent on which environment, as plain data.

    Attributes:
      env: id of the environment.
      env_settings: what `envs.make` is given beside it.
      preset: everything else.
    """

    env: str
    env_settings: Mapping[str, Any]
    preset: Preset

    def make_env(self) -> Env:
        """The environment."""
        return presets.environment(self.preset.algorithm, purerl.envs.make(self.env, **self.env_settings))

    def time_limit(self) -> int | None:
        """Steps after which the environment itself ends an episode, where it says so."""
        params = purerl.envs.env_params(self.env, **self.env_settings)
        limit = getattr(params, "max_steps_in_episode", None)
        return None if limit is None else int(limit)

    def max_episode_steps(self) -> int:
        """The time limit; 1,000 where there is none."""
        return self.time_limit() or 1000

    def to_json(self) -> dict[str, Any]:
        """Plain data; `task_from_json` is the inverse."""
        return {"env": self.env, "env_settings": dict(self.env_settings), "preset": self.preset._asdict()}


def task_from_json(data: Mapping[str, Any]) -> Task:
    """The task that `Task.to_json` wrote; lists are tuples again."""
    preset = {name: with_tuples(value) for name, value in data["preset"].items()}
    return Task(data["env"], with_tuples(data["env_settings"]), Preset(**preset))


def resolve(setup: Setup, num_steps: int | None = None) -> Task:
    """The task that the options of a command describe, with the table's settings for what they leave out.

    Raises:
      ValueError: whatever is wrong with it, by name.
    """
    env_id = setup.env or _DEFAULT_ENV
    env_settings = parse_assignments("env-settings", setup.env_settings)
    env = purerl.envs.make(env_id, **env_settings)
    preset = presets.find(setup.algorithm or _DEFAULT_ALGORITHM, env_id, env)
    hparams = parse_assignments("hparams", setup.hparams)
    preset = preset._replace(
        num_steps=num_steps or preset.num_steps,
        num_envs=setup.num_envs or preset.num_envs,
        rollout_length=setup.rollout_length or preset.rollout_length,
        hparams=dict(preset.hparams) | hparams,
        anneal=preset.anneal and "anneal_updates" not in hparams,
        agent=dict(preset.agent) | parse_assignments("agent", setup.agent),
        network=dict(preset.network) | parse_assignments("network", setup.network),
        dataset=absolute(setup.dataset),
    )
    batch = preset.num_envs * preset.rollout_length
    if preset.num_steps < batch:
        raise UsageError(
            f"--num-steps {preset.num_steps:,} is less than one update takes: "
            f"{preset.num_envs} environments x {preset.rollout_length} steps = {batch:,}"
        )
    presets.hparams(preset)
    presets.rollout(preset)
    if preset.dataset:
        purerl.datasets.check_fits(purerl.datasets.load(preset.dataset), env)
    return Task(env_id, env_settings, preset)


def absolute(dataset: str | None) -> str:
    """Where a dataset lies, whatever the working directory; empty for none."""
    return os.path.abspath(dataset) if dataset else ""


def describe(task: Task) -> str:
    """What is run, in one line."""
    preset = task.preset
    sizes = f"{preset.num_envs} environments x {preset.rollout_length} steps"
    if preset.dataset:
        sizes = f"{preset.num_envs * preset.rollout_length} rows of {preset.dataset}"
    return f"{preset.algorithm} on {task.env}: {preset.num_updates:,} updates of {sizes}"


# --- Directories ------------------------------------------------------------------------------------------------------


def check_free(output: Output) -> None:
    """Refuse a name that another run has.

    Raises:
      UsageError: the name is taken, or is no single directory name.
    """
    if output.name is not None and directory_of(output).exists():
        raise UsageError(f"{directory_of(output)} is already there: choose another --name")


def create(output: Output, default_name: str, config: Mapping[str, Any]) -> Path:
    """A new directory for a run with its `config.json`; without a name, the default one with the first number free.

    Raises:
      UsageError: as `check_free`.
    """
    check_free(output)
    if output.name is not None:
        directory = directory_of(output)
    else:
        names = itertools.chain([default_name], (f"{default_name}-{number}" for number in itertools.count(2)))
        directory = next(path for name in names if not (path := Path(output.runs_dir) / name).exists())
    directory.mkdir(parents=True)
    versions = {"purerl": purerl.__version__} | {name: metadata.version(name) for name in ("jax", "jaxlib", "gymnax")}
    write_json(directory / "config.json", {**config, "versions": versions})
    return directory


def directory_of(output: Output) -> Path:
    """Where the run of that name is, or will be.

    Raises:
      UsageError: the name is no single directory name.
    """
    name = output.name or ""
    if name in ("", ".", "..") or os.sep in name:
        raise UsageError(f"--name {name!r} must be a plain directory name; --runs-dir says where it goes")
    return Path(output.runs_dir) / name


def read_config(directory: Path) -> dict[str, Any]:
    """The `config.json` of a run.

    Raises:
      UsageError: there is no such run; the message has those that there are.
    """
    path = directory / "config.json"
    if not path.is_file():
        found = sorted(other.parent.name for other in directory.parent.glob("*/config.json"))
        hint = suggestion(directory.name, found[-10:]) if found else ""
        raise UsageError(f"{directory} is no run: it has no config.json{hint}")
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, data: Any) -> None:
    """Write JSON to a sibling and rename it, so that the file is whole or as before."""
    temporary = path.with_name(f".{path.name}.incomplete")
    temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


# --- Policies ---------------------------------------------------------------------------------------------------------


class Policy(NamedTuple):
    """A trained agent, ready to act: `policy.agent.act(None, policy.state, obs)`."""

    directory: Path
    task: Task
    agent: Agent
    env: Env
    state: Any
    details: dict[str, Any]


def save_policy(directory: Path, task: Task, state: Any, details: Mapping[str, Any]) -> None:
    """Save an agent's state with everything that is needed to build the agent again, replacing an older one."""
    purerl.checkpoint.save(directory / "policy", state, {"task": task.to_json(), **details}, overwrite=True)


def load_policy(directory: str | os.PathLike[str]) -> Policy:
    """The policy of a run, for `purerl evaluate` and for use from Python.

    Args:
      directory: of a run, or its `policy`.

    Raises:
      UsageError: there is no policy there.
      CheckpointError: it is damaged.
    """
    import jax

    path = Path(directory)
    path = path / "policy" if (path / "policy").is_dir() else path
    if not (path / purerl.checkpoint.MANIFEST).is_file():
        raise UsageError(f"{directory} holds no saved policy" + _why_no_policy(Path(directory)))
    details = purerl.checkpoint.read_metadata(path)
    task = task_from_json(details["task"])
    env = task.make_env()
    agent = presets.build(task.preset, env)
    like = jax.eval_shape(lambda key: _fresh_state(key, task, agent, env), jax.random.key(0))
    return Policy(Path(directory), task, agent, env, purerl.checkpoint.restore(path, like), details)


def _fresh_state(key: Any, task: Task, agent: Agent, env: Env) -> Any:
    hparams = purerl.hparams.cast(presets.hparams(task.preset))
    return agent.init(key, hparams, env.reset(key)[0], task.preset.num_envs)


def _why_no_policy(directory: Path) -> str:
    if not directory.is_dir():
        return f": there is no directory {directory}"
    if (directory / "checkpoints").is_dir():
        return f": its training has not ended; go on with: purerl train --resume --name {directory.name}"
    return ""

"""`purerl envs`: what there is to train on, and with what."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Optional

import tyro

from purerl.commands import console
from purerl.commands.options import usage_errors


@dataclasses.dataclass(frozen=True)
class Options:
    """List all environments with their spaces, and the algorithms; or show the settings for one environment."""

    env: tyro.conf.Positional[
        Annotated[Optional[str], tyro.conf.arg(metavar="[ID]", help_behavior_hint="")]  # noqa: UP045
    ] = None
    """An environment, to see which settings each algorithm takes for it."""


def run(options: Options) -> None:
    """Print the tables.

    Raises:
      UsageError: unknown environment.
    """
    if options.env is None:
        _all()
    else:
        with usage_errors():
            _one(options.env)


def _all() -> None:
    from purerl import envs, presets

    console.print_table("environments", ("id", "observations", "actions", "time limit"), map(_row, envs.IDS))
    rows = [(name, entry.summary, ", ".join(entry.actions)) for name, entry in presets.ALGORITHMS.items()]
    console.print_table("algorithms", ("name", "", "action spaces"), rows)
    console.say("purerl envs CartPole-v1 shows the settings for one environment")


def _row(env_id: str) -> tuple[str, str, str, str]:
    from purerl.commands.runs import Task
    from purerl.presets import Preset

    task = Task(env_id, {}, Preset("", 1, 1, 1))
    try:
        env = task.make_env()
    except FileNotFoundError:
        return env_id, "(needs data that are not here)", "", ""
    return (
        env_id,
        describe_space(env.observation_space),
        describe_space(env.action_space),
        f"{task.time_limit() or '-'}",
    )


def _one(env_id: str) -> None:
    from purerl import envs, presets

    env = envs.make(env_id)
    console.say(f"{env_id}: observations {describe_space(env.observation_space)}")
    console.say(f"{' ' * len(env_id)}  actions {describe_space(env.action_space)}")
    for name, entry in presets.ALGORITHMS.items():
        if type(env.action_space).__name__ not in entry.actions:
            continue
        preset = presets.find(name, env_id, env)
        rows = [(f"--{key.replace('_', '-')}", f"{getattr(preset, key):,}") for key in ("num_steps", "num_envs")]
        rows += [("--rollout-length", f"{preset.rollout_length:,}")]
        rows += [(f"--hparams {key}", _value(value)) for key, value in presets.hparams(preset)._asdict().items()]
        rows += [(f"--agent {key}", _value(value)) for key, value in preset.agent.items()]
        rows += [(f"--network {key}", _value(value)) for key, value in preset.network.items()]
        rows += [("combinator", key) for key in preset.combinators]
        console.print_table(f"{name} on {env_id}", ("option", "value"), rows)


def describe_space(space: Any) -> str:
    """A space in a few characters: 4 floats in [-1, 1], one of 2, an image 10 x 10 x 4."""
    kind = type(space).__name__
    if kind == "Discrete":
        return f"one of {space.n}"
    if kind == "MultiDiscrete":
        return f"one of each of {space.num_values}"
    if kind == "Dict":
        return ", ".join(f"{name}: {describe_space(part)}" for name, part in space.spaces)
    if kind == "Tuple":
        return ", ".join(map(describe_space, space.spaces))
    shape = " x ".join(map(str, space.shape)) or "1"
    low, high = (bound.min() if i == 0 else bound.max() for i, bound in enumerate(space.bounds()))
    return f"{shape} {space.dtype} in [{_bound(low)}, {_bound(high)}]"


def _bound(value: Any) -> str:
    return f"{value:.4g}" if abs(value) < 1e6 else ("inf" if value > 0 else "-inf")


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

"""`purerl envs`: the environments and algorithms, and the presets for one environment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from purerl import envs, presets
from purerl.commands import console
from purerl.commands.options import usage_errors
from purerl.commands.options.envs import Options
from purerl.envs import families
from purerl.presets.tasks import bare_environment, time_limit
from purerl.types import Space


def run(options: Options) -> None:
    """Print the tables.

    Raises:
      UsageError: unknown environment.
    """
    if options.env is None:
        _all()
    else:
        with usage_errors():
            _members(options.env[:-1].lower()) if options.env.endswith("/") else _one(options.env)


def _all() -> None:
    console.print_table("environments", ("id", "observations", "actions", "time limit"), map(_row, envs.IDS))
    console.print_table("libraries, as family/name", ("family", "environments", "example", ""), _families())
    rows = [(name, entry.summary, ", ".join(entry.actions)) for name, entry in presets.ALGORITHMS.items()]
    console.print_table("algorithms", ("name", "", "action spaces"), rows)
    others = ", ".join(f"{name} ({alias.algorithm})" for name, alias in presets.ALIASES.items())
    console.prose(f"Other names of algorithms: {others}.")
    console.say("purerl envs CartPole-v1 shows the presets for one environment,")
    console.say("purerl envs brax/ the environments of a library.")


def _families() -> Iterator[tuple[str, str, str, str]]:
    for name in families.family_names():
        found = families.family(name)
        where = " (on the host)" if found.on_host else ""
        state = "installed" if families.is_installed(found) else f"pip install 'purerl[{found.extra}]'"
        yield name, found.summary + where, f"{name}/{found.example}", state


def _members(name: str) -> None:
    """Print the names of a library's environments.

    Raises:
      UsageError: it is not installed.
    """
    found = families.family(name)
    families.check_installed(found, f"{name}/")
    known = found.names()
    console.say(f"{len(known)} environments of {name} ({found.summary}):")
    console.prose(", ".join(f"{name}/{each}" for each in known))


def _row(env_id: str) -> tuple[str, str, str, str]:
    try:
        env = envs.make(env_id)
    except FileNotFoundError:
        return env_id, "(data files are missing)", "", ""
    limit = time_limit(env_id, {})
    return env_id, describe_space(env.observation_space), describe_space(env.action_space), f"{limit or '-'}"


def _one(env_id: str) -> None:
    env = bare_environment(env_id, {})
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


def describe_space(space: Space) -> str:
    """A space in a few characters: 4 floats in [-1, 1], one of 2, an image 10 x 10 x 4."""
    return " ".join(_described(space).split())


def _described(space: Any) -> str:
    kind = type(space).__name__
    if kind == "Discrete":
        return f"one of {space.n}"
    if kind == "MultiDiscrete":
        return f"one of each of {space.num_values}"
    if kind == "Dict":
        return ", ".join(f"{name}: {_described(part)}" for name, part in space.spaces)
    if kind == "Tuple":
        return ", ".join(map(_described, space.spaces))
    if kind != "Box":
        return str(space)
    shape = " x ".join(map(str, space.shape)) or "1"
    low, high = (bound.min() if i == 0 else bound.max() for i, bound in enumerate(space.bounds()))
    return f"{shape} {space.dtype} in [{_bound(low)}, {_bound(high)}]"


def _bound(value: Any) -> str:
    return f"{value:.4g}" if abs(value) < 1e6 else ("inf" if value > 0 else "-inf")


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

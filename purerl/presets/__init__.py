"""Settings that an algorithm trains with, by name: `find`, then `environment`, `build` and `hparams`.

    preset = presets.find("ppo", "CartPole-v1", env)
    env = presets.environment("ppo", env)
    agent, hparams = presets.build(preset, env), presets.hparams(preset)

A preset is plain data, so a run can save it, and a later version of these tables still plays the saved policy. An
algorithm joins with a file here that has an `ENTRY`; nothing heavy is imported until one is built.
"""

from __future__ import annotations

import functools
import importlib
import math
import pkgutil
from collections.abc import Callable
from typing import Any

import purerl
from purerl import types
from purerl.envs import references
from purerl.hparams import check_hparams, suggestion
from purerl.presets.entries import Algorithm, Alias, Preset

__all__ = [
    "ALGORITHMS", "ALIASES", "Algorithm", "Alias", "Preset", "algorithm", "build", "canonical", "check_number",
    "environment", "find", "hparams", "rollout",
]  # fmt: skip


def _entries() -> dict[str, Algorithm]:
    """The entries of the files of this folder, by the names of the files."""
    names = [found.name for found in pkgutil.iter_modules(__path__)]
    entries = {name: getattr(importlib.import_module(f"{__name__}.{name}"), "ENTRY", None) for name in names}
    return {name: entry for name, entry in entries.items() if entry is not None}


ALGORITHMS = _entries()


_SUPPORT = {"value_min": -100.0, "value_max": 100.0}
_NOISY = {"initial_epsilon": 0.0, "epsilon": 0.0}
# Names by which an algorithm is known elsewhere, and the settings that make it so.
ALIASES: dict[str, Alias] = {
    "a2c": Alias("actor_critic"),
    "a3c": Alias("actor_critic"),
    "ddpg": Alias(
        "td3", {"target_noise": 0.0, "warmup_updates": 0.0}, {"num_critics": 1, "policy_delay": 1},
        replay={"batch_size": 256}, rollout_length=1,
    ),
    "c51": Alias("dqn", _SUPPORT, {"head": "categorical"}, {"num_atoms": 51}),
    "qrdqn": Alias("dqn", {}, {"head": "quantile"}, {"num_atoms": 51}),
    "rainbow": Alias(
        "dqn", _SUPPORT | _NOISY, {"head": "categorical", "noisy": True},
        {"num_atoms": 51, "dueling": True, "noisy": True}, {"prioritized": True, "length": 3},
    ),
    "es": Alias("evolution"),
    "bc": Alias("behavior_cloning"),
}  # fmt: skip


def canonical(name: str) -> str:
    """The name in `ALGORITHMS` of an algorithm that may be given by an alias, in any case and with - for _."""
    plain = name.lower().replace("-", "_")
    alias = ALIASES.get(plain) or ALIASES.get(plain.replace("_", ""))
    return alias.algorithm if alias else plain if plain in ALGORITHMS else name


def algorithm(name: str) -> Algorithm:
    """The algorithm of that name or alias.

    Raises:
      ValueError: there is none; the message has the nearest names.
    """
    known = canonical(name)
    if known not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {name!r}{suggestion(name, [*ALGORITHMS, *ALIASES])}")
    return ALGORITHMS[known]


def find(name: str, env_id: str, env: types.Env, *, fast: bool = False) -> Preset:
    """The preset of an algorithm for an environment: its own, otherwise that for environments of its kind.

    Args:
      name: name or alias of the algorithm.
      env_id: id of the environment.
      env: the environment, read for its spaces only.
      fast: the one that reaches the environment's threshold in the least time.

    Raises:
      ValueError: unknown algorithm, or one that cannot act in the environment's action space, or has no fast preset.
    """
    found, env = algorithm(name), _one_of(env)
    kind = type(env.action_space).__name__
    if kind not in found.actions:
        fitting = [other for other, entry in ALGORITHMS.items() if kind in entry.actions]
        hint = f"; {', '.join(fitting)} can" if fitting else ""
        raise ValueError(
            f"{name} needs a {' or '.join(found.actions)} action space; that of {env_id} is {env.action_space}{hint}"
        )
    if fast and env_id not in found.fast:
        known = [f"{other} on {each}" for other, entry in ALGORITHMS.items() for each in entry.fast]
        raise ValueError(f"{name} has no fast preset for {env_id}; there is one of {', '.join(known)}")
    key = next((key for key in (env_id, *_kinds(env_id, env)) if key in found.presets), "any")
    preset = found.fast[env_id] if fast else found.presets[key]
    plain = name.lower().replace("-", "").replace("_", "")
    return ALIASES[plain].apply(preset) if plain in ALIASES else preset


def environment(name: str, env: types.Env) -> types.Env:
    """The environment as the algorithm takes it: bare, or with the state that a planner needs in its observations."""
    return algorithm(name).wrap(env)


def build(preset: Preset, env: types.Env) -> types.Agent:
    """The agent of a preset, for an environment from `environment`.

    In an environment of several agents all share one policy (`combinators.with_shared_policy`).

    Raises:
      ValueError, TypeError: a keyword or value that the factory or the network does not accept; an unknown combinator;
        a `module:function` that cannot be found.
    """
    preset = preset._replace(agent=references.loaded(preset.agent), network=references.loaded(preset.network))
    one = _one_of(env)
    agent = algorithm(preset.algorithm).build(one, preset)
    for name in preset.combinators:
        if name not in purerl.combinators.__all__:
            raise ValueError(f"unknown combinator {name!r}{suggestion(name, purerl.combinators.__all__)}")
    outside = [name for name in preset.combinators if preset.replay and name == "with_reward_scaling"]
    for name in preset.combinators:
        agent = agent if name in outside else getattr(purerl.combinators, name)(agent)
    agent = purerl.combinators.with_replay(agent, **preset.replay) if preset.replay else agent
    for name in outside:
        agent = getattr(purerl.combinators, name)(agent)
    several = isinstance(one, purerl.envs.OneAgent)
    agent = purerl.combinators.with_shared_policy(agent, one.num_agents) if several else agent
    return purerl.combinators.with_precision(agent, preset.precision) if preset.precision else agent


def _one_of(env: Any) -> Any:
    """What one agent of several sees and does; otherwise the environment itself."""
    space = env.observation_space
    return purerl.envs.one_agent(env) if isinstance(space, types.Dict) and "agents" in space else env


def hparams(preset: Preset) -> Any:
    """The hyperparameters of a preset, an instance of the algorithm's class.

    Raises:
      ValueError: unknown, NaN or out of range; the message names the hyperparameter.
    """
    cls: Any = algorithm(preset.algorithm).hparams()
    for name, value in preset.hparams.items():
        if name not in cls._fields:
            raise ValueError(f"{preset.algorithm} has no hyperparameter {name!r}{suggestion(name, cls._fields)}")
        check_number(name, value, cls._field_defaults.get(name))
    anneal = {"anneal_updates": float(preset.num_agent_updates)} if preset.anneal else {}
    made = cls(**(anneal | dict(preset.hparams)))
    check_hparams(made)
    return made


# Parts of the names of hyperparameters that infinity switches off.
_MAY_BE_INFINITE = ("anneal", "clip", "max_grad_norm", "target_kl", "_bar")


def check_number(name: str, value: Any, default: Any) -> None:
    """Reject a value that is of another kind than a hyperparameter's default, or infinite with no meaning.

    Raises:
      ValueError: names the hyperparameter.
    """
    if isinstance(value, bool) != isinstance(default, bool) or not isinstance(value, bool | int | float):
        kind = "true or false" if isinstance(default, bool) else "a number"
        raise ValueError(f"hyperparameter {name} must be {kind}, got {str(value).lower()!r}")
    if math.isinf(value) and not any(part in name for part in _MAY_BE_INFINITE):
        raise ValueError(f"hyperparameter {name} must be finite, got {value}")


def rollout(preset: Preset) -> Callable[..., Any]:
    """The function with which a preset collects experience, as `train` takes it.

    Raises:
      ValueError: an unknown function; a dataset that is missing, or one for an algorithm that does not learn from it.
      CheckpointError: the dataset is damaged.
    """
    offline = algorithm(preset.algorithm).offline
    if offline and not preset.dataset:
        raise ValueError(
            f"{preset.algorithm} learns from recorded steps: it needs the directory of a dataset (--dataset)"
        )
    if preset.dataset and not offline:
        raise ValueError(f"{preset.algorithm} learns from its own experience: it takes no dataset")
    if preset.dataset:
        return _rows(preset.dataset)
    known = ("rollout", "rollout_episodes")
    if preset.rollout not in known:
        raise ValueError(f"unknown rollout {preset.rollout!r}{suggestion(preset.rollout, known)}")
    return getattr(purerl.loops, preset.rollout)


@functools.lru_cache(maxsize=2)
def _rows(directory: str) -> Callable[..., Any]:
    """One function per dataset, so that programs that use it compile once."""
    return purerl.datasets.rows(purerl.datasets.load(directory))


def _kinds(env_id: str, env: types.Env) -> list[str]:
    """The kinds of environment that this one is, the most specific first: "brax/", "frames", "image", "continuous"."""
    family, slash, _ = env_id.partition("/")
    shape = env.observation_space.shape if isinstance(env.observation_space, types.Box) else ()
    frames = purerl.networks.images.kind_of_convolution(shape, True) == "nature"  # so large that the preset convolves
    found = {f"{family}/": bool(slash), "frames": frames, "image": len(shape) == 3}
    found["continuous"] = isinstance(env.action_space, types.Box)
    return [kind for kind, fits in found.items() if fits]

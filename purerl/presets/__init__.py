"""Which settings an algorithm trains with, by name: `find`, then `environment`, `build` and `hparams`.

    preset = presets.find("ppo", "CartPole-v1", env)
    env = presets.environment("ppo", env)
    agent, hparams = presets.build(preset, env), presets.hparams(preset)

A preset is plain data, so a run can write it down and a later version of these tables still plays the saved policy. An
algorithm joins with a file here and one entry in `ALGORITHMS`; nothing heavy is imported until one is built.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import purerl
from purerl import types
from purerl.hparams import check_hparams, suggestion
from purerl.presets import (
    actor_critic,
    alphazero,
    behavior_cloning,
    cql,
    dqn,
    evolution,
    muzero,
    ppo,
    pqn,
    recurrent_ppo,
    reinforce,
    sac,
    td3,
)
from purerl.presets.entries import Algorithm, Preset

__all__ = ["ALGORITHMS", "Algorithm", "Preset", "algorithm", "build", "environment", "find", "hparams", "rollout"]

ALGORITHMS: dict[str, Algorithm] = {
    "ppo": ppo.ENTRY,
    "recurrent_ppo": recurrent_ppo.ENTRY,
    "actor_critic": actor_critic.ENTRY,
    "reinforce": reinforce.ENTRY,
    "evolution": evolution.ENTRY,
    "dqn": dqn.ENTRY,
    "pqn": pqn.ENTRY,
    "sac": sac.ENTRY,
    "td3": td3.ENTRY,
    "alphazero": alphazero.ENTRY,
    "muzero": muzero.ENTRY,
    "behavior_cloning": behavior_cloning.ENTRY,
    "cql": cql.ENTRY,
}


def algorithm(name: str) -> Algorithm:
    """The algorithm of that name.

    Raises:
      ValueError: there is none; the message has the nearest names.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {name!r}{suggestion(name, ALGORITHMS)}")
    return ALGORITHMS[name]


def find(name: str, env_id: str, env: types.Env) -> Preset:
    """The settings of an algorithm for an environment: its own, else those for environments of its kind.

    Args:
      name: of the algorithm.
      env_id: of the environment.
      env: the environment, read for its spaces only.

    Raises:
      ValueError: unknown algorithm, or one that cannot act in the environment's action space.
    """
    found = algorithm(name)
    kind = type(env.action_space).__name__
    if kind not in found.actions:
        fitting = [other for other, entry in ALGORITHMS.items() if kind in entry.actions]
        hint = f"; {', '.join(fitting)} can" if fitting else ""
        raise ValueError(
            f"{name} acts in {' or '.join(found.actions)} action spaces and cannot act in {env_id}, "
            f"whose action space is {env.action_space}{hint}"
        )
    for key in (env_id, *_kinds(env)):
        if key in found.presets:
            return found.presets[key]
    return found.presets["any"]


def environment(name: str, env: types.Env) -> types.Env:
    """The environment as the algorithm of that name takes it: bare, or with what a planner must see of its state."""
    return algorithm(name).wrap(env)


def build(preset: Preset, env: types.Env) -> types.Agent:
    """The agent of a preset, for an environment from `environment`.

    Agents compare by identity: build one and keep it.

    Raises:
      ValueError, TypeError: a keyword that the factory or the network does not know or take; an unknown combinator.
    """
    agent = algorithm(preset.algorithm).build(env, preset)
    for name in preset.combinators:
        if name not in purerl.combinators.__all__:
            raise ValueError(f"unknown combinator {name!r}{suggestion(name, purerl.combinators.__all__)}")
        agent = getattr(purerl.combinators, name)(agent)
    return purerl.combinators.with_replay(agent, **preset.replay) if preset.replay else agent


def hparams(preset: Preset) -> Any:
    """The hyperparameters of a preset, an instance of the algorithm's class.

    Raises:
      ValueError: unknown, NaN or out of range; the message names the hyperparameter.
    """
    cls: Any = algorithm(preset.algorithm).hparams()
    for name in preset.hparams:
        if name not in cls._fields:
            raise ValueError(f"{preset.algorithm} has no hyperparameter {name!r}{suggestion(name, cls._fields)}")
        if not isinstance(preset.hparams[name], bool | int | float):
            raise ValueError(f"hyperparameter {name} must be a number, got {preset.hparams[name]!r}")
    anneal = {"anneal_updates": float(preset.num_agent_updates)} if preset.anneal else {}
    made = cls(**(anneal | dict(preset.hparams)))
    check_hparams(made)
    return made


def rollout(preset: Preset) -> Callable[..., Any]:
    """How a preset collects experience, the function that `train` takes as `rollout`.

    Raises:
      ValueError: unknown; the message has the nearest names. Or a dataset that is missing, or that nobody learns from.
      CheckpointError: the dataset is damaged.
    """
    offline = algorithm(preset.algorithm).offline
    if offline and not preset.dataset:
        raise ValueError(f"{preset.algorithm} learns from recorded steps: it needs the directory of a dataset")
    if preset.dataset and not offline:
        raise ValueError(f"{preset.algorithm} learns from what it does itself: it takes no dataset")
    if preset.dataset:
        return _rows(preset.dataset)
    known = ("rollout", "rollout_episodes")
    if preset.rollout not in known:
        raise ValueError(f"unknown rollout {preset.rollout!r}{suggestion(preset.rollout, known)}")
    return getattr(purerl.loops, preset.rollout)


@functools.lru_cache(maxsize=2)
def _rows(directory: str) -> Callable[..., Any]:
    """One function for each dataset, so that what uses it compiles once."""
    return purerl.datasets.rows(purerl.datasets.load(directory))


def _kinds(env: types.Env) -> list[str]:
    """The kinds of environment that this one is, the most telling one first."""
    image = isinstance(env.observation_space, types.Box) and len(env.observation_space.shape) == 3
    return ["image"] * image + ["continuous"] * isinstance(env.action_space, types.Box)

"""Which settings an algorithm trains with on an environment, by name: `find`, then `Preset.build`.

    preset = presets.find("ppo", "CartPole-v1")
    agent, hparams = presets.build(preset, env)

A preset is plain data, so a run can write it down and a later version of these tables still plays the saved policy. An
algorithm joins with one entry in `ALGORITHMS`; nothing heavy is imported until one is built.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import purerl
from purerl import types


class Preset(NamedTuple):
    """Everything that makes a training run but its seed, as plain data.

    Attributes:
      algorithm: its name in `ALGORITHMS`.
      num_steps: environment steps in all, over all parallel environments.
      num_envs: parallel environments.
      rollout_length: steps in each environment between two updates.
      hparams: hyperparameters that differ from the defaults of the algorithm's class.
      agent: keywords of the agent's factory, which fix the shape of the program.
      network: keywords of the network's builder.
      combinators: names in `purerl.combinators`, applied to the agent in this order.
      anneal: bring the learning rate to 0 over the whole run; sets the hyperparameter `anneal_updates`.
    """

    algorithm: str
    num_steps: int
    num_envs: int
    rollout_length: int
    hparams: Mapping[str, float] = {}
    agent: Mapping[str, Any] = {}
    network: Mapping[str, Any] = {}
    combinators: tuple[str, ...] = ()
    anneal: bool = False

    @property
    def num_updates(self) -> int:
        """Updates in a run: as many as fit into `num_steps`, at least one."""
        return max(1, self.num_steps // (self.num_envs * self.rollout_length))


class Algorithm(NamedTuple):
    """An entry of `ALGORITHMS`.

    Attributes:
      summary: what it is, in a few words.
      build: `(env, preset) -> Agent`, without the combinators.
      hparams: `() -> type`, the class of its hyperparameters.
      presets: by environment id, and under "image", "continuous" and "any" for the environments not named.
      space: the search space of `purerl sweep`: strings as `--space` takes them, by hyperparameter.
      actions: names of the action spaces that it can act in.
    """

    summary: str
    build: Callable[[types.Env, Preset], types.Agent]
    hparams: Callable[[], type]
    presets: Mapping[str, Preset]
    space: Mapping[str, str]
    actions: tuple[str, ...] = ("Discrete", "MultiDiscrete", "Box")


# --- PPO --------------------------------------------------------------------------------------------------------------

_PPO_EPOCHS = {"num_epochs": 4, "num_minibatches": 4}
_PPO_MINATAR = Preset(
    "ppo", 5_000_000, 64, 128, {"learning_rate": 1e-3}, {"num_epochs": 4, "num_minibatches": 8},
    {"activation": "relu"}, anneal=True,
)  # fmt: skip
_PPO = {
    "CartPole-v1": Preset("ppo", 500_000, 4, 128, {}, _PPO_EPOCHS, anneal=True),
    "Acrobot-v1": Preset("ppo", 200_000, 16, 64, {"learning_rate": 1e-3}, _PPO_EPOCHS, anneal=True),
    "Pendulum-v1": Preset(
        "ppo", 1_000_000, 16, 128, {"learning_rate": 1e-3, "discount": 0.9, "entropy_coef": 0.0},
        {"num_epochs": 10, "num_minibatches": 16},
        combinators=("with_observation_normalization", "with_reward_scaling"), anneal=True,
    ),
    "image": _PPO_MINATAR,
    "continuous": Preset(
        "ppo", 1_000_000, 8, 256, {"learning_rate": 3e-4, "entropy_coef": 0.0},
        {"num_epochs": 10, "num_minibatches": 32},
        combinators=("with_observation_normalization", "with_reward_scaling"), anneal=True,
    ),
    "any": Preset("ppo", 500_000, 16, 128, {}, _PPO_EPOCHS, anneal=True),
}  # fmt: skip
_PPO_SPACE = {
    "learning_rate": "log_uniform(1e-4, 1e-2)",
    "gae_lambda": "uniform(0.9, 1.0)",
    "clip_epsilon": "uniform(0.1, 0.4)",
    "entropy_coef": "log_uniform(1e-4, 3e-2)",
    "value_coef": "uniform(0.25, 1.0)",
}


def _build_ppo(env: types.Env, preset: Preset) -> types.Agent:
    return purerl.ppo(purerl.networks.actor_critic(env, **preset.network), **preset.agent)


ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm("proximal policy optimisation", _build_ppo, lambda: purerl.PPOHparams, _PPO, _PPO_SPACE),
}


# --- Finding and building ---------------------------------------------------------------------------------------------


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


def build(preset: Preset, env: types.Env) -> types.Agent:
    """The agent of a preset.

    Agents compare by identity: build one and keep it.

    Raises:
      ValueError, TypeError: a keyword that the factory or the network does not know or take; an unknown combinator.
    """
    agent = algorithm(preset.algorithm).build(env, preset)
    for name in preset.combinators:
        if name not in purerl.combinators.__all__:
            raise ValueError(f"unknown combinator {name!r}{suggestion(name, purerl.combinators.__all__)}")
        agent = getattr(purerl.combinators, name)(agent)
    return agent


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
    anneal = {"anneal_updates": float(preset.num_updates)} if preset.anneal else {}
    made = cls(**(anneal | dict(preset.hparams)))
    types.check_hparams(made)
    return made


def suggestion(name: str, known: Iterable[str]) -> str:
    """How to end an error about an unknown name: the nearest known ones, or else all."""
    known = list(known)
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; known are {', '.join(known)}"


def _kinds(env: types.Env) -> list[str]:
    """The kinds of environment that this one is, the most telling one first."""
    image = isinstance(env.observation_space, types.Box) and len(env.observation_space.shape) == 3
    return ["image"] * image + ["continuous"] * isinstance(env.action_space, types.Box)

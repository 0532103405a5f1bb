"""Training programs by name: any algorithm on any environment, at any size, alone, as a population or over devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

NUM_UPDATES = 10


class Case(NamedTuple):
    """One program.

    Attributes:
      algorithm: a name that `purerl train --algorithm` takes, or "plain-ppo", the baseline in `benchmarks/peers`.
      env: id of the environment.
      num_envs, rollout_length: 0 takes the preset's.
      population: agents under `jax.vmap`.
      num_devices: devices that the population, or without one the environments of one agent, are split over.
      hidden: widths of the networks' layers; () takes the preset's.
    """

    algorithm: str
    env: str
    num_envs: int = 0
    rollout_length: int = 0
    population: int = 1
    num_devices: int = 1
    hidden: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """In a few words."""
        sizes = f" {self.num_envs} x {self.rollout_length}" if self.num_envs else ""
        agents = f", {self.population} agents" if self.population > 1 else ""
        devices = f", {self.num_devices} devices" if self.num_devices > 1 else ""
        return f"{self.algorithm} {self.env}{sizes}{agents}{devices}"


class Program(NamedTuple):
    """A function of key data and hyperparameters, and its sizes.

    Attributes:
      run: `(key_data, hparams) -> anything`; with a population both lead with [P].
      hparams: of one agent.
      num_envs, rollout_length: of one agent.
    """

    run: Callable[..., Any]
    hparams: Any
    num_envs: int
    rollout_length: int


def build(case: Case) -> Program:
    """The training program of one agent, `NUM_UPDATES` updates long."""
    return _baseline(case) if case.algorithm == "plain-ppo" else _purerl(case)


def _purerl(case: Case) -> Program:
    import jax

    import purerl
    from purerl import presets

    bare = purerl.envs.make(case.env)
    env = presets.environment(case.algorithm, bare)
    preset = presets.find(case.algorithm, case.env, bare)
    preset = preset._replace(
        num_envs=case.num_envs or preset.num_envs, rollout_length=case.rollout_length or preset.rollout_length
    )
    if case.hidden:
        preset = preset._replace(network=dict(preset.network) | {"hidden": case.hidden})
    agent, rollout = presets.build(preset, env), presets.rollout(preset)

    def run(key: jax.Array, hparams: Any) -> Any:
        return purerl.train(
            jax.random.wrap_key_data(key),
            agent,
            env,
            hparams,
            num_updates=NUM_UPDATES,
            num_envs=preset.num_envs,
            rollout_length=preset.rollout_length,
            rollout=rollout,
        )

    return Program(run, presets.hparams(preset), preset.num_envs, preset.rollout_length)


def _baseline(case: Case) -> Program:
    import jax

    from benchmarks.peers import plain_ppo

    num_envs, rollout_length = case.num_envs or 4, case.rollout_length or 128
    sizes = plain_ppo.Sizes(num_envs=num_envs, rollout_length=rollout_length, num_updates=NUM_UPDATES)

    def run(key: jax.Array, hparams: Any) -> Any:
        return plain_ppo.train(jax.random.wrap_key_data(key), hparams, case.env, sizes)

    return Program(run, plain_ppo.Hparams(), num_envs, rollout_length)

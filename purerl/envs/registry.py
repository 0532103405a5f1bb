"""Environments by name: `make`, and `env_params` for the parameters that an experiment varies."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import pathlib
import re
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from purerl import types
from purerl.envs import pictures, references
from purerl.envs.adapters.gymnasium import HostEnv
from purerl.envs.adapters.gymnax import from_gymnax
from purerl.envs.builtin.traffic import TrafficParams, traffic_light
from purerl.envs.deferred import defer
from purerl.envs.families import family, make_member
from purerl.envs.wrappers import select_observation
from purerl.hparams import cast, suggestion

Setting: TypeAlias = Any
"""A plain Python value: a number, a string, or a tuple of such."""
Settings: TypeAlias = tuple[tuple[str, Setting], ...]
Foreign: TypeAlias = Any
"""An environment of gymnax, which is imported only if it is used."""

GYMNAX_IDS = (
    "CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0",
    "Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar", "SpaceInvaders-MinAtar",
    "Catch-bsuite", "DeepSea-bsuite", "MemoryChain-bsuite", "UmbrellaChain-bsuite", "DiscountingChain-bsuite",
    "MNISTBandit-bsuite", "SimpleBandit-bsuite",
    "FourRooms-misc", "MetaMaze-misc", "PointRobot-misc", "BernoulliBandit-misc", "GaussianBandit-misc",
    "Reacher-misc", "Swimmer-misc", "Pong-misc", "FrozenLake-misc",
)  # fmt: skip
_OWN: dict[str, tuple[Callable[[TrafficParams], types.Env], type[TrafficParams]]] = {
    "TrafficLight-v0": (traffic_light, TrafficParams),
}
_PARTIAL = {"PositionCartPole-v1": ("CartPole-v1", (0, 2))}  # the whole environment, and the elements observed
IDS = (*GYMNAX_IDS, *_PARTIAL, *_OWN)
_REGISTERED: dict[str, Callable[..., Any]] = {}
_MADE: dict[tuple[str, Settings], types.Env] = {}  # what registered functions and families returned

# The first words of environments of Gymnasium that people look for.
_GYMNASIUM = (
    "Ant", "BipedalWalker", "Blackjack", "CarRacing", "CliffWalking", "FrozenLake", "HalfCheetah", "Hopper", "Humanoid",
    "InvertedDoublePendulum", "InvertedPendulum", "LunarLander", "Pusher", "Reacher", "Swimmer", "Taxi", "Walker2d",
    r"\w+NoFrameskip",
)  # fmt: skip

_BOUNDS = {  # of observations that leave the bounds which gymnax declares
    "MemoryChain-bsuite": (-1.0, math.inf),
    "MetaMaze-misc": (-math.inf, math.inf),
    "GaussianBandit-misc": (-math.inf, math.inf),
}


def register(name: str, make: Callable[..., Any]) -> None:
    """Let `envs.make(name, **settings)` call `make(**settings)`; the name of a family ends with "/".

    A command finds names that are registered in this process only; it takes `module:function` as they are.

    Args:
      name: a name without "/" or ":", or a family's name that ends with "/".
      make: a function that returns an `Env`, or a `HostEnv` with the setting `num_envs`. For a family it takes what
        follows the "/" first. The same settings give the same `Env` again, so it compiles once, but a new `HostEnv`.

    Raises:
      ValueError: the name is taken, or has a character that it must not have.

    Examples:
      >>> from purerl import envs
      >>> register("Endless-v0", envs.endless)
      >>> make("Endless-v0") is make("Endless-v0"), make("Endless-v0").id
      (True, 'Endless-v0')
    """
    if not name.strip("/") or "/" in name[:-1] or ":" in name:
        raise ValueError(f"name must be a name without '/' and ':', or a family that ends with '/'; got {name!r}")
    if name in _REGISTERED or name in IDS:
        raise ValueError(f"an environment {name!r} already exists")
    _REGISTERED[name] = make


def make(env_id: str, **settings: Setting) -> types.Env:
    """The environment of that name; the same object in every call with the same arguments, so it compiles once.

    Names of other libraries are "family/name", such as "brax/ant"; `purerl envs` lists the families. Those of libraries
    that run on the host ("gymnasium/LunarLander-v3") give a new `HostEnv` in every call, with `num_envs` environments.

    Args:
      env_id: one of `envs.IDS`, "family/name", "module:function" of a function that returns an environment, or a name
        that was given to `envs.register` or `gymnax.register`.
      **settings: arguments of the environment's class (`size=20` for DeepSea, `map_name="8x8"` for FrozenLake), and
        fields of its parameters that replace the defaults for good (`max_torque=3.0` for Pendulum, whose spaces
        follow). Plain Python values; to vary a field within a compiled program pass `env_params` instead.

    Raises:
      ValueError: unknown name or setting; the message has the nearest known ones.
      TypeError: a setting that is not a plain value, or a function that returns something else than an environment.
      ModuleNotFoundError: the environment's library is not installed; the message says what to install.
      FileNotFoundError: the data files of MNISTBandit-bsuite are missing.

    Examples:
      >>> make("TrafficLight-v0").observation_space.shape
      (17,)
      >>> make("TrafficLight-v0") is make("TrafficLight-v0")
      True
    """
    unhashable = [name for name, value in settings.items() if not isinstance(value, Hashable)]
    if unhashable:
        raise TypeError(f"{env_id}: {', '.join(unhashable)} must be plain Python values (tuples, not lists or arrays)")
    if runs_on_host(env_id) or references.is_reference(env_id):
        return _foreign(env_id, settings)
    key = env_id, tuple(sorted(settings.items()))
    if has_params(env_id):
        return _make(*key)
    if key in _MADE:
        return _MADE[key]
    made = _foreign(env_id, settings)
    if isinstance(made, types.Env):  # a HostEnv has a state of its own, so each call gets one
        _MADE[key] = made
    return made


def runs_on_host(env_id: str) -> bool:
    """Whether a name is that of an environment of a family on the host.

    Examples:
      >>> runs_on_host("gymnasium/LunarLander-v3"), runs_on_host("brax/ant"), runs_on_host("CartPole-v1")
      (True, False, False)
    """
    first, slash, _ = env_id.partition("/")
    return bool(slash) and f"{first}/" not in _REGISTERED and family(first).on_host


def has_params(env_id: str) -> bool:
    """Whether `env_params` knows the parameters of an environment.

    Examples:
      >>> has_params("CartPole-v1"), has_params("brax/ant")
      (True, False)
    """
    return not (references.is_reference(env_id) or "/" in env_id or env_id in _REGISTERED)


def env_params(env_id: str, **overrides: types.PyTree) -> types.PyTree:
    """The parameters of an environment, as data to pass for `env_params`.

    Every field is an array (float fields float32, even if given as integers), so that a new value traces nothing again.

    Args:
      env_id: as for `make`.
      **overrides: values for single fields, traced ones too, and the settings that `make` was given.

    Returns:
      The environment's parameters: gymnax's `EnvParams`, or `TrafficParams`.

    Raises:
      ValueError: unknown name or field; the message has the nearest known ones.

    Examples:
      >>> env_params("TrafficLight-v0", discharge_rate=1).discharge_rate.dtype
      dtype('float32')
    """
    if not has_params(env_id):
        raise ValueError(f"{env_id} has no env_params; pass settings to envs.make({env_id!r}, ...)")
    if env_id in _OWN:
        return cast(_own_params(env_id, overrides))
    return cast(_configure(_PARTIAL.get(env_id, (env_id,))[0], overrides)[1])


@functools.cache
def _make(env_id: str, settings: Settings) -> types.Env:
    if env_id in _OWN:
        return _OWN[env_id][0](_own_params(env_id, dict(settings)))
    if env_id in _PARTIAL:
        whole, indices = _PARTIAL[env_id]
        return select_observation(_make(whole, settings), indices)._replace(id=env_id)
    with jax.ensure_compile_time_eval(), jax.enable_x64(False):
        foreign, params = _configure(env_id, dict(settings))
        env = from_gymnax(foreign, params)._replace(id=env_id, render=pictures.of_gymnax(foreign, params))
    space = env.observation_space
    if env_id in _BOUNDS and isinstance(space, types.Box):
        return env._replace(observation_space=types.Box(*_BOUNDS[env_id], space.shape, space.dtype))
    return env


def _foreign(env_id: str, settings: dict[str, Setting]) -> Any:
    """An environment that a function makes: one that was registered, that of a reference or that of a family."""
    first, slash, rest = env_id.partition("/")
    if env_id in _REGISTERED:
        made = _REGISTERED[env_id](**settings)
    elif f"{first}/" in _REGISTERED:
        made = _REGISTERED[f"{first}/"](rest, **settings)
    elif slash:
        made = make_member(env_id, settings)
    else:
        made = references.load(env_id)(**settings)
    if not isinstance(made, types.Env | HostEnv):
        raise TypeError(f"{env_id} returned {type(made).__name__}, not an environment (purerl.Env)")
    return made._replace(id=env_id)


def _own_params(env_id: str, settings: dict[str, Setting]) -> TrafficParams:
    """The parameters of an environment of this package, with the fields among the settings replaced."""
    defaults = _OWN[env_id][1]()
    for name in settings:
        if name not in defaults._fields:
            raise ValueError(f"{env_id} has no setting {name!r}{suggestion(name, defaults._fields)}")
    return defaults._replace(**settings)


@functools.cache
def _gymnax_env(env_id: str, arguments: Settings) -> Foreign:
    with jax.ensure_compile_time_eval(), jax.enable_x64(False):
        return _factory(env_id)(**dict(arguments))


def _factory(env_id: str) -> Callable[..., Foreign]:
    defer("seaborn", "matplotlib.pyplot")
    from gymnax import registration

    if env_id not in registration.registered_envs:
        known = sorted([*registration.registered_envs, *_PARTIAL, *_OWN])
        raise ValueError(f"unknown environment {env_id!r}{_elsewhere(env_id) or suggestion(env_id, known)}")
    if env_id == "MNISTBandit-bsuite":
        return _mnist_bandit
    return registration._registry[env_id]


def _elsewhere(env_id: str) -> str:
    """How to reach an environment of another library, as the end of an error; empty for an unknown name."""
    if not (re.match(rf"({'|'.join(_GYMNASIUM)})[A-Za-z]*-v\d", env_id)):
        return ""
    return (
        f"; it is an environment of Gymnasium, which runs on the host: 'gymnasium/{env_id}'. purerl's own are classic "
        "control, MinAtar, bsuite and misc (purerl envs)"
    )


def _configure(env_id: str, settings: dict[str, Setting]) -> tuple[Foreign, types.PyTree]:
    """gymnax's environment, and its parameters with the fields among the settings replaced."""
    arguments = inspect.signature(_factory(env_id)).parameters
    env = _gymnax_env(env_id, tuple(sorted((name, settings[name]) for name in settings if name in arguments)))
    defaults = env.default_params
    fields = {field.name: getattr(defaults, field.name) for field in dataclasses.fields(defaults)}
    overrides = {name: value for name, value in settings.items() if name not in arguments}
    for name in overrides:
        if name not in fields:
            raise ValueError(f"{env_id} has no setting {name!r}{suggestion(name, [*arguments, *fields])}")
    return env, dataclasses.replace(
        defaults, **{name: _like(name, fields[name], overrides[name]) for name in overrides}
    )


def _like(name: str, default: Setting, value: Setting) -> types.PyTree:
    """The value, a sequence as an array of the default's dtype.

    Raises:
      TypeError: a text or None in place of numbers.
    """
    if isinstance(value, str | None) and not isinstance(default, str | None):
        raise TypeError(f"the setting {name} must be as its default {default!r}, got {value!r}")
    return jnp.asarray(value, jnp.result_type(default)) if isinstance(value, tuple | list) else value


def _mnist_bandit(fraction: float = 1.0) -> Foreign:
    """gymnax's MNISTBandit from files that exist already: nothing is downloaded without being asked."""
    from gymnax.environments.bsuite import mnist

    folder = pathlib.Path(inspect.signature(mnist.load_mnist.load_mnist).parameters["directory"].default)
    stems = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    missing = [f"{stem}-ubyte.gz" for stem in stems if not (folder / f"{stem}-ubyte.gz").is_file()]
    if missing:
        raise FileNotFoundError(
            f"MNISTBandit-bsuite needs the MNIST files {', '.join(missing)} in {folder}; "
            "they are published at https://storage.googleapis.com/cvdf-datasets/mnist/"
        )
    env = mnist.MNISTBandit(fraction=fraction)
    env.images = env.images.astype(jnp.uint8)  # gymnax reads them as int8, which makes bright pixels negative
    return env

"""Environments: by name, from other libraries, wrapped, and small ones whose answers are known exactly."""

from purerl.envs.adapters.brax import from_brax
from purerl.envs.adapters.functional import from_functional
from purerl.envs.adapters.gymnasium import HostEnv, HostStep, from_gymnasium
from purerl.envs.adapters.gymnax import from_gymnax
from purerl.envs.adapters.jaxmarl import from_jaxmarl
from purerl.envs.adapters.jumanji import from_jumanji
from purerl.envs.adapters.navix import from_navix
from purerl.envs.adapters.pettingzoo import from_pettingzoo
from purerl.envs.adapters.pgx import from_pgx, from_pgx_self_play, one_step_player, random_player
from purerl.envs.adapters.to_gymnasium import to_gymnasium
from purerl.envs.adapters.xminigrid import from_xminigrid
from purerl.envs.builtin.from_mdp import from_mdp
from purerl.envs.builtin.probes import (
    PROBES,
    EndlessParams,
    ProbeParams,
    endless,
    probe,
    probe_action,
    probe_params,
    probe_value,
)
from purerl.envs.builtin.testbed import BanditTestbedParams, bandit_testbed
from purerl.envs.builtin.traffic import TrafficParams, traffic_light
from purerl.envs.builtin.traffic_control import ActuatedHparams, FixedCycleHparams, actuated, fixed_cycle, two_phases
from purerl.envs.checking import check
from purerl.envs.registry import IDS, env_params, has_params, make, register, runs_on_host
from purerl.envs.wrappers import (
    OneAgent,
    action_repeat,
    cached_resets,
    central_critic,
    channels_last,
    flatten,
    frame_stack,
    one_agent,
    select_observation,
    time_limit,
    with_state,
)

__all__ = [
    "IDS", "PROBES", "ActuatedHparams", "BanditTestbedParams", "EndlessParams", "FixedCycleHparams", "HostEnv",
    "HostStep", "OneAgent", "ProbeParams", "TrafficParams", "action_repeat", "actuated", "bandit_testbed",
    "cached_resets", "central_critic", "channels_last", "check", "endless", "env_params", "fixed_cycle", "flatten",
    "frame_stack", "from_brax", "from_functional", "from_gymnasium", "from_gymnax", "from_jaxmarl", "from_jumanji",
    "from_mdp", "from_navix", "from_pettingzoo", "from_pgx", "from_pgx_self_play", "from_xminigrid", "has_params",
    "make", "one_agent", "one_step_player", "probe", "probe_action", "probe_params", "probe_value", "random_player",
    "register", "runs_on_host", "select_observation", "time_limit", "to_gymnasium", "traffic_light", "two_phases",
    "with_state",
]  # fmt: skip

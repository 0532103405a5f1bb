"""Environments: by name, from other libraries, wrapped, and small ones whose answers are known exactly."""

from purerl.envs.from_mdp import from_mdp
from purerl.envs.gymnax_adapter import from_gymnax
from purerl.envs.probes import (
    PROBES,
    EndlessParams,
    ProbeParams,
    endless,
    probe,
    probe_action,
    probe_params,
    probe_value,
)
from purerl.envs.registry import IDS, env_params, make
from purerl.envs.testbed import BanditTestbedParams, bandit_testbed
from purerl.envs.wrappers import flatten, frame_stack, time_limit

__all__ = [
    "IDS", "PROBES", "BanditTestbedParams", "EndlessParams", "ProbeParams", "bandit_testbed", "endless", "env_params",
    "flatten", "frame_stack", "from_gymnax", "from_mdp", "make", "probe", "probe_action", "probe_params", "probe_value",
    "time_limit",
]  # fmt: skip

"""Environments: by name, from other libraries, wrapped, and small ones whose answers are known exactly."""

from purerl.envs.gymnax_adapter import from_gymnax
from purerl.envs.registry import IDS, env_params, make

__all__ = ["IDS", "env_params", "from_gymnax", "make"]

"""Kernels written for a GPU, in Pallas. Each has a counterpart in plain JAX that it is tested against."""

from purerl.kernels.rollouts import fused_rollout

__all__ = ["fused_rollout"]

"""Reinforcement learning as pure functions in JAX, from tabular methods to learning from preferences.

Names are imported on first use, so `import purerl` is instant and `from purerl.losses import dpo` loads no framework.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "agents", "checkpoint", "combinators", "datasets", "distributed", "distributions", "envs", "exploration",
    "host_loop", "loops", "losses", "mdp", "networks", "noise", "plots", "presets", "prng", "replay", "reports",
    "returns", "rlhf", "schedules", "sweep", "types",
}  # fmt: skip

_NAMES = {
    "train": "loops", "fit": "loops", "rollout": "loops", "evaluate": "loops", "start": "loops", "advance": "loops",
    "LoopState": "loops", "Evaluation": "loops",
    "train_on_host": "host_loop", "evaluate_on_host": "host_loop",
    "Agent": "types", "Env": "types", "EnvStep": "types", "Transition": "types", "TrainState": "types",
    "get_hparams": "types", "set_hparams": "types",
    "ppo": "agents.ppo", "PPOHparams": "agents.ppo",
    "alphazero": "agents.alphazero", "AlphaZeroHparams": "agents.alphazero",
    "muzero": "agents.muzero", "MuZeroHparams": "agents.muzero",
    "dqn": "agents.dqn", "DQNHparams": "agents.dqn", "pqn": "agents.pqn", "PQNHparams": "agents.pqn",
    "evolution": "agents.evolution", "EvolutionHparams": "agents.evolution",
    "sac": "agents.sac", "SACHparams": "agents.sac", "td3": "agents.td3", "TD3Hparams": "agents.td3",
    "behavior_cloning": "agents.offline", "CloningHparams": "agents.offline",
    "cql": "agents.offline", "CQLHparams": "agents.offline",
    "reinforce": "agents.reinforce", "ReinforceHparams": "agents.reinforce",
    "actor_critic": "agents.actor_critic", "ActorCriticHparams": "agents.actor_critic",
    "value_iteration": "agents.dynamic_programming", "policy_iteration": "agents.dynamic_programming",
    "modified_policy_iteration": "agents.dynamic_programming", "soft_value_iteration": "agents.dynamic_programming",
    "policy_evaluation": "agents.dynamic_programming", "DynamicProgrammingHparams": "agents.dynamic_programming",
    "ModifiedPolicyIterationHparams": "agents.dynamic_programming",
    "SoftValueIterationHparams": "agents.dynamic_programming",
    "q_learning": "agents.td_control", "sarsa": "agents.td_control", "q_lambda": "agents.td_control",
    "TDControlHparams": "agents.td_control",
    "td": "agents.td_prediction", "td_lambda": "agents.td_prediction", "TDHparams": "agents.td_prediction",
    "monte_carlo": "agents.monte_carlo", "monte_carlo_control": "agents.monte_carlo",
    "MonteCarloHparams": "agents.monte_carlo", "MonteCarloControlHparams": "agents.monte_carlo",
    "bandit": "agents.bandit", "BanditHparams": "agents.bandit",
    "linear_prediction": "agents.linear", "least_squares": "agents.linear", "LinearHparams": "agents.linear",
}  # fmt: skip

__all__ = sorted(_MODULES | set(_NAMES))


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"purerl.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"purerl.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'purerl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

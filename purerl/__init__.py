"""Reinforcement learning as pure functions in JAX, from tabular methods to learning from preferences.

Names are imported on first use, so `import purerl` is instant and `from purerl.losses import dpo` loads no framework.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "agents", "checkpoint", "combinators", "datasets", "distributed", "distributions", "envs", "experiments",
    "exploration", "hparams", "loops", "losses", "mdp", "networks", "pbt", "plots", "preferences", "presets", "prng",
    "replay", "reports", "returns", "rlhf", "runs", "schedules", "spaces", "sweep", "text", "types",
}  # fmt: skip

_NAMES = {
    "train": "loops", "fit": "loops", "rollout": "loops", "evaluate": "loops", "start": "loops", "advance": "loops",
    "LoopState": "loops", "Evaluation": "loops", "deploy": "loops", "train_on_host": "loops.host",
    "evaluate_on_host": "loops.host",
    "Agent": "types", "Env": "types", "EnvStep": "types", "Transition": "types", "TrainState": "types",
    "get_hparams": "hparams", "set_hparams": "hparams", "get_params": "hparams", "set_params": "hparams",
    "ppo": "agents.ppo", "PPOHparams": "agents.ppo",
    "alphazero": "agents.alphazero", "AlphaZeroHparams": "agents.alphazero", "muzero": "agents.muzero",
    "MuZeroHparams": "agents.muzero", "dqn": "agents.dqn", "DQNHparams": "agents.dqn", "pqn": "agents.pqn",
    "PQNHparams": "agents.pqn", "evolution": "agents.evolution", "EvolutionHparams": "agents.evolution",
    "sac": "agents.sac", "SACHparams": "agents.sac", "td3": "agents.td3", "TD3Hparams": "agents.td3",
    "behavior_cloning": "agents.offline", "CloningHparams": "agents.offline", "cql": "agents.offline",
    "CQLHparams": "agents.offline", "reinforce": "agents.reinforce", "ReinforceHparams": "agents.reinforce",
    "actor_critic": "agents.actor_critic", "ActorCriticHparams": "agents.actor_critic",
    "value_iteration": "agents.tabular.dynamic_programming", "policy_iteration": "agents.tabular.dynamic_programming",
    "modified_policy_iteration": "agents.tabular.dynamic_programming",
    "soft_value_iteration": "agents.tabular.dynamic_programming",
    "policy_evaluation": "agents.tabular.dynamic_programming",
    "DynamicProgrammingHparams": "agents.tabular.dynamic_programming",
    "ModifiedPolicyIterationHparams": "agents.tabular.dynamic_programming",
    "SoftValueIterationHparams": "agents.tabular.dynamic_programming", "q_learning": "agents.tabular.td_control",
    "sarsa": "agents.tabular.td_control", "q_lambda": "agents.tabular.td_control",
    "TDControlHparams": "agents.tabular.td_control", "td": "agents.tabular.td_prediction",
    "td_lambda": "agents.tabular.td_prediction", "TDHparams": "agents.tabular.td_prediction",
    "monte_carlo": "agents.tabular.monte_carlo", "monte_carlo_control": "agents.tabular.monte_carlo",
    "MonteCarloHparams": "agents.tabular.monte_carlo", "MonteCarloControlHparams": "agents.tabular.monte_carlo",
    "bandit": "agents.tabular.bandit", "BanditHparams": "agents.tabular.bandit",
    "linear_prediction": "agents.tabular.linear", "least_squares": "agents.tabular.linear",
    "LinearHparams": "agents.tabular.linear",
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

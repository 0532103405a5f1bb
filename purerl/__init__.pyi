"""The public names of purerl and where they come from. `__init__.py` imports them on first use."""

from purerl import (
    agents,
    callbacks,
    checkpoint,
    combinators,
    datasets,
    distributed,
    distributions,
    envs,
    experiments,
    exploration,
    export,
    films,
    hparams,
    lm,
    logging,
    loops,
    losses,
    mdp,
    networks,
    pbt,
    plots,
    preferences,
    presets,
    prng,
    replay,
    reports,
    returns,
    rlhf,
    runs,
    schedules,
    spaces,
    sweep,
    text,
    types,
)
from purerl.agents.actor_critic import ActorCriticHparams, actor_critic
from purerl.agents.alphazero import AlphaZeroHparams, alphazero
from purerl.agents.cma_es import CMAESHparams, cma_es
from purerl.agents.crossq import crossq
from purerl.agents.discrete_sac import DiscreteSACHparams, discrete_sac
from purerl.agents.dqn import DQNHparams, dqn
from purerl.agents.droq import droq
from purerl.agents.evolution import EvolutionHparams, evolution
from purerl.agents.iql import IQLHparams, iql
from purerl.agents.muzero import MuZeroHparams, muzero
from purerl.agents.offline import CloningHparams, CQLHparams, behavior_cloning, cql
from purerl.agents.ppo import PPOHparams, ppo
from purerl.agents.pqn import PQNHparams, pqn
from purerl.agents.r2d2 import r2d2
from purerl.agents.reinforce import ReinforceHparams, reinforce
from purerl.agents.sac import SACHparams, sac
from purerl.agents.tabular.bandit import BanditHparams, bandit
from purerl.agents.tabular.dynamic_programming import (
    DynamicProgrammingHparams,
    ModifiedPolicyIterationHparams,
    SoftValueIterationHparams,
    modified_policy_iteration,
    policy_evaluation,
    policy_iteration,
    soft_value_iteration,
    value_iteration,
)
from purerl.agents.tabular.linear import LinearHparams, least_squares, linear_prediction
from purerl.agents.tabular.monte_carlo import (
    MonteCarloControlHparams,
    MonteCarloHparams,
    monte_carlo,
    monte_carlo_control,
)
from purerl.agents.tabular.td_control import TDControlHparams, q_lambda, q_learning, sarsa
from purerl.agents.tabular.td_prediction import TDHparams, td, td_lambda
from purerl.agents.td3 import TD3Hparams, td3
from purerl.agents.td3_bc import TD3BCHparams, td3_bc
from purerl.agents.tqc import tqc
from purerl.hparams import get_hparams, get_params, set_hparams, set_params
from purerl.loops import Evaluation, LoopState, advance, deploy, evaluate, fit, rollout, start, train, train_in_chunks
from purerl.loops.host import evaluate_on_host, train_on_host
from purerl.once import build_once
from purerl.runs import load
from purerl.types import Agent, Env, EnvStep, TrainState, Transition

__version__: str
__all__ = [
    "ActorCriticHparams",
    "Agent",
    "AlphaZeroHparams",
    "BanditHparams",
    "CMAESHparams",
    "CQLHparams",
    "CloningHparams",
    "DQNHparams",
    "DiscreteSACHparams",
    "DynamicProgrammingHparams",
    "Env",
    "EnvStep",
    "Evaluation",
    "EvolutionHparams",
    "IQLHparams",
    "LinearHparams",
    "LoopState",
    "ModifiedPolicyIterationHparams",
    "MonteCarloControlHparams",
    "MonteCarloHparams",
    "MuZeroHparams",
    "PPOHparams",
    "PQNHparams",
    "ReinforceHparams",
    "SACHparams",
    "SoftValueIterationHparams",
    "TD3BCHparams",
    "TD3Hparams",
    "TDControlHparams",
    "TDHparams",
    "TrainState",
    "Transition",
    "actor_critic",
    "advance",
    "agents",
    "alphazero",
    "bandit",
    "behavior_cloning",
    "build_once",
    "callbacks",
    "checkpoint",
    "cma_es",
    "combinators",
    "cql",
    "crossq",
    "datasets",
    "deploy",
    "discrete_sac",
    "distributed",
    "distributions",
    "dqn",
    "droq",
    "envs",
    "evaluate",
    "evaluate_on_host",
    "evolution",
    "experiments",
    "exploration",
    "export",
    "films",
    "fit",
    "get_hparams",
    "get_params",
    "hparams",
    "iql",
    "least_squares",
    "linear_prediction",
    "lm",
    "load",
    "logging",
    "loops",
    "losses",
    "mdp",
    "modified_policy_iteration",
    "monte_carlo",
    "monte_carlo_control",
    "muzero",
    "networks",
    "pbt",
    "plots",
    "policy_evaluation",
    "policy_iteration",
    "ppo",
    "pqn",
    "preferences",
    "presets",
    "prng",
    "q_lambda",
    "q_learning",
    "r2d2",
    "reinforce",
    "replay",
    "reports",
    "returns",
    "rlhf",
    "rollout",
    "runs",
    "sac",
    "sarsa",
    "schedules",
    "set_hparams",
    "set_params",
    "soft_value_iteration",
    "spaces",
    "start",
    "sweep",
    "td",
    "td3",
    "td3_bc",
    "td_lambda",
    "text",
    "tqc",
    "train",
    "train_in_chunks",
    "train_on_host",
    "types",
    "value_iteration",
]

"""Hyperparameter search: trials x seeds in one compiled program, ranked with honest statistics."""

from purerl.sweep.optuna_search import optuna_search
from purerl.sweep.results.loading import load
from purerl.sweep.results.result import Result
from purerl.sweep.results.robustness import EnvGrid, env_grid, kept_agents, robustness
from purerl.sweep.results.statistics import (
    bootstrap_interval,
    interquartile_mean,
    rank_interval,
    stratified_bootstrap_interval,
)
from purerl.sweep.results.tables import table
from purerl.sweep.results.trial import Trial
from purerl.sweep.run.monitor import Progress
from purerl.sweep.run.rungs import Rung, full, hyperband, successive_halving
from purerl.sweep.search import search
from purerl.sweep.trials.draws import grid, sample, sobol
from purerl.sweep.trials.spaces import choice, integers, log_uniform, uniform

__all__ = [
    "EnvGrid",
    "Progress",
    "Result",
    "Rung",
    "Trial",
    "bootstrap_interval",
    "choice",
    "env_grid",
    "full",
    "grid",
    "hyperband",
    "integers",
    "interquartile_mean",
    "kept_agents",
    "load",
    "log_uniform",
    "optuna_search",
    "rank_interval",
    "robustness",
    "sample",
    "search",
    "sobol",
    "stratified_bootstrap_interval",
    "successive_halving",
    "table",
    "uniform",
]

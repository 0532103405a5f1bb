"""Hyperparameter search: trials x seeds in one compiled program, ranked with honest statistics."""

from purerl.sweep.draws import grid, sample, sobol
from purerl.sweep.monitor import Progress
from purerl.sweep.optuna_search import optuna_search
from purerl.sweep.pbt import pbt
from purerl.sweep.pbt_result import PBTResult, load_pbt
from purerl.sweep.pbt_schedule import train_schedule
from purerl.sweep.report import table
from purerl.sweep.results import Result, Trial, load
from purerl.sweep.robustness import EnvGrid, env_grid, kept_agents, robustness
from purerl.sweep.rungs import Rung, full, hyperband, successive_halving
from purerl.sweep.search import search
from purerl.sweep.spaces import choice, integers, log_uniform, uniform
from purerl.sweep.statistics import bootstrap_interval, interquartile_mean, rank_interval, stratified_bootstrap_interval

__all__ = [
    "EnvGrid",
    "PBTResult",
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
    "load_pbt",
    "log_uniform",
    "optuna_search",
    "pbt",
    "rank_interval",
    "robustness",
    "sample",
    "search",
    "sobol",
    "stratified_bootstrap_interval",
    "successive_halving",
    "table",
    "train_schedule",
    "uniform",
]

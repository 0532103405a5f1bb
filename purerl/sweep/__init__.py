"""Hyperparameter search: trials x seeds in one compiled program, ranked with honest statistics."""

from purerl.sweep.draws import grid, sample, sobol
from purerl.sweep.monitor import Progress
from purerl.sweep.pbt import pbt, train_schedule
from purerl.sweep.pbt_result import PBTResult
from purerl.sweep.report import table
from purerl.sweep.results import Result, Trial, load
from purerl.sweep.rungs import Rung, full, hyperband, successive_halving
from purerl.sweep.search import search
from purerl.sweep.spaces import choice, integers, log_uniform, uniform
from purerl.sweep.statistics import bootstrap_interval, interquartile_mean

__all__ = [
    "PBTResult",
    "Progress",
    "Result",
    "Rung",
    "Trial",
    "bootstrap_interval",
    "choice",
    "full",
    "grid",
    "hyperband",
    "integers",
    "interquartile_mean",
    "load",
    "log_uniform",
    "pbt",
    "sample",
    "search",
    "sobol",
    "successive_halving",
    "table",
    "train_schedule",
    "uniform",
]

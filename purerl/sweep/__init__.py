"""Hyperparameter search: trials x seeds in one compiled program, ranked with honest statistics."""

from purerl.sweep.report import table
from purerl.sweep.results import Result, Trial, load
from purerl.sweep.search import Progress, search
from purerl.sweep.spaces import choice, grid, integers, log_uniform, sample, uniform
from purerl.sweep.statistics import bootstrap_interval, interquartile_mean

__all__ = [
    "Progress",
    "Result",
    "Trial",
    "bootstrap_interval",
    "choice",
    "grid",
    "integers",
    "interquartile_mean",
    "load",
    "log_uniform",
    "sample",
    "search",
    "table",
    "uniform",
]

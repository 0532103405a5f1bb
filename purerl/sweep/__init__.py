"""Hyperparameter search: trials x seeds in one compiled program, ranked with honest statistics."""

from purerl.sweep.forecasting import forecast
from purerl.sweep.model_search import model_search
from purerl.sweep.optuna_search import optuna_search
from purerl.sweep.results.algorithms import by_algorithm
from purerl.sweep.results.joining import join, ranked_rows
from purerl.sweep.results.loading import load
from purerl.sweep.results.objectives import (
    Evidence,
    Objective,
    area,
    curve_end,
    final_return,
    of_curve,
    pareto_front,
    percentile,
    seconds_to,
    steps_to,
)
from purerl.sweep.results.pareto import Front, front
from purerl.sweep.results.result import Result
from purerl.sweep.results.robustness import kept_agents, robustness
from purerl.sweep.results.statistics import (
    bootstrap_interval,
    interquartile_mean,
    rank_interval,
    stratified_bootstrap_interval,
)
from purerl.sweep.results.tables import table
from purerl.sweep.results.trial import Trial
from purerl.sweep.run.keeping import save_best, when_best
from purerl.sweep.run.monitor import Progress
from purerl.sweep.run.rungs import Rung, asha, full, hyperband, successive_halving
from purerl.sweep.run.unfinished import load_unfinished
from purerl.sweep.run.work import Chunk
from purerl.sweep.search import search
from purerl.sweep.trials.algorithms import Algorithm, Algorithms, algorithms
from purerl.sweep.trials.draws import grid, sample, sobol
from purerl.sweep.trials.grids import EnvGrid, env_grid
from purerl.sweep.trials.spaces import choice, integers, log_integers, log_uniform, uniform, when

__all__ = [
    "Algorithm",
    "Algorithms",
    "Chunk",
    "EnvGrid",
    "Evidence",
    "Front",
    "Objective",
    "Progress",
    "Result",
    "Rung",
    "Trial",
    "algorithms",
    "area",
    "asha",
    "bootstrap_interval",
    "by_algorithm",
    "choice",
    "curve_end",
    "env_grid",
    "final_return",
    "forecast",
    "front",
    "full",
    "grid",
    "hyperband",
    "integers",
    "interquartile_mean",
    "join",
    "kept_agents",
    "load",
    "load_unfinished",
    "log_integers",
    "log_uniform",
    "model_search",
    "of_curve",
    "optuna_search",
    "pareto_front",
    "percentile",
    "rank_interval",
    "ranked_rows",
    "robustness",
    "sample",
    "save_best",
    "search",
    "seconds_to",
    "sobol",
    "steps_to",
    "stratified_bootstrap_interval",
    "successive_halving",
    "table",
    "uniform",
    "when",
    "when_best",
]

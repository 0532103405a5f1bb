"""Exploration: rules that choose actions, correlated noise, and schedules."""

from purerl.exploration.bandits import (
    gaussian_posterior,
    gradient_bandit_update,
    thompson_bernoulli,
    thompson_gaussian,
    ucb1,
    ucb1_scores,
)
from purerl.exploration.selection import boltzmann, boltzmann_probs, epsilon_greedy, epsilon_greedy_probs, greedy
from purerl.schedules import (
    exponential_schedule,
    linear_schedule,
    piecewise_constant_schedule,
    piecewise_linear_schedule,
)

__all__ = [
    "boltzmann", "boltzmann_probs", "epsilon_greedy", "epsilon_greedy_probs",
    "exponential_schedule", "gaussian_posterior", "gradient_bandit_update", "greedy", "linear_schedule",
    "piecewise_constant_schedule", "piecewise_linear_schedule", "thompson_bernoulli", "thompson_gaussian", "ucb1",
    "ucb1_scores",
]  # fmt: skip

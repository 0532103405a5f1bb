"""MDPs as data, exact solvers, and the textbook's MDPs: the ground truth that learners are tested against."""

from purerl.mdp.backup import bellman_backup
from purerl.mdp.catalog import car_rental, gamblers_problem, random_mdp, random_walk
from purerl.mdp.convert import from_dense, from_gymnasium, from_table
from purerl.mdp.exact import policy_evaluation, policy_iteration
from purerl.mdp.gridworld import GRID_3X4, MAZE_2X3, gridworld, gridworld_3x4, maze_2x3
from purerl.mdp.sweeps import (
    iterative_policy_evaluation,
    modified_policy_iteration,
    soft_value_iteration,
    value_iteration,
    value_iteration_history,
)
from purerl.mdp.types import MDP, Solution, check, error_bound

__all__ = [
    "GRID_3X4",
    "MAZE_2X3",
    "MDP",
    "Solution",
    "bellman_backup",
    "car_rental",
    "check",
    "error_bound",
    "from_dense",
    "from_gymnasium",
    "from_table",
    "gamblers_problem",
    "gridworld",
    "gridworld_3x4",
    "iterative_policy_evaluation",
    "maze_2x3",
    "modified_policy_iteration",
    "policy_evaluation",
    "policy_iteration",
    "random_mdp",
    "random_walk",
    "soft_value_iteration",
    "value_iteration",
    "value_iteration_history",
]

"""Returns and advantages of trajectories, on-policy and off-policy; see `returns.estimators` for the conventions."""

from purerl.returns.estimators import gae, lambda_returns, n_step_returns, reward_to_go, whole_returns
from purerl.returns.importance_sampling import (
    ordinary_importance_sampling,
    per_decision_importance_sampling,
    weighted_importance_sampling,
)
from purerl.returns.off_policy import q_lambda, retrace, tree_backup, vtrace

__all__ = [
    "gae", "lambda_returns", "n_step_returns", "ordinary_importance_sampling", "per_decision_importance_sampling",
    "q_lambda", "retrace", "reward_to_go", "tree_backup", "vtrace", "weighted_importance_sampling", "whole_returns",
]  # fmt: skip

"""What commands say and draw about returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def summary(returns: np.ndarray) -> str:
    """Mean, interquartile mean and its 95% bootstrap interval, over the seeds or, where there is one, its episodes.

    Args:
      returns: [S, E] of S seeds and E episodes each.
    """
    import jax

    from purerl.commands.console import format_number
    from purerl.sweep import bootstrap_interval, interquartile_mean

    num_seeds, num_episodes = returns.shape
    values = returns.mean(axis=1) if num_seeds > 1 else returns[0]
    over = f"{num_seeds} seeds" if num_seeds > 1 else f"{num_episodes} episodes"
    low, high = (format_number(float(end)) for end in bootstrap_interval(jax.random.key(0), values))
    mean, middle = format_number(float(values.mean())), format_number(float(interquartile_mean(values)))
    return f"mean return {mean}, interquartile mean {middle}, 95% interval {low} to {high} over {over}"

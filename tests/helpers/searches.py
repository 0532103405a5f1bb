"""Synthetic searches, as `sweep.search` would return them, without any training."""

from typing import NamedTuple

import jax
import numpy as np

from purerl import sweep
from purerl.sweep.trials.trials import Trials


class Hparams(NamedTuple):
    learning_rate: float = 1e-3
    entropy_coef: float = 0.01
    num_steps: int = 64


SPACE = {
    "learning_rate": sweep.log_uniform(1e-4, 1e-2),
    "entropy_coef": sweep.uniform(0.0, 0.1),
    "num_steps": sweep.integers(8, 64),
    "env.length": sweep.uniform(0.2, 1.0),
    "network.hidden": sweep.choice([(64, 64), (128,)]),
}
NAMES = tuple(SPACE)


def make_search(num_trials=64, num_seeds=2, num_rungs=1, confirm=0, names=NAMES, seed=0):
    """A task that ends at 500 and whose best learning rate is 1e-3; 16 updates of 1,000 steps, rungs grow by 4.

    Trial 3 diverges after its first points, and the slowest have no episode in the first point.
    """
    rng = np.random.default_rng(seed)
    points, update_steps, num_updates = 16, 1000, 16
    hparams = sweep.sample(
        jax.random.key(0), Hparams(), {n: SPACE[n] for n in names if n in Hparams._fields}, num_trials
    )
    hidden = np.empty(num_trials, object)
    hidden[:] = [((64, 64), (128,))[i] for i in rng.integers(0, 2, num_trials)]
    every = {**hparams._asdict(), "env.length": rng.uniform(0.2, 1, num_trials), "network.hidden": hidden}
    columns = {name: every[name] for name in names}
    trials = Trials(hparams, None, np.zeros(num_trials, int), ({},), columns, {name: SPACE[name] for name in names})

    distance = np.abs(np.log10(hparams.learning_rate / 1e-3))[:, None, None]
    steps = update_steps * np.arange(1, points + 1)
    progress = 5 * np.arange(1, points + 1) / points - 5 * distance - 2.5 * rng.random((num_trials, num_seeds, 1))
    curves = 500 / (1 + np.exp(-2 * progress)) * (1 - 0.12 * rng.random((num_trials, num_seeds, points)))
    noise = 0.9 + 0.2 * rng.random((num_trials, num_seeds, points, 8))
    evaluated = np.clip(curves[..., None] * noise, 0, 500)
    curves[distance[:, 0, 0] > 0.9, :, 0] = np.nan
    if num_trials > 3:
        curves[3, :, 4:] = np.nan
        evaluated[3] = np.nan
    return _stopped(trials, steps, curves.astype(np.float32), evaluated, num_rungs, num_updates, confirm)


def _stopped(trials, steps, curves, evaluated, num_rungs, num_updates, confirm):
    """Successive halving by 4 on curves that are known to the end."""
    num_trials, num_seeds = curves.shape[:2]
    ends = [num_updates // 4 ** (num_rungs - 1 - r) for r in range(num_rungs)]
    counts = [-(-num_trials // 4**r) for r in range(num_rungs)]
    rung_returns = np.full((num_rungs, num_trials, num_seeds, evaluated.shape[-1]), np.nan, np.float32)
    ended, alive = np.zeros(num_trials, int), np.arange(num_trials)
    for r, (end, count) in enumerate(zip(ends, counts)):
        if r:
            score = np.nan_to_num(rung_returns[r - 1, alive].mean(axis=(1, 2)), nan=-1)
            alive = np.sort(alive[np.argsort(-score, kind="stable")[:count]])
        rung_returns[r, alive] = evaluated[alive, :, end - 1]
        ended[alive] = end
    returns = rung_returns[np.searchsorted(ends, ended), np.arange(num_trials)]
    curves = np.where(np.arange(1, len(steps) + 1) <= ended[:, None, None], curves, np.nan)
    interval = sweep.bootstrap_interval(jax.random.key(0), returns.mean(axis=2))
    settings = {
        "num_seeds": num_seeds, "num_updates": num_updates, "num_envs": 10, "rollout_length": 100, "width": 32,
        "num_devices": 1, "brackets": (tuple(zip(counts, ends)),), "seconds": 83.2, "steps_per_second": 123456.0,
        "eval_max_steps": 500, "num_chunks": len(steps),
    }  # fmt: skip
    empty = np.empty((0, 4, 8), np.float32)
    result = sweep.Result(
        trials, steps, curves, returns, rung_returns, ended, interval, np.empty(0, int), empty, np.empty(0, int), None,
        settings,
    )  # fmt: skip
    if not confirm:
        return result
    best = np.sort(result.order[:confirm])
    rng = np.random.default_rng(1)
    fresh = np.clip(result.iqm[best][:, None, None] * (0.85 + 0.15 * rng.random((confirm, 4, 8))), 0, 500)
    fresh = fresh.astype(np.float32)
    return sweep.Result(**{**vars(result), "fresh_trials": best, "fresh_returns": fresh})

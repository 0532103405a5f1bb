"""The same search by purerl and by rejax: are the results the same, and which is faster?

    python -m benchmarks.studies.search_rejax

64 random trials of PPO on CartPole x 2 seeds, 32,768 steps each, then 16 greedy episodes. What differs between the two
is made the same (see workers/purerl_search.py), so that the returns must agree up to chance. Both compile first, and
then search in turn, with fresh keys each time. Writes results/search_rejax.json.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile

import jax
import numpy as np

import purerl
from benchmarks import driving
from benchmarks.peers import environments
from purerl import sweep
from purerl.sweep.results.statistics import interquartile_mean
from purerl.sweep.trials.draws import sample

RESULT = pathlib.Path(__file__).parents[1] / "results" / "search_rejax.json"
NUM_TRIALS = 64
SIZES = {"num_seeds": 2, "num_envs": 4, "rollout_length": 128, "num_updates": 64, "episodes": 16}


def main() -> None:
    """Search on both sides in turn, compare, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    rounds = parser.parse_args().rounds
    sides = {name: driving.Side(name, environments.python(name)) for name in (driving.OURS, "rejax")}
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        np.savez(folder / "table.npz", **table())
        workload = {"kind": "search", "table": str(folder / "table.npz"), "output": directory, **SIZES}
        speed = driving.measure(sides, workload, rounds)
        ours, theirs = (np.load(folder / f"{name}.npy").mean(axis=-1) for name in sides)
    record = {"num_trials": NUM_TRIALS, **SIZES, "speed": speed, "returns": compare(ours, theirs)}
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


def table() -> dict[str, np.ndarray]:
    """The trials, under rejax's names."""
    space = {
        "learning_rate": sweep.log_uniform(1e-4, 1e-2),
        "gae_lambda": sweep.uniform(0.8, 1.0),
        "clip_epsilon": sweep.uniform(0.1, 0.4),
        "entropy_coef": sweep.log_uniform(1e-4, 1e-1),
    }
    drawn = sample(jax.random.key(0), purerl.PPOHparams(), space, NUM_TRIALS)
    names = {"learning_rate": "learning_rate", "gae_lambda": "gae_lambda", "clip_epsilon": "clip_eps"}
    names |= {"entropy_coef": "ent_coef"}
    return {theirs: np.asarray(getattr(drawn, name), np.float32) for name, theirs in names.items()}


def compare(ours: np.ndarray, theirs: np.ndarray) -> dict:
    """Agreement of both searches about the trials, from returns [runs, trials, seeds].

    The seeds of all runs are independent repetitions of a trial. The mean difference comes with a 95% bootstrap
    interval over the repetitions; the correlation of the trials' means stands beside the one that two halves of the
    same side's repetitions have, which is what chance leaves.
    """
    ours, theirs = (np.moveaxis(x, 1, 0).reshape(x.shape[1], -1).astype(np.float64) for x in (ours, theirs))
    rng = np.random.default_rng(0)
    differences = [difference(resampled(rng, ours), resampled(rng, theirs)) for _ in range(10_000)]
    half = ours.shape[1] // 2
    return {
        "repetitions_of_a_trial": ours.shape[1],
        "mean": {"purerl": ours.mean(), "rejax": theirs.mean()},
        "iqm": {"purerl": float(interquartile_mean(ours.ravel())), "rejax": float(interquartile_mean(theirs.ravel()))},
        "share_of_agents_at_475": {"purerl": float((ours >= 475).mean()), "rejax": float((theirs >= 475).mean())},
        "mean_difference": difference(ours, theirs),
        "mean_difference_95": np.percentile(differences, [2.5, 97.5]).tolist(),
        "correlation": correlation(ours, theirs),
        "correlation_of_halves": {
            name: correlation(x[:, :half], x[:, half:]) for name, x in (("purerl", ours), ("rejax", theirs))
        },
    }


def resampled(rng: np.random.Generator, returns: np.ndarray) -> np.ndarray:
    """Each trial's repetitions, drawn again with replacement; the trials are the same ones on both sides and stay."""
    return np.take_along_axis(returns, rng.integers(returns.shape[1], size=returns.shape), axis=1)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(ours.mean() - theirs.mean())


def correlation(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.corrcoef(ours.mean(axis=1), theirs.mean(axis=1))[0, 1])


if __name__ == "__main__":
    main()

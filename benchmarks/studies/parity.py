"""Whether PPO learns as much as the single file does, size by size: many seeds of both with the same initial weights.

    python -m benchmarks.studies.parity           results/parity.json and .png
    python -m benchmarks.studies.parity 2048x32   that size again; the others stay as they are recorded

purerl splits keys, draws actions, resets, shuffles and rounds in ways of its own, each faster than what JAX offers, and
the single file does it all by JAX's own functions. What they learn must be the same. A run's score is the mean return
of the training episodes of all its updates; purerl is not worse if the 95% interval of the difference of the
means excludes a loss of 2% of the range of CartPole's returns, which is 10.
"""

from __future__ import annotations

import json
import pathlib
import platform
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

import purerl
from purerl import distributed

distributed.use_all_cores()  # before the single file asks for devices

from benchmarks.peers import plain_ppo  # noqa: E402
from benchmarks.peers.flax_weights import FlaxWeights  # noqa: E402

RESULTS = pathlib.Path(__file__).parents[1] / "results"
ENV, MARGIN, AT_ONCE = "CartPole-v1", 0.02 * 500, 8
SIZES = {  # and the number of seeds
    "4x128": (plain_ppo.Sizes(4, 128, 200), 256),
    "64x128": (plain_ppo.Sizes(64, 128, 20), 256),
    "2048x32": (plain_ppo.Sizes(2048, 32, 12), 128),  # minibatches of 16,384 rows, which a CPU takes in blocks
}
Curve = Callable[[jax.Array], jax.Array]


class Difference(NamedTuple):
    """purerl's mean score minus the single file's, and its 95% interval."""

    mean: float
    low: float
    high: float


def purerl_curve(sizes: plain_ppo.Sizes) -> Curve:
    """From a key to the mean returns [U] of the episodes that ended in each update, NaN where none did."""
    env = purerl.envs.make(ENV)
    network = FlaxWeights(purerl.networks.actor_critic(env))
    agent = purerl.ppo(network, num_epochs=sizes.num_epochs, num_minibatches=sizes.num_minibatches)
    chosen = {name: getattr(sizes, name) for name in ("num_updates", "num_envs", "rollout_length")}
    hparams = purerl.PPOHparams(**plain_ppo.Hparams()._asdict())
    return lambda key: purerl.train(key, agent, env, hparams, **chosen)[1]["episode_return"]


def plain_curve(sizes: plain_ppo.Sizes) -> Curve:
    """As `purerl_curve`, of the single file."""
    return lambda key: plain_ppo.train(key, plain_ppo.Hparams(), ENV, sizes)[1]


def curves(curve: Curve, seed: int, num_seeds: int) -> np.ndarray:
    """The curves of all seeds, [S, U]."""
    many = jax.jit(lambda keys: distributed.over_devices(jax.vmap(curve), (keys,), at_once=AT_ONCE))
    return np.asarray(many(jax.random.split(jax.random.key(seed), num_seeds)))


def difference(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Of the means of two independent samples [S], with Welch's standard error."""
    mean = ours.mean() - theirs.mean()
    error = np.sqrt(ours.var(ddof=1) / ours.size + theirs.var(ddof=1) / theirs.size)
    return Difference(float(mean), float(mean - 1.96 * error), float(mean + 1.96 * error))


def draw(found: dict[str, Any]) -> Figure:
    """The mean curves of both sides, a panel for each size."""
    figure = Figure(figsize=(3.2 * len(found), 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, each) in zip(figure.subplots(1, len(found)), found.items()):
        for label, color in (("single file", "#d55e00"), ("purerl", "#0072b2")):
            mean, error = np.array(each["curves"][label], float)
            axes.plot(each["steps"], mean, color=color, label=label)
            axes.fill_between(each["steps"], mean - 1.96 * error, mean + 1.96 * error, color=color, alpha=0.2, lw=0)
        axes.set_title(f"{name}: {each['difference']['mean']:+.1f}", loc="left", fontsize=10)
        axes.set_xlabel("environment steps")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("mean return of training")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def measure(sizes: plain_ppo.Sizes, num_seeds: int) -> dict[str, Any]:
    """The record of one size."""
    sides = {
        "purerl": curves(purerl_curve(sizes), 0, num_seeds),
        "single file": curves(plain_curve(sizes), 1, num_seeds),
    }
    scores = {name: np.nanmean(each, axis=1) for name, each in sides.items()}
    found = difference(scores["purerl"], scores["single file"])
    steps = np.arange(1, sizes.num_updates + 1) * sizes.num_envs * sizes.rollout_length
    bands = {
        name: [np.nanmean(each, axis=0), np.nanstd(each, axis=0, ddof=1) / np.sqrt(num_seeds)]
        for name, each in sides.items()
    }
    return {
        "num_seeds": num_seeds,
        "difference": found._asdict(),
        "not_worse": found.low > -MARGIN,
        "means": {name: float(each.mean()) for name, each in scores.items()},
        "steps": steps.tolist(),
        "curves": {name: np.round(each, 2).tolist() for name, each in bands.items()},
    }


def main() -> None:
    """Measure, print, draw and write the record."""
    file = RESULTS / "parity.json"
    names = sys.argv[1:] or list(SIZES)
    found = json.loads(file.read_text(encoding="utf-8"))["sizes"] if sys.argv[1:] else {}
    for name in names:
        begin = time.perf_counter()
        found[name] = each = measure(*SIZES[name])
        found[name]["seconds"] = round(time.perf_counter() - begin)
        mean, low, high = each["difference"].values()
        print(
            f"{name}: purerl {each['means']['purerl']:.1f}, single file {each['means']['single file']:.1f}, difference "
            f"{mean:+.1f} [{low:.1f}, {high:.1f}]: {'not worse' if each['not_worse'] else 'OPEN'} by {MARGIN:.0f}",
            flush=True,
        )
    machine = f"{jax.devices()[0].platform}, {platform.machine()}, jax {jax.__version__}"
    file.write_text(json.dumps({"machine": machine, "sizes": found}) + "\n", encoding="utf-8")
    draw(found).savefig(RESULTS / "parity.png", dpi=110)


if __name__ == "__main__":
    main()

"""Q-learning with many vmapped agents against a loop in NumPy: `python benchmarks/tabular_speed.py`.

Both learn online on the slippery 4 x 4 lake: every agent acts ε-greedily, steps, and makes one Q-learning step. Rates
are agent-steps a second, measured in turn in one process: medians, and the ratio with its least and greatest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import numpy as np

import purerl
from purerl import distributed, envs
from purerl import mdp as mdps
from purerl.agents.tabular.td_control import TDControlHparams, q_learning

RESULTS = Path(__file__).parent / "results" / "tabular_speed.json"
HPARAMS = TDControlHparams(step_size=0.1, discount=0.99, epsilon=0.1)


def numpy_q_learning(lake: mdps.MDP, num_steps: int, seed: int = 0) -> np.ndarray:
    """The textbook's loop, with its random numbers drawn beforehand."""
    next_state, reward, terminated = (np.asarray(x).tolist() for x in (lake.next_state, lake.reward, lake.terminated))
    cumulative = np.cumsum(np.asarray(lake.probability), -1).tolist()
    rng = np.random.default_rng(seed)
    explore, outcome = rng.random((2, num_steps)).tolist()
    random_action = rng.integers(0, 4, num_steps).tolist()
    q, s, t = np.zeros((16, 4)), 0, 0
    for i in range(num_steps):
        row = q[s]
        a = random_action[i] if explore[i] < HPARAMS.epsilon or row.max() == row.min() else int(row.argmax())
        k = sum(c <= outcome[i] for c in cumulative[s][a][:-1])
        after, done, t = next_state[s][a][k], terminated[s][a][k], t + 1
        target = reward[s][a][k] + HPARAMS.discount * (0.0 if done else q[after].max())
        row[a] += HPARAMS.step_size * (target - row[a])
        s, t = (0, 0) if done or t >= 100 else (after, t)
    return q


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000, help="steps of each vmapped agent")
    parser.add_argument("--numpy-steps", type=int, default=50_000)
    parser.add_argument("--agents", type=int, nargs="*", default=[1, 32, 1000])
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    distributed.use_all_cores()
    lake = mdps.from_gymnasium("FrozenLake-v1")
    env = envs.from_mdp(lake, max_steps=100)
    agent = q_learning(env)

    def run(key: jax.Array) -> jax.Array:
        return purerl.train(key, agent, env, HPARAMS, num_updates=options.steps, num_envs=1, rollout_length=1)[0].q

    population = jax.jit(lambda keys: distributed.over_devices(jax.vmap(run), (keys,)))
    programs = {"numpy": (lambda: numpy_q_learning(lake, options.numpy_steps), options.numpy_steps)}
    for width in options.agents:
        keys = jax.random.split(jax.random.key(0), width)
        programs[f"purerl_{width}"] = (lambda keys=keys: population(keys), width * options.steps)  # type: ignore[misc]
    rates: dict[str, list[float]] = {name: [] for name in programs}
    for i in range(options.rounds + 1):
        for name, (program, work) in programs.items():
            begin = time.perf_counter()
            jax.block_until_ready(program())
            if i:
                rates[name].append(work / (time.perf_counter() - begin))
    found: dict = {"command": "python benchmarks/tabular_speed.py", "rounds": options.rounds, "steps": options.steps}
    for name, values in rates.items():
        ratios = [x / y for x, y in zip(values, rates["numpy"])]
        found[name] = {
            "steps_per_second": round(statistics.median(values)),
            "times_numpy": [round(x, 2) for x in (statistics.median(ratios), min(ratios), max(ratios))],
        }
        print(name, found[name], flush=True)
    found["machine"] = f"{jax.local_device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}"
    options.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

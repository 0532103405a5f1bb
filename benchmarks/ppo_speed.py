"""Environment steps a second of PPO on CartPole, against rejax with the same settings, in alternating runs.

    python -m venv .venv-rejax && .venv-rejax/bin/pip install "rejax==0.1.3" "gymnax==0.0.9" "jax<0.11"
    python benchmarks/ppo_speed.py --rejax-python .venv-rejax/bin/python

Both compile first; then they run in turn. Writes results/ppo_speed.json, one entry a setting.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import sys

from pairs import alternate

HERE = pathlib.Path(__file__).parent
RESULT = HERE / "results" / "ppo_speed.json"

# environments, steps of a rollout, updates of a run, population (0: a single agent)
SETTINGS = {
    "4x128": (4, 128, 200, 0),
    "64x128": (64, 128, 20, 0),
    "2048x32": (2048, 32, 4, 0),
    "population of 64, each 4x128": (4, 128, 10, 64),
    "population of 64, plain vmap": (4, 128, 10, 64),
}


def measure(name: str, rejax_python: str, pairs: int) -> dict[str, float]:
    num_envs, rollout_length, num_updates, population = SETTINGS[name]
    sizes = [f"--num-envs={num_envs}", f"--rollout-length={rollout_length}", f"--num-updates={num_updates}"]
    sizes += [f"--population={population}"]
    ours = [sys.executable, str(HERE / "peers" / "purerl_ppo.py"), *sizes, *["--one-device"] * ("plain" in name)]
    theirs = [rejax_python, str(HERE / "peers" / "rejax_ppo.py"), *sizes]
    steps = num_envs * rollout_length * num_updates * max(population, 1)
    return alternate(ours, theirs, steps, pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"settings, of {', '.join(map(repr, SETTINGS))}; none: all")
    parser.add_argument("--rejax-python", required=True, help="the Python of an environment that has rejax")
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    results["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    for name in arguments.names or SETTINGS:
        figures = measure(name, arguments.rejax_python, arguments.pairs)
        results[name] = {key: round(value, 2 if "ratio" in key else 0) for key, value in figures.items()}
        RESULT.write_text(json.dumps(results, indent=1) + "\n")
        rates = f"purerl {figures['ours_per_second']:,.0f}, rejax {figures['theirs_per_second']:,.0f} steps/s"
        spread = f"[{figures['ratio_min']:.2f}, {figures['ratio_max']:.2f}]"
        print(f"{name}: {rates}, ratio {figures['ratio']:.2f} {spread}", flush=True)


if __name__ == "__main__":
    main()

"""Environment steps a second of agents with replay, against rejax with the same settings, in alternating runs.

    python -m venv .venv-rejax && .venv-rejax/bin/pip install "rejax==0.1.3" "gymnax==0.0.9" "jax<0.11" "jaxlib<0.11"
    python benchmarks/off_policy_speed.py --rejax-python .venv-rejax/bin/python

Both compile first; then they run in turn. Writes results/off_policy_speed.json, one entry a setting. The workers are
peers/purerl_<algorithm>.py and peers/rejax_<algorithm>.py, which take the sizes below as options.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import sys
from typing import NamedTuple

from pairs import alternate

HERE = pathlib.Path(__file__).parent
RESULT = HERE / "results" / "off_policy_speed.json"


class Setting(NamedTuple):
    """One algorithm at one size: a gradient step of `batch_size` windows after every step of all environments."""

    algorithm: str
    num_envs: int
    num_steps: int
    batch_size: int
    capacity: int


SETTINGS = {
    "DQN, 10 environments, batch 128": Setting("dqn", 10, 30_000, 128, 50_000),
    "SAC, 1 environment, batch 64": Setting("sac", 1, 2_000, 64, 100_000),
    "SAC, 1 environment, batch 256": Setting("sac", 1, 2_000, 256, 100_000),
    "SAC, 8 environments, batch 256": Setting("sac", 8, 16_000, 256, 100_000),
}


def measure(setting: Setting, rejax_python: str, pairs: int) -> dict[str, float]:
    sizes = [f"--{k.replace('_', '-')}={v}" for k, v in setting._asdict().items() if k != "algorithm"]
    ours = [sys.executable, str(HERE / "peers" / f"purerl_{setting.algorithm}.py"), *sizes]
    theirs = [rejax_python, str(HERE / "peers" / f"rejax_{setting.algorithm}.py"), *sizes]
    return alternate(ours, theirs, setting.num_steps, pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of names of settings; none: all")
    parser.add_argument("--rejax-python", required=True, help="the Python of an environment that has rejax")
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    results["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    for name, setting in SETTINGS.items():
        if arguments.names and not any(part in name for part in arguments.names):
            continue
        figures = measure(setting, arguments.rejax_python, arguments.pairs)
        results[name] = {key: round(value, 2 if "ratio" in key else 0) for key, value in figures.items()}
        RESULT.write_text(json.dumps(results, indent=1) + "\n")
        rates = f"purerl {figures['ours_per_second']:,.0f}, rejax {figures['theirs_per_second']:,.0f} steps/s"
        spread = f"[{figures['ratio_min']:.2f}, {figures['ratio_max']:.2f}]"
        print(f"{name}: {rates}, ratio {figures['ratio']:.2f} {spread}", flush=True)


if __name__ == "__main__":
    main()

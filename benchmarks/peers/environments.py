"""The Python environment of each side, made from the package registry at its first use."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from importlib import metadata

ROOT = pathlib.Path(__file__).parents[2]
# Sides that run in purerl's own environment are not listed.
PACKAGES = {
    "rejax": ("rejax==0.1.3", "gymnax==0.0.9", "jax<0.11", "jaxlib<0.11"),
    "sb3": ("stable-baselines3==2.9.*", "torch==2.13.0", "gymnasium[classic-control]"),
    "sbx": ("sbx-rl", "torch==2.13.0", "gymnasium[classic-control]"),
    "flashbax": ("flashbax==0.1.*", "jax=={jax}"),
}


def python(side: str) -> str:
    """The interpreter of a side's environment, `.venv-<side>`, which is made if it is missing.

    Raises:
      CalledProcessError: its packages cannot be installed.
    """
    if side not in PACKAGES:
        return sys.executable
    directory = ROOT / f".venv-{side}"
    interpreter = str(directory / "bin" / "python")
    if not (directory / "ready").is_file():
        print(f"making {directory.name} (once)", file=sys.stderr, flush=True)
        wanted = [name.format(jax=metadata.version("jax")) for name in PACKAGES[side]]
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        subprocess.run([interpreter, "-m", "pip", "install", "--quiet", *wanted], check=True)
        (directory / "ready").touch()
    return interpreter

"""Folders in the layout of the Hugging Face Hub: a model card, the policy, and all that `purerl.load` needs."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

import purerl
from purerl import checkpoint
from purerl.export import formats
from purerl.runs import HUB, Policy, RunError
from purerl.runtime import install_hint
from purerl.sweep import bootstrap_interval
from purerl.text import format_number

_CARD = """---
{header}
---

# {title}

A policy of `{algorithm}`, trained with purerl, a library for reinforcement learning in JAX.

{result}

```python
import purerl

policy = purerl.load("{source}")
action = policy.act(obs)
```

`policy/` holds the agent's state under checksums; `config.json` says how it was trained.{files}

## Settings

```json
{settings}
```
"""


def folder(policy: Policy, directory: str | os.PathLike[str], repository: str = "") -> Path:
    """Write a policy as a folder that can be pushed to the Hub and that `purerl.load` reads. No network is needed.

    The folder holds README.md (the model card), config.json, policy/, and policy.safetensors if safetensors is
    installed; a replay.gif in the policy's run directory goes with it.

    Args:
      policy: from `purerl.load`.
      directory: created; it must not exist or be empty.
      repository: "user/name" on the Hub, for the card.

    Returns:
      The directory.

    Raises:
      RunError: the directory exists.
    """
    directory = Path(directory)
    if directory.exists() and any(directory.iterdir()):
        raise RunError(f"{directory} already exists: choose another directory")
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint.save(directory / "policy", policy.state, policy.details)
    config = {"library_name": "purerl", "purerl": purerl.__version__, "jax": jax.__version__}
    (directory / "config.json").write_text(json.dumps(config | {"task": policy.task.to_json()}, indent=1) + "\n")
    if importlib.util.find_spec("safetensors"):
        formats.safetensors(policy.state, directory / "policy.safetensors")
    replay = policy.directory / "replay.gif"
    if replay.is_file():
        shutil.copy(replay, directory / "replay.gif")
    (directory / "README.md").write_text(card(policy, directory, repository), encoding="utf-8")
    return directory


def card(policy: Policy, directory: Path, repository: str = "") -> str:
    """The model card: what was trained, and the mean return with its interval, in Markdown behind a YAML header."""
    task = policy.task
    returns = np.asarray(policy.details.get("returns", []), np.float64)
    files = {
        "policy.safetensors": "`policy.safetensors` holds its arrays for other libraries.",
        "replay.gif": "\n\n![The policy playing](replay.gif)",
    }
    shown = "".join(f" {text}" for name, text in files.items() if (directory / name).is_file())
    source = f"{HUB}{repository}" if repository else "path/of/this/folder"
    return _CARD.format(
        header=_header(policy, returns), title=f"{task.preset.algorithm} on {task.env}", files=shown, source=source,
        algorithm=task.preset.algorithm, result=_result(returns), settings=json.dumps(task.to_json(), indent=1),
    )  # fmt: skip


def push(directory: str | os.PathLike[str], repository: str) -> str:
    """Upload a folder to a repository of the Hub, which is created if it does not exist.

    Args:
      directory: from `folder`.
      repository: "user/name"; the token is the one that `huggingface-cli login` saved, or HF_TOKEN.

    Returns:
      The address of the commit.

    Raises:
      ModuleNotFoundError: huggingface_hub is not installed; the message says how to install it.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ModuleNotFoundError(f"pushing to the Hub needs huggingface_hub: {install_hint('hub')}")
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repository, exist_ok=True)
    return str(api.upload_folder(repo_id=repository, folder_path=str(directory)))


def _header(policy: Policy, returns: np.ndarray) -> str:
    """YAML as the Hub reads it. JSON is YAML, so values that may hold anything are written as JSON."""
    task = policy.task
    lines: list[tuple[str, Any]] = [
        ("library_name", "purerl"),
        ("tags", ["reinforcement-learning", "deep-reinforcement-learning", "jax", task.preset.algorithm, task.env]),
    ]
    if returns.size:
        metric = {
            "type": "mean_reward",
            "name": "mean_reward",
            "value": f"{returns.mean():.2f} +/- {returns.std():.2f}",
        }
        result = {
            "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
            "dataset": {"name": task.env, "type": task.env},
            "metrics": [metric],
        }
        lines.append(("model-index", [{"name": task.preset.algorithm, "results": [result]}]))
    return "\n".join(f"{name}: {json.dumps(value)}" for name, value in lines)


def _result(returns: np.ndarray) -> str:
    if not returns.size:
        return "It has not been evaluated."
    mean = format_number(float(returns.mean()))
    if returns.size == 1:
        return f"Return of one greedy episode: **{mean}**."
    low, high = (format_number(float(end)) for end in bootstrap_interval(jax.random.key(0), returns))
    return (
        f"Mean return of {returns.size} greedy episodes: **{mean}**; their interquartile mean has a 95% bootstrap "
        f"interval of {low} to {high}."
    )

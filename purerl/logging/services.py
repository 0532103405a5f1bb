"""Writers for programs that draw curves: TensorBoard, Weights & Biases, MLflow, and a table in the terminal.

All of them show metrics under the names of `tensorboard_name`, and the settings of the run.
"""

from __future__ import annotations

import importlib.util
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from purerl.logging.writer import Row, Writer, tensorboard_name
from purerl.runtime import install_hint

Config: TypeAlias = Mapping[str, Any]
"""Settings of a run by name: numbers, strings, or mappings of such."""
_STEPS = tensorboard_name("num_steps")
_SERVICES = {"tensorboard": ("tensorboardX", "TensorBoard events"), "wandb": ("wandb", "Weights & Biases"),
             "mlflow": ("mlflow", "MLflow")}  # fmt: skip


def tensorboard_writer(
    directory: str | os.PathLike[str], *, resume_at: int | None = None, config: Config | None = None
) -> Writer:
    """TensorBoard event files, under the names that Stable-Baselines3 uses (see `tensorboard_name`).

    Args:
      directory: of the event files; TensorBoard shows it as one run.
      resume_at: hide what an interrupted run wrote after this step. None starts a new event file and hides nothing.
      config: settings of the run, shown as text.

    Raises:
      ModuleNotFoundError: tensorboardX is not installed; the message says how to install it.
    """
    check_installed("tensorboard")
    from tensorboardX import SummaryWriter

    purge = {} if resume_at is None else {"purge_step": resume_at + 1}
    summary = SummaryWriter(str(directory), **purge)
    if config and resume_at is None:
        table = "\n".join(f"| {name} | {value} |" for name, value in _flat(config).items())
        summary.add_text("config", f"| setting | value |\n|---|---|\n{table}")

    def write(step: int, metrics: Row) -> None:
        for name, value in _shown(metrics).items():
            summary.add_scalar(name, value, int(step))
        summary.flush()

    return Writer(write, summary.close)


def wandb_writer(
    directory: str | os.PathLike[str],
    *,
    project: str = "purerl",
    name: str | None = None,
    group: str | None = None,
    config: Config | None = None,
    resume: bool = False,
) -> Writer:
    """A run of Weights & Biases; offline if there is no API key (`wandb sync` uploads it later) or WANDB_MODE says so.

    Args:
      directory: that keeps the local files, in `wandb/`, and the run's id.
      project, name, group: where W&B shows it; `group` joins the seeds of one run. WANDB_PROJECT wins over `project`.
      config: settings of the run.
      resume: continue the run that wrote to this directory. W&B keeps the first value that it got for a step.

    Raises:
      ModuleNotFoundError: wandb is not installed; the message says how to install it.
    """
    check_installed("wandb")
    import wandb

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    remembered = directory / "wandb_id"
    known = remembered.read_text().strip() if resume and remembered.is_file() else None
    mode: Any = os.environ.get("WANDB_MODE") or (None if wandb.api.api_key else "offline")
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", project), name=name, group=group, dir=str(directory), mode=mode,
        config=dict(config or {}), id=known, resume="allow" if known else None, reinit="create_new",
        settings=wandb.Settings(silent=True, console="off"),
    )  # fmt: skip
    remembered.write_text(run.id)

    def write(step: int, metrics: Row) -> None:
        run.log(_shown(metrics), step=int(step))

    return Writer(write, lambda: run.finish())


def mlflow_writer(
    directory: str | os.PathLike[str],
    *,
    experiment: str = "purerl",
    name: str | None = None,
    config: Config | None = None,
    resume: bool = False,
) -> Writer:
    """A run of MLflow, on the server of MLFLOW_TRACKING_URI or in `directory`/mlruns.

    Args:
      directory: that keeps the run's id, and the files if there is no server.
      experiment, name: where MLflow shows it.
      config: settings of the run, logged as parameters.
      resume: continue the run that wrote to this directory; a step that is logged again gets another point.

    Raises:
      ModuleNotFoundError: mlflow is not installed; the message says how to install it.
    """
    check_installed("mlflow")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # files are in maintenance mode, and need no database
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or (directory / "mlruns").resolve().as_uri())
    remembered = directory / "mlflow_id"
    if resume and remembered.is_file():
        run_id = remembered.read_text().strip()
        client.update_run(run_id, "RUNNING")
    else:
        known = client.get_experiment_by_name(experiment)
        experiment_id = known.experiment_id if known else client.create_experiment(experiment)
        run_id = client.create_run(experiment_id, run_name=name).info.run_id
        client.log_batch(run_id, params=[Param(key, str(value)[:500]) for key, value in _flat(config or {}).items()])
        remembered.write_text(run_id)

    def write(step: int, metrics: Row) -> None:
        now = int(1000 * time.time())
        client.log_batch(run_id, [Metric(key, value, now, int(step)) for key, value in _shown(metrics).items()])

    return Writer(write, lambda: client.set_terminated(run_id))


def terminal_writer(write: Callable[[str], Any] = print) -> Writer:
    """A table for each row, as Stable-Baselines3 prints it with `verbose=1`.

    Args:
      write: prints a text.

    Examples:
      >>> terminal_writer().write(128, {"episode_return": 21.5, "steps_per_second": 4000.0})
      -----------------------------
      | rollout/                  |
      |    ep_rew_mean     | 21.5 |
      | time/                     |
      |    fps             | 4000 |
      |    total_timesteps | 128  |
      -----------------------------
    """

    def table(step: int, metrics: Row) -> None:
        shown = {name: f"{value:.4g}" for name, value in _shown(metrics).items()}
        named = sorted((shown | {_STEPS: str(step)}).items())
        rows = [(*name.rpartition("/")[::2], text) for name, text in named]  # group, name, value
        left, right = max(len(name) for _, name, _ in rows) + 3, max(len(text) for _, _, text in rows)
        lines, before = [], ""
        for group, name, text in rows:
            if group and group != before:
                lines.append(f"| {group + '/':<{left + right + 3}} |")
            lines.append(f"| {'   ' * bool(group) + name:<{left}} | {text:<{right}} |")
            before = group
        rule = "-" * len(lines[-1])
        write("\n".join([rule, *lines, rule]))

    return Writer(table, lambda: None)


def check_installed(service: str) -> None:
    """Check that the writer of a service, "tensorboard", "wandb" or "mlflow", can be used.

    Raises:
      ModuleNotFoundError: its package is not installed; the message says how to install it.
    """
    package, title = _SERVICES[service]
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"{title} needs {package}: {install_hint(service)}")


def _shown(metrics: Row) -> dict[str, float]:
    """The numbers among the metrics that are not NaN, under the names that services show."""
    numbers = {
        name: float(value) for name, value in metrics.items() if value is not None and not isinstance(value, str)
    }
    return {tensorboard_name(name): value for name, value in numbers.items() if not math.isnan(value)}


def _flat(config: Config, root: str = "") -> dict[str, Any]:
    """Nested settings under names with dots.

    Examples:
      >>> _flat({"env": "CartPole-v1", "hparams": {"discount": 0.99}})
      {'env': 'CartPole-v1', 'hparams.discount': 0.99}
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= _flat(value, f"{root}{name}.") if isinstance(value, Mapping) else {f"{root}{name}": value}
    return found

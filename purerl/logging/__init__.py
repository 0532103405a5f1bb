"""Writers of metrics: pairs of plain functions that a host loop calls between the chunks of a compiled run.

    writer = logging.tee(logging.csv_writer("runs/a/metrics.csv"), logging.wandb_writer("runs/a", project="mine"))
    writer.write(step, {"episode_return": 195.0, "loss/value": 0.3})
    writer.close()

Metrics carry this package's names (`episode_return`, `episode_length`, `num_episodes`, `loss/...`, `env/...`);
`tensorboard_name` maps them to those that users of Stable-Baselines3 know.
"""

from purerl.logging.files import csv_writer, jsonl_writer
from purerl.logging.services import (
    check_installed,
    mlflow_writer,
    tensorboard_writer,
    terminal_writer,
    wandb_writer,
)
from purerl.logging.writer import Row, Writer, tee, tensorboard_name

__all__ = [
    "Row", "Writer", "check_installed", "csv_writer", "jsonl_writer", "mlflow_writer", "tee", "tensorboard_name",
    "tensorboard_writer", "terminal_writer", "wandb_writer",
]  # fmt: skip

"""What is learned, and where and how: all that describes a fine-tuning run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from purerl.lm import lora
from purerl.lm.rows import Kind
from purerl.lm.training import LossOf
from purerl.rlhf.supervised import LearnerHparams


class Task(NamedTuple):
    """What is learned.

    Attributes:
      kind: of rows.
      loss_of: the loss of a network.
      hparams: that it reads.
      reference: whether it reads log-probabilities of the model as it was.
      value_head: whether the model gets a head of values, as reward models do.
    """

    kind: Kind
    loss_of: LossOf
    hparams: LearnerHparams
    reference: bool = False
    value_head: bool = False


class Settings(NamedTuple):
    """Where and how. Names are those of the command line, where each is explained."""

    data: str
    output: Path
    model: str
    dtype: str = "float32"
    remat: bool = False
    logits_chunk: int = 128
    template: str = "auto"
    lora_rank: int = 0
    lora_alpha: float | None = None
    lora_targets: str = lora.TARGETS
    eval_data: str | None = None
    eval_share: float = 0.1
    max_length: int = 512
    max_prompt_length: int = 256
    batch_size: int = 32
    micro_batch_size: int = 8
    learning_rate: float = 1e-4
    num_epochs: float = 1.0
    num_updates: int | None = None
    warmup_updates: int = 0
    schedule: str = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0
    eval_every: int = 50
    checkpoint_seconds: float = 300.0
    keep: int = 2
    save_dtype: str = "float32"
    fsdp: int = 1
    tp: int = 1

    @property
    def training(self) -> Path:
        """Directory of everything but the model."""
        return self.output / "training"

    @property
    def scale(self) -> float:
        """LoRA's alpha / rank."""
        alpha = 2.0 * self.lora_rank if self.lora_alpha is None else self.lora_alpha
        return alpha / max(self.lora_rank, 1)

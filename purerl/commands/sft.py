"""`purerl sft`: fine-tune a language model on completions."""

from __future__ import annotations

from purerl.commands import finetuning
from purerl.commands.options.sft import Options
from purerl.lm.settings import Task
from purerl.rlhf.supervised import LearnerHparams, sft_loss


def run(options: Options) -> None:
    """Train, and save the model."""
    settings = finetuning.settings_of(options, learning_rate=1e-4)
    finetuning.run("sft", options, Task("completions", sft_loss, LearnerHparams()), settings)

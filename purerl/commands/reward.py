"""`purerl reward`: fit a reward model to preferences."""

from __future__ import annotations

import functools

from purerl.commands import finetuning
from purerl.commands.options.reward import Options
from purerl.lm.settings import Task
from purerl.rlhf.reward_models import reward_loss
from purerl.rlhf.supervised import LearnerHparams


def run(options: Options) -> None:
    """Train, and save the model."""
    settings = finetuning.settings_of(options, learning_rate=1e-5)
    loss_of = functools.partial(reward_loss, loss=options.loss, centering=options.centering)
    finetuning.run("reward", options, Task("rankings", loss_of, LearnerHparams(), value_head=True), settings)

"""Settings of a fine-tuning run that are out of range, which are refused before a file is read."""

from pathlib import Path

import pytest

from purerl.lm import finetuning
from purerl.lm.settings import Settings, Task
from purerl.rlhf.supervised import LearnerHparams, sft_loss

SETTINGS = Settings("nowhere.jsonl", Path("nowhere"), "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a positive integer, got 0"),
        ({"micro_batch_size": 0}, "micro_batch_size must be a positive integer, got 0"),
        ({"num_updates": 0}, "num_updates must be a positive integer, got 0"),
        ({"eval_share": -0.1}, r"eval_share = -0\.1 is outside \[0, 0\.9\]"),
        ({"eval_share": 2.0}, r"eval_share = 2\.0 is outside \[0, 0\.9\]"),
        ({"num_epochs": float("nan")}, r"num_epochs = nan is outside \[0, inf\]"),
        ({"warmup_updates": -1}, r"warmup_updates = -1 is outside \[0, inf\]"),
        ({"learning_rate": -1.0}, r"learning_rate = -1\.0 is outside \[0, inf\]"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        finetuning.prepare(Task("completions", sft_loss, LearnerHparams()), SETTINGS._replace(**changes))


def test_hyperparameters_of_the_loss_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"LearnerHparams\.label_smoothing = 0\.7 is outside"):
        finetuning.prepare(Task("pairs", sft_loss, LearnerHparams(label_smoothing=0.7)), SETTINGS)

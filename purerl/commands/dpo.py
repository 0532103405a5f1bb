"""`purerl dpo`: align a language model with preferences, by any direct loss."""

from __future__ import annotations

import functools

from purerl.commands import finetuning
from purerl.commands.options import UsageError, nearest
from purerl.commands.options.dpo import Options
from purerl.lm.rows import Kind
from purerl.lm.settings import Task
from purerl.rlhf.direct import DIRECT_LOSSES, direct_loss, kto_loss
from purerl.rlhf.supervised import LearnerHparams


def run(options: Options) -> None:
    """Train, and save the model.

    Raises:
      UsageError: an unknown loss, or settings that it cannot use; and as `finetuning.run`.
    """
    settings = finetuning.settings_of(options, learning_rate=1e-5)
    finetuning.run("dpo", options, _task(options), settings)


def _task(options: Options) -> Task:
    hparams = LearnerHparams(beta=options.beta, label_smoothing=options.label_smoothing, gamma=options.gamma)
    if options.loss == "kto":
        return Task("labelled", kto_loss, hparams, reference=True)
    if options.loss not in DIRECT_LOSSES:
        known = [*DIRECT_LOSSES, "kto"]
        hint = nearest(options.loss, known) or f"; known are {', '.join(known)}"
        raise UsageError(f"--loss: unknown loss {options.loss!r}{hint}")
    check = DIRECT_LOSSES[options.loss].check
    if check is not None:
        try:
            check(hparams)
        except ValueError as error:
            raise UsageError(f"--loss {options.loss}: {error}") from None
    kind: Kind = "rankings" if options.loss == "plackett_luce" else "pairs"
    loss_of = functools.partial(direct_loss, loss=options.loss)
    return Task(kind, loss_of, hparams, reference=DIRECT_LOSSES[options.loss].reference)

"""Programs traced on a CPU as they are for an accelerator."""

import jax

from purerl import branches


def on_accelerator(monkeypatch):
    """From now on every choice by platform is the branch for accelerators."""

    def default_branch(*args, cpu, default):
        return default(*args)

    monkeypatch.setattr(branches, "only_cpu", lambda: False)
    monkeypatch.setattr(branches, "dependent", default_branch)
    monkeypatch.setattr(jax.lax, "platform_dependent", default_branch)

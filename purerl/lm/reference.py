"""Log-probabilities of the reference policy, computed once, in parts, and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from purerl.lm.batching import Part
from purerl.rlhf.columns import Columns, log_probs
from purerl.types import Network, Params


def reference_log_probs(
    network: Network,
    params: Params,
    parts: list[Part],
    batch: Callable[[Part], Columns],
    shape: tuple[int, int],
    file: Path | None = None,
    fingerprint: str = "",
) -> np.ndarray:
    """[R, K] float32, nats: the log-probability of every completion.

    Args:
      network, params: the reference policy.
      parts: all rows once.
      batch: a part's columns, [B, K, W].
      shape: R and K.
      file: where the result is kept; it is read again if it was made from the same fingerprint.
      fingerprint: of everything that the result depends on, see `digest`.
    """
    if file is not None and file.is_file() and _fingerprint_of(file) == fingerprint:
        return np.load(file, allow_pickle=False)
    compute = jax.jit(lambda params, columns: log_probs(network, params, columns))
    out = np.zeros(shape, np.float32)
    for part in parts:
        out[part.rows] = np.asarray(compute(params, batch(part)))[: len(part.rows)]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, out)
        file.with_suffix(".json").write_text(json.dumps({"fingerprint": fingerprint}), encoding="utf-8")
    return out


def _fingerprint_of(file: Path) -> str:
    try:
        return json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError):
        return ""


def digest(*files: Path) -> str:
    """SHA-256 of the contents of files, for fingerprints."""
    total = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()

"""Worker of rlax's side: it works on one column, so it is vmapped over the second axis."""

from __future__ import annotations

import functools
from typing import Any

import jax
import pieces
import rlax
from compiling import compiled
from serving import Built, serve


def estimates(workload: dict[str, Any]) -> Built:
    """Advantages or λ-returns of [128, 4096] steps."""
    reward, discount, row, decay = pieces.trajectory()
    columns = functools.partial(jax.vmap, in_axes=1, out_axes=1)
    if workload["name"] == "gae":
        function = columns(rlax.truncated_generalized_advantage_estimation)
        run, facts = compiled(function, lambda seed: (reward, discount, decay, row))
    else:
        run, facts = compiled(columns(rlax.lambda_returns), lambda seed: (reward, discount, row[1:], decay))
    return Built(run, reward.size, None, facts)


if __name__ == "__main__":
    serve({"returns": estimates})

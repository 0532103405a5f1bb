"""The precision of an agent's matrix products."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from purerl.combinators import _inner
from purerl.once import build_once
from purerl.types import Agent

PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
Function = TypeVar("Function", bound=Callable[..., Any])


@build_once
def with_precision(agent: Agent, precision: str = "tensorfloat32") -> Agent:
    """An agent whose products of float32 matrices, forward and backward, may be computed in a lower precision.

    It reaches every network of the agent, also your own, and nothing else: arrays stay float32, and so do sums. What a
    device makes of it:

        |               | CPU     | GPU, from Ampere on | TPU                        |
        | float32       | float32 | float32             | six products of bfloat16   |
        | tensorfloat32 | float32 | TF32                | three products of bfloat16 |
        | bfloat16      | float32 | TF32                | one product of bfloat16    |

    For layers that compute in bfloat16 on a GPU too, give the network `dtype="bfloat16"`.

    Args:
      agent: any agent; its state stays as it is.
      precision: "float32", "tensorfloat32" or "bfloat16".

    Raises:
      TypeError: `agent` is not a `purerl.Agent`.
      ValueError: another precision.

    Examples:
      >>> import purerl
      >>> network = purerl.networks.actor_critic(purerl.envs.probe(), hidden=(4,))
      >>> agent = with_precision(purerl.ppo(network), "bfloat16")
    """
    _inner.check_agent(agent, "with_precision")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")

    def under(function: Function) -> Function:
        @functools.wraps(function)
        def run(*args: Any, **keywords: Any) -> Any:
            with jax.default_matmul_precision(precision):
                return function(*args, **keywords)

        return run  # type: ignore[return-value]

    return agent._replace(
        init=under(agent.init),
        act=under(agent.act),
        update=under(agent.update),
        memory=under(agent.memory) if agent.memory else None,
    )

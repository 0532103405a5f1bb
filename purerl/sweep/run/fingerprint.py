"""Fingerprint what is trained, so that a run is never resumed as if it were another one.

The arguments of a search are recorded by value, except the agent, the environment and the rollout, which are functions.
Their fingerprint is made of the environment's spaces, the paths and types of a member's whole state, and a hash of the
traced program of a member: everything that the functions compute, constants such as the environment's own defaults
included.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.extend
import numpy as np

from purerl import loops
from purerl.checkpoint.arrays import describe
from purerl.prng import is_key
from purerl.sweep.run.journal import Journal
from purerl.sweep.run.programs import MemberData, Program
from purerl.types import Hparams, PyTree

_ADVICE = "resume with the same agent, environment and rollout, or begin in another directory"


def check(log: Journal, program: Program, data: MemberData, group: int = 0, label: str = "") -> None:
    """Record the fingerprint of a program in a new journal, or compare it with the one recorded.

    Without a directory nothing can be resumed, and nothing is traced.

    Args:
      log: the journal.
      program: the agent, the environment, the rollout and their sizes.
      data: leaves [W, ...] of some of its members; only shapes and dtypes matter.
      group: number of the group of static choices.
      label: these choices, for the message.

    Raises:
      ValueError: the run was begun with something else; names the first difference.
    """
    if log.directory is None:
        return
    now, name = fingerprint(program, data), f"group{group}"
    before = log.find("fingerprint", name)
    if before is None:
        log.add("fingerprint", name, **now)
        return
    begun = f"{log.directory} was begun with another"
    of = f" ({label})" if label else ""
    for part in ("observation_space", "action_space"):
        if before[part] != now[part]:
            raise ValueError(f"{begun} {part.replace('_', ' ')}{of}: {before[part]}, not {now[part]}; {_ADVICE}")
    if before["state"] != now["state"]:
        old, new = _first_difference(before["state"], now["state"])
        raise ValueError(f"{begun} agent or environment{of}: their state had {old} instead of {new}; {_ADVICE}")
    if before["program"] != now["program"] and before["traced_by"] == now["traced_by"]:
        raise ValueError(
            f"{begun} program{of}: spaces and state are the same, but the agent, the environment, its default "
            f"parameters or the rollout compute something else, or the package has changed; {_ADVICE}"
        )


def fingerprint(program: Program, data: MemberData) -> dict[str, Any]:
    """The fingerprint of a program as JSON data; arguments as in `check`.

    Returns:
      `observation_space`, `action_space` and `state` in words; `program`, the SHA-256 of the traced program; and
      `traced_by`, the JAX version and platform that it depends on: programs are compared only if these agree.
    """
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tuple(data))
    like, digest = _trace(program, jax.tree.structure(one), tuple(jax.tree.leaves(one)))
    return {
        "observation_space": repr(program.env.observation_space),
        "action_space": repr(program.env.action_space),
        "state": [" ".join(leaf) for leaf in describe(like)],
        "program": digest,
        "traced_by": f"jax {jax.__version__} on {jax.default_backend()}",
    }


def digest_of(*trees: PyTree) -> str:
    """SHA-256 of the structure and the leaves of trees, which are numbers, arrays and typed keys.

    Examples:
      >>> digest_of({"a": 1.0}) == digest_of({"a": 1.0}), digest_of({"a": 1.0}) == digest_of({"b": 1.0})
      (True, False)
    """
    leaves, structure = jax.tree.flatten(trees)
    made = hashlib.sha256(repr(structure).encode())
    for leaf in leaves:
        array = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        made.update(array.dtype.str.encode() + np.ascontiguousarray(array).tobytes())
    return made.hexdigest()


@functools.lru_cache(maxsize=64)
def _trace(
    program: Program, structure: jax.tree_util.PyTreeDef, leaves: tuple[jax.ShapeDtypeStruct, ...]
) -> tuple[PyTree, str]:
    """The shapes of a member's state, and the hash of its program: start, one update, and an evaluation."""
    data = jax.tree.unflatten(structure, leaves)

    def run(keys: jax.Array, hparams: Hparams, env_params: PyTree) -> tuple[loops.LoopState, PyTree]:
        key = jax.random.wrap_key_data(keys, impl=program.key_impl)
        agent, env = program.agent, program.env
        state = loops.start(key, agent, env, hparams, num_envs=program.num_envs, env_params=env_params)
        sizes: dict[str, Any] = {"num_updates": 1, "rollout_length": program.rollout_length}
        state, metrics = loops.advance(state, agent, env, rollout=program.rollout, **sizes)
        episodes: dict[str, Any] = {"num_episodes": program.eval_episodes, "max_steps": program.eval_max_steps}
        played = loops.evaluate(key, agent, env, state.agent_state, env_params=state.env_params, **episodes)
        return state, (metrics, played)

    traced, (like, _) = jax.make_jaxpr(run, return_shape=True)(*data)
    # Text of the program without the addresses of functions, which differ from process to process.
    digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "0x", str(traced)).encode())
    for constant in _constants(traced):
        digest.update(digest_of(constant).encode())
    return like, digest.hexdigest()


def _constants(traced: jax.extend.core.ClosedJaxpr | jax.extend.core.Jaxpr) -> Iterator[PyTree]:
    """The arrays that a traced program holds, which its text abbreviates or leaves out, in order of their use."""
    yield from getattr(traced, "consts", ())
    for equation in getattr(traced, "jaxpr", traced).eqns:
        values = [getattr(operand, "val", None) for operand in equation.invars]
        yield from (value for value in values if value is not None and np.ndim(value))
        for inner in jax.tree.leaves(tuple(equation.params.values()), is_leaf=_is_program):
            if _is_program(inner):
                yield from _constants(inner)


def _is_program(x: object) -> bool:
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")


def _first_difference(before: list[str], now: list[str]) -> tuple[str, str]:
    for old, new in zip(before, now):
        if old != new:
            return old, new
    count = min(len(before), len(now))
    return (before[count], "nothing") if len(before) > count else ("nothing", now[count])

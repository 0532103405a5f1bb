"""Passes over a batch in shuffled minibatches, with one gather per pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax

from purerl import prng
from purerl.distributed import mesh, platform
from purerl.packing import Unpack, pack
from purerl.types import Key, PyTree

Carry = TypeVar("Carry")


def epochs(
    key: Key,
    step: Callable[[Carry, Any, Any], tuple[Carry, PyTree]],
    carry: Carry,
    batch: PyTree,
    *,
    num_epochs: int,
    num_minibatches: int,
    prepare: Callable[[Any], PyTree] = lambda part: (),
) -> tuple[Carry, PyTree]:
    """Scan `step` over `num_epochs` times `num_minibatches` shuffled parts of a batch.

    Each pass is a new permutation; each row is in exactly one minibatch of a pass. All leaves of four bytes per element
    are packed side by side, so that a pass gathers once and not once per leaf. Under `distributed.data_parallel` every
    device has the whole batch and takes its share of the rows of each part.

    Args:
      key: typed key.
      step: `(carry, part, prepared) -> (carry, out)` as for `lax.scan`; `part` leads with [B / num_minibatches].
      carry: the first carry.
      batch: leaves lead with [B].
      num_epochs: passes.
      num_minibatches: parts of a pass.
      prepare: `part -> prepared`, what can be computed of a part before the steps of its pass, for all parts at once.

    Returns:
      The last carry, and `out` stacked to [num_epochs, num_minibatches, ...].

    Raises:
      ValueError: B does not divide into `num_minibatches`.
    """
    size = jax.tree.leaves(batch)[0].shape[0]
    if size % num_minibatches:
        raise ValueError(
            f"num_minibatches = {num_minibatches} does not divide the batch of {size} steps (rollout_length x num_envs)"
        )
    packed, unpack = pack(batch)
    carry, packed = mesh.whole((carry, packed))
    unpack_out: Unpack | None = None

    @jax.jit  # so that it is traced once for all platforms
    def one(carry: Carry, xs: tuple[list[jax.Array], PyTree]) -> tuple[Carry, list[jax.Array]]:
        nonlocal unpack_out
        carry, out = step(carry, unpack(xs[0]), xs[1])
        rows, unpack_out = pack(jax.tree.map(lambda x: x[None], out))  # on a GPU each array that is written is a kernel
        return carry, rows

    def prepared(order: jax.Array, parts: list[jax.Array]) -> PyTree:
        """The results of `prepare` for all parts; several devices each compute all of them, so that none is reduced."""
        if not mesh.num_devices():
            return jax.vmap(lambda part: prepare(unpack(part)))(parts)
        rows = jax.tree.map(lambda x: x[order].reshape(num_minibatches, -1, *x.shape[1:]), unpack(packed))
        return mesh.split(mesh.whole(jax.vmap(prepare)(mesh.whole(rows))), axis=1)

    def epoch(carry: Carry, order: jax.Array) -> tuple[Carry, list[jax.Array]]:
        # each [B, D] -> [num_minibatches, B / num_minibatches, D]
        parts = mesh.split([x[order].reshape(num_minibatches, -1, x.shape[1]) for x in packed], axis=1)
        return platform.scan(one, carry, (parts, prepared(order, parts)), in_place=True)

    orders = jax.vmap(lambda key: prng.permutation(key, size))(prng.split(key, num_epochs))
    carry, rows = jax.lax.scan(epoch, carry, orders)
    assert unpack_out is not None
    return carry, jax.tree.map(lambda x: x[:, :, 0], unpack_out(rows))

"""Population-based training on disk: its standing, written as rounds end.

    directory/journal        the settings, and whether it has ended; for one process at a time, see `journal`
    directory/population/    checkpoints after the last two chunks of rounds: members, elites, and the lineage so far

A checkpoint appears whole or not at all, and the one before it stays until then: whenever the process dies, one exists,
and a run resumed from it is the same run, bit for bit.
"""

from __future__ import annotations

import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from purerl import checkpoint
from purerl.distributed import is_main, population_sharding
from purerl.hparams import get_hparams
from purerl.pbt.rounds import Lineage, Population, Rounds, first_policy, padded_size
from purerl.sweep.run import packing
from purerl.sweep.run.journal import Journal
from purerl.types import PyTree

_FOLDER = "population"


class Standing(NamedTuple):
    """The state of an unfinished run.

    Attributes:
      population: after the last round.
      lineage: of all rounds so far, [r, P], on the host.
      seconds: time that they took, in all processes.
    """

    population: Population
    lineage: Lineage
    seconds: float


def record(log: Journal, standing: Standing) -> None:
    """Write a checkpoint and wait until it is on the disk; with several processes all must call it."""
    if log.directory is None:
        return
    packed = packing.pack(_stored(standing.population))
    if is_main():
        tree = packed | {"lineage": standing.lineage}
        about = {"seconds": standing.seconds}
        checkpoint.save_step(log.directory / _FOLDER, len(standing.lineage.parents), tree, about, keep=2)


def recall(log: Journal, begun: Population, program: Rounds) -> Standing:
    """The standing of the run in the journal's directory; its beginning if there is no checkpoint.

    Args:
      log: of the run.
      begun: the population before the first round, whose structure, types and placement the checkpoint must have.
      program: the definition of a round.

    Raises:
      CheckpointError: the checkpoints are damaged, or hold another population.
    """
    found = None if log.directory is None else checkpoint.find(log.directory / _FOLDER)
    if found is None:
        none: Any = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), _lineage_like(begun, program, 0))
        return Standing(begun, none, 0.0)
    num_rounds = int(found.path.name)
    like = packing.packed_like(_stored(begun)) | {"lineage": _lineage_like(begun, program, num_rounds)}
    stored = found.restore(like)
    sharding = _sharding(begun.scores.size)
    lineage = jax.tree.map(np.asarray, stored["lineage"])
    members = packing.unpack(jax.tree.map(np.asarray, stored["members"]), begun.members, sharding)
    scores = packing.unpack(lineage.scores[-1], begun.scores, sharding)
    elites = stored.get("elites") and packing.unpack(jax.tree.map(np.asarray, stored["elites"]), begun.elites)
    state = begun._replace(members=members, scores=scores, num_rounds=jnp.int32(num_rounds), elites=elites)
    return Standing(state, lineage, float(found.metadata["seconds"]))


def forget(log: Journal) -> None:
    """Delete the checkpoints once the result is on disk."""
    if log.directory is not None:
        shutil.rmtree(log.directory / _FOLDER, ignore_errors=True)


def _stored(population: Population) -> dict[str, PyTree]:
    """The arrays in a checkpoint of a population; the lineage is beside them."""
    found: dict[str, PyTree] = {"members": population.members}
    return found if population.elites is None else found | {"elites": population.elites}


def _sharding(population_size: int) -> Sharding | None:
    """The members spread over the devices; whole on each if their number is not a multiple of that of the devices."""
    sharding = population_sharding(padded_size(population_size))
    if sharding is None or padded_size(population_size) == population_size:
        return sharding
    return NamedSharding(sharding.mesh, PartitionSpec())


def _lineage_like(begun: Population, program: Rounds, num_rounds: int) -> Lineage:
    """Shapes and dtypes of the lineage of a number of rounds."""
    numbers = jnp.arange(begun.scores.size)
    hparams = first_policy(get_hparams(begun.members.agent_state), program)
    one = Lineage(numbers, hparams, begun.scores, numbers, numbers)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((num_rounds, *leaf.shape), leaf.dtype), one)

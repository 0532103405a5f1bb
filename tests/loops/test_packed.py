"""The loop over updates that an accelerator runs, with few arrays, has the values of the one that a CPU runs."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import pytest
from accelerated import on_accelerator

from purerl import loops
from purerl.loops import packed
from purerl.loops.actors import Finished
from purerl.types import TrainState

N = 3


def _state(agent_state) -> loops.LoopState:
    counts, info = jnp.zeros(N, jnp.int32), {"info": jnp.float32(0)}
    actors = loops.Actors(
        {"key": jax.random.split(jax.random.key(1), N), "speed": jnp.ones((N, 2))}, jnp.arange(N), (),
        jnp.zeros(N), counts, Finished(jnp.zeros(N), counts, counts), dict(info), dict(info),
    )  # fmt: skip
    return loops.LoopState(jax.random.key(0), agent_state, actors, {"gravity": 9.81}, jnp.int32(0))


def _train_state() -> TrainState:
    params = {"wide": jnp.ones((64, 64)), "thin": jnp.ones(3), "half": jnp.ones(2, jnp.bfloat16)}
    return TrainState(params, {"count": jnp.int32(0), "stopped": jnp.bool_(False)}, {"discount": 0.9}, jnp.int32(0))


class Table(NamedTuple):
    """A state that does not say where its hyperparameters are."""

    counts: jax.Array


def _update(state: loops.LoopState) -> tuple[loops.LoopState, dict[str, jax.Array]]:
    """Change every leaf that changes in training, most of them by a number drawn from the key."""
    noise = jax.random.normal(jax.random.fold_in(state.key, state.num_updates))

    def move(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.vmap(lambda key: jax.random.fold_in(key, 1))(x)
        if x.dtype == bool:
            return ~x
        return x + (noise.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else 1)

    moved = jax.tree.map(move, state._replace(key=(), env_params=(), agent_state=state.agent_state))
    if isinstance(state.agent_state, TrainState):
        moved = moved._replace(agent_state=moved.agent_state._replace(hparams=state.agent_state.hparams))
    metrics = {"noise": noise, "num_episodes": moved.num_updates, "each": jnp.stack([noise, 2 * noise])}
    return moved._replace(key=state.key, env_params=state.env_params), metrics


@pytest.fixture(params=[_train_state, lambda: Table(jnp.zeros(4))], ids=["hyperparameters", "without"])
def state(request):
    return jax.tree.map(jnp.asarray, _state(request.param()))


def _both(monkeypatch, run):
    usual = run()
    with monkeypatch.context() as patch:
        on_accelerator(patch)
        return usual, run()


def test_scans_agree_bit_for_bit(monkeypatch, state):
    usual, rows = _both(monkeypatch, lambda: packed.scan(_update, state, 5))
    assert usual[1]["each"].shape == (5, 2)
    chex.assert_trees_all_equal(usual, rows)


def test_loops_of_any_length_agree_bit_for_bit(monkeypatch, state):
    usual, rows = _both(monkeypatch, lambda: packed.up_to(_update, state, jnp.int32(3), 5))
    assert usual[0].num_updates == 3
    assert not usual[1]["noise"][3:].any()
    chex.assert_trees_all_equal(usual, rows)


def test_few_arrays_are_carried():
    state = _state(_train_state())
    rows = packed._pack(state)[0]
    # per environment words and keys; of the rest words, bfloat16 and the wide kernel; discount, key and gravity
    assert len(jax.tree.leaves(rows)) == 2 + 3 + 3
    assert len(jax.tree.leaves(state)) > 16

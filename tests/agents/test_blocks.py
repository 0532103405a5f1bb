"""Functions of many rows, in blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.agents.common import blocks
from purerl.types import PyTree


@pytest.mark.parametrize(
    ("size", "count"), [(2048, 1), (4096, 2), (6000, 4), (5625, 3), (5000, 4), (4099, 1), (2 * 4099, 1)]
)
def test_a_mean_over_many_rows_is_that_of_equal_blocks(size: int, count: int) -> None:
    rows = np.random.default_rng(0).normal(size=(size, 3)).astype(np.float32)
    seen = []

    def mean(batch: PyTree) -> PyTree:
        seen.append(batch.shape[0])
        return {"mean": batch.mean(0), "square": jnp.square(batch).mean()}

    found = jax.jit(lambda batch: blocks.mean(mean, batch))(rows)
    assert min(seen) == size // count
    np.testing.assert_allclose(found["mean"], rows.astype(np.float64).mean(0), atol=1e-6)
    np.testing.assert_allclose(found["square"], np.square(rows.astype(np.float64)).mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "width", "count"), [(2048, 600, 1), (2048, 2000, 4), (512, 10**5, 16), (63, 10**5, 1)]
)
def test_blocks_have_fewer_rows_if_these_take_more_memory(size: int, width: int, count: int) -> None:
    seen = []

    def mean(batch: PyTree) -> PyTree:
        seen.append(batch.shape[0])
        return jax.vmap(lambda x: jnp.sin(x * jnp.arange(width)).sum())(batch).mean()

    jax.make_jaxpr(lambda batch: blocks.mean(mean, batch))(jnp.ones(size))
    assert min(seen) == size // count


def test_two_blocks_are_computed_beside_each_other() -> None:
    rows = jnp.ones((8 * 2048, 3))
    program = jax.make_jaxpr(lambda batch: blocks.mean(lambda part: jnp.sin(part).mean(), batch))(rows)
    assert "length=8" in str(program)
    assert "unroll=2" in str(program)


@pytest.mark.parametrize(
    ("size", "row_size", "width", "count"),
    [(64, 160, 100, 1), (64, 160, 2**14, 2), (64, 160, 2**20, 16), (64, 512, 2**20, 64), (63, 160, 2**17, 21)],
)
def test_a_sum_over_many_texts_is_that_of_blocks(size: int, row_size: int, width: int, count: int) -> None:
    seen = []

    def summed(batch: PyTree) -> PyTree:
        seen.append(batch.shape[0])
        return jax.vmap(lambda x: jnp.sin(x * jnp.arange(width)).sum())(batch).sum()

    jax.make_jaxpr(lambda batch: blocks.total(summed, batch, row_size))(jnp.ones(size))
    assert min(seen) == size // count

    rows = np.random.default_rng(0).normal(size=(size, 3)).astype(np.float32)
    found = jax.jit(lambda batch: blocks.total(lambda batch: batch.sum(0) + 0 * summed(batch[:, 0]), batch, row_size))
    if width < 2**20:
        np.testing.assert_allclose(found(rows), rows.astype(np.float64).sum(0), atol=1e-5)


PROBE = purerl.envs.probe()
AGENTS = {
    "ppo": (purerl.ppo, purerl.networks.actor_critic(PROBE, hidden=(4,)), purerl.PPOHparams()),
    "pqn": (purerl.pqn, purerl.networks.q_network(PROBE, hidden=(4,), layer_norm=True), purerl.PQNHparams()),
}


@pytest.mark.parametrize("name", AGENTS)
def test_an_update_on_a_large_minibatch_is_that_of_one_block(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    make, network, hparams = AGENTS[name]
    env, agent = PROBE, make(network, num_epochs=1, num_minibatches=1)
    start = purerl.start(jax.random.key(0), agent, env, hparams, num_envs=64)
    state, actors = start.agent_state, start.actors
    _, batch = purerl.loops.rollout(jax.random.key(1), agent, env, state, actors, length=8)

    def updated(rows: int) -> PyTree:
        monkeypatch.setattr(blocks, "_ROWS", rows)
        return jax.jit(lambda state, batch: agent.update(jax.random.key(2), state, batch))(state, batch)

    (whole, metrics), (parts, of_parts) = updated(512), updated(64)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), whole.params, parts.params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), metrics, of_parts)
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), whole.params, state.params)
    assert max(jax.tree.leaves(moved)) > 1e-4

"""Exact policy evaluation by eliminating states: a linear solve without LAPACK and without subtractions.

I − M, with M a discounted transition matrix, is inverted by censoring one state after the other. The pivot 1 − M[j, j]
is computed as the sum of what leaves j, so nothing is ever subtracted: all entries keep their relative precision in
float32 even where 1 − γ is tiny, which a general solver loses. The algorithm is that of Grassmann, Taksar & Heyman
(1985), Operations Research 33(5), in the in-place Gauss-Jordan form, blocked so that most work is matrix products.
Being matrix products, it can occur many times in one program under `jax.vmap`, which batched LAPACK calls cannot.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

_BLOCK = 32
_FOREVER = 1e30


def solve_chain(transition: jax.Array, leak: jax.Array, reward: jax.Array) -> jax.Array:
    """Solve v = reward + transition v by elimination; differentiable in `transition` and `reward`.

    Args:
      transition: [S, S], discounted probabilities M of continuing from row to column.
      leak: [S], what each row's sum lacks to 1, passed separately so that it is exact: 1 − γ and terminations.
      reward: [S].

    Returns:
      [S]. Where a state can never leave a closed set of states without any leak: 0 if no reward is collected there,
      else infinite with the sign of the reward.
    """
    visits = jax.lax.stop_gradient(fundamental_matrix(transition, leak))

    def product(matrix: jax.Array, vector: jax.Array) -> jax.Array:
        return jnp.matmul(matrix, vector, precision="highest")

    value = jax.lax.custom_linear_solve(
        lambda x: x - product(transition, x),
        reward,
        lambda _, b: product(visits, b),
        lambda _, b: product(visits.T, b),
    )
    return jnp.where(jnp.abs(value) > _FOREVER**0.75, jnp.sign(value) * jnp.inf, value)


def fundamental_matrix(transition: jax.Array, leak: jax.Array) -> jax.Array:
    """N = (I − M)⁻¹ = Σ_t Mᵗ: the discounted number of visits to each state (column) from each state (row).

    Args:
      transition: [S, S], M, entries in [0, 1].
      leak: [S], 1 − Σ_j M[i, j].

    Returns:
      [S, S]. Infinitely many visits count as 1e30.
    """
    num_states = transition.shape[0]
    block = min(_BLOCK, num_states)
    pad = -num_states % block
    table = jnp.pad(transition, ((0, pad), (0, pad)))
    table = jnp.concatenate([table, jnp.pad(leak, (0, pad), constant_values=1.0)[:, None]], axis=1)

    def eliminate_block(i: jax.Array, table: jax.Array) -> jax.Array:
        start = i * block
        into = jax.lax.dynamic_slice_in_dim(table, start, block, axis=1)
        rows = jax.lax.dynamic_slice_in_dim(table, start, block, axis=0)
        rows = jax.lax.fori_loop(0, block, lambda t, rows: _eliminate(rows, t, start + t), rows)
        table = jax.lax.dynamic_update_slice_in_dim(table, jnp.zeros_like(into), start, axis=1)
        table = table + jnp.matmul(into, rows, precision="highest")
        return jax.lax.dynamic_update_slice_in_dim(table, rows, start, axis=0)

    table = jax.lax.fori_loop(0, table.shape[0] // block, eliminate_block, table)
    return table[:num_states, :num_states]


def _eliminate(rows: jax.Array, t: jax.Array, state: jax.Array) -> jax.Array:
    """Censor one state in a block of rows; `t` is its row, `state` its column. The last column is the leak.

    Columns up to `state` have been eliminated and hold visits; those after it, and the leak, hold what is left of M.
    A state that is never left is where what enters it ends: its leak becomes 1, so what leads there is visited once.
    """
    column = jnp.arange(rows.shape[1])
    row = rows[t]
    leaving = jnp.sum(jnp.where(column > state, row, 0))
    scale = jnp.where(leaving > 0, 1 / leaving, _FOREVER)
    row = jnp.where(column == state, 1, row) * scale
    row = row.at[-1].set(jnp.where(leaving > 0, row[-1], 1))
    into = rows[:, state][:, None]
    others = jnp.where(column[None, :] == state, 0, rows) + into * row[None, :]
    return jnp.where(jnp.arange(rows.shape[0])[:, None] == t, row[None, :], others)

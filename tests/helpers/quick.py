"""Compilation that suits tests that learn."""

import jax


def jit_for_long_runs(function):
    """`jax.jit` with a little optimization: it takes twice as long to compile as other tests' programs, and runs at
    several times their speed."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 1})


def seeds_and_mdps(run, num_seeds=30):
    """`run(key, mdp)` over `num_seeds` keys for each of a stack of MDPs: results [M, seeds, ...]."""
    keys = jax.random.split(jax.random.key(0), num_seeds)
    return lambda stack: jit_for_long_runs(jax.vmap(jax.vmap(run, (0, None)), (None, 0)))(keys, stack)

"""Compilation that suits tests: programs that run once, so that most of their time went into optimising them."""

import jax


def jit(function):
    """`jax.jit` with little optimisation: compiles in about half the time."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 1})


def seeds_and_mdps(run, num_seeds=30):
    """`run(key, mdp)` over `num_seeds` keys for each of a stack of MDPs: results [M, seeds, ...]."""
    keys = jax.random.split(jax.random.key(0), num_seeds)
    return lambda stack: jit(jax.vmap(jax.vmap(run, (0, None)), (None, 0)))(keys, stack)

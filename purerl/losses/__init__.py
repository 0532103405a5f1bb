"""Elementwise losses and targets, `[...] -> [...]`; they import nothing but jax, chex and optax."""

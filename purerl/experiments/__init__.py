"""Experiments of the documentation that `purerl rlhf` runs: synthetic language, reward over-optimisation, pendulum."""

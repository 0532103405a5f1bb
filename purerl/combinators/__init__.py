"""Variations of agents as functions `Agent -> Agent`."""

"""Agents with tables or linear features: bandits, TD learning, Monte Carlo, dynamic programming."""

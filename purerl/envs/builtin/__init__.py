"""Environments of this package: probes, bandits, finite MDPs and a crossing with traffic lights."""

"""The error of a checkpoint that cannot be used."""


class CheckpointError(ValueError):
    """A checkpoint is damaged or incomplete, or holds something other than what was asked for."""

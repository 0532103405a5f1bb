"""Environments of other libraries, one file per library."""

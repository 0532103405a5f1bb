"""What to say after an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """How an error about an unknown name ends: with the nearest known ones, whatever their case, or else with all."""
    known = list(known)
    by_lower = {other.lower(): other for other in known}
    near = [by_lower[other] for other in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)]
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; known are {', '.join(known)}"

"""Worker of generation without a cache: every token by a pass over all that precede it."""

from __future__ import annotations

import functools

import checkout  # noqa: F401  isort: skip
import purerl_pieces
from serving import serve

if __name__ == "__main__":
    serve({"generation": functools.partial(purerl_pieces.tokens, cached=False)})

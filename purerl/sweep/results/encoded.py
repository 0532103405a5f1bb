"""Arrays as JSON data, bit for bit."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from purerl.checkpoint import Json


def encode(array: np.ndarray) -> dict[str, Any]:
    """An array as JSON data, bit for bit; `decode` is the inverse.

    Examples:
      >>> decode(encode(np.array([1.5, np.nan]))).tolist()
      [1.5, nan]
    """
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": data}


def decode(data: Mapping[str, Json]) -> np.ndarray:
    """The array that `encode` was given."""
    return np.frombuffer(base64.b64decode(data["data"]), data["dtype"]).reshape(data["shape"])

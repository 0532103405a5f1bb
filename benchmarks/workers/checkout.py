"""Importing this lets a worker find `benchmarks`, and the purerl of the checkout that it measures."""

from __future__ import annotations

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [os.environ.get("PURERL_CHECKOUT", str(ROOT)), str(ROOT)]

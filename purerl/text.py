"""Numbers and settings as people type and read them. Importing it costs nothing."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from typing import Any

_LARGEST_COUNT = 2**53
_SCALES = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}


def parse_count(text: str) -> int:
    """A positive whole number as people write it: 500000, 500_000, 500k, 2M or 5e5.

    Raises:
      ValueError: the text is not one.

    Examples:
      >>> [parse_count(text) for text in ("500k", "1.5M", "5e5", "500_000")]
      [500000, 1500000, 500000, 500000]
    """
    match = re.fullmatch(r"([0-9][0-9_,]*(?:\.[0-9]+)?(?:e[0-9]{1,2})?)([kmb]?)", text.strip().lower())
    if match:
        number = float(re.sub("[_,]", "", match[1])) * _SCALES[match[2]]
        if number > _LARGEST_COUNT:
            raise ValueError(f"{text:.40} is too large: at most {_LARGEST_COUNT:,}")
        if number == int(number) and number >= 1:
            return int(number)
    raise ValueError(f"{text!r} is not a positive whole number, such as 500_000, 500k or 5e5")


def parse_seed(text: str) -> int:
    """A random seed: an integer from 0 to 2³² - 1.

    Raises:
      ValueError: the text is not one.
    """
    if re.fullmatch(r"[0-9][0-9_]*", text.strip()) and int(text) < 2**32:
        return int(text)
    raise ValueError(f"{text!r} is not an integer from 0 to 4294967295")


def parse_bytes(text: str) -> int:
    """Bytes as people write them: 800MB, 1.5GiB, 2G.

    Raises:
      ValueError: the text is not an amount of memory.

    Examples:
      >>> parse_bytes("800MB"), parse_bytes("1.5GiB")
      (800000000, 1610612736)
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if not match or not 0 < float(match[1]) < 2**53:
        raise ValueError(f"{text!r} is not an amount of memory, such as 800MB or 4GiB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2] or " "))


def parse_value(text: str) -> Any:
    """A bool, an integer, a number, a tuple of such (`64,64`), or else the text itself.

    Examples:
      >>> [parse_value(text) for text in ("true", "3", "3e-4", "64,64", "relu")]
      [True, 3, 0.0003, (64, 64), 'relu']
    """
    text = text.strip()
    if "," in text:
        return tuple(parse_value(part) for part in text.strip("()[]").split(",") if part.strip())
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def with_tuples(value: Any) -> Any:
    """Data read from JSON with every list in it, at any depth, as a tuple.

    Examples:
      >>> with_tuples({"hidden": [64, [1, 2]]})
      {'hidden': (64, (1, 2))}
    """
    if isinstance(value, list | tuple):
        return tuple(with_tuples(each) for each in value)
    return {name: with_tuples(each) for name, each in value.items()} if isinstance(value, Mapping) else value


def csv_text(text: str) -> str:
    """A text as a cell of a CSV file that no spreadsheet takes for a formula.

    Examples:
      >>> csv_text("=1+1"), csv_text("relu")
      ("'=1+1", 'relu')
    """
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def plural(number: int, noun: str) -> str:
    """A number of things.

    Examples:
      >>> plural(1, "trial"), plural(1024, "seed")
      ('1 trial', '1,024 seeds')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_bytes(count: float) -> str:
    """An amount of memory in few characters, such as 212 MB or 3.4 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def format_seconds(seconds: float) -> str:
    """A duration, such as 45 s, 12:30 min or 3:05:00 h; ? if it is unknown."""
    if not math.isfinite(seconds):
        return "?"
    whole = math.ceil(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def format_rate(per_second: float, unit: str = "steps") -> str:
    """A rate, such as 182,331 steps/s; empty if it is unknown."""
    return f"{per_second:,.0f} {unit}/s" if math.isfinite(per_second) else ""


def format_number(value: float) -> str:
    """Up to four significant digits, without an exponent if that is readable; - for NaN."""
    if math.isnan(value):
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:.2e}"

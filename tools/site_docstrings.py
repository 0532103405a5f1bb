"""Extension of griffe: an entry `a, b: text` of a docstring becomes one entry for each name, so each gets its type."""

import re

import griffe

_ENTRY = re.compile(r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+): (?P<text>.*(?:\n(?P=indent) +\S.*)*)", re.M)


class SplitNames(griffe.Extension):
    """Split the entries of every function and class before their docstrings are parsed."""

    def on_function_instance(self, *, func, **unused):
        """Arguments."""
        _split(func)

    def on_class_instance(self, *, cls, **unused):
        """Attributes."""
        _split(cls)


def _split(described):
    if described.docstring is not None:
        described.docstring.value = _ENTRY.sub(_entries, described.docstring.value)


def _entries(match):
    return "\n".join(f"{match['indent']}{name}: {match['text']}" for name in match["names"].split(", "))

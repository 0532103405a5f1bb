"""Floating-point operations of matrix products, and bytes moved, of a compiled program, loops counted by their trips.

Bytes are those of each launch's results and arguments, once each. A slice counts what it takes, and an update in place
what it writes, whether alone or fused.
"""

from __future__ import annotations

import functools
import math
import re

from purerl.accelerators import hlo

_SHAPE = re.compile(r"\b(pred|[suf]\d+|bf16|f8\w*|c64|c128)\[([\d,]*)\]")
_OPERAND = re.compile(r"%([\w.\-]+)")
_CONTRACTING = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
_PARTITIONS = re.compile(r"num_partitions=(\d+)")
_SLICES = ("dynamic-slice", "slice", "gather")


def operations(text: str) -> float:
    """Operations of one run on all devices together: the text is the program of one of them."""
    partitions = _PARTITIONS.search(text.partition("\n")[0])
    return totals(text)[0] * (int(partitions[1]) if partitions else 1)


def totals(text: str) -> tuple[float, float]:
    """Operations and bytes of one run of the program on one device."""
    computations, entry = hlo.parse(text)
    reader = _Reader(computations)
    return reader.walk(entry)


class _Reader:
    """Computations by name, with what has been counted of them."""

    def __init__(self, computations: dict[str, list[hlo.Instruction]]) -> None:
        self.computations = computations
        self.walk = functools.cache(self._walk)
        self.operations = functools.cache(self._operations)

    def _walk(self, name: str) -> tuple[float, float]:
        operations = moved = 0.0
        types = {each.name: each.type for each in self.computations[name]}
        for each in self.computations[name]:
            for called, times in _followed(self.computations, each):
                inner = self.walk(called)
                operations, moved = operations + times * inner[0], moved + times * inner[1]
            if each.op in hlo.FREE or each.op in ("while", "conditional", "call"):
                continue
            operations += self._own_operations(each, types)
            moved += self._moved(each, types)
        return operations, moved

    def _operations(self, name: str) -> float:
        types = {each.name: each.type for each in self.computations[name]}
        return sum(self._own_operations(each, types) for each in self.computations[name])

    def _own_operations(self, each: hlo.Instruction, types: dict[str, str]) -> float:
        if each.op == "fusion":
            return sum(self.operations(name) for name in hlo.called(each))
        if each.op == "convolution":
            return _convolution(each, types)
        if each.op != "dot":
            return 0.0
        left = dimensions(types.get(_OPERAND.findall(each.rest)[0], ""))
        contracted = _CONTRACTING.search(each.rest)
        axes = [int(axis) for axis in contracted[1].split(",") if axis] if contracted else []
        inner = math.prod(left[axis] for axis in axes if axis < len(left))
        return 2.0 * math.prod(dimensions(each.type)) * inner

    def _moved(self, each: hlo.Instruction, types: dict[str, str]) -> float:
        operands = _OPERAND.findall(each.rest.split(", calls=")[0].split(", metadata=")[0])
        if each.op in _SLICES:
            return 2.0 * size(each.type)
        if each.op == "dynamic-update-slice":
            return 2.0 * size(types.get(operands[1], ""))
        if each.op == "fusion":
            return self._fused(hlo.called(each)[0])
        return size(each.type) + sum(size(types.get(operand, "")) for operand in operands)

    def _fused(self, name: str) -> float:
        inside = self.computations[name]
        types = {each.name: each.type for each in inside}
        users: dict[str, list[hlo.Instruction]] = {}
        for each in inside:
            for operand in _OPERAND.findall(each.rest.split(", metadata=")[0]):
                users.setdefault(operand, []).append(each)
        read = sum(_read(each, users.get(each.name, []), types) for each in inside if each.op == "parameter")
        updates = [each for each in inside if each.op == "dynamic-update-slice"]
        if updates:
            written = sum(size(types.get(_OPERAND.findall(each.rest)[1], "")) for each in updates)
        else:
            written = size(inside[-1].type)
        return read + written


def _convolution(each: hlo.Instruction, types: dict[str, str]) -> float:
    """2 · outputs · kernel / features out. The TPU's compiler writes every matrix product as a convolution."""
    kernel = dimensions(types.get(_OPERAND.findall(each.rest)[1], ""))
    layout = re.search(r"dim_labels=\w+_(\w+)->", each.rest)
    outputs = math.prod(dimensions(each.type))
    if not layout or len(layout[1]) != len(kernel):
        return 0.0
    return 2.0 * outputs * math.prod(kernel) / max(kernel[layout[1].index("o")], 1)


def _read(parameter: hlo.Instruction, users: list[hlo.Instruction], types: dict[str, str]) -> float:
    """Bytes that a fusion reads of one of its parameters."""
    if users and all(user.op in _SLICES for user in users):
        return sum(size(user.type) for user in users)
    if users and all(user.op == "dynamic-update-slice" for user in users):
        written_over = all(_OPERAND.findall(user.rest)[0] == parameter.name for user in users)
        return 0.0 if written_over else size(parameter.type)
    return size(parameter.type)


def _followed(computations: dict[str, list[hlo.Instruction]], each: hlo.Instruction) -> list[tuple[str, int]]:
    """Computations that an instruction runs, and how often; of a conditional all branches, as an upper bound."""
    if each.op == "while":
        return [(hlo.body(each), hlo.trips(computations, each) or 1)]
    if each.op == "call":
        return [(name, 1) for name in hlo.called(each)]
    if each.op == "conditional":
        return [(name, 1) for name in hlo.branches(each)]
    return []


def dimensions(kind: str) -> list[int]:
    """The shape of the first array in a type."""
    found = _SHAPE.search(kind)
    return [int(axis) for axis in found[2].split(",") if axis] if found else []


def size(kind: str) -> float:
    """Bytes of all arrays in a type."""
    return sum(
        _width(name) * math.prod(int(axis) for axis in axes.split(",") if axis) for name, axes in _SHAPE.findall(kind)
    )


def _width(name: str) -> float:
    bits = re.search(r"\d+", name)
    return 1.0 if name == "pred" or not bits else int(bits[0]) / 8

"""Reading a compiled program: which kernels a device launches, how often, and where the host waits for it.

The text is XLA's scheduled module. Each instruction that does work on the device is one launch. A `while` launches its
body once per trip. A `conditional` whose predicate lies on the device makes the host wait for it.
"""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Iterator
from typing import NamedTuple

# Instructions that do nothing on the device, or are followed into another computation instead.
FREE = {"parameter", "tuple", "get-tuple-element", "bitcast", "constant", "after-all", "partition-id", "replica-id"}
FREE |= {"opt-barrier", "domain", "add-dependency", "get-dimension-size"}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")

_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<type>\(.*?\)|\S+) (?P<op>[\w\-]+)\((?P<rest>.*)$")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|called_computations)=\{?%?([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+))")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_SOURCE = re.compile(r'op_name="([^"]*)"')


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    type: str
    op: str
    rest: str

    @property
    def source(self) -> str:
        """The path of JAX functions that the instruction comes from, or "" if it is not recorded."""
        found = _SOURCE.search(self.rest)
        return found[1] if found else ""


class Counts(NamedTuple):
    """Work of one run of a computation, loops within it counted by their trips.

    Attributes:
      launches: kernels and library calls.
      waits: conditionals, and loops of unknown length, whose predicate the host fetches from the device.
      copies: launches that only copy.
      collectives: launches that move data between devices, by name.
    """

    launches: int = 0
    waits: int = 0
    copies: int = 0
    collectives: tuple[tuple[str, int], ...] = ()

    def __add__(self, other: Counts) -> Counts:  # type: ignore[override]
        collectives = collections.Counter(dict(self.collectives)) + collections.Counter(dict(other.collectives))
        return Counts(
            self.launches + other.launches,
            self.waits + other.waits,
            self.copies + other.copies,
            tuple(sorted(collectives.items())),
        )

    def times(self, trips: int) -> Counts:
        """The counts of that many runs."""
        collectives = tuple((name, count * trips) for name, count in self.collectives)
        return Counts(self.launches * trips, self.waits * trips, self.copies * trips, collectives)


class Loop(NamedTuple):
    """A `while` and what is in it.

    Attributes:
      name: the path of JAX functions that it comes from.
      trips: how often it runs, or None if the compiler does not know.
      each: counts of one trip, without the loops inside.
      loops: the loops inside.
    """

    name: str
    trips: int | None
    each: Counts
    loops: tuple[Loop, ...]

    @property
    def total_each(self) -> Counts:
        """Counts of one trip, loops inside included."""
        return sum((loop.total for loop in self.loops), self.each)

    @property
    def total(self) -> Counts:
        """Counts of all trips, loops inside included; a loop of unknown length counts once."""
        return self.total_each.times(1 if self.trips is None else self.trips)

    def walk(self) -> Iterator[Loop]:
        """This loop and all inside, outer ones first."""
        yield self
        for loop in self.loops:
            yield from loop.walk()


def read(text: str) -> Loop:
    """The whole program as a loop of one trip.

    Args:
      text: `compiled.as_text()`.
    """
    computations, entry = parse(text)
    each, loops = _count(computations, entry)
    return Loop("program", 1, each, loops)


def parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The computations of a module by name, and the name of the one that runs."""
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if opening := _COMPUTATION.match(line):
            current = computations.setdefault(opening["name"], [])
            entry = opening["name"] if opening["entry"] else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            current.append(Instruction(found["name"], found["type"], found["op"], found["rest"]))
    return computations, entry


def _count(computations: dict[str, list[Instruction]], name: str) -> tuple[Counts, tuple[Loop, ...]]:
    counts, loops = Counts(), []
    for instruction in computations[name]:
        if instruction.op == "while":
            loops.append(_loop(computations, instruction))
        elif instruction.op == "conditional":
            most, inside = _widest_branch(computations, instruction)
            counts += most + Counts(waits=1)
            loops += inside
        elif instruction.op == "call":
            inner, inside = _count(computations, called(instruction)[0])
            counts += inner
            loops += inside
        else:
            counts += _launch(instruction)
    return counts, tuple(loops)


def _loop(computations: dict[str, list[Instruction]], instruction: Instruction) -> Loop:
    each, loops = _count(computations, body(instruction))
    count = trips(computations, instruction)
    if count is None:  # the host evaluates the condition of a counted loop by itself
        each += _count(computations, _named(instruction, "condition"))[0] + Counts(waits=1)
    return Loop(instruction.source, count, each, loops)


def _widest_branch(
    computations: dict[str, list[Instruction]], instruction: Instruction
) -> tuple[Counts, tuple[Loop, ...]]:
    """The branch of a conditional that launches most."""
    counted = [_count(computations, name) for name in branches(instruction)]
    return max(counted, key=lambda branch: sum((loop.total for loop in branch[1]), branch[0]).launches)


def _launch(instruction: Instruction) -> Counts:
    op = instruction.op
    if op in FREE or op.endswith(("-done", "-update")):
        return Counts()
    kind = op.removesuffix("-start")
    collectives = ((kind, 1),) if kind in COLLECTIVES else ()
    return Counts(launches=1, copies=int(kind == "copy"), collectives=collectives)


def body(instruction: Instruction) -> str:
    """The computation that a `while` repeats."""
    return _named(instruction, "body")


def trips(computations: dict[str, list[Instruction]], instruction: Instruction) -> int | None:
    """How often a `while` runs, or None if it depends on data.

    The GPU's compiler says so itself. The TPU's does not, but its counted loops compare a counter with one constant.
    """
    if found := _TRIPS.search(instruction.rest):
        return int(found[1])
    condition = computations[_named(instruction, "condition")]
    limits = [each.rest.split(")")[0] for each in condition if each.op == "constant" and each.type.startswith("s32[]")]
    counted = {each.op for each in condition} <= FREE | {"compare"} and "direction=LT" in condition[-1].rest
    return int(limits[0]) if counted and len(limits) == 1 else None


def branches(instruction: Instruction) -> list[str]:
    """The computations that a `conditional` chooses from."""
    names = [name.strip(" %") for found in _BRANCHES.findall(instruction.rest) for name in ",".join(found).split(",")]
    return [name for name in names if name]


def called(instruction: Instruction) -> list[str]:
    """The computations that a fusion or a call stands for."""
    return _CALLED.findall(instruction.rest)


def _named(instruction: Instruction, role: str) -> str:
    found = re.search(rf"{role}=%?([\w.\-]+)", instruction.rest)
    assert found, instruction
    return found[1]


# --- Which loop is which ----------------------------------------------------------------------------------------------


def rollout_step(root: Loop, rollout_length: int) -> dict[str, float] | None:
    """Launches, waits and copies of one step of a rollout, on average; None if the program has no loop of these steps.

    A trip of the loop may be two or four steps, which a half or a quarter as many trips show.
    """
    found, trips = list(root.walk()), [rollout_length // steps for steps in (1, 2, 4)]
    named = [loop for loop in found if "rollout" in loop.name and loop.trips in trips]
    loops = named or [loop for loop in found if loop.trips == rollout_length and not loop.loops]
    if not loops or not loops[0].trips:
        return None
    each, steps = loops[0].total_each, rollout_length // loops[0].trips
    return {name: getattr(each, name) / steps for name in ("launches", "waits", "copies")}


def gradient_step(root: Loop) -> Loop | None:
    """The innermost loop over gradient steps: the deepest loop of an update that is not part of a rollout."""
    updates = [loop for loop in root.loops if "_advance" in loop.name or loop.loops]
    if not updates:
        return None
    deepest = max(_depths(updates[-1], 0), key=lambda pair: pair[0], default=(0, None))
    return deepest[1]


def _depths(loop: Loop, depth: int) -> Iterator[tuple[int, Loop]]:
    for each in loop.loops:
        if "rollout" not in each.name:
            yield depth, each
            yield from _depths(each, depth + 1)


def tree(loop: Loop, depth: int = 0) -> str:
    """The loops as an indented text, for reading."""
    counts = loop.each
    line = f"{'  ' * depth}{loop.trips if loop.trips is not None else '?'} x {counts.launches} launches"
    line += f" + {counts.waits} waits" * bool(counts.waits) + f" ({counts.copies} copies)" * bool(counts.copies)
    line += f" {json.dumps(dict(counts.collectives))}" * bool(counts.collectives)
    line += f"   {loop.name[-90:]}"
    return "\n".join([line, *(tree(each, depth + 1) for each in loop.loops)])

"""Measure purerl beside its peers, in alternating runs.

    python -m benchmarks --list                      # the rows
    python -m benchmarks ppo/CartPole-v1 replay      # rows by the beginnings of their names; none: all
    python -m benchmarks ppo --peers none            # purerl alone
    python -m benchmarks ppo --against ../before     # and another checkout of purerl as a peer
    python -m benchmarks --save                      # keep the figures in results/suite.json
    python -m benchmarks --page                      # the page and the pictures, from the record

Peers run in environments of their own, .venv-rejax, .venv-sb3, .venv-sbx and .venv-flashbax, made from the package
registry at the first use. What trains one agent runs on one core or on all of them, whichever is faster, on every side
that uses JAX. Rows of one curve (scaling) run in turn. Rates mean something on a quiet machine only; ratios survive
some noise.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import signal
from typing import Any, TypeAlias

from benchmarks import driving, pages, records, rows
from benchmarks.peers import environments

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "benchmarks.md"
Found: TypeAlias = dict[str, dict[str, dict[str, Any]]]  # by row and side


def main() -> None:
    """Run the suite as the command line says."""
    options = parse()
    if options.page:
        return write_page()
    try:
        chosen = rows.chosen(options.rows)
    except ValueError as error:
        raise SystemExit(f"benchmarks: {error}") from None
    if options.list:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--list | head` ends quietly
        return print("\n".join(f"{row.name:44s} {', '.join(row.peers)}" for row in chosen))
    turns = [
        list(group) for _, group in itertools.groupby(chosen, lambda row: row.name if options.against else row.turn)
    ]
    failed = [turn[0].turn for turn in turns if not _measured(turn, options)]
    if failed:
        raise SystemExit(f"benchmarks: not measured: {', '.join(failed)}")


def _measured(turn: list[rows.Row], options: argparse.Namespace) -> bool:
    """Measure what runs in turn, print and keep it; False if a worker failed, such as for data that are not there."""
    try:
        found = _one(turn[0], options) if len(turn) == 1 else _series(turn, options.rounds)
    except RuntimeError as error:
        print(f"{turn[0].turn}: {error}", flush=True)
        return False
    for row in turn:
        entry, record = records.entry(row.unit, found[row.name], options.rounds), records.load()
        print("\n".join(pages.lines(row.name, entry)), flush=True)
        if options.compare and row.name in record:
            print(f"  {records.verdict(entry, record[row.name])}", flush=True)
        if options.save:
            records.save(record | {row.name: entry})
    return True


def _one(row: rows.Row, options: argparse.Namespace) -> Found:
    """One row beside its peers."""
    peers = [peer for peer in row.peers if not options.peers or peer in options.peers]
    sides = {side: _side(side, row) for side in (driving.OURS, *peers)}
    if options.against:
        sides["before"] = sides[driving.OURS]._replace(checkout=options.against)
    return {row.name: driving.measure(sides, row.workload, options.rounds)}


def _series(turn: list[rows.Row], rounds: int) -> Found:
    """Rows of purerl's side in turn."""
    workers = {row.name: (_side(driving.OURS, row), row.workload) for row in turn}
    return {name: {driving.OURS: each} for name, each in driving.measure_series(workers, rounds).items()}


def _side(side: str, row: rows.Row) -> driving.Side:
    return driving.Side(side, environments.python(side), tries_one_core=row.tries_one_core and side != "sb3")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help="beginnings of names of rows; none: all")
    parser.add_argument("--list", action="store_true", help="list the rows and their peers")
    parser.add_argument("--peers", nargs="+", metavar="PEER", help="only these peers; none: no peer")
    parser.add_argument("--against", type=pathlib.Path, metavar="CHECKOUT", help="another checkout of purerl as a peer")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each side, in turn (default 7)")
    parser.add_argument("--compare", action="store_true", help="say how the record compares")
    parser.add_argument("--save", action="store_true", help="keep the figures in results/suite.json")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks.md and the pictures from the record")
    return parser.parse_args()


def write_page() -> None:
    """The tables of the record between the markers of docs/benchmarks.md, and the pictures in results."""
    record = records.load()
    pages.scaling(record, records.PATH.parent)
    before, _, after = PAGE.read_text(encoding="utf-8").partition("<!-- tables -->\n")
    end = after.partition("<!-- end of tables -->\n")[2]
    threshold = json.loads((records.PATH.parent / "threshold.json").read_text(encoding="utf-8"))
    tables = pages.markdown(record) + "\n" + pages.thresholds(threshold["sides"])
    PAGE.write_text(f"{before}<!-- tables -->\n\n{tables}\n<!-- end of tables -->\n{end}", encoding="utf-8")


if __name__ == "__main__":
    main()

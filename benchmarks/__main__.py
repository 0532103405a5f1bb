"""Measure purerl beside its peers, in alternating runs.

    python -m benchmarks --list                      # the rows
    python -m benchmarks ppo/CartPole-v1 replay      # rows by the beginnings of their names; none: all
    python -m benchmarks ppo --peers none            # purerl alone
    python -m benchmarks ppo --against ../before     # and another checkout of purerl as a peer
    python -m benchmarks --save                      # keep the figures in results/suite.json
    python -m benchmarks --page                      # the page and the pictures, from the record

Peers run in environments of their own, .venv-rejax, .venv-sb3, .venv-sbx and .venv-flashbax, made from the package
registry at the first use. What trains one agent runs on one core or on all of them, whichever
is faster, on every side that uses JAX. Rates mean something on a quiet machine only; ratios survive some noise.
"""

from __future__ import annotations

import argparse
import pathlib

from benchmarks import driving, pages, records, rows
from benchmarks.peers import environments

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "benchmarks.md"


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
        return print("\n".join(f"{row.name:44s} {', '.join(row.peers)}" for row in chosen))
    failed = [row.name for row in chosen if not _measured(row, options)]
    if failed:
        raise SystemExit(f"benchmarks: not measured: {', '.join(failed)}")


def _measured(row: rows.Row, options: argparse.Namespace) -> bool:
    """Measure one row, print it and keep it; False if one of its sides failed, such as for data that are not there."""
    peers = [peer for peer in row.peers if not options.peers or peer in options.peers]
    tries = row.tries_one_core
    sides = {
        side: driving.Side(side, environments.python(side), tries_one_core=tries and side != "sb3")
        for side in (driving.OURS, *peers)
    }
    if options.against:
        sides["before"] = sides[driving.OURS]._replace(checkout=options.against)
    try:
        entry = records.entry(row.unit, driving.measure(sides, row.workload, options.rounds), options.rounds)
    except RuntimeError as error:
        print(f"{row.name}: {error}", flush=True)
        return False
    print("\n".join(pages.lines(row.name, entry)), flush=True)
    record = records.load()
    if options.compare and row.name in record:
        print(f"  {records.verdict(entry, record[row.name])}", flush=True)
    if options.save:
        records.save(record | {row.name: entry})
    return True


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
    tables = pages.markdown(record)
    PAGE.write_text(f"{before}<!-- tables -->\n\n{tables}\n<!-- end of tables -->\n{end}", encoding="utf-8")


if __name__ == "__main__":
    main()

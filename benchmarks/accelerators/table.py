"""Reports of compiled programs as lines, as a Markdown table, and against a record."""

from __future__ import annotations

from typing import Any

_COLUMNS = (
    "program", "launches (waits) per rollout step", "per gradient step", "per environment step", "collectives",
    "temporary MB", "operations per environment step", "modelled steps/s",
)  # fmt: skip


MARKER = "<!-- what follows is written by python -m benchmarks.accelerators --save -->"


def line(report: dict[str, Any]) -> str:
    """One report in one line."""
    return "  ".join(_cells(report))


def markdown(reports: dict[str, dict[str, Any]]) -> str:
    """All reports of one target."""
    rows = [_COLUMNS, ["---"] * len(_COLUMNS), *map(_cells, reports.values())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def fill(page: str, reports: dict[str, dict[str, Any]]) -> str:
    """A page whose tables, all that follows the marker, are those of these reports by the target's label."""
    text, marker, _ = page.partition(MARKER)
    if not marker:
        raise ValueError(f"the page has no line {MARKER!r}, after which tables are written")
    return text + marker + "".join(f"\n\n## {label}\n\n{markdown(found)}" for label, found in reports.items()) + "\n"


def regressions(record: dict[str, Any], reports: dict[str, dict[str, Any]]) -> int:
    """Print the programs that launch more, wait more or take more memory than the record says, and return 1 if any do.

    Memory may grow by 1%: the compiler's packing of buffers is not monotonic in what is packed.
    """
    worse = 0
    for target, found in reports.items():
        for case, report in found.items():
            recorded = record["reports"].get(target, {}).get(case, {"error": "not in the record"})
            before, now = _held(recorded), _held(report)
            if now is None or before is None or any(now[name] > before[name] * _SLACK[name] for name in _SLACK):
                print(f"{target} {case}: {before or recorded['error']} before, {now or report['error']} now")
                worse = 1
    return worse


_SLACK = {"launches": 1.0, "waits": 1.0, "temporary_bytes": 1.01}  # by what it may exceed the record


def _held(report: dict[str, Any]) -> dict[str, Any] | None:
    """The figures of a report that are compared; None if the program did not compile."""
    return report["total"] | {"temporary_bytes": report["temporary_bytes"]} if "total" in report else None


def _cells(report: dict[str, Any]) -> list[str]:
    if "error" in report:
        return [report["label"], report["error"], *[""] * (len(_COLUMNS) - 2)]
    collectives = ", ".join(f"{count} {name}" for name, count in report["total"]["collectives"]) or "none"
    return [
        report["label"],
        _launches(report["rollout_step"]),
        _launches(report["gradient_step"]),
        f"{report['launches_per_env_step']:.3g}",
        collectives,
        f"{report['temporary_bytes'] / 1e6:.1f}",
        f"{report['operations_per_env_step']:,.0f}",
        f"{report['modelled_env_steps_per_second']:,.3g}",
    ]


def _launches(counts: dict[str, Any] | None) -> str:
    if counts is None:
        return "-"
    return f"{counts['launches']:g}" + f" ({counts['waits']:g})" * bool(counts["waits"])

"""The page of a report on a search: summary, cautions, the best trial, pictures and the table, in one HTML file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from purerl.reports import pieces, sections
from purerl.reports.cautions import cautions

if TYPE_CHECKING:
    from purerl.sweep import Result

_HERE = Path(__file__).parent


def write_html(
    result: Result,
    path: str | os.PathLike[str],
    *,
    title: str = "Hyperparameter search",
    about: Mapping[str, str] | None = None,
    use: str | None = None,
    repeat: str | None = None,
    load: str | None = None,
    replay: bytes | None = None,
) -> Path:
    """Write a search as one self-contained HTML file: styles, script and pictures are in it.

    Args:
      result: a finished search.
      path: of the file, which is replaced.
      title: its heading.
      about: further facts, such as the environment and the versions.
      use: code that trains the best trial again, such as a command; None writes its hyperparameters as Python.
      repeat: code that repeats the search; None writes the call of `sweep.search`.
      load: code that loads the trained policy; None writes the call of `sweep.load`, if states were kept.
      replay: a GIF of the best agent playing; None leaves it out.

    Returns:
      The path.
    """
    (shares, noise), rows = _shares(result), result.rows()
    return write_page(
        path,
        title,
        sections.summary(result, rows),
        pieces.notes(cautions(result)),
        sections.algorithms(result),
        sections.best(result, use),
        pieces.replay(replay),
        sections.policy(result, Path(path).parent, load),
        sections.again(result, repeat),
        sections.importances(shares, noise),
        sections.pictures(result, shares),
        sections.trials(rows),
        sections.facts(result, about or {}),
    )


def write_page(path: str | os.PathLike[str], title: str, *parts: str) -> Path:
    """Write a self-contained page from pieces of HTML, the first of which belongs to the title."""
    head, *rest = parts
    body = "\n".join([f"<header><h1>{escape(title)}</h1>{head}</header>", *rest])
    style, script = (_HERE.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    Path(path).write_text(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        f"<script>\n{script}</script>\n</body>\n</html>\n",
        encoding="utf-8",
    )
    return Path(path)


def _shares(result: Result) -> tuple[dict[str, float] | str, dict[str, float]]:
    """The importances, or why there are none, and what each would be by chance."""
    try:
        return result.importance(), result.importance_noise()
    except (ModuleNotFoundError, ValueError) as error:
        return str(error), {}

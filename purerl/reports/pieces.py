"""Pieces of HTML that reports are made of; all text from outside is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from purerl.plots.style import number
from purerl.sweep.trials.spaces import Choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from purerl.sweep.results.storage import Row
    from purerl.sweep.trials.spaces import Space

_DPI = 150


def tiles(numbers: Mapping[str, str]) -> str:
    """Large numbers side by side, with their labels.

    Examples:
      >>> tiles({"trials": "64"})
      '<div class="tiles"><div><b>64</b><span>trials</span></div></div>'
    """
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in numbers.items())
    return f'<div class="tiles">{cells}</div>'


def notes(sentences: Sequence[str]) -> str:
    """Limits of the results, which a reader should know first."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<section class="notes"><h2>How far to trust it</h2><ul>{items}</ul></section>' if sentences else ""


def code(heading: str, text: str, lines: str) -> str:
    """A paragraph, and lines of code with a button that copies them."""
    button = '<button type="button" class="copy" aria-label="Copy the code"></button>'
    block = f'<div class="code">{button}<pre><code>{escape(lines)}</code></pre></div>'
    return f"<section><h2>{escape(heading)}</h2><p>{escape(text)}</p>{block}</section>"


def pictures(figures: Sequence[tuple[str, Callable[[], Figure]]]) -> str:
    """Pictures with captions; each is drawn and freed before the next one, and one that cannot be drawn says why."""
    shown = "".join(_drawn(words, draw) for words, draw in figures)
    return f'<section class="pictures"><h2>Pictures</h2><p>Click or tap a picture to enlarge it.</p>{shown}</section>'


def _drawn(words: str, draw: Callable[[], Figure]) -> str:
    try:
        return _picture(draw(), words)
    except Exception as error:  # no picture is worth more than the rest of the page
        return f"<p>{escape(words)} It could not be drawn: {escape(str(error))}</p>"


def replay(gif: bytes | None) -> str:
    """The best agent playing; empty without a GIF.

    Examples:
      >>> replay(b"GIF")[:60], replay(None)
      ('<section><h2>The best agent plays</h2><figure><img alt="One ', '')
    """
    if gif is None:
        return ""
    words, data = "One greedy episode", base64.b64encode(gif).decode("ascii")
    figure = f'<figure><img alt="{words}" src="data:image/gif;base64,{data}"><figcaption>{words}</figcaption></figure>'
    return f"<section><h2>The best agent plays</h2>{figure}</section>"


def table(heading: str, note: str, rows: Sequence[Row]) -> str:
    """A table of rows with the same columns; a click on a heading sorts by it. The note is HTML already."""
    names = list(rows[0])
    heads = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in names)
    body = "".join(f"<tr>{''.join(_cell(row[name]) for name in names)}</tr>\n" for row in rows)
    return (
        f"<section><h2>{escape(heading)}</h2><p>Click a heading to sort by it. {note}</p>"
        f'<div class="scroll" tabindex="0"><table class="sortable"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div></section>"
    )


def facts(about: Mapping[str, str], space: Mapping[str, Space], settings: Row) -> str:
    """How a run was made, one line per fact: those in `about`, its spaces, its settings."""
    spaces = {f"space of {name}": _space(each) for name, each in space.items()}
    ran = {name.replace("_", " "): _plain(value) for name, value in settings.items()}
    every = {**about, **spaces, **ran}
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in every.items())
    return f'<section><h2>How it was made</h2><table class="facts"><tbody>{rows}</tbody></table></section>'


# --- Words ------------------------------------------------------------------------------------------------------------


def short(value: float) -> str:
    """A number in four digits, whole numbers and booleans as they are, a dash for NaN.

    Examples:
      >>> short(1234567), short(0.000123456), short(float("nan"))
      ('1,234,567', '0.0001235', '–')
    """
    if isinstance(value, bool | int):
        return str(value) if isinstance(value, bool) else f"{value:,}"
    return "–" if np.isnan(value) else f"{value:.4g}"


def minutes(seconds: float | None) -> str:
    """A time, a dash if it is unknown.

    Examples:
      >>> minutes(12), minutes(185.2), minutes(None)
      ('12 s', '3:05 min', '–')
    """
    if seconds is None or np.isnan(seconds):
        return "–"
    whole, rest = divmod(round(seconds), 60)
    return f"{rest} s" if not whole else f"{whole}:{rest:02} min"


def rate(per_second: float | None) -> str:
    """A speed without its unit, a dash if it is unknown.

    Examples:
      >>> rate(12345.6), rate(None)
      ('12,346', '–')
    """
    return "–" if per_second is None or np.isnan(per_second) else f"{per_second:,.0f}"


def _picture(figure: Figure, words: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, dpi=_DPI, format="png")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    words = escape(words)
    image = f'<img alt="{words}" src="data:image/png;base64,{data}">'
    button = f'<button type="button" class="zoom" aria-label="Enlarge the picture">{image}</button>'
    return f"<figure>{button}<figcaption>{words}</figcaption></figure>\n"


def _cell(value: object) -> str:
    """A cell, with the exact value for sorting."""
    if isinstance(value, bool | int | float):
        exact = "" if value != value else repr(float(value))
        return f'<td data-v="{exact}">{escape(short(value))}</td>'
    return f"<td>{escape(number(value))}</td>"


def _space(space: Space) -> str:
    if isinstance(space, Choice):
        return "one of " + ", ".join(number(value) for value in space.values)
    kind = "integers" if space.integer else "numbers"
    return f"{kind} from {space.low:g} to {space.high:g}" + (", uniform in the logarithm" if space.log else "")


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

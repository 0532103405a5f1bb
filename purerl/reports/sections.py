"""The parts of the report, each a piece of HTML; whatever comes from outside is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from purerl.plots.style import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from purerl.sweep import Result

_DPI = 110


def summary(result: Result) -> str:
    """The search in one line of large numbers."""
    settings, best = result.settings, result.best
    tiles = {
        "best return": _short(best.iqm),
        "trials": f"{result.num_trials:,}",
        "seeds each": f"{result.num_seeds}",
        "steps each, at most": f"{int(result.steps[-1]):,}",
        "time": _seconds(settings.get("seconds")),
        "agent-steps a second": _rate(settings.get("steps_per_second")),
    }
    fresh = [row["fresh_return"] for row in result.rows() if row["rank"] == 1 and "fresh_return" in row]
    if fresh:
        tiles = {"best return": tiles.pop("best return"), "the same on fresh seeds": _short(fresh[0]), **tiles}
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in tiles.items())
    return f'<div class="tiles">{cells}</div>'


def notes(sentences: Sequence[str]) -> str:
    """What to know before believing any of it."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<section class="notes"><h2>Before you believe it</h2><ul>{items}</ul></section>' if sentences else ""


def best(result: Result, use: str | None) -> str:
    """The trial ranked first, and how to use it."""
    trial = result.best
    interval = "" if np.isnan(trial.interval[0]) else f", 95% interval {' to '.join(map(_short, trial.interval))}"
    seeds = ", ".join(map(_short, trial.returns.tolist()))
    text = (
        f"Trial {trial.number} returned {_short(trial.iqm)} over {result.num_seeds} "
        f"seed{'s' * (result.num_seeds > 1)} ({seeds}){interval}, after {trial.steps:,} steps."
    )
    code = use if use is not None else as_python(trial.hparams, trial.choices)
    return f"<section><h2>The best trial</h2><p>{escape(text)}</p><pre><code>{escape(code)}</code></pre></section>"


def as_python(hparams: Any, choices: Mapping[str, Any]) -> str:
    """Hyperparameters as the call that makes them, and what else was chosen as comments."""
    lines = [f"    {name}={value!r}," for name, value in hparams._asdict().items()]
    others = [f"# {name} = {value!r}" for name, value in choices.items()]
    return "\n".join([f"{type(hparams).__name__}(", *lines, ")", *others])


def importances(shares: Mapping[str, float] | str) -> str:
    """Bars: how much of the spread each name accounts for; or why that is not known."""
    if isinstance(shares, str):
        return f"<section><h2>What mattered</h2><p>{escape(shares)}</p></section>"
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="bar"><i style="width:{100 * share:.1f}%"></i></td>'
        f"<td>{share:.0%}</td></tr>"
        for name, share in shares.items()
    )
    return (
        "<section><h2>What mattered</h2><p>Share of the variance of the returns that each name accounts for alone. "
        "What is missing to 100% is the part of combinations, and noise.</p>"
        f'<table class="bars"><tbody>{rows}</tbody></table></section>'
    )


def pictures(result: Result, shares: Mapping[str, float] | str) -> str:
    """All pictures that this search has something for."""
    return f'<section class="pictures"><h2>Pictures</h2>{"".join(_figures(result, shares))}</section>'


def trials(result: Result) -> str:
    """The whole table; a click on a heading sorts by it."""
    rows = result.rows()
    names = list(rows[0])
    heads = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in names)
    body = "".join(f"<tr>{''.join(_cell(row[name]) for name in names)}</tr>\n" for row in rows)
    return (
        f"<section><h2>All {len(rows):,} trials</h2><p>A click on a heading sorts. "
        "<code>return</code> is the interquartile mean over the seeds of greedy episodes, <code>return_low</code> and "
        "<code>return_high</code> its 95% bootstrap interval.</p>"
        f'<div class="scroll" tabindex="0"><table class="sortable"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div></section>"
    )


def facts(result: Result, about: Mapping[str, str]) -> str:
    """What was searched, and how it ran."""
    settings = dict(result.settings)
    brackets = settings.pop("brackets", ())
    rungs = "; ".join(
        ", ".join(f"{count:,} trials to {updates * result.update_steps:,} steps" for count, updates in bracket)
        for bracket in brackets
    )
    spaces = {f"space of {name}": _space(each) for name, each in result.space.items()}
    ran = {name.replace("_", " "): _plain(value) for name, value in settings.items()}
    every = {**about, **spaces, "rungs": rungs, **ran}
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(str(v))}</td></tr>' for k, v in every.items())
    return f'<section><h2>How it was made</h2><table class="facts"><tbody>{rows}</tbody></table></section>'


# --- Pictures ---------------------------------------------------------------------------------------------------------


def _figures(result: Result, shares: Mapping[str, float] | str) -> list[str]:
    from purerl import plots

    figures: list[tuple[str, Callable[[], Figure]]] = [
        ("Learning curves of all trials, the best in colour.", lambda: plots.learning_curves(result)),
        ("Return of every trial by rank.", lambda: plots.ranking(result)),
        ("How far the ranking depends on seeds and rungs.", lambda: plots.rank_stability(result)),
    ]
    if len(result.fresh_trials):
        figures.append(("The best trials, trained again on fresh seeds.", lambda: plots.optimism(result)))
    if result.searched:
        figures.append(("Each name that was searched against the return.", lambda: plots.parameters(result)))
        figures.append(("Every trial as a line through its values.", lambda: plots.parallel_coordinates(result)))
    if len(result.searched) > 1:
        x, y = list(result.searched if isinstance(shares, str) else shares)[:2]
        figures.append((f"The return over {x} and {y}.", lambda: plots.landscape(result, x, y)))
    return [_picture(draw(), words) for words, draw in figures]


def _picture(figure: Figure, words: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, dpi=_DPI, format="png")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    words = escape(words)
    return f'<figure><img alt="{words}" src="data:image/png;base64,{data}"><figcaption>{words}</figcaption></figure>\n'


# --- Words ------------------------------------------------------------------------------------------------------------


def _cell(value: Any) -> str:
    """A cell with the exact value to sort by."""
    if isinstance(value, bool | int | float):
        exact = "" if value != value else repr(float(value))
        return f'<td data-v="{exact}">{escape(_short(value))}</td>'
    return f"<td>{escape(number(value))}</td>"


def _short(value: Any) -> str:
    if isinstance(value, bool | int):
        return str(value) if isinstance(value, bool) else f"{value:,}"
    return "–" if np.isnan(value) else f"{value:.4g}"


def _space(space: Any) -> str:
    if hasattr(space, "values"):
        return "one of " + ", ".join(number(value) for value in space.values)
    kind = "integers" if space.integer else "numbers"
    return f"{kind} from {space.low:g} to {space.high:g}" + (", uniform in the logarithm" if space.log else "")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _seconds(seconds: float | None) -> str:
    if seconds is None or np.isnan(seconds):
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{rest} s" if not minutes else f"{minutes}:{rest:02} min"


def _rate(rate: float | None) -> str:
    return "–" if rate is None or np.isnan(rate) else f"{rate:,.0f}"

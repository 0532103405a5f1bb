import dataclasses
import html.parser
import re
import shutil
import subprocess

import numpy as np
import pytest
from searches import make_search

from purerl import plots, reports
from purerl.reports import sections
from purerl.sweep.results.result import Result

VOID = {"meta", "img", "br", "hr", "link", "input"}
NASTY = '<script>alert("a & b")</script>'


class Page(html.parser.HTMLParser):
    """Collects tags, attributes and the cells of the sortable table; refuses tags that do not close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.rows, self.heads, self.text = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] == "td":
            self.rows[-1].append(data)
        if self.open and self.open[-1] == "button":
            self.heads.append(data)


@pytest.fixture(scope="module")
def result():
    """A search with rungs and confirmed trials, one of whose names and values want escaping."""
    made = make_search(24, 2, num_rungs=2, confirm=3, names=("learning_rate", "network.hidden"))
    hidden = np.array(["relu", NASTY], object)[np.arange(24) % 2]
    columns = {"learning_rate": made.values("learning_rate"), NASTY: hidden}
    space = {"learning_rate": made.space["learning_rate"]}
    trials = made.trials._replace(columns=columns, space=space)
    return Result(**{**vars(made), "trials": trials})


@pytest.fixture(scope="module")
def written(result, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert reports.write_html(result, path, title=f"A & B {NASTY}", about={NASTY: NASTY}) == path
    return path


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text(encoding="utf-8"))


def test_nothing_is_loaded_from_anywhere(page, written):
    sources = [
        attrs[name] for _, attrs in page.attributes for name in ("src", "href", "srcset", "data") if name in attrs
    ]
    assert len(sources) >= 6
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    text = re.sub(r"base64,[A-Za-z0-9+/=]*", "", written.read_text(encoding="utf-8"))
    assert not re.search(r"https?://|@import|url\(|fetch\(|<link", text)


def test_the_page_is_well_formed_and_says_what_it_shows(page):
    tags = [tag for tag, _ in page.attributes]
    assert [tags.count(tag) for tag in ("html", "head", "body", "h1", "title")] == [1] * 5
    assert all(attrs.get("alt") for tag, attrs in page.attributes if tag == "img")
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.attributes


def test_all_trials_are_in_the_table(page, result):
    names = list(result.rows()[0])
    assert page.heads == names
    rows = [row for row in page.rows if len(row) == len(names)]
    assert [row[0] for row in rows] == [str(place) for place in range(1, 25)]
    assert [int(row[1]) for row in rows] == result.order.tolist()
    assert float(rows[0][names.index("return")]) == pytest.approx(result.iqm[result.order[0]], rel=1e-3)


def test_cells_hold_the_exact_values_to_sort_by(page, result):
    exact = [attrs["data-v"] for tag, attrs in page.attributes if tag == "td" and "data-v" in attrs]
    assert {repr(float(rate)) for rate in (row["learning_rate"] for row in result.rows())} <= set(exact)
    assert "nan" not in exact
    assert "" in exact  # most trials have no fresh return


def test_names_and_values_are_escaped(page, written):
    text = written.read_text(encoding="utf-8")
    assert NASTY not in text
    assert [tag for tag, _ in page.attributes].count("script") == 1
    assert "".join(page.text).count(NASTY) >= 4  # title, name, values, header


def test_the_best_trial_can_be_copied(page, result):
    text = "".join(page.text)
    assert f"learning_rate={result.best.hparams.learning_rate!r}" in text
    assert "Hparams(" in text


def test_every_block_of_code_has_a_button_that_copies_it(page):
    tags = [(tag, attrs.get("class")) for tag, attrs in page.attributes]
    assert tags.count(("pre", None)) == tags.count(("button", "copy")) == 2  # the best trial and the search


def test_every_picture_can_be_enlarged(page):
    tags = [(tag, attrs.get("class")) for tag, attrs in page.attributes]
    assert tags.count(("button", "zoom")) == tags.count(("img", None)) >= 6


def test_the_report_says_how_to_repeat_the_search(page, result):
    text = "".join(page.text)
    assert "num_trials=24," in text
    assert f"num_updates={result.settings['num_updates']}," in text
    assert "schedule=lambda num_trials, num_updates: ((Rung(24, 4), Rung(6, 16),),)," in text


def test_the_commands_that_are_given_are_shown(result, tmp_path):
    commands = {"use": "purerl train --seed 1", "repeat": "purerl sweep --seed 2", "load": "purerl evaluate here"}
    text = "".join(Page(reports.write_html(result, tmp_path / "r.html", **commands).read_text("utf-8")).text)
    assert all(command in text for command in commands.values())


def test_the_report_says_how_to_load_a_policy_that_was_kept(result, tmp_path):
    kept = Result(**{**vars(result), "kept": np.array([0]), "states": (0,)})
    text = "".join(Page(reports.write_html(kept, tmp_path / "r.html").read_text("utf-8")).text)
    assert f"purerl.sweep.load({str(tmp_path)!r}, agent, env, hparams)" in text


def test_a_bar_that_chance_explains_is_pale():
    text = sections.importances({"rate": 0.4, "idle": 0.1}, {"rate": 0.2, "idle": 0.2})
    rate, idle = text.split("<tr>")[1:]
    assert 'class="pale"' not in rate
    assert 'class="pale"' in idle
    assert "by chance up to 20%" in idle


def test_cautions_fit_the_search(result):
    said = " ".join(reports.cautions(result))
    best, fresh = result.iqm[result.order[0]], result.rows()[0]["fresh_return"]
    assert f"{best:.4g} in the search, where it ranked" in said
    assert f"and {fresh:.4g} when trained again on 4 fresh seeds, by which it ranks now" in said
    assert "2 seeds per trial are only a hint" in said
    assert "at most 50%" in said
    assert "18 of 24 trials were stopped early" in said


def test_cautions_name_what_is_missing():
    alone = " ".join(reports.cautions(make_search(8, 1)))
    assert "has one seed" in alone
    assert "confirm=5" in alone
    assert "1 trial diverged" in alone
    assert "(trial 3)" in alone
    many = " ".join(reports.cautions(make_search(30, 12)))
    assert "hint" not in many
    assert "end of its range" not in many


def test_cautions_see_the_best_at_the_end_of_a_range():
    made = make_search(40, 6)
    rates = made.values("learning_rate").copy()
    rates[made.order[:5]] = 0.0099
    moved = Result(
        **{**vars(made), "trials": made.trials._replace(columns={**made.trials.columns, "learning_rate": rates})}
    )
    assert "5 of the 5 best trials have learning_rate at the upper end" in " ".join(reports.cautions(moved))


def test_a_search_over_nothing_has_a_report_too(tmp_path):
    made = make_search(3, 1)
    made = Result(**{**vars(made), "trials": made.trials._replace(columns={}, space={})})
    Page(reports.write_html(made, tmp_path / "r.html").read_text(encoding="utf-8"))


def test_a_search_whose_confirmed_trials_all_diverged_has_a_report_too(tmp_path):
    found = make_search(8, confirm=2)
    lost = dataclasses.replace(found, fresh_returns=np.full_like(found.fresh_returns, np.nan))
    page = reports.write_html(lost, tmp_path / "report.html").read_text()
    assert "<h2>Pictures</h2>" in page


def test_a_picture_that_cannot_be_drawn_leaves_the_others(monkeypatch, tmp_path):
    monkeypatch.setattr(plots, "ranking", lambda result: 1 / 0)
    page = reports.write_html(make_search(8), tmp_path / "report.html").read_text()
    assert "by rank. It could not be drawn: division by zero" in page
    assert page.count("data:image/png") >= 3


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_runs_its_script(written, tmp_path):
    """A click on the second heading sorts by the number of the trial."""
    click = "<script>document.querySelectorAll('th button')[1].click()</script></body>"
    clicked = tmp_path / "clicked.html"
    clicked.write_text(written.read_text(encoding="utf-8").replace("</body>", click), encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    more = f"--disable-component-update --disable-sync --user-data-dir={tmp_path / 'profile'} --dump-dom"
    done = subprocess.run(
        ["chromium", *flags.split(), *more.split(), clicked.as_uri()], capture_output=True, text=True, timeout=120
    )
    page = Page(done.stdout)
    rows = [row for row in page.rows if len(row) == len(page.heads)]
    assert [int(row[1]) for row in rows] == list(range(24))
    assert ("ascending") in [attrs.get("aria-sort") for tag, attrs in page.attributes if tag == "th"]

"""A search over algorithms: two learners of the bandit of `bandits`, with other hyperparameters and other sizes.

The first moves its action towards a target by a share per update, the second by a constant, so both have closed forms.
"""

import dataclasses
import pathlib
import runpy
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandits import EPISODE, Hparams, make_agent, make_env
from cutting import Cut, cut_after
from searches import make_search

from purerl import pbt, plots, reports, sweep
from purerl.hparams import UnitInterval
from purerl.sweep.run import journal, plan
from purerl.sweep.run.programs import Program, with_choices
from purerl.sweep.trials import algorithms, trials
from purerl.types import Agent


class Walk(NamedTuple):
    pace: UnitInterval = 0.1


class Walker(NamedTuple):
    place: jax.Array
    hparams: Walk


def make_walker():
    def init(key, hparams, example, num_envs=1):
        return Walker(jnp.float32(0), hparams)

    def act(key, state, obs):
        return state.place, ()

    def update(key, state, data):
        return state._replace(place=state.place + state.hparams.pace), {}

    return Agent(init, act, update)


EXAMPLE = pathlib.Path(__file__).parents[3] / "examples" / "which_algorithm.py"
ENV = make_env()
SHARE = sweep.Algorithm(
    make_agent(), Hparams(target=0.3), {"learning_rate": sweep.uniform(0.2, 0.9)}, num_envs=3, rollout_length=4
)
WALK = sweep.Algorithm(make_walker(), Walk(), {"pace": sweep.uniform(0.05, 0.25)}, num_envs=2, rollout_length=12)
EVERY = sweep.algorithms({"share": SHARE, "walk": WALK})
OPTIONS = {
    "num_trials": 8, "num_seeds": 2, "num_updates": 8, "num_envs": 3, "rollout_length": 4, "eval_episodes": 4,
    "eval_max_steps": EPISODE, "num_chunks": 4, "block_size": 4, "keep": None,
    "schedule": sweep.successive_halving(eta=2, num_rungs=2),
}  # fmt: skip


def run(directory=None, **changes):
    return sweep.search(
        jax.random.key(5), EVERY.agent, ENV, EVERY.hparams, EVERY.space, static=EVERY.static, **OPTIONS | changes,
        directory=directory, resume=directory is not None and journal.exists(directory),
    )  # fmt: skip


@pytest.fixture(scope="module")
def result():
    return run()


def test_every_algorithm_gets_its_share_of_the_trials_in_turn(result):
    assert result.values("algorithm").tolist() == ["share", "walk"] * 4
    assert result.trials.groups == ({"algorithm": "share"}, {"algorithm": "walk"})
    assert (result.values("share_learning_rate")[1::2] == 0.5).all()  # the default, in the trials of the other one
    assert len(set(result.values("share_learning_rate")[::2].tolist())) == 4


def test_every_algorithm_trains_with_its_own_sizes_for_equal_steps(result):
    """A trial of 8 updates of 12 steps makes 96, as does one of 4 updates of 24: θ and the place say which was made."""
    finished = np.flatnonzero(result.num_updates == 8)
    assert set(result.values("algorithm")[finished].tolist()) == {"share", "walk"}
    for trial in finished.tolist():
        hparams = EVERY.own(
            jax.tree.map(lambda leaf, i=trial: leaf[i], result.hparams), result.values("algorithm")[trial]
        )
        state = result.select(int(np.flatnonzero(result.order == trial)[0]) + 1).state
        if isinstance(hparams, Walk):
            np.testing.assert_allclose(state.place, 4 * hparams.pace, rtol=1e-5)
        else:
            left = 0.3 - state.theta
            assert abs(left) <= abs(0.3 * 1.5 * (1 - hparams.learning_rate) ** 8) + 1e-6
    assert {type(state).__name__ for state in result.states} <= {"Learner", "Walker"}


def test_the_rung_keeps_the_best_of_all_algorithms_together(result):
    after = result.rung_returns[0].mean(axis=2, dtype=np.float64).mean(axis=1)
    best = np.argsort(-after, kind="stable")[:4]
    assert sorted(best.tolist()) == np.flatnonzero(result.num_updates == 8).tolist()
    by_algorithm = [sum(result.values("algorithm")[best] == name) for name in ("share", "walk")]
    assert by_algorithm != [2, 2]  # halving within each algorithm would keep two of each
    assert result.order[:4].tolist() == best[np.argsort(-result.iqm[best])].tolist()


def test_the_table_names_the_algorithm_and_leaves_out_what_others_have(result):
    for row in result.rows():
        others = {"share": "walk_pace", "walk": "share_learning_rate"}[row["algorithm"]]
        assert np.isnan(row[others])
    rows = sweep.by_algorithm(result)
    assert {row["algorithm"]: row["trials"] for row in rows} == {"share": 4, "walk": 4}
    assert rows[0]["rank"] == 1
    assert rows[0]["return"] == result.best.iqm
    assert sum(row["finished"] for row in rows) == 4
    headers = [str(column.header) for column in sweep.table(result, width=200).columns]
    assert headers[-3:] == ["algorithm", "learning_rate", "pace"]


def test_the_best_trial_of_an_algorithm_may_rank_far_behind():
    found = make_search(8)
    names = np.array(["first"] * 8, object)
    names[found.order[5:]] = "last"
    trials = found.trials._replace(columns={**found.trials.columns, "algorithm": names})
    rows = sweep.by_algorithm(dataclasses.replace(found, trials=trials))
    assert [(row["algorithm"], row["rank"], row["best_trial"]) for row in rows] == [
        ("first", 1, found.order[0]),
        ("last", 6, found.order[5]),
    ]


def test_the_median_of_an_algorithm_is_that_of_its_own_trials(result):
    after = result.rung_returns[0].mean(axis=2, dtype=np.float64).mean(axis=1)  # all trials ended the first rung
    for row in sweep.by_algorithm(result):
        mine = result.values("algorithm") == row["algorithm"]
        np.testing.assert_allclose(row["median_return"], np.median(after[mine]))
        assert row["median_steps"] == 48


def test_the_longest_name_owns_a_hyperparameter():
    assert algorithms.owner("td3_bc_alpha", ("td3", "td3_bc")) == "td3_bc"
    every = sweep.algorithms({"td3": WALK, "td3_bc": WALK._replace(hparams=Walk(pace=0.7))})
    assert every.own(every.hparams, "td3") == Walk()
    assert every.own(every.hparams, "td3_bc") == Walk(pace=0.7)
    assert every.agent(algorithm="td3_bc").agent.init(jax.random.key(0), every.hparams, None).hparams.pace == 0.7


def test_a_search_over_algorithms_that_was_killed_ends_the_same(result, tmp_path):
    for number in (2, 9):
        with pytest.raises(Cut):
            run(tmp_path, progress=cut_after(number))
    again = run(tmp_path)
    np.testing.assert_array_equal(again.returns, result.returns)
    assert again.order.tolist() == result.order.tolist()
    loaded = sweep.load(tmp_path, EVERY.agent, ENV, EVERY.hparams)
    for old, new in zip(jax.tree.leaves(result.best.state), jax.tree.leaves(loaded.best.state)):
        np.testing.assert_array_equal(old, new)
    assert type(loaded.best.state) is type(result.best.state)


def test_a_search_over_algorithms_grows(tmp_path):
    """By trials and seeds, and then by updates: it is the larger search from the beginning."""
    whole, seeds = {"schedule": sweep.full, "block_size": 2}, {"num_seeds": 2}
    for sizes in ({"num_trials": 4, "num_seeds": 1}, seeds, seeds | {"num_updates": 16}):
        grown = run(tmp_path, **whole, **sizes)
    large = run(**whole, **seeds, num_updates=16, num_chunks=8)
    np.testing.assert_array_equal(grown.returns, large.returns)
    assert grown.num_updates.tolist() == [16] * 8


def test_a_grid_has_the_points_of_each_algorithm_once():
    points = {"share": {"learning_rate": sweep.uniform(0.2, 0.8, points=3)}, "walk": {"pace": sweep.choice([0.1, 0.2])}}
    every = sweep.algorithms(
        {"share": SHARE._replace(space=points["share"]), "walk": WALK._replace(space=points["walk"])}
    )
    made = trials.make(jax.random.key(0), every.hparams, every.space, None, static=every.static)
    assert made.columns["algorithm"].tolist() == ["share"] * 3 + ["walk"] * 2
    np.testing.assert_allclose(made.hparams.share_learning_rate[:3], [0.2, 0.5, 0.8], rtol=1e-6)
    np.testing.assert_allclose(made.hparams.walk_pace[3:], [0.1, 0.2], rtol=1e-6)


def test_a_population_has_one_algorithm():
    with pytest.raises(TypeError, match=r"'share_learning_rate'.* depends on 'algorithm', and only a search"):
        pbt.pbt(
            jax.random.key(0), EVERY.agent, ENV, EVERY.hparams, EVERY.space, population_size=4, num_rounds=2,
            updates_per_round=1, num_envs=2, rollout_length=4,
        )  # fmt: skip


def test_pictures_and_the_report_show_the_algorithms(result, tmp_path):
    for draw in (plots.learning_curves, plots.ranking, plots.sweep_figure):
        labels = [text.get_text() for text in draw(result).legends[0].get_texts()]
        assert {"a trial of share", "a trial of walk"} <= set(labels)
    panels = plots.parameters(result).axes
    paces = next(axes for axes in panels if axes.get_xlabel() == "walk pace")
    assert len(paces.lines[0].get_xdata()) == 4  # of the trials of its algorithm only
    page = reports.write_html(result, tmp_path / "report.html").read_text()
    assert "<h2>Algorithms</h2>" in page
    assert "median_return" in page


def test_algorithms_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ValueError, match=r"walk: space\['paces'\].*pace"):
        sweep.algorithms({"walk": WALK._replace(space={"paces": 0.1})})
    with pytest.raises(ValueError, match=r"Hparams\.walk_pace = 2\.0 is outside"):
        sweep.sample(jax.random.key(0), EVERY.hparams, {"walk_pace": 2.0}, 2)
    with pytest.raises(ValueError, match="num_envs"):
        sweep.algorithms({"walk": WALK._replace(num_envs=0)})
    with pytest.raises(ValueError, match="no algorithms"):
        sweep.algorithms({})
    inner, outer = (WALK._replace(hparams=NamedTuple("Own", [(n, float)])(0.1), space={}) for n in ("c", "b_c"))
    with pytest.raises(ValueError, match="two algorithms have a hyperparameter a_b_c"):
        sweep.algorithms({"a_b": inner, "a": outer})


def test_the_same_choices_make_the_same_agent():
    assert EVERY.agent(algorithm="walk") == EVERY.agent(algorithm="walk")
    with pytest.raises(TypeError, match="static choices size"):
        EVERY.agent(algorithm="walk", size=3)


def test_the_rungs_of_the_example_end_after_the_same_steps(monkeypatch):
    """Those of `examples/which_algorithm.py`: PPO, DQN and PQN, whose updates are of 512, 100 and 2,048 steps."""
    asked = {}

    def search(key, agent, env, hparams, space, **options):
        asked.update(options, agent=agent, env=env)
        raise Cut

    monkeypatch.setattr(sweep, "search", search)
    with pytest.raises(Cut):
        runpy.run_path(str(EXAMPLE))["main"]()
    sizes = {name: asked[name] for name in ("agent", "env", "num_envs", "rollout_length")}
    base = Program(**sizes, rollout=None, eval_episodes=16, eval_max_steps=500)
    found = [with_choices(base, {"algorithm": name}) for name in asked["static"]["algorithm"].values]
    brackets = asked["schedule"](asked["num_trials"], asked["num_updates"])
    planned = plan.make(brackets, found, base.update_steps, asked["num_trials"], 20)
    for rung in range(len(planned.brackets[0])):
        stage = planned.stage(0, rung)
        made = [sum(chunks) * program.update_steps for chunks, program in zip(stage.chunks, found)]
        assert max(made) <= 1.02 * min(made)


def test_conditions_within_an_algorithm_are_kept():
    space = {"pace": sweep.uniform(0.0, 0.2)}
    nested = SHARE._replace(
        space={"spread": sweep.choice([1, 2]), "target": sweep.when("spread", [2], sweep.uniform(0, 1))}
    )
    every = sweep.algorithms({"share": nested, "walk": WALK._replace(space=space)})
    assert every.space["share_target"].parent == "share_spread"
    assert every.space["share_spread"].parent == "algorithm"
    assert algorithms.owner("share_target", ("share", "walk")) == "share"


def test_a_condition_within_an_algorithm_holds_in_its_own_trials_only():
    """The default of the name that it depends on, 1, meets it in the trials of the other algorithm too."""
    nested = {"spread": sweep.choice([1, 2]), "target": sweep.when("spread", [1], sweep.choice([0.2, 0.4, 0.6]))}
    walk = WALK._replace(space={"pace": sweep.choice([0.1, 0.2])})
    every = sweep.algorithms({"share": SHARE._replace(space=nested), "walk": walk})
    made = trials.make(jax.random.key(0), every.hparams, every.space, None, static=every.static)
    assert made.columns["algorithm"].tolist() == ["share"] * 4 + ["walk"] * 2
    np.testing.assert_allclose(made.hparams.share_target[4:], every.hparams.share_target)

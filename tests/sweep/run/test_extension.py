"""Trials and seeds that are added to a finished search."""

import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandits import Hparams, make_agent, make_env
from cutting import Cut, cut_after
from searches import make_search

from purerl import sweep
from purerl.sweep.run import extension, journal
from purerl.sweep.run.programs import Program
from purerl.types import Agent

ENV, AGENT = make_env(), make_agent()
SPACE = {"learning_rate": sweep.log_uniform(1e-2, 1.0), "target": sweep.uniform(-1.0, 1.0)}
OPTIONS = {
    "num_updates": 8, "num_envs": 3, "rollout_length": 4, "eval_episodes": 4, "eval_max_steps": 4, "num_trials": 6,
    "num_seeds": 2, "num_chunks": 4, "block_size": 2, "keep": 2, "confirm": 1, "confirm_seeds": 2,
}  # fmt: skip
LARGE = {"num_trials": 9, "num_seeds": 3}
HALVING = {
    "schedule": sweep.successive_halving(eta=2, num_rungs=2), "num_trials": 4, "num_chunks": 2, "block_size": 4,
    "confirm": 0,
}  # fmt: skip
GROWN_HALVING = HALVING | {"num_trials": 6, "num_seeds": 3}


def run(directory=None, **changes):
    return sweep.search(
        jax.random.key(5), AGENT, ENV, Hparams(), SPACE, **OPTIONS | changes, directory=directory,
        resume=directory is not None and journal.exists(directory),
    )  # fmt: skip


@pytest.fixture(scope="module")
def large():
    return run(**LARGE)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("small") / "search"
    run(directory)
    return directory


@pytest.fixture
def small(finished, tmp_path):
    """A directory of its own with the finished search of 6 trials x 2 seeds."""
    return shutil.copytree(finished, tmp_path / "search")


def check_same(result, expected):
    for name in ("returns", "curves", "rung_returns", "num_updates", "scores", "fresh_trials", "fresh_returns"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
    assert result.order.tolist() == expected.order.tolist()
    np.testing.assert_array_equal(result.interval, expected.interval)


def test_a_search_that_has_grown_is_the_larger_search(large, small):
    """First trials, then seeds, then both are there from the beginning: the same bits, since blocks are as wide."""
    events = []
    more_trials = run(small, num_trials=9, progress=events.append)
    np.testing.assert_array_equal(more_trials.returns, large.returns[:, :2])
    assert "6 trials and 3 more" in events[0].note
    assert sum(event.phase == "evaluate" for event in events) == 3 + 1  # of the added trials, and of the confirmed one
    grown = run(small, **LARGE)
    check_same(grown, large)
    assert grown.best.state is not None
    np.testing.assert_array_equal(grown.best.state.theta, large.select(1, grown.best.seed).state.theta)
    loaded = sweep.load(small, AGENT, ENV, Hparams())
    check_same(loaded, large)
    assert loaded.kept.tolist() == grown.kept.tolist()
    assert not (small / "blocks").exists()
    silent = []
    check_same(run(small, **LARGE, progress=silent.append), large)
    assert not silent


def test_a_search_that_is_killed_while_it_grows_resumes(large, small):
    """Once among the added trials, and once more among the added seeds."""
    for number in (3, 22):
        with pytest.raises(Cut):
            run(small, **LARGE, progress=cut_after(number))
        so_far = sweep.load_unfinished(small)
        assert (so_far.num_updates > 0).sum() >= 6
        assert so_far.num_trials == 9
        among_seeds = any(str(event.get("name")).startswith("seeds2-") for event in journal.read(small))
        assert among_seeds == (number == 22)
    check_same(run(small, **LARGE), large)


def test_the_plan_of_added_trials_is_a_bracket_of_their_own():
    """4 trials halved by 2, and then 2 more; together 6 trials would be [6, 3]."""
    program = Program(AGENT, ENV, num_envs=3, rollout_length=4, rollout=None, eval_episodes=4, eval_max_steps=4)
    schedule = sweep.successive_halving(eta=2, num_rungs=2)
    plan = extension.make_plan(schedule, extension.Sizes((4, 2), (1,), (8,)), [program], program.update_steps, 2)
    assert [[tuple(rung) for rung in bracket] for bracket in plan.brackets] == [[(4, 4), (2, 8)], [(2, 4), (1, 8)]]


def test_added_trials_are_halved_among_themselves_and_ranked_with_the_others(tmp_path):
    first = run(tmp_path, **HALVING)
    grown = run(tmp_path, **GROWN_HALVING)
    assert grown.num_updates.tolist() == [*first.num_updates.tolist(), *grown.num_updates[4:].tolist()]
    assert sorted(grown.num_updates[4:].tolist()) == [4, 8]
    np.testing.assert_array_equal(grown.returns[:4, :2], first.returns)
    assert not np.isnan(grown.returns).any()
    stopped = grown.num_updates == 4
    assert np.isnan(grown.curves[stopped, :, -1]).all()  # the added seeds are stopped with the first ones
    again = run(tmp_path, **GROWN_HALVING, replay=grown.best.number)
    np.testing.assert_array_equal(again.returns[grown.best.number], grown.returns[grown.best.number])


def test_a_budget_that_is_spent_among_added_seeds_leaves_the_result_of_the_first(small):
    first = sweep.load(small)
    stopped = run(small, num_seeds=3, max_steps=2 * 6 * 96 + 2 * 96 + 1)
    assert stopped.num_seeds == 2
    np.testing.assert_array_equal(stopped.returns, first.returns)
    assert run(small, num_seeds=3).num_seeds == 3


LONG = {"num_updates": 16, "num_chunks": 8}  # chunks of two updates, as in 8 updates with 4 chunks


def test_a_search_that_is_made_longer_is_the_longer_search(tmp_path):
    """With the states of all trials they all go on, and the result is that of 16 updates from the beginning."""
    everyone = {"keep": None, "confirm": 0}
    uncut = run(**everyone, **LONG)
    run(tmp_path, **everyone)
    events = []
    longer = run(tmp_path, **everyone, num_updates=16, progress=events.append)
    assert "8 updates and 8 more of the best 6 trials" in events[0].note
    for name in ("returns", "curves", "num_updates", "scores", "steps"):
        np.testing.assert_array_equal(getattr(longer, name), getattr(uncut, name))
    assert longer.order.tolist() == uncut.order.tolist()
    assert [state.theta for state in longer.states] == [state.theta for state in uncut.states]
    assert sweep.load(tmp_path).num_updates.tolist() == [16] * 6
    assert not [path for path in (tmp_path / "kept").iterdir() if "rung0" in path.name]
    silent = []
    run(tmp_path, **everyone, num_updates=16, progress=silent.append)
    assert not silent


def test_the_kept_trials_go_on_and_rank_before_the_others(small):
    before = sweep.load(small)
    longer = run(small, num_updates=16)
    assert sorted(np.flatnonzero(longer.num_updates == 16)) == sorted(before.search_order[:2])
    assert set(longer.search_order[:2]) == set(before.search_order[:2])
    np.testing.assert_array_equal(longer.rung_returns[0], before.returns)
    uncut = run(**LONG, confirm=6)  # the trial that was trained again was trained again for all 16 updates
    (trial,) = longer.fresh_trials
    np.testing.assert_array_equal(longer.fresh_returns[0], uncut.fresh_returns[trial])


def test_a_search_that_is_killed_while_it_is_made_longer_resumes_and_grows_again(small, tmp_path):
    other = shutil.copytree(small, tmp_path / "other")
    expected = run(other, num_updates=16)
    for number in (2, 7):
        with pytest.raises(Cut):
            run(small, num_updates=16, progress=cut_after(number))
    assert sweep.load_unfinished(small).num_updates.max() >= 8
    check_same(run(small, num_updates=16), expected)
    again = run(small, num_updates=20)
    assert sorted(again.num_updates)[-2:] == [20, 20]
    seeds = run(small, num_updates=20, num_seeds=3)
    np.testing.assert_array_equal(seeds.returns[:, :2], again.returns)
    assert seeds.num_updates.tolist() == again.num_updates.tolist()
    assert not np.isnan(seeds.returns).any()
    best = seeds.best.number
    replayed = run(small, num_updates=20, num_seeds=3, replay=best)
    np.testing.assert_array_equal(replayed.returns[best], seeds.returns[best])


class Annealed(NamedTuple):
    anneal_updates: float = 8.0


class Place(NamedTuple):
    theta: jax.Array
    num_updates: jax.Array
    hparams: Annealed


def make_annealed():
    """θ grows by 1 - n / anneal_updates in update n, but not below 0."""

    def init(key, hparams, example, num_envs=1):
        return Place(jnp.float32(0), jnp.int32(0), hparams)

    def act(key, state, obs):
        return state.theta, ()

    def update(key, state, data):
        pace = jnp.maximum(0, 1 - state.num_updates / state.hparams.anneal_updates)
        return state._replace(theta=state.theta + pace, num_updates=state.num_updates + 1), {}

    return Agent(init, act, update)


def test_learning_rates_that_have_reached_0_are_annealed_to_the_new_end(tmp_path):
    """Over 8 updates Σ 1 - n / 8 = 4.5, and further Σ 1 - n / 16 = 2.25; over 16 of 32 it is 12.25 all the time."""
    sizes = OPTIONS | {"num_trials": None, "num_seeds": 1, "confirm": 0, "keep": None}
    table = Annealed(np.array([8.0, 32.0]))
    for resume, num_updates, places in ((False, 8, [4.5, 7.125]), (True, 16, [6.75, 12.25])):
        sizes |= {"directory": tmp_path, "resume": resume, "num_updates": num_updates}
        result = sweep.search(jax.random.key(5), make_annealed(), ENV, table, **sizes)
        np.testing.assert_allclose([state.theta for state in result.states], places, rtol=1e-6)
        assert result.hparams.anneal_updates.tolist() == [8, 32]


def test_a_trial_that_was_stopped_is_replayed_no_further(tmp_path):
    whole = run(tmp_path, **HALVING)
    stopped = int(np.argmin(whole.num_updates))
    again = run(tmp_path, **HALVING, replay=stopped)
    assert again.num_updates[stopped] == 4
    np.testing.assert_array_equal(again.returns[stopped], whole.returns[stopped])


def test_the_survivors_of_halving_train_further(tmp_path):
    first = run(tmp_path, **HALVING)
    longer = run(tmp_path, **HALVING, num_updates=12)
    assert longer.num_updates.tolist() == [12 if count == 8 else 4 for count in first.num_updates]
    assert longer.settings["brackets"] == (((4, 4), (2, 8), (2, 12)),)


def test_trials_that_diverged_train_no_further(tmp_path):
    table = Hparams(np.full(4, 0.5), np.array([0.3, 1e38, 0.2, 5.0]), np.ones(4, int))  # the square of 1e38 is infinite
    sizes = OPTIONS | {"num_trials": None, "keep": None, "confirm": 0, "directory": tmp_path}
    for num_updates in (8, 16):
        sizes |= {"num_updates": num_updates, "resume": num_updates == 16}
        result = sweep.search(jax.random.key(5), AGENT, ENV, table, **sizes)
    assert result.num_updates.tolist() == [16, 8, 16, 16]


def test_a_search_is_made_longer_only_when_it_has_finished_and_by_updates_alone(small, tmp_path):
    with pytest.raises(Cut):
        run(tmp_path / "cut", progress=cut_after(3))
    with pytest.raises(ValueError, match="begun with num_updates = 8, not 16, and can be made longer when"):
        run(tmp_path / "cut", num_updates=16)
    with pytest.raises(ValueError, match="a search of 8 updates, and num_updates = 7 is less"):
        run(small, num_updates=7)
    with pytest.raises(ValueError, match="cannot be added at once"):
        run(small, num_updates=16, num_trials=7)
    run(small, num_updates=10)
    with pytest.raises(ValueError, match="made longer, so no trials can be added"):
        run(small, num_updates=10, num_trials=7)


def test_a_search_neither_shrinks_nor_takes_other_trials(small):
    with pytest.raises(ValueError, match="a search of 6 trials, and num_trials = 5 is less"):
        run(small, num_trials=5)
    with pytest.raises(ValueError, match="a search of 2 seeds, and num_seeds = 1 is less"):
        run(small, num_seeds=1)
    with pytest.raises(ValueError, match="begun with another hyperparameter"):
        run(small, num_trials=9, method="sobol")
    run(small, num_trials=9)
    with pytest.raises(ValueError, match="asha drops"):
        run(small, num_trials=10, schedule=sweep.asha(eta=2, num_rungs=2))


def test_trials_that_were_added_are_not_exchanged(tmp_path):
    trials, key = make_search(9).trials, jax.random.key(0)
    hparams = jax.tree.map(lambda x: np.where(np.arange(9) == 8, 2 * x, x), trials.hparams)
    with journal.opened(tmp_path, resume=False) as log:
        assert not extension.record(log, extension.Sizes((6, 3), (2,), (8,)), trials, key)
        with pytest.raises(ValueError, match="holds other trials"):
            extension.record(log, extension.Sizes((6, 3), (2,), (8,)), trials._replace(hparams=hparams), key)


def test_groups_keep_their_numbers_when_trials_are_added():
    static = {"num_envs": sweep.choice([1, 2, 4])}
    small, big = (
        sweep.search(
            jax.random.key(1), AGENT, ENV, Hparams(), SPACE, **{**OPTIONS, "num_trials": count, "num_seeds": 1},
            static=static, max_steps=0,
        ).trials
        for count in (2, 12)
    )  # fmt: skip
    assert big.groups[: len(small.groups)] == small.groups
    assert big.group[:2].tolist() == small.group.tolist()
    assert len(big.groups) == 3

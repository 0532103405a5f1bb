"""What a search loses when it is killed, fails, or is moved; when it stops early; and where it evaluates."""

import json
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandits import Hparams, make_agent, make_env
from cutting import Cut, cut_after

from purerl import sweep
from purerl.sweep.results.objectives import Evidence
from purerl.sweep.results.rules import Rules
from purerl.sweep.results.skips import Skips
from purerl.sweep.run import brackets, journal, measurements, plan, programs, training
from purerl.sweep.run.budget import Budget
from purerl.sweep.run.programs import Program
from purerl.sweep.run.rungs import Rung
from purerl.sweep.run.unfinished import load_unfinished
from purerl.sweep.trials.members import MemberIndex


def update(key, state, data):
    """That of the bandits' agent; it says that steps from a positive θ were skipped."""
    moved, _ = make_agent().update(key, state, data)
    return moved, {"loss/skipped": jnp.float32(state.theta > 0)}


ENV, AGENT = make_env(), make_agent()._replace(update=update)
SPACE = {"learning_rate": sweep.log_uniform(1e-2, 1.0), "target": sweep.uniform(-1.0, 1.0)}
SIZES = {"num_updates": 8, "num_envs": 3, "rollout_length": 4, "eval_episodes": 4, "eval_max_steps": 4}
OPTIONS = {"num_trials": 6, "num_seeds": 2, "num_chunks": 4, "block_size": 4, "keep": 1}
KEY = jax.random.key(5)


def run(directory=None, space=SPACE, hparams=Hparams(), agent=AGENT, env=ENV, **changes):  # noqa: B008
    return sweep.search(KEY, agent, env, hparams, space, **SIZES | OPTIONS | changes, directory=directory)


@pytest.fixture(scope="module")
def whole():
    return run()


def check_same(result, whole):
    for name in ("returns", "curves", "rung_returns", "num_updates", "scores", "skipped", "skipped_after"):
        np.testing.assert_array_equal(getattr(result, name), getattr(whole, name))


def test_a_search_counts_skipped_updates_and_the_steps_before_the_first(whole):
    """θ moves from its start towards the target: its sign changes once, if at all."""
    count, after = whole.skips
    rises = whole.hparams.target > 0
    assert np.unique(count).size > 2
    for trial, seed in zip(*np.nonzero(count)):
        expected = (8 - count[trial, seed]) * 12 if rises[trial] else 0
        assert after[trial, seed] == expected
    assert np.isnan(after[count == 0]).all()


@pytest.mark.parametrize("auto", [False, True])
def test_skipped_updates_on_fresh_seeds_are_those_of_their_trials(auto, tmp_path):
    """As above: θ of a fresh seed moves towards the target of the trial that was trained again, and of no other."""
    seeds = {"num_seeds": "auto"} if auto else {}
    found = run(tmp_path, confirm=3, confirm_seeds=6, block_size=9, **seeds)
    count, after = found.fresh_skips
    rises = found.hparams.target[found.fresh_trials] > 0
    trained = np.arange(count.shape[1]) < found.num_fresh[:, None]
    assert (count[~rises] < 8).any() or rises.all()
    np.testing.assert_array_equal(count[~trained], 0)
    np.testing.assert_array_equal(np.isnan(after), count == 0)
    assert count.any()
    for place, seed in np.argwhere(count).tolist():
        assert after[place, seed] == ((8 - count[place, seed]) * 12 if rises[place] else 0)
    columns = {row["trial"]: (row["fresh_skipped"], row["fresh_skipped_after"]) for row in found.rows()}
    for place, trial in enumerate(found.fresh_trials.tolist()):
        np.testing.assert_equal(columns[trial], (count[place].sum(), np.fmin.reduce(after[place], initial=np.nan)))
    loaded = sweep.load(tmp_path)
    np.testing.assert_array_equal(loaded.fresh_skips, found.fresh_skips)


# --- Killed -----------------------------------------------------------------------------------------------------------


def test_a_killed_search_loses_no_more_than_the_time_between_two_saves(whole, tmp_path):
    """Cut after three of the four chunks of the second block: the resumed search trains only the fourth."""
    with pytest.raises(Cut):
        run(tmp_path, progress=cut_after(2 + 5 + 3), save_seconds=0.0)
    events = []
    result = run(tmp_path, resume=True, progress=events.append)
    check_same(result, whole)
    trained = [event for event in events if event.phase == "train"]
    assert len(trained) <= 2 + 4  # what the cut had not saved of the second block, and the third


def test_without_saving_in_between_a_killed_search_trains_its_block_again(whole, tmp_path):
    with pytest.raises(Cut):
        run(tmp_path, progress=cut_after(2 + 5 + 3), save_seconds=1e9)
    events = []
    check_same(run(tmp_path, resume=True, progress=events.append), whole)
    assert sum(event.phase == "train" for event in events) == 8


def test_pieces_of_a_chunk_change_no_bit(whole, monkeypatch, tmp_path):
    """Chunks of two updates, cut into pieces of one and saved after each."""
    monkeypatch.setattr(training, "_FIRST_PIECE", {"cpu": 1})
    saved = []
    save = training.Partial
    monkeypatch.setattr(training, "Partial", lambda *args: saved.append(args) or save(*args))
    result = run(tmp_path, save_seconds=0.0, num_trials=2)
    np.testing.assert_array_equal(result.returns, whole.returns[:2])
    np.testing.assert_array_equal(result.curves, whole.curves[:2])
    np.testing.assert_array_equal(result.skips, whole.skips.at(slice(2)))
    assert len(saved) == 8


def test_the_length_of_pieces_follows_the_clock_in_powers_of_two():
    assert training._piece(100, 4, np.inf, 60.0) == 4
    assert training._piece(100, 4, 1.0, 60.0) == 16
    assert training._piece(10, 4, 1.0, 60.0) == 10
    assert training._piece(100, 4, np.inf, np.inf) == 100


def test_the_states_on_the_disk_are_bounded(tmp_path):
    """A full search of 24 agents in 6 blocks, which keeps the best trial, holds few blocks at a time."""
    most = []

    def count(_):
        most.append(len(list((tmp_path / "blocks").glob("*"))) if (tmp_path / "blocks").exists() else 0)

    run(tmp_path, num_trials=12, progress=count)
    assert max(most) <= 3


def test_a_search_that_is_not_finished_can_be_read(whole, tmp_path):
    with pytest.raises(Cut):
        run(tmp_path, progress=cut_after(2 + 5 + 3))
    so_far = load_unfinished(tmp_path)
    done = so_far.num_updates > 0
    assert done.tolist() == [True, True, False, False, False, False]
    np.testing.assert_array_equal(so_far.returns[done], whole.returns[done])
    np.testing.assert_array_equal(so_far.skipped_after[done], whole.skipped_after[done])
    assert [row["trial"] for row in so_far.rows()] == [t for t in whole.order.tolist() if t < 2]
    assert "not finished" in sweep.table(so_far).caption


def test_the_best_of_an_asynchronous_search_is_kept_although_none_was_trained_to_the_end(tmp_path):
    """Of six trials one in four is promoted, so one reaches the second of three rungs, and none the last."""
    found = run(tmp_path, schedule=sweep.asha(eta=4, num_rungs=3), num_updates=32)
    assert found.num_updates.max() < 32
    assert found.num_updates[found.order[0]] == found.num_updates.max()
    assert found.best.state is not None
    assert set(found.member_index.decode(found.kept)[0].tolist()) == {found.best.number}
    again = run(tmp_path, resume=True, schedule=sweep.asha(eta=4, num_rungs=3), num_updates=32)
    jax.tree.map(np.testing.assert_array_equal, again.best.state, found.best.state)


# --- Failed, and moved ------------------------------------------------------------------------------------------------


def failing(monkeypatch, fails):
    """Let the training of a block fail if `fails(states)`."""
    advance = programs.advance

    def broken(program, states, num_updates):
        if fails(states):
            raise MemoryError("no memory for this")
        return advance(program, states, num_updates)

    monkeypatch.setattr(programs, "advance", broken)


def test_a_block_that_fails_is_tried_narrower(whole, monkeypatch, tmp_path):
    failing(monkeypatch, lambda states: states.agent_state.theta.size > 2)
    result = run(tmp_path)
    np.testing.assert_allclose(result.returns, whole.returns, rtol=1e-5)
    splits = [line for line in (tmp_path / "journal").read_text().splitlines() if '"kind":"split"' in line]
    assert len(splits) == 3


def test_a_member_that_fails_alone_is_given_up_and_the_search_ends(whole, monkeypatch):
    lost = whole.hparams.target[1]
    failing(monkeypatch, lambda states: np.isin(lost, np.asarray(states.agent_state.hparams.target)))
    result = run()
    assert result.diverged.any(axis=1).tolist() == [False, True, False, False, False, False]
    assert result.order[-1] == 1
    assert set(result.settings["failed"].values()) == {"no memory for this"}


def test_a_search_continues_on_a_machine_with_less_memory(whole, tmp_path):
    with pytest.raises(Cut):
        run(tmp_path, progress=cut_after(2 + 5 + 3))
    lines = [json.loads(line.split(" ", 1)[1]) for line in (tmp_path / "journal").read_text().splitlines()]
    (width,) = [line for line in lines if line["kind"] == "width"]
    events = []
    result = run(tmp_path, resume=True, memory_limit=width["bytes"] - 1, progress=events.append)
    np.testing.assert_allclose(result.returns, whole.returns, rtol=1e-5)
    np.testing.assert_array_equal(result.returns[:2], whole.returns[:2])
    assert any("less memory, at width" in event.note for event in events)
    splits = [event["width"] for event in journal.read(tmp_path) if event["kind"] == "split"]
    assert len(splits) == 2  # the second and the third block
    assert max(splits) < 4


# --- Enough -----------------------------------------------------------------------------------------------------------


def test_a_search_stops_when_it_has_found_what_is_good_enough(whole, tmp_path):
    """The first block holds trials 0 and 1; the better one of them is good enough."""
    level = whole.iqm[:2].max()
    events = []
    result = run(tmp_path, until=level, progress=events.append)
    assert (result.num_updates > 0).sum() == 2
    assert result.best.iqm == level
    assert result.best.state is not None
    assert "reached a return" in result.settings["stopped"]
    further = run(tmp_path, resume=True)
    check_same(further, whole)


def test_a_minimised_objective_is_good_enough_from_above():
    result = run(objective=sweep.of_curve(lambda y, x: float(-y[-1]), "cost", maximize=False), until=0.0)
    assert (result.num_updates > 0).sum() == 2
    assert result.rows()[0]["cost"] == min(row["cost"] for row in result.rows()) <= 0


@pytest.mark.parametrize("budget", [{"max_steps": 500}, {"max_seconds": 0.0}])
def test_a_search_stops_when_its_budget_is_spent(budget, tmp_path):
    result = run(tmp_path, **budget)
    assert "the budget was" in result.settings["stopped"]
    assert (result.num_updates > 0).sum() == (2 if "max_steps" in budget else 0)


# --- Which environment ------------------------------------------------------------------------------------------------


class Params(NamedTuple):
    bonus: float = 0.0


def paying():
    """The bandits' environment, with a bonus on every reward."""

    def step(key, env_state, action, env_params=None):
        out = ENV.step(key, env_state, action)
        return out._replace(reward=out.reward + (0.0 if env_params is None else env_params.bonus))

    return ENV._replace(step=step)


JUDGED = {
    "num_trials": None, "env_params": Params(), "env": paying(), "num_seeds": 1,
    "space": {"target": sweep.choice([0.3, 5.0]), "env.bonus": sweep.choice([-1.0, 1000.0])},
}  # fmt: skip
GRID = sweep.env_grid(Params(), {"bonus": sweep.choice([0.0, 100.0])})


def test_the_easiest_environment_does_not_win():
    result = run(**JUDGED)
    assert result.best.settings["target"] == pytest.approx(0.3)
    np.testing.assert_array_equal(result.returns[0], result.returns[1])


def test_trials_are_judged_in_their_own_environments_if_asked():
    assert run(**JUDGED, evaluate_in="own").best.settings["env.bonus"] == 1000.0


def test_a_grid_of_environments_has_as_many_episodes_in_each():
    returns = run(**JUDGED, evaluate_in=GRID).returns
    np.testing.assert_allclose(returns[:, :, 2:] - returns[:, :, :2], 400.0, rtol=1e-3)
    with pytest.raises(ValueError, match="eval_episodes = 3 must be a multiple of the 2 environments"):
        run(**JUDGED | {"eval_episodes": 3}, evaluate_in=GRID)


# --- The best, again --------------------------------------------------------------------------------------------------


def lucky():
    """An agent whose action is its first θ₀ in every training: trials differ in luck alone, and seeds in theirs."""

    def init(key, hparams, example, num_envs=1):
        state = AGENT.init(key, hparams, example)
        luck = jax.random.fold_in(key, (100 * hparams.target).astype(jnp.int32))
        theta = 0.3 + 0.4 * jax.random.normal(luck)
        return state._replace(theta=jnp.where(hparams.learning_rate == 0.25, jnp.nan, theta))

    return AGENT._replace(init=init, update=lambda key, state, data: (state, {}))


@pytest.fixture(scope="module")
def confirmed():
    space = {"target": sweep.uniform(0.0, 100.0)}
    return run(agent=lucky(), space=space, confirm=4, confirm_seeds=6)


def test_the_best_follows_the_confirmed_returns(confirmed):
    fresh = confirmed.confirmed
    first = confirmed.order[:4]
    assert set(first.tolist()) == set(confirmed.search_order[:4].tolist())
    assert (np.diff(fresh[first]) <= 0).all()
    assert confirmed.order.tolist() != confirmed.search_order.tolist()
    assert confirmed.best.number == np.nanargmax(fresh)
    assert all(confirmed.select(rank).state is not None for rank in range(1, 5))


def test_fresh_seeds_and_episodes_are_others_than_those_of_the_search(confirmed):
    assert not np.isin(confirmed.fresh_returns, confirmed.returns).any()
    assert len(np.unique(confirmed.fresh_returns[0].mean(axis=1))) == 6


def test_fresh_returns_are_those_of_their_trials():
    """θ is the target after the first update, so the returns are known up to the episodes' goals."""
    table = Hparams(np.full(3, 1.0), np.array([0.9, 5.0, 0.3]), np.full(3, 1))
    result = run(space=None, hparams=table, num_trials=None, confirm=2, confirm_seeds=2)
    assert result.fresh_trials.tolist() == [0, 2]
    far, near = result.fresh_returns.mean(axis=(1, 2))
    assert near > 3.8
    assert far == pytest.approx(4 * (1 - 0.6**2), abs=0.5)


def test_both_returns_of_the_best_are_shown(confirmed):
    best, row = confirmed.best, confirmed.rows()[0]
    assert (row["return"], row["fresh_return"]) == (best.iqm, best.fresh_iqm)
    assert best.iqm != best.fresh_iqm


def test_a_nan_among_the_fresh_seeds_is_said_and_ends_nothing(confirmed):
    fresh = confirmed.fresh_returns.copy()
    place = confirmed.fresh_trials.tolist().index(confirmed.best.number)
    fresh[place, 2] = np.nan
    result = sweep.Result(**{**vars(confirmed), "fresh_returns": fresh})
    assert result.best.number != confirmed.best.number
    assert result.order[-1] == confirmed.best.number
    row = result.rows()[-1]
    assert row["fresh_diverged"] == 1
    assert np.isfinite(row["fresh_return"])
    assert "Trials that were trained again" in sweep.table(result).caption


@pytest.mark.parametrize("count", [-1, 1.5, True])
def test_a_senseless_number_of_trials_to_confirm_is_refused(count):
    with pytest.raises(ValueError, match="confirm = "):
        run(confirm=count)


def test_seeds_are_spent_where_the_best_is_undecided():
    """Two trials near the goal and four far from it: only the two get fresh seeds."""
    table = Hparams(np.full(6, 0.3), np.array([0.3, 0.31, 5, 6, 7, 8]), np.full(6, 9))
    result = run(space=None, hparams=table, num_trials=None, num_seeds="auto", confirm_seeds=8)
    assert result.num_seeds == 3
    assert result.fresh_trials.tolist() == [0, 1]
    assert result.num_fresh.max() <= 8
    assert set(result.order[:2].tolist()) == {0, 1}


def test_a_trial_can_be_replayed_bit_for_bit(tmp_path):
    """Its rungs had blocks of different widths, which are those of the replay."""
    schedule = sweep.successive_halving(eta=2, num_rungs=2)
    whole = run(tmp_path, schedule=schedule)
    best = whole.best.number
    again = run(tmp_path, schedule=schedule, resume=True, replay=best)
    assert np.flatnonzero(again.num_updates).tolist() == [best]
    np.testing.assert_array_equal(again.rung_returns[:, best], whole.rung_returns[:, best])
    np.testing.assert_array_equal(again.curves[best], whole.curves[best])
    jax.tree.map(np.testing.assert_array_equal, again.best.state, whole.best.state)


def test_trials_that_are_decided_take_no_further_seeds(monkeypatch):
    """Of three trials that the search cannot tell apart one falls behind in the first round of fresh seeds."""
    returns = np.array([[1.0, 3.0], [1.1, 3.1], [0.9, 2.9]])[..., None]
    measured = SimpleNamespace(
        num_updates=np.full(3, 8),
        evidence=lambda trials=slice(None): Evidence(
            returns[trials], np.zeros((3, 2, 1))[trials], np.array([8]), np.ones((3, 2))[trials]
        ),
    )
    engine = SimpleNamespace(
        rules=Rules(sweep.final_return()), measured=measured, programs=[SimpleNamespace(eval_episodes=1)],
        budget=Budget(),
    )  # fmt: skip

    def train_again(engine, plan, key, fresh, trials, seeds, name):
        rows = np.isin(fresh.trials, trials)
        noise = np.random.default_rng(seeds.stop).normal(size=(3, 4))[rows]
        fresh.scores[rows, seeds] = np.array([2.0, 2.0, -50.0])[rows, None] + noise
        fresh.counts[rows] = seeds.stop

    monkeypatch.setattr(brackets, "_train_again", train_again)
    fresh = brackets.decide(engine, SimpleNamespace(num_updates=8), KEY, 0, 12)
    assert fresh.trials.tolist() == [0, 1, 2]
    assert fresh.counts.tolist() == [12, 12, 4]


def test_an_infinite_return_has_diverged():
    """An action of 5 pays an infinite reward: its trial neither wins nor breaks the table."""

    def step(*args):
        out = ENV.step(*args)
        return out._replace(reward=jnp.where(args[2] > 4, jnp.inf, out.reward))

    table = Hparams(np.full(3, 1.0), np.array([0.3, 5.0, 0.9]), np.full(3, 1))
    result = run(space=None, hparams=table, num_trials=None, env=ENV._replace(step=step))
    assert result.order.tolist() == [0, 2, 1]
    assert np.isnan(result.returns[1]).all()
    assert np.isfinite(result.curves[0]).all()
    assert not np.isinf(result.curves).any()
    assert "1 of 3 trials diverged" in sweep.table(result).caption


def test_a_trial_of_which_one_seed_was_measured_has_not_ended():
    planned = plan.make(((Rung(2, 4), Rung(1, 8)),), [Program(AGENT, ENV, 3, 4, None, 2, 4)], 12, 2, 2)
    measured, index = measurements.empty(planned, 2, 2, 2), MemberIndex(2)
    curves = np.zeros((4, len(planned.stage(0, 0).points)))
    measurements.fill(measured, index, planned.stage(0, 0), np.arange(4), curves, np.full((4, 2), 1.0))
    measurements.fill(measured, index, planned.stage(0, 1), np.array([2]), curves[:1], np.full((1, 2), 7.0))
    assert measured.num_updates.tolist() == [4, 4]
    assert (measured.fields()["returns"] == 1.0).all()
    measurements.fill(measured, index, planned.stage(0, 1), np.array([3]), curves[:1], np.full((1, 2), 8.0))
    assert measured.num_updates.tolist() == [4, 8]
    assert measured.fields()["returns"].mean(axis=2).tolist() == [[1, 1], [7, 8]]


def test_skipped_updates_add_up_over_rungs_whose_steps_follow_each_other():
    planned = plan.make(((Rung(2, 4), Rung(2, 8)),), [Program(AGENT, ENV, 3, 4, None, 2, 4)], 12, 2, 2)
    measured, index, members = measurements.empty(planned, 2, 1, 2), MemberIndex(1), np.arange(2)
    curves, returns = np.zeros((2, 1)), np.zeros((2, 2))
    for rung, found in enumerate(
        (Skips(np.array([0, 2]), np.array([np.nan, 24.0])), Skips(np.ones(2, int), np.zeros(2)))
    ):
        measurements.fill(measured, index, planned.stage(0, rung), members, curves, returns, 0.0, found)
    assert measured.fields()["skipped"].tolist() == [[1], [3]]
    assert measured.fields()["skipped_after"].tolist() == [[48], [24]]


def test_episodes_of_an_evaluation_are_cut_at_the_limit_of_the_environment():
    sizes = {"num_trials": 1, "num_seeds": 1, "eval_max_steps": None}
    lengths = [
        run(env=env, max_steps=0, env_params=params, **sizes).settings["eval_max_steps"]
        for env, params in ((ENV._replace(max_steps=1500), None), (ENV, None), (ENV._replace(max_steps=4), Params()))
    ]
    assert lengths == [1500, 1000, 1000]

"""What blocks enter in the table of a search, and what is read off it: budgets, the best, whose bracket it is."""

from types import SimpleNamespace

import numpy as np
import pytest

from purerl import sweep
from purerl.sweep.results.rules import Rules
from purerl.sweep.results.skips import Skips
from purerl.sweep.run import brackets, budget, measurements, plan
from purerl.sweep.run.budget import Budget, Enough
from purerl.sweep.run.programs import Program
from purerl.sweep.run.rungs import Rung
from purerl.sweep.trials.members import MemberIndex

PROGRAM = Program(None, None, 4, 8, None, 2, 4)  # 32 steps an update
PLAN = plan.make(((Rung(2, 2), Rung(2, 4)), (Rung(2, 4),)), [PROGRAM], 32, 4, 2)


def filled(*, curve=0.0, skipped=None):
    """Two trials of one seed after both rungs of the first bracket, in blocks of three that repeat the second trial."""
    measured = measurements.empty(PLAN, 4, 1, 2)
    for rung, seconds in enumerate((6.0, 2.0)):
        stage, members = PLAN.stage(0, rung), np.array([0, 1, 1])
        curves = np.full((3, len(stage.points)), curve, np.float32)
        found = None if skipped is None else Skips(np.full(3, 1), np.full(3, skipped))
        measurements.fill(measured, MemberIndex(1), stage, members, curves, np.ones((3, 2)), seconds, found)
    return measured


def test_agents_share_the_time_of_their_block_and_add_up_that_of_their_rungs():
    assert filled().seconds.tolist() == [[4.0], [4.0], [0.0], [0.0]]


def test_the_first_skipped_update_is_counted_from_the_beginning_of_the_search():
    """32 steps after the beginning of each rung; the first one begins at 0 and has 64."""
    measured = filled(skipped=32.0)
    assert measured.skips.number[:2].tolist() == [[2], [2]]
    assert measured.skips.after[:2].tolist() == [[32.0], [32.0]]
    stage = PLAN.stage(0, 1)
    later = measurements.empty(PLAN, 4, 1, 2)
    found = Skips(np.array([1]), np.array([32.0]))
    curves = np.zeros((1, len(stage.points)))
    measurements.fill(later, MemberIndex(1), stage, np.array([0]), curves, np.ones((1, 2)), 0.0, found)
    assert later.skips.after[0].tolist() == [96.0]


def test_an_infinite_point_of_a_curve_is_missing():
    assert np.isnan(filled(curve=np.inf).curves[0]).all()


def engine(returns, num_updates, **limits):
    """An engine of which only the measurements are there, [P, S] returns of one episode each."""
    returns = np.asarray(returns, np.float64)[..., None]
    measured = measurements.empty(PLAN, len(returns), returns.shape[1], 1)._replace(returns=returns)
    measured.made[:] = np.asarray(num_updates)[:, None]
    index = MemberIndex(returns.shape[1])
    return SimpleNamespace(
        measured=measured, rules=Rules(sweep.final_return()), budget=Budget(**limits), member_index=index,
        monitor=SimpleNamespace(steps=100, seconds=lambda: 5.0), trials=SimpleNamespace(size=len(returns)),
    )  # fmt: skip


def test_a_trial_is_good_enough_when_all_of_its_seeds_have_been_evaluated():
    found = engine([[9.0, 9.0]], [4], until=5.0)
    budget.check_reached(found, np.array([0, 1]), np.array([0]))
    with pytest.raises(Enough, match="trial 0 reached a return of 5"):
        budget.check_reached(found, np.array([0, 1]), np.array([0, 1]))


def test_fewer_steps_than_the_limit_are_good_enough_if_steps_are_minimised():
    """Scores are larger if better, so 20 and 30 steps are -20 and -30."""
    rules = Rules(sweep.steps_to(5))
    assert budget.is_reached(rules, 25.0, np.array([[-20.0], [-30.0]])).tolist() == [True, False]


@pytest.mark.parametrize("limits", [{"max_steps": 100}, {"max_seconds": 5}])
def test_a_budget_is_spent_when_it_is_reached(limits):
    with pytest.raises(Enough, match="the budget was"):
        budget.check_spent(engine([[1.0]], [4], **limits))
    budget.check_spent(engine([[1.0]], [4], **{name: value + 1 for name, value in limits.items()}))


def test_trials_that_were_not_trained_are_not_among_the_best():
    assert brackets.best_trials(engine([[1.0], [np.nan], [2.0]], [4, 0, 4]), None).tolist() == [2, 0]


@pytest.mark.parametrize(("trial", "bracket"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_a_trial_is_replayed_in_its_own_bracket(monkeypatch, trial, bracket):
    names = []
    monkeypatch.setattr(brackets, "_made", lambda engine, stage, member, log: names.append(stage.name))
    brackets.replay(engine([[1.0]] * 4, [4] * 4), PLAN, trial, None)
    assert names == [f"bracket{bracket}-rung0"]

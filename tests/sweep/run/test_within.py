"""A search stops within a block when a trial is good enough at an evaluation between two chunks."""

import jax
import numpy as np
import pytest
from bandits import Hparams, make_agent, make_env

from purerl import sweep
from purerl.sweep.results.comparison import evaluated_after

ENV, AGENT, KEY = make_env(), make_agent(), jax.random.key(5)
TARGETS = [-1.0, -0.8, 0.3, 0.25]  # the goal is near 0.3: the first two trials get worse, the others better
SIZES = {"num_updates": 8, "num_envs": 3, "rollout_length": 4, "eval_episodes": 4, "eval_max_steps": 4}
OPTIONS = {"num_seeds": 2, "num_chunks": 4, "block_size": 4, "keep": 1, "curve": "eval_return"}


def run(directory=None, **changes):
    space = {"target": sweep.choice(TARGETS)}
    hparams = Hparams(learning_rate=0.1)
    return sweep.search(KEY, AGENT, ENV, hparams, space, **SIZES | OPTIONS | changes, directory=directory)


@pytest.fixture(scope="module")
def whole():
    return run()


@pytest.fixture(scope="module")
def level(whole):
    """The mean over the seeds of trial 2 after its second evaluation of four, which is its best so far."""
    points = whole.curves.mean(axis=1, dtype=np.float64)
    assert points[2, 0] < points[2, 1] < points[2, 2]
    assert points[[0, 1, 3], :2].max() < points[2, 1]
    return float(points[2, 1])


def check_ended_within(result, whole):
    """The first block was trained to the end; the second one, of trials 2 and 3, half as far."""
    assert result.num_updates.tolist() == [8, 8, 4, 4]
    np.testing.assert_array_equal(result.curves[:2], whole.curves[:2])
    np.testing.assert_array_equal(result.curves[2:, :, :2], whole.curves[2:, :, :2])
    assert np.isnan(result.curves[2:, :, 2:]).all()
    assert result.settings["stopped"].endswith("after 48 steps")


def test_a_search_ends_within_a_block_and_keeps_the_policy_of_then(whole, level, tmp_path):
    result = run(tmp_path, until=level)
    check_ended_within(result, whole)
    assert (result.best.number, result.best.iqm) == (2, level)
    shorter = run(num_updates=4, num_chunks=2)
    assert result.best.state.theta == shorter.best.state.theta
    assert shorter.best.number == 2


def test_it_is_over_when_resumed_and_goes_on_with_another_limit(whole, level, tmp_path):
    first, phases = run(tmp_path, until=level), []
    again = run(tmp_path, until=level, resume=True, progress=lambda now: phases.append(now.phase))
    check_ended_within(again, whole)
    np.testing.assert_array_equal(again.returns, first.returns)
    assert phases == ["compile"]
    further = run(tmp_path, resume=True)
    for name in ("returns", "curves", "num_updates", "scores"):
        np.testing.assert_array_equal(getattr(further, name), getattr(whole, name))
    assert further.best.state.theta == whole.best.state.theta


def test_the_trial_is_replayed_as_far_as_it_went(level, tmp_path):
    found = run(tmp_path, until=level)
    for trial in (0, 2):
        again = run(tmp_path, until=level, resume=True, replay=trial)
        np.testing.assert_array_equal(again.returns[trial], found.returns[trial])
        assert again.num_updates[trial] == found.num_updates[trial]


def test_the_trial_is_the_one_that_is_trained_again(level):
    result = run(until=level, confirm=1, confirm_seeds=2)
    assert result.fresh_trials.tolist() == [2]
    assert np.isfinite(result.fresh_returns).all()
    assert run(until=level, num_seeds="auto", confirm_seeds=4).best.number == 2


@pytest.mark.parametrize("schedule", [sweep.successive_halving(2, 2), sweep.asha(2, 2), sweep.hyperband(2, 2)])
@pytest.mark.parametrize(("until", "num_updates"), [(3.62, 3), (3.72, 5)])
def test_any_schedule_ends_within_a_rung(schedule, until, num_updates):
    """Chunks of one update, and rungs of four: trial 2 is good enough within the first one, or the second."""
    result = run(schedule=schedule, num_chunks=8, until=until)
    assert (result.num_updates[2], result.score[2] >= until) == (num_updates, True)
    assert (result.best.number, result.best.state is None) == (2, False)


def test_without_evaluations_a_search_ends_after_a_block(level):
    result = run(until=level, curve="episode_return")
    assert result.num_updates.tolist() == [8, 8, 8, 8]


def test_a_trial_whose_seeds_are_in_two_blocks_is_waited_for(level):
    result = run(until=level, block_size=1)
    assert result.num_updates.tolist() == [8, 8, 8, 0]


def test_a_minimised_objective_ends_a_search_within_a_block(whole):
    result = run(objective="steps:3.7", until=60)
    assert result.num_updates.max() == 8
    assert 0 < result.num_updates[2] < 8
    assert result.rows()[0]["trial"] in (2, 3)


def test_trials_that_ended_within_a_rung_were_evaluated_there():
    after = evaluated_after([[(4, 4), (2, 16)]], np.array([3, 4, 9, 0]), 2)
    assert after.tolist() == [[3, 4, 4, 0], [0, 0, 9, 0]]

"""Evaluations and callbacks between the chunks of a search, beside shorter searches of the same agents."""

import jax
import numpy as np
import pytest
from bandits import Hparams, make_agent, make_env

from purerl import plots, sweep

KEY = jax.random.key(7)
SPACE = {"learning_rate": sweep.log_uniform(1e-2, 1.0), "target": sweep.uniform(-1.0, 1.0)}
SIZES = {"num_trials": 3, "num_seeds": 2, "num_envs": 3, "rollout_length": 8, "eval_episodes": 5, "eval_max_steps": 9}
ENV, AGENT = make_env(), make_agent()


def search(num_updates=6, num_chunks=3, **more):
    return sweep.search(
        KEY, AGENT, ENV, Hparams(), SPACE, num_updates=num_updates, num_chunks=num_chunks, **SIZES, **more
    )


@pytest.fixture(scope="module")
def seen():
    return []


@pytest.fixture(scope="module")
def evaluated(seen):
    """Six agents in blocks of four, evaluated after 2, 4 and 6 updates of 24 steps."""
    return search(curve="eval_return", block_size=4, callbacks=[seen.append])


def test_a_point_of_the_curve_is_the_return_of_a_search_that_ends_there(evaluated):
    for place, num_updates in enumerate((2, 4, 6)):
        shorter = search(num_updates, 1, block_size=4)
        np.testing.assert_allclose(evaluated.curves[..., place], shorter.seed_returns, rtol=1e-6)


def test_evaluations_leave_training_as_it_is(evaluated):
    np.testing.assert_array_equal(evaluated.returns, search(block_size=4).returns)


def test_callbacks_see_every_point_of_every_agent_once(evaluated, seen):
    points = {
        (trial, seed, chunk.num_steps): value
        for chunk in seen
        for trial, seed, value in zip(chunk.trials.tolist(), chunk.seeds.tolist(), chunk.curve.tolist())
    }
    assert len(points) == sum(len(chunk.trials) for chunk in seen) == evaluated.curves.size
    for (trial, seed, steps), value in points.items():
        assert value == evaluated.curves[trial, seed, evaluated.steps.tolist().index(steps)]


def test_steps_are_counted_from_the_first_rung():
    seen = []
    schedule = sweep.successive_halving(eta=3, num_rungs=2)
    search(num_updates=6, num_chunks=3, schedule=schedule, callbacks=[lambda chunk: seen.append(chunk.num_steps)])
    assert seen == [48, 96, 144]


@pytest.mark.parametrize("schedule", [sweep.full, sweep.asha(eta=3, num_rungs=2)])
def test_a_callback_that_returns_true_ends_the_search(schedule):
    ended = search(block_size=4, schedule=schedule, callbacks=[lambda chunk: chunk.num_steps >= 48])
    assert ended.settings["stopped"] == "a callback ended it after 48 steps of trial 0"


def test_the_picture_says_that_its_curves_are_greedy(evaluated):
    assert "greedy return" in {axes.get_ylabel() for axes in plots.learning_curves(evaluated).axes}


def test_added_seeds_are_counted_from_the_first_ones(tmp_path):
    seen = []
    search(directory=tmp_path / "s")
    sweep.search(
        KEY, AGENT, ENV, Hparams(), SPACE, num_updates=6, num_chunks=3, **(SIZES | {"num_seeds": 3}),
        directory=tmp_path / "s", resume=True, callbacks=[lambda chunk: seen.extend(chunk.seeds.tolist())],
    )  # fmt: skip
    assert set(seen) == {2}

"""Evaluations and callbacks between the chunks of a search, beside shorter searches of the same agents."""

import itertools
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from bandits import Hparams, make_agent, make_env

from purerl import checkpoint, plots, sweep
from purerl.sweep.results import skips
from purerl.sweep.run import ray_executor, work

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


@pytest.mark.parametrize("schedule", [sweep.successive_halving(eta=3, num_rungs=2), sweep.asha(eta=3, num_rungs=2)])
def test_callbacks_can_ask_for_the_states_of_all_agents(schedule):
    """θ after two more updates of a chunk is target + (θ - target) (1 - learning_rate)²."""
    states = {}

    def ask(chunk):
        for row, agent in enumerate(zip(chunk.trials.tolist(), chunk.seeds.tolist())):
            state = jax.device_get(chunk.state_of(row))
            states.setdefault(agent, []).append(state)

    ended = search(block_size=4, schedule=schedule, callbacks=[ask])
    assert sum(map(len, states.values())) == np.isfinite(ended.curves).sum()
    for (trial, _), every in states.items():
        rate, target = ended.hparams.learning_rate[trial], ended.hparams.target[trial]
        for before, after in itertools.pairwise(every):
            assert after.hparams.target == pytest.approx(target)
            assert after.theta == pytest.approx(target + (before.theta - target) * (1 - rate) ** 2, abs=1e-5)
    best = ended.best
    assert states[best.number, best.seed][-1].theta == best.state.theta


def test_asking_for_states_changes_no_number(evaluated):
    kept = []
    asked = search(block_size=4, callbacks=[lambda chunk: kept.append(chunk.state_of(0))])
    np.testing.assert_array_equal(asked.returns, evaluated.returns)
    assert all(np.isfinite(state.theta) for state in kept)


def test_the_best_agent_on_the_way_is_saved_and_outlives_a_resumption(tmp_path):
    def run(**more):
        return search(
            curve="eval_return", block_size=4, directory=tmp_path / "s", callbacks=[sweep.save_best(tmp_path / "best")],
            **more,
        )  # fmt: skip

    run(max_steps=1)
    first = checkpoint.read_metadata(tmp_path / "best")
    ended = run(resume=True)
    best = checkpoint.read_metadata(tmp_path / "best")
    assert first["value"] <= best["value"] == pytest.approx(np.nanmax(ended.curves))
    place = ended.steps.tolist().index(best["num_steps"])
    assert ended.curves[best["trial"], best["seed"], place] == pytest.approx(best["value"])


def test_ray_has_the_states_of_the_last_chunk_that_a_worker_sends():
    block, states = SimpleNamespace(chunks=(2, 2, 2), progress=None), SimpleNamespace(agent_state="the agents'")
    told = []
    outcome = work.Outcome(np.zeros((2, 3)), np.zeros((2, 1)), states, 0.0, skips.none(2))
    ray_executor._report(
        lambda *each: told.append((each[1], each[3]() if len(each) > 3 and each[3] else None)), block, outcome
    )
    assert told == [(0, None), (1, None), (2, "the agents'"), (3, None)]

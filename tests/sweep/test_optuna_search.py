import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandits import Hparams, make_agent, make_env

from purerl import sweep

optuna = pytest.importorskip("optuna")

ENV, AGENT = make_env(), make_agent()
SPACE = {"learning_rate": sweep.log_uniform(1e-2, 1.0), "target": sweep.uniform(-1.0, 1.0)}
SIZES = {"num_seeds": 2, "num_updates": 8, "num_envs": 3, "rollout_length": 4, "eval_episodes": 5, "eval_max_steps": 4}
KEY = jax.random.key(5)
SCHEDULE = sweep.successive_halving(eta=2, num_rungs=2)


def run(num_trials, storage=None, **options):
    return sweep.optuna_search(
        KEY, AGENT, ENV, Hparams(), SPACE, num_trials=num_trials, storage=storage,
        **SIZES | {"batch_size": 4, "num_chunks": 2, "schedule": SCHEDULE} | options,
    )  # fmt: skip


def test_a_study_goes_on_where_it_stopped_and_asks_again_for_what_was_lost(tmp_path):
    path = tmp_path / "study.log"
    study = run(8, path)
    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") == 4
    assert states.count("PRUNED") == 4
    assert study.best_value > 3.8
    for trial in study.trials:
        assert set(trial.intermediate_values) == ({4, 8} if trial.state.name == "COMPLETE" else {4})
    lost = study.ask({name: study.trials[0].distributions[name] for name in SPACE})
    again = run(12, path)
    numbers = {trial.number: trial for trial in again.trials}
    assert numbers[lost.number].state.name == "FAIL"
    assert [t.params for t in again.trials].count(lost.params) == 2
    told = [trial for trial in again.trials if trial.state.name in ("COMPLETE", "PRUNED")]
    assert len(told) == 12
    assert run(12, path).trials == again.trials


def test_a_value_is_what_a_search_of_the_same_trials_finds():
    study = run(4)
    table = Hparams(*(np.array([t.params[n] for t in study.trials]) for n in SPACE), spread=np.ones(4, int))
    result = sweep.search(jax.random.fold_in(KEY, 0), AGENT, ENV, table, num_chunks=2, schedule=SCHEDULE, **SIZES)
    for trial, value in zip(study.trials, result.iqm):
        found = trial.value if trial.state.name == "COMPLETE" else trial.intermediate_values[4]
        assert found == pytest.approx(value)


@pytest.mark.parametrize("objective", ["area", "steps:3"])
def test_a_value_is_the_objective_of_the_search_larger_if_better(objective):
    options = {"objective": objective, "schedule": sweep.full, "num_chunks": 2}
    study = run(4, **options)
    table = Hparams(*(np.array([t.params[n] for t in study.trials]) for n in SPACE), spread=np.ones(4, int))
    result = sweep.search(jax.random.fold_in(KEY, 0), AGENT, ENV, table, **SIZES | options)
    assert [trial.value for trial in study.trials] == pytest.approx(result.score.tolist())


def test_a_trial_that_diverges_is_told_as_failed_and_not_asked_again():
    agent = AGENT._replace(update=lambda key, state, data: (state._replace(theta=state.theta * np.nan), {}))
    study = sweep.optuna_search(KEY, agent, ENV, Hparams(), SPACE, num_trials=3, batch_size=3, num_chunks=1, **SIZES)
    assert [trial.state.name for trial in study.trials] == ["FAIL"] * 3


def test_a_study_ends_with_the_search_that_found_enough_and_its_callbacks_see_the_studys_trials(tmp_path):
    """The first batch after the limit was set has a trial that is good enough, and is the last one."""
    numbers, level = set(), 3.5
    run(4, tmp_path / "study")
    watch = lambda chunk: numbers.update(chunk.trials.tolist())  # noqa: E731
    options = {"until": level, "curve": "eval_return", "num_chunks": 8, "schedule": sweep.full, "callbacks": [watch]}
    again = run(40, tmp_path / "study", **options)
    assert min(numbers) == 4
    assert numbers == {4, 5, 6, 7}
    assert len(again.trials) == 8
    assert max(again.trials[number].value or 0 for number in numbers) >= level


def test_a_trial_that_a_search_never_came_to_is_asked_for_again(tmp_path):
    study = run(4, tmp_path / "study", until=-1e9, curve="eval_return", block_size=2, schedule=sweep.full)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE"] + ["FAIL"] * 3
    assert not any("diverged" in trial.user_attrs for trial in study.trials)
    assert [t.state.name for t in run(4, tmp_path / "study").trials].count("COMPLETE") > 1


@pytest.mark.parametrize("values", [np.array([0.25, 0.5], np.float32), jnp.array([0.25, 0.5]), [np.float64(0.25), 0.5]])
def test_choices_of_numpy_and_jax_scalars_are_told_as_numbers(values):
    space = {"learning_rate": sweep.choice(values)}
    study = sweep.optuna_search(KEY, AGENT, ENV, Hparams(), space, num_trials=4, batch_size=2, num_chunks=1, **SIZES)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    assert {trial.params["learning_rate"] for trial in study.trials} <= {0.25, 0.5}


def test_a_second_process_leaves_the_trials_of_a_living_one_alone(tmp_path):
    path, seen = tmp_path / "study.log", []

    def join(progress):
        if progress.phase == "train" and not seen:
            seen.append(run(8, path))

    first = run(8, path, progress=join)
    states = [trial.state.name for trial in first.trials]
    assert len(states) == 8
    assert "FAIL" not in states
    assert {trial.user_attrs["purerl_batch"] for trial in first.trials} == {0, 1}
    assert len({trial.user_attrs["purerl_worker"] for trial in first.trials}) == 2
    assert not list((tmp_path / "study.log.workers").iterdir())


def test_the_trials_of_a_dead_process_are_asked_again(tmp_path):
    path = tmp_path / "study.log"

    def die(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(4, path, progress=die)
    study = run(4, path)
    assert [trial.state.name for trial in study.trials].count("FAIL") == 4
    assert [trial.params for trial in study.trials[:4]] == [trial.params for trial in study.trials[4:]]


def test_a_restart_does_not_draw_the_same_trials_again(tmp_path):
    """Each process draws one batch before TPE has anything to learn from: one seed would draw the same twice."""
    run(4, tmp_path / "study.log")
    study = run(8, tmp_path / "study.log")
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 8


def test_values_of_hyperband_are_told_at_the_steps_of_their_own_bracket():
    """Brackets of rungs 2, 4, 8 and of 4, 8 and of 8: each trial is told at the rungs that it reached."""
    study = run(6, batch_size=6, schedule=sweep.hyperband(eta=2, num_brackets=3), num_seeds=1)
    steps = [tuple(trial.intermediate_values) for trial in study.trials]
    assert {each[0] for each in steps} == {2, 4, 8}
    assert all(each == (2, 4, 8)[(2, 4, 8).index(each[0]) :][: len(each)] for each in steps)


def test_each_batch_has_a_directory_of_its_own(tmp_path):
    run(8, directory=tmp_path / "searches")
    assert [path.name for path in sorted((tmp_path / "searches").iterdir())] == ["batch0000", "batch0001"]


def test_limits_are_those_of_all_batches_of_a_study(tmp_path):
    study = run(12, max_steps=4 * 2 * 8 * 12 + 1, schedule=sweep.full)
    assert len(study.trials) == 8
    with pytest.raises(ValueError, match="confirm = 1"):
        run(4, confirm=1)

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandits import Hparams, make_agent, make_env

from purerl import sweep
from purerl.sweep.results.objectives import Evidence
from purerl.sweep.results.rules import Rules
from purerl.sweep.run import blocks, plan, rungs
from purerl.sweep.run.rungs import Rung

ENV, AGENT = make_env(), make_agent()
SPACE = {"learning_rate": sweep.log_uniform(1e-2, 1.0), "target": sweep.uniform(-1.0, 1.0)}
SIZES = {"num_updates": 8, "num_envs": 3, "rollout_length": 4, "eval_episodes": 5, "eval_max_steps": 4}
KEY = jax.random.key(5)


def test_successive_halving_of_the_paper():
    assert rungs.successive_halving(eta=4, num_rungs=3)(1024, 784) == ((Rung(1024, 49), Rung(256, 196), Rung(64, 784)),)
    assert rungs.successive_halving(eta=2, num_rungs=2)(5, 8) == ((Rung(5, 4), Rung(3, 8)),)


@pytest.mark.parametrize("schedule", [rungs.successive_halving(4, 3), rungs.hyperband(3, 3), rungs.hyperband(2, 4)])
@pytest.mark.parametrize("num_updates", [16, 31, 195, 196, 977])
def test_the_last_rung_ends_where_training_was_asked_to_end(schedule, num_updates):
    """So a learning rate annealed over `num_updates` reaches its end, and no budget is lost by rounding."""
    for bracket in schedule(64, num_updates):
        ends = [rung.num_updates for rung in bracket]
        assert ends[-1] == num_updates
        assert all(a < b for a, b in itertools.pairwise(ends))


def test_rungs_share_a_chunk_length_where_the_number_of_updates_has_a_divisor_near():
    assert [rung.num_updates for rung in rungs.successive_halving(4, 3)(64, 195)[0]] == [13, 52, 195]
    assert [rung.num_updates for rung in rungs.successive_halving(4, 3)(64, 31)[0]] == [2, 8, 31]


def test_the_plan_is_told_before_the_first_chunk():
    events = []
    sweep.search(
        KEY, AGENT, ENV, Hparams(), SPACE, num_trials=4, num_seeds=2, num_chunks=4, progress=events.append,
        schedule=sweep.successive_halving(eta=2, num_rungs=2), **SIZES,
    )  # fmt: skip
    assert events[0].note == "4 trials to 48 steps (4 updates), the best 2 to 96 steps (8 updates)"


def test_hyperband_is_the_table_of_the_paper():
    """Li et al. (2018), table 1: R = 81, eta = 3."""
    brackets = rungs.hyperband(eta=3, num_brackets=5)(143, 81)
    assert [[tuple(rung) for rung in bracket] for bracket in brackets] == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


@pytest.mark.parametrize("num_trials", [3, 4, 8, 9, 64, 143, 1000])
def test_no_bracket_of_hyperband_vanishes_and_no_trial_is_left_out(num_trials):
    brackets = rungs.hyperband(eta=3, num_brackets=3)(num_trials, 81)
    assert sum(bracket[0].num_trials for bracket in brackets) == num_trials
    assert len(brackets) == 3
    cost = [sum(n * u for n, u in bracket) for bracket in brackets]
    assert num_trials < 64 or max(cost) < 1.3 * min(cost)


def test_schedules_that_leave_trials_out_are_refused():
    with pytest.raises(ValueError, match="brackets for 4 of 6 trials"):
        sweep.search(KEY, AGENT, ENV, Hparams(), SPACE, num_trials=6, schedule=lambda p, u: ((Rung(4, u),),), **SIZES)


def test_rungs_end_after_the_same_steps_in_every_group():
    bracket = rungs.successive_halving(4, 3)(16, 61)[0]
    assert [rung.num_updates for rung in bracket] == [4, 16, 61]
    for sizes in ((512, 2048), (512, 512), (256, 1024)):
        aligned = plan._aligned(bracket, sizes, 512)
        for steps in sizes:
            ends = [plan._scaled((0, rung.num_updates), 512 / steps)[1] * steps for rung in aligned]
            nominal = [rung.num_updates * 512 for rung in aligned]
            assert ends[:-1] == nominal[:-1]
            assert abs(ends[-1] - nominal[-1]) <= steps / 2
    with pytest.raises(ValueError, match=r"rungs of 1, 2, 8 updates are too short.*multiple of 4 updates"):
        plan._aligned((Rung(4, 1), Rung(2, 2), Rung(1, 8)), (512, 2048), 512)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rungs.successive_halving(eta=1), "eta = 1"),
        (lambda: rungs.hyperband(num_brackets=0), "at least 1"),
        (lambda: rungs.successive_halving(4, 3)(8, 15), "num_updates = 15"),
    ],
)
def test_schedules_reject_impossible_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def survivors(returns, count, **options):
    evidence = Evidence(returns[..., None], np.zeros((*returns.shape, 1)), np.array([8]), np.ones(returns.shape))
    return rungs.survivors(KEY, Rules(sweep.final_return()), evidence, count, **options).tolist()


def test_survivors_are_the_best_and_never_nan():
    returns = np.array([3.0, 1.0, np.nan, 2.0, 5.0, np.inf])[:, None].repeat(2, 1)
    assert survivors(returns, 3) == [0, 3, 4]
    assert survivors(returns, 6) == [0, 1, 3, 4]


def test_clearly_worse_trials_stop_before_their_place_is_taken():
    noise = np.random.default_rng(0).normal(size=(6, 8))
    returns = np.array([10.0, 9.9, 9.8, 9.7, 5.0, 0.0])[:, None] + noise
    assert survivors(returns, 5) == [0, 1, 2, 3, 4]
    assert survivors(returns, 5, stop_clearly_worse=True) == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def plain():
    return sweep.search(KEY, AGENT, ENV, Hparams(), SPACE, num_trials=9, num_seeds=2, num_chunks=4, **SIZES)


@pytest.fixture(scope="module")
def halved():
    return sweep.search(
        KEY, AGENT, ENV, Hparams(), SPACE, num_trials=9, num_seeds=2, num_chunks=4, keep=2, confirm=2, confirm_seeds=3,
        schedule=sweep.successive_halving(eta=2, num_rungs=3), **SIZES,
    )  # fmt: skip


def test_halving_trains_the_best_of_each_rung_and_no_others(halved):
    assert [rung.num_trials for rung in halved.settings["brackets"][0]] == [9, 5, 3]
    assert sorted(halved.num_updates.tolist()) == [2] * 4 + [4] * 2 + [8] * 3
    first = halved.rung_returns[0].mean(axis=(1, 2))
    assert set(np.argsort(-first)[:5]) == set(np.flatnonzero(halved.num_updates >= 4))
    second = halved.rung_returns[1].mean(axis=(1, 2))
    assert set(np.argsort(-np.nan_to_num(second, nan=-np.inf))[:3]) == set(np.flatnonzero(halved.num_updates == 8))


def test_a_trial_that_continues_equals_one_that_was_never_stopped(halved, plain):
    whole = np.flatnonzero(halved.num_updates == 8)
    np.testing.assert_allclose(halved.returns[whole], plain.returns[whole], rtol=1e-5)
    np.testing.assert_allclose(halved.curves[whole], plain.curves[whole], rtol=1e-4)
    stopped = np.flatnonzero(halved.num_updates == 2)
    assert np.isnan(halved.curves[stopped, :, 1:]).all()
    np.testing.assert_allclose(halved.curves[stopped, :, 0], plain.curves[stopped, :, 0], rtol=1e-4)


def test_trials_trained_further_rank_first(halved):
    far = halved.num_updates[halved.order]
    assert (np.diff(far) <= 0).all()
    assert [row["steps"] for row in halved.rows()] == (far * 12).tolist()
    assert halved.best.steps == 96
    assert sorted(halved.kept.tolist()) == sorted((2 * halved.order[:2, None] + np.arange(2)).reshape(-1).tolist())
    assert float(halved.best.state.hparams.target) == pytest.approx(halved.best.hparams.target)


def test_the_best_are_trained_again_on_fresh_seeds(halved):
    assert halved.fresh_returns.shape == (2, 3, 5)
    assert set(halved.fresh_trials) == set(halved.order[:2])
    rows = halved.rows()
    assert all(np.isfinite(row["fresh_return"]) for row in rows[:2])
    assert all(np.isnan(row["fresh_return"]) for row in rows[2:])
    assert rows[0]["fresh_return"] != rows[0]["return"]
    assert rows[0]["fresh_return"] == pytest.approx(rows[0]["return"], abs=0.5)


def test_hyperband_gives_every_bracket_its_own_trials():
    result = sweep.search(
        KEY, AGENT, ENV, Hparams(), SPACE, num_trials=9, num_seeds=1, num_chunks=4, keep=2,
        schedule=sweep.hyperband(eta=2, num_brackets=2), **SIZES,
    )  # fmt: skip
    first, second = result.settings["brackets"]
    assert sum(bracket[0].num_trials for bracket in (first, second)) == 9
    assert (result.num_updates == 8).sum() == first[-1].num_trials + second[0].num_trials
    assert (result.num_updates > 0).all()
    assert sorted(result.kept.tolist()) == sorted(result.order[:2].tolist())


def test_a_width_that_is_compiled_is_used_again_if_it_wastes_little():
    # 100 agents, blocks of 64: two blocks of 50; a program of 64 would fill up 28 slots, for 110 agents 18
    assert blocks.choose_width(100, 64, 1) == 50
    assert blocks.choose_width(100, 64, 1, compiled=[64]) == 50
    assert blocks.choose_width(110, 64, 1, compiled=[64]) == 64
    assert blocks.choose_width(110, 32, 1, compiled=[64]) == 28
    assert blocks.choose_width(100, 64, 2, compiled=[128]) == 50
    assert [blocks.choose_width(count, 64, 4, num_processes=2) for count in (1, 3, 5, 8)] == [2, 4, 8, 8]
    assert blocks.choose_width(9, 1, 4, num_processes=2) == 2  # at least one member per process


def test_the_table_of_a_search_that_was_stopped_early_shows_steps(halved, plain):
    from rich.console import Console

    def shown(result):
        console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        console.print(sweep.table(result, top=9, width=140))
        return console.export_text()

    assert "fresh seeds" in shown(halved)
    nobody = {
        name: values[:0] for name, values in vars(halved).items() if name.startswith("fresh_") and values is not None
    }
    assert "steps" in shown(dataclasses.replace(halved, **nobody))
    assert "fresh seeds" not in shown(plain)


def test_ties_are_kept_by_the_same_rule_as_they_are_ranked():
    """Rewards saturate, so returns and curves of the last rung tie, and curves of the first one decide."""
    env = ENV._replace(step=lambda *args: (out := ENV.step(*args))._replace(reward=jnp.minimum(out.reward, 0.5)))
    table = Hparams(np.linspace(0.55, 0.9, 8, dtype=np.float32), np.full(8, 0.3), np.full(8, 60))
    result = sweep.search(
        KEY, AGENT, env, table, num_seeds=2, num_chunks=8, keep=2, block_size=4,
        schedule=sweep.successive_halving(eta=2, num_rungs=2), **SIZES,
    )  # fmt: skip
    assert np.ptp(result.seed_returns[result.num_updates == 8]) == 0
    expected = 2 * result.order[:2, None] + np.arange(2)
    assert sorted(result.kept.tolist()) == sorted(expected.reshape(-1).tolist())

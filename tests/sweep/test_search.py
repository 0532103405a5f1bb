import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandits import EPISODE, Hparams, make_agent, make_env

from purerl import loops, sweep
from purerl.loops.chunks import split_updates
from purerl.sweep.run import measurements, plan, rungs
from purerl.sweep.run.blocks import split_agents
from purerl.sweep.run.programs import Program
from purerl.sweep.trials.members import MemberIndex

KEY = jax.random.key(7)
SPACE = {"learning_rate": sweep.log_uniform(1e-2, 1.0), "target": sweep.uniform(-1.0, 1.0)}
SIZES = {"num_updates": 6, "num_envs": 3, "rollout_length": 8, "eval_episodes": 5, "eval_max_steps": 9}
ENV = make_env()
AGENT = make_agent()


@pytest.fixture(scope="module")
def events():
    return []


@pytest.fixture(scope="module")
def result(events):
    """7 trials x 3 seeds in blocks of 6, 6, 6 and 6 with 3 repeats; a trial's seeds fall into two blocks."""
    return sweep.search(
        KEY, AGENT, ENV, Hparams(), SPACE, num_trials=7, num_seeds=3, block_size=6, num_chunks=3, keep=2,
        progress=events.append, **SIZES,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(result):
    """Every agent of the search trained and evaluated by itself: (θ [P, S], returns [P, S, E])."""
    _, seed_key, eval_key, _ = jax.random.split(KEY, 4)
    sizes = {name: SIZES[name] for name in ("num_updates", "num_envs", "rollout_length")}
    theta, returns = np.zeros((7, 3)), np.zeros((7, 3, 5))
    for trial in range(7):
        hparams = jax.tree.map(lambda leaf, trial=trial: leaf[trial], result.hparams)
        for seed in range(3):
            state, _ = loops.train(jax.random.fold_in(seed_key, seed), AGENT, ENV, hparams, **sizes)
            theta[trial, seed] = state.theta
            returns[trial, seed] = loops.evaluate(
                eval_key, AGENT, ENV, state, num_episodes=5, max_steps=9
            ).episode_return
    return theta, returns


def test_every_agent_is_the_one_that_train_makes_alone(result, alone):
    np.testing.assert_allclose(result.returns, alone[1], rtol=1e-5)


def test_training_follows_the_closed_form(result, alone):
    theta, _ = alone
    table = result.hparams
    decay = (1 - table.learning_rate.astype(float)) ** SIZES["num_updates"]
    start = (theta - (table.target * (1 - decay))[:, None]) / decay[:, None]
    np.testing.assert_allclose(start, np.broadcast_to(start[:1], start.shape), atol=2e-3 / decay.min())
    _, _, eval_key, _ = jax.random.split(KEY, 4)
    goal_keys = jax.vmap(lambda key: jax.random.split(key, 3)[0])(jax.random.split(eval_key, 5))
    goals = np.asarray(jax.vmap(lambda key: ENV.reset(key)[0])(goal_keys), np.float64)
    expected = EPISODE * (1 - (theta[..., None] - goals) ** 2)
    np.testing.assert_allclose(result.returns, expected, rtol=1e-5)


def test_trials_share_their_seeds(result):
    """With a learning rate of 0 all trials with one seed stay at the same θ₀, and those of another at another."""
    same = sweep.search(
        KEY, AGENT, ENV, Hparams(learning_rate=0.0), {"target": sweep.uniform(0, 1)}, num_trials=4, num_seeds=3,
        block_size=6, num_chunks=3, **SIZES,
    )  # fmt: skip
    assert (same.returns == same.returns[:1]).all()
    assert len(np.unique(same.seed_returns[0])) == 3


def test_curves_are_the_training_returns(result):
    assert result.steps.tolist() == [48, 96, 144]
    assert result.curves.shape == (7, 3, 3)
    best = result.best.number
    assert (np.diff(result.curves[result.hparams.learning_rate > 0.5].mean(axis=(0, 1))) != 0).all()
    np.testing.assert_allclose(result.curves[best, :, -1], result.seed_returns[best], atol=0.3)


def test_curves_are_nan_if_no_episode_ended():
    sizes = SIZES | {"num_updates": 4, "rollout_length": 2}
    result = sweep.search(KEY, AGENT, ENV, Hparams(), {}, num_trials=1, num_seeds=2, num_chunks=4, **sizes)
    assert np.isnan(result.curves).tolist() == [[[True, False, True, False]] * 2]


def test_blocks_chunks_and_reruns_do_not_change_the_result(result):
    again = sweep.search(
        KEY, AGENT, ENV, Hparams(), SPACE, num_trials=7, num_seeds=3, block_size=6, num_chunks=3, keep=2, **SIZES
    )
    np.testing.assert_array_equal(again.returns, result.returns)
    np.testing.assert_array_equal(again.curves, result.curves)
    np.testing.assert_array_equal(again.interval, result.interval)
    jax.tree.map(np.testing.assert_array_equal, again.states, result.states)
    one_chunk = sweep.search(
        KEY, AGENT, ENV, Hparams(), SPACE, num_trials=7, num_seeds=3, block_size=6, num_chunks=1, keep=2, **SIZES
    )
    np.testing.assert_array_equal(one_chunk.returns, result.returns)
    wide = sweep.search(
        KEY, AGENT, ENV, Hparams(), SPACE, num_trials=7, num_seeds=3, block_size=100, num_chunks=3, keep=2, **SIZES
    )
    np.testing.assert_allclose(wide.returns, result.returns, rtol=1e-5)
    assert wide.kept.tolist() == result.kept.tolist()


def test_a_larger_search_begins_with_the_smaller_one(result):
    small = sweep.search(
        KEY, AGENT, ENV, Hparams(), SPACE, num_trials=4, num_seeds=3, block_size=6, num_chunks=3, **SIZES
    )
    np.testing.assert_array_equal(small.returns, result.returns[:4])


def test_progress_counts_every_real_agent_once(result, events):
    total = 7 * 3 * 6 * 3 * 8
    assert [event.phase for event in events] == ["compile"] * 2 + (["train"] * 3 + ["evaluate"]) * 4
    assert "21 agents in 4 blocks of 6" in events[1].note
    steps = [event.steps for event in events]
    assert steps == sorted(steps)
    assert steps[-1] == total
    assert {event.total_steps for event in events} == {total}
    assert [event.block for event in events if event.phase == "evaluate"] == [0, 1, 2, 3]
    assert np.isnan(events[0].best_return)
    assert np.isnan(events[2].seconds_left)
    assert events[3].seconds_left > 0
    assert events[-1].seconds_left == 0
    assert events[-1].best_return == pytest.approx(result.curves.mean(axis=1).max())


def test_any_number_of_blocks_and_trials_compiles_once():
    traced = collections.Counter()
    agent = make_agent(traced)
    options = {"num_seeds": 2, "block_size": 4, "num_chunks": 3} | SIZES
    sweep.search(KEY, agent, ENV, Hparams(), SPACE, num_trials=2, **options)
    first = dict(traced)
    sweep.search(KEY, agent, ENV, Hparams(target=2), SPACE, num_trials=6, **options)
    assert dict(traced) == first


def test_the_states_of_the_best_trials_are_kept_and_playable(result, alone):
    theta, _ = alone
    best = result.order[:2]
    assert sorted(result.kept.tolist()) == sorted(3 * trial + seed for trial in best for seed in range(3))
    for rank in (1, 2):
        for seed in range(3):
            trial = result.select(rank, seed)
            np.testing.assert_allclose(trial.state.theta, theta[trial.number, seed], rtol=1e-5)
            action, _ = AGENT.act(None, trial.state, jnp.float32(0))
            assert action == trial.state.theta
    assert result.best.seed == np.argmax(result.best.returns)
    assert result.select(3).state is None


def test_all_states_are_kept_on_request():
    result = sweep.search(
        KEY, AGENT, ENV, Hparams(), SPACE, num_trials=8, num_seeds=1, block_size=4, num_chunks=3, keep=None, **SIZES
    )
    assert result.kept.tolist() == list(range(8))
    for rank in range(1, 9):
        assert result.select(rank).state.hparams.target == pytest.approx(result.select(rank).hparams.target)


def test_a_table_of_trials_is_searched_like_the_grid_that_made_it():
    space = {"learning_rate": sweep.log_uniform(0.01, 1.0, points=3), "spread": sweep.choice([0, 1])}
    by_grid = sweep.search(KEY, AGENT, ENV, Hparams(), space, num_seeds=1, num_chunks=3, **SIZES)
    np.testing.assert_allclose(by_grid.hparams.learning_rate, [0.01, 0.01, 0.1, 0.1, 1, 1], rtol=1e-6)
    assert by_grid.hparams.spread.tolist() == [0, 1] * 3
    by_table = sweep.search(KEY, AGENT, ENV, sweep.grid(Hparams(), space), num_seeds=1, num_chunks=3, **SIZES)
    np.testing.assert_array_equal(by_table.returns, by_grid.returns)
    assert by_table.searched == by_grid.searched == ("learning_rate", "spread")


def test_a_trial_that_diverges_comes_last():
    table = Hparams(np.array([0.5, 0.5, 0.5]), np.array([np.inf, 5.0, 0.3]), np.array([1, 1, 1]))
    result = sweep.search(KEY, AGENT, ENV, table, num_seeds=2, num_chunks=3, **SIZES)
    assert result.order.tolist() == [2, 1, 0]


@pytest.fixture(scope="module")
def hidden():
    """A learner that is NaN where the learning rate is 1, while its action, as an argmax does, hides that."""
    agent = AGENT._replace(
        act=lambda key, state, obs: (jnp.nan_to_num(state.theta), ()),
        update=lambda key, state, data: (
            state._replace(theta=jnp.where(state.hparams.learning_rate < 1, 0.3, jnp.nan)), {}
        ),
    )  # fmt: skip
    table = Hparams(np.array([1.0, 0.5, 0.6]), np.array([0.3, 0.3, 0.3]), np.array([1, 1, 1]))
    schedule = sweep.successive_halving(eta=2, num_rungs=2)
    return sweep.search(KEY, agent, ENV, table, num_seeds=2, num_chunks=3, schedule=schedule, **SIZES)


def test_a_member_whose_parameters_are_nan_has_diverged_whatever_it_returns(hidden):
    assert hidden.diverged.tolist() == [[True, True], [False, False], [False, False]]
    assert np.isfinite(hidden.curves[:, :, 0]).all()
    assert np.isnan(hidden.returns[0]).all()


def test_a_member_that_has_diverged_is_stopped_and_ranked_last(hidden):
    assert hidden.num_updates.tolist() == [3, 6, 6]
    assert hidden.order[-1] == 0


def test_members_that_have_diverged_are_named_in_the_rows_and_the_table(hidden):
    assert [row["diverged"] for row in hidden.rows()] == [0, 0, 2]
    finite = [hidden.steps[np.isfinite(curve)].max() for curve in hidden.curves[0]]
    assert [row["diverged_after"] for row in hidden.rows()] == pytest.approx([np.nan, np.nan, min(finite)], nan_ok=True)
    assert "1 of 3 trials diverged" in sweep.table(hidden).caption


def never(*_):
    raise AssertionError("this must not run: the arguments are wrong")


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ({"leraning_rate": sweep.uniform(0, 1)}, {}, "learning_rate"),
        ({"learning_rate": sweep.uniform(0, 2)}, {}, "learning_rate = 2"),
        (SPACE, {"num_trials": 0}, "num_trials"),
        (SPACE, {"num_trials": None}, "learning_rate.*points"),
        (None, {"num_trials": None}, "leading axis"),
        (SPACE, {"num_seeds": 0}, "num_seeds"),
        (SPACE, {"block_size": 0}, "block_size"),
        (SPACE, {"num_updates": 2.5}, "num_updates"),
        (SPACE, {"keep": 0}, "keep"),
        (SPACE, {"objective": "steps:nan"}, "threshold = nan must be finite"),
        (SPACE, {"static": {"num_envs": sweep.choice([2, 0])}}, "num_envs must be a positive integer, got 0"),
    ],
)
def test_errors_are_raised_before_anything_is_compiled(space, options, message):
    agent = AGENT._replace(init=never, act=never, update=never)
    with pytest.raises(ValueError, match=message):
        sweep.search(KEY, agent, ENV, Hparams(), space, **{"num_trials": 3} | SIZES | options)


def test_a_curve_that_is_not_a_metric_is_named():
    with pytest.raises(ValueError, match=r"curve = 'episode_retrun' is not a metric.*did you mean 'episode_return'"):
        sweep.search(KEY, AGENT, ENV, Hparams(), SPACE, num_trials=3, **SIZES, curve="episode_retrun")


def test_a_key_must_be_typed():
    with pytest.raises(TypeError, match="typed key"):
        sweep.search(jax.random.PRNGKey(0), AGENT, ENV, Hparams(), SPACE, num_trials=3, **SIZES)


@pytest.mark.parametrize(("agents", "size"), [(1, 64), (64, 64), (65, 64), (130, 64), (7, 3), (2048, 100)])
def test_blocks_hold_every_agent_and_little_else(agents, size):
    blocks = split_agents(agents, size)
    assert blocks.shape[1] <= size
    assert blocks.shape[0] == -(-agents // size)
    flat = blocks.reshape(-1)
    assert flat[:agents].tolist() == list(range(agents))
    assert (flat[agents:] == agents - 1).all()
    assert flat.size - agents < blocks.shape[0]


@pytest.mark.parametrize(
    ("updates", "chunks", "expected"),
    [(195, 20, [13] * 15), (40, 20, [2] * 20), (3, 20, [1] * 3), (1, 1, [1]), (7, 1, [7]), (23, 4, [6, 6, 6, 5])],
)
def test_chunks_have_one_length_if_possible(updates, chunks, expected):
    assert split_updates(updates, chunks) == expected


def test_points_of_groups_with_other_chunks_lie_in_the_middle():
    """A group with three chunks fills the four points of a rung, one with eight every second of its chunks."""
    planned = plan.make(rungs.full(1, 8), [Program(AGENT, ENV, 4, 8, None, 1, 4)], 32, 1, 4)
    for chunks, expected in ((3, [0, 1, 1, 2]), (8, [1, 3, 5, 7]), (4, [0, 1, 2, 3])):
        measured = measurements.empty(planned, 1, 1, 1)
        curves, members = np.arange(chunks, dtype=np.float32)[None], np.array([0])
        measurements.fill(measured, MemberIndex(1), planned.stage(0, 0), members, curves, np.zeros((1, 1)))
        assert measured.curves[0, 0].tolist() == expected


def test_an_environment_without_a_time_limit_is_warned_of():
    sizes = {name: value for name, value in SIZES.items() if name != "eval_max_steps"}
    with pytest.warns(UserWarning, match=r"no time limit.* cut after 1,000 steps.*pass eval_max_steps"):
        sweep.search(KEY, AGENT, ENV, Hparams(), SPACE, num_trials=2, num_seeds=1, **sizes)


def test_an_environment_with_a_time_limit_is_not_warned_of(recwarn):
    sizes = {name: value for name, value in SIZES.items() if name != "eval_max_steps"}
    sweep.search(KEY, AGENT, ENV._replace(max_steps=9), Hparams(), SPACE, num_trials=2, num_seeds=1, **sizes)
    assert not [warning for warning in recwarn if "time limit" in str(warning.message)]


def test_the_agent_and_the_environment_swapped_are_named():
    with pytest.raises(TypeError, match=r"agent must be a purerl.Agent, .*: the agent comes before the environment"):
        sweep.search(KEY, ENV, AGENT, Hparams(), SPACE, num_trials=2, **SIZES)


def test_the_class_of_the_hyperparameters_is_named():
    with pytest.raises(TypeError, match=r"hparams must be a NamedTuple, .*; got the class Hparams itself"):
        sweep.search(KEY, AGENT, ENV, Hparams, SPACE, num_trials=2, **SIZES)

"""Population-based training against NumPy, closed forms, and itself."""

import collections
import csv
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandits import EPISODE, Hparams, make_agent, make_env

from purerl import combinators, pbt, plots, reports, sweep
from purerl.agents.tabular.td_control import TDControlState
from purerl.agents.tabular.td_prediction import TDState
from purerl.combinators.normalization import NormalizedState, ScaledState
from purerl.combinators.replay import ReplayState
from purerl.hparams import get_learner
from purerl.pbt import exploit_explore, pb2
from purerl.pbt.rounds import Lineage, advance, rounds, start
from purerl.pbt.schedule import train_schedule
from purerl.sweep.trials import spaces
from purerl.types import Agent

SPACE = {"learning_rate": sweep.log_uniform(0.01, 1.0), "target": sweep.uniform(-1.0, 1.0)}
SIZES = {
    "updates_per_round": 3,
    "num_envs": 2,
    "rollout_length": EPISODE,
    "eval_episodes": 4,
    "eval_max_steps": EPISODE,
}


@pytest.fixture(scope="module")
def world():
    traced = collections.Counter()
    return make_agent(traced), make_env(), traced


@pytest.fixture(scope="module")
def result(world):
    return run(world)


def run(world, seed=0, hparams=None, **options):
    agent, env, _ = world
    options = {"population_size": 10, "num_rounds": 6} | SIZES | options
    return pbt.pbt(jax.random.key(seed), agent, env, hparams or Hparams(), SPACE, **options)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


# --- Decisions --------------------------------------------------------------------------------------------------------


def numpy_exploit(scores, num_replaced):
    """For each member, whom it may take over."""
    order = sorted(range(len(scores)), key=lambda i: (np.isnan(scores[i]), -np.nan_to_num(scores[i]), i))
    healthy = [i for i in order if not np.isnan(scores[i])]
    donors = set(healthy[:num_replaced])
    lost = (set(order[len(order) - num_replaced :]) | set(np.flatnonzero(np.isnan(scores)))) if donors else set()
    return [donors if i in lost else {i} for i in range(len(scores))]


@pytest.mark.parametrize("num_nan", [0, 1, 5, 9, 10])
@pytest.mark.parametrize("num_replaced", [0, 2, 5])
def test_exploit_is_truncation_selection(num_nan, num_replaced):
    rng = np.random.default_rng(num_nan)
    scores = rng.permutation(10).astype(np.float32)
    scores[rng.permutation(10)[:num_nan]] = np.nan
    keys = jax.random.split(jax.random.key(1), 200)
    parents = np.asarray(jax.vmap(lambda key: exploit_explore.exploit(key, scores, num_replaced))(keys))
    allowed = numpy_exploit(scores, num_replaced)
    assert [set(column) for column in parents.T.tolist()] == allowed


def test_equal_scores_replace_nobody():
    scores = jnp.full(10, 500.0)
    for seed in range(5):
        assert exploit_explore.exploit(jax.random.key(seed), scores, 3).tolist() == list(range(10))


def test_ties_are_decided_by_chance_and_a_member_copies_only_a_better_one():
    """Two of the five at 1 are replaced, by turns; the two of the three at 5 that are donors change too."""
    scores = np.array([1, 5, 1, 3, 5, 1, 5, 1, 3, 1], np.float32)
    keys = jax.random.split(jax.random.key(1), 200)
    parents = np.asarray(jax.vmap(lambda key: exploit_explore.exploit(key, scores, 2))(keys))
    replaced = parents != np.arange(10)
    assert (replaced.sum(axis=1) == 2).all()
    assert np.flatnonzero(replaced.any(axis=0)).tolist() == [0, 2, 5, 7, 9]
    assert set(parents[replaced].tolist()) == {1, 4, 6}


def test_explore_moves_as_the_space_says():
    space = {
        "log": spaces.log_uniform(0.1, 10.0),
        "linear": spaces.uniform(-2.0, 2.0),
        "whole": spaces.integers(1, 3),
        "log_whole": spaces.Range(1, 64, log=True, integer=True),
        "choice": spaces.choice([0.5, 0.1, 0.9]),
        "flag": spaces.choice([False, True]),
    }
    Values = collections.namedtuple("Values", [*space, "other"])
    start = Values(*map(jnp.asarray, (9.0, -1.0, 2, 20, 0.1, True, 7.0)))

    @jax.jit
    def many(probability):
        def one(key):
            return exploit_explore.explore(key, start, space, factors=(0.8, 1.2), resample_probability=probability)

        return jax.vmap(one)(jax.random.split(jax.random.key(0), 400))

    moved, drawn, mixed = (jax.device_get(many(probability)) for probability in (0.0, 1.0, 0.25))
    found = {name: np.unique(np.asarray(leaf)).tolist() for name, leaf in moved._asdict().items()}
    np.testing.assert_allclose(found.pop("log"), [7.2, 10.0], rtol=1e-6)  # 10.8, clipped
    np.testing.assert_allclose(found.pop("linear"), [-1.8, -0.2], rtol=1e-6)
    np.testing.assert_allclose(found.pop("choice"), [0.5, 0.9], rtol=1e-6)  # the neighbours of 0.1 in the order given
    assert found == {"whole": [1, 3], "log_whole": [16, 24], "flag": [False, True], "other": [7.0]}
    assert [leaf.dtype for leaf in moved] == [leaf.dtype for leaf in start]

    assert 0.1 <= drawn.log.min() < 0.2 and 5 < drawn.log.max() <= 10  # noqa: PT018
    np.testing.assert_allclose(np.quantile(np.log10(drawn.log), [0.25, 0.75]), [-0.5, 0.5], atol=0.15)
    assert np.unique(drawn.choice).size == 3
    assert set(drawn.whole.tolist()) == {1, 2, 3}
    assert 0.2 < np.mean(mixed.linear != moved.linear) < 0.3
    assert np.isin(mixed.linear, [moved.linear, drawn.linear]).all()


def test_a_factor_of_one_changes_nothing():
    space = {"spread": spaces.integers(1, 9), "target": spaces.choice([0.1, 0.3])}
    hparams = Hparams(jnp.float32(0.5), jnp.float32(0.3), jnp.int32(4))
    equal(exploit_explore.explore(jax.random.key(0), hparams, space, factors=(1.0,), resample_probability=0.0), hparams)


class Statistics(NamedTuple):
    agent: object
    mean: jax.Array


def with_statistics(agent):
    """A combinator with statistics of its own, which belong to the learner."""

    def init(key, hparams, example, num_envs=1):
        return Statistics(agent.init(key, hparams, example, num_envs), jnp.float32(0))

    def update(key, state, data):
        inner, metrics = agent.update(key, state.agent, data)
        return Statistics(inner, state.mean + data.reward.mean()), metrics

    return Agent(init, lambda key, state, obs: agent.act(key, state.agent, obs), update)


def test_a_copy_takes_the_learner_and_not_the_replay():
    agent = combinators.with_replay(with_statistics(make_agent()), capacity=8, batch_size=2)
    init = jax.vmap(lambda key, hparams: agent.init(key, hparams, jnp.float32(0), 2))
    shapes = jax.eval_shape(init, jax.random.split(jax.random.key(0), 4), Hparams(*jnp.zeros((3, 4))))
    old = jax.tree.map(lambda x: jnp.arange(x.size).reshape(x.shape).astype(x.dtype), shapes)
    parents, hparams = jnp.array([0, 0, 3, 3]), Hparams(*jnp.ones((3, 4)))
    new = exploit_explore.inherit(old, parents, hparams)
    equal(new.ring, old.ring)
    equal(new.agent.mean, [0, 0, 3, 3])
    equal(new.agent.agent.theta, [0, 0, 3, 3])
    equal(new.agent.agent.hparams, hparams)


@pytest.mark.parametrize(
    ("state", "experience"),
    [
        (TDState, {"eligibility"}),
        (TDControlState, {"pending", "eligibility"}),
        (ScaledState, {"discounted"}),
        (NormalizedState, set()),
        (ReplayState, {"ring"}),
    ],
)
def test_what_belongs_to_environments_is_not_of_the_learner(state, experience):
    made = state(*range(len(state._fields)))
    made = made._replace(agent=Hparams()) if "agent" in state._fields else made
    assert set(state._fields) - set(get_learner(made)) == experience


# --- The whole --------------------------------------------------------------------------------------------------------


def test_decisions_follow_from_the_scores_and_theta_from_the_schedule(result):
    lineage = result.lineage
    np.testing.assert_array_equal(lineage.parents[0], np.arange(10))
    for r in range(1, 6):
        allowed = numpy_exploit(lineage.scores[r - 1], 2)
        assert all(parent in each for parent, each in zip(lineage.parents[r], allowed))
        kept = lineage.parents[r] == np.arange(10)
        assert kept.sum() == 8
        for name in SPACE:
            new, old = (getattr(lineage.hparams, name)[i] for i in (r, r - 1))
            np.testing.assert_array_equal(new[kept], old[kept])
            assert (new[~kept] != old[lineage.parents[r]][~kept]).any()
    assert (lineage.hparams.spread == 1).all()
    for member in range(10):
        schedule = result.schedule(member)
        theta = first_theta(result.ancestry(member)[0])
        for rate, target in zip(schedule.learning_rate, schedule.target):
            theta = target + (theta - target) * (1 - rate) ** SIZES["updates_per_round"]
        np.testing.assert_allclose(result.states.theta[member], theta, rtol=1e-4, atol=1e-5)


def first_theta(member):
    """θ₀ of a member, drawn by its own key as `pbt` and `loops.start` say."""
    _, members_key, _ = jax.random.split(jax.random.key(0), 3)
    init_key, _, _ = jax.random.split(jax.random.split(members_key, 10)[member], 3)
    return float(0.1 * jax.random.normal(init_key))


def test_scores_use_common_random_numbers_and_other_ones_in_each_round(result):
    assert result.lineage.scores.shape == (6, 10)
    # Σ over the episode of 1 - (θ - g)² is quadratic in θ with the same coefficients for all members of a round.
    theta, scores = np.asarray(result.states.theta, np.float64), result.lineage.scores[-1].astype(np.float64)
    coefficients = np.polyfit(theta, scores, 2)
    np.testing.assert_allclose(np.polyval(coefficients, theta), scores, atol=1e-4)
    np.testing.assert_allclose(coefficients[0], -EPISODE, rtol=1e-2)


def test_the_same_key_gives_the_same_bits_and_another_one_others(world, result):
    again, other = run(world), run(world, seed=1)
    equal(again.lineage, result.lineage)
    equal(again.states, result.states)
    assert (other.lineage.scores != result.lineage.scores).all()


def test_chunks_equal_the_whole_and_report_progress(world, result):
    reports = []
    chunked = run(world, rounds_per_chunk=2, progress=reports.append)
    equal(chunked.lineage, result.lineage)
    equal(chunked.states, result.states)
    assert [(each.round, each.num_rounds) for each in reports] == [(2, 6), (4, 6), (6, 6)]
    assert [each.best_score for each in reports] == result.lineage.scores[1::2].max(axis=1).tolist()
    assert [each.median_score for each in reports] == np.median(result.lineage.scores[1::2], axis=1).tolist()


def test_new_values_trace_nothing_new(world, result):
    traced = world[2]
    before = traced.copy()
    run(world, seed=2, hparams=Hparams(spread=2), num_rounds=6)
    assert traced == before


def test_a_lineage_that_was_loaded_without_its_class_is_repeated(world, result, tmp_path):
    loaded = pbt.load_pbt(result.save(tmp_path)).lineage
    assert type(loaded.hparams) is not Hparams
    equal(run(world, lineage=loaded).states, result.states)


class Others(NamedTuple):
    rate: float = 0.0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"hparams": Others(np.zeros((6, 10)))}, TypeError, "the lineage must hold Hparams, not Others"),
        ({"hparams": Hparams(*np.zeros((3, 6, 9)))}, ValueError, r"learning_rate has shape \(6, 9\), not rounds x mem"),
        ({"parents": np.full((6, 10), -1)}, ValueError, "parent -1, which is not the number of a member"),
    ],
)
def test_a_lineage_that_cannot_be_repeated_says_why(world, result, changes, error, message):
    with pytest.raises(error, match=message):
        run(world, lineage=result.lineage._replace(**changes))


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        (Hparams(), "every leaf of initial must have the same leading axis: one entry per member"),
        (Hparams(np.zeros(2), np.zeros(1), np.ones(2)), "every leaf of initial must have the same leading axis"),
        (Hparams(np.full(2, 1.5), np.zeros(2), np.ones(2)), r"learning_rate = 1.5 is outside \[0.0, 1.0\]"),
    ],
)
def test_first_members_that_cannot_be_trained_are_named(world, initial, message):
    with pytest.raises(ValueError, match=message):
        run(world, initial=initial)


def test_a_lineage_told_again_gives_the_same_bits(world, result):
    repeated = run(world, lineage=result.lineage)
    equal(repeated.lineage, result.lineage)
    equal(repeated.states, result.states)
    fresh = run(world, seed=5, lineage=result.lineage)
    equal(fresh.lineage[:2], result.lineage[:2])
    assert (fresh.lineage.scores != result.lineage.scores).any()
    with pytest.raises(ValueError, match=r"\(6, 10\), but num_rounds = 5"):
        run(world, num_rounds=5, lineage=result.lineage)


def of_several(agent, count):
    """Policies side by side, the first of which acts, as `combinators.with_separate_policies` has them."""

    def init(key, hparams, example, num_envs=1):
        return jax.vmap(lambda key: agent.init(key, hparams, example, num_envs))(jax.random.split(key, count))

    def act(key, state, obs):
        return agent.act(key, jax.tree.map(lambda leaf: leaf[0], state), obs)

    def update(key, state, data):
        return jax.vmap(lambda state: agent.update(key, state, data))(state)

    return Agent(init, act, update)


@pytest.fixture(scope="module")
def several(world):
    """A run of as many members as each has policies, and its world."""
    agent, env, traced = world
    world = of_several(agent, 4), env, traced
    return run(world, population_size=4), world


def test_all_policies_of_a_member_have_its_hyperparameters(several):
    result, _ = several
    assert (result.lineage.parents != np.arange(4)).any()
    for told, found in zip(result.lineage.hparams, result.states.hparams):
        np.testing.assert_array_equal(np.repeat(told[-1][:, None], 4, axis=1), found)


def test_a_lineage_of_members_with_several_policies_is_repeated(several):
    result, world = several
    equal(run(world, population_size=4, lineage=result.lineage).states, result.states)


def test_a_schedule_trains_one_agent_and_vmaps_over_seeds(world, result):
    agent, env, _ = world
    schedule = result.schedule()
    sizes = {name: SIZES[name] for name in ("updates_per_round", "num_envs", "rollout_length")}
    keys = jax.random.split(jax.random.key(3), 4)
    states, metrics = jax.vmap(lambda key: train_schedule(key, agent, env, schedule, **sizes))(keys)
    theta = 0.1 * jax.vmap(lambda key: jax.random.normal(jax.random.split(key, 3)[0]))(keys)
    for rate, target in zip(schedule.learning_rate, schedule.target):
        theta = target + (theta - target) * (1 - rate) ** sizes["updates_per_round"]
    np.testing.assert_allclose(states.theta, theta, rtol=1e-4, atol=1e-5)
    assert metrics["episode_return"].shape == (4, 18)


def test_members_that_diverge_are_replaced_even_if_their_actions_hide_it(world):
    plain, env, _ = world

    def update(key, state, data):
        state, metrics = plain.update(key, state, data)
        return state._replace(theta=jnp.where(state.hparams.target > 0.4, jnp.nan, state.theta)), metrics

    agent = Agent(plain.init, lambda key, state, obs: (jnp.nan_to_num(state.theta), ()), update)
    broken = run((agent, env, None), population_size=20, num_rounds=3, resample_probability=0.0)
    lineage = broken.lineage
    np.testing.assert_array_equal(np.isnan(lineage.scores[0]), lineage.hparams.target[0] > 0.4)
    assert np.isnan(lineage.scores[0]).sum() > 4  # more than the fifth that is replaced anyway
    assert not np.isnan(lineage.scores[0])[lineage.parents[1]].any()
    assert (lineage.parents[1] != np.arange(20))[np.isnan(lineage.scores[0])].all()
    assert not np.isnan(broken.lineage.scores[-1][broken.order[0]])
    check_named(broken)


def test_skipped_updates_of_members_are_counted_by_round_and_kept(world, tmp_path):
    """The agent says that steps from θ below 0 were skipped; θ moves from its start to a target above 0 and stays."""
    plain, env, _ = world

    def update(key, state, data):
        return plain.update(key, state, data)[0], {"loss/skipped": jnp.float32(state.theta < 0)}

    agent = Agent(plain.init, plain.act, update)
    space = {"learning_rate": sweep.uniform(0.05, 0.2), "target": sweep.uniform(0.1, 0.2)}
    options = {"population_size": 10, "num_rounds": 3, "exploit_fraction": 0.0} | SIZES
    found = pbt.pbt(jax.random.key(0), agent, env, Hparams(), space, directory=tmp_path / "whole", **options)
    count, after = found.skips
    begun = count[0] > 0
    assert begun.any()
    assert not begun.all()
    assert (after[0][begun] == 0).all()
    for r in (1, 2):  # θ grows, so what is skipped later is skipped from the first update of the round on
        assert (count[r] <= count[r - 1]).all()
        assert (after[r][count[r] > 0] == r * 3 * 2 * EPISODE).all()
    np.testing.assert_array_equal(np.isnan(after), count == 0)
    rows = {(row["round"], row["member"]): row for row in found.rows()}
    np.testing.assert_equal([rows[0, m]["skipped"] for m in range(10)], count[0])
    totals = {row["member"]: (row["skipped"], row["skipped_after"]) for row in found.member_rows()}
    np.testing.assert_equal([totals[m] for m in range(10)], list(zip(count.sum(axis=0), np.where(begun, 0.0, np.nan))))
    with pytest.raises(KeyboardInterrupt):
        pbt.pbt(jax.random.key(0), agent, env, Hparams(), space, directory=tmp_path / "cut", progress=cut, **options)
    again = pbt.pbt(jax.random.key(0), agent, env, Hparams(), space, directory=tmp_path / "cut", resume=True, **options)
    np.testing.assert_array_equal(again.skips, found.skips)
    np.testing.assert_array_equal(pbt.load_pbt(tmp_path / "whole").skips, found.skips)
    score, *_ = plots.family(found).axes
    assert (
        sum(len(each.get_offsets()) for each in score.collections if each.get_gid() == "skipped") == (count > 0).sum()
    )
    said = " ".join(reports.population_cautions(found))
    assert f"{count.sum()} updates had a gradient that was NaN or infinite" in said
    assert "of member" in said


def cut(now):
    raise KeyboardInterrupt


def check_named(broken):
    """Members that diverged are marked in the picture, and named in the report and, in the last round, in the rows."""
    score, *_ = plots.family(broken).axes
    (crosses,) = [each for each in score.collections if each.get_gid() == "diverged"]
    assert len(crosses.get_offsets()) == broken.diverged.sum() > 0
    assert f"diverged {broken.diverged.sum()} times" in " ".join(reports.population_cautions(broken))
    rows = broken.member_rows()
    assert sum(row.get("diverged", False) for row in rows) == broken.diverged[-1].sum()


class Descent(NamedTuple):
    theta: jax.Array
    hparams: Hparams
    num_updates: jax.Array


def test_a_schedule_found_is_better_than_every_fixed_value():
    """θ <- θ + α (ξ[n] - θ), θ₀ = 10, with one sequence ξ[n] ~ N(0, 1)⁶⁴ for all: a large α first and a small one last.

    Members differ by their α alone, so chance plays no part, and NumPy computes the value of any schedule.
    """
    noise = jax.random.normal(jax.random.key(7), (40, 64))

    def init(key, hparams, example, num_envs=1):
        return Descent(jnp.full(64, 10.0), hparams, jnp.int32(0))

    def act(key, state, obs):
        return 0.3 + jnp.sqrt(jnp.mean(state.theta**2)), ()

    def update(key, state, data):
        theta, hparams, count = state
        return Descent(theta + hparams.learning_rate * (noise[count] - theta), hparams, count + 1), {}

    def error(rates):
        theta = np.full(64, 10.0)
        for rate, xi in zip(np.repeat(np.asarray(rates, np.float64), 4), np.asarray(noise, np.float64)):
            theta += rate * (xi - theta)
        return np.mean(theta**2)

    sizes = SIZES | {"updates_per_round": 4, "num_envs": 1, "rollout_length": 1}
    space = {"learning_rate": sweep.log_uniform(0.01, 1.0)}
    found = pbt.pbt(
        jax.random.key(0), Agent(init, act, update), make_env(), Hparams(), space,
        population_size=32, num_rounds=10, **sizes,
    )  # fmt: skip
    theta = np.asarray(found.best.theta, np.float64)
    np.testing.assert_allclose(error(found.schedule().learning_rate), np.mean(theta**2), rtol=1e-4)
    fixed = min(error(np.full(10, rate)) for rate in np.geomspace(0.01, 1, 200))
    assert error(found.schedule().learning_rate) < 0.75 * fixed


def test_the_result_is_a_table_and_its_best_can_be_played(world, result, tmp_path):
    agent = world[0]
    rows = result.rows()
    assert len(rows) == 60
    assert list(rows[0]) == ["round", "member", "steps", "parent", "score", "learning_rate", "target"]
    assert rows[-1]["steps"] == 6 * 3 * 2 * EPISODE
    with open(result.to_csv(tmp_path / "lineage.csv")) as file:
        read = list(csv.DictReader(file))
    assert [float(row["score"]) for row in read] == [row["score"] for row in rows]
    best = int(np.argmax(result.lineage.scores[-1]))
    assert agent.act(None, result.best, None)[0] == result.states.theta[best]
    assert result.select(10).theta == result.states.theta[np.argmin(result.lineage.scores[-1])]
    with pytest.raises(IndexError, match="rank = 11"):
        result.select(11)


def test_the_family_tree_is_drawn(result, tmp_path):
    figure = plots.family(result)
    score, rate, target = figure.axes
    np.testing.assert_allclose(rate.lines[0].get_ydata(), result.schedule().learning_rate)
    np.testing.assert_allclose(target.lines[0].get_ydata(), result.schedule().target)
    np.testing.assert_allclose(score.lines[0].get_xdata(), result.steps)
    assert (rate.get_yscale(), target.get_yscale()) == ("log", "linear")
    died, lived = (np.array(each.get_segments()) for each in score.collections)
    assert len(died) + len(lived) == 5 * 10
    last = lived[lived[:, 1, 0] == result.steps[-1]]
    np.testing.assert_allclose(np.sort(last[:, 1, 1]), np.sort(result.lineage.scores[-1]))
    figure.savefig(tmp_path / "family.png")
    assert (tmp_path / "family.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population_size": 1}, "population_size = 1 must be at least 2"),
        ({"exploit_fraction": 0.6}, "exploit_fraction = 0.6"),
        ({"resample_probability": 1.5}, "resample_probability = 1.5"),
        ({"perturb_factors": ()}, "perturb_factors = "),
        ({"perturb_factors": (0.0,)}, "perturb_factors = "),
        ({"num_rounds": 0}, "num_rounds must be a positive integer"),
        ({"updates_per_round": 0}, "updates_per_round must be a positive integer"),
    ],
)
def test_errors_name_the_argument(world, options, message):
    with pytest.raises(ValueError, match=message):
        run(world, **options)


def test_advancing_in_chunks_is_the_same_run(world, result):
    agent, env, _ = world
    options = {name: SIZES[name] for name in SIZES if name != "num_envs"}
    program = rounds(agent, env, SPACE, population_size=10, **options)
    assert program.num_replaced == 2
    assert rounds(agent, env, SPACE, population_size=10, exploit_fraction=0, **options).num_replaced == 0
    begun = start(jax.random.key(0), program, Hparams(), population_size=10, num_envs=2)
    keys = np.asarray(jax.random.key_data(begun.members.key))
    state, first = advance(begun, program, num_rounds=2, donate=True)
    state, second = advance(state, program, num_rounds=2, donate=True)
    state, third = advance(state, program, num_rounds=2, donate=True)
    equal(jax.tree.map(lambda *x: jnp.concatenate(x), first, second, third), result.lineage)
    # Every member keeps its own key and its own environments, whoever's learner it has.
    equal(jax.random.key_data(state.members.key), keys)
    assert np.unique(state.members.actors.obs.reshape(10, -1), axis=0).shape == (10, 2)


@pytest.mark.parametrize(
    ("size", "share", "expected"), [(8, 0.2, 2), (10, 0.25, 2), (4, 0.1, 1), (5, 0.5, 2), (9, 0.0, 0)]
)
def test_the_share_that_is_replaced_is_rounded(world, size, share, expected):
    agent, env, _ = world
    sizes = {"population_size": size, "updates_per_round": 1, "rollout_length": 1, "exploit_fraction": share}
    assert rounds(agent, env, SPACE, **sizes).num_replaced == expected


def test_the_first_members_can_be_those_of_a_search(world):
    agent, env, _ = world
    found = Hparams(np.array([0.5, 0.25]), np.array([0.3, 0.4]), np.array([1, 2]))
    begun = run(world, initial=found, num_rounds=1)
    first = begun.lineage.hparams
    assert first.learning_rate[0, :2].tolist() == [0.5, 0.25]
    assert first.spread[0, :2].tolist() == [1, 2]
    assert (first.learning_rate[0, 2:] != run(world, num_rounds=1).lineage.hparams.learning_rate[0, :2].mean()).all()
    sizes = {"num_updates": 3, "num_envs": 2, "rollout_length": EPISODE, "eval_episodes": 2, "eval_max_steps": EPISODE}
    search = sweep.search(jax.random.key(0), agent, env, Hparams(), SPACE, num_trials=3, num_seeds=1, **sizes)
    first = run(world, initial=search, num_rounds=1).lineage.hparams.target[0]
    np.testing.assert_array_equal(first[:3], search.hparams.target[search.order])
    with pytest.raises(ValueError, match="initial holds 3 members, but population_size = 2"):
        run(world, initial=search.hparams, population_size=2)


def test_population_based_bandits_copy_the_best_and_choose_what_grew(world, tmp_path):
    """Growth is largest at high learning rates toward the goal; decisions resume to the same bits."""
    whole = run(world, explore="pb2", num_rounds=5, directory=tmp_path / "whole")
    lineage = whole.lineage
    for r in range(1, 5):
        allowed = numpy_exploit(lineage.scores[r - 1], 2)
        assert all(parent in each for parent, each in zip(lineage.parents[r], allowed))
        kept = lineage.parents[r] == np.arange(10)
        np.testing.assert_array_equal(lineage.hparams.target[r][kept], lineage.hparams.target[r - 1][kept])
        assert (lineage.hparams.target[r][~kept] != lineage.hparams.target[r - 1][lineage.parents[r][~kept]]).all()

    def cut(now):
        if now.round == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(world, explore="pb2", num_rounds=5, directory=tmp_path / "cut", progress=cut)
    again = run(world, explore="pb2", num_rounds=5, directory=tmp_path / "cut", resume=True)
    equal(again.lineage, lineage)


def test_the_process_of_population_based_bandits_finds_the_growing_side():
    """The score grows with the target only: of ten copies all go above the middle."""
    rng = np.random.default_rng(0)
    target = rng.uniform(-1, 1, (4, 12)).astype(np.float32)
    scores = np.cumsum(target + 0.01 * rng.normal(size=target.shape), axis=0).astype(np.float32)
    hparams = Hparams(np.full_like(target, 0.1), target, np.ones_like(target, int))
    lineage = Lineage(np.tile(np.arange(12), (4, 1)), hparams, scores)
    now = jax.tree.map(lambda leaf: leaf[-1], hparams)
    made = [pb2.decide(jax.random.key(seed), lineage, now, SPACE, 8, 2) for seed in range(3)]
    moved = [each.hparams.target[0][each.parents[0] != np.arange(12)] for each in made]
    assert np.concatenate(moved).min() > 0.3


def test_population_based_bandits_leave_what_an_agent_adapts_itself():
    """The spread is not searched: a copy has that of its parent's last update."""
    hparams = Hparams(*np.full((3, 2, 4), 0.5, np.float32))
    lineage = Lineage(np.tile(np.arange(4), (2, 1)), hparams, np.tile(np.arange(4, dtype=np.float32), (2, 1)))
    now = Hparams(hparams.learning_rate[-1], hparams.target[-1], np.arange(4.0, 8.0))
    made = pb2.decide(jax.random.key(0), lineage, now, SPACE, 8, 1)
    assert made.hparams.spread.tolist() == [[7.0, 5.0, 6.0, 7.0]]


def test_members_that_learn_nothing_play_other_episodes_in_each_round(world):
    agent = world[0]._replace(update=lambda key, state, data: (state, {}))
    scores = run((agent, world[1], None), exploit_fraction=0.0, num_rounds=3).lineage.scores
    assert (scores[0] != scores[1]).all()
    assert (scores[1] != scores[2]).all()

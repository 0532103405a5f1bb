from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from purerl import sweep
from purerl.hparams import Interval
from purerl.sweep.trials import parsing, spaces, trials

KEY = jax.random.key(0)


class Hparams(NamedTuple):
    learning_rate: Annotated[Any, Interval(0.0, 1.0)] = 1e-3
    discount: Any = 0.99
    num_steps: Any = 4
    average: Any = False


class Params(NamedTuple):
    low: Any
    high: Any


def draws(space, num_trials=4000, name="discount"):
    return getattr(sweep.sample(KEY, Hparams(), {name: space}, num_trials), name)


@pytest.mark.parametrize(
    ("space", "distribution"),
    [(sweep.uniform(-2.0, 3.0), stats.uniform(-2, 5)), (sweep.log_uniform(1e-4, 1e-1), stats.loguniform(1e-4, 1e-1))],
)
def test_continuous_draws_follow_their_distribution(space, distribution):
    values = draws(space)
    assert stats.kstest(values, distribution.cdf).pvalue > 0.01
    assert stats.kstest(values, stats.uniform(-2.1, 5.3).cdf).pvalue < 0.01  # the test has the power to tell


def test_integers_and_choices_are_equally_likely_and_reach_both_ends():
    values, counts = np.unique(draws(sweep.integers(3, 7), name="num_steps"), return_counts=True)
    assert values.tolist() == [3, 4, 5, 6, 7]
    assert stats.chisquare(counts).pvalue > 0.01
    values, counts = np.unique(draws(sweep.choice([0.1, 0.5, 0.7])), return_counts=True)
    np.testing.assert_allclose(values, [0.1, 0.5, 0.7], rtol=1e-6)
    assert stats.chisquare(counts).pvalue > 0.01


def test_the_ends_of_the_unit_interval_stay_within_the_space():
    unit = np.array([0.0, 1 - 2**-24, 1.0])
    values = sweep.log_uniform(1e-4, 0.3).from_unit(unit)
    np.testing.assert_allclose(values, [1e-4, 0.3, 0.3], rtol=1e-6)
    assert values.min() >= 1e-4
    assert values.max() <= 0.3
    assert sweep.integers(-2, 2).from_unit(unit).tolist() == [-2, 2, 2]
    assert sweep.choice([5, 6]).from_unit(unit).tolist() == [5, 6, 6]


def test_hyperparameters_are_drawn_independently():
    table = sweep.sample(KEY, Hparams(), {"learning_rate": sweep.uniform(0, 1), "discount": sweep.uniform(0, 1)}, 4000)
    assert abs(np.corrcoef(table.learning_rate, table.discount)[0, 1]) < 0.05


def test_a_draw_depends_on_its_key_name_and_trial_alone():
    rate = {"learning_rate": sweep.log_uniform(1e-4, 1e-2)}
    both = {"discount": sweep.uniform(0.9, 1.0)} | rate
    small, large = sweep.sample(KEY, Hparams(), rate, 5), sweep.sample(KEY, Hparams(), both, 9)
    np.testing.assert_array_equal(small.learning_rate, large.learning_rate[:5])
    assert (sweep.sample(jax.random.key(1), Hparams(), rate, 5).learning_rate != small.learning_rate).all()


def test_a_table_has_the_dtypes_of_training_and_the_constants():
    space = {"num_steps": sweep.integers(1, 9), "average": sweep.choice([True, False]), "discount": 1}
    table = sweep.sample(KEY, Hparams(), space, 6)
    assert [leaf.dtype.name for leaf in table] == ["float32", "float32", "int32", "bool"]
    assert all(leaf.shape == (6,) for leaf in table)
    assert table.discount.tolist() == [1.0] * 6
    np.testing.assert_array_equal(table.learning_rate, np.float32(1e-3))
    np.testing.assert_array_equal(jax.vmap(lambda h: h.num_steps + h.discount)(table), table.num_steps + 1.0)


def test_a_grid_is_every_combination():
    space = {
        "learning_rate": sweep.log_uniform(1e-4, 1e-2, points=3),
        "num_steps": sweep.integers(1, 2),
        "average": sweep.choice([True, False]),
        "discount": sweep.uniform(0.9, 1.0, points=2),
    }
    rows = list(zip(*(leaf.tolist() for leaf in sweep.grid(Hparams(), space))))
    assert len(rows) == len(set(rows)) == 3 * 2 * 2 * 2
    np.testing.assert_allclose(sorted({row[0] for row in rows}), [1e-4, 1e-3, 1e-2], rtol=1e-6)
    assert rows[0][2:] == (1, True)
    assert [row[1] for row in rows[:2]] == pytest.approx([0.9, 1.0])


def test_grids_of_integers_are_thinned_without_repeats():
    assert sweep.integers(1, 9, points=3).grid().tolist() == [1, 5, 9]
    assert sweep.integers(1, 3, points=10).grid().tolist() == [1, 2, 3]


def test_a_space_without_spaces_is_one_trial():
    assert sweep.grid(Hparams(), {"discount": 0.5}).discount.tolist() == [0.5]


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        ({"leraning_rate": sweep.uniform(0, 1)}, ValueError, "leraning_rate.*did you mean 'learning_rate'"),
        ({"zzz": 1.0}, ValueError, "'zzz'.*learning_rate, discount"),
        ({"learning_rate": sweep.uniform(0.5, 2)}, ValueError, "learning_rate = 2"),
        ({"learning_rate": sweep.choice([0.5, -1.0])}, ValueError, "learning_rate = -1"),
        ({"learning_rate": -0.5}, ValueError, "learning_rate = -0.5"),
        ({"discount": float("nan")}, ValueError, "discount is NaN"),
        ({"discount": sweep.choice([0.5, float("nan")])}, ValueError, "discount is NaN"),
        ({"discount": sweep.choice([0.5, "0.6"])}, ValueError, "'discount'.*'0.6' is not a number"),
        ({"discount": sweep.choice([None])}, ValueError, "'discount'.*None is not a number"),
        ({"discount": "0.5"}, TypeError, "'discount'.*neither a number nor"),
        ({"discount": [0.5, 0.6]}, TypeError, r"'discount'.*choice\(\[...\]\)"),
        ({"num_steps": sweep.uniform(1, 9)}, ValueError, "'num_steps'.*float.*integer"),
        ({"num_steps": sweep.choice([1, 2.5])}, ValueError, "'num_steps'.*2.5"),
        ({"average": sweep.integers(0, 1)}, ValueError, "'average'.*integer.*bool"),
        ({"discount": sweep.choice([True, False])}, ValueError, "'discount'.*bool.*float"),
    ],
)
def test_errors_name_the_hyperparameter(space, error, message):
    with pytest.raises(error, match=message):
        sweep.sample(KEY, Hparams(), space, 3)


def test_errors_of_the_base_hyperparameters_and_of_the_grid():
    with pytest.raises(ValueError, match="learning_rate = 7"):
        sweep.sample(KEY, Hparams(learning_rate=7), {"discount": sweep.uniform(0, 1)}, 3)
    with pytest.raises(ValueError, match=r"'discount'.*points"):
        sweep.grid(Hparams(), {"discount": sweep.uniform(0, 1)})
    with pytest.raises(TypeError, match="NamedTuple"):
        sweep.sample(KEY, {"discount": 1}, {"discount": sweep.uniform(0, 1)}, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sweep.uniform(1.0, 1.0), "low = 1.0 must be below high"),
        (lambda: sweep.log_uniform(0.0, 1.0), "low = 0.0 must be above 0"),
        (lambda: sweep.uniform(float("nan"), 1.0), "low = nan"),
        (lambda: sweep.uniform(0.0, float("inf")), "high = inf"),
        (lambda: sweep.integers(0.5, 2), "integers"),
        (lambda: sweep.choice([]), "values is empty"),
        (lambda: sweep.uniform(0, 1, points=1), "points = 1"),
    ],
)
def test_a_space_that_makes_no_sense_cannot_be_built(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_space_from_its_high_to_its_low_is_refused():
    with pytest.raises(ValueError, match=r"low = 2\.0 must be below high = 1\.0"):
        sweep.uniform(2.0, 1.0)


def test_the_kind_of_a_hyperparameter_is_that_of_its_default_not_of_the_value_given():
    table = sweep.sample(KEY, Hparams(discount=1), {"discount": sweep.uniform(0.5, 1.0)}, 3)
    assert table.discount.dtype == np.float32
    assert sweep.sample(KEY, Hparams(discount=jnp.float32(1)), {}, 2).discount.tolist() == [1.0, 1.0]


def test_spaces_survive_json():
    space = {"a": sweep.log_uniform(1e-4, 1e-2, points=3), "b": sweep.integers(1, 4), "c": sweep.choice([1, 2])}
    assert spaces.from_json(spaces.to_json(space)) == space


def test_scalars_of_numpy_and_jax_become_python_numbers():
    space = sweep.choice([np.float32(0.1), jnp.float32(0.5), np.int64(3), np.bool_(True), "tanh", (64, 64)])
    assert space.values == (0.1, 0.5, 3, True, "tanh", (64, 64))
    assert [type(value) for value in space.values[:4]] == [float, float, int, bool]
    assert sweep.uniform(np.float32(0.1), jnp.float32(2)) == sweep.uniform(0.1, 2.0)


@pytest.mark.filterwarnings("error")
def test_a_column_that_is_infinite_all_over_is_not_searched():
    table = Hparams(np.array([0.1, 0.2]), np.full(2, 0.9), np.full(2, np.inf), np.zeros(2))
    assert sorted(trials.make(KEY, table, None, None).columns) == ["learning_rate"]


def test_integers_in_the_logarithm_have_equal_shares_in_equal_ratios():
    drawn = draws(sweep.log_integers(1, 1023), name="num_steps")
    counts = [((drawn >= low) & (drawn < 2 * low)).sum() for low in 2 ** np.arange(10)]
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    "space",
    [sweep.uniform(-2, 3), sweep.log_uniform(1e-4, 1), sweep.integers(2, 9), sweep.log_integers(2, 900),
     sweep.choice([0.1, 5.0, 0.2])],
)  # fmt: skip
def test_positions_are_the_inverse_of_draws(space):
    values = space.from_unit(np.linspace(0.001, 0.999, 40))
    np.testing.assert_allclose(space.from_unit(space.to_unit(values.astype(np.float32))), values, rtol=1e-5)


def test_a_choice_in_turn_survives_json():
    space = {"discount": sweep.choice([0.9, 0.99], in_turn=True)}
    assert spaces.from_json(spaces.to_json(space)) == space


def test_a_value_lies_in_the_middle_of_its_share():
    assert sweep.choice([8, 16, 32]).to_unit(np.array([8, 32])).tolist() == pytest.approx([1 / 6, 5 / 6])


@pytest.mark.parametrize(
    ("space", "value", "nearest"),
    [
        (sweep.log_uniform(0.1, 1), 0.0, 0.1), (sweep.log_uniform(0.1, 1), -1.0, 0.1), (sweep.uniform(2, 3), np.inf, 3),
        (sweep.log_integers(1, 4), 7, 4), (sweep.integers(1, 4), -7, 1), (sweep.choice([1, 2, 3]), 7, 3),
        (sweep.choice([True]), False, True),
    ],
)  # fmt: skip
def test_a_value_outside_has_the_position_of_the_nearest_one(space, value, nearest):
    assert space.to_unit(np.array([value])).tolist() == space.to_unit(np.array([nearest])).tolist()


def test_points_of_integers_are_the_nearest_ones():
    assert sweep.integers(0, 10, points=4).grid().tolist() == [0, 3, 7, 10]  # of 0, 3.33, 6.67 and 10


def test_a_prior_is_cut_to_its_bounds_and_not_piled_up_there():
    space, units = sweep.uniform(0.0, 1.0, prior=(0.0, 0.5)), np.array([0.05, 0.5, 0.95])
    np.testing.assert_allclose(space.from_unit(units), stats.truncnorm.ppf(units, 0, 2, 0.0, 0.5), rtol=1e-6)


def test_a_prior_gathers_draws_around_its_center():
    drawn = draws(sweep.log_uniform(1e-4, 1.0, prior=(1e-3, 0.1)), name="learning_rate")
    position = 1 + np.log10(drawn.astype(float)) / 4
    expected = stats.truncnorm((0 - 0.25) / 0.1, (1 - 0.25) / 0.1, 0.25, 0.1)
    assert stats.kstest(position, expected.cdf).pvalue > 1e-3
    on_device = sweep.uniform(0, 1, prior=(0.2, 0.1)).from_unit(jnp.float32(0.5))
    assert float(on_device) == pytest.approx(0.2, abs=0.01)
    with pytest.raises(ValueError, match="prior = "):
        sweep.uniform(0, 1, prior=(2.0, 0.1))


CHAIN = {
    "average": sweep.choice([False, True]),
    "discount": sweep.when("average", [True], sweep.choice([0.5, 0.6])),
    "num_steps": sweep.when("discount", [0.6], sweep.integers(7, 8)),
}


def test_a_name_is_searched_only_where_its_condition_holds():
    columns = trials.make(KEY, Hparams(), CHAIN, 200).columns
    average, discount, steps = columns["average"], columns["discount"], columns["num_steps"]
    discount = np.round(discount.astype(float), 3)
    assert set(discount[average]) == {0.5, 0.6}
    assert set(discount[~average]) == {0.99}
    open_to_steps = discount == 0.6
    assert set(steps[open_to_steps]) == {7, 8}
    assert set(steps[~open_to_steps]) == {4}


@pytest.mark.parametrize("num_trials", [20, None])
@pytest.mark.parametrize("default", [0.99, np.inf])
def test_a_default_stays_beside_whole_numbers(default, num_trials):
    space = {"average": sweep.choice([False, True]), "discount": sweep.when("average", [True], sweep.choice([0, 1]))}

    class Free(NamedTuple):
        average: bool = False
        discount: float = default

    made = trials.make(KEY, Free(), space, num_trials).hparams
    assert set(made.discount[~made.average]) == {np.float32(default)}


def test_a_grid_of_conditions_has_each_setting_once():
    found = trials.make(KEY, Hparams(), CHAIN, None).columns
    rows = [(average, round(float(discount), 3), steps) for average, discount, steps in zip(*found.values())]
    assert rows == [(False, 0.99, 4), (True, 0.5, 4), (True, 0.6, 7), (True, 0.6, 8)]


@pytest.mark.parametrize("space", [sweep.integers(0, 2**33), sweep.choice([1, 2**33]), 2**33])
def test_integers_beyond_int32_are_named(space):
    with pytest.raises(ValueError, match="num_steps = 8589934592 is beyond the range of int32"):
        trials.make(KEY, Hparams(), {"num_steps": space}, 4)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"discount": sweep.when("averag", [True], sweep.uniform(0, 1))}, "'averag', which is not searched.*"),
        (
            {"discount": sweep.when("num_steps", [1], sweep.uniform(0, 1)),
             "num_steps": sweep.when("discount", [1], sweep.integers(1, 2))},
            "discount, num_steps form a circle",
        ),
        (
            {"average": sweep.choice([False]), "discount": sweep.when("average", [True], sweep.uniform(0, 1))},
            "depends on average = True, which its space never has",
        ),
        (
            {"discount": sweep.uniform(0.1, 0.5), "num_steps": sweep.when("discount", [0.3], sweep.integers(1, 2))},
            "depends on discount = 0.3, which its space never has",
        ),
        (
            {"num_steps": sweep.integers(1, 4), "discount": sweep.when("num_steps", [5, 2.5], sweep.uniform(0, 1))},
            "depends on num_steps = 5, 2.5, which its space never has",
        ),
    ],
)  # fmt: skip
def test_conditions_that_make_no_sense_are_refused(space, message):
    with pytest.raises(ValueError, match=message):
        trials.make(KEY, Hparams(), space, 4)


def test_a_condition_may_ask_for_a_point_of_a_grid():
    space = {
        "discount": sweep.uniform(0.1, 0.5, points=3),
        "num_steps": sweep.when("discount", [0.3], sweep.integers(1, 2)),
    }
    assert trials.make(KEY, Hparams(), space, None).size == 4


def test_a_constraint_leaves_out_what_it_does_not_allow():
    space = {"discount": sweep.uniform(0, 1), "num_steps": sweep.integers(1, 9)}
    some = trials.make(KEY, Hparams(), space, 50, constraint=lambda it: it["discount"] * it["num_steps"] < 2)
    assert some.size == 50
    assert (some.columns["discount"] * some.columns["num_steps"] < 2).all()
    again = trials.make(KEY, Hparams(), space, 80, constraint=lambda it: it["discount"] * it["num_steps"] < 2)
    np.testing.assert_array_equal(again.columns["discount"][:50], some.columns["discount"])
    grid = {"num_steps": sweep.integers(1, 9)}
    odd = trials.make(KEY, Hparams(), grid, None, constraint=lambda it: it["num_steps"] % 2 == 1)
    assert odd.columns["num_steps"].tolist() == [1, 3, 5, 7, 9]
    with pytest.raises(ValueError, match="only 0 of 512 draws are allowed"):
        trials.make(KEY, Hparams(), space, 4, constraint=lambda it: False)


def test_the_first_trials_of_a_table_are_those_of_a_smaller_search_with_its_groups_alone():
    def make(count):
        return trials.make(KEY, Hparams(), {}, count, static={"num_envs": sweep.choice([2, 4], in_turn=True)})

    assert trials.first_trials(make(4), 1).groups == make(1).groups == ({"num_envs": 2},)


def test_a_larger_search_with_a_constraint_begins_with_the_smaller_one():
    def make(count):
        space = {"discount": sweep.uniform(0.0, 1.0)}
        return trials.make(KEY, Hparams(), space, count, constraint=lambda settings: settings["discount"] < 0.5)

    np.testing.assert_array_equal(make(8).columns["discount"][:4], make(4).columns["discount"])


def test_a_condition_holds_for_a_float_that_was_rounded():
    """The default of `env.low` is 0.3 in float32, and `env.high` depends on it."""
    space = {
        "discount": sweep.choice([0.5, 0.9]),
        "env.low": sweep.when("discount", [0.5], sweep.uniform(0.1, 0.2)),
        "env.high": sweep.when("env.low", [0.3], sweep.uniform(1.0, 2.0)),
    }
    made = trials.make(KEY, Hparams(), space, 16, env_params=Params(np.float32(0.3), 5.0)).columns
    searched = made["env.high"] != 5.0
    np.testing.assert_array_equal(searched, np.isclose(made["discount"], 0.9))
    assert searched.any()


def test_what_shapes_a_program_is_known_by_its_name():
    names = ("algorithm", "num_envs", "rollout_length", "agent.num_epochs", "network.hidden", "learning_rate")
    assert [parsing.is_static(name) for name in names] == [True] * 5 + [False]


def test_points_of_a_grid_can_be_typed():
    assert parsing.parse_space("uniform:0,1,points=3").grid().tolist() == [0.0, 0.5, 1.0]


def test_a_condition_can_be_typed():
    space = parsing.parse_spaces({"discount": "uniform:0.1,0.2 if num_steps=4|8", "num_steps": "log_integers:1,64"})
    assert space["discount"] == sweep.when("num_steps", [4, 8], sweep.uniform(0.1, 0.2))
    assert space["num_steps"] == sweep.log_integers(1, 64)
    with pytest.raises(ValueError, match="not of the form NAME=VALUE"):
        parsing.parse_space("uniform:0,1 if num_steps")

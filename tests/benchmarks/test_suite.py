"""The suite of benchmarks: its figures by hand, its rows, and one comparison from end to end."""

import collections
import importlib.util
import pathlib
import sys

import jax.numpy as jnp
import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import driving, pages, records, rows  # noqa: E402
from benchmarks.peers import environments  # noqa: E402

READY = {"purerl": {"work": 100.0, "compile_seconds": 2.0}, "peer": {"work": 10.0}}
# purerl: 50, 100 and 25 a second; the peer: 10, 5 and 20
RUNS = [
    {"purerl": {"seconds": a, "cpu_seconds": a, "score": 3.0}, "peer": {"seconds": b, "cpu_seconds": 2 * b}}
    for a, b in ((2.0, 1.0), (1.0, 2.0), (4.0, 0.5))
]


def test_rates_are_medians_of_work_over_time():
    ours = driving.figures("purerl", READY, RUNS)
    told = [ours[name] for name in ("rate", "quartiles", "score", "compile_seconds", "cpu_seconds_per_million")]
    assert told == [50.0, [37.5, 75.0], 3.0, 2.0, 2e4]


def test_a_ratio_is_that_of_the_rates_of_each_round():
    assert driving.ratio("peer", READY, RUNS) == [5.0, 1.25, 20.0]


def test_rows_of_a_curve_run_in_turn(monkeypatch):
    told = []

    class Fake:
        ready = {"work": 6.0}

        def __init__(self, side, workload):
            self.size = workload["size"]

        def run(self):
            told.append(self.size)
            return {"seconds": self.size, "cpu_seconds": 1.0}

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(driving, "Worker", Fake)
    workers = {str(size): (driving.Side("purerl", sys.executable), {"size": size}) for size in (2.0, 3.0)}
    found = driving.measure_series(workers, rounds=2)
    assert told == [2.0, 3.0, 2.0, 3.0]
    assert {name: each["rate"] for name, each in found.items()} == {"2.0": 3.0, "3.0": 2.0}


def test_only_the_curves_share_a_turn():
    turns = collections.Counter(row.turn for row in rows.ROWS.values())
    assert {turn for turn, number in turns.items() if number > 1} == {"scaling/environments", "scaling/agents"}


def test_the_matrix_rate_and_the_cores_in_use_are_those_of_the_time():
    figures = {"rate": 2e6, "cpu_seconds_per_million": 0.75, "operations_per_unit": 5e3, "peak_rate": 4e10}
    assert (pages.busy(figures), pages.peak_share(figures)) == (1.5, 0.25)
    ours = figures | {"quartiles": [1e6, 3e6], "compile_seconds": 2.04, "one_core": 1.0}
    record = {"ppo/task": {"unit": "steps", "sides": {"purerl": ours, "plain": {"ratio": [2.0, 1.0, 3.0]}}}}
    head, _, row = pages.markdown(record).splitlines()[2:5]
    assert head.endswith("| compile | temporary memory | operations | of the matrix rate | cores busy | score |")
    assert row == "| task | 2M on one core | single file **2.00 [1.00, 3.00]** | 2.0 s |  | 5k | 25% | 1.5 |  |"
    assert pages.lines("ppo/task", record["ppo/task"] | {"sides": {"purerl": ours}}) == [
        "ppo/task: 2M steps/s [1M, 3M] on one core, compiled in 2.0 s, 25% of the matrix rate, 1.5 cores busy"
    ]


def test_thresholds_are_told_by_side():
    side = {"median_steps": 30_336.0, "median_seconds": 0.183, "compile_seconds": 4.3, "seeds_that_reached_it": 2}
    assert pages.thresholds({"purerl": side | {"steps": [1, 2, None]}}).splitlines()[-1] == (
        "| purerl | 30,336 | 0.18 s | 4.3 s | 2 of 3 |"
    )


def entry(low, rate, high):
    return {"date": "2026-01-01", "sides": {"purerl": {"rate": rate, "quartiles": [low, high]}}}


@pytest.mark.parametrize(
    ("now", "word"), [((21, 22, 23), "faster"), ((9, 10, 11), "slower"), ((15, 19, 23), "within the noise")]
)
def test_the_record_is_judged_only_outside_the_quartiles(now, word):
    assert word in records.verdict(entry(*now), entry(15, 18, 20))


def test_every_side_has_a_worker():
    sides = {"purerl"}.union(*(row.peers for row in rows.ROWS.values()))
    assert all((driving.WORKERS / f"in_{side}.py").is_file() for side in sides)


def test_every_side_has_a_name_in_the_tables():
    assert set().union(*(row.peers for row in rows.ROWS.values())) <= pages._LABELS.keys()


def test_an_unknown_row_is_refused_with_the_groups():
    with pytest.raises(ValueError, match="groups are ppo, double_dqn"):
        rows.chosen(["poo"])


def test_a_row_is_measured_from_end_to_end_and_compiles_whatever_was_compiled_before(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    workload = {"kind": "policy_iteration"}
    sides = {side: driving.Side(side, environments.python(side)) for side in ("purerl", "numpy")}
    found = records.entry("solves", driving.measure(sides, workload, 2), 2)
    assert found["sides"]["purerl"]["rate"] > 0
    assert "times NumPy" in pages.lines("mdp/policy_iteration", found)[1]
    assert "| policy_iteration |" in pages.markdown({"mdp/policy_iteration": found})
    assert not list(tmp_path.iterdir())


def test_a_compiled_side_tells_its_operations_and_the_rate_of_bare_products(monkeypatch):
    monkeypatch.syspath_prepend(str(driving.WORKERS))
    spec = importlib.util.spec_from_file_location("worker_compiling", driving.WORKERS / "compiling.py")
    spec.loader.exec_module(compiling := importlib.util.module_from_spec(spec))
    run, facts = compiling.compiled(lambda x: x @ x, lambda seed: (jnp.full((16, 16), seed, jnp.float32),))
    assert float(run(2)[0, 0]) == 64.0
    assert facts["operations"] == 2 * 16**3
    assert facts["peak_rate"] > 1e9


def test_a_worker_that_fails_says_which():
    with pytest.raises(RuntimeError, match="in_numpy"):
        driving.Worker(driving.Side("numpy", sys.executable), {"kind": "nothing"})


@pytest.mark.parametrize(("seconds", "one_core"), [((3.0, 2.0), 1.0), ((2.0, 3.0), 0.0)])
def test_a_side_keeps_the_faster_of_its_workers(monkeypatch, seconds, one_core):
    closed = []

    class Fake:
        def __init__(self, side, workload, *, one_core=False):
            self.one_core, self.ready = float(one_core), {}

        def run(self):
            return {"seconds": seconds[int(self.one_core)]}

        def __enter__(self):
            return self

        def __exit__(self, *error):
            closed.append(self.one_core)

    monkeypatch.setattr(driving, "Worker", Fake)
    chosen = driving.start(driving.Side("purerl", sys.executable, tries_one_core=True), {})
    assert (chosen.one_core, closed) == (one_core, [1 - one_core])
    assert chosen.ready["one_core_gain"] == seconds[0] / seconds[1]


def test_one_core_is_told_with_what_it_gains():
    told = [pages._cores({"one_core": number, "one_core_gain": 1.254}) for number in (1.0, 0.0)]
    assert told == [" on one core (1.25 times all cores)", ""]
    assert pages._cores({"one_core": 1.0}) == " on one core"


def test_a_population_keeps_all_cores():
    tries = {name: row.tries_one_core for name, row in rows.ROWS.items()}
    assert tries["ppo/CartPole-v1/4x128"]
    assert not tries["ppo/CartPole-v1/4x128/64 agents"]
    assert not tries["mdp/policy_iteration/FrozenLake8x8"]

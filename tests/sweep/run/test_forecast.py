"""Plans for accelerators that are not there, with the CPU's compiler in place of theirs."""

import functools

import jax
import pytest
from bandits import Hparams, make_agent, make_env
from commanding import TINY, fails, purerl, said

from purerl import sweep
from purerl.accelerators import programs, targets
from purerl.accelerators.targets import H100
from purerl.commands import plans
from purerl.sweep.run import forecast, memory
from purerl.sweep.trials.trials import make
from purerl.text import format_bytes, format_number

HOST = H100._replace(name="host", label="a host", platform="cpu", memory=1e6)
SIZES = {"num_updates": 8, "num_envs": 3, "rollout_length": 4, "eval_episodes": 5, "eval_max_steps": 4}
LIMIT = 200e3


@pytest.fixture(autouse=True)
def compile_for_the_host(monkeypatch):
    monkeypatch.setattr(programs, "devices", lambda target: jax.devices("cpu"))


@pytest.fixture(scope="module")
def forecasts():
    trials = make(jax.random.key(0), Hparams(), {"learning_rate": sweep.log_uniform(1e-2, 1.0)}, 2000)
    halving = sweep.successive_halving(eta=4, num_rungs=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "devices", lambda target: jax.devices("cpu"))
        return sweep.forecast(
            HOST, make_agent(), make_env(), trials, num_seeds=1, schedule=halving, memory_limit=LIMIT, **SIZES
        )


def test_a_rung_that_does_not_fit_is_cut_into_blocks_that_do(forecasts):
    first = forecasts[0]
    assert first.num_agents == 2000
    assert first.num_blocks > 1
    assert first.block.bytes <= LIMIT
    assert first.num_blocks * first.block.width >= first.num_agents


def test_the_width_from_two_others_takes_what_the_compiler_says_within_five_percent(forecasts):
    """A block of the largest width that the line proposes takes the limit, by the compiler's own account."""
    first = forecasts[0]
    per_agent = first.block.bytes / first.block.width
    assert first.most * per_agent == pytest.approx(LIMIT, rel=0.05)


def test_the_time_of_a_rung_is_that_of_its_updates_and_its_evaluation(forecasts):
    last = forecasts[1]
    assert last.num_agents == 500
    updates = SIZES["num_updates"] - 2  # the first rung makes two
    expected = updates * last.block.update.total + SIZES["eval_max_steps"] * last.block.evaluation.total
    assert last.seconds == pytest.approx(last.num_blocks * expected)


def test_all_brackets_of_hyperband_are_forecast(monkeypatch):
    second = programs.Seconds(0.0, 0.0, 0.0, 1.0)
    block_of = functools.partial(forecast.Block, bytes=100.0, update=second, evaluation=second, compile_seconds=1.0)
    monkeypatch.setattr(forecast, "_maker", lambda *_: block_of)
    trials = make(jax.random.key(0), Hparams(), {"learning_rate": sweep.log_uniform(1e-2, 1.0)}, 8)
    schedule = sweep.hyperband(eta=2, num_brackets=2)
    found = sweep.forecast(HOST, make_agent(), make_env(), trials, num_seeds=1, schedule=schedule, **SIZES)
    assert [each.stage for each in found] == ["bracket0-rung0", "bracket0-rung1", "bracket1-rung0"]
    assert [each.num_agents for each in found] == [4, 2, 4]


def test_here_the_time_is_measured_and_the_disk_holds_what_was_forecast(tmp_path):
    """Blocks of 4 of 16 agents, of which 8 go on: 16 and 8 states, and two saves of the running block."""
    space = {"learning_rate": sweep.log_uniform(1e-2, 1.0)}
    sizes = SIZES | {"num_seeds": 1, "schedule": sweep.successive_halving(eta=2, num_rungs=2), "block_size": 4}
    trials = make(jax.random.key(0), Hparams(), space, 16)
    found = sweep.forecast(None, make_agent(), make_env(), trials, **sizes)
    assert [(each.num_agents, each.num_blocks, each.block.width) for each in found] == [(16, 4, 4), (8, 2, 4)]
    assert all(each.seconds > 0 and each.block.compile_seconds > 0 for each in found)
    state = found[0].state_bytes
    assert forecast.disk_bytes(found, keep=10) == (16 + 8 + 2 * 4) * state
    stored = []

    def count(_):
        stored.append(sum(1 for _ in tmp_path.glob("blocks/*")))

    sweep.search(jax.random.key(0), make_agent(), make_env(), trials, directory=tmp_path, progress=count, **sizes)
    assert max(stored) * 4 * state <= forecast.disk_bytes(found, keep=10)
    assert max(stored) * 4 >= 16


def test_the_best_trials_alone_stay_on_the_disk_after_a_last_rung(forecasts):
    last = forecasts[-1:]
    width = last[0].block.width
    assert forecast.disk_bytes(last, keep=1) == (min(last[0].num_blocks, 2) * width + 2 * width) * last[0].state_bytes


def test_a_width_is_never_compiled_far_beyond_the_limit_if_a_first_width_is_given():
    asked = []

    def measure(width):
        asked.append(width)
        return 1e3 + 10.0 * width + (500.0 if width > 300 else 0.0)  # another program for wide blocks

    width, taken = memory.widest(10**6, 2, 10e3, measure, first=64)
    assert (width, taken) == (850, 10e3)
    assert max(asked) < 1000


def test_the_command_prints_the_plan_and_leaves_nothing(tmp_path, capsys, monkeypatch, forecasts):
    asked = {}

    def made(target, agent, env, trials, **sizes):
        asked.update(sizes, target=target, num_trials=trials.size)
        return forecasts

    monkeypatch.setattr(plans, "find", lambda name: HOST)
    monkeypatch.setattr(sweep, "forecast", made)
    sizes = ("--num-trials", 3, "--num-seeds", 2, "--num-steps", 160, "--memory-limit", "200kB", *TINY)
    where = ("--price-per-hour", 3600, "--block-size", "measured", "--runs-dir", tmp_path)
    purerl("sweep", "--plan", "gpu", *where, *sizes)
    assert asked["target"] is HOST
    assert (asked["num_trials"], asked["num_seeds"], asked["num_updates"]) == (3, 2, 10)
    assert (asked["memory_limit"], asked["eval_max_steps"]) == (200_000, 500)
    printed = said(capsys)
    assert "on one a host, blocks of at most 200 kB of 1 MB" in printed
    assert f"{forecasts[0].num_blocks} of {forecasts[0].block.width}" in printed
    assert "Nothing was run" in printed
    assert "tries the widths of its blocks when it begins" in printed
    seconds = sum(each.seconds for each in forecasts) + forecasts[0].block.compile_seconds
    seconds += (forecasts[1].block != forecasts[0].block) * forecasts[1].block.compile_seconds
    assert f"At 3600 per hour that is {format_number(seconds)} at least" in printed
    assert f"at most {format_bytes(forecast.disk_bytes(forecasts, 10))} at a time" in printed
    assert not list(tmp_path.iterdir())


def test_a_compiler_that_is_missing_is_named_with_the_command_that_installs_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(targets, "_installed", lambda target: False)
    targets._devices.cache_clear()
    message = fails(capsys, "sweep", "--plan", "gpu", "--runs-dir", tmp_path)
    assert f"pip install --no-deps 'jax-cuda12-plugin=={jax.__version__}'" in message


def test_a_plan_saves_nothing_so_it_takes_no_name(capsys):
    assert "leave out --ray, --distributed and --name" in fails(capsys, "sweep", "--plan", "h100", "--name", "x")

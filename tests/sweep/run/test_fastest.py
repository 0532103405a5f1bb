"""The width at which members train fastest: tried, noted and remembered."""

import json

import jax
import pytest
from bandits import EPISODE, Hparams, make_agent, make_env

from purerl import loops, sweep
from purerl.sweep.run import fastest
from purerl.sweep.run.programs import MemberData, Program

KEY, AGENT, ENV = jax.random.key(0), make_agent(), make_env()
SPACE = {"target": sweep.uniform(-1.0, 1.0)}
OPTIONS = {
    "num_trials": 12, "num_seeds": 1, "num_updates": 4, "num_envs": 2, "rollout_length": EPISODE, "num_chunks": 2,
    "eval_episodes": 2, "eval_max_steps": EPISODE,
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "cache"))
    yield tmp_path / "cache" / fastest.FILE
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def tried(monkeypatch):
    """Widths that are tried, on a machine where three members are fastest."""
    found = []

    def rate(program, member, num_updates, width, limit):
        found.append(width)
        return {12: 5.0, 8: 6.0, 6: 8.0, 4: 9.0, 3: 9.1, 2: 4.0}.get(width, 1.0)

    monkeypatch.setattr(fastest, "_rate", rate)
    return found


def run(**options):
    return sweep.search(KEY, AGENT, ENV, Hparams(), SPACE, **OPTIONS | options)


def rates(rate):
    return lambda width: float(rate[width])


@pytest.mark.parametrize(
    ("rate", "first", "unit", "most", "found"),
    [
        ({4: 1, 8: 2, 16: 1.5}, 4, 1, 99, 8),  # up
        ({4: 1, 8: 1, 2: 2, 1: 3}, 4, 1, 99, 1),  # down to the least
        ({4: 1, 8: 1.02, 2: 1.02}, 4, 1, 99, 4),  # no gain worth the name
        ({4: 1, 8: 2}, 4, 1, 8, 8),  # up to the largest
        ({6: 1, 12: 0, 2: 2}, 6, 2, 99, 2),  # of an odd half the multiple below
    ],
)
def test_widths_are_tried_in_one_direction_as_long_as_they_gain(rate, first, unit, most, found):
    assert fastest.climb(first, unit, most, rates(rate)) == found


def test_a_search_takes_the_fastest_width_and_resumes_with_it(tmp_path, tried):
    result = run(block_size="measured", directory=tmp_path / "run")
    assert tried == [12, 6, 3, 1]
    tried.clear()
    assert (tmp_path / "run" / "journal").read_text().count('"kind":"fastest"') == 1
    again = run(block_size="measured", directory=tmp_path / "run", resume=True)
    assert tried == []
    assert again.iqm.tolist() == result.iqm.tolist()


def test_the_values_are_those_of_that_width(tried):
    assert run(block_size="measured").iqm.tolist() == run(block_size=3).iqm.tolist()


def test_another_search_of_the_same_members_remembers(cache, tried):
    run(block_size="measured", num_trials=64)
    assert cache.is_file()
    assert tried
    tried.clear()
    notes = []
    run(block_size="measured", num_trials=64, progress=lambda each: notes.append(each.note))
    assert tried == []
    assert any("as measured before" in note for note in notes if note)


def test_the_width_that_is_remembered_is_the_one_that_was_taken(monkeypatch):
    """A gain that was too small to count the first time does not count the second time either."""
    monkeypatch.setattr(fastest, "_rate", lambda *args: {4: 50.0, 8: 100.0, 16: 102.0}[args[3]])
    sizes = {"first": 8, "most": 16, "unit": 1, "limit": 1e12}
    found = [fastest.width(*parts(), 2, **sizes) for _ in range(2)]
    assert [(each["width"], each["remembered"]) for each in found] == [(8, False), (8, True)]


def test_what_few_members_decided_is_not_remembered(cache, tried):
    run(block_size="measured", num_trials=2)
    assert tried
    assert not cache.exists()


def test_a_damaged_file_is_measured_again(cache, tried):
    cache.parent.mkdir()
    cache.write_text("{")
    run(block_size="measured", num_trials=64)
    assert tried
    assert json.loads(cache.read_text())


def test_a_width_that_does_not_fit_has_no_rate():
    program, member = parts()
    assert fastest._rate(program, member, 2, 4, limit=1.0) == 0.0
    assert fastest._rate(program, member, 2, 4, limit=1e12) > 0.0


def parts():
    """The program and one member of a search."""
    program = Program(AGENT, ENV, 2, EPISODE, loops.rollout, 2, EPISODE, str(jax.random.key_impl(KEY)))
    hparams = jax.tree.map(lambda x: jax.numpy.float32(x)[None], Hparams())
    return program, MemberData(jax.random.key_data(KEY)[None], hparams, None)


def test_several_blocks_at_a_time_need_a_number():
    def executor(programs, blocks, report):
        raise AssertionError

    executor.num_parallel = lambda: 2
    with pytest.raises(ValueError, match="give a number"):
        run(block_size="measured", executor=executor)


def test_another_word_is_refused():
    with pytest.raises((TypeError, ValueError), match="block_size"):
        run(block_size="fastest")

"""Steps per second of a search against a clock of the test's own, within 5%, and its seconds, also after resuming."""

import re
import sys
import time

import jax
import numpy as np
import pytest
from bandits import EPISODE, Hparams, make_agent, make_env
from cutting import Cut

from purerl import sweep
from purerl.commands import console
from purerl.commands import sweep as command
from purerl.sweep.run.monitor import Monitor

AGENT, ENV = make_agent(), make_env()
SPACE = {"target": sweep.uniform(-1.0, 1.0)}
OPTIONS = {
    "num_trials": 8, "num_seeds": 2, "num_updates": 12, "num_envs": 2, "rollout_length": EPISODE, "num_chunks": 6,
    "eval_episodes": 2, "eval_max_steps": EPISODE, "block_size": 8,
}  # fmt: skip
TOTAL = 8 * 2 * 12 * 2 * EPISODE
CLOSE = 0.05


class Clock:
    """A progress callback that writes down when which report came; each chunk takes a little longer for it."""

    def __init__(self, chunks=None, then=lambda progress: None):
        self.begun, self.seen, self.left, self.then = time.monotonic(), [], chunks, then

    def __call__(self, progress):
        if progress.phase == "train":
            self.seen.append((time.monotonic(), progress))
            self.then(progress)
            time.sleep(0.05)
            if len(self.seen) == self.left:
                raise Cut

    def rate(self, number):
        """Steps per second from the end of the first chunk to that of chunk `number`."""
        (first, begin), (last, end) = self.seen[0], self.seen[number]
        return (end.steps - begin.steps) / (last - first)


def search(clock, directory=None, resume=False):
    result = sweep.search(
        jax.random.key(0), AGENT, ENV, Hparams(), SPACE, **OPTIONS, progress=clock, directory=directory, resume=resume
    )
    assert clock.seen[-1][1].steps == TOTAL
    return result


def check(clock, result):
    for number in range(1, len(clock.seen)):
        assert clock.seen[number][1].steps_per_second == pytest.approx(clock.rate(number), rel=CLOSE)
    assert result.settings["steps_per_second"] == pytest.approx(clock.rate(-1), rel=CLOSE)


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """What the programs need besides compiling is done before the clock runs."""
    search(Clock())


def test_the_rate_of_a_search_is_that_of_the_clock():
    clock = Clock()
    result = search(clock)
    check(clock, result)
    assert clock.seen[-1][0] - clock.seen[0][0] <= result.settings["seconds"] <= time.monotonic() - clock.begun


def test_the_rate_of_a_resumed_search_is_that_of_its_own_process(tmp_path):
    """Chunks of 96 steps: the search ends in the second block, of which nothing is saved."""
    before = Clock(8)
    with pytest.raises(Cut):
        search(before, tmp_path)
    time.sleep(0.3)  # between two processes nothing counts
    after = Clock()
    result = search(after, tmp_path, resume=True)
    assert after.seen[0][1].steps == TOTAL // 2 + TOTAL // 12
    check(after, result)
    least = before.seen[5][0] - before.seen[0][0] + after.seen[-1][0] - after.seen[0][0]
    most = before.seen[6][0] - before.begun + time.monotonic() - after.begun  # the block ends between 5 and 6
    assert least <= result.settings["seconds"] <= most


def test_blocks_of_an_earlier_process_between_those_of_this_one_are_no_part_of_its_rate():
    monitor = Monitor(None, 400)
    monitor.report("train", 100)
    time.sleep(0.1)
    monitor.report("train", 100)
    rate = monitor.steps_per_second()
    monitor.skip(200, 5.0)
    assert monitor.steps_per_second() == pytest.approx(rate)
    assert rate == pytest.approx(1000, rel=0.2)


class Timed:
    """Standard output that keeps each line with its time."""

    def __init__(self):
        self.lines = []

    def write(self, text):
        self.lines += [(time.monotonic(), line) for line in text.splitlines() if line.strip()]

    def flush(self):
        pass

    def isatty(self):
        return False


def test_the_rate_that_a_command_prints_is_that_of_the_clock(monkeypatch):
    out = Timed()
    monkeypatch.setattr(console, "_PLAIN_SECONDS", 0.0)
    monkeypatch.setattr(sys, "stdout", out)
    with console.progress(TOTAL) as show:
        clock = Clock(then=lambda progress: command._show(show, progress))
        search(clock)
    printed = [(at, re.search(r"([\d,]+) steps/s", line)) for at, line in out.lines]
    printed = [(at, found) for at, found in printed if found]
    assert len(printed) == len(clock.seen) - 1
    for number, (at, found) in enumerate(printed, start=1):
        assert float(found[1].replace(",", "")) == pytest.approx(clock.rate(number), rel=CLOSE)
        assert at == pytest.approx(clock.seen[number][0], abs=0.05)


def test_the_seconds_of_trials_are_those_of_the_clock():
    """All agents of a block share its time."""
    begun = time.monotonic()
    result = search(Clock())
    assert 0 < np.sum(result.seconds) <= time.monotonic() - begun

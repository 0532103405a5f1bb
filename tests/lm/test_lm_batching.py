"""Batches of similar lengths: little padding, every row once."""

import itertools

import numpy as np
import pytest

from purerl.lm import batching

LENGTHS = np.concatenate([np.random.default_rng(0).integers(5, 400, 2_000), np.full(50, 512)])


def test_padding_is_under_a_tenth_for_lengths_of_all_sizes():
    widths = batching.bucket_widths(LENGTHS)
    found = batching.parts(LENGTHS, widths, 8, seed=0)
    assert batching.padding_share(LENGTHS, found, 8) < 0.1
    assert len(widths) <= 16


def test_few_lengths_need_few_widths():
    assert batching.bucket_widths(np.array([16, 16, 15, 14])) == (16,)


def test_widths_are_the_best_of_their_number():
    lengths = np.array([8, 8, 16, 24, 24, 24, 40, 64, 64, 72])
    found = batching.bucket_widths(lengths, max_padding=0.0, most=3)

    def cost(widths):
        return np.array(widths)[np.searchsorted(widths, lengths)].sum()

    assert cost(found) == min(cost((*inner, 72)) for inner in itertools.combinations((8, 16, 24, 40, 64), 2))


@pytest.mark.parametrize("seed", [None, 3])
def test_every_row_comes_once_and_fits(seed):
    widths = batching.bucket_widths(LENGTHS)
    found = batching.parts(LENGTHS, widths, 16, seed=seed)
    rows = np.concatenate([part.rows for part in found])
    assert np.array_equal(np.sort(rows), np.arange(len(LENGTHS)))
    assert all(LENGTHS[part.rows].max() <= part.width for part in found)
    assert sum(len(part.rows) < 16 for part in found) <= 1


def test_each_epoch_has_its_own_order_and_a_seed_repeats_it():
    def order(seed, epoch):
        return [part.rows.tolist() for part in batching.parts(LENGTHS, (256, 512), 16, seed=seed, epoch=epoch)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)

"""Diversity of completions, on texts few enough to count by hand."""

import numpy as np
import pytest

from purerl.rlhf import diversity


def test_identical_completions_have_collapsed():
    tokens = np.tile([4, 5, 6], (1, 8, 1))
    found = diversity.measure(tokens, np.ones(tokens.shape), np.zeros((1, 8)))
    assert found == (0.0, 0.0, 3 / 24, 2 / 16, 1.0)


def test_completions_without_a_common_pair_are_not_similar():
    tokens = np.arange(12).reshape(1, 4, 3)
    found = diversity.measure(tokens, np.ones(tokens.shape), np.full((1, 4), np.log(0.25)))
    assert found == pytest.approx((np.log(4), np.log(4) / 3, 1.0, 1.0, 0.0))


def test_similarity_is_dice_on_pairs_of_neighbours_with_multiplicity():
    texts = [[1, 2, 1, 2], [1, 2, 3], [7]]
    # (1,2), (2,1), (1,2) and (1,2), (2,3) share one (1,2): 2 / 5; the text without pairs shares none
    assert diversity.self_similarity(texts) == pytest.approx((2 / 5 + 0 + 0) / 3)


def test_masked_tokens_do_not_count():
    tokens = np.array([[[1, 2, 9], [1, 2, 8]]])
    mask = np.array([[[1, 1, 0], [1, 1, 0]]])
    assert diversity.measure(tokens, mask, np.zeros((1, 2))).distinct_1 == 2 / 4


def test_prompts_are_averaged_and_not_pooled():
    tokens = np.array([[[1, 2], [1, 2]], [[3, 4], [5, 6]]])
    assert diversity.measure(tokens, np.ones(tokens.shape), np.zeros((2, 2))).distinct_2 == (1 / 2 + 1) / 2


def test_one_completion_has_no_diversity():
    with pytest.raises(ValueError, match="at least 2 completions per prompt, got 1"):
        diversity.measure(np.ones((3, 1, 2)), np.ones((3, 1, 2)), np.zeros((3, 1)))

"""Reinforcement with rewards of texts, on a tiny transformer: what is scored, and what the agents are given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import rlhf
from purerl.lm import reinforcement, training
from purerl.lm.encoding import Encoder, Limits
from purerl.lm.generation import Sampling
from purerl.lm.hub import Model
from purerl.lm.reinforcement import Answers, Question
from purerl.lm.rows import Row
from purerl.rlhf.generation import Completions, most_probable
from purerl.rlhf.models import Network

END, PAD = 1, 0
ENCODER = Encoder(encode=list, decode=lambda ids: "".join(map(str, ids)), bos=(), eos_id=END, pad_id=PAD, stop_ids=(2,))
NETWORK = rlhf.transformer(vocab_size=6, width=8, depth=1, num_heads=2)
PARAMS = jax.jit(NETWORK.init)(jax.random.key(0), jnp.zeros(4, jnp.int32), jnp.ones(4, bool))


def question(*ids, **columns):
    return Question(Row(1, "q", (), None, columns), list(ids))


@pytest.fixture(scope="module")
def answers():
    asked = [question(3, answer=7)] * 4 + [question(4, 5, answer=8)] * 4
    return reinforcement.answer(jax.random.key(1), NETWORK, PARAMS, asked, ENCODER, Sampling(5), width=3)


def test_prompts_are_padded_on_the_left_and_texts_end_at_any_stop_token(answers):
    assert answers.tokens[[0, 7]].tolist() == [[PAD, PAD, 3], [PAD, 4, 5]]
    for row, counted in zip(answers.found.tokens, answers.found.mask):
        written = row[counted].tolist()
        assert not {END, 2} & set(written[:-1])
        assert len(written) == 5 or written[-1] in (END, 2)


def test_rewards_see_texts_and_the_columns_of_their_rows_and_are_added(answers):
    def length(prompts, completions, answer):
        assert (prompts, answer) == (["q"] * 8, [7] * 4 + [8] * 4)
        return [len(text) for text in completions]

    found = reinforcement.score([length, lambda prompts, completions, **_: [0.5] * len(prompts)], answers)
    np.testing.assert_allclose(found, [len(text) + 0.5 for text in answers.texts])


@pytest.mark.parametrize("order", [1, -1])
def test_rewards_see_the_columns_of_all_rows_whichever_comes_first(order):
    asked = [question(3), question(4, answer=8, source="x")][::order]

    def reward(prompts, completions, **columns):
        assert columns == {"answer": [None, 8][::order], "source": [None, "x"][::order]}
        return [0.0, 0.0]

    reinforcement.score([reward], Answers(asked, None, None, None, ["a", "b"]))


@pytest.mark.parametrize(
    ("value", "message"),
    [([1.0], "length returned 1 rewards for 8 completions"), ([float("nan")] * 8, "length returned nan for"),
     ([None] * 8, "length returned None for the completion")],
)  # fmt: skip
def test_a_reward_that_is_not_one_number_per_text_is_refused(answers, value, message):
    def length(prompts, completions, **columns):
        return value

    with pytest.raises(ValueError, match=message):
        reinforcement.score([length], answers)


def test_a_reward_that_fails_is_named_with_its_line(answers):
    def broken(prompts, completions, **columns):
        return [1 / 0]

    with pytest.raises(
        ValueError, match=r"the reward broken failed: ZeroDivisionError: division by zero \(.*, line \d+"
    ):
        reinforcement.score([broken], answers)


def test_the_reward_stands_at_the_last_token_and_groups_are_neighbours():
    tokens = np.array([[3, 1, 0], [4, 4, 4], [1, 0, 0], [5, 1, 0]], np.int32)
    mask = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0]], bool)
    found = Completions(tokens, np.zeros((4, 3), np.float32), mask)
    prompts = np.full((4, 2), 3, np.int32)
    data = reinforcement.trajectory(
        Answers([question(3)] * 4, prompts, prompts > 0, found, [""] * 4), np.arange(1.0, 5.0), 2
    )
    assert data.reward.T.tolist() == [[0, 1, 0], [0, 0, 2], [3, 0, 0], [0, 4, 0]]
    assert data.memory.group.tolist() == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert data.mask.T.tolist() == mask.tolist()


def test_the_first_update_starts_at_the_reference_and_moves_the_policy(answers):
    state = reinforcement.begin(PARAMS, rlhf.RLHFHparams(learning_rate=1e-2))
    update = reinforcement.updater(training.full(NETWORK), "grpo")
    reward = np.arange(8, dtype=np.float32)
    state, metrics = update(jax.random.key(2), state, (), reinforcement.trajectory(answers, reward, 4))
    assert float(metrics["rlhf/reward"]) == 3.5
    assert abs(float(metrics["rlhf/kl"])) < 1e-5
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), state.params, state.ref_params)
    assert any(jax.tree.leaves(moved))
    jax.tree.map(np.testing.assert_array_equal, PARAMS, state.ref_params)  # neither donated nor changed


def test_a_reward_model_reads_the_completion_behind_a_prompt_that_is_too_long():
    def total(params, tokens, mask):
        return None, jnp.cumsum(tokens).astype(jnp.float32)

    tokenizer = ENCODER._replace(encode=lambda text: [int(digit) for digit in text])
    model = Model(Network(None, total), {}, {}, None)
    reward = reinforcement.model_reward(model, tokenizer, Limits(max_length=6, max_prompt_length=4), batch_size=2)
    assert reward(["22222", "22222"], ["3", "345"]) == [4 * 2 + 3 + END, 4 * 2 + 3 + 4]


def test_the_most_probable_tokens_are_those_of_both_limits():
    log_probs = jnp.log(jnp.array([[0.4, 0.3, 0.2, 0.1], [0.97, 0.01, 0.01, 0.01]]))
    kept = most_probable(log_probs, top_k=3, top_p=0.75)
    np.testing.assert_allclose(jnp.exp(kept), [[4 / 7, 3 / 7, 0, 0], [1, 0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(most_probable(log_probs), log_probs)

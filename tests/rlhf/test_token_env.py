import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.rlhf import token_env
from purerl.rlhf.tokens import pad_left

EOS, PAD = 9, 0
PROMPTS = np.array([[1, 2, 0], [3, 0, 0], [0, 4, 5]])


def count_sevens(tokens, mask):
    return jnp.sum((tokens == 7) & mask)


def play(env, actions, key=0):
    obs, state = env.reset(jax.random.key(key))
    steps = []
    for action in actions:
        steps.append(env.step(jax.random.key(1), state, action))
        state = steps[-1].env_state
    return obs, steps


def test_reset_draws_every_prompt_and_moves_it_to_the_seam():
    env = token_env(PROMPTS, count_sevens, 4, EOS, PAD)
    seen = {tuple(env.reset(jax.random.key(i))[0]["tokens"].tolist()) for i in range(30)}
    assert seen == {(0, 1, 2, 0, 0, 0, 0), (0, 0, 3, 0, 0, 0, 0), (0, 4, 5, 0, 0, 0, 0)}


def test_the_reward_comes_at_the_end_and_counts_the_completion_only():
    env = token_env([[7, 7, 1]], count_sevens, 4, EOS, PAD, vocab_size=10)
    obs, steps = play(env, [7, 5, 7, EOS])
    assert obs["mask"].tolist() == [True] * 3 + [False] * 4
    assert [float(s.reward) for s in steps] == [0, 0, 0, 2]
    assert [bool(s.terminated) for s in steps] == [False, False, False, True]
    assert steps[1].obs["tokens"].tolist() == [7, 7, 1, 7, 5, PAD, PAD]
    assert steps[1].obs["mask"].tolist() == [True] * 5 + [False] * 2
    assert env.action_space.n == 10


def test_an_end_token_or_the_limit_terminates():
    env = token_env([[1]], count_sevens, 2, EOS, PAD)
    assert bool(play(env, [EOS])[1][0].terminated)
    steps = play(env, [7, 7])[1]
    assert [bool(s.terminated) for s in steps] == [False, True]
    assert float(steps[1].reward) == 2


def test_env_params_reach_the_reward():
    env = token_env([[1]], lambda tokens, mask, weight: weight * jnp.sum(mask), 2, EOS, PAD)
    _, state = env.reset(jax.random.key(0), 3.0)
    assert env.step(jax.random.key(0), state, EOS, 3.0).reward == 3.0


@pytest.mark.parametrize(
    ("prompts", "message"),
    [([[0, 0], [1, 0]], r"prompts\[0\] is empty"), ([[1, 0, 2]], "pad_id = 0 inside"), ([1, 2], "table")],
)
def test_malformed_prompts_are_named(prompts, message):
    with pytest.raises(ValueError, match=message):
        pad_left(prompts, PAD)

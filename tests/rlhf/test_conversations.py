"""Conversations: turns of the model with a user's replies between them, in one text without gaps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import losses, rlhf
from purerl.loops import init_actors
from purerl.rlhf import models

VOCAB, EOS, PAD, TURNS, LENGTH, REPLY = 9, 0, 8, 3, 2, 2
ROOM = TURNS * LENGTH + (TURNS - 1) * REPLY
NETWORK = rlhf.transformer(VOCAB, width=16, depth=1, num_heads=2)
PROMPTS = np.array([[8, 3], [4, 5], [8, 6]])


def user(key, tokens, mask, hidden):
    """Answers the last token by the next one: an odd one in one token, others in two; ends after the hidden token."""
    last = tokens[jnp.max(jnp.where(mask, jnp.arange(mask.shape[0]), 0))]
    reply = jnp.where(last % 2 == 1, jnp.array([1, PAD]), jnp.array([2, 3]))
    return jnp.where(last == hidden, PAD, reply)


def reward(tokens, mask, hidden):
    return jnp.sum(jnp.where(mask, tokens, 0)) + 100.0 * hidden


def environment(reward_at="end"):
    talk = rlhf.Conversation(user, TURNS, REPLY, reward_at)
    return rlhf.token_env(
        PROMPTS, reward, LENGTH, EOS, PAD, vocab_size=VOCAB, conversation=talk, hidden=jnp.array([1, 2, 3])
    )


@functools.cache
def params():
    drawn = jax.jit(NETWORK.init)(jax.random.key(0), jnp.zeros(5, jnp.int32), jnp.ones(5, bool))
    return jax.tree.map(lambda x: 1.5 * x, drawn)


@functools.cache
def played(reward_at="end", cached=True):
    """16 conversations, and the environment's observations at their ends."""
    env = environment(reward_at)
    network = NETWORK if cached else models.Network(NETWORK.init, NETWORK.apply)
    agent = rlhf.ppo(NETWORK)
    rollout = rlhf.token_rollout(network, eos_id=EOS, pad_id=PAD)

    @jax.jit
    def run(params):
        state = rlhf.initial_state(agent, jax.random.key(0), rlhf.RLHFHparams(), env, params)
        actors = init_actors(jax.random.key(0), agent, env, state, num_envs=16)
        return rollout(jax.random.key(3), agent, env, state, actors, length=ROOM)

    return run(params())


def text_of(data, row):
    prompt = np.asarray(data.memory.tokens[row])
    written = np.asarray(data.aux["written"][:, row])
    return [*prompt[prompt != PAD], *np.asarray(data.action[:, row])[written]]


@pytest.mark.parametrize("reward_at", ["end", "turn"])
def test_a_rollout_is_the_environment_stepped_token_by_token(reward_at):
    env = environment(reward_at)
    actors, data = played(reward_at)
    step = jax.jit(env.step)
    for row in range(16):
        state = jax.tree.map(lambda x, row=row: x[row], actors.env_state)
        _, begun = env.reset(jax.random.key(0))
        state = begun._replace(prompt=state.prompt, hidden=state.hidden)
        own = np.flatnonzero(data.mask[:, row])
        for column in own:
            ended = step(jax.random.key(1), state, data.action[column, row])
            state = ended.env_state
            assert float(ended.reward) == float(data.reward[column, row])
            assert bool(ended.terminated) == (column == own[-1]) == bool(data.terminated[column, row])
        assert ended.obs["tokens"].tolist() == actors.obs["tokens"][row].tolist()
        assert np.asarray(ended.obs["tokens"])[np.asarray(ended.obs["mask"])].tolist() == text_of(data, row)


def test_conversations_differ_in_the_number_and_length_of_their_turns():
    actors, _ = played()
    assert set(actors.env_state.turn.tolist()) >= {2, 3}
    assert len({tuple(row) for row in actors.env_state.turn_length.tolist()}) > 3


def test_the_user_writes_the_tokens_that_the_mask_leaves_out():
    _, data = played()
    written, own = np.asarray(data.aux["written"]), np.asarray(data.mask) != 0
    users = written & ~own
    assert users.any()
    assert set(np.asarray(data.action)[users].tolist()) <= {1, 2, 3}
    assert not np.asarray(data.aux["log_prob"])[~own].any()
    assert written[:1].all()
    assert (np.diff(written.astype(int), axis=0) <= 0).all(), "there is a gap in a text"


def test_log_probs_are_those_of_the_parallel_network_on_the_whole_text():
    _, data = played()
    tokens = jnp.concatenate([data.memory.tokens, data.action.T], axis=1)
    mask = jnp.concatenate([data.memory.mask, data.aux["written"].T], axis=1)
    own = jnp.concatenate([jnp.zeros_like(data.memory.mask), data.mask.T != 0], axis=1)
    logits, _ = jax.jit(jax.vmap(NETWORK.apply, (None, 0, 0)))(params(), tokens, mask)
    expected = losses.token_log_probs(logits, tokens, own)[:, 2:]
    np.testing.assert_allclose(data.aux["log_prob"].T, expected, atol=1e-5)


def test_without_a_cache_the_same_key_writes_the_same_conversations():
    (_, cached), (_, uncached) = played(), played(cached=False)
    np.testing.assert_array_equal(cached.action, uncached.action)
    np.testing.assert_allclose(cached.aux["log_prob"], uncached.aux["log_prob"], atol=1e-5)


def test_a_reward_at_every_turn_is_paid_for_the_text_up_to_there():
    actors, data = played("turn")
    turns = np.asarray(actors.env_state.turn)
    np.testing.assert_array_equal((np.asarray(data.reward) != 0).sum(axis=0), turns)
    row = int(np.argmax(turns == 3))
    columns = np.flatnonzero(data.reward[:, row])
    own = np.where(np.asarray(data.mask[:, row]) != 0, np.asarray(data.action[:, row]), 0)
    expected = [own[: c + 1].sum() + 100 * int(actors.env_state.hidden[row]) for c in columns]
    np.testing.assert_allclose(data.reward[columns, row], expected)


def test_one_turn_is_a_conversation_without_a_user():
    env = rlhf.token_env(PROMPTS, lambda tokens, mask: jnp.sum(mask), LENGTH, EOS, PAD)
    assert env.observation_space.spaces[0][1].shape == (2 + LENGTH,)


def test_sizes_and_names_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="reward_at must be 'end' or 'turn', got 'ends'"):
        rlhf.token_env(
            PROMPTS, reward, LENGTH, EOS, PAD, conversation=rlhf.Conversation(user, 2, 1, "ends"), hidden=jnp.zeros(3)
        )
    with pytest.raises(ValueError, match="hidden must lead with the 3 prompts"):
        rlhf.token_env(PROMPTS, reward, LENGTH, EOS, PAD, hidden=jnp.zeros(2))
    with pytest.raises(ValueError, match=f"rollout_length = 2 must be the environment's {ROOM}"):
        purerl.train(
            jax.random.key(0), rlhf.ppo(NETWORK), environment(), rlhf.RLHFHparams(), num_updates=1, num_envs=4,
            rollout_length=2, rollout=rlhf.token_rollout(NETWORK, eos_id=EOS, pad_id=PAD),
        )  # fmt: skip


def test_ppo_learns_to_use_the_answers():
    """One of three numbers in two guesses: 1/3 with one guess, 2/3 without the answers, 1 by asking for the middle."""
    higher, lower, start, pad = 3, 4, 5, 6

    def last_guess(tokens, own):
        return tokens[jnp.max(jnp.where(own, jnp.arange(own.shape[0]), 0))]

    def answer(key, tokens, own, number):
        guess = last_guess(tokens, own)
        return jnp.where(guess == number, pad, jnp.where(number > guess, higher, lower))[None]

    def right(tokens, own, number):
        return last_guess(tokens, own) == number

    def apply(params, tokens, mask):
        before = jnp.pad(tokens[:-1], (1, 0), constant_values=pad)
        return params["logits"][before, tokens], params["value"][before, tokens]

    network = rlhf.Network(lambda *_: {"logits": jnp.zeros((7, 7, 7)), "value": jnp.zeros((7, 7))}, apply)
    env = rlhf.token_env(
        [[start]] * 3, right, 1, -1, pad, conversation=rlhf.Conversation(answer, 2, 1), hidden=jnp.arange(3)
    )
    agent = rlhf.ppo(network, num_epochs=2, num_minibatches=2)
    _, metrics = purerl.train(
        jax.random.key(0), agent, env, rlhf.RLHFHparams(0.1, beta=0.001), num_updates=100, num_envs=128,
        rollout_length=3, rollout=rlhf.token_rollout(network, eos_id=-1, pad_id=pad),
    )  # fmt: skip
    assert float(metrics["rlhf/reward"][-10:].mean()) > 0.95

"""Cached generation is the parallel network, token by token, and the rollout says what was generated."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import losses, rlhf
from purerl.loops import init_actors
from purerl.rlhf import models

VOCAB, EOS, PAD, WIDTH, ROOM = 11, 0, 10, 5, 7
NETWORK = rlhf.transformer(VOCAB, width=16, depth=2, num_heads=2)
APPLY = jax.jit(NETWORK.apply)
PROMPTS = jnp.array([[10, 10, 10, 10, 3], [10, 10, 4, 5, 6], [1, 2, 3, 4, 5], [10, 7, 8, 9, 1]] * 4)


@pytest.fixture(scope="module")
def params():
    params = jax.jit(NETWORK.init)(jax.random.key(0), PROMPTS[0], PROMPTS[0] != PAD)
    return jax.tree.map(lambda x: x * 1.5, params)


@pytest.fixture(scope="module")
def completions(params):
    run = jax.jit(
        functools.partial(rlhf.generate, network=NETWORK, max_length=ROOM, eos_id=EOS, pad_id=PAD), static_argnames=()
    )
    return run(jax.random.key(1), params=params, prompts=PROMPTS)


def parallel_log_probs(params, completions):
    tokens = jnp.concatenate([PROMPTS, completions.tokens], axis=1)
    written = jnp.concatenate([jnp.zeros(PROMPTS.shape, bool), completions.mask], axis=1)
    mask = jnp.concatenate([PROMPTS != PAD, completions.mask], axis=1)
    logits, _ = jax.vmap(NETWORK.apply, (None, 0, 0))(params, tokens, mask)
    return losses.token_log_probs(logits, tokens, written)[:, WIDTH:]


def test_cached_log_probs_are_those_of_the_parallel_network(params, completions):
    np.testing.assert_allclose(completions.log_prob, jax.jit(parallel_log_probs)(params, completions), atol=1e-5)


def test_tokens_are_those_of_jax_random_categorical():
    logits = jax.random.normal(jax.random.key(0), (64, 300))
    network = rlhf.Network(lambda *_: (), lambda params, tokens, mask: jnp.broadcast_to(params, (*tokens.shape, 300)))
    write = jax.vmap(lambda params: rlhf.generate(
        jax.random.key(1), network, params, jnp.zeros((8, 1), jnp.int32), max_length=3, eos_id=-1, pad_id=-1
    ).tokens)  # fmt: skip
    keys = jax.random.split(jax.random.key(1), 3)
    draw = jax.vmap(lambda logits: [jax.random.categorical(key, jnp.broadcast_to(logits, (8, 300))) for key in keys])
    np.testing.assert_array_equal(write(logits), jnp.stack(draw(logits), axis=-1))


def test_texts_stop_at_the_end_token(completions):
    lengths = completions.mask.sum(axis=1)
    assert len(set(lengths.tolist())) > 1
    for tokens, log_prob, mask, n in zip(*completions, lengths):
        assert mask[:n].all()
        assert n == ROOM or tokens[n - 1] == EOS
        assert (tokens[: n - 1] != EOS).all()
        assert (tokens[n:] == PAD).all()
        assert not log_prob[n:].any()


def test_without_a_cache_the_same_key_writes_the_same_text(params, completions):
    uncached = models.Network(NETWORK.init, NETWORK.apply)
    run = functools.partial(rlhf.generate, network=uncached, max_length=ROOM, eos_id=EOS, pad_id=PAD)
    other = jax.jit(run)(jax.random.key(1), params=params, prompts=PROMPTS)
    np.testing.assert_array_equal(other.tokens, completions.tokens)
    np.testing.assert_allclose(other.log_prob, completions.log_prob, atol=1e-5)


@pytest.fixture(scope="module")
def colder(params):
    """A function of a traced temperature to four completions: greedy, at 0 as two kinds of number, and at that one."""
    sizes = {"max_length": ROOM, "eos_id": EOS, "pad_id": PAD}

    @jax.jit
    def run(temperature):
        write = functools.partial(rlhf.generate, network=NETWORK, params=params, prompts=PROMPTS[:4], **sizes)
        sampled = [write(jax.random.key(1), temperature=each) for each in (0, np.float32(0), temperature)]
        return [write(None), *sampled]

    return run


def test_temperature_zero_is_greedy(colder):
    greedy, *cold, _ = colder(1.0)
    for each in cold:
        np.testing.assert_array_equal(each.tokens, greedy.tokens)
        np.testing.assert_array_equal(each.log_prob, greedy.log_prob)


def test_a_traced_temperature_zero_is_greedy(colder):
    np.testing.assert_array_equal(colder(0.0)[3].tokens, colder(0.0)[0].tokens)
    assert (colder(1.0)[3].tokens != colder(1.0)[0].tokens).any()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": -1.0}, r"temperature = -1\.0 must be at least 0"),
        ({"temperature": float("nan")}, "temperature = nan must be at least 0"),
        ({"top_k": -1}, "top_k = -1 must be a whole number of at least 0"),
        ({"top_k": 2.0}, r"top_k = 2\.0 must be a whole number of at least 0"),
        ({"top_p": -0.5}, r"top_p = -0\.5 is outside \[0, 1\]"),
        ({"top_p": 2.0}, r"top_p = 2\.0 is outside \[0, 1\]"),
        ({"top_p": float("nan")}, r"top_p = nan is outside \[0, 1\]"),
        ({"max_length": 0}, "max_length must be a positive integer, got 0"),
    ],
)
def test_sampling_out_of_range_is_refused(params, setting, message):
    with pytest.raises(ValueError, match=message):
        rlhf.generate(None, NETWORK, params, PROMPTS, **{"max_length": 1, "eos_id": EOS, "pad_id": PAD} | setting)


def test_the_coldest_temperatures_are_greedy(params):
    sizes = {"max_length": 2, "eos_id": EOS, "pad_id": PAD}
    run = functools.partial(rlhf.generate, network=NETWORK, params=params, prompts=PROMPTS[:4], **sizes)
    greedy, cold = run(None), run(jax.random.key(0), temperature=1e-39)
    traced = jax.jit(lambda temperature: run(jax.random.key(0), temperature=temperature))(1e-39)
    np.testing.assert_array_equal(cold.tokens, greedy.tokens)
    np.testing.assert_array_equal(traced.tokens, greedy.tokens)
    np.testing.assert_allclose(cold.log_prob, 0, atol=0.1)


def test_top_p_may_be_an_array(params):
    run = functools.partial(rlhf.generate, jax.random.key(0), NETWORK, params, PROMPTS[:4], eos_id=EOS, pad_id=PAD)
    np.testing.assert_array_equal(run(max_length=2, top_p=jnp.float32(0.5)).tokens, run(max_length=2, top_p=0.5).tokens)


def test_the_best_of_no_completions_is_refused(params):
    with pytest.raises(ValueError, match="n must be a positive integer, got 0"):
        rlhf.best_of_n(jax.random.key(0), NETWORK, params, None, PROMPTS, n=0, max_length=1, eos_id=EOS, pad_id=PAD)


def test_padding_moves_no_logit(params):
    text, mask = jnp.array([3, 4, 5]), jnp.ones(3, bool)
    logits, value = APPLY(params, text, mask)
    padded, padded_value = APPLY(params, jnp.array([9, 9, 3, 4, 5, 9]), jnp.array([0, 0, 1, 1, 1, 0], bool))
    np.testing.assert_allclose(padded[2:5], logits, atol=1e-5)
    np.testing.assert_allclose(padded_value[2:5], value, atol=1e-5)


def test_the_network_looks_back_only(params):
    mask = jnp.ones(6, bool)
    one, _ = APPLY(params, jnp.array([1, 2, 3, 4, 5, 6]), mask)
    two, _ = APPLY(params, jnp.array([1, 2, 3, 9, 9, 9]), mask)
    np.testing.assert_allclose(one[:3], two[:3], atol=1e-6)
    assert not np.allclose(one[3], two[3])


def test_the_rollout_pays_once_at_the_end_and_shares_prompts_within_groups(params):
    env = rlhf.token_env(PROMPTS, lambda tokens, mask: jnp.sum(mask), ROOM, EOS, PAD)
    agent = rlhf.rloo(NETWORK, 4)
    rollout = rlhf.token_rollout(NETWORK, eos_id=EOS, pad_id=PAD, group_size=4)

    @jax.jit
    def run(params):
        state = rlhf.initial_state(agent, jax.random.key(0), rlhf.RLHFHparams(), env, params)
        start = init_actors(jax.random.key(0), agent, env, state, num_envs=8)
        return state, *rollout(jax.random.key(3), agent, env, state, start, length=ROOM)

    state, actors, data = run(params)
    lengths = data.mask.sum(axis=0)
    np.testing.assert_array_equal(data.reward.sum(axis=0), lengths)
    np.testing.assert_array_equal((data.reward != 0).sum(axis=0), 1)
    np.testing.assert_array_equal(data.terminated.argmax(axis=0), lengths - 1)
    prompt, mask, group = data.memory
    assert (prompt[:4] == prompt[0]).all()
    assert (prompt[4:] == prompt[4]).all()
    np.testing.assert_array_equal(mask, prompt != PAD)
    np.testing.assert_array_equal(group, [[0, 1, 2, 3]] * 4 + [[4, 5, 6, 7]] * 4)
    np.testing.assert_array_equal(actors.finished.length_sum, lengths)
    with pytest.raises(ValueError, match="rollout_length = 3"):
        rollout(jax.random.key(3), agent, env, state, actors, length=3)
    with pytest.raises(ValueError, match="group_size"):
        purerl.train(
            jax.random.key(0), agent, env, rlhf.RLHFHparams(),
            num_updates=1, num_envs=6, rollout_length=ROOM, rollout=rollout,
        )  # fmt: skip


def test_best_of_n_is_the_best_of_the_same_completions(params):
    sizes = {"max_length": ROOM, "eos_id": EOS, "pad_id": PAD}

    def score(tokens, mask):
        return jnp.sum(jnp.where(mask, tokens, 0)).astype(jnp.float32)

    @jax.jit
    def run(params):
        best = rlhf.best_of_n(jax.random.key(5), NETWORK, params, score, PROMPTS[:4], n=3, **sizes)
        return best, rlhf.generate(jax.random.key(5), NETWORK, params, jnp.repeat(PROMPTS[:4], 3, 0), **sizes)

    (best, scores), every = run(params)
    sums = np.where(every.mask, every.tokens, 0).sum(axis=1).reshape(4, 3)
    np.testing.assert_array_equal(scores, sums.max(axis=1))
    np.testing.assert_array_equal(np.where(best.mask, best.tokens, 0).sum(axis=1), scores)


def test_a_flax_nnx_module_is_a_network():
    from flax import nnx

    class Bigram(nnx.Module):
        def __init__(self, rngs):
            self.table = nnx.Embed(VOCAB, VOCAB, rngs=rngs)

        def __call__(self, tokens, mask):
            return self.table(tokens)

    network = rlhf.from_nnx(Bigram)
    params = network.init(jax.random.key(0), PROMPTS[0], PROMPTS[0] != PAD)
    out = rlhf.generate(jax.random.key(1), network, params, PROMPTS[:2], max_length=3, eos_id=EOS, pad_id=PAD)
    assert out.tokens.shape == (2, 3)
    grads = jax.grad(lambda p: network.apply(p, PROMPTS[0], PROMPTS[0] != PAD).sum())(params)
    assert jax.tree.leaves(grads)[0].any()


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="num_heads"):
        rlhf.transformer(5, width=10, num_heads=4)


def group_rollout(agent, group_size):
    env = rlhf.token_env(PROMPTS, lambda tokens, mask: jnp.sum(mask), ROOM, EOS, PAD)
    rollout = rlhf.token_rollout(NETWORK, eos_id=EOS, pad_id=PAD, group_size=group_size)
    sizes = {"num_updates": 1, "num_envs": 8, "rollout_length": ROOM, "rollout": rollout}
    return purerl.train(jax.random.key(0), agent, env, rlhf.RLHFHparams(), **sizes)


@pytest.mark.parametrize("agent", [rlhf.grpo(NETWORK), rlhf.rloo(NETWORK)])
def test_agents_of_groups_refuse_a_rollout_without_groups(agent):
    with pytest.raises(ValueError, match=r"wrote groups of 1: pass group_size= to rlhf\.token_rollout"):
        group_rollout(agent, 1)


def test_a_group_size_that_is_not_the_rollouts_is_refused():
    with pytest.raises(ValueError, match="group_size = 4, but the rollout wrote groups of 2"):
        group_rollout(rlhf.grpo(NETWORK, 4), 2)


def test_the_end_token_inside_a_prompt_is_seen_where_it_pads():
    """A prompt of two turns whose end token is the padding, and the same with an end token of its own."""
    params = jax.jit(NETWORK.init)(jax.random.key(0), PROMPTS[0], PROMPTS[0] != PAD)
    params["params"]["embedding"]["embedding"] = (
        params["params"]["embedding"]["embedding"].at[9].set(params["params"]["embedding"]["embedding"][0])
    )  # tokens 0 and 9 look the same
    sizes = {"max_length": 2, "eos_id": 0}

    @jax.jit
    def run(params):
        one = rlhf.generate(None, NETWORK, params, jnp.array([[0, 3, 0, 4, 0]]), pad_id=0, **sizes)
        return one, rlhf.generate(None, NETWORK, params, jnp.array([[10, 3, 9, 4, 9]]), pad_id=10, **sizes)

    one, two = run(params)
    np.testing.assert_allclose(one.log_prob, two.log_prob, atol=1e-6)

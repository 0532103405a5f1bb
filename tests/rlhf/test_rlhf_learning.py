"""Fine-tuning and reward models on data: what counts, where the reward is read, and how micro-batches add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import rlhf
from purerl.agents.common import blocks
from purerl.combinators.minibatches import with_minibatches
from purerl.experiments import goodhart

LAYOUT = rlhf.Layout(rlhf.ByteTokenizer(), 6, 8, 256, 257)
NETWORK = rlhf.Network(
    lambda key, tokens, mask: {"logits": jnp.zeros((258, 258)), "value": jnp.zeros(258)},
    lambda params, tokens, mask: (params["logits"][tokens], params["value"][tokens]),
)
ROWS = {"prompt": ["ab", "c", "abcd", "x"], "completion": ["yes", "n", "maybe", "no"]}


def gradient_step(agent, data):
    """The gradient, read off one step of plain gradient descent with rate 1."""

    @jax.jit
    def step(data):
        state = agent.init(jax.random.key(0), rlhf.LearnerHparams(), data)
        new, metrics = agent.update(jax.random.key(1), state, data)
        return jax.tree.map(lambda a, b: a - b, state.params, new.params), metrics

    return step(data)


def sgd(hparams):
    import optax

    return optax.sgd(1.0)


def test_sft_counts_completion_tokens_alike_however_the_batch_is_cut():
    data = rlhf.encode_completions(ROWS, LAYOUT)
    whole, metrics = gradient_step(rlhf.sft(NETWORK, optimizer=sgd), data)
    parts, _ = gradient_step(rlhf.sft(NETWORK, num_microbatches=4, optimizer=sgd), data)
    np.testing.assert_allclose(whole["logits"], parts["logits"], atol=1e-6)
    assert metrics["loss/total"] == pytest.approx(np.log(258), rel=1e-5)
    expected = np.zeros((258, 258))  # -d/dlogits of the mean cross-entropy over every completion byte and end token
    transitions = []
    for prompt, completion in zip(ROWS["prompt"], ROWS["completion"]):
        ids = [*(prompt + completion).encode(), 256]
        transitions += [(ids[i - 1], ids[i]) for i in range(len(prompt), len(ids))]
    for before, after in transitions:
        expected[before] += 1 / 258 / len(transitions)
        expected[before, after] -= 1 / len(transitions)
    np.testing.assert_allclose(whole["logits"], expected, atol=1e-6)
    means = [gradient_step(rlhf.sft(NETWORK, optimizer=sgd), _rows(data, i))[0]["logits"] for i in range(4)]
    assert not np.allclose(np.mean(means, axis=0), expected, atol=1e-4), "a mean of means would pass"
    with pytest.raises(ValueError, match="num_microbatches = 3"):
        gradient_step(rlhf.sft(NETWORK, num_microbatches=3), data)


# name -> factory, what it takes beside the network, and whether a CPU computes blocks of rows
LEARNERS = {
    "sft": (rlhf.sft, (), True),
    "reward model": (rlhf.reward_model, (), True),
    "reward model with a loss of one's own": (rlhf.reward_model, (lambda reward, _: reward[:, 1],), False),
    **{name: (rlhf.direct_alignment, (name,), True) for name in ("dpo", "simpo")},
    **{name: (rlhf.direct_alignment, (name,), False) for name in ("aot", "aot_unpaired")},
    "alignment with a loss of one's own": (rlhf.direct_alignment, (lambda logp, *_: logp[:, 1] - logp[:, 0],), False),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_blocks_of_texts_make_the_step_of_the_whole_batch(monkeypatch, name):
    make, settings, by_row = LEARNERS[name]
    rng, shape = np.random.default_rng(0), (12, 5) if name == "sft" else (12, 2, 5)
    tokens = rng.integers(0, 258, shape)
    data = {"tokens": tokens, "mask": tokens >= 0, "completion": (tokens >= 0) & (np.arange(5) > 1)}
    data["ref_log_prob"] = rng.uniform(-30, -2, shape[:-1]).astype(np.float32)
    data["mask"][3:5], data["completion"][3:5] = False, False
    count, counts = blocks._count, []
    monkeypatch.setattr(blocks, "_count", lambda *args: counts.append(count(*args)) or counts[-1])
    agent = make(NETWORK, *settings, optimizer=sgd)
    whole = gradient_step(agent, data)
    monkeypatch.setattr(blocks, "_FEWEST_TOKENS", 10)
    monkeypatch.setattr(blocks, "_LARGEST_OF_TEXTS", 1)
    parts = gradient_step(make(NETWORK, *settings, optimizer=sgd), data)
    assert len(set(counts)) == (2 if by_row else 0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole, parts)
    assert max(np.abs(x).max() for x in jax.tree.leaves(whole[0])) > 1e-4


def _rows(data, i):
    return {name: column[i : i + 1] for name, column in data.items()}


def test_the_reward_is_read_at_the_end_token():
    rows = {"prompt": ["ab", "c"], "chosen": ["yes", "n"], "rejected": ["no!", "nnnnnn"]}
    data = rlhf.encode_pairs(rows, LAYOUT)
    params = {"logits": jnp.zeros((258, 258)), "value": jnp.arange(258.0)}
    np.testing.assert_array_equal(rlhf.rewards(NETWORK, params, data), np.full((2, 2), 256.0))
    no_end = rlhf.encode_pairs(rows, LAYOUT._replace(eos_id=-1))
    np.testing.assert_array_equal(rlhf.rewards(NETWORK, params, no_end), [[ord("s"), ord("!")], [ord("n")] * 2])


def test_a_reward_model_recovers_the_reward_from_pairs_and_from_lists():
    task = goodhart.token_task(jax.random.key(0), 4, 3)
    network = goodhart.additive_reward(4, 3)
    reference = rlhf.table_network(4, 3, 1)
    ref = goodhart.all_log_probs(reference, goodhart.reference_params(task, 1), task.texts)
    true = goodhart.all_rewards(task)
    errors = []
    for k in (2, 4):
        data = goodhart.ranked_texts(jax.random.key(1), task, ref, 2000, k)
        agent = with_minibatches(rlhf.reward_model(network, centering=0.001 * (k == 2)), 256)
        hparams = rlhf.LearnerHparams(0.1, anneal_updates=200)
        state, metrics = purerl.fit(jax.random.key(2), agent, data, hparams, num_updates=200)
        text = {"tokens": task.texts, "mask": jnp.ones(task.texts.shape, bool)}
        learned = rlhf.rewards(network, state.agent.params, text)
        error = (learned - true) - jnp.sum(jnp.exp(ref) * (learned - true))
        errors.append(float(jnp.sqrt(jnp.sum(jnp.exp(ref) * error**2))))
    assert errors[0] < 0.5
    assert errors[1] < 0.8 * errors[0]
    assert metrics["loss/accuracy"][-1] > 0.5


def test_reference_columns_are_the_networks_log_probs():
    data = rlhf.encode_labelled(ROWS | {"label": [1, 0, 1, 0]}, LAYOUT)
    params = {"logits": jax.random.normal(jax.random.key(0), (258, 258)), "value": jnp.zeros(258)}
    out = rlhf.with_reference(NETWORK, params, data, batch_size=3)
    np.testing.assert_allclose(out["ref_log_prob"], rlhf.log_probs(NETWORK, params, data), rtol=1e-5)
    shifted = rlhf.encode_completions({"prompt": ROWS["prompt"], "completion": ["n", "maybe", "no", "yes"]}, LAYOUT)
    np.testing.assert_allclose(out["kl_ref_log_prob"], rlhf.log_probs(NETWORK, params, shifted), rtol=1e-5)


def test_minibatches_draw_rows_together_and_refuse_ragged_data():
    data = {"x": jnp.arange(100.0), "y": 2 * jnp.arange(100.0)}
    seen = []

    def update(key, state, part):
        seen.append(part)
        return state, {}

    agent = with_minibatches(purerl.Agent(lambda *a: (), lambda *a: ((), ()), update), 10)
    state = agent.init(jax.random.key(0), (), data)
    agent.update(jax.random.key(1), state, data)
    agent.update(jax.random.key(2), state, data)
    np.testing.assert_array_equal(seen[0]["y"], 2 * seen[0]["x"])
    assert seen[0]["x"].shape == (10,)
    assert (seen[0]["x"] != seen[1]["x"]).any()
    with pytest.raises(ValueError, match="different lengths"):
        agent.update(jax.random.key(1), state, {"x": jnp.zeros(3), "y": jnp.zeros(4)})


PAIRS = {"prompt": ["ab", "c"], "chosen": ["yes", "n"], "rejected": ["no!", "nnn"]}


@pytest.mark.parametrize("loss", [name for name, loss in rlhf.DIRECT_LOSSES.items() if loss.reference])
def test_losses_against_a_reference_name_the_missing_column(loss):
    data = rlhf.encode_pairs(PAIRS, LAYOUT)
    with pytest.raises(ValueError, match=rf"direct_alignment\('{loss}'\) needs the column 'ref_log_prob'"):
        gradient_step(rlhf.direct_alignment(NETWORK, loss), data)


def test_the_losses_without_a_reference_are_these():
    assert [name for name, loss in rlhf.DIRECT_LOSSES.items() if not loss.reference] == ["cpo", "orpo", "simpo"]


def test_a_loss_of_ones_own_reads_the_reference_unless_it_says_otherwise():
    def loss(log_prob, reference, lengths, hparams):
        return -log_prob[:, 0]

    data = rlhf.encode_pairs(PAIRS, LAYOUT)
    with pytest.raises(ValueError, match="'ref_log_prob'"):
        gradient_step(rlhf.direct_alignment(NETWORK, loss), data)
    gradient_step(rlhf.direct_alignment(NETWORK, rlhf.DirectLoss(loss, reference=False)), data)


@pytest.mark.parametrize(
    ("agent", "missing"),
    [
        (rlhf.sft(NETWORK), "completion"), (rlhf.sft(NETWORK), "mask"), (rlhf.kto(NETWORK), "label"),
        (rlhf.kto(NETWORK), "kl_tokens"), (rlhf.kto(NETWORK), "ref_log_prob"), (rlhf.kto(NETWORK), "kl_ref_log_prob"),
    ],
)  # fmt: skip
def test_a_missing_column_is_named(agent, missing):
    data = rlhf.encode_labelled(ROWS | {"label": [1, 0, 1, 0]}, LAYOUT)
    data |= {"ref_log_prob": jnp.zeros(4), "kl_ref_log_prob": jnp.zeros(4)}
    data.pop(missing)
    with pytest.raises(ValueError, match=f"needs the column '{missing}'"):
        gradient_step(agent, data)


@pytest.mark.parametrize(
    ("agent", "encode", "message"),
    [
        (rlhf.sft(NETWORK), lambda: rlhf.encode_pairs(PAIRS, LAYOUT), r"sft needs tokens of shape \[B, W\]"),
        (rlhf.reward_model(NETWORK), lambda: rlhf.encode_completions(ROWS, LAYOUT), r"shape \[B, K, W\], got \[4, 14"),
        (rlhf.direct_alignment(NETWORK, "cpo"), lambda: rlhf.encode_completions(ROWS, LAYOUT), r"shape \[B, K, W\]"),
    ],
)
def test_texts_that_are_laid_out_differently_are_refused(agent, encode, message):
    with pytest.raises(ValueError, match=message):
        gradient_step(agent, encode())


def test_an_unknown_ranking_loss_is_refused():
    with pytest.raises(ValueError, match="loss must be one of plackett_luce, pairwise"):
        rlhf.reward_model(NETWORK, "pairs")


def test_both_ranking_losses_are_bradley_terry_for_pairs():
    data = rlhf.encode_pairs(PAIRS, LAYOUT)
    one, two = (gradient_step(rlhf.reward_model(NETWORK, loss, optimizer=sgd), data) for loss in rlhf.RANKING_LOSSES)
    np.testing.assert_allclose(one[0]["value"], two[0]["value"], atol=1e-7)
    assert one[1]["loss/total"] == pytest.approx(np.log(2), rel=1e-6)


@pytest.mark.parametrize("loss", ["dpo", "aot", "aot_unpaired"])
def test_rows_without_completions_change_neither_the_step_nor_its_metrics(loss):
    data = rlhf.encode_pairs({"prompt": ["a", "b"], "chosen": ["xy", "z"], "rejected": ["u", "vw"]}, LAYOUT)
    data["ref_log_prob"] = np.float32([[-9, -7], [-8, -5]])
    padded = {name: np.concatenate([x, np.zeros_like(x)]) for name, x in data.items()}
    agent = rlhf.direct_alignment(NETWORK, loss, optimizer=sgd)
    one, two = (gradient_step(agent, each) for each in (data, padded))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, two)


@pytest.mark.parametrize("loss", rlhf.RANKING_LOSSES)
def test_absent_texts_change_nothing(loss):
    """The same rankings with room for one text more."""
    rows = {"prompt": ["a", "b"], "ranking": [["x", "y", "z"], ["u", "v", "w"]]}
    data = rlhf.encode_rankings(rows, LAYOUT)
    absent = {name: np.zeros((2, 1, 14), x.dtype) + (257 if name == "tokens" else 0) for name, x in data.items()}
    wider = {name: np.concatenate([x, absent[name]], axis=1) for name, x in data.items()}
    one, two = (gradient_step(rlhf.reward_model(NETWORK, loss, optimizer=sgd), each)[0] for each in (data, wider))
    np.testing.assert_allclose(one["value"], two["value"], atol=1e-7)


def test_pairwise_ranking_recovers_the_reward_from_rankings_of_different_lengths():
    task = goodhart.token_task(jax.random.key(0), 4, 3)
    network = goodhart.additive_reward(4, 3)
    ref = goodhart.all_log_probs(rlhf.table_network(4, 3, 1), goodhart.reference_params(task, 1), task.texts)
    data = goodhart.ranked_texts(jax.random.key(1), task, ref, 2000, 4)
    present = jnp.arange(4)[None] < 2 + jnp.arange(2000)[:, None] % 3  # two, three or four texts
    data["mask"] &= present[..., None]
    agent = with_minibatches(rlhf.reward_model(network, "pairwise"), 256)
    state, _ = purerl.fit(jax.random.key(2), agent, data, rlhf.LearnerHparams(0.1, anneal_updates=200), num_updates=200)
    text = {"tokens": task.texts, "mask": jnp.ones(task.texts.shape, bool)}
    error = rlhf.rewards(network, state.agent.params, text) - goodhart.all_rewards(task)
    assert float(jnp.sqrt(jnp.sum(jnp.exp(ref) * (error - jnp.sum(jnp.exp(ref) * error)) ** 2))) < 0.5


@pytest.mark.parametrize("agent", ["sft", "grpo"])
def test_an_optimizer_sees_the_tree_of_parameters(agent):
    """One that updates the leaf "value" alone leaves the logits as they are."""
    import optax

    def only_values(hparams):
        labels = {"logits": "frozen", "value": "free"}
        return optax.multi_transform({"frozen": optax.set_to_zero(), "free": optax.sgd(1.0)}, labels)

    build = {"sft": rlhf.sft, "grpo": rlhf.grpo}[agent]
    state = build(NETWORK, optimizer=only_values).init(
        jax.random.key(0), rlhf.RLHFHparams(), rlhf.encode_completions(ROWS, LAYOUT)
    )
    assert set(state.opt_state.inner_states) == {"frozen", "free"}

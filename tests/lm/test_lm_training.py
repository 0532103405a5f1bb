"""Fine-tuning on tiny networks: sums over parts, LoRA, chunked logits, resumption. No model of tunix is needed."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from purerl import losses, rlhf
from purerl.lm import log_probs, lora, runs, training
from purerl.lm.batching import Part
from purerl.lm.runs import Job
from purerl.logging import Writer
from purerl.rlhf.columns import log_probs as text_log_probs
from purerl.rlhf.direct import bco_loss, direct_loss, kto_loss
from purerl.rlhf.supervised import sft_loss

HPARAMS = rlhf.LearnerHparams(beta=0.5)


class Tiny(nn.Module):
    """Logits of the next token from this one, through a product that LoRA can adapt."""

    @nn.compact
    def __call__(self, tokens, mask):
        x = nn.Embed(7, 6, name="embedding")(tokens)
        return nn.Dense(7, name="q_proj")(x)


NETWORK = Tiny()
PARAMS = jax.jit(NETWORK.init)(jax.random.key(0), jnp.zeros(4, jnp.int32), jnp.ones(4, bool))


def texts(lengths, width, pairs=False):
    """Rows of tokens that depend on the row alone, of these lengths, the first token a prompt."""
    lengths = np.array(lengths)
    columns = np.arange(width)
    tokens = (columns + lengths[..., None] ** 2) % 7
    mask = columns < lengths[..., None]
    return {"tokens": np.where(mask, tokens, 0), "mask": mask, "completion": mask & (columns > 0)}


def summed(run, learner, parts):
    sums = run.zeros(learner, (), parts[0])
    for part in parts:
        sums = run.add(learner, (), part, sums)
    return sums


def test_parts_of_different_widths_give_the_gradient_of_all_tokens_together():
    run = training.program(training.full(NETWORK), sft_loss, HPARAMS, optax.sgd(0.1))
    learner = run.begin(PARAMS)
    parts = summed(run, learner, [texts([3, 0], 4), texts([6, 5], 6)])
    whole = run.measure(learner, (), texts([3, 0, 6, 5], 6))
    assert float(parts.weight) == float(whole.weight) == 2 + 5 + 4
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), parts.grads, whole.grads)

    def mean(params):
        data = texts([3, 6, 5], 6)
        return -jnp.sum(text_log_probs(NETWORK, params, data)) / 11

    step, _ = run.step(learner, parts)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, PARAMS, jax.jit(jax.grad(mean))(PARAMS))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), step.params, expected)


def rows_of(lengths, loss):
    """Pairs, or labelled texts with others beside them, whose references differ from row to row; 0 tokens: absent."""
    lengths = np.array(lengths)
    data = texts(lengths, 6)
    data["ref_log_prob"] = np.where(lengths > 0, -2.0 - np.arange(lengths.size).reshape(lengths.shape) ** 2, 0.0)
    if loss not in ("kto", "bco"):
        return data
    one, other = ({name: column[:, i] for name, column in data.items()} for i in (0, 1))
    return one | {f"kl_{name}": column for name, column in other.items()} | {"label": np.arange(len(lengths)) == 1}


LOSSES = {name: functools.partial(direct_loss, loss=name) for name in ("dpo", "orpo", "aot", "aot_unpaired")}


@pytest.mark.parametrize("loss", [*LOSSES, "kto", "bco"])
def test_missing_rows_do_not_count(loss):
    loss_of = (LOSSES | {"kto": kto_loss, "bco": bco_loss})[loss]
    run = training.program(training.full(NETWORK), loss_of, HPARAMS, optax.sgd(0.1))
    learner = run.begin(PARAMS)
    alone = run.measure(learner, (), rows_of([[6, 4], [3, 5], [2, 6]], loss))
    padded = run.measure(learner, (), rows_of([[6, 4], [3, 5], [2, 6], [0, 0], [0, 0]], loss))
    assert float(padded.weight) == 3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), padded.grads, alone.grads)
    means, expected = training.means(padded), training.means(alone)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), means, expected)


def test_lora_starts_as_the_model_itself_and_trains_the_factors_alone():
    factors = lora.init(jax.random.key(1), PARAMS, rank=2)
    assert list(factors) == ["params.q_proj.kernel"]
    data = texts([6, 5], 6)
    run = training.program(training.low_rank(NETWORK, scale=2.0), sft_loss, HPARAMS, optax.sgd(1.0))
    learner = run.begin(factors)
    before = run.evaluate(learner, PARAMS, data)
    np.testing.assert_allclose(before.loss, -jnp.sum(text_log_probs(NETWORK, PARAMS, data)), rtol=1e-5)
    sums = run.add(learner, PARAMS, data, run.zeros(learner, PARAMS, data))
    learner, _ = run.step(learner, sums)
    assert float(run.evaluate(learner, PARAMS, data).loss) < float(before.loss)
    merged = lora.merge(PARAMS, learner.params, 2.0)
    np.testing.assert_allclose(
        -jnp.sum(text_log_probs(NETWORK, merged, data)), run.evaluate(learner, PARAMS, data).loss, rtol=1e-5
    )
    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), PARAMS, merged)["params"]
    assert changed == {"embedding": {"embedding": False}, "q_proj": {"bias": False, "kernel": True}}


def test_what_is_trained_whole_takes_the_place_of_the_base():
    factors = lora.init(jax.random.key(0), PARAMS, rank=1, whole="bias")
    assert sorted(factors) == ["params.q_proj.bias", "params.q_proj.kernel"]
    moved = factors | {"params.q_proj.bias": jnp.full(7, 3.0)}
    merged = lora.merge(PARAMS, moved, 1.0)["params"]["q_proj"]
    np.testing.assert_array_equal(merged["bias"], jnp.full(7, 3.0))
    np.testing.assert_array_equal(merged["kernel"], PARAMS["params"]["q_proj"]["kernel"])


def test_lora_of_no_matrix_is_refused():
    with pytest.raises(ValueError, match="no matrix of the model matches the targets 'up'"):
        lora.init(jax.random.key(0), PARAMS, rank=1, targets="up")
    with pytest.raises(ValueError, match="rank = 0 must be positive"):
        lora.init(jax.random.key(0), PARAMS, rank=0)


@pytest.mark.parametrize("chunk", [2, 100])
def test_chunked_log_probs_and_their_gradient_are_those_of_whole_logits(chunk):
    hidden, head = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(((6, 4), (4, 9))))
    tokens, counted = jnp.array([1, 8, -100, 3, 4, 5]), jnp.array([0, 1, 0, 1, 1, 1])
    weights = jnp.arange(6.0)

    def whole(head):
        return jnp.sum(weights * losses.token_log_probs(hidden @ head, tokens, counted))

    def chunked(head):
        return jnp.sum(weights * log_probs.chunked_log_probs(lambda x: x @ head, hidden, tokens, counted, chunk))

    np.testing.assert_allclose(chunked(head), whole(head), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(chunked)(head), jax.grad(whole)(head), atol=1e-5)


@dataclasses.dataclass
class Logged:
    """A writer that remembers."""

    rows: dict

    def writer(self):
        return Writer(lambda step, row: self.rows.__setitem__(step, dict(row)), lambda: None)


LENGTHS = np.array([3, 4, 5, 6, 6, 5, 4, 3])


def job(directory, run, num_updates=6):
    def epoch(number):
        order = np.random.default_rng(number).permutation(8)
        return [Part(6, order[i : i + 2]) for i in range(0, 8, 2)]

    def batch(part):
        return texts(LENGTHS[part.rows], part.width)

    return Job(
        run, (), PARAMS, epoch, batch, epoch(99)[:2], batch, parts_per_update=3, num_updates=num_updates, eval_every=2,
        rate=lambda _: 0.1, checkpoints=directory,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run():
    return training.program(training.full(NETWORK), sft_loss, HPARAMS, optax.adam(0.1))


def test_a_run_that_was_stopped_resumes_to_the_same_bits(tmp_path, run):
    whole, first, second = (Logged({}) for _ in range(3))
    straight = job(tmp_path / "a", run)
    learner = runs.train(straight, runs.begin(straight), whole.writer(), lambda *_: None)

    cut = job(tmp_path / "b", run)
    runs.train(cut, runs.begin(cut), first.writer(), lambda *_: None, stopped=lambda: len(first.rows) == 3)
    resumed = runs.begin(cut)
    assert int(resumed.num_updates) == 3
    resumed = runs.train(cut, resumed, second.writer(), lambda *_: None)

    assert sorted(first.rows) + sorted(second.rows) == sorted(whole.rows) == [1, 2, 3, 4, 5, 6]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), learner, resumed)
    for step, row in whole.rows.items():
        other = (first.rows | second.rows)[step]
        assert row.keys() == other.keys()
        np.testing.assert_array_equal(*([r[k] for k in sorted(r) if k != "tokens_per_second"] for r in (row, other)))


def test_evaluations_come_before_the_first_update_and_every_so_many(tmp_path, run):
    logged = Logged({})
    it = job(tmp_path, run)
    learner = runs.train(it, runs.begin(it), logged.writer(), lambda *_: None)
    assert [step for step, row in logged.rows.items() if not np.isnan(row["eval/total"])] == [1, 3, 5]
    assert runs.evaluate(it, learner)["eval/total"] < logged.rows[1]["eval/total"]


def test_the_last_group_of_an_epoch_holds_what_is_left(tmp_path, run):
    it = job(tmp_path, run)
    sizes = [len(group) for group in runs._groups(it, 0)]
    assert sizes == [3, 1, 3, 1, 3, 1]


def test_a_run_that_diverges_says_so(tmp_path):
    it = job(tmp_path, training.program(training.full(NETWORK), sft_loss, HPARAMS, optax.sgd(jnp.inf)))
    it = it._replace(parts_per_update=1)
    with pytest.raises(FloatingPointError, match="the loss is nan after 2 updates; try a lower learning rate"):
        runs.train(it, runs.begin(it), Logged({}).writer(), lambda *_: None)


def test_settings_of_the_optimizer_are_checked():
    with pytest.raises(ValueError, match="schedule must be one of cosine, linear, constant, got 'steps'"):
        training.adamw(training.Optimization(1e-3, 10, schedule="steps"))
    with pytest.raises(ValueError, match="warm-up of 11 updates is longer than the run of 10"):
        training.adamw(training.Optimization(1e-3, 10, warmup_updates=11))


def test_weights_decay_and_vectors_do_not():
    optimizer = training.adamw(training.Optimization(0.1, 10, schedule="constant", weight_decay=0.5))
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(lambda params: optimizer.update(zeros, optimizer.init(params), params))(params)
    assert float(updates["kernel"][0, 0]) == pytest.approx(-0.05)
    assert float(updates["bias"][0]) == 0

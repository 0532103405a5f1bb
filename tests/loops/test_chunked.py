"""Training in chunks, with functions on the host in between: the updates are those of `train`."""

import functools

import jax
import numpy as np
import pytest

import purerl
from purerl import callbacks, checkpoint, envs, logging, networks
from purerl.loops import chunked

ENV = envs.time_limit(envs.probe(), 3)
AGENT = purerl.actor_critic(networks.actor_critic(ENV, (4,)))
HPARAMS = purerl.ActorCriticHparams()
SIZES = {"num_updates": 7, "num_envs": 2, "rollout_length": 4}  # 8 steps per update
KEY = jax.random.key(0)


def train(*functions, **options):
    return purerl.train_in_chunks(KEY, AGENT, ENV, HPARAMS, **SIZES, num_chunks=3, callbacks=functions, **options)


@pytest.fixture(scope="module")
def straight():
    return purerl.train(KEY, AGENT, ENV, HPARAMS, **SIZES)


def test_a_run_in_chunks_is_the_same_run(straight):
    """Up to rounding: it is another program."""
    state, metrics = train()
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-8)
    jax.tree.map(close, state.params, straight[0].params)
    assert metrics["num_episodes"].sum() == straight[1]["num_episodes"].sum()


def test_the_last_chunk_may_be_shorter():
    seen = []
    train(lambda chunk: seen.append((chunk.num_updates, chunk.num_steps, int(chunk.loop_state.num_updates))))
    assert seen == [(3, 24, 3), (6, 48, 6), (7, 56, 7)]


def test_evaluation_best_state_log_and_stop_in_one_run(tmp_path):
    """Multiples of 25 steps are reached in the second chunk and in the third."""
    writer = logging.jsonl_writer(tmp_path / "metrics.jsonl")
    evaluate = callbacks.evaluate_every(25, AGENT, ENV, num_episodes=4, max_steps=3)
    state, metrics = train(
        evaluate, callbacks.save_best(tmp_path / "best"), callbacks.log_to(writer), callbacks.stop_at(-10.0)
    )
    writer.close()
    assert np.isfinite(metrics["eval_return"]).tolist() == [False, True]
    details = checkpoint.read_metadata(tmp_path / "best")
    assert details == {"eval_return": metrics["eval_return"][1], "num_steps": 48, "num_updates": 6}
    best = checkpoint.restore(tmp_path / "best", state)
    jax.tree.map(np.testing.assert_array_equal, best.params, state.params)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_metrics_that_callbacks_add_in_some_chunks_are_kept_with_nan_in_the_others():
    def add(chunk):
        chunk.metrics["first" if chunk.num_updates == 3 else "later"] = float(chunk.num_updates)

    _, metrics = train(add)
    np.testing.assert_array_equal(metrics["first"], [3, np.nan, np.nan])
    np.testing.assert_array_equal(metrics["later"], [np.nan, 6, 7])


@pytest.mark.parametrize("answer", [1, np.array([True, False]), "stop"])
def test_a_callback_that_answers_with_neither_a_truth_nor_none_is_named(answer):
    def stop(chunk):
        return answer

    with pytest.raises(TypeError, match="the callback stop must return True, False or None"):
        chunked.call_all([stop], None)


def test_a_metric_that_no_callback_made_is_named():
    with pytest.raises(KeyError, match=r"no metric 'eval_return'.*episode_return"):
        train(callbacks.stop_at(1.0))


def test_a_best_state_is_not_replaced_by_a_worse_one(tmp_path):
    save = callbacks.save_best(tmp_path / "best", "score")
    for score in (1.0, 3.0, 2.0):
        save(purerl.loops.Chunk(1, int(score), {"score": score}, {"x": np.float32(score)}))
    assert checkpoint.read_metadata(tmp_path / "best")["num_steps"] == 3

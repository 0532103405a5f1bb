"""The synthetic language, Goodhart's curve and the command: pieces exactly, the whole road in miniature."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.experiments import goodhart, language

LANG = language.language(jax.random.key(0))


def test_the_language_is_a_chain_that_ends():
    np.testing.assert_allclose(jnp.exp(LANG.chain[: language.LETTERS]).sum(axis=1), 1, rtol=1e-5)
    prompts = language.prompts(jax.random.key(1), LANG, 500, 4)
    data = language.continue_chain(jax.random.key(2), LANG, prompts, 12)
    ended = (data["tokens"] == language.EOS).any(axis=1).mean()
    assert ended == pytest.approx(1 - 0.94**12, abs=0.08)


def test_the_true_reward_is_unary_plus_neighbours_of_the_completion():
    tokens = jnp.array([3, 5, 7, 2, language.EOS, language.PAD])
    completion = jnp.array([0, 0, 1, 1, 1, 0], bool)
    expected = LANG.unary[7] + LANG.unary[2] + LANG.pairwise[5, 7] + LANG.pairwise[7, 2]
    assert language.true_reward(LANG, tokens, completion) == pytest.approx(float(expected), abs=1e-5)


def test_goodhart_the_true_reward_rises_and_falls_while_the_learned_one_rises():
    curve = goodhart.goodhart(seed=0)
    assert (jnp.diff(curve.proxy_reward) > 0).all()
    assert (jnp.diff(curve.kl) > 0).all()
    peak = int(curve.true_reward.argmax())
    assert 5 < peak < 40
    assert curve.true_reward[peak] - curve.true_reward[-1] >= 0.5
    assert curve.true_reward[peak] - curve.true_reward[0] >= 0.5


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_whole_road_gains(tmp_path):
    from purerl.commands import rlhf as command

    command.run(command.Options(output=tmp_path))
    found = json.loads((tmp_path / "language.json").read_text())
    assert found["reward_model"]["accuracy"] >= found["reward_model"]["bayes"] - 0.06
    reward = {point["method"]: point["true_reward"] for point in found["points"]}
    assert max(reward["ppo"], reward["rloo"]) - reward["sft"] >= 5
    assert reward["dpo"] > reward["sft"]
    assert (tmp_path / "language.png").stat().st_size > 10_000


def test_the_command_refuses_what_it_does_not_know():
    from purerl.commands import rlhf as command
    from purerl.commands.options import UsageError

    with pytest.raises(UsageError, match="unknown method 'ppoo'"):
        command.run(command.Options(methods=("ppoo",)))
    with pytest.raises(UsageError, match="num-pairs"):
        command.run(command.Options(num_pairs=0))
    with pytest.raises(UsageError, match="7 rounds"):
        command.run(command.Options(task="pendulum", num_pairs=6))


def test_the_command_saves_its_picture_and_its_figures(tmp_path, capsys):
    from purerl.commands import rlhf as command

    command.run(command.Options(task="clicks", num_pairs=300, output=tmp_path))
    assert "position bias" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "clicks.json").read_text())["corrected"]) == 9
    assert (tmp_path / "clicks.png").stat().st_size > 10_000

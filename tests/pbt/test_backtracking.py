"""Backtracking where training longer hurts: members that have gone too far return to elites of earlier rounds."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandits import EPISODE, Hparams, make_env
from cutting import Cut

from purerl import pbt, plots, sweep
from purerl.pbt import backtracking, exploit_explore
from purerl.sweep.run import journal
from purerl.types import Agent

PEAK, UPDATES = 5, 3  # the best number of updates, which lies in the second round
ROUNDS, MEMBERS = 8, 6
SPACE = {"learning_rate": sweep.log_uniform(0.01, 1.0)}


class Overtrained(NamedTuple):
    count: jax.Array
    hparams: Hparams


def make_overtrained():
    """An action 0.3 + |n - 5| / 5 after n updates, where 0.3 is best; members differ a little by their rate."""

    def act(key, state, obs):
        return 0.3 + jnp.abs(state.count - PEAK) / PEAK + 1e-3 * state.hparams.learning_rate, ()

    return Agent(
        lambda key, hparams, example, num_envs=1: Overtrained(jnp.float32(0), hparams), act,
        lambda key, state, data: (state._replace(count=state.count + 1), {}),
    )  # fmt: skip


AGENT, ENV = make_overtrained(), make_env()


def run(num_elites, directory=None, **changes):
    sizes = {"population_size": MEMBERS, "num_rounds": ROUNDS, "updates_per_round": UPDATES, "num_envs": 1}
    return pbt.pbt(
        jax.random.key(3), AGENT, ENV, Hparams(), SPACE, **sizes, rollout_length=EPISODE, eval_episodes=4,
        eval_max_steps=EPISODE, exploit_fraction=0.5, num_elites=num_elites, directory=directory,
        resume=directory is not None and journal.exists(directory), rounds_per_chunk=1, **changes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def result():
    return run(2)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def test_members_go_back_to_elites_where_training_longer_hurts(result):
    plain = run(0)
    assert (plain.lineage.parents < MEMBERS).all()
    assert (plain.states.count == ROUNDS * UPDATES).all()  # nobody can return
    assert result.rounds_back.any()
    assert result.states.count[result.order[0]] <= 3 * UPDATES
    assert result.lineage.scores[-1].max() > plain.lineage.scores[-1].max() + 1


def test_the_lineage_says_in_which_rounds_a_learner_was_trained(result):
    """A learner counts its updates, so those of the rounds on its path must be all that it has."""
    for member in range(MEMBERS):
        rounds, places = result.trained(member)
        assert len(rounds) * UPDATES == result.states.count[member]
        assert (np.diff(rounds) >= 1).all()
        assert (rounds[-1], places[-1]) == (ROUNDS - 1, member)
        assert len(result.schedule(member).learning_rate) == len(rounds)
        rates = result.lineage.hparams.learning_rate
        for before, now in zip(zip(rounds, places), zip(rounds[1:], places[1:])):
            kept = result.lineage.parents[now] == now[1]
            assert (rates[now] == rates[before]) == kept


def test_elites_are_the_best_learners_of_earlier_rounds(result):
    """Whoever is copied from an earlier round was among the two best of all rounds before the last one."""
    back, scores = result.rounds_back, result.lineage.scores
    for r, member in np.argwhere(back > 0):
        since = r - 1 - back[r, member]
        elites = np.sort(scores[: r - 1].reshape(-1))[-2:]
        assert scores[since, result.lineage.parents[r, member] % MEMBERS] in elites


def test_tables_and_the_picture_follow_a_learner_back(result):
    rows = result.rows()
    assert max(row["rounds_back"] for row in rows) == result.rounds_back.max() > 0
    assert max(row["parent"] for row in rows) < MEMBERS
    best = result.member_rows()[0]
    assert best["rounds_given_up"] == ROUNDS - len(result.trained()[0]) > 0
    score = plots.family(result).axes[0]
    np.testing.assert_allclose(score.lines[0].get_xdata(), result.steps[result.trained()[0]])
    lines = np.concatenate([each.get_segments() for each in score.collections])
    assert len(lines) == (ROUNDS - 1) * MEMBERS
    spans = np.sort((lines[:, 1, 0] - lines[:, 0, 0]) / result.steps[0])
    np.testing.assert_allclose(spans, np.sort(1 + result.rounds_back[1:].reshape(-1)))


def test_a_run_with_elites_that_is_interrupted_ends_the_same(result, tmp_path):
    def cut(now):
        if now.round == 4:
            raise Cut

    with pytest.raises(Cut):
        run(2, tmp_path, progress=cut)
    with pytest.raises(ValueError, match="num_elites = 2, not None"):
        run(0, tmp_path)
    resumed = run(2, tmp_path)
    equal(resumed.lineage, result.lineage)
    equal(resumed.states, result.states)
    loaded = pbt.load_pbt(tmp_path, AGENT, ENV, Hparams())
    equal(loaded.trained(), result.trained())


def test_before_the_first_round_no_score_is_known():
    """The 0 of a population that has not been scored would be the best score where returns are negative."""
    state = Overtrained(jnp.zeros(3), Hparams(*jnp.ones((3, 3))))
    elites = backtracking.none_yet(state, 2)
    begun, after = (backtracking.candidates(state, jnp.zeros(3), jnp.int32(last), elites) for last in (-1, 0))
    assert np.isnan(begun.scores).all()
    assert np.isnan(after.scores).tolist() == [False] * 3 + [True] * 2


def test_an_elite_is_a_candidate_among_the_best():
    keys = jax.random.split(jax.random.key(0), 100)
    scores, elites = jnp.array([3.0, 1.0, 2.0, 0.0]), jnp.array([2.5, jnp.nan])
    parents = np.asarray(jax.vmap(lambda key: exploit_explore.exploit(key, scores, 2, elites))(keys))
    assert (parents[:, [0, 2]] == [0, 2]).all()
    assert set(parents[:, [1, 3]].reshape(-1).tolist()) == {0, 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"explore": "pb2"}, "num_elites = 2 cannot be combined with explore"), ({"num_elites": -1}, "num_elites = -1")],
)
def test_elites_that_cannot_be_kept_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        run(**{"num_elites": 2} | changes)


def test_a_lineage_with_elites_is_not_repeated(result):
    with pytest.raises(ValueError, match="goes back to elites"):
        run(0, lineage=result.lineage)
    with pytest.raises(ValueError, match="cannot be combined with a lineage"):
        run(2, lineage=result.lineage)

"""Games of two players by self-play; `docs/suites.md` has what was measured."""

import jax
import numpy as np
import pytest

import purerl
from purerl import envs, networks

pgx = pytest.importorskip("pgx")
HPARAMS = purerl.AlphaZeroHparams(learning_rate=3e-3, discount=-1.0, trace_decay=1.0)


@pytest.mark.slow
def test_alphazero_beats_a_random_and_a_one_step_player_at_tic_tac_toe():
    game = pgx.make("tic_tac_toe")
    env = envs.with_state(envs.from_pgx_self_play(game, random_opening=4))
    network = networks.actor_critic(env, (64, 64), "relu")
    agent = purerl.alphazero(network, env, num_simulations=32, num_epochs=2, num_minibatches=4)
    sizes = {"num_updates": 300, "num_envs": 64, "rollout_length": 9}
    state, _ = purerl.train(jax.random.key(0), agent, env, HPARAMS, **sizes)
    for opponent, margin in ((envs.random_player, 0.5), (envs.one_step_player(game), 0.2)):
        rival = envs.with_state(envs.from_pgx(game, opponent))
        played = purerl.evaluate(jax.random.key(7), agent, rival, state, num_episodes=400, max_steps=9)
        outcome = np.asarray(played.episode_return)
        print((outcome > 0).mean(), (outcome == 0).mean(), (outcome < 0).mean())
        assert (outcome > 0).mean() - (outcome < 0).mean() > margin


def test_openings_are_random_and_never_end_the_game():
    env = envs.from_pgx_self_play(pgx.make("tic_tac_toe"), random_opening=4)
    obs, _ = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 200))
    moves = np.asarray(obs["obs"]).sum((1, 2, 3))
    assert set(moves) == {0, 1, 2, 3, 4}

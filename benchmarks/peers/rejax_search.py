"""Worker: rejax's PPO over a table of trials x seeds, as its users search: one `jax.vmap` over everything.

Each run trains all agents from fresh keys, plays greedy episodes and writes their returns [run, trial, seed, episode].
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from pairs import serve, sizes
from rejax.evaluate import evaluate
from rejax_agents import cartpole_ppo

NAMES = ("num_seeds", "num_envs", "rollout_length", "num_updates", "episodes")
args = sizes(*NAMES, paths=("table", "output"))
table = dict(np.load(args.table))

algorithm = cartpole_ppo(args.num_envs, args.rollout_length, args.num_updates, max_grad_norm=jnp.inf)


def train_and_play(key, hparams):
    train_key, eval_key = jax.random.split(key)
    state, _ = algorithm.replace(**hparams).train(train_key)

    def greedy(obs, key):
        return algorithm.actor.apply(state.actor_ts.params, obs[None], method="_action_dist").mode()[0]

    return evaluate(greedy, eval_key, algorithm.env, algorithm.env_params, args.episodes, 500)[1]


seeds = jax.vmap(train_and_play, (0, None))
program = jax.jit(jax.vmap(seeds, (0, 0)))
runs = []


def run(i):
    keys = jax.random.split(jax.random.PRNGKey(i), (len(table["learning_rate"]), args.num_seeds))
    runs.append(np.asarray(program(keys, {name: jnp.asarray(column) for name, column in table.items()})))
    np.save(args.output, runs)


serve(run)

"""Worker: `purerl.sweep.search` over a table of PPO trials x seeds, with the settings of rejax.

Those are: the initial parameters (flax's default), no limit on gradients, Adam's epsilon, and a time limit that ends
an episode as a failure does. Each run writes the returns of the greedy episodes [run, trial, seed, episode].
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from pairs import serve, sizes

import purerl
from purerl import distributions, sweep

NAMES = ("num_seeds", "num_envs", "rollout_length", "num_updates", "episodes")
args = sizes(*NAMES, paths=("table", "output"))
purerl.distributed.use_all_cores()
table = {name: jnp.asarray(column) for name, column in np.load(args.table).items()}


class Network(nn.Module):
    """Two towers of 64-64 tanh with flax's default initialisers, as rejax has them."""

    @nn.compact
    def __call__(self, obs):
        """One observation to the action distribution and the value."""
        actor, critic = obs, obs
        for _ in range(2):
            actor, critic = jnp.tanh(nn.Dense(64)(actor)), jnp.tanh(nn.Dense(64)(critic))
        return distributions.categorical(nn.Dense(2)(actor)), nn.Dense(1)(critic)[0]


def ending_at_the_limit(env):
    def step(key, state, action, env_params=None):
        result = env.step(key, state, action, env_params)
        return result._replace(terminated=result.terminated | result.truncated, truncated=jnp.bool_(False))

    return env._replace(step=step)


env = ending_at_the_limit(purerl.envs.make("CartPole-v1"))
agent = purerl.ppo(Network(), optimizer=lambda hparams: optax.adam(hparams.learning_rate))
shape = table["learning_rate"].shape
hparams = jax.tree.map(lambda value: jnp.full(shape, value, jnp.float32), purerl.PPOHparams())
hparams = hparams._replace(
    learning_rate=table["learning_rate"],
    gae_lambda=table["gae_lambda"],
    clip_epsilon=table["clip_eps"],
    value_clip_epsilon=table["clip_eps"],
    entropy_coef=table["ent_coef"],
)
runs = []


def run(i):
    result = sweep.search(
        jax.random.key(i), agent, env, hparams, num_seeds=args.num_seeds, num_updates=args.num_updates,
        num_envs=args.num_envs, rollout_length=args.rollout_length, eval_episodes=args.episodes, eval_max_steps=500,
        num_chunks=4, keep=1,
    )  # fmt: skip
    runs.append(result.returns)
    np.save(args.output, runs)


serve(run)

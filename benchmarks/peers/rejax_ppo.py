"""Worker: rejax's PPO on CartPole, in an environment of its own, since rejax needs gymnax 0.x (see README.md)."""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
from pairs import serve
from rejax_agents import cartpole_ppo

parser = argparse.ArgumentParser()
parser.add_argument("--num-envs", type=int, required=True)
parser.add_argument("--rollout-length", type=int, required=True)
parser.add_argument("--num-updates", type=int, required=True)
parser.add_argument("--population", type=int, default=0)
args = parser.parse_args()

algorithm = cartpole_ppo(
    args.num_envs,
    args.rollout_length,
    args.num_updates,
    learning_rate=2.5e-4,
    gamma=0.99,
    gae_lambda=0.95,
    clip_eps=0.2,
    vf_coef=0.5,
    ent_coef=0.01,
    max_grad_norm=0.5,
)


def train(key, learning_rate):
    return algorithm.replace(learning_rate=learning_rate).train(key)[0].actor_ts.params


if args.population:
    rates = jax.numpy.geomspace(1e-4, 1e-3, args.population)
    program = jax.jit(jax.vmap(train))
    serve(lambda i: jax.block_until_ready(program(jax.random.split(jax.random.PRNGKey(i), args.population), rates)))
else:
    program = jax.jit(train)
    serve(lambda i: jax.block_until_ready(program(jax.random.PRNGKey(i), 2.5e-4)))

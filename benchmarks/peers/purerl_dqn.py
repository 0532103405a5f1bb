"""Worker: purerl's double DQN on CartPole, one gradient step after every step of all environments."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
from pairs import serve, sizes

import purerl

args = sizes("num_envs", "num_steps", "batch_size", "capacity")

env = purerl.envs.make("CartPole-v1")
agent = purerl.combinators.with_replay(
    purerl.dqn(purerl.networks.q_network(env, (120, 84)), huber=False),
    capacity=args.capacity,
    batch_size=args.batch_size,
)
hparams = purerl.DQNHparams(learning_rate=3e-4, target_period=200)
loop = {"num_updates": args.num_steps // args.num_envs, "num_envs": args.num_envs, "rollout_length": 1}
serve(lambda i: jax.block_until_ready(purerl.train(jax.random.key(i), agent, env, hparams, **loop)[0].agent.params))

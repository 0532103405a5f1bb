"""Worker: purerl's SAC on Pendulum, one gradient step after every step of all environments."""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
from pairs import serve

import purerl

parser = argparse.ArgumentParser()
parser.add_argument("--num-envs", type=int, required=True)
parser.add_argument("--num-steps", type=int, required=True)
parser.add_argument("--batch-size", type=int, required=True)
parser.add_argument("--capacity", type=int, required=True)
args = parser.parse_args()

env = purerl.envs.make("Pendulum-v1")
networks = purerl.networks
agent = purerl.combinators.with_replay(
    purerl.sac(networks.gaussian_actor(env, (64, 64)), networks.critic(env, (64, 64))),
    capacity=args.capacity,
    batch_size=args.batch_size,
)
hparams = purerl.SACHparams(3e-4, 3e-4, 3e-4, discount=0.99, tau=0.01)
sizes = {"num_updates": args.num_steps // args.num_envs, "num_envs": args.num_envs, "rollout_length": 1}
serve(lambda i: jax.block_until_ready(purerl.train(jax.random.key(i), agent, env, hparams, **sizes)[0].agent.params))

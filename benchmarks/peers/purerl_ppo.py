"""Worker: purerl's PPO on CartPole. A population is spread over the CPU's cores, as `purerl sweep` does it."""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
from pairs import serve

import purerl

parser = argparse.ArgumentParser()
parser.add_argument("--num-envs", type=int, required=True)
parser.add_argument("--rollout-length", type=int, required=True)
parser.add_argument("--num-updates", type=int, required=True)
parser.add_argument("--population", type=int, default=0)
parser.add_argument("--one-device", action="store_true", help="plain vmap, not spread over the cores")
args = parser.parse_args()
if args.population and not args.one_device:
    purerl.distributed.use_all_cores()

env = purerl.envs.make("CartPole-v1")
agent = purerl.ppo(purerl.networks.actor_critic(env), num_epochs=4, num_minibatches=4)


def train(key, learning_rate):
    hparams = purerl.PPOHparams(learning_rate=learning_rate)
    sizes = {"num_updates": args.num_updates, "num_envs": args.num_envs, "rollout_length": args.rollout_length}
    return purerl.train(key, agent, env, hparams, **sizes)


if args.population:
    rates = jax.numpy.geomspace(1e-4, 1e-3, args.population)
    program = jax.jit(lambda keys, rates: purerl.distributed.over_devices(jax.vmap(train), (keys, rates)))
    serve(lambda i: jax.block_until_ready(program(jax.random.split(jax.random.key(i), args.population), rates)))
else:
    serve(lambda i: jax.block_until_ready(train(jax.random.key(i), 2.5e-4)))

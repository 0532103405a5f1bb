"""Worker: purerl's SAC on Pendulum, one gradient step after every step of all environments."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
from pairs import serve, sizes

import purerl

args = sizes("num_envs", "num_steps", "batch_size", "capacity")

env = purerl.envs.make("Pendulum-v1")
networks = purerl.networks
agent = purerl.combinators.with_replay(
    purerl.sac(networks.gaussian_actor(env, (64, 64)), networks.critic(env, (64, 64))),
    capacity=args.capacity,
    batch_size=args.batch_size,
)
hparams = purerl.SACHparams(3e-4, 3e-4, 3e-4, discount=0.99, tau=0.01)
loop = {"num_updates": args.num_steps // args.num_envs, "num_envs": args.num_envs, "rollout_length": 1}
serve(lambda i: jax.block_until_ready(purerl.train(jax.random.key(i), agent, env, hparams, **loop)[0].agent.params))

"""Worker: rejax's double DQN on CartPole, in an environment of its own: rejax needs gymnax 0.x (see README.md)."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import flax.linen as nn
import jax
import rejax
from pairs import serve, sizes
from rejax.networks import DiscreteQNetwork, EpsilonGreedyPolicy

args = sizes("num_envs", "num_steps", "batch_size", "capacity")

algorithm = rejax.DQN.create(
    env="CartPole-v1",
    num_envs=args.num_envs,
    buffer_size=args.capacity,
    fill_buffer=args.batch_size,
    batch_size=args.batch_size,
    learning_rate=3e-4,
    gamma=0.99,
    target_update_freq=200 * args.num_envs,
    total_timesteps=args.num_steps,
    eval_freq=args.num_steps,
    skip_initial_evaluation=True,
)
network = EpsilonGreedyPolicy(DiscreteQNetwork)(action_dim=2, hidden_layer_sizes=(120, 84), activation=nn.relu)
algorithm = algorithm.replace(agent=network, eval_callback=lambda *_: ())
program = jax.jit(lambda key: algorithm.train(key)[0].q_ts.params)
serve(lambda i: jax.block_until_ready(program(jax.random.PRNGKey(i))))

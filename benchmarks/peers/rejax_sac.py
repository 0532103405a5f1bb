"""Worker: rejax's SAC on Pendulum, in an environment of its own, since rejax needs gymnax 0.x (see README.md)."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import rejax
from pairs import serve, sizes

args = sizes("num_envs", "num_steps", "batch_size", "capacity")

algorithm = rejax.SAC.create(
    env="Pendulum-v1",
    num_envs=args.num_envs,
    buffer_size=args.capacity,
    fill_buffer=args.batch_size,
    batch_size=args.batch_size,
    learning_rate=3e-4,
    gamma=0.99,
    polyak=0.99,
    total_timesteps=args.num_steps,
    eval_freq=args.num_steps,
    skip_initial_evaluation=True,
    agent_kwargs={"activation": "relu", "hidden_layer_sizes": (64, 64)},
).replace(eval_callback=lambda *_: ())
program = jax.jit(lambda key: algorithm.train(key)[0].actor_ts.params)
serve(lambda i: jax.block_until_ready(program(jax.random.PRNGKey(i))))

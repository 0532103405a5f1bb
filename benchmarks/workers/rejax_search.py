"""rejax's PPO over a table of trials x seeds, as its users search: one `jax.vmap` over everything."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rejax
from rejax.evaluate import evaluate
from serving import Built


def search(workload: dict[str, Any]) -> Built:
    """One search a run; the returns of the greedy episodes [run, trial, seed, episode] are written each time."""
    table = {name: jnp.asarray(column) for name, column in np.load(workload["table"]).items()}
    sizes = [workload[name] for name in ("num_envs", "rollout_length", "num_updates")]
    num_steps, num_seeds = int(np.prod(sizes)), workload["num_seeds"]
    algorithm = rejax.PPO.create(
        env="CartPole-v1", num_envs=sizes[0], num_steps=sizes[1], num_epochs=4, num_minibatches=4,
        total_timesteps=num_steps, eval_freq=num_steps, skip_initial_evaluation=True, max_grad_norm=jnp.inf,
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
    ).replace(eval_callback=lambda *_: ())  # fmt: skip

    def train_and_play(key: jax.Array, hparams: dict[str, jax.Array]) -> jax.Array:
        train_key, eval_key = jax.random.split(key)
        state, _ = algorithm.replace(**hparams).train(train_key)

        def greedy(obs: jax.Array, key: jax.Array) -> jax.Array:
            return algorithm.actor.apply(state.actor_ts.params, obs[None], method="_action_dist").mode()[0]

        return evaluate(greedy, eval_key, algorithm.env, algorithm.env_params, workload["episodes"], 500)[1]

    program = jax.jit(jax.vmap(jax.vmap(train_and_play, (0, None)), (0, 0)))
    num_trials = len(table["learning_rate"])
    runs: list[np.ndarray] = []

    def run(seed: int) -> None:
        keys = jax.random.split(jax.random.PRNGKey(seed), (num_trials, num_seeds))
        runs.append(np.asarray(program(keys, table)))
        np.save(f"{workload['output']}/rejax.npy", runs)

    return Built(run, float(num_trials * num_seeds * num_steps))

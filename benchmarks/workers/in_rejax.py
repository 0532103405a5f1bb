"""Worker of rejax's side, in an environment of its own, since rejax needs gymnax 0.x."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import numpy as np
import rejax
import rejax_search
from compiling import compiled
from rejax.evaluate import evaluate
from rejax.networks import DiscreteQNetwork, EpsilonGreedyPolicy
from serving import Built, serve

Workload = dict[str, Any]


def train(workload: Workload) -> Built:
    """Training from the start: one agent, or `jax.vmap` over learning rates, as its users search."""
    steps = workload["num_updates"] * workload["num_envs"] * workload["rollout_length"]
    shared = {"env": workload["env"], "num_envs": workload["num_envs"], "total_timesteps": steps, "eval_freq": steps}
    algorithm = ALGORITHMS[workload["algorithm"]](workload, shared | {"skip_initial_evaluation": True, "gamma": 0.99})
    algorithm = algorithm.replace(eval_callback=lambda *_: ())
    population = workload["population"]
    if population:
        rates = jax.numpy.geomspace(1e-4, 1e-3, population)
        many = jax.vmap(lambda key, rate: algorithm.replace(learning_rate=rate).train(key)[0])
        run, facts = compiled(many, lambda seed: (jax.random.split(jax.random.PRNGKey(seed), population), rates))
        return Built(run, steps * population, None, facts)
    run, facts = compiled(lambda key: algorithm.train(key)[0], lambda seed: (jax.random.PRNGKey(seed),))
    return Built(run, steps, lambda state: played(algorithm, state), facts)


def played(algorithm: Any, state: Any) -> float:
    """Mean return of 64 episodes of the trained policy, sampled as in training."""
    act = algorithm.make_act(state)
    limit = algorithm.env_params.max_steps_in_episode
    return float(np.mean(evaluate(act, jax.random.PRNGKey(0), algorithm.env, algorithm.env_params, 64, limit)[1]))


def _ppo(workload: Workload, shared: dict[str, Any]) -> Any:
    return rejax.PPO.create(
        **shared, **_tanh(), num_steps=workload["rollout_length"], num_epochs=4, num_minibatches=4,
        learning_rate=2.5e-4, gae_lambda=0.95, clip_eps=0.2, vf_coef=0.5, ent_coef=0.01, max_grad_norm=0.5,
    )  # fmt: skip


def _pqn(workload: Workload, shared: dict[str, Any]) -> Any:
    return rejax.PQN.create(
        **shared, num_steps=workload["rollout_length"], num_epochs=4, num_minibatches=4,
        learning_rate=5e-4,
    )  # fmt: skip


def _dqn(workload: Workload, shared: dict[str, Any]) -> Any:
    made = rejax.DQN.create(
        **shared, **_buffer(workload), learning_rate=3e-4, target_update_freq=200 * workload["num_envs"]
    )
    network = EpsilonGreedyPolicy(DiscreteQNetwork)(action_dim=2, hidden_layer_sizes=(120, 84), activation=nn.relu)
    return made.replace(agent=network)


def _sac(workload: Workload, shared: dict[str, Any]) -> Any:
    return rejax.SAC.create(**shared, **_buffer(workload), **_tanh("relu"), learning_rate=3e-4, polyak=0.99)


def _td3(workload: Workload, shared: dict[str, Any]) -> Any:
    relu = {name: {"activation": "relu"} for name in ("actor_kwargs", "critic_kwargs")}  # its layers are 64 and 64
    return rejax.TD3.create(**shared, **_buffer(workload), **relu, learning_rate=3e-4, polyak=0.99)


def _tanh(activation: str = "tanh") -> dict[str, Any]:
    return {"agent_kwargs": {"activation": activation, "hidden_layer_sizes": (64, 64)}}


def _buffer(workload: Workload) -> dict[str, Any]:
    batch = workload["batch_size"]
    return {"buffer_size": workload["capacity"], "fill_buffer": batch, "batch_size": batch}


ALGORITHMS = {"double_dqn": _dqn, "ppo": _ppo, "pqn": _pqn, "sac": _sac, "td3": _td3}

if __name__ == "__main__":
    serve({"train": train, "search": rejax_search.search})

"""PPO at the crossing against fixed-cycle and actuated control, each tuned: `python benchmarks/traffic.py`.

The controllers' times are searched on a grid, 128 episodes a point; PPO is trained on several seeds. All are then
judged on the same fresh episodes of ten minutes. The controllers decide every second, PPO every four. Writes
`results/traffic.json`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl import combinators, distributed, envs, networks

RESULTS = Path(__file__).parent / "results" / "traffic.json"
SECONDS = 600
REPEAT = 4  # seconds from one decision of PPO to the next
GRIDS = {
    "fixed_cycle": (envs.fixed_cycle(), envs.FixedCycleHparams, range(20, 80, 6), range(20, 80, 6)),
    "actuated": (envs.actuated(), envs.ActuatedHparams, (1, 3, 5, 6, 7, 8, 10), (30, 45, 60, 90, 120, 600)),
}


def mean_return(key: jax.Array, agent: Any, env: Any, state: Any, num_episodes: int) -> jax.Array:
    return purerl.evaluate(key, agent, env, state, num_episodes=num_episodes, max_steps=SECONDS).episode_return.mean()


def tuned(name: str, env: Any, key: jax.Array) -> Any:
    """The hyperparameters of the best point of a controller's grid."""
    agent, hparams_class, *axes = GRIDS[name]
    first, second = jnp.array(list(itertools.product(*axes)), jnp.float32).T
    state = jax.vmap(lambda *hparams: agent.init(key, hparams_class(*hparams), None))(first, second)
    score = jax.jit(jax.vmap(lambda state: mean_return(key, agent, env, state, 128)))(state)
    return hparams_class(float(first[score.argmax()]), float(second[score.argmax()]))


def trained(env: Any, keys: jax.Array, num_steps: int) -> tuple[Any, Any, dict]:
    """PPO's agent, its states over the seeds, and what it was trained with."""
    sizes = {"num_envs": 32, "rollout_length": 128}
    num_updates = num_steps // (sizes["num_envs"] * sizes["rollout_length"])
    agent = purerl.ppo(networks.actor_critic(env), num_epochs=4, num_minibatches=8)
    agent = combinators.with_reward_scaling(combinators.with_observation_normalization(agent))
    hparams = purerl.PPOHparams(learning_rate=1e-3, discount=0.97, entropy_coef=0.002, anneal_updates=num_updates)

    def run(key: jax.Array) -> Any:
        return purerl.train(key, agent, env, hparams, num_updates=num_updates, **sizes)[0]

    states = distributed.over_devices(jax.vmap(run), (keys,))
    settings = {k: float(v) for k, v in hparams._asdict().items()} | sizes | {"num_steps": num_steps}
    return agent, states, settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    distributed.use_all_cores()
    env, judge = envs.make("TrafficLight-v0"), jax.random.key(100)
    command = (
        f"python benchmarks/traffic.py --seeds {options.seeds} --steps {options.steps} --episodes {options.episodes}"
    )
    found: dict[str, Any] = {"command": command, "params": envs.TrafficParams()._asdict()}
    for name, (agent, *_) in GRIDS.items():
        hparams = tuned(name, env, jax.random.key(1))
        state = agent.init(judge, purerl.types.cast(hparams), None)
        score = float(mean_return(judge, agent, env, state, options.episodes))
        found[name] = hparams._asdict() | {"vehicle_minutes": round(-score, 2)}
        print(name, found[name], flush=True)
    begin = time.perf_counter()
    slow = envs.action_repeat(env, REPEAT)
    agent, states, settings = trained(slow, jax.random.split(jax.random.key(0), options.seeds), options.steps)
    jax.block_until_ready(states)
    seconds = time.perf_counter() - begin
    states = jax.device_get(states)
    scores = jax.jit(jax.vmap(lambda state: mean_return(judge, agent, slow, state, options.episodes)))(states)
    minutes = np.sort(-np.asarray(scores))
    best = min(found[name]["vehicle_minutes"] for name in GRIDS)
    found["ppo"] = settings | {
        "vehicle_minutes": [round(float(x), 2) for x in minutes],
        "mean": round(float(minutes.mean()), 2),
        "seeds_that_beat_both": int((minutes < best).sum()),
        "training_seconds": round(seconds, 1),
    }
    print("ppo", found["ppo"], flush=True)
    options.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

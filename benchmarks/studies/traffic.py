"""PPO at the crossing against fixed-cycle and actuated control, each tuned: `python -m benchmarks.studies.traffic`.

The controllers' times are searched on a grid, 128 episodes a point; PPO is trained on several seeds. All are then
judged on the same fresh episodes of ten minutes. The controllers decide every second, PPO every four; all choose
between two phases. What the best of such controls could reach is computed by dynamic programming. Writes
`results/traffic.json`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl import combinators, distributed, envs, networks

RESULTS = Path(__file__).parents[1] / "results" / "traffic.json"
SECONDS = 600
REPEAT = 4  # seconds from one decision of PPO to the next
GRIDS = {
    "fixed_cycle": (envs.fixed_cycle(), envs.FixedCycleHparams, range(20, 80, 6), range(20, 80, 6)),
    "actuated": (envs.actuated(), envs.ActuatedHparams, (1, 3, 5, 6, 7, 8, 10), (30, 45, 60, 90, 120, 600)),
}

PARTS = (*GRIDS, "optimum", "ppo")
TRAIN, JUDGE = 1, 200  # seeds of the final comparison; the settings were chosen on others


def judged(agent: Any, env: Any, state: Any, num_episodes: int) -> jax.Array:
    return -mean_return(jax.random.key(JUDGE), agent, env, state, num_episodes)


def mean_return(key: jax.Array, agent: Any, env: Any, state: Any, num_episodes: int) -> jax.Array:
    return purerl.evaluate(key, agent, env, state, num_episodes=num_episodes, max_steps=SECONDS).episode_return.mean()


def tuned(name: str, env: Any, key: jax.Array) -> Any:
    """The hyperparameters of the best point of a controller's grid."""
    agent, hparams_class, *axes = GRIDS[name]
    first, second = jnp.array(list(itertools.product(*axes)), jnp.float32).T
    state = jax.vmap(lambda *hparams: agent.init(key, hparams_class(*hparams), None))(first, second)
    score = jax.jit(jax.vmap(lambda state: mean_return(key, agent, env, state, 128)))(state)
    return hparams_class(float(first[score.argmax()]), float(second[score.argmax()]))


def optimum(params: Any, longest: int = 22) -> float:
    """Vehicle minutes of the best two-phase control, decided every second, from the empty crossing.

    Backward induction over SECONDS and queues [Q, Q, Q, Q], Q = longest + 1, for each road green and for each second of
    amber before it is. Who arrives at a full queue is not counted, so this is a little below the truth.
    """
    queue, amber = jnp.arange(longest + 1), int(params.amber_time)
    cost = sum(jnp.meshgrid(*[queue / 60] * 4, indexing="ij"))

    def second(approach: int, green: bool) -> jax.Array:
        """[Q, Q]: probabilities of the next queue."""
        arrive, leave = params.arrival_rate[approach], jnp.where(green & (queue > 0), params.discharge_rate, 0.0)
        moves = [
            (1, arrive * (1 - leave)),
            (0, arrive * leave + (1 - arrive) * (1 - leave)),
            (-1, (1 - arrive) * leave),
        ]
        return sum(p[:, None] * (jnp.clip(queue + d, 0, longest)[:, None] == queue) for d, p in moves)

    kernels = [[second(approach, green) for green in (False, True)] for approach in range(4)]

    def before(value: jax.Array, road: int | None) -> jax.Array:
        """Expected cost to go before a second in which a road (0: north and south; None: nobody) is green."""
        value = value + cost
        for approach in range(4):
            kernel = kernels[approach][road is not None and approach % 2 == road]
            value = jnp.moveaxis(jnp.tensordot(kernel, value, (1, approach)), 0, approach)
        return value

    @jax.jit
    def back(values: jax.Array) -> jax.Array:
        """[road, seconds of amber left, Q, Q, Q, Q], one second earlier."""
        new = [[before(values[road, 0], road), *(before(v, None) for v in values[road, :-1])] for road in (0, 1)]
        switched = [before(values[road, amber - 1], None) for road in (0, 1)]
        stay = [jnp.minimum(new[road][0], switched[1 - road]) for road in (0, 1)]
        return jnp.stack([jnp.stack([stay[road], *new[road][1:]]) for road in (0, 1)])

    values = jnp.zeros((2, amber, *cost.shape))
    return float(jax.lax.fori_loop(0, SECONDS, lambda _, v: back(v), values)[0, 0, 0, 0, 0, 0])


def trained(env: Any, keys: jax.Array, num_steps: int) -> tuple[Any, Any, dict]:
    """PPO's agent, its states over the seeds, and what it was trained with."""
    sizes = {"num_envs": 64, "rollout_length": 64}
    num_updates = num_steps // (sizes["num_envs"] * sizes["rollout_length"])
    agent = purerl.ppo(networks.actor_critic(env), num_epochs=4, num_minibatches=8)
    agent = combinators.with_reward_scaling(combinators.with_observation_normalization(agent))
    hparams = purerl.PPOHparams(
        learning_rate=3e-3,
        discount=0.98,
        entropy_coef=0.03,
        value_clip_epsilon=float("inf"),
        anneal_updates=num_updates,
    )

    def run(key: jax.Array) -> Any:
        return purerl.train(key, agent, env, hparams, num_updates=num_updates, **sizes)[0]

    states = distributed.over_devices(jax.vmap(run), (keys,))
    settings = (
        {k: str(v) if math.isinf(v) else v for k, v in hparams._asdict().items()} | sizes | {"num_steps": num_steps}
    )
    return agent, states, settings


def judged_ppo(env: Any, options: argparse.Namespace) -> dict:
    """PPO on several seeds, judged on the same fresh episodes as the controllers."""
    begin = time.perf_counter()
    slow = envs.action_repeat(envs.two_phases(env), REPEAT)
    agent, states, settings = trained(slow, jax.random.split(jax.random.key(TRAIN), options.seeds), options.steps)
    states = jax.device_get(states)
    seconds = time.perf_counter() - begin
    score = jax.jit(jax.vmap(lambda state: judged(agent, slow, state, options.episodes)))
    minutes = np.sort(score(states))
    return settings | {
        "vehicle_minutes": [round(float(x), 2) for x in minutes],
        "mean": round(float(minutes.mean()), 2),
        "training_seconds": round(seconds, 1),
    }


def judged_controller(name: str, env: Any, num_episodes: int) -> dict:
    agent, hparams = GRIDS[name][0], tuned(name, env, jax.random.key(1))
    state = agent.init(None, purerl.hparams.cast(hparams), None)
    return hparams._asdict() | {"vehicle_minutes": round(float(judged(agent, env, state, num_episodes)), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--episodes", type=int, default=2_048)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    distributed.use_all_cores()
    env = envs.make("TrafficLight-v0")
    found = json.loads(options.output.read_text()) if options.output.exists() else {}
    found["command"] = "python -m benchmarks.studies.traffic"
    found["params"] = envs.TrafficParams()._asdict()
    for name in options.only:
        if name == "optimum":
            found[name] = {"vehicle_minutes": round(optimum(envs.TrafficParams()), 2)}
        elif name == "ppo":
            found[name] = judged_ppo(env, options)
        else:
            found[name] = judged_controller(name, env, options.episodes)
        print(name, found[name], flush=True)
        options.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

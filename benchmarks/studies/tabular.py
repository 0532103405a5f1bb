"""Tabular agents against exact solutions and the textbook: `python -m benchmarks.studies.tabular`.

Parts, of which the first three are one program over all seeds; `results/tabular.json` is written:
  frozen_lake  Q-learning on the slippery 4 x 4 lake, a million steps: exact value of the learned policy, 30 seeds;
  cliff        SARSA and Q-learning online on the cliff: returns while learning and the paths learned, 100 seeds;
  testbed      optimal actions of ε-greedy and UCB at step 1,000 on 20,000 ten-armed testbeds;
  host_*       Q-learning and SARSA on Gymnasium's FrozenLake, CliffWalking and Taxi by `train_on_host`.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl import envs
from purerl import mdp as mdps
from purerl.agents.tabular.bandit import BanditHparams, bandit
from purerl.agents.tabular.td_control import TDControlHparams, q_learning, sarsa

RESULTS = Path(__file__).parents[1] / "results" / "tabular.json"
ONLINE = {"num_envs": 1, "rollout_length": 1}


def frozen_lake(num_seeds: int = 30, num_steps: int = 1_000_000, discount: float = 0.99) -> dict:
    """The learned policies' exact values at the start, at least 95% of the optimum in 28 of 30 seeds."""
    lake = mdps.from_gymnasium("FrozenLake-v1")
    env = envs.from_mdp(lake, max_steps=100)
    hparams = TDControlHparams(step_size=1.0, step_size_decay=0.6, discount=discount, epsilon=0.3)
    agent = q_learning(env)

    @jax.vmap
    def value_of_learned(key: jax.Array) -> jax.Array:
        state, _ = purerl.train(key, agent, env, hparams, num_updates=num_steps, **ONLINE)
        greedy = jax.nn.one_hot(jnp.argmax(state.q, axis=1), state.q.shape[1])
        return lake.initial @ mdps.policy_evaluation(lake, greedy, discount)

    value = np.asarray(jax.jit(value_of_learned)(jax.random.split(jax.random.key(0), num_seeds)))
    optimum = float(lake.initial @ mdps.policy_iteration(lake, discount).value)
    return {
        "hparams": hparams._asdict(),
        "num_steps": num_steps,
        "optimum": optimum,
        "value_over_optimum": sorted(round(float(v), 4) for v in value / optimum),
        "seeds_within_5_percent": int((value >= 0.95 * optimum).sum()),
        "num_seeds": num_seeds,
    }


def cliff_returns(agent_name: str, num_seeds: int, num_episodes: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Returns of the episodes while learning [seeds, episodes], and exact values of the greedy policies [seeds]."""
    cliff = mdps.from_gymnasium("CliffWalking-v1")
    env = envs.from_mdp(cliff, max_steps=10_000)
    agent = {"sarsa": sarsa, "q_learning": q_learning}[agent_name](env)
    hparams = TDControlHparams(step_size=0.5, discount=1.0, epsilon=0.1)

    @jax.vmap
    def run(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        state, metrics = purerl.train(key, agent, env, hparams, num_updates=70 * num_episodes, **ONLINE)
        greedy = jax.nn.one_hot(jnp.argmax(state.q, axis=1), 4)
        value = mdps.policy_evaluation(cliff, greedy, 1.0)  # -inf from where the policy never arrives
        return metrics["episode_return"], value[jnp.argmax(cliff.initial)]

    returns, value = jax.device_get(jax.jit(run)(jax.random.split(jax.random.key(0), num_seeds)))
    return np.stack([seed[np.isfinite(seed)][:num_episodes] for seed in returns]), value


def cliff(num_seeds: int = 100) -> dict:
    """Mean return of the episodes 100 to 500, and the exact return of the greedy policy; the best path pays −13."""
    found = {}
    for name in ("sarsa", "q_learning"):
        returns, value = cliff_returns(name, num_seeds)
        late = returns[:, 100:].mean(1)
        found[name] = {
            "return_of_episodes_100_to_500": float(late.mean()),
            "standard_error": float(late.std(ddof=1) / num_seeds**0.5),
            "greedy_return_median": float(np.median(value)),
            "seeds_on_the_best_path": int((value == -13).sum()),
        }
    return found | {"num_seeds": num_seeds}


def bandit_curves(
    rule: str, hparams: BanditHparams, num_testbeds: int, num_steps: int = 1000
) -> tuple[np.ndarray, np.ndarray]:
    """Fraction of testbeds in which the best arm is pulled, and mean regret, in each step."""
    env = envs.bandit_testbed()
    agent = bandit(env, rule=rule)

    @jax.vmap
    def run(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        metrics = purerl.train(key, agent, env, hparams, num_updates=num_steps, **ONLINE)[1]
        return metrics["env/optimal"], metrics["env/regret"]

    both = jax.jit(lambda keys: jax.tree.map(lambda x: x.mean(0), run(keys)))
    optimal, regret = both(jax.random.split(jax.random.key(0), num_testbeds))
    return np.asarray(optimal), np.asarray(regret)


def ten_arms(num_testbeds: int = 20_000) -> dict:
    """80.0% of ε = 0.1 and 85.8% of UCB with c = 2, within 1%."""
    rules = {"epsilon_greedy": BanditHparams(epsilon=0.1), "ucb": BanditHparams(exploration=2.0)}
    found = {name: bandit_curves(name, hparams, num_testbeds)[0] for name, hparams in rules.items()}
    return {
        name: {"optimal_at_1000": float(o[-1]), "mean_of_991_to_1000": float(o[-10:].mean())}
        for name, o in found.items()
    } | {"num_testbeds": num_testbeds}


HOST = {  # updates, and hyperparameters; the lake's table starts at its best return, so that all of it is tried
    "FrozenLake-v1": (6_000, TDControlHparams(1.0, 0.6, 0.99, epsilon=0.1, initial_value=1.0)),
    "CliffWalking-v1": (3_000, TDControlHparams(1.0, 0.6, 0.99, epsilon=0.1)),
    "Taxi-v4": (12_000, TDControlHparams(1.0, 0.6, 0.99, epsilon=0.1)),
}


def host(env_id: str, num_envs: int = 16) -> dict:
    """A Gymnasium environment on the host: greedy returns, exact values of the greedy policies, and the rate."""
    table, (num_updates, hparams) = mdps.from_gymnasium(env_id), HOST[env_id]
    optimum = table.initial @ mdps.policy_iteration(table, hparams.discount).value
    found = {"num_envs": num_envs, "num_steps": num_updates * num_envs, "optimal_value": round(float(optimum), 4)}
    for name, factory in (("q_learning", q_learning), ("sarsa", sarsa)):
        env = envs.from_gymnasium(env_id, num_envs, max_episode_steps=200)
        agent, begin = factory(env), time.perf_counter()
        sizes = {"num_updates": num_updates, "rollout_length": 1}
        state, _ = purerl.train_on_host(jax.random.key(0), agent, env, hparams, **sizes)
        rate = num_updates * num_envs / (time.perf_counter() - begin)
        greedy = jax.nn.one_hot(jnp.argmax(state.q, axis=1), state.q.shape[1])
        value = table.initial @ mdps.policy_evaluation(table, greedy, hparams.discount)
        played = purerl.evaluate_on_host(jax.random.key(1), agent, env, state, num_episodes=200)
        found[name] = {
            "greedy_return": round(float(played.episode_return.mean()), 3),
            "greedy_value": round(float(value), 4),
            "steps_per_second": round(rate),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"frozen_lake": frozen_lake, "cliff": cliff, "testbed": ten_arms}
    parts |= {f"host_{env_id}": functools.partial(host, env_id) for env_id in HOST}
    parser.add_argument("--only", nargs="*", choices=parts, default=list(parts))
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = json.loads(options.output.read_text()) if options.output.exists() else {}
    for name in options.only:
        begin = time.perf_counter()
        found[name] = parts[name]() | {"command": f"python -m benchmarks.studies.tabular --only {name}"}
        found[name]["seconds"] = round(time.perf_counter() - begin, 1)
        print(name, json.dumps(found[name]), flush=True)
        options.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""How long each agent's training program takes to trace, lower and compile, in seconds of CPU time.

    python -m benchmarks.studies.compile_time                          results/compile_time.json
    python -m benchmarks.studies.compile_time --against ../before ppo  and another checkout of purerl beside this one

The program is that of `purerl.train` with the agent's preset, as a library user calls it, of agents that learn from
recorded steps that of `purerl.fit`; importing packages and making the environment come on top. CPU time, too, grows
where cores are shared, so checkouts take turns, agent by agent, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parents[2]
RESULTS = HERE / "benchmarks" / "results"
ENVS = {
    "CartPole-v1": (
        "ppo", "recurrent_ppo", "actor_critic", "reinforce", "evolution", "cma_es", "pqn", "dqn", "iqn", "r2d2",
        "discrete_sac", "alphazero", "muzero", "behavior_cloning", "cql",
    ),
    "FrozenLake-v1": ("q_learning", "sarsa"),
    "Pendulum-v1": ("sac", "td3", "tqc", "droq", "crossq", "td3_bc", "iql"),
}  # fmt: skip
_PROGRAM = """
import json, sys, time
import jax
import numpy as np
import purerl
from purerl import presets

def tabular(name, env_id):
    env = purerl.envs.from_mdp(purerl.mdp.from_gymnasium(env_id), max_steps=100)
    agent, hparams = getattr(purerl, name)(env), purerl.TDControlHparams()
    return lambda key: purerl.train(key, agent, env, hparams, num_updates=10_000, num_envs=1, rollout_length=1)

def of_preset(name, env_id):
    env = purerl.envs.make(env_id)
    preset = presets.find(name, env_id, env)
    env = presets.environment(name, env)
    agent, hparams = presets.build(preset, env), presets.hparams(preset)
    sizes = {each: getattr(preset, each) for each in ("num_updates", "num_envs", "rollout_length")}
    if presets.algorithm(name).offline:
        data = recorded(env, 10_000)
        return lambda key: purerl.fit(key, agent, data, hparams, num_updates=preset.num_updates)
    return lambda key: purerl.train(key, agent, env, hparams, **sizes, rollout=presets.rollout(preset))

def recorded(env, count):
    (obs, _), space = env.reset(jax.random.key(0)), env.action_space
    action = np.zeros(space.shape, space.dtype)
    step = purerl.Transition(obs, action, np.float32(0), np.bool_(False), np.bool_(False), obs)
    return jax.tree.map(lambda x: np.zeros((count, *np.shape(x)), x.dtype), step)

name, env_id = sys.argv[1:]
run = of_preset(name, env_id) if name in presets.ALGORITHMS else tabular(name, env_id)
key, begin = jax.random.key(0), time.process_time()
program = jax.jit(run).lower(key)
lowered = time.process_time()
text = program.compile().as_text()
print(json.dumps({
    "seconds": time.process_time() - begin, "tracing": lowered - begin, "instructions": text.count(" = "),
}))
"""


def main() -> None:
    """Measure and print, and put the figures into the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="agents (default: all)")
    parser.add_argument("--against", type=pathlib.Path, help="another checkout of purerl")
    options = parser.parse_args()
    agents = [(name, env) for env, names in ENVS.items() for name in names]
    unknown = sorted(set(options.names) - {name for name, _ in agents})
    if unknown:
        parser.error(f"unknown agents {', '.join(unknown)}; there are {', '.join(name for name, _ in agents)}")
    path = RESULTS / "compile_time.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, env in agents:
        if options.names and name not in options.names:
            continue
        before = measure(name, env, options.against) if options.against else None
        record[name] = measure(name, env, HERE) | ({} if before is None else {"before": before})
        print(row(name, record[name]), flush=True)
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measure(name: str, env: str, checkout: pathlib.Path) -> dict[str, float]:
    """The figures of one agent with the purerl of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve()), "JAX_ENABLE_COMPILATION_CACHE": "false"}
    command = [sys.executable, "-c", _PROGRAM, name, env]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(name: str, found: dict) -> str:
    """One line of the table."""
    text = f"{name:14s} {found['seconds']:5.1f} s, of which tracing and lowering {found['tracing']:4.1f}"
    before = found.get("before")
    return text if before is None else f"{text}; before {before['seconds']:5.1f} s"


if __name__ == "__main__":
    main()

"""One PPO agent on one device and on four: `one_agent.py`. Prints the numbers that a test checks, as JSON."""

import json
import pathlib
import re
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "helpers"))

from accelerated import on_accelerator
from bandits import make_env

from purerl import distributed, loops, networks
from purerl.accelerators import hlo
from purerl.agents.ppo import PPOHparams, ppo

jax.config.update("jax_num_cpu_devices", 4)
SIZES = {"num_updates": 1, "rollout_length": 16}


class Normal(NamedTuple):
    """N(mean, 1), light to import."""

    mean: jax.Array

    def mode(self):
        return self.mean

    def sample(self, seed):
        return self.mean + jax.random.normal(seed)

    def log_prob(self, x):
        return -0.5 * (x - self.mean) ** 2

    def entropy(self):
        return jnp.float32(1.0)


class Network(NamedTuple):
    """One hidden layer of 128 for the mean and the value."""

    def init(self, key, obs):
        return {"in": 0.5 * jax.random.normal(key, (2, 128)), "out": 0.1 * jax.random.normal(key, (128, 2))}

    def apply(self, params, obs):
        mean, value = jnp.tanh(jnp.array([obs, 1.0]) @ params["in"]) @ params["out"]
        return Normal(mean), value


def run(agent, env):
    """One update: its results, the operations per device, the collectives, and how far the parameters moved."""
    state = loops.start(jax.random.key(0), agent, env, PPOHparams(learning_rate=0.01), num_envs=16)
    compiled = jax.jit(lambda state: loops.advance(state, agent, env, **SIZES)).lower(state).compile()
    new, metrics = compiled(state)
    collectives = re.findall(r"(all-reduce|all-gather|all-to-all|collective-permute)(?:-start)?\(", compiled.as_text())
    step = distance(state.agent_state.params, new.agent_state.params)
    return new, metrics, compiled.cost_analysis()["flops"], sorted(set(collectives)), step


def program(agent, env):
    """One update, compiled."""
    state = loops.start(jax.random.key(0), agent, env, PPOHparams(), num_envs=16)
    compiled = jax.jit(lambda state: loops.advance(state, agent, env, **SIZES)).lower(state).compile()
    return hlo.read(compiled.as_text())


def collectives(agent, env):
    """The collectives of one gradient step, by the compiled program."""
    return dict(hlo.gradient_step(program(agent, env)).total_each.collectives)


def all_reduces_as_on_accelerators(env):
    """All-reduces of an update of four gradient steps on two towers, by the program that accelerators run."""
    agent = ppo(networks.actor_critic(env, hidden=(8, 8)), num_epochs=2, num_minibatches=2)
    with pytest.MonkeyPatch.context() as patch:
        on_accelerator(patch)
        return dict(program(agent, env).total.collectives)["all-reduce"]


def collectives_of_a_population(agent, env):
    """What eight members on four devices move between them in a whole training."""

    def train(key):
        return loops.train(key, agent, env, PPOHparams(), num_envs=4, **SIZES)

    keys = jax.random.split(jax.random.key(0), 8)
    program = jax.jit(lambda keys: distributed.over_devices(jax.vmap(train), (keys,)))
    return dict(hlo.read(program.lower(keys).compile().as_text()).total.collectives)


def distance(a, b):
    both = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in both)


def main():
    env, agent = make_env(), ppo(Network(), num_epochs=2, num_minibatches=2)
    one, one_metrics, one_flops, one_collectives, step = run(agent, env)
    with distributed.data_parallel():
        four, four_metrics, four_flops, four_collectives, _ = run(agent, env)
        plain = ppo(Network(), num_epochs=2, num_minibatches=2, normalize_advantage=False)
        gradient_step = collectives(plain, env)
        all_reduces = all_reduces_as_on_accelerators(env)
    params = jax.tree.leaves(four.agent_state.params)
    report = {
        "distance": distance(one.agent_state.params, four.agent_state.params),
        "largest step": step,
        "actors": distance(one.actors, four.actors),
        "loss": distance(one_metrics, four_metrics),
        "flops": [one_flops, four_flops],
        "collectives": [one_collectives, four_collectives],
        "collectives of a gradient step": gradient_step,
        "all-reduces of four gradient steps as on accelerators": all_reduces,
        "collectives of a population": collectives_of_a_population(agent, env),
        "devices": [len(x.sharding.device_set) for x in (params[0], four.actors.obs)],
        "parameters whole": all(x.sharding.is_fully_replicated for x in params),
        "actors of a device": four.actors.obs.addressable_shards[0].data.shape[0],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

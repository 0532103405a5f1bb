"""Worker of purerl's own side."""

from __future__ import annotations

from typing import Any

import checkout  # noqa: F401  isort: skip
import jax
import jax.numpy as jnp
import pieces
import purerl_agents
import purerl_pieces
import purerl_search
from compiling import compiled
from serving import Built, serve

import purerl
from purerl import distributed
from purerl.types import Agent, Env, Key, PyTree

Workload = dict[str, Any]


def train(workload: Workload) -> Built:
    """Training from the start: one agent, or a population over a range of learning rates, spread over the cores."""
    population = workload["population"]
    if population:
        distributed.use_all_cores()
    env = purerl.envs.make(workload["env"])
    agent, hparams = purerl_agents.make(workload, env)
    sizes = {name: workload[name] for name in ("num_updates", "num_envs", "rollout_length")}
    names = [name for name in hparams._fields if name.endswith("learning_rate")]

    def one(key: Key, learning_rate: jax.Array) -> PyTree:
        settings = hparams._replace(**dict.fromkeys(names, learning_rate))
        state, metrics = purerl.train(key, agent, env, settings, **sizes)
        return purerl.types.get_learner(state), metrics["episode_return"]

    if population:
        rates = jnp.geomspace(1e-4, 1e-3, population)
        at_once = 8 if jax.devices()[0].platform == "cpu" else None  # what a core's cache holds
        many = lambda keys, rates: distributed.over_devices(jax.vmap(one), (keys, rates), at_once=at_once)  # noqa: E731
        run, facts = compiled(many, lambda seed: (jax.random.split(jax.random.key(seed), population), rates))
    else:
        rate = jnp.float32(getattr(hparams, names[0]))
        run, facts = compiled(one, lambda seed: (jax.random.key(seed), rate))
    steps = sizes["num_updates"] * sizes["num_envs"] * sizes["rollout_length"] * max(population, 1)
    return Built(run, steps, lambda result: pieces.last_returns(result[1]), facts)


def rollout(workload: Workload) -> Built:
    """Steps with random actions, resets included."""
    env = purerl.envs.make(workload["env"])
    return acting_with(workload, env, random_agent(env))


def acting(workload: Workload) -> Built:
    """Steps with the actions of PPO's network."""
    env = purerl.envs.make(workload["env"])
    return acting_with(workload, env, purerl.ppo(purerl.networks.actor_critic(env)))


def random_agent(env: Env) -> Agent:
    """An agent that draws actions uniformly and learns nothing."""
    space = env.action_space

    def act(key: Key, state: PyTree, obs: PyTree) -> tuple[jax.Array, tuple[()]]:
        if isinstance(space, purerl.types.Discrete):
            return jax.random.randint(key, (), 0, space.n), ()
        return jax.random.uniform(key, space.shape, minval=jnp.asarray(space.low), maxval=jnp.asarray(space.high)), ()

    return Agent(lambda key, hparams, example, num_envs=1: (), act, lambda key, state, batch: (state, {}))


def acting_with(workload: Workload, env: Env, agent: Agent) -> Built:
    """A rollout from fresh environments, of which the sum of observations and rewards is kept."""
    num_envs, length = workload["num_envs"], workload["length"]

    def run(key: Key) -> jax.Array:
        init_key, start_key, rollout_key = jax.random.split(key, 3)
        example = jax.eval_shape(lambda: env.reset(key)[0])
        state = agent.init(init_key, purerl.PPOHparams(), jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), example))
        actors = purerl.loops.init_actors(start_key, agent, env, state, num_envs=num_envs)
        _, steps = purerl.loops.rollout(rollout_key, agent, env, state, actors, length=length)
        return pieces.checksum((steps.obs, steps.reward))

    program, facts = compiled(run, lambda seed: (jax.random.key(seed),))
    return Built(program, num_envs * length, None, facts)


def update(workload: Workload) -> Built:
    """PPO's update alone, on one trajectory [T, N] of CartPole."""
    env = purerl.envs.make("CartPole-v1")
    agent = purerl.ppo(purerl.networks.actor_critic(env), num_epochs=4, num_minibatches=4)
    num_envs, length = workload["num_envs"], workload["rollout_length"]
    start = purerl.start(jax.random.key(0), agent, env, purerl.PPOHparams(), num_envs=num_envs)
    actors = start.actors
    _, batch = purerl.loops.rollout(jax.random.key(1), agent, env, start.agent_state, actors, length=length)
    run, facts = compiled(agent.update, lambda seed: (jax.random.key(seed), start.agent_state, batch))
    return Built(run, num_envs * length, None, facts)


BUILDERS = {
    "train": train,
    "rollout": rollout,
    "acting": acting,
    "update": update,
    "search": purerl_search.search,
    **purerl_pieces.BUILDERS,
}

if __name__ == "__main__":
    serve(BUILDERS)

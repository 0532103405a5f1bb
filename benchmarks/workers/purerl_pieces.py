"""purerl's side of what is measured by itself: replay, returns, tables, exact methods and tokens."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pieces
from compiling import compiled
from serving import Built

import purerl
from purerl import distributed, envs, mdp, replay, returns, rlhf
from purerl.agents.tabular.td_control import TDControlHparams, q_learning
from purerl.mdp import backup
from purerl.replay import priority
from purerl.types import Key, Transition

Workload = dict[str, Any]


def replayed(workload: Workload) -> Built:
    """Write a step of 16 CartPoles and draw 128 windows, 200 times; prioritized: and set their priorities again."""
    steps = Transition(*pieces.steps())
    example = jax.tree.map(lambda x: x[0, 0], steps)
    capacity, num_envs = workload["capacity"], steps.reward.shape[1]
    if workload["priority"]:
        state: Any = priority.init(example, capacity, num_envs)
    else:
        state = replay.init(example, capacity, num_envs)

    def uniform(ring: replay.Ring, key: Key) -> tuple[replay.Ring, jax.Array]:
        ring = replay.add(ring, steps)
        return ring, pieces.checksum(replay.sample(key, ring, pieces.BATCH)[0])

    def prioritized(ring: priority.PriorityRing, key: Key) -> tuple[priority.PriorityRing, jax.Array]:
        ring = priority.add(ring, steps, 0.6)
        window, index, weight = priority.sample(key, ring, pieces.BATCH, 0.4)
        return priority.update(ring, index, 1.0 + weight, 0.6), pieces.checksum(window)

    return pieces.repeated(prioritized if workload["priority"] else uniform, state)


def estimates(workload: Workload) -> Built:
    """Advantages or λ-returns of [128, 4096] steps."""
    reward, discount, row, decay = pieces.trajectory()
    value, next_value = row[:-1], row[1:]
    if workload["name"] == "gae":
        run, facts = compiled(returns.gae, lambda seed: (reward, discount, value, next_value, decay))
    else:
        run, facts = compiled(returns.lambda_returns, lambda seed: (reward, discount, next_value, decay))
    return Built(run, reward.size, None, facts)


def learners(workload: Workload) -> Built:
    """Q-learning, online, on the slippery 4 x 4 lake."""
    distributed.use_all_cores()
    env = envs.from_mdp(mdp.from_gymnasium("FrozenLake-v1"), max_steps=100)
    agent, hparams, steps = q_learning(env), TDControlHparams(**pieces.Q_LEARNING), 2000

    def one(key: Key) -> jax.Array:
        return purerl.train(key, agent, env, hparams, num_updates=steps, num_envs=1, rollout_length=1)[0].q

    count = workload["num_agents"]
    run, facts = compiled(
        lambda keys: distributed.over_devices(jax.vmap(one), (keys,)),
        lambda seed: (jax.random.split(jax.random.key(seed), count),),
    )
    return Built(run, count * steps, None, facts)


def sweeps(workload: Workload) -> Built:
    """Sweeps of value iteration over a random MDP of a million states, laid out beforehand."""
    arrays = jax.jit(backup.layout)(mdp.random_mdp(jax.random.key(0), 1_000_000, 4, 3, termination=0.01))

    def swept(arrays: backup.Layout) -> jax.Array:
        def body(_: int, value: jax.Array) -> jax.Array:
            return backup.best(backup.sweep(arrays, value, pieces.DISCOUNT))

        return jax.lax.fori_loop(0, pieces.SWEEPS, body, jnp.zeros(1_000_000))

    run, facts = compiled(swept, lambda seed: (arrays,))
    return Built(run, pieces.SWEEPS, None, facts)


def many_sweeps(workload: Workload) -> Built:
    """Sweeps of 10,000 random MDPs side by side."""
    keys = jax.random.split(jax.random.key(0), 10_000)
    many = jax.jit(jax.vmap(lambda key: mdp.random_mdp(key, 64, 4, 3)))(keys)
    solve = jax.vmap(lambda each: mdp.value_iteration(each, pieces.DISCOUNT, 0, pieces.SWEEPS).value)
    run, facts = compiled(solve, lambda seed: (many,))
    return Built(run, 10_000 * pieces.SWEEPS, None, facts)


def solves(workload: Workload) -> Built:
    """Policy iteration on the 8 x 8 lake, from a discount that is new in every run, 20 times."""
    lake = mdp.from_gymnasium("FrozenLake8x8-v1")
    solve = jax.jit(lambda discount: mdp.policy_iteration(lake, discount).value)

    def run(seed: int) -> Any:
        return [np.asarray(solve(jnp.float32(0.99))) for _ in range(pieces.SOLVES)]

    return Built(run, pieces.SOLVES)


def tokens(workload: Workload, cached: bool = True) -> Built:
    """Completions of 64 tokens for 64 prompts of 16."""
    network = rlhf.transformer(pieces.VOCAB + 2, **pieces.TRANSFORMERS[workload["size"]])
    prompts = jax.random.randint(jax.random.key(0), (64, 16), 0, pieces.VOCAB)
    params = network.init(jax.random.key(1), prompts[0], jnp.ones(16, bool))
    network = network if cached else rlhf.Network(network.init, network.apply)
    generate = functools.partial(rlhf.generate, network=network, max_length=64, eos_id=-1, pad_id=pieces.VOCAB + 1)
    run, facts = compiled(
        lambda key, params: generate(key, params=params, prompts=prompts), lambda seed: (jax.random.key(seed), params)
    )
    return Built(run, 64 * 64, None, facts)


def aligned(workload: Workload) -> Built:
    """One gradient step of DPO on 64 pairs of 80 tokens."""
    network = rlhf.transformer(pieces.VOCAB + 2, **pieces.TRANSFORMERS[workload["size"]])
    shape = (64, 2, 80)
    data = {
        "tokens": jax.random.randint(jax.random.key(0), shape, 0, pieces.VOCAB),
        "mask": jnp.ones(shape, bool),
        "completion": jnp.broadcast_to(jnp.arange(80) >= 16, shape),
        "ref_log_prob": jnp.full(shape[:2], -320.0),
    }
    agent = rlhf.direct_alignment(network, "dpo")
    state = agent.init(jax.random.key(1), rlhf.LearnerHparams(), data)
    run, facts = compiled(agent.update, lambda seed: (jax.random.key(seed), state, data))
    return Built(run, 1, None, facts)


BUILDERS = {
    "replay": replayed,
    "returns": estimates,
    "q_learning": learners,
    "value_iteration": sweeps,
    "value_iterations": many_sweeps,
    "policy_iteration": solves,
    "generation": tokens,
    "dpo": aligned,
}

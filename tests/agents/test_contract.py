"""What every agent that learns on an environment promises; a new one joins with one entry in CASES."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import combinators, envs, loops, mdp, networks

SIZES = {"num_updates": 1, "num_envs": 4, "rollout_length": 8}


class Case(NamedTuple):
    """An agent, its environment, its hyperparameters, one of them that is varied, and how experience is collected."""

    make: Any
    hparams: Any
    vary: str = "learning_rate"
    rollout: Any = loops.rollout


def ppo(continuous=False, squash=False):
    env = envs.probe(continuous=continuous)
    return purerl.ppo(networks.actor_critic(env, hidden=(4,), squash=squash), num_epochs=1, num_minibatches=2), env


def normalized_ppo():
    agent, env = ppo(continuous=True, squash=True)
    return combinators.with_reward_scaling(combinators.with_observation_normalization(agent)), env


def on_policy(factory, recurrent=False, **options):
    env = envs.probe()
    build = networks.recurrent_actor_critic if recurrent else networks.actor_critic
    return factory(build(env, hidden=(4,), **({"memory_size": 4, "cell": "lstm"} if recurrent else {})), **options), env


def recurrent_ppo():
    return on_policy(purerl.ppo, recurrent=True, num_epochs=1, num_minibatches=2)


def dqn(replay, network, **options):
    env = envs.probe()
    agent = purerl.dqn(networks.q_network(env, (4,), **network), **options)
    return combinators.with_replay(agent, capacity=64, batch_size=8, **replay), env


def pqn():
    env = envs.probe()
    return purerl.pqn(networks.q_network(env, (4,), layer_norm=True), num_epochs=1, num_minibatches=2), env


def continuous(factory, actor, **options):
    env = envs.probe(continuous=True)
    agent = factory(actor(env, (4,)), networks.critic(env, (4,)), **options)
    return combinators.with_replay(agent, capacity=64, batch_size=8, length=2), env


def alphazero():
    env = envs.with_state(envs.probe())
    return purerl.alphazero(networks.actor_critic(env, (4,)), env, num_simulations=2), env


def muzero():
    env = envs.probe()
    return purerl.muzero(networks.latent_model(env, (4,), 4), num_simulations=2, unroll_length=2), env


def tabular(factory, **options):
    env = envs.from_mdp(mdp.gridworld_3x4(), max_steps=6)
    return factory(env, **options), env


def bandit(rule):
    env = envs.bandit_testbed(3)
    return purerl.bandit(env, rule=rule), env


CASES = {
    "ppo": Case(ppo, purerl.PPOHparams(0.01)),
    "ppo, squashed, normalized": Case(normalized_ppo, purerl.PPOHparams(0.01)),
    "ppo, recurrent": Case(recurrent_ppo, purerl.PPOHparams(0.01)),
    "actor_critic": Case(
        functools.partial(on_policy, purerl.actor_critic, advantage="vtrace"), purerl.ActorCriticHparams(0.01)
    ),
    "reinforce": Case(
        functools.partial(on_policy, purerl.reinforce), purerl.ReinforceHparams(0.01), rollout=loops.rollout_episodes
    ),
    "dqn, prioritized, quantile, noisy, dueling": Case(
        functools.partial(
            dqn,
            {"prioritized": True, "length": 3, "num_updates": 2},
            {"noisy": True, "num_atoms": 5, "dueling": True},
            head="quantile",
            noisy=True,
        ),
        purerl.DQNHparams(0.01),
    ),
    "pqn": Case(pqn, purerl.PQNHparams(0.01)),
    "sac": Case(
        functools.partial(continuous, purerl.sac, networks.gsde_actor, exploration="gsde"),
        purerl.SACHparams(0.01),
        "actor_learning_rate",
    ),
    "td3": Case(
        functools.partial(continuous, purerl.td3, networks.deterministic_actor, exploration="ou"),
        purerl.TD3Hparams(0.01),
        "actor_learning_rate",
    ),
    "evolution": Case(
        functools.partial(on_policy, purerl.evolution), purerl.EvolutionHparams(0.01), rollout=loops.rollout_episodes
    ),
    "alphazero": Case(alphazero, purerl.AlphaZeroHparams(0.01)),
    "muzero": Case(muzero, purerl.MuZeroHparams(0.01)),
    "q_learning": Case(
        functools.partial(tabular, purerl.q_learning, double=True), purerl.TDControlHparams(0.01), "step_size"
    ),
    "sarsa": Case(functools.partial(tabular, purerl.sarsa, n=2), purerl.TDControlHparams(0.01), "step_size"),
    "q_lambda": Case(functools.partial(tabular, purerl.q_lambda), purerl.TDControlHparams(0.01), "step_size"),
    "monte_carlo_control": Case(
        functools.partial(tabular, purerl.monte_carlo_control),
        purerl.MonteCarloControlHparams(0.01),
        "step_size",
        loops.rollout_episodes,
    ),
    "bandit": Case(functools.partial(bandit, "gradient"), purerl.BanditHparams(0.01), "step_size"),
}


@functools.cache
def built(name):
    """The agent, with traces of its update counted, and its environment."""
    agent, env = CASES[name].make()
    traces = []

    def update(key, state, data):
        traces.append(name)
        return agent.update(key, state, data)

    return agent._replace(update=update), env, traces


def train(name, hparams, seed=0):
    agent, env, _ = built(name)
    return purerl.train(jax.random.key(seed), agent, env, hparams, **SIZES, rollout=CASES[name].rollout)


def varied(name, value):
    return CASES[name].hparams._replace(**{CASES[name].vary: value})


pytestmark = pytest.mark.parametrize("name", list(CASES))


def test_hashable_and_compared_by_identity(name):
    agent, _, _ = built(name)
    assert hash(agent) == hash(agent._replace())
    assert agent == agent._replace()
    assert agent != CASES[name].make()[0]


def test_update_keeps_the_structure_and_metrics_are_scalars(name):
    agent, env, _ = built(name)
    start = jax.eval_shape(lambda k: purerl.start(k, agent, env, CASES[name].hparams, num_envs=4), jax.random.key(0))
    state, metrics = jax.eval_shape(lambda: train(name, CASES[name].hparams))
    assert jax.tree.structure(state) == jax.tree.structure(start.agent_state)
    for old, new in zip(jax.tree.leaves(start.agent_state), jax.tree.leaves(state)):
        assert (old.shape, old.dtype, old.weak_type) == (new.shape, new.dtype, new.weak_type)
    assert {m.shape for m in metrics.values()} == {(1,)}


def test_aux_has_one_structure_with_and_without_a_key(name):
    agent, env, _ = built(name)

    def act(key):
        obs, _ = env.reset(jax.random.key(1))
        state = agent.init(jax.random.key(0), purerl.hparams.cast(CASES[name].hparams), obs)
        return agent.act(key, state, obs, *([agent.memory(key, state)] if agent.memory else []))

    sampled, greedy = jax.eval_shape(act, jax.random.key(2)), jax.eval_shape(lambda: act(None))
    assert jax.tree.structure(sampled) == jax.tree.structure(greedy)
    assert [x.shape for x in jax.tree.leaves(sampled)] == [x.shape for x in jax.tree.leaves(greedy)]


def test_vmap_equals_a_loop_nothing_traces_again_and_the_same_key_gives_the_same_bits(name):
    first = train(name, varied(name, 0.01))
    traces = built(name)[2]
    before = len(traces)
    values = [1, 0.003, np.float64(0.01), np.float32(0.0)]
    alone = [train(name, varied(name, value), seed) for seed, value in enumerate(values)]
    again = train(name, varied(name, jnp.float32(0.01)))
    assert len(traces) == before, "a new hyperparameter value was traced"
    jax.tree.map(np.testing.assert_array_equal, first, again)
    agent, env, _ = built(name)

    def run(key, value):
        return purerl.train(key, agent, env, varied(name, value), **SIZES, rollout=CASES[name].rollout)[0]

    keys = jax.vmap(jax.random.key)(jnp.arange(4))
    many = jax.vmap(run)(keys, jnp.array([float(v) for v in values]))
    for i in (1, 2, 3):  # a learning rate of 1 is for the trace alone: it amplifies rounding
        one = alone[i][0]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[i], b, atol=1e-5, rtol=1e-5), many, one)

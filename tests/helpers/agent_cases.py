"""Every agent with an environment or data of its own, for the tests of the contract and of JAX's settings.

A new agent joins with its preset, on a probe environment; an entry in CASES says more about how it is tested.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

import purerl
from purerl import combinators, envs, loops, mdp, networks, presets

SIZES = {"num_updates": 1, "num_envs": 4, "rollout_length": 8}


class Case(NamedTuple):
    """An agent with its environment, its hyperparameters, one of them that is varied, and how experience is collected.

    An agent for `fit` comes with its data in place of an environment.
    """

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


def r2d2():
    env = envs.probe()
    agent = purerl.r2d2(networks.recurrent_q_network(env, hidden=(4,), memory_size=4), num_steps=2)
    return combinators.with_replay(agent, capacity=64, batch_size=4, length=3, burn_in=1, prioritized=True), env


def pqn():
    env = envs.probe()
    return purerl.pqn(networks.q_network(env, (4,), layer_norm=True), num_epochs=1, num_minibatches=2), env


def continuous(factory, actor, critic=networks.critic, **options):
    env = envs.probe(continuous=True)
    agent = factory(actor(env, (4,)), critic(env, (4,)), **options)
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


def by_preset(name):
    """The agent of a preset with small networks and little replay."""
    entry = presets.ALGORITHMS[name]
    continuous = "Discrete" not in entry.actions
    preset = entry.presets["continuous" if continuous else "any"]._replace(network={"hidden": (4,)})
    env = entry.wrap(envs.probe(continuous=continuous))
    return presets.build(preset._replace(replay=preset.replay and {"capacity": 64, "batch_size": 8}), env), env


def linear(factory, **options):
    env = envs.from_mdp(mdp.gridworld_3x4(), max_steps=6)
    return factory(lambda s: jnp.ones(2) * s, lambda s: jnp.full(4, 0.25), **options), env


def dynamic_programming(factory):
    grid = mdp.gridworld_3x4()
    num_states, num_actions, _ = grid.next_state.shape
    is_given_a_policy = factory is purerl.policy_evaluation
    return factory(), (
        grid,
        jnp.full((num_states, num_actions), 0.25, grid.probability.dtype),
    ) if is_given_a_policy else grid


def bandit(rule):
    env = envs.bandit_testbed(3)
    return purerl.bandit(env, rule=rule), env


def offline(factory, *builds, continuous=False):
    env = envs.probe(continuous=continuous)
    obs, ends = jnp.linspace(-1, 1, 8)[:, None], jnp.arange(8) % 4 == 3
    action = jnp.array([0, 1, 1, 1, 0, 1, 1, 1])  # in balance, gradients are rounding that Adam amplifies
    data = purerl.Transition(obs, obs / 2 if continuous else action, obs[:, 0], ends, ~ends, obs)
    return factory(*(build(env, (4,)) for build in builds)), data


CASES = {
    "ppo": Case(ppo, purerl.PPOHparams(0.01)),
    "ppo, squashed, normalized": Case(normalized_ppo, purerl.PPOHparams(0.01)),
    "recurrent_ppo": Case(recurrent_ppo, purerl.PPOHparams(0.01)),
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
    "r2d2": Case(r2d2, purerl.DQNHparams(0.01)),
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
    "tqc": Case(
        functools.partial(
            continuous,
            purerl.tqc,
            networks.gaussian_actor,
            functools.partial(networks.critic, num_quantiles=3),
            num_critics=2,
        ),
        purerl.SACHparams(0.01),
        "actor_learning_rate",
    ),
    "droq": Case(
        functools.partial(
            continuous,
            purerl.droq,
            networks.gaussian_actor,
            functools.partial(networks.critic, layer_norm=True, dropout=0.1),
            policy_delay=2,
        ),
        purerl.SACHparams(0.01),
        "actor_learning_rate",
    ),
    "crossq": Case(
        functools.partial(
            continuous, purerl.crossq, networks.gaussian_actor, networks.batch_norm_critic, policy_delay=2
        ),
        purerl.SACHparams(0.01),
        "actor_learning_rate",
    ),
    "evolution": Case(
        functools.partial(on_policy, purerl.evolution), purerl.EvolutionHparams(0.01), rollout=loops.rollout_episodes
    ),
    "cma_es": Case(
        functools.partial(on_policy, purerl.cma_es), purerl.CMAESHparams(), "noise_std", loops.rollout_episodes
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
    "td": Case(functools.partial(tabular, purerl.td, n=2), purerl.TDHparams(0.01), "step_size"),
    "td_lambda": Case(functools.partial(tabular, purerl.td_lambda), purerl.TDHparams(0.01), "step_size"),
    "monte_carlo": Case(
        functools.partial(tabular, purerl.monte_carlo),
        purerl.MonteCarloHparams(0.01),
        "step_size",
        loops.rollout_episodes,
    ),
    "linear_prediction": Case(
        functools.partial(linear, purerl.linear_prediction), purerl.LinearHparams(0.01), "step_size"
    ),
    "least_squares": Case(functools.partial(linear, purerl.least_squares), purerl.LinearHparams(0.01), "discount"),
    "behavior_cloning": Case(
        functools.partial(offline, purerl.behavior_cloning, networks.actor_critic), purerl.CloningHparams(0.01)
    ),
    "cql": Case(functools.partial(offline, purerl.cql, networks.q_network), purerl.CQLHparams(0.01)),
    "td3_bc": Case(
        functools.partial(offline, purerl.td3_bc, networks.deterministic_actor, networks.critic, continuous=True),
        purerl.TD3BCHparams(0.01),
        "actor_learning_rate",
    ),
    "iql": Case(
        functools.partial(offline, purerl.iql, networks.actor_critic, networks.critic, continuous=True),
        purerl.IQLHparams(0.01),
    ),
} | {
    name: Case(
        functools.partial(dynamic_programming, getattr(purerl, name)),
        getattr(purerl, hparams)(),
        "discount",
    )
    for name, hparams in (
        ("value_iteration", "DynamicProgrammingHparams"),
        ("soft_value_iteration", "SoftValueIterationHparams"),
        ("modified_policy_iteration", "ModifiedPolicyIterationHparams"),
        ("policy_iteration", "DynamicProgrammingHparams"),
        ("policy_evaluation", "DynamicProgrammingHparams"),
    )
}

for algorithm, entry in presets.ALGORITHMS.items():
    if not any(case.replace(", ", "_").startswith(algorithm) for case in CASES):
        fields = entry.hparams()._fields
        vary = next(field for field in fields if field.endswith("learning_rate"))
        CASES[algorithm] = Case(functools.partial(by_preset, algorithm), entry.hparams()(), vary)

LONG = ("td3", "discrete_sac", "tqc", "droq", "crossq", "iqn", "r2d2", "td3_bc", "iql", "cma_es")
LONG += ("sarsa", "q_lambda", "monte_carlo_control", "td_lambda", "monte_carlo")
"""Agents that share the parts of another one in CASES: their contract is checked with `-m slow`."""
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in CASES]


@functools.cache
def built(name):
    """The agent, with traces of its update counted, and its environment."""
    agent, env = CASES[name].make()
    traces = []

    def update(key, state, data):
        traces.append(name)
        return agent.update(key, state, data)

    return agent._replace(update=update), env, traces


def learn(key, agent, env, hparams, rollout):
    """One update by `train`, or by `fit` if the data are not an environment."""
    if isinstance(env, purerl.Env):
        return purerl.train(key, agent, env, hparams, **SIZES, rollout=rollout)
    return purerl.fit(key, agent, env, hparams, num_updates=1)


def train(name, hparams, seed=0):
    agent, env, _ = built(name)
    return learn(jax.random.key(seed), agent, env, hparams, CASES[name].rollout)


def first(name, key):
    """The state before the first update and one observation, of shapes alone in `jax.eval_shape`."""
    agent, env, _ = built(name)
    hparams = purerl.hparams.cast(CASES[name].hparams)
    if isinstance(env, purerl.Env):
        obs, _ = env.reset(jax.random.key(1))
        return agent.init(key, hparams, obs, SIZES["num_envs"]), obs
    if isinstance(env, purerl.Transition):
        obs = jax.tree.map(lambda x: x[0], env.obs)
        return agent.init(key, hparams, obs), obs
    return agent.init(key, hparams, env), jnp.int32(0)  # an agent that learns from a model sees the whole of it


def varied(name, value):
    return CASES[name].hparams._replace(**{CASES[name].vary: value})


def fresh(name):
    """A run of a new agent, so that nothing traced under other settings is reused, as a function of the key."""
    agent, env = CASES[name].make()
    return lambda key: learn(key, agent, env, CASES[name].hparams, CASES[name].rollout)

"""Tabular prediction: against the exact values, and step by step against plain float64 NumPy."""

import episodes
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

import purerl
from purerl import envs
from purerl import mdp as mdps
from purerl.agents.tabular import monte_carlo as mc
from purerl.agents.tabular import td_prediction as td
from purerl.spaces import Box

DISCOUNT, STATES, ACTIONS = 0.9, 5, 2


@pytest.fixture(scope="module")
def world():
    """Five random MDPs, each step of which ends with probability 40% or more, two policies, exact values."""
    single = [mdps.random_mdp(jax.random.key(i), STATES, ACTIONS, 3) for i in range(5)]
    first = jnp.arange(3) == 0
    single = [
        m._replace(probability=0.6 * m.probability + 0.4 * first, terminated=m.terminated | first) for m in single
    ]
    env = envs.from_mdp(single[0], max_steps=200)
    policy = jnp.tile(jnp.array([0.7, 0.3]), (STATES, 1))
    exact = np.stack([mdps.policy_evaluation(mdp, policy, DISCOUNT) for mdp in single])
    return env, jax.tree.map(lambda *x: jnp.stack(x), *single), policy, jnp.full_like(policy, 0.5), exact


TD = td.TDHparams(1.0, 0.55, DISCOUNT)
TRACES = td.TDHparams(1.0, 0.8, DISCOUNT, 0.5)
MC = mc.MonteCarloHparams(0.0, DISCOUNT)
LEARNERS = {  # factory, its keywords, most error on-policy and off-policy
    "td0": (td.td, {}, 0.05, 0.05),
    "three_step": (td.td, {"n": 3}, 0.06, 0.06),
    "td_lambda": (td.td_lambda, {}, 0.07, 0.08),
    "true_online": (td.td_lambda, {"traces": "dutch"}, 0.07, None),
    "weighted": (mc.monte_carlo, {}, 0.05, 0.08),
    "ordinary": (mc.monte_carlo, {"first_visit": False, "weighted": False}, 0.05, 0.12),
}
SETTINGS = {
    td.td: (TD, {"num_updates": 600, "num_envs": 16, "rollout_length": 5}),
    td.td_lambda: (TRACES, {"num_updates": 1000, "num_envs": 1, "rollout_length": 10}),
    mc.monte_carlo: (
        MC, {"num_updates": 200, "num_envs": 32, "rollout_length": 16, "rollout": purerl.loops.rollout_episodes},
    ),
}  # fmt: skip


LONG = ("three_step", "true_online", "ordinary")


@pytest.mark.parametrize("name", [pytest.param(x, marks=[pytest.mark.slow] * (x in LONG)) for x in LEARNERS])
def test_prediction_converges_to_the_exact_value(world, name):
    """30 seeds on five MDPs with rewards of size 1: root mean square error, and that of the mean over the seeds."""
    env, stack, policy, behavior, exact = world
    factory, arguments, *most = LEARNERS[name]
    agent, (hparams, sizes) = factory(env, **arguments), SETTINGS[factory]

    def run(key, mdp):
        def train(acting):
            on = hparams._replace(policy=policy, behavior=acting)
            return purerl.train(key, agent, env, on, env_params=mdp, **sizes)[0].value

        return jax.vmap(train)(jnp.stack([policy, behavior])) if most[1] else train(None)[None]

    value = np.asarray(quick.seeds_and_mdps(run)(stack), np.float64)
    error = value - exact[:, None, None]
    rmse, bias = np.sqrt((error**2).mean((1, 3))), np.sqrt((error.mean(1) ** 2).mean(2))
    for i in range(error.shape[2]):
        assert (rmse[:, i] < most[i]).all(), (rmse[:, i], bias[:, i])
        assert (bias[:, i] < 0.4 * most[i]).all(), (rmse[:, i], bias[:, i])


@pytest.fixture(scope="module")
def trajectory():
    return episodes.trajectory(STATES, ACTIONS)


def online_lambda_return(data, alpha, decay):
    """For every horizon h the whole episode again from its first table, toward the λ-returns known at h."""
    v = np.zeros(STATES)
    for episode in episodes.split(data):
        start, bootstraps = v.copy(), []
        for h in range(1, len(episode) + 1):
            *_, terminated, _, after = episode[h - 1]
            bootstraps.append(0.0 if terminated else v[after])  # with the newest table that has not seen this step
            w = start.copy()
            for t in range(h):
                g = bootstraps[h - 1]
                for k in range(h - 1, t - 1, -1):
                    g = g if k == h - 1 else (1 - decay) * bootstraps[k] + decay * g
                    g = episode[k][2] + DISCOUNT * g
                w[episode[t][0]] += alpha * (g - w[episode[t][0]])
            v = w
    return v


@pytest.mark.parametrize("decay", [0.0, 0.6, 1.0])
def test_dutch_traces_equal_the_online_lambda_return_algorithm(world, trajectory, decay):
    agent = td.td_lambda(world[0], traces="dutch")
    hparams = td.TDHparams(0.3, 0.0, DISCOUNT, decay)
    state = agent.init(jax.random.key(0), purerl.hparams.cast(hparams), jnp.int32(0), 1)
    update = jax.jit(agent.update)
    for part in (slice(0, 25), slice(25, 60)):
        state, _ = update(jax.random.key(0), state, jax.tree.map(lambda x: x[part], trajectory))
    expected = online_lambda_return(trajectory, 0.3, decay)
    np.testing.assert_allclose(state.value, expected, atol=2e-5)


@pytest.mark.parametrize("traces", ["accumulating", "replacing"])
def test_traces_against_numpy(world, trajectory, traces):
    agent = td.td_lambda(world[0], traces=traces)
    state = agent.init(jax.random.key(0), purerl.hparams.cast(td.TDHparams(0.3, 0.0, DISCOUNT, 0.8)), jnp.int32(0), 1)
    state, _ = jax.jit(agent.update)(jax.random.key(0), state, trajectory)
    v = np.zeros(STATES)
    for episode in episodes.split(trajectory):
        e = np.zeros(STATES)
        for s, _, r, terminated, _, after in episode:
            delta = r + DISCOUNT * (0 if terminated else v[after]) - v[s]
            e *= DISCOUNT * 0.8
            e[s] = 1 if traces == "replacing" else e[s] + 1
            v = v + 0.3 * delta * e
    np.testing.assert_allclose(state.value, v, atol=1e-5)


def test_mistakes_are_named(world, trajectory):
    env, _, policy, behavior, _ = world
    key, obs = jax.random.key(0), jnp.int32(0)
    with pytest.raises(TypeError, match="Discrete observation_space"):
        td.td(env._replace(observation_space=Box(0, 1)))
    with pytest.raises(ValueError, match="traces must be one of"):
        td.td_lambda(env, traces="long")
    with pytest.raises(ValueError, match="policy must have shape"):
        td.td(env).init(key, td.TDHparams(policy=policy[1:]), obs)
    with pytest.raises(ValueError, match="on-policy"):
        td.td_lambda(env, traces="dutch").init(key, td.TDHparams(policy=policy, behavior=behavior), obs)
    agent = mc.monte_carlo(env)
    with pytest.raises(ValueError, match="rollout_episodes"):
        agent.update(key, agent.init(key, mc.MonteCarloHparams(), obs), trajectory)

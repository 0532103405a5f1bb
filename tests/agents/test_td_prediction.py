"""Tabular prediction: against the exact values, and step by step against plain float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import envs
from purerl import mdp as mdps
from purerl.agents import monte_carlo as mc
from purerl.agents import td_prediction as td
from purerl.types import Box, Transition

DISCOUNT, STATES, ACTIONS = 0.9, 5, 2


@pytest.fixture(scope="module")
def world():
    """Five random MDPs, a policy to judge, another to act, and the exact values [5, S]."""
    single = [mdps.random_mdp(jax.random.key(i), STATES, ACTIONS, 3, termination=0.25) for i in range(5)]
    env = envs.from_mdp(single[0], max_steps=200)
    policy = jnp.tile(jnp.array([0.7, 0.3]), (STATES, 1))
    exact = np.stack([mdps.policy_evaluation(mdp, policy, DISCOUNT) for mdp in single])
    return env, jax.tree.map(lambda *x: jnp.stack(x), *single), policy, jnp.full_like(policy, 0.5), exact


LEARNERS = {
    "td0": (lambda env: td.td(env), td.TDHparams(1.0, 0.8, DISCOUNT), False),
    "three_step": (lambda env: td.td(env, n=3), td.TDHparams(1.0, 0.8, DISCOUNT), True),
    "td_lambda": (lambda env: td.td_lambda(env), td.TDHparams(0.5, 0.7, DISCOUNT, 0.5), True),
    "first_visit": (lambda env: mc.monte_carlo(env), mc.MonteCarloHparams(0.0, DISCOUNT), False),
    "ordinary": (
        lambda env: mc.monte_carlo(env, first_visit=False, weighted=False), mc.MonteCarloHparams(0.0, DISCOUNT), True,
    ),
    "weighted": (lambda env: mc.monte_carlo(env), mc.MonteCarloHparams(0.0, DISCOUNT), True),
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNERS)
def test_prediction_converges_to_the_exact_value(world, name):
    """30 seeds on five MDPs with rewards of size 1: root mean square error and that of the mean over seeds."""
    env, stack, policy, behavior, exact = world
    factory, hparams, off_policy = LEARNERS[name]
    agent = factory(env)
    hparams = hparams._replace(policy=policy, behavior=behavior if off_policy else None)
    whole = {"rollout": purerl.loops.rollout_episodes} if isinstance(hparams, mc.MonteCarloHparams) else {}

    def run(key, mdp):
        sizes = {"num_updates": 80, "num_envs": 8, "rollout_length": 30 if whole else 10}
        return purerl.train(key, agent, env, hparams, env_params=mdp, **sizes, **whole)[0].value

    keys = jax.random.split(jax.random.key(1), 30)
    error = np.asarray(jax.vmap(jax.vmap(run, (0, None)), (None, 0))(keys, stack)) - exact[:, None]
    rmse, bias = np.sqrt((error**2).mean()), np.sqrt((error.mean(1) ** 2).mean())
    most = {"ordinary": (0.6, 0.12), "weighted": (0.35, 0.08)}.get(name, (0.12, 0.07))  # products of ratios vary a lot
    assert rmse < most[0], rmse
    assert bias < most[1], bias


@pytest.fixture(scope="module")
def trajectory():
    """60 steps in one environment with terminated and truncated episodes, whose successors follow on."""
    rng = np.random.default_rng(0)
    obs = rng.integers(0, STATES, 61)
    terminated = rng.random(60) < 0.1
    truncated = ~terminated & (rng.random(60) < 0.1)
    next_obs = np.where(terminated | truncated, rng.integers(0, STATES, 60), obs[1:])
    columns = (obs[:-1], rng.integers(0, ACTIONS, 60), rng.normal(size=60), terminated, truncated, next_obs)
    kinds = (jnp.int32, jnp.int32, jnp.float32, bool, bool, jnp.int32)
    return Transition(*(jnp.asarray(x, kind)[:, None] for x, kind in zip(columns, kinds)))


def episodes_of(data):
    """Lists of (state, reward, terminated, successor), one an episode, the last one unfinished."""
    columns = [np.asarray(x)[:, 0] for x in (data.obs, data.reward, data.terminated, data.truncated, data.next_obs)]
    found = [[]]
    for s, r, terminated, truncated, after in zip(*columns):
        found[-1].append((int(s), float(r), bool(terminated), int(after)))
        if terminated or truncated:
            found.append([])
    return found


def online_lambda_return(episodes, alpha, decay):
    """For every horizon h the whole episode anew from its first table, towards the λ-returns known at h."""
    v = np.zeros(STATES)
    for episode in episodes:
        start, bootstraps = v.copy(), []
        for h in range(1, len(episode) + 1):
            _, _, terminated, after = episode[h - 1]
            bootstraps.append(0.0 if terminated else v[after])  # with the newest table that has not seen this step
            w = start.copy()
            for t in range(h):
                g = bootstraps[h - 1]
                for k in range(h - 1, t - 1, -1):
                    g = g if k == h - 1 else (1 - decay) * bootstraps[k] + decay * g
                    g = episode[k][1] + DISCOUNT * g
                w[episode[t][0]] += alpha * (g - w[episode[t][0]])
            v = w
    return v


@pytest.mark.parametrize("decay", [0.0, 0.6, 1.0])
def test_dutch_traces_equal_the_online_lambda_return_algorithm(world, trajectory, decay):
    agent = td.td_lambda(world[0], traces="dutch")
    hparams = td.TDHparams(0.3, 0.0, DISCOUNT, decay)
    state = agent.init(jax.random.key(0), purerl.types.cast(hparams), jnp.int32(0), 1)
    update = jax.jit(agent.update)
    for part in (slice(0, 25), slice(25, 60)):
        state, _ = update(jax.random.key(0), state, jax.tree.map(lambda x: x[part], trajectory))
    expected = online_lambda_return(episodes_of(trajectory), 0.3, decay)
    np.testing.assert_allclose(state.value, expected, atol=2e-5)


@pytest.mark.parametrize("traces", ["accumulating", "replacing"])
def test_traces_against_numpy(world, trajectory, traces):
    agent = td.td_lambda(world[0], traces=traces)
    state = agent.init(jax.random.key(0), purerl.types.cast(td.TDHparams(0.3, 0.0, DISCOUNT, 0.8)), jnp.int32(0), 1)
    state, _ = jax.jit(agent.update)(jax.random.key(0), state, trajectory)
    v = np.zeros(STATES)
    for episode in episodes_of(trajectory):
        e = np.zeros(STATES)
        for s, r, terminated, after in episode:
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

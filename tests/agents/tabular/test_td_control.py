"""Tabular control against the exact solution of each learner's own target, and against plain NumPy step by step."""

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
from purerl.agents.tabular import td_control as td

DISCOUNT, EPSILON, TEMPERATURE = 0.8, 0.3, 2.0


def five_mdps():
    """Five MDPs of 11 states, 4 actions and 3 outcomes: three grid worlds and two random ones."""
    grids = [mdps.gridworld_3x4(noise=noise, living_reward=pay) for noise, pay in [(0.2, 0), (0, -0.1), (0.4, -0.4)]]
    everywhere = [grid._replace(initial=jnp.full(11, 1 / 11)) for grid in grids]
    others = [mdps.random_mdp(jax.random.key(i), 11, 4, 3, termination=0.1) for i in range(2)]
    return jax.tree.map(lambda *x: jnp.stack(x), *everywhere, *others)


def softmax_mean(q, temperature):
    """Σ_b π(b) q(b) with π = softmax(q / τ), over the last axis."""
    weight = np.exp((q - q.max(-1, keepdims=True)) / temperature)
    return (weight * q).sum(-1) / weight.sum(-1)


POLICIES = {  # what a policy expects of its next value
    "greedy": lambda q: q.max(-1),
    "epsilon_greedy": lambda q: EPSILON * q.mean(-1) + (1 - EPSILON) * q.max(-1),
    "boltzmann": lambda q: softmax_mean(q, TEMPERATURE),
}


def fixed_point(mdp, expectation):
    """The q of r + γ Σ_b π(b | s') q(s', b) in float64, π being a policy with respect to q itself."""
    p, r = np.asarray(mdp.probability, np.float64), np.asarray(mdp.reward, np.float64)
    q = np.zeros(p.shape[:2])
    for _ in range(200):
        value = expectation(q)
        q = (p * (r + DISCOUNT * np.where(mdp.terminated, 0, value[np.asarray(mdp.next_state)]))).sum(-1)
    return q


@pytest.fixture(scope="module")
def world():
    stack = five_mdps()
    single = [jax.tree.map(lambda x: x[i], stack) for i in range(5)]
    env = envs.from_mdp(single[0], max_steps=60)
    targets = {name: np.stack([fixed_point(m, policy) for m in single]) for name, policy in POLICIES.items()}
    return env, stack, targets


def check(q, target, most):
    """Errors in parts of the largest value of each MDP: root mean square over 30 seeds, and of their mean."""
    error = (np.asarray(q, np.float64) - target[:, None]) / np.abs(target).max((1, 2))[:, None, None, None]
    rmse, bias = np.sqrt((error**2).mean((1, 2, 3))), np.sqrt((error.mean(1) ** 2).mean((1, 2)))
    assert (rmse < most).all(), (rmse, bias)
    assert (bias < 0.4 * most).all(), (rmse, bias)


ONLINE = {"num_updates": 1000, "num_envs": 32, "rollout_length": 1}
TD = td.TDControlHparams(1.0, 0.65, DISCOUNT, EPSILON)
WARM = TD._replace(temperature=TEMPERATURE)
EXPLORING = TD._replace(epsilon=1.0)  # off-policy learners may do anything
LEARNERS = {  # factory, its keywords, hyperparameters, sizes, policy of the target, most error
    "q": (td.q_learning, {}, EXPLORING, ONLINE, "greedy", 0.035),
    "double": (td.q_learning, {"double": True}, EXPLORING, {**ONLINE, "num_envs": 64}, "greedy", 0.035),
    "q_lambda": (
        td.q_lambda,
        {},
        EXPLORING._replace(epsilon=0.7, trace_decay=0.5),
        {**ONLINE, "num_envs": 16},
        "greedy",
        0.035,
    ),
    "sarsa": (td.sarsa, {}, TD, ONLINE, "epsilon_greedy", 0.035),
    "expected": (td.sarsa, {"expected": True}, TD, ONLINE, "epsilon_greedy", 0.035),
    "three_step": (td.sarsa, {"n": 3}, TD, ONLINE, "epsilon_greedy", 0.05),
    "expected, boltzmann": (
        td.sarsa,
        {"expected": True, "exploration": "boltzmann"},
        WARM,
        ONLINE,
        "boltzmann",
        0.035,
    ),
}


LONG = ("three_step", "q_lambda", "double", "expected", "expected, boltzmann")


@pytest.mark.parametrize("name", [pytest.param(x, marks=[pytest.mark.slow] * (x in LONG)) for x in LEARNERS])
def test_control_converges_to_its_own_target(world, name):
    """30 seeds on five MDPs: within 3.5% of the largest value (three steps: 5%), and their mean within 40% of that."""
    env, stack, targets = world
    factory, arguments, hparams, sizes, policy, most = LEARNERS[name]
    agent = factory(env, **arguments)

    def run(key, mdp):
        q = purerl.train(key, agent, env, hparams, env_params=mdp, **sizes)[0].q
        return q.mean(0) if name == "double" else q

    check(quick.seeds_and_mdps(run)(stack), targets[policy], most)


@pytest.mark.slow
def test_monte_carlo_control(world):
    """With a fixed ε it finds the best ε-greedy values; with ε = 1 / √k the greedy policy is worth 94% of the best."""
    env, stack, targets = world
    agent = mc.monte_carlo_control(env)
    sizes = {"num_updates": 400, "num_envs": 8, "rollout_length": 60, "rollout": purerl.loops.rollout_episodes}

    @quick.jit_for_long_runs
    def run(hparams):
        train = lambda key, mdp: purerl.train(key, agent, env, hparams, env_params=mdp, **sizes)[0].value  # noqa: E731
        return jax.vmap(jax.vmap(train, (0, None)), (None, 0))(jax.random.split(jax.random.key(0), 30), stack)

    fixed = mc.MonteCarloControlHparams(0.02, DISCOUNT, EPSILON, 0.0)
    check(run(purerl.hparams.cast(fixed)), targets["epsilon_greedy"], 0.06)
    q = run(purerl.hparams.cast(fixed._replace(epsilon=1, epsilon_decay=0.5)))

    def worth(mdp, q):
        return mdp.initial @ mdps.policy_evaluation(mdp, jax.nn.one_hot(jnp.argmax(q, 1), 4), DISCOUNT)

    value = np.asarray(quick.jit_for_long_runs(jax.vmap(jax.vmap(worth, (None, 0))))(stack, q))
    best = np.einsum("ms,ms->m", stack.initial, targets["greedy"].max(2))
    assert (value.mean(1) > best - 0.06 * np.abs(best)).all(), (value.mean(1), best)


STATES, ACTIONS, ALPHA = 5, 3, 0.3


@pytest.fixture(scope="module")
def small():
    """An environment whose spaces alone matter, and 60 steps in it."""
    mdp = mdps.random_mdp(jax.random.key(0), STATES, ACTIONS, 2)
    return envs.from_mdp(mdp, max_steps=10), episodes.trajectory(STATES, ACTIONS)


def learned(agent, data, **hparams):
    """The table after one update per step."""
    hparams = purerl.hparams.cast(td.TDControlHparams(ALPHA, 0.0, DISCOUNT, EPSILON, **hparams))
    state = agent.init(jax.random.key(0), hparams, jnp.int32(0))
    update = jax.jit(agent.update)
    for t in range(len(data.reward)):
        state, _ = update(jax.random.key(t), state, jax.tree.map(lambda x: x[t : t + 1], data))
    return np.asarray(state.q)


@pytest.mark.parametrize("exploration", td.EXPLORATIONS)
@pytest.mark.parametrize("expected", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_sarsa_against_numpy(small, n, expected, exploration):
    env, data = small
    steps, q, delay = episodes.rows(data), np.zeros((STATES, ACTIONS)), n - expected
    for j in range(len(steps) - delay):
        g, scale = 0.0, 1.0
        for k in range(j, j + n):
            _, _, r, terminated, truncated, after = steps[k]
            g, scale = g + scale * r, scale * DISCOUNT * (not terminated)
            if terminated or truncated or k == j + n - 1:
                by_taken = not (expected or terminated or truncated)
                g += scale * (q[after, steps[k + 1][1]] if by_taken else POLICIES[exploration](q[after]))
                break
        q[steps[j][:2]] += ALPHA * (g - q[steps[j][:2]])
    agent = td.sarsa(env, n=n, expected=expected, exploration=exploration)
    np.testing.assert_allclose(learned(agent, data, temperature=TEMPERATURE), q, atol=1e-5)


@pytest.mark.parametrize("double", [False, True])
def test_q_learning_against_numpy(small, double):
    env, data = small
    q = np.zeros((1 + double, STATES, ACTIONS))
    for t, (s, a, r, terminated, _, after) in enumerate(episodes.rows(data)):
        i = int(jax.random.bernoulli(jax.random.key(t), 0.5, (1, 1))[0, 0]) if double else 0
        g = r + DISCOUNT * (not terminated) * q[-1 - i, after, q[i, after].argmax()]
        q[i, s, a] += ALPHA * (g - q[i, s, a])
    np.testing.assert_allclose(learned(td.q_learning(env, double=double), data).reshape(q.shape), q, atol=1e-5)


@pytest.mark.parametrize("traces", ["accumulating", "replacing"])
def test_q_lambda_against_numpy(small, traces):
    env, data = small
    q = np.zeros((STATES, ACTIONS))
    for episode in episodes.split(data):
        e = np.zeros_like(q)
        for s, a, r, terminated, _, after in episode:
            delta = r + DISCOUNT * (not terminated) * q[after].max() - q[s, a]
            e *= DISCOUNT * 0.8 * (q[s, a] == q[s].max())
            e[s, a] = 1 if traces == "replacing" else e[s, a] + 1
            q = q + ALPHA * delta * e
    np.testing.assert_allclose(learned(td.q_lambda(env, traces=traces), data, trace_decay=0.8), q, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_boltzmann_takes_actions_by_a_softmax_of_their_values(small, temperature):
    """In update k the temperature is τ / k^temperature_decay: at the fourth, half of τ for a decay of ½."""
    env, _ = small
    agent = td.q_learning(env, exploration="boltzmann")
    hparams = purerl.hparams.cast(td.TDControlHparams(temperature=2 * temperature, temperature_decay=0.5))
    state = agent.init(jax.random.key(0), hparams, jnp.int32(0))
    q = jnp.array([0.3, 0.0, -0.5])
    state = state._replace(q=state.q.at[2].set(q), num_updates=jnp.int32(3))
    act = jax.jit(jax.vmap(lambda key: agent.act(key, state, jnp.int32(2))[0]))
    frequency = np.bincount(act(jax.random.split(jax.random.key(0), 20_000)), minlength=3) / 20_000
    expected = np.exp(np.asarray(q) / temperature)
    np.testing.assert_allclose(frequency, expected / expected.sum(), atol=0.02)
    assert agent.act(None, state, jnp.int32(2))[0] == 0


def test_a_decaying_step_is_the_average_and_a_batch_steps_along_its_mean(small):
    env, data = small
    agent, last = td.q_learning(env), jax.tree.map(lambda x: x.reshape(6, 10), data)
    hparams = purerl.hparams.cast(td.TDControlHparams(1.0, 1.0, 0.0))
    state = agent.init(jax.random.key(0), hparams, jnp.int32(0), 10)
    for part in (slice(0, 3), slice(3, 6)):
        state, _ = agent.update(jax.random.key(0), state, jax.tree.map(lambda x: x[part], last))
    found = np.full((2, STATES, ACTIONS), np.nan)
    for half in range(2):
        for s in range(STATES):
            for a in range(ACTIONS):
                mine = [row[2] for row in episodes.rows(data)[30 * half : 30 * half + 30] if row[:2] == (s, a)]
                found[half, s, a] = np.mean(mine) if mine else np.nan
    seen = np.isfinite(found).sum(0)
    np.testing.assert_array_equal(state.visits, seen)
    np.testing.assert_allclose(np.asarray(state.q)[seen > 0], np.nanmean(found[:, seen > 0], 0), atol=1e-5)


def test_mistakes_are_named(small):
    env, _ = small
    with pytest.raises(ValueError, match="n must be a positive integer"):
        td.sarsa(env, n=0)
    with pytest.raises(ValueError, match="traces must be one of"):
        td.q_lambda(env, traces="dutch")
    with pytest.raises(ValueError, match="exploration must be one of"):
        td.q_learning(env, exploration="softmax")
    with pytest.raises(TypeError, match="Discrete observation_space"):
        td.q_learning(envs.probe())

"""MuZero: what its search finds in an exact model, its loss by formula, and the models and policies that it learns."""

import itertools

import jax
import jax.numpy as jnp
import linear_control as linear
import numpy as np
import optax
import probing
import pytest

import purerl
from purerl import combinators, distributions, envs, mdp, networks
from purerl.types import Transition

GAMMA = 0.9
GRID = mdp.gridworld(["S  ", " #+"], noise=0.0, living_reward=-0.1)


class Exact:
    """The model of a deterministic MDP itself, in which a latent is a one-hot state; it has no opinion of values."""

    def __init__(self, model):
        self.model = model
        self.num_states, self.num_actions = model.next_state.shape[:2]

    def init(self, key, obs):
        return jnp.zeros(1)

    def represent(self, params, obs):
        return jax.nn.one_hot(obs, self.num_states)

    def predict(self, params, latent, mask=None):
        return distributions.categorical(jnp.zeros(self.num_actions)), latent.sum() * params[0]

    def step(self, params, latent, action):
        state = latent.argmax()
        alive = 1.0 - self.model.terminated[state, action, 0]
        following = jax.nn.one_hot(self.model.next_state[state, action, 0], self.num_states)
        return latent.sum() * self.model.reward[state, action, 0], latent.sum() * alive * following


def test_the_search_finds_the_best_actions_in_an_exact_model():
    agent = purerl.muzero(Exact(GRID), num_simulations=48)
    state = agent.init(jax.random.key(0), purerl.hparams.cast(purerl.MuZeroHparams(discount=GAMMA)), jnp.int32(0))
    best = mdp.value_iteration(GRID, GAMMA)
    cells = [s for s in range(len(best.value)) if best.value[s] > 0.6]
    assert len(cells) == 3
    actions = jax.jit(jax.vmap(lambda s: agent.act(None, state, s)[0]))(jnp.array(cells))
    for s, action in zip(cells, np.asarray(actions)):
        assert best.q[s, action] >= best.q[s].max() - 1e-5, s


# --- One update against a formula in float64 --------------------------------------------------------------------------

SHAPES = {"h": (2, 2), "f": (2, 4), "g": (2, 2), "u": (3, 2), "r": (2,), "b": (3,)}


def parts(vector):
    """A vector of numbers as the matrices of the linear network below."""
    ends = np.cumsum([int(np.prod(shape)) for shape in SHAPES.values()])
    pieces = (vector[end - int(np.prod(shape)) : end] for end, shape in zip(ends, SHAPES.values()))
    return {name: piece.reshape(shape) for (name, shape), piece in zip(SHAPES.items(), pieces)}


class Linear:
    """Representation, prediction and dynamics linear in two features, for three actions."""

    def init(self, key, obs):
        return 0.7 * jax.random.normal(key, (sum(int(np.prod(shape)) for shape in SHAPES.values()),))

    def represent(self, params, obs):
        return obs @ parts(params)["h"]

    def predict(self, params, latent, mask=None):
        out = latent @ parts(params)["f"]
        return distributions.categorical(out[:3]), out[3]

    def step(self, params, latent, action):
        p = parts(params)
        return latent @ p["r"] + p["b"][action], latent @ p["g"] + p["u"][action]

    def apply(self, params, obs):
        return self.predict(params, self.represent(params, obs))


LENGTH, NUM_ENVS, UNROLL, DECAY = 6, 5, 3, 0.7


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    obs, after = rng.normal(size=(2, LENGTH, NUM_ENVS, 2)).astype(np.float32)
    terminated, truncated = rng.random((2, LENGTH, NUM_ENVS)) < 0.2
    on = ~(terminated | truncated)[:-1]
    after[:-1][on] = obs[1:][on]
    reward = rng.normal(size=(LENGTH, NUM_ENVS)).astype(np.float32)
    action = rng.integers(0, 3, (LENGTH, NUM_ENVS)).astype(np.int32)
    policy = rng.dirichlet(np.ones(3), (LENGTH, NUM_ENVS)).astype(np.float32)
    fields = (obs, action, reward, terminated, truncated, after)
    return Transition(*map(jnp.asarray, fields), aux={"policy": jnp.asarray(policy)})


def targets(params, x):
    """λ-returns, by hand."""
    found = np.zeros((LENGTH, NUM_ENVS))
    for t, n in itertools.product(reversed(range(LENGTH)), range(NUM_ENVS)):
        value = x.next_obs[t, n] @ parts(params)["h"] @ parts(params)["f"][:, 3]
        cut = x.terminated[t, n] or x.truncated[t, n] or t == LENGTH - 1
        following = value if cut else (1 - DECAY) * value + DECAY * found[t + 1, n]
        found[t, n] = x.reward[t, n] + GAMMA * (0.0 if x.terminated[t, n] else following)
    return found


def loss(params, fixed, value_target, x, coefs):
    """The loss as loops over starts and steps; `fixed` are the same parameters, through which no gradient goes."""
    policy = value = reward = 0.0
    moving, still = parts(params), parts(fixed)
    for t, n in itertools.product(range(LENGTH - UNROLL), range(NUM_ENVS)):
        latent, constant = x.obs[t, n] @ moving["h"], x.obs[t, n] @ still["h"]
        live = known = True
        for k in range(UNROLL + 1):
            weight = 1.0 if k == 0 else 1 / UNROLL
            out = latent @ moving["f"]
            log_probs = out[:3] - np.log(np.exp(out[:3]).sum())
            policy -= weight * live * (x.aux["policy"][t + k, n] @ log_probs)
            value += weight * known * 0.5 * ((value_target[t + k, n] if live else 0.0) - out[3]) ** 2
            if k == UNROLL:
                break
            action, half = int(x.action[t + k, n]), 0.5 * latent + 0.5 * constant
            error = (x.reward[t + k, n] if live else 0.0) - half @ moving["r"] - moving["b"][action]
            reward += known * 0.5 * error**2 / UNROLL
            latent = half @ moving["g"] + moving["u"][action]
            constant = constant @ still["g"] + still["u"][action]
            known = known and not (live and x.truncated[t + k, n] and not x.terminated[t + k, n])
            live = live and not (x.terminated[t + k, n] or x.truncated[t + k, n])
    each = np.array([policy, value, reward]) / ((LENGTH - UNROLL) * NUM_ENVS)
    return each @ coefs, each


def test_one_update_by_formula(data):
    agent = purerl.muzero(Linear(), unroll_length=UNROLL, optimizer=lambda hparams: optax.sgd(hparams.learning_rate))
    hparams = purerl.MuZeroHparams(0.1, GAMMA, DECAY, value_coef=0.3, reward_coef=0.6, anneal_updates=4.0)
    state = agent.init(jax.random.key(0), purerl.hparams.cast(hparams), data.obs[0, 0])
    state = state._replace(num_updates=jnp.int32(1))
    new, metrics = jax.jit(agent.update)(jax.random.key(1), state, data)

    params, x = (
        linear.to_numpy(state.params),
        jax.tree.map(lambda y: np.asarray(y, float if y.dtype != bool else bool), data),
    )
    value_target, coefs = targets(params, x), np.array([1.0, 0.3, 0.6])
    _, expected = loss(params, params, value_target, x, coefs)
    found = [metrics[f"loss/{name}"] for name in ("policy", "value", "reward")]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    slope = linear.slope(lambda p: loss(p, params, value_target, x, coefs)[0], params)
    np.testing.assert_allclose(new.params, params - 0.1 * 0.75 * slope, rtol=1e-4, atol=1e-5)


def test_a_prior_that_is_certain_still_explores_but_keeps_what_is_forbidden():
    """Where the values know no difference: g + log(prior) is largest for the other action with probability w / 3."""
    network = Linear()
    agent = purerl.muzero(network, num_simulations=2)
    vector = np.zeros(27, np.float32)
    vector[4:12] = np.array([[60.0, 0.0, 0.0, 0.0], [0.0] * 4]).ravel()  # the first action for sure; values are 0
    state = purerl.types.TrainState(jnp.asarray(vector), (), purerl.MuZeroHparams(exploration=0.3), 0)
    state = state._replace(params=state.params.at[0].set(1.0))
    keys = jax.random.split(jax.random.key(0), 4000)
    act = jax.jit(jax.vmap(lambda key, weight: agent.act(
        key, state._replace(hparams=state.hparams._replace(exploration=weight)), jnp.array([1.0, 0.0]))[0], (0, None)
    ))  # fmt: skip
    shares = np.bincount(act(keys, 0.3), minlength=3) / 4000
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.03)
    assert (act(keys, 0.0) == 0).all()


def test_what_it_refuses(data):
    with pytest.raises(ValueError, match="unroll_length must be a positive integer, got 0"):
        purerl.muzero(Linear(), unroll_length=0)
    state = purerl.types.TrainState(jnp.ones(23), (), purerl.MuZeroHparams(), 0)
    with pytest.raises(ValueError, match="unroll_length = 6 must be less than the 6 steps of the data"):
        purerl.muzero(Linear(), unroll_length=6).update(jax.random.key(0), state, data)
    with pytest.raises(ValueError, match="muzero takes whole rollouts"):
        purerl.muzero(Linear()).update(jax.random.key(0), state, data._replace(mask=jnp.ones((LENGTH, NUM_ENVS))))
    with pytest.raises(TypeError, match="needs a Discrete action space"):
        networks.latent_model(envs.probe(continuous=True))


# --- What it learns ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_probes_with_every_seed():
    env = envs.probe()
    network = networks.latent_model(env, (32,), latent_size=16)
    agent = purerl.muzero(network, num_simulations=4, unroll_length=2, num_epochs=4, num_minibatches=4)
    hparams = purerl.MuZeroHparams(1e-2, GAMMA, exploration=0.5, anneal_updates=100.0)
    states = probing.learn(agent, env, hparams, num_updates=100, num_envs=16, rollout_length=6)
    probing.check_values(probing.values_of(network), states, GAMMA)
    probing.check_actions(agent, states)


@pytest.mark.slow
def test_it_learns_the_model_and_the_optimum_of_a_small_world():
    """From replay: the best action and the value of every state, and what the model says along the best path."""
    env = envs.from_mdp(GRID._replace(initial=jnp.full(5, 0.2)), max_steps=20)  # from anywhere: all is seen
    network = networks.latent_model(env, (64,), latent_size=32)
    agent = purerl.muzero(network, num_simulations=8, unroll_length=3)
    replayed = combinators.with_replay(agent, capacity=4096, batch_size=64, length=6, num_updates=8)
    hparams = purerl.MuZeroHparams(learning_rate=3e-3, discount=GAMMA, anneal_updates=960.0)
    state, _ = purerl.train(jax.random.key(0), replayed, env, hparams, num_updates=120, num_envs=16, rollout_length=8)
    best, params = mdp.value_iteration(GRID, GAMMA), state.agent.params

    @jax.jit
    def follow(start, path):
        def step(latent, action):
            reward, latent = network.step(params, latent, action)
            return latent, (reward, network.predict(params, latent)[1])

        return jax.lax.scan(step, network.represent(params, start), path)[1]

    states = jnp.arange(5)
    actions, values = jax.jit(jax.vmap(lambda s: (replayed.act(None, state, s)[0], network.apply(params, s)[1])))(
        states
    )
    np.testing.assert_allclose(values, best.value, atol=0.1)
    assert (best.q[states, actions] >= best.value - 1e-5).all()
    for start, rewards, after in (  # the last two end within the path, and then nothing more comes
        (1, [-0.1, -0.1, 1.0], [0.8, 1.0, 0.0]),
        (2, [-0.1, 1.0, 0.0], [1.0, 0.0, 0.0]),
        (4, [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    ):
        path = {1: [1, 2, actions[4]], 2: [2, actions[4], 0], 4: [actions[4], 0, 0]}[start]
        found = follow(jnp.int32(start), jnp.array(path))
        np.testing.assert_allclose(found, [rewards, after], atol=0.1, err_msg=str(start))

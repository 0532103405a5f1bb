"""AlphaZero: what its search finds without a network's help, what it learns on probes, and its loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import purerl
from purerl import envs, mdp, networks
from purerl.types import Box, Dict, Discrete, Transition

HPARAMS = purerl.AlphaZeroHparams(learning_rate=1e-2, discount=0.9)


class Blank:
    """A network without an opinion: every action equally likely, every state worth nothing."""

    def __init__(self, num_actions):
        self.num_actions = num_actions

    def init(self, key, obs):
        return jnp.zeros(1)

    def apply(self, params, obs):
        return purerl.distributions.categorical(jnp.zeros(self.num_actions) + 0 * params), 0.0 * params[0]


def test_the_search_alone_finds_the_best_action_of_a_small_world():
    """Two steps ahead in a deterministic grid: from every cell next to the exit, and one further, it walks there."""
    model = mdp.gridworld(["S   ", " #  ", "   +"], noise=0.0, living_reward=-0.1)
    env = envs.with_state(envs.from_mdp(model, max_steps=20))
    agent = purerl.alphazero(Blank(4), env, num_simulations=64)
    best = mdp.value_iteration(model, 0.9)
    state = agent.init(jax.random.key(0), purerl.hparams.cast(HPARAMS), env.reset(jax.random.key(0))[0])
    obs, _ = env.reset(jax.random.key(0))
    near = [s for s in range(len(best.value)) if 0.5 < best.value[s] < 1.0]
    assert len(near) == 5

    def act(s):
        placed = jax.tree.map(lambda x: x, obs)
        placed["env_state"] = obs["env_state"]._replace(state=jnp.int32(s))
        placed["obs"] = jnp.int32(s)
        return agent.act(None, state, placed)[0]

    actions = jax.jit(jax.vmap(act))(jnp.array(near))
    for s, action in zip(near, np.asarray(actions)):
        assert best.q[s, action] >= best.q[s].max() - 1e-5, s


@pytest.mark.slow
def test_probes():
    env = envs.with_state(envs.probe())
    network = networks.actor_critic(env, (16,))
    agent = purerl.alphazero(network, env, num_simulations=4, num_epochs=4)
    params = [envs.probe_params(name) for name in envs.PROBES]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *params)

    def run(key, env_params):
        sizes = {"num_updates": 80, "num_envs": 16, "rollout_length": 4}
        return purerl.train(key, agent, env, HPARAMS, env_params=env_params, **sizes)[0].params

    learned = jax.vmap(jax.vmap(run, (0, None)), (None, 0))(jax.random.split(jax.random.key(0), 10), stacked)
    apply = jax.jit(jax.vmap(lambda p, o: network.apply(p, {"obs": o}), (0, None)))
    for i, (name, probe) in enumerate(zip(envs.PROBES, params)):
        seen = [[-1.0], [1.0]] if probe.random_obs else [[0.0], [1.0]][: probe.length]
        for obs in map(jnp.array, seen):
            policy, value = apply(jax.tree.map(lambda x: x[i], learned), obs)
            np.testing.assert_allclose(value, envs.probe_value(probe, obs, 0.9), atol=0.1, err_msg=name)
            if "action" in name:
                assert (policy.log_probs.argmax(1) == envs.probe_action(probe, obs)).all(), name


class Linear:
    """A policy of three actions and a value, linear in two features."""

    def init(self, key, obs):
        return jax.random.normal(key, (2, 4))

    def apply(self, params, obs):
        out = obs["obs"] @ params
        return purerl.distributions.categorical(out[:3]), out[3]


def observations(x):
    """The state as `with_state` shows it; learning reads the features alone."""
    return {"obs": jnp.asarray(x), "env_state": jnp.zeros(x.shape[:-1]), "env_params": ()}


def test_one_update_by_formula():
    """Cross entropy to the search's policy and half the squared error of values, and the step down its gradient."""
    length, envs_, gamma, decay, coef, rate = 6, 4, 0.9, 0.7, 0.3, 0.1
    rng = np.random.default_rng(0)
    x, after = rng.normal(size=(2, length, envs_, 2)).astype(np.float32)
    terminated, truncated = rng.random((2, length, envs_)) < 0.2
    ended = terminated | truncated
    after[:-1][~ended[:-1]] = x[1:][~ended[:-1]]
    reward = rng.normal(size=(length, envs_)).astype(np.float32)
    policy = rng.dirichlet(np.ones(3), (length, envs_)).astype(np.float32)
    data = Transition(
        observations(x), jnp.zeros((length, envs_), jnp.int32), *map(jnp.asarray, (reward, terminated, truncated)),
        observations(after), {"policy": jnp.asarray(policy)},
    )  # fmt: skip
    agent = purerl.alphazero(Linear(), envs.probe(), optimizer=lambda hparams: optax.sgd(hparams.learning_rate))
    hparams = purerl.AlphaZeroHparams(rate, gamma, decay, coef, anneal_updates=4.0)
    state = agent.init(jax.random.key(0), purerl.hparams.cast(hparams), observations(x[0, 0]))
    state = state._replace(num_updates=jnp.int32(1))
    new, metrics = jax.jit(agent.update)(jax.random.key(1), state, data)

    params = np.asarray(state.params, float)
    target = np.zeros((length, envs_))
    for t in reversed(range(length)):
        value = after[t] @ params[:, 3]
        cut = ended[t] | (t == length - 1)
        following = np.where(cut, value, (1 - decay) * value + decay * target[min(t + 1, length - 1)])
        target[t] = reward[t] + gamma * np.where(terminated[t], 0.0, following)
    out = x @ params
    log_probs = out[..., :3] - np.log(np.exp(out[..., :3]).sum(-1, keepdims=True))
    error = target - out[..., 3]
    np.testing.assert_allclose(metrics["loss/policy"], -(policy * log_probs).sum(-1).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/value"], 0.5 * (error**2).mean(), rtol=1e-5)
    slope = np.concatenate([np.exp(log_probs) - policy, -coef * error[..., None]], axis=-1)
    step = np.einsum("tnd,tna->da", x, slope) / error.size
    np.testing.assert_allclose(new.params, params - rate * 0.75 * step, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="alphazero takes whole rollouts; rollout_episodes masks its steps"):
        agent.update(jax.random.key(1), state, data._replace(mask=jnp.ones((length, envs_))))


@pytest.mark.parametrize("max_depth", [0, -1])
def test_a_depth_that_is_not_positive_is_refused(max_depth):
    env = envs.with_state(envs.probe())
    with pytest.raises(ValueError, match=f"max_depth must be a positive integer, got {max_depth}"):
        purerl.alphazero(networks.actor_critic(env, (4,)), env, max_depth=max_depth)


def test_observations_must_tell_the_state():
    env = envs.probe()
    agent = purerl.alphazero(networks.actor_critic(env, (4,)), env)
    with pytest.raises(ValueError, match=r"envs\.with_state"):
        purerl.train(jax.random.key(0), agent, env, HPARAMS, num_updates=1, num_envs=2, rollout_length=2)


def masked_world():
    """Episodes of two steps in which action 0 alone is allowed; any other step of the model pays NaN."""
    space = Dict((("x", Box(-1.0, 1.0, (1,))), ("action_mask", Box(0, 1, (3,), "bool"))))

    def observe(time):
        return {"x": jnp.full(1, time, jnp.float32), "action_mask": jnp.arange(3) == 0}

    def reset(key, env_params=None):
        return observe(0), jnp.int32(0)

    def step(key, time, action, env_params=None):
        reward = jnp.where(action == 0, 1.0, jnp.nan).astype(jnp.float32)
        return purerl.EnvStep(observe(time + 1), time + 1, reward, time >= 1, jnp.bool_(False))

    return envs.with_state(purerl.Env(reset, step, space, Discrete(3)))


def test_the_search_takes_no_forbidden_step_of_the_model_and_learning_stays_finite():
    env = masked_world()
    agent = purerl.alphazero(networks.actor_critic(env, (4,)), env, num_simulations=8)
    sizes = {"num_updates": 2, "num_envs": 2, "rollout_length": 4}
    state, metrics = purerl.train(jax.random.key(0), agent, env, purerl.AlphaZeroHparams(), **sizes)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
    np.testing.assert_allclose(metrics["loss/policy"], 0, atol=1e-6)


def nim():
    """Two players take one or two from a pile in turns, and who takes the last one wins. Observes the pile."""

    def observe(left):
        return {"obs": left[None].astype(jnp.float32), "action_mask": jnp.stack([left >= 0, left >= 2])}

    def reset(key, env_params=None):
        left = jnp.int32(7)
        return observe(left), left

    def step(key, left, action, env_params=None):
        left = jnp.maximum(left - action - 1, 0)
        won = left == 0
        return purerl.types.EnvStep(observe(left), left, won.astype(jnp.float32), won, jnp.bool_(False))

    space = Dict((("obs", Box(0.0, 9.0, (1,))), ("action_mask", Box(0, 1, (2,), "bool"))))
    return envs.with_state(purerl.Env(reset, step, space, Discrete(2)))


def test_with_a_negative_discount_the_search_plays_for_both_sides():
    """Whoever leaves a multiple of three wins, so the best move from n takes n mod 3."""
    env = nim()
    agent = purerl.alphazero(Blank(2), env, num_simulations=64)
    obs, _ = env.reset(jax.random.key(0))
    state = agent.init(jax.random.key(0), purerl.hparams.cast(HPARAMS._replace(discount=-1.0)), obs)

    def act(left):
        inner = {"obs": left[None].astype(jnp.float32), "action_mask": jnp.stack([left >= 0, left >= 2])}
        return agent.act(None, state, {"obs": inner, "env_state": left, "env_params": None})[0]

    piles = jnp.array([1, 2, 4, 5, 7])
    assert (jax.jit(jax.vmap(act))(piles) + 1).tolist() == (piles % 3).tolist()

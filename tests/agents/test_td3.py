"""TD3 and DDPG: their losses against formulas in float64, the delay of actor and targets, noise, and probes."""

import jax
import jax.numpy as jnp
import linear_control as linear
import numpy as np
import optax
import probing
import pytest

import purerl
from purerl import combinators, envs, networks

GAMMA = 0.8
HPARAMS = purerl.TD3Hparams(
    0.05, 0.1, discount=GAMMA, tau=0.3, exploration_noise=0.5, target_noise=0.6, target_noise_clip=0.4
)


def linear_agent(**options):
    return purerl.td3(
        linear.DeterministicActor(), linear.Critic(),
        actor_optimizer=lambda hparams: optax.sgd(hparams.actor_learning_rate),
        critic_optimizer=lambda hparams: optax.sgd(hparams.critic_learning_rate), **options,
    )  # fmt: skip


def start(agent, data, hparams=HPARAMS):
    state = agent.init(jax.random.key(0), purerl.hparams.cast(hparams), data.obs[0, 0])
    return state._replace(target_params=jax.tree.map(lambda x: -x[::-1], state.params))


def least(critics, obs, action):
    return np.min([linear.features(obs, action) @ one for one in critics], axis=0)


def by_hand(key, state, data, hparams, delay):
    """The online parameters after one update, in float64."""
    obs, action, reward, factor, successor, weight = linear.read(data, GAMMA)
    (actor, critics), (target_actor, target_critics) = linear.to_numpy((state.params, state.target_params))
    size = linear.SIZE // delay
    for part, k in enumerate(jax.random.split(key, delay)):
        here = slice(part * size, (part + 1) * size)
        noise = np.clip(hparams.target_noise * linear.normals(k, size, 1)[:, 0], -0.4, 0.4)
        next_action = np.clip(2 * np.tanh(successor[here] @ target_actor) + 2 * noise, -2, 2)
        target = reward[here] + factor[here] * least(target_critics, successor[here], next_action)
        phi, w = linear.features(obs[here], action[here]), weight[here]
        critics = [one + 0.1 * phi.T @ (w * (target - phi @ one)) / size for one in critics]

    def actor_loss(actor):
        return -least(critics[:1], obs[here], 2 * np.tanh(obs[here] @ actor)).mean()

    return actor - 0.05 * linear.slope(actor_loss, actor), critics, actor_loss(actor)


@pytest.mark.parametrize(
    ("num_critics", "policy_delay", "target_noise"), [(2, 2, 0.6), (2, 3, 0.0), (1, 1, 0.0)], ids=["td3", "3", "ddpg"]
)
def test_updates_against_formulas(num_critics, policy_delay, target_noise):
    data = linear.window()
    hparams = HPARAMS._replace(target_noise=target_noise)
    agent = linear_agent(num_critics=num_critics, policy_delay=policy_delay)
    state = start(agent, data, hparams)
    update = jax.jit(agent.update)
    for i in range(2):
        key = jax.random.key(i)
        new, metrics = update(key, state, data)
        actor, critics, loss = by_hand(key, state, data, hparams, policy_delay)
        np.testing.assert_allclose(new.params.critics, critics, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(new.params.actor, actor, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(metrics["loss/actor"], loss, rtol=1e-4)
        expected = jax.tree.map(lambda old, one: 0.7 * old + 0.3 * one, state.target_params, new.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), new.target_params, expected)
        assert new.num_updates == (i + 1) * policy_delay
        assert metrics["priority"].shape == (linear.SIZE,)
        state = new


@pytest.mark.parametrize("exploration", ["white", "ou"])
def test_noise_of_acting_has_the_spread_asked_for_and_stays_in_the_bounds(exploration):
    agent = linear_agent(exploration=exploration)
    state = start(agent, linear.window())._replace(num_updates=jnp.int32(1))
    obs = jnp.array([0.3, -0.4])
    keys = jax.random.split(jax.random.key(0), (3, 4000))
    memory = () if agent.memory is None else (jax.vmap(agent.memory, (0, None))(keys[0], state),)
    act = jax.jit(jax.vmap(agent.act, (0, None, None, *[0] * len(memory))))
    for k in keys[1:]:
        actions, _, *memory = act(k, state, obs, *memory)
    greedy = probing.greedy(agent, state, obs)
    inside = np.asarray(actions)[np.abs(actions) < 2]
    assert np.abs(actions).max() == 2
    np.testing.assert_allclose(np.median(actions), greedy[0], atol=0.06)
    spread = np.abs(np.asarray(actions) - greedy)
    np.testing.assert_allclose(np.median(spread), 2 * 0.5 * 0.6745, atol=0.05)
    assert inside.size > 3000


@pytest.mark.slow
def test_all_probes_with_every_seed():
    env = envs.probe(continuous=True)
    actor, critic = (make(env, (16,), "tanh") for make in (networks.deterministic_actor, networks.critic))
    agent = purerl.td3(actor, critic)
    replayed = combinators.with_replay(agent, capacity=1024, batch_size=64)
    hparams = purerl.TD3Hparams(5e-3, 1e-2, discount=0.9, tau=0.05, exploration_noise=0.5)
    states = probing.learn(replayed, env, hparams, num_updates=800, num_envs=8, rollout_length=2).agent
    probing.check_real_actions(agent, critic, states, 0.9)


@pytest.mark.slow
def test_all_probes_with_every_seed_by_ddpg():
    env = envs.probe(continuous=True)
    actor, critic = (make(env, (16,), "tanh") for make in (networks.deterministic_actor, networks.critic))
    agent = purerl.td3(actor, critic, num_critics=1, policy_delay=1, exploration="ou")
    replayed = combinators.with_replay(agent, capacity=1024, batch_size=32, num_updates=2)
    settings = {"exploration_noise": 0.5, "target_noise": 0.0, "warmup_updates": 0}
    hparams = purerl.TD3Hparams(5e-3, 1e-2, discount=0.9, tau=0.05, **settings)
    states = probing.learn(replayed, env, hparams, num_updates=800, num_envs=8, rollout_length=2).agent
    probing.check_real_actions(agent, critic, states, 0.9)


def test_a_delay_that_does_not_divide_the_batch_and_bad_settings_are_named():
    data = linear.window()
    agent = linear_agent(policy_delay=4)
    with pytest.raises(ValueError, match="policy_delay = 4 does not divide the batch of 6 windows"):
        agent.update(jax.random.key(0), start(agent, data), data)
    with pytest.raises(ValueError, match="policy_delay must be a positive integer, got 0"):
        linear_agent(policy_delay=0)
    with pytest.raises(ValueError, match="exploration must be 'white' or 'ou', got 'pink'"):
        linear_agent(exploration="pink")
    with pytest.raises(ValueError, match="td3 needs an actor with the attribute action_space"):
        purerl.td3(object(), linear.Critic())


def acted(state, count=2000):
    act = jax.jit(jax.vmap(linear_agent().act, (0, None, None)))
    return act(jax.random.split(jax.random.key(0), count), state, jnp.array([0.3, -0.4]))[0]


def test_actions_before_learning_are_uniform_in_the_bounds():
    actions = np.sort(acted(start(linear_agent(), linear.window()))[:, 0])
    np.testing.assert_allclose(actions, np.linspace(-2, 2, len(actions)), atol=0.15)


@pytest.mark.parametrize(("warmup_updates", "num_updates"), [(0, 0), (1, 1), (3, 3)])
def test_actions_after_the_warm_up_are_those_of_the_actor(warmup_updates, num_updates):
    hparams = HPARAMS._replace(exploration_noise=0.0, warmup_updates=warmup_updates)
    state = start(linear_agent(), linear.window(), hparams)._replace(num_updates=jnp.int32(num_updates))
    greedy = linear_agent().act(None, state, jnp.array([0.3, -0.4]))[0]
    np.testing.assert_allclose(acted(state, 3), jnp.broadcast_to(greedy, (3, 1)), rtol=1e-6)


@pytest.mark.parametrize("name", ["sac", "td3"])
def test_prioritized_replay_takes_the_default_hyperparameters(name):
    env = envs.probe(continuous=True)
    actor = networks.gaussian_actor if name == "sac" else networks.deterministic_actor
    agent = getattr(purerl, name)(actor(env, (4,)), networks.critic(env, (4,)))
    agent = combinators.with_replay(agent, capacity=16, batch_size=4, prioritized=True)
    hparams = getattr(purerl, name.upper() + "Hparams")()
    sizes = {"num_updates": 2, "num_envs": 1, "rollout_length": 1}
    _, metrics = jax.eval_shape(lambda key: purerl.train(key, agent, env, hparams, **sizes), jax.random.key(0))
    assert "priority" not in metrics

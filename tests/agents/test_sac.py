"""SAC: its losses against formulas in float64, its targets and temperature, lasting noise, and what it learns."""

import jax
import jax.numpy as jnp
import linear_control as linear
import numpy as np
import optax
import probing
import pytest

import purerl
from purerl import combinators, envs, networks, presets

GAMMA, RATES = 0.8, {"actor": 0.05, "critic": 0.1, "temperature": 0.2}
HPARAMS = purerl.SACHparams(*RATES.values(), discount=GAMMA, tau=0.3, temperature=0.5, target_entropy=-0.7)


def descent(name):
    return lambda hparams: optax.sgd(getattr(hparams, f"{name}_learning_rate"))


def linear_agent(**options):
    optimizers = {f"{name}_optimizer": descent(name) for name in RATES}
    return purerl.sac(linear.GaussianActor(), linear.Critic(), **optimizers, **options)


def start(agent, data, hparams=HPARAMS):
    state = agent.init(jax.random.key(0), purerl.hparams.cast(hparams), data.obs[0, 0])
    return state._replace(target_critics=jax.tree.map(lambda x: -x[::-1], state.target_critics))


def least(critics, obs, action):
    return np.min([linear.features(obs, action) @ one for one in critics], axis=0)


@pytest.mark.parametrize("name", ["sac", "tqc", "droq", "crossq"])
def test_a_temperature_that_would_stay_at_0_is_refused(name):
    env = envs.make("Pendulum-v1")
    preset = presets.find(name, "Pendulum-v1", env)
    agent, hparams = presets.build(preset, env), presets.hparams(preset)._replace(temperature=0.0)
    with pytest.raises(ValueError, match=r"temperature = 0\.0 must be above 0"):
        purerl.train(jax.random.key(0), agent, env, hparams, num_updates=1, num_envs=1, rollout_length=1)


def test_a_temperature_that_is_fixed_may_be_0():
    assert linear_agent(learn_temperature=False).check is None


@pytest.mark.parametrize("num_critics", [1, 2])
@pytest.mark.parametrize("learn_temperature", [True, False])
def test_one_update_against_formulas(num_critics, learn_temperature):
    data = linear.window()
    agent = linear_agent(num_critics=num_critics, learn_temperature=learn_temperature)
    state = start(agent, data)
    new, metrics = jax.jit(agent.update)(jax.random.key(3), state, data)

    obs, action, reward, factor, successor, weight = linear.read(data, GAMMA)
    actor, critics = linear.to_numpy((state.params.actor, state.params.critics))
    next_noise, noise = (linear.normals(k, linear.SIZE, 1)[:, 0] for k in jax.random.split(jax.random.key(3)))
    next_action, next_log_prob = linear.sampled(actor, successor, next_noise)
    next_q = least(linear.to_numpy(state.target_critics), successor, next_action)
    target = reward + factor * (next_q - 0.5 * next_log_prob)
    phi = linear.features(obs, action)
    errors = [target - phi @ one for one in critics]
    expected = [one + 0.1 * phi.T @ (weight * error) / linear.SIZE for one, error in zip(critics, errors)]
    np.testing.assert_allclose(new.params.critics, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["loss/critic"], sum((weight * e**2).mean() / 2 for e in errors), rtol=1e-4)
    np.testing.assert_allclose(metrics["priority"], np.abs(errors).mean(0), rtol=1e-4, atol=2e-6)

    def actor_loss(actor):
        taken, log_prob = linear.sampled(actor, obs, noise)
        return (0.5 * log_prob - least(expected, obs, taken)).mean()

    np.testing.assert_allclose(metrics["loss/actor"], actor_loss(actor), rtol=1e-4)
    moved = actor - 0.05 * linear.slope(actor_loss, actor)
    np.testing.assert_allclose(new.params.actor, moved, rtol=1e-4, atol=1e-6)
    entropy = -linear.sampled(actor, obs, noise)[1].mean()
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-4)
    if learn_temperature:
        step = 0.2 * 0.5 * (entropy + 0.7)
        np.testing.assert_allclose(new.params.log_temperature, np.log(0.5) - step, rtol=1e-4)
    else:
        assert new.params.log_temperature == ()


@pytest.mark.parametrize(("target_entropy", "sign"), [(-5.0, -1), (5.0, 1)])
def test_the_temperature_falls_where_entropy_is_above_its_target_and_rises_below(target_entropy, sign):
    data = linear.window()
    agent = linear_agent()
    state = start(agent, data, HPARAMS._replace(target_entropy=target_entropy))
    new, _ = jax.jit(agent.update)(jax.random.key(0), state, data)
    assert sign * (new.params.log_temperature - state.params.log_temperature) > 0


def test_targets_move_by_tau_in_every_update():
    data = linear.window()._replace(mask=())
    agent = linear_agent()
    state = start(agent, data)
    expected = linear.to_numpy(state.target_critics)
    update = jax.jit(agent.update)
    for i in range(4):
        state, metrics = update(jax.random.key(i), state, data)
        expected = [0.7 * old + 0.3 * np.asarray(new, float) for old, new in zip(expected, state.params.critics)]
        np.testing.assert_allclose(state.target_critics, expected, rtol=1e-5)
        assert state.num_updates == i + 1
    assert "priority" not in metrics


def test_lasting_noise_has_the_spread_of_the_policy_and_the_correlation_asked_for():
    agent = linear_agent(exploration="ou")
    state = start(agent, linear.window(), HPARAMS._replace(noise_theta=0.1))
    obs = jnp.array([0.3, -0.4])
    policy = linear.GaussianActor().apply(state.params.actor, obs)

    def step(memory, key):
        action, _, memory = agent.act(key, state, obs, memory)
        return memory, action

    first = jax.vmap(agent.memory, (0, None))(jax.random.split(jax.random.key(0), 4000), state)
    keys = jax.random.split(jax.random.key(1), (4000, 6))
    _, actions = jax.jit(jax.vmap(lambda memory, keys: jax.lax.scan(step, memory, keys)))(first, keys)
    epsilon = (np.arctanh(np.asarray(actions[..., 0]) / 2) - policy.base.mean) / np.exp(policy.base.log_std)
    np.testing.assert_allclose(epsilon.std(axis=0), 1.0, atol=0.05)
    np.testing.assert_allclose(np.corrcoef(epsilon.T)[0], np.exp(-0.1 * np.arange(6)), atol=0.05)
    greedy, _, still = agent.act(None, state, obs, agent.memory(None, state))
    np.testing.assert_array_equal(greedy, policy.mode())
    assert still == 0


@pytest.mark.parametrize("num_seeds", probing.SEEDS)
def test_all_probes_with_every_seed(num_seeds):
    env = envs.probe(continuous=True)
    actor, critic = (make(env, (16,)) for make in (networks.gaussian_actor, networks.critic))
    agent = purerl.sac(actor, critic)
    replayed = combinators.with_replay(agent, capacity=1024, batch_size=32, num_updates=2)
    hparams = purerl.SACHparams(
        3e-3, 1e-2, 1e-2, discount=0.9, tau=0.05, temperature=0.1, target_entropy=-5.0
    )  # as good as deterministic in the end: an entropy bonus would be part of the value
    states = probing.learn(
        replayed, env, hparams, num_updates=800, num_envs=8, rollout_length=2, num_seeds=num_seeds
    ).agent
    probing.check_real_actions(agent, critic, states, 0.9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_critics": 0}, "num_critics must be a positive integer, got 0"),
        ({"exploration": "pink"}, "exploration must be 'white' or 'ou' or 'gsde', got 'pink'"),
        ({"exploration": "ou", "actor": object()}, "needs an actor with action_space, such as gaussian_actor"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        purerl.sac(options.pop("actor", linear.GaussianActor()), linear.Critic(), **options)

"""Preferences in control: the labeller errs as told, the agent sees the learned reward alone, the reward is found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.combinators.minibatches import with_minibatches
from purerl.rlhf import LearnerHparams, control
from purerl.types import Box, Env, EnvStep, Transition

SPACE = Box(-1, 1, (2,))


def true_reward(obs, action):
    return obs[0] - jnp.square(action[0])


def drift():
    """Observations are drawn afresh in every step."""

    def reset(key, env_params=None):
        return jax.random.uniform(key, (2,), minval=-1), jnp.zeros(2)

    def step(key, env_state, action, env_params=None):
        obs = jax.random.uniform(key, (2,), minval=-1)
        return EnvStep(obs, obs, jnp.float32(99), jnp.bool_(False), jnp.bool_(False), {"secret": jnp.float32(99)})

    return Env(reset, step, SPACE, Box(-1, 1, (1,)))


def trajectory(key, steps=200, envs=8):
    obs = jax.random.uniform(key, (steps, envs, 2), minval=-1)
    action = jax.random.uniform(jax.random.fold_in(key, 1), (steps, envs, 1), minval=-1)
    no = jnp.zeros((steps, envs), bool)
    reward = jax.vmap(jax.vmap(true_reward))(obs, action)
    return Transition(obs, action, reward, no, no, obs)


def test_nothing_of_the_true_reward_reaches_the_agent():
    env = control.with_learned_reward(drift())
    members = jax.vmap(lambda k: control.init_member(k, 3))(jax.random.split(jax.random.key(0), 2))
    inputs = control.Scaling(jnp.array([0.1, 0.2, -0.3]), jnp.array([1.0, 2.0, 0.5]))
    outputs = control.Scaling(jnp.array([0.5, -0.5]), jnp.array([2.0, 4.0]))
    learned = control.LearnedReward(members, inputs, outputs)
    obs, state = env.reset(jax.random.key(1), learned)
    action = jnp.array([0.3])
    step = env.step(jax.random.key(2), state, action, learned)
    x = (jnp.concatenate([obs, action]) - inputs.mean) / inputs.scale
    each = [control.apply_member(jax.tree.map(lambda p, i=i: p[i], members), x) for i in range(2)]
    expected = ((each[0] - 0.5) / 2 + (each[1] + 0.5) / 4) / 2
    assert float(step.reward) == pytest.approx(float(expected), abs=1e-5)
    assert step.info == ()
    with pytest.raises(ValueError, match="env_params"):
        env.step(jax.random.key(2), state, action)


def test_segments_are_consecutive_steps_of_one_environment():
    data = trajectory(jax.random.key(0), steps=20, envs=3)
    data = data._replace(obs=jnp.stack(jnp.meshgrid(jnp.arange(20.0), jnp.arange(3.0), indexing="ij"), axis=-1))
    cut = control.segments(jax.random.key(1), data, rows=50, length=5)
    time, column = cut.features[..., 0], cut.features[..., 1]
    assert (jnp.diff(time, axis=1) == 1).all()
    assert (column == column[:, :1]).all()
    assert time.min() == 0
    assert time.max() == 19
    np.testing.assert_allclose(cut.reward, data.reward[time.astype(int), column.astype(int)])


def test_the_labeller_answers_at_random_as_often_as_told():
    better, worse = (control.Segments(jnp.zeros((20_000, 1, 1)), jnp.full((20_000, 1), r)) for r in (1.0, 0.0))
    assert control.ask(jax.random.key(0), better, worse, 0.0).preference.min() == 1
    assert control.ask(jax.random.key(0), better, worse, 0.1).preference.mean() == pytest.approx(0.95, abs=0.01)


def test_the_ensemble_finds_the_reward_behind_noisy_answers():
    data = trajectory(jax.random.key(0))
    pair = [control.segments(jax.random.key(i), data, 400, 10) for i in (1, 2)]
    asked = control.ask(jax.random.key(3), *pair, 0.1)
    asked = asked._replace(first=30 * asked.first + 7, second=30 * asked.second + 7)  # whatever the units
    agent = with_minibatches(control.ensemble_agent(2, 0.1), 400)
    fresh = control.segments(jax.random.key(5), trajectory(jax.random.key(6)), 500, 1)
    x = 30 * fresh.features[:, 0] + 7
    reward = control.fit_reward(jax.random.key(4), agent, asked, LearnerHparams(3e-3), 200, x)
    learned = control.learned_reward(reward, x)
    assert np.corrcoef(learned, fresh.reward[:, 0])[0, 1] > 0.9
    assert float(jnp.mean(learned)) == pytest.approx(0, abs=1e-3)


def test_answers_add_up_over_the_rounds_and_are_repeated_to_one_size():
    sizes = control.ControlSizes(num_rounds=3, first_labels=6, labels_per_round=4, segment_length=5)
    asked = None
    for number in range(2):
        asked = control._ask(jax.random.key(number), trajectory(jax.random.key(number)), asked, sizes)
    assert asked.row.tolist() == list(range(10))
    table = control._repeated(asked, sizes.num_labels)
    assert table.row.tolist() == [*range(10), *range(4)]
    np.testing.assert_array_equal(table.first[10:], asked.first[:4])


def test_a_row_keeps_its_weights_in_whatever_minibatch():
    pair = [control.segments(jax.random.key(i), trajectory(jax.random.key(0)), 6, 5) for i in (1, 2)]
    asked = control.ask(jax.random.key(3), *pair, 0.1)
    agent = control.ensemble_agent(3, 0.1, weight_decay=0.0)
    state = agent.init(jax.random.key(4), LearnerHparams(), asked)
    update = jax.jit(lambda data: agent.update(jax.random.key(5), state, data)[1]["loss/total"])

    def loss(rows):
        return float(update(jax.tree.map(lambda x: x[jnp.array(rows)], asked)))

    assert loss([0, 1, 2, 3, 4, 5]) == pytest.approx(loss([3, 1, 5, 0, 2, 4]), rel=1e-5)
    assert asked.row.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.slow
def test_pendulum_swings_up_from_700_labels():
    from purerl.combinators import with_observation_normalization, with_reward_scaling

    env = purerl.envs.make("Pendulum-v1")
    agent = purerl.ppo(purerl.networks.actor_critic(env), num_epochs=10, num_minibatches=16)
    agent = with_reward_scaling(with_observation_normalization(agent))
    hparams = purerl.PPOHparams(learning_rate=1e-3, discount=0.9, entropy_coef=0.0, anneal_updates=420)
    result = control.learn_from_preferences(jax.random.key(0), agent, env, hparams)
    episodes = purerl.evaluate(jax.random.key(1), agent, env, result.state, num_episodes=64, max_steps=200)
    assert episodes.episode_return.mean() >= -250
    assert result.correlation >= 0.85

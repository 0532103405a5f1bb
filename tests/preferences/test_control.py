"""Preferences in control: the labeller errs as told, the agent sees the learned reward alone, the reward is found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.combinators.minibatches import with_minibatches
from purerl.preferences import AdamHparams, control, reward_ensemble
from purerl.spaces import Box, Discrete
from purerl.types import Env, EnvStep, Transition

SPACE, ACTIONS = Box(-1, 1, (2,)), Box(-1, 1, (1,))


def true_reward(obs, action):
    return obs[0] - jnp.square(action[0])


def drift():
    """Observations are drawn afresh in every step."""

    def reset(key, env_params=None):
        return jax.random.uniform(key, (2,), minval=-1), jnp.zeros(2)

    def step(key, env_state, action, env_params=None):
        obs = jax.random.uniform(key, (2,), minval=-1)
        return EnvStep(obs, obs, jnp.float32(99), jnp.bool_(False), jnp.bool_(False), {"secret": jnp.float32(99)})

    return Env(reset, step, SPACE, ACTIONS)


def steps_of(key, steps=200, envs=8):
    return control.steps_of(trajectory(key, steps, envs), ACTIONS)


def trajectory(key, steps=200, envs=8):
    obs = jax.random.uniform(key, (steps, envs, 2), minval=-1)
    action = jax.random.uniform(jax.random.fold_in(key, 1), (steps, envs, 1), minval=-1)
    no = jnp.zeros((steps, envs), bool)
    reward = jax.vmap(jax.vmap(true_reward))(obs, action)
    return Transition(obs, action, reward, no, no, obs)


def test_nothing_of_the_true_reward_reaches_the_agent():
    env = reward_ensemble.with_learned_reward(drift())
    members = jax.vmap(lambda k: reward_ensemble.init_member(k, 3))(jax.random.split(jax.random.key(0), 2))
    inputs = reward_ensemble.Scaling(jnp.array([0.1, 0.2, -0.3]), jnp.array([1.0, 2.0, 0.5]))
    outputs = reward_ensemble.Scaling(jnp.array([0.5, -0.5]), jnp.array([2.0, 4.0]))
    learned = reward_ensemble.LearnedReward(members, inputs, outputs)
    obs, state = env.reset(jax.random.key(1), learned)
    action = jnp.array([1.3])  # beyond the bounds of 1, within which the environment takes it
    step = env.step(jax.random.key(2), state, action, learned)
    x = (jnp.concatenate([obs, jnp.array([1.0])]) - inputs.mean) / inputs.scale
    each = [reward_ensemble.apply_member(jax.tree.map(lambda p, i=i: p[i], members), x) for i in range(2)]
    expected = ((each[0] - 0.5) / 2 + (each[1] + 0.5) / 4) / 2
    assert float(step.reward) == pytest.approx(float(expected), abs=1e-5)
    assert step.info == ()
    with pytest.raises(ValueError, match="env_params"):
        env.step(jax.random.key(2), state, action)


def test_segments_are_consecutive_steps_of_one_environment():
    data = trajectory(jax.random.key(0), steps=20, envs=3)
    data = data._replace(obs=jnp.stack(jnp.meshgrid(jnp.arange(20.0), jnp.arange(3.0), indexing="ij"), axis=-1))
    steps = control.steps_of(data._replace(action=3 * data.action), ACTIONS)
    np.testing.assert_array_equal(steps.features[..., 2:], jnp.clip(3 * data.action, -1, 1))
    cut = control.segments(jax.random.key(1), steps, rows=50, length=5)
    time, column = cut.features[..., 0], cut.features[..., 1]
    assert (jnp.diff(time, axis=1) == 1).all()
    assert (column == column[:, :1]).all()
    assert time.min() == 0
    assert time.max() == 19
    np.testing.assert_allclose(cut.reward, data.reward[time.astype(int), column.astype(int)])


def test_an_action_out_of_a_finite_set_is_one_hot():
    found = reward_ensemble.features({"a": jnp.array([0.5]), "b": jnp.array(2.0)}, jnp.int32(1), Discrete(3))
    assert found.tolist() == [0.5, 2.0, 0.0, 1.0, 0.0]


def test_the_labeller_answers_at_random_as_often_as_told():
    better, worse = (control.Segments(jnp.zeros((20_000, 1, 1)), jnp.full((20_000, 1), r)) for r in (1.0, 0.0))
    assert control.ask(jax.random.key(0), better, worse, 0.0).preference.min() == 1
    assert control.ask(jax.random.key(0), better, worse, 0.1).preference.mean() == pytest.approx(0.95, abs=0.01)


def test_the_labeller_is_indifferent_between_equal_returns():
    first, second = (control.Segments(jnp.zeros((3, 2, 1)), jnp.array(r)) for r in ([[1.0, 2], [0, 1], [0, 0]],) * 2)
    assert control.ask(jax.random.key(0), first, second, 0.0).preference.tolist() == [0.5] * 3


def test_segments_longer_than_the_trajectory_are_refused():
    steps = control.Segments(jnp.zeros((4, 2, 1)), jnp.zeros((4, 2)))
    assert control.segments(jax.random.key(0), steps, rows=1, length=4).reward.shape == (1, 4)
    with pytest.raises(ValueError, match="length = 5 exceeds the 4 steps"):
        control.segments(jax.random.key(0), steps, rows=1, length=5)


def test_segments_longer_than_two_rollouts_are_refused_before_anything_is_compiled():
    sizes = control.ControlSizes(segment_length=17, rollout_length=8)
    with pytest.raises(ValueError, match=r"segment_length = 17 exceeds 2 \* rollout_length = 16"):
        control.learn_from_preferences(jax.random.key(0), None, drift(), purerl.PPOHparams(), sizes)


@pytest.mark.parametrize("constant", [0.0, 0.1, -3e4])
def test_a_feature_that_was_constant_keeps_its_scale(constant):
    rows = jax.random.normal(jax.random.key(0), (1000, 7, 2)).at[..., 1].set(constant)
    found = reward_ensemble.scaling(rows).apply(jnp.array([0.0, constant + 1]))
    assert found[1] == pytest.approx(1, abs=0.02)


@pytest.mark.slow
def test_the_ensemble_finds_the_reward_behind_noisy_answers():
    data = steps_of(jax.random.key(0))
    pair = [control.segments(jax.random.key(i), data, 400, 10) for i in (1, 2)]
    asked = control.ask(jax.random.key(3), *pair, 0.1)
    asked = asked._replace(first=30 * asked.first + 7, second=30 * asked.second + 7)  # whatever the units
    agent = with_minibatches(reward_ensemble.ensemble_agent(2, 0.1), 400)
    fresh = control.segments(jax.random.key(5), steps_of(jax.random.key(6)), 500, 1)
    x = 30 * fresh.features[:, 0] + 7
    reward = reward_ensemble.fit_reward(jax.random.key(4), agent, asked, AdamHparams(3e-3), 200, x)
    learned = reward_ensemble.learned_reward(reward, x)
    assert np.corrcoef(learned, fresh.reward[:, 0])[0, 1] > 0.9
    assert float(jnp.mean(learned)) == pytest.approx(0, abs=1e-3)


def test_answers_add_up_over_the_rounds_and_are_repeated_to_one_size():
    sizes = control.ControlSizes(num_rounds=3, first_labels=6, labels_per_round=4, segment_length=5)
    asked = None
    for number in range(2):
        asked = control._ask(jax.random.key(number), steps_of(jax.random.key(number)), asked, sizes)
    assert asked.row.tolist() == list(range(10))
    table = control._repeated(asked, sizes.num_labels)
    assert table.row.tolist() == [*range(10), *range(4)]
    np.testing.assert_array_equal(table.first[10:], asked.first[:4])


def test_a_row_keeps_its_weights_in_whatever_minibatch():
    pair = [control.segments(jax.random.key(i), steps_of(jax.random.key(0)), 6, 5) for i in (1, 2)]
    asked = control.ask(jax.random.key(3), *pair, 0.1)
    agent = reward_ensemble.ensemble_agent(3, 0.1, weight_decay=0.0)
    state = agent.init(jax.random.key(4), AdamHparams(), asked)
    update = jax.jit(lambda data: agent.update(jax.random.key(5), state, data)[1]["loss/total"])

    def loss(rows):
        return float(update(jax.tree.map(lambda x: x[jnp.array(rows)], asked)))

    assert loss([0, 1, 2, 3, 4, 5]) == pytest.approx(loss([3, 1, 5, 0, 2, 4]), rel=1e-5)
    assert asked.row.tolist() == [0, 1, 2, 3, 4, 5]


def test_rounds_are_told_of_as_they_end():
    env = drift()
    agent = purerl.ppo(purerl.networks.actor_critic(env, hidden=(8,)), num_epochs=1, num_minibatches=1)
    sizes = control.ControlSizes(2, 20, 10, 5, num_members=2, reward_updates=2, batch_size=10, rl_updates=1)
    sizes = sizes._replace(last_updates=1, num_envs=2, rollout_length=8)
    told = []
    result = control.learn_from_preferences(jax.random.key(0), agent, env, purerl.PPOHparams(), sizes, told.append)
    assert result.rounds.num_labels.tolist() == [20, 30] == [int(r.num_labels) for r in told]
    assert int(result.state.num_updates) == sizes.num_updates == 2
    assert result.rounds.true_reward.tolist() == [99, 99]
    assert result.steps.features.shape == (16, 2, 3)


@pytest.mark.slow
def test_pendulum_swings_up_from_700_labels():
    from purerl.experiments import pendulum

    found = pendulum.run(jax.random.key(0), pendulum.task())
    assert found.greedy_return >= -200
    assert found.result.rounds.correlation[-1] >= 0.85

"""The values that agents are tested against, themselves tested against a search over all actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import envs

ACTIONS = {False: jnp.array([0, 1]), True: jnp.linspace(-1, 1, 9)[:, None]}  # contains the best real actions, ±1/2
DISCOUNT = 0.75


@pytest.fixture(scope="module", params=[False, True], ids=["discrete", "continuous"])
def play(request):
    """Of all sequences of two actions: observations, rewards and ends of two steps; one program for all probes."""
    env, traces = envs.probe(continuous=request.param), []

    @jax.jit
    def run(key, params):
        traces.append(1)
        first, state = env.reset(key, params)

        def sequence(a, b):
            one = env.step(key, state, a, params)
            two = env.step(key, one.env_state, b, params)
            return jnp.stack([one.reward, two.reward]), jnp.stack([one.terminated, two.terminated]), one.obs

        actions = ACTIONS[request.param]
        pairs = jnp.repeat(actions, len(actions), 0), jnp.tile(actions, (len(actions), *[1] * (actions.ndim - 1)))
        return first, *jax.vmap(sequence)(*pairs)

    yield request.param, run
    assert len(traces) == 1


def best_values(play, name, key):
    """(observation, best discounted return from it) pairs of one episode, by trying everything."""
    first, reward, terminated, second = map(np.asarray, play(key, envs.probe_params(name)))
    assert terminated[:, 0].all() or (terminated[:, 1].all() and not terminated[:, 0].any())
    if terminated[0, 0]:
        return [(first, reward[:, 0].max())]
    return [(first, (reward[:, 0] + DISCOUNT * reward[:, 1]).max()), (second[0], reward[:, 1].max())]


@pytest.mark.parametrize("name", envs.PROBES)
def test_values_are_what_the_best_actions_earn(play, name):
    continuous, run = play
    seen = set()
    for seed in range(8):
        for obs, value in best_values(run, name, jax.random.key(seed)):
            claimed = envs.probe_value(envs.probe_params(name), obs, DISCOUNT, continuous=continuous)
            np.testing.assert_allclose(claimed, value, atol=1e-6)
            seen.add(float(obs[0]))
    assert seen == {"value_constant": {0}, "action": {0}, "discounting": {0, 1}}.get(name, {-1, 1})


@pytest.mark.parametrize(
    ("name", "obs", "value"),
    [
        ("value_constant", 0, 1),
        ("value_of_observation", -1, -1),
        ("value_of_observation", 1, 1),
        ("discounting", 0, DISCOUNT),
        ("discounting", 1, 1),
        ("action", 0, 1),
        ("action_and_observation", -1, 1),
        ("action_and_observation", 1, 1),
    ],
)
def test_values_written_out(name, obs, value):
    params, obs = envs.probe_params(name), jnp.full((2, 3, 1), float(obs))
    claimed = envs.probe_value(params, obs, DISCOUNT)
    assert claimed.shape == (2, 3)
    np.testing.assert_array_equal(claimed, value)
    if name.startswith("action"):
        np.testing.assert_array_equal(envs.probe_value(params, obs, DISCOUNT, continuous=True), 0)


def test_wrong_actions_cost():
    discrete, continuous = envs.probe(), envs.probe(continuous=True)
    for seed in range(4):
        for name in ("action", "action_and_observation"):
            key, params = jax.random.key(seed), envs.probe_params(name)
            obs, state = discrete.reset(key, params)
            best = envs.probe_action(params, obs)
            assert best == (1 if name == "action" else int(obs[0] > 0))
            assert [discrete.step(key, state, a, params).reward for a in (best, 1 - best)] == [1, -1]
            best = envs.probe_action(params, obs, continuous=True)
            assert continuous.step(key, state, best, params).reward == 0
            assert continuous.step(key, state, -best, params).reward == -1
            assert continuous.step(key, state, 99 * best, params).reward == -0.25  # clipped to ±1


def test_probe_is_one_object_with_the_constant_as_default():
    assert envs.probe() is envs.probe()
    assert envs.probe(continuous=True) is envs.probe(continuous=True)
    obs, state = envs.probe().reset(jax.random.key(0))
    result = envs.probe().step(jax.random.key(0), state, 0)
    assert (obs.tolist(), float(result.reward), bool(result.terminated)) == ([0.0], 1.0, True)
    with pytest.raises(ValueError, match="did you mean 'discounting'"):
        envs.probe_params("discount")


@pytest.mark.parametrize("continuous", [False, True])
def test_endless_never_ends_and_marks_its_first_step(continuous):
    env = envs.endless(continuous=continuous)
    params = envs.EndlessParams(first_reward=11.0, mark_first=True)
    obs, state = env.reset(jax.random.key(0), params)
    observations, rewards = [obs.item()], []
    for _ in range(4):
        result = env.step(jax.random.key(0), state, jnp.zeros(env.action_space.shape), params)
        assert not result.terminated
        assert not result.truncated
        state = result.env_state
        observations.append(result.obs.item())
        rewards.append(result.reward.item())
    assert observations == [1, 0, 0, 0, 0]
    assert rewards == [11, 1, 1, 1]
    obs, state = env.reset(jax.random.key(0))
    assert obs.tolist() == [0.0]
    assert env.step(jax.random.key(0), state, jnp.zeros(env.action_space.shape)).reward == 1


def test_an_argument_that_is_the_default_makes_the_same_environment():
    assert envs.probe(continuous=False) is envs.probe()
    assert envs.endless(continuous=False) is envs.endless()
    assert envs.bandit_testbed(10) is envs.bandit_testbed(num_arms=10) is envs.bandit_testbed()
    assert envs.traffic_light(envs.TrafficParams()) is envs.traffic_light()

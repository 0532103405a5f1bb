"""Environments as those of Gymnasium, which its own checker and vector tools accept; and its functional API read."""

import warnings

import gymnasium
import gymnasium.experimental.functional
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from purerl import envs
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple
from purerl.types import Env, EnvStep

TWO = Discrete(2)


def clock(space, observe, action_space=TWO, limit=3):
    """Observes the time; ends after `limit` steps, by termination if the last action was 1, else by truncation."""

    def reset(key, env_params=None):
        return observe(jnp.int32(0)), jnp.int32(0)

    def step(key, time, action, env_params=None):
        time = time + 1
        over, ended = time >= limit, jnp.ravel(jnp.asarray(action))[0] > 0
        return EnvStep(observe(time), time, time.astype(jnp.float32), over & ended, over & ~ended, {"time": time})

    return Env(reset, step, space, action_space)


PLAIN = clock(Box(0.0, 9.0, (2,)), lambda t: jnp.full(2, t, jnp.float32))
MIXED = clock(
    Dict({"count": Discrete(9), "both": Tuple((MultiDiscrete((9, 9)), Box(0, 1, (2,), "bool")))}),
    lambda t: {"count": t, "both": (jnp.stack([t, t]), jnp.stack([t > 0, t > 1]))},
    Box(-1.0, 1.0, (2,)),
)


@pytest.mark.parametrize("env", [PLAIN, MIXED], ids=["plain", "mixed"])
def test_gymnasium_s_checker_accepts_it(env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(gamma|symmetric and normalized|deprecat|render|metadata).*")
        check_env(envs.to_gymnasium(env), skip_render_check=True)


def test_the_two_ends_reach_gymnasium_apart():
    theirs = envs.to_gymnasium(PLAIN)
    ends = []
    for action in (0, 1):
        theirs.reset(seed=0)
        steps = [theirs.step(action) for _ in range(3)]
        ends.append(steps[-1][2:4])
        assert [step[1] for step in steps] == [1, 2, 3]
        assert steps[-1][4] == {"time": 3}
    assert ends == [(False, True), (True, False)]


def test_a_vector_keeps_the_true_successor_and_comes_back_as_a_host_environment():
    vector = envs.to_gymnasium(PLAIN, 2)
    assert isinstance(vector, gymnasium.vector.VectorEnv)
    host = envs.from_gymnasium(vector)
    np.testing.assert_array_equal(host.reset(0), np.zeros((2, 2)))
    steps = [host.step(np.array([0, 1])) for _ in range(4)]
    np.testing.assert_array_equal(steps[2].next_obs, np.full((2, 2), 3))
    np.testing.assert_array_equal(steps[2].obs, np.zeros((2, 2)))
    assert (steps[2].terminated.tolist(), steps[2].truncated.tolist()) == ([False, True], [True, False])
    np.testing.assert_array_equal(steps[3].obs, np.ones((2, 2)))
    assert vector.step(np.array([0, 0]))[0] in vector.observation_space


def test_the_functional_api_is_that_of_gymnasium():
    from gymnasium.envs.phys2d.cartpole import CartPoleFunctional

    theirs = CartPoleFunctional()
    env = envs.from_functional(theirs, max_steps=5)
    obs, state = env.reset(jax.random.key(0))
    inner = state.env_state
    for t in range(5):
        new = env.step(jax.random.key(t), state, jnp.int32(1))
        inner = theirs.transition(inner, 1, None, theirs.default_params)
        np.testing.assert_allclose(new.obs, theirs.observation(inner, None, theirs.default_params), rtol=1e-6)
        assert bool(new.terminated) == bool(theirs.terminal(inner, None, theirs.default_params))
        state = new.env_state
    assert (env.max_steps, bool(new.truncated), env.action_space.n) == (5, True, 2)
    assert obs.shape == env.observation_space.shape


class Sum(gymnasium.experimental.functional.FuncEnv):
    """The state is the sum of the actions, and observed as `shown` says."""

    def __init__(self, observation_space, action_space, shown):
        super().__init__()
        self.observation_space, self.action_space, self.shown = observation_space, action_space, shown
        self.default_params = ()

    def initial(self, rng, params=None):
        return jnp.int32(0)

    def transition(self, state, action, rng, params=None):
        return state + jnp.sum(action)

    def observation(self, state, rng, params=None):
        return self.shown(state)

    def reward(self, state, action, next_state, rng, params=None):
        return next_state

    def terminal(self, state, rng, params=None):
        return state > 99


@pytest.mark.parametrize(
    ("observation_space", "shown", "expected"),
    [
        (spaces.Discrete(50, start=-3), lambda state: state, 10),
        (spaces.MultiDiscrete([50, 50], start=[1, 7]), lambda state: jnp.stack([state, state]), [6, 0]),
        (spaces.Dict({"sum": spaces.Discrete(50)}), lambda state: {"sum": state}, {"sum": 7}),
    ],
)
def test_integers_of_the_functional_api_are_counted_from_0_and_parts_keep_their_names(
    observation_space, shown, expected
):
    env = envs.check(envs.from_functional(Sum(observation_space, spaces.MultiDiscrete([3, 3], start=[2, 3]), shown)))
    _, state = env.reset(jax.random.key(0))
    new = env.step(jax.random.key(0), state, jnp.array([0, 2]))
    assert jax.tree.map(np.ndarray.tolist, jax.device_get(new.obs)) == expected


def test_images_with_channels_first_are_refused_or_transposed():
    from purerl import networks

    first = clock(Box(0, 255, (4, 40, 36), "uint8"), lambda t: jnp.full((4, 40, 36), t, jnp.uint8).at[1].set(7))
    with pytest.raises(ValueError, match=r"\(4, 40, 36\), which looks like an image with its channels first"):
        networks.actor_critic(first)
    last = envs.channels_last(first)
    networks.actor_critic(last)
    obs, _ = last.reset(jax.random.key(0))
    assert obs.shape == last.observation_space.shape == (40, 36, 4)
    assert np.unique(obs[..., 1]).tolist() == [7]
    host = envs.from_gymnasium(envs.to_gymnasium(first, 2))
    assert host.reset(0).shape == (2, 40, 36, 4)
    assert host.observation_space == last.observation_space


def test_cached_resets_are_a_sample_and_episodes_from_one_start_differ():
    def reset(key, env_params=None):
        where_key, own = jax.random.split(key)
        where = jax.random.uniform(where_key)
        return where, (where, own)

    env = envs.cached_resets(Env(reset, PLAIN.step, Box(0.0, 1.0), Discrete(2)), 3)
    starts, states = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), 50))
    assert len(np.unique(starts)) == 3
    assert len(np.unique(jax.random.key_data(states[1]), axis=0)) == 50
    with pytest.raises(ValueError, match="pass no env_params"):
        env.reset(jax.random.key(0), ())


FLAG = Box(0, 1, (), "bool")


@pytest.mark.parametrize("num_envs", [None, 3])
def test_a_single_flag_is_an_element_of_its_space(num_envs):
    theirs = envs.to_gymnasium(clock(FLAG, lambda t: t > 0), num_envs)
    obs, _ = theirs.reset(seed=0)
    assert theirs.observation_space.contains(obs)
    assert theirs.observation_space.contains(theirs.step(theirs.action_space.sample())[0])


@pytest.mark.parametrize("num_envs", [None, 3])
@pytest.mark.parametrize("space", [FLAG, Box(0, 1, (2,), "bool"), Tuple((FLAG, TWO)), Dict({"flag": FLAG})])
def test_flags_reach_the_environment_as_its_space_says(space, num_envs):
    seen = []

    def step(key, env_state, action, env_params=None):
        seen.append(jax.tree.map(lambda x: (x.shape, x.dtype == bool), action))
        return EnvStep(jnp.float32(0), env_state, jnp.float32(0), jnp.bool_(False), jnp.bool_(False))

    env = Env(lambda key, env_params=None: (jnp.float32(0), ()), step, Box(0.0, 1.0), space)
    theirs = envs.to_gymnasium(env, num_envs)
    theirs.reset(seed=0)
    seen.clear()
    theirs.step(theirs.action_space.sample())
    expected = (
        {"flag": ((), True)} if isinstance(space, Dict) else (space.shape, True) if isinstance(space, Box) else None
    )
    assert seen == [((((), True)), ((), False)) if expected is None else expected]

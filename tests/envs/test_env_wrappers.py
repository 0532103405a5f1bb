"""The wrappers against plain Python loops over a small environment whose episodes are known."""

import collections
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import envs
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple
from purerl.types import Env, EnvStep


class CountParams(NamedTuple):
    end: int = 100  # steps until the episode terminates
    cut: int = 100  # steps until its own time limit


def counting_env(observe, space):
    """Observes `observe(start + time)`; the start comes from the reset's key; actions do nothing."""

    def reset(key, env_params=None):
        start = jax.random.randint(key, (), 0, 5)
        return observe(start), (start, jnp.int32(0))

    def step(key, env_state, action, env_params=None):
        params = CountParams() if env_params is None else env_params
        start, time = env_state[0], env_state[1] + 1
        terminated = time >= params.end
        truncated = (time >= params.cut) & ~terminated
        return EnvStep(observe(start + time), (start, time), jnp.float32(1), terminated, truncated, {"time": time})

    return Env(reset, step, space, Discrete(2))


def numbered(t):
    return jnp.stack([t, 10.0 * t]).astype(jnp.float32)


def structured(t):
    return {
        "action_mask": jnp.stack([t % 2 == 0, True]),
        "image": (t + jnp.arange(12).reshape(2, 3, 2)).astype(jnp.float32),
        "pair": (t % 7, jnp.stack([t % 2, t % 3])),
    }


VECTOR = counting_env(numbered, Box((0.0, 0.0), (120.0, 1200.0), (2,)))
SCALAR = counting_env(lambda t: t % 7, Discrete(7))
STRUCTURE = counting_env(
    structured,
    Dict(
        (
            ("pair", Tuple((Discrete(7), MultiDiscrete((2, 3))))),
            ("action_mask", Box(0.0, 1.0, (2,), "bool")),
            ("image", Box(tuple(map(float, range(12))), 200.0, (2, 3, 2))),
        )
    ),
)


def play(env, key, length, env_params=None):
    """The observations (first one included) and the steps of `length` steps from one reset, jitted as one program."""

    @jax.jit
    def run(key, env_params):
        obs, state = env.reset(key, env_params)

        def body(state, _):
            result = env.step(key, state, jnp.int32(0), env_params)
            return result.env_state, result._replace(env_state=())

        return obs, jax.lax.scan(body, state, None, length)[1]

    first, steps = jax.tree.map(np.asarray, run(key, env_params))
    return [first, *(jax.tree.map(lambda leaf, i=i: leaf[i], steps.obs) for i in range(length))], steps


@pytest.mark.parametrize("limit", [1, 3, 6])
def test_time_limit_combines_with_the_ends_of_the_environment(limit):
    env = envs.time_limit(VECTOR, limit)
    cases = [(end, cut) for end in (2, 3, 100) for cut in (1, 3, 100)]
    params = CountParams(*map(jnp.asarray, zip(*cases)))

    @jax.jit
    @jax.vmap
    def flags(params):
        _, state = env.reset(jax.random.key(0), params)

        def body(state, _):
            result = env.step(jax.random.key(0), state, 0, params)
            return result.env_state, (result.terminated, result.truncated)

        return jax.lax.scan(body, state, None, 6)[1]

    terminated, truncated = flags(params)
    for case, (end, cut) in enumerate(cases):
        for i in range(6):
            time = i + 1
            assert terminated[case, i] == (time >= end)
            assert truncated[case, i] == ((time >= cut or time >= limit) and not time >= end)


def test_wrappers_know_the_limit_and_draw_the_state_inside():
    drawn = counting_env(numbered, Box(0.0, 99.0, (2,)))._replace(render=lambda env_state: env_state[1], max_steps=10)
    wrapped = envs.frame_stack(envs.time_limit(envs.action_repeat(drawn, 3), 7), 2)
    assert wrapped.max_steps == 4
    assert envs.time_limit(drawn, 3).max_steps == 3
    _, env_state = wrapped.reset(jax.random.key(0))
    assert wrapped.render(wrapped.step(jax.random.key(0), env_state, 0).env_state) == 3


def test_the_limit_and_the_name_of_an_environment_made_by_name():
    env = envs.make("CartPole-v1", max_steps_in_episode=20)
    assert (env.max_steps, env.id) == (20, "CartPole-v1")
    assert (envs.make("TrafficLight-v0").id, envs.endless().max_steps) == ("TrafficLight-v0", None)


def test_time_limit_counts_anew_after_a_reset():
    env = envs.time_limit(envs.endless(), 4)
    step, truncated = jax.jit(env.step), []
    _, state = env.reset(jax.random.key(0))
    for _ in range(10):
        result = step(jax.random.key(0), state, 0)
        truncated.append(bool(result.truncated))
        state = env.reset(jax.random.key(0))[1] if result.truncated else result.env_state
    assert truncated == [False, False, False, True] * 2 + [False, False]


def test_time_limit_shows_the_true_successor():
    observations, steps = play(envs.time_limit(VECTOR, 2), jax.random.key(0), 2)
    assert steps.truncated.tolist() == [False, True]
    np.testing.assert_array_equal(observations[2] - observations[0], [2, 20])


@pytest.mark.parametrize(
    ("inner", "num_frames"),
    [(VECTOR, 1), (VECTOR, 3), (SCALAR, 3), (STRUCTURE, 3)],
    ids=["vector-1", "vector-3", "scalar-3", "structure-3"],
)
def test_frame_stack_holds_the_last_observations(inner, num_frames):
    plain, _ = play(inner, jax.random.key(3), 5)
    env = envs.frame_stack(inner, num_frames)
    stacked, steps = play(env, jax.random.key(3), 5)
    frames = collections.deque([plain[0]] * num_frames, maxlen=num_frames)
    for newest, seen in zip(plain, stacked):
        frames.append(newest)
        expected = jax.tree.map(lambda *leaves: np.concatenate([np.atleast_1d(x) for x in leaves], axis=-1), *frames)
        if isinstance(expected, dict):
            expected["action_mask"] = newest["action_mask"]
        jax.tree.map(np.testing.assert_array_equal, seen, expected)
        assert_in_space(env.observation_space, seen)
    assert steps.info["time"].tolist() == [1, 2, 3, 4, 5]


def test_frame_stack_keeps_the_bounds_with_their_elements():
    space = envs.frame_stack(VECTOR, 2).observation_space
    assert space == Box(0.0, (120.0, 1200.0, 120.0, 1200.0), (4,))
    space = envs.frame_stack(STRUCTURE, 2).observation_space
    assert space["action_mask"] == STRUCTURE.observation_space["action_mask"]
    low = np.arange(12).reshape(2, 3, 2)
    np.testing.assert_array_equal(space["image"].bounds()[0], np.concatenate([low, low], axis=-1))
    assert space["pair"] == Tuple((MultiDiscrete((7, 7)), MultiDiscrete((2, 3, 2, 3))))


def test_flatten_orders_the_leaves_as_the_space_does():
    env = envs.flatten(STRUCTURE)
    plain, _ = play(STRUCTURE, jax.random.key(3), 4)
    flat, _ = play(env, jax.random.key(3), 4)
    for obs, seen in zip(plain, flat):
        number, pair = obs["pair"]
        expected = np.concatenate([np.eye(7)[number], np.eye(2)[pair[0]], np.eye(3)[pair[1]], obs["image"].ravel()])
        np.testing.assert_array_equal(seen["obs"], expected)
        np.testing.assert_array_equal(seen["action_mask"], obs["action_mask"])
        assert_in_space(env.observation_space, seen)
    low, high = env.observation_space["obs"].bounds()
    np.testing.assert_array_equal(low, [0.0] * 12 + list(range(12)))
    np.testing.assert_array_equal(high, [1.0] * 12 + [200.0] * 12)


def test_flatten_of_arrays_and_integers():
    assert envs.flatten(SCALAR).observation_space == Box(0.0, 1.0, (7,))
    image = counting_env(
        lambda t: (t + jnp.arange(12).reshape(2, 3, 2)).astype(jnp.uint8), Box(0, 255, (2, 3, 2), "uint8")
    )
    flat = envs.flatten(image)
    assert flat.observation_space == Box(0.0, 255.0, (12,))
    obs, _ = flat.reset(jax.random.key(0))
    assert obs.dtype == jnp.float32
    np.testing.assert_array_equal(obs, image.reset(jax.random.key(0))[0].ravel())


def test_wrappers_nest_and_are_the_same_object_again():
    def build():
        return envs.flatten(envs.frame_stack(envs.time_limit(STRUCTURE, 3), 2))

    assert build() is build()
    assert envs.time_limit(STRUCTURE, 3) is not envs.time_limit(STRUCTURE, 4)
    observations, steps = play(build(), jax.random.key(0), 3)
    assert observations[0]["obs"].shape == (48,)
    assert steps.truncated.tolist() == [False, False, True]


NUM_AGENTS = 3


def observe_agents(t):
    """What three agents observe, and what their space does not name: each one's pay, t times its number."""
    t = jnp.asarray(t, jnp.float32)
    return {
        "agents": jnp.full((NUM_AGENTS, 2), t),
        "rewards": t * jnp.arange(1.0, 1 + NUM_AGENTS),
        "alive": jnp.ones(NUM_AGENTS, bool),
    }


AGENTS = counting_env(observe_agents, Dict({"agents": Box(-np.inf, np.inf, (NUM_AGENTS, 2))}))


def test_repeated_actions_add_up_the_rewards_of_every_agent():
    plain, _ = play(AGENTS, jax.random.key(0), 4)
    repeated, _ = play(envs.action_repeat(AGENTS, 4), jax.random.key(0), 1)
    np.testing.assert_allclose(repeated[1]["rewards"], sum(obs["rewards"] for obs in plain[1:]))
    np.testing.assert_allclose(repeated[1]["agents"], plain[-1]["agents"])


def test_the_rewards_of_every_agent_count_until_the_episode_ends():
    plain, _ = play(AGENTS, jax.random.key(0), 2)
    repeated, _ = play(envs.action_repeat(AGENTS, 4), jax.random.key(0), 1, CountParams(end=jnp.int32(2)))
    np.testing.assert_allclose(repeated[1]["rewards"], plain[1]["rewards"] + plain[2]["rewards"])


def test_repeated_actions_keep_an_observation_called_rewards():
    named = counting_env(lambda t: {"rewards": jnp.asarray(t, jnp.float32)}, Dict({"rewards": Box(0.0, 120.0)}))
    plain, _ = play(named, jax.random.key(0), 4)
    repeated, _ = play(envs.action_repeat(named, 4), jax.random.key(0), 1)
    assert repeated[1]["rewards"] == plain[-1]["rewards"]


@pytest.mark.parametrize("wrap", [lambda env: envs.frame_stack(env, 3), envs.channels_last], ids=["stack", "channels"])
def test_what_the_space_does_not_name_passes_unchanged(wrap):
    plain, _ = play(AGENTS, jax.random.key(0), 4)
    wrapped, _ = play(wrap(AGENTS), jax.random.key(0), 4)
    for one, other in zip(plain, wrapped, strict=True):
        np.testing.assert_array_equal(one["rewards"], other["rewards"])
        np.testing.assert_array_equal(one["alive"], other["alive"])


def test_a_stack_of_what_agents_see_is_that_of_their_observations():
    plain, _ = play(AGENTS, jax.random.key(0), 4)
    stacked, _ = play(envs.frame_stack(AGENTS, 3), jax.random.key(0), 4)
    np.testing.assert_array_equal(stacked[-1]["agents"], np.concatenate([obs["agents"] for obs in plain[-3:]], axis=-1))


def test_channels_move_last_inside_dicts_and_tuples():
    image = Box(0, 255, (3, 14, 16), "uint8")
    zeros = jnp.zeros(image.shape, jnp.uint8)
    inner = counting_env(
        lambda t: {"pair": (zeros, t), "image": zeros}, Dict({"pair": Tuple((image, Discrete(120))), "image": image})
    )
    env = envs.channels_last(inner)
    moved = Box(0, 255, (14, 16, 3), "uint8")
    assert env.observation_space == Dict({"pair": Tuple((moved, Discrete(120))), "image": moved})
    for obs in play(env, jax.random.key(0), 1)[0]:
        assert (obs["pair"][0].shape, obs["image"].shape) == (moved.shape, moved.shape)


STATEFUL = {
    "time_limit": lambda env: envs.time_limit(env, 3),
    "frame_stack": lambda env: envs.frame_stack(env, 3),
    "cached_resets": lambda env: envs.cached_resets(env, 3),
    "flatten": envs.flatten,
}


@pytest.mark.parametrize("name", STATEFUL)
def test_a_wrapper_around_with_state_that_would_hide_its_state_is_refused(name):
    env = STATEFUL[name](envs.with_state(VECTOR))
    with pytest.raises(ValueError, match=rf"write with_state\({name}\(env\)\)"):
        env.reset(jax.random.key(0))


@pytest.mark.parametrize("name", STATEFUL)
def test_with_state_around_a_wrapper_shows_its_state(name):
    obs, env_state = envs.with_state(STATEFUL[name](VECTOR)).reset(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, obs["env_state"], env_state)


WRAPPERS = STATEFUL | {
    "action_repeat": lambda env: envs.action_repeat(env, 3),
    "channels_last": envs.channels_last,
    "select_observation": lambda env: envs.select_observation(env, (0,)),
    "with_state": envs.with_state,
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_an_environment_on_the_host_is_refused(name):
    host = envs.adapters.gymnasium.HostEnv(None, None, None, 1, VECTOR.observation_space, VECTOR.action_space)
    with pytest.raises(TypeError, match=rf"envs\.{name} wraps environments in JAX, .* gymnasium\.wrappers"):
        WRAPPERS[name](host)


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "4"])
def test_counts_must_be_positive_integers(count):
    with pytest.raises(ValueError, match="num_steps must be a positive integer"):
        envs.time_limit(VECTOR, count)
    with pytest.raises(ValueError, match="num_frames must be a positive integer"):
        envs.frame_stack(VECTOR, count)


def assert_in_space(space, obs):
    if isinstance(space, Dict):
        assert sorted(obs) == sorted(name for name, _ in space.spaces)
        for name, part in space.spaces:
            assert_in_space(part, obs[name])
    elif isinstance(space, Tuple):
        for part, leaf in zip(space.spaces, obs, strict=True):
            assert_in_space(part, leaf)
    else:
        assert obs.shape == space.shape
        assert obs.dtype == space.dtype
        if isinstance(space, Box):
            low, high = space.bounds()
        else:
            low, high = 0, np.asarray(space.n if isinstance(space, Discrete) else space.num_values) - 1
        assert np.all(obs >= low)
        assert np.all(obs <= high)

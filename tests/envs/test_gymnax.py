"""Every environment of gymnax: spaces, dtypes, flags, and the same numbers as gymnax's own step."""

import functools
import inspect
import subprocess
import sys
from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.utils import load_mnist

from purerl import envs
from purerl.envs import registry
from purerl.spaces import Box, Discrete

SLOW = ("Asterix-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar")  # seconds of compilation each
PLAYED = [env_id for env_id in registry.GYMNAX_IDS if env_id != "MNISTBandit-bsuite"]
CASES = [pytest.param(env_id, marks=[pytest.mark.slow] if env_id in SLOW else []) for env_id in PLAYED]
NUM_STEPS = 12
LIMITS = np.array([1, 2, 3, 5, 8, 10, 12, 1000])
KEYS = jax.random.split(jax.random.key(0), (len(LIMITS), NUM_STEPS + 1))
QUICK = {"xla_backend_optimization_level": 0}  # half the compile time


class Played(NamedTuple):
    """`NUM_STEPS` steps without any reset of one environment under each of `LIMITS`, [8, T, ...]."""

    env: Any
    action: Any
    first_obs: Any
    result: Any
    inner_action: Any
    inner: Any
    inner_truncated: Any
    num_resets: int


def random_actions(space):
    """[8, T, ...] uniform in the space, or in one 1.5 times as wide if it is a Box."""
    rng, shape = np.random.default_rng(0), (len(LIMITS), NUM_STEPS, *space.shape)
    if isinstance(space, Discrete):
        return rng.integers(0, space.n, shape, dtype=np.int32)
    low, high = space.bounds()
    return rng.uniform(1.5 * low, 1.5 * high, shape).astype(np.float32)


@functools.cache
def played(env_id):
    """Play with a spy in the place of gymnax's step, which keeps what goes in and out: nothing is computed twice."""
    env, inner = envs.make(env_id), registry._gymnax_env(env_id, ())
    seen, resets = {}, []

    def step_env(key, state, action, params):
        seen["action"], seen["result"] = action, type(inner).step_env(inner, key, state, action, params)
        return seen["result"]

    def reset_env(key, params):
        resets.append(1)
        return type(inner).reset_env(inner, key, params)

    def run(keys, actions, params):
        def body(state, inputs):
            result = env.step(inputs[0], state, inputs[1], params)
            truncated = inner.is_truncated(seen["result"][1], params)
            return result.env_state, (result, seen["action"], seen["result"], truncated)

        obs, state = env.reset(keys[0], params)
        return obs, jax.lax.scan(body, state, (keys[1:], actions))[1]

    params = jax.tree.map(lambda leaf: np.stack([leaf] * len(LIMITS)), envs.env_params(env_id))
    params = params.replace(max_steps_in_episode=LIMITS.astype(params.max_steps_in_episode.dtype))
    arguments = KEYS, random_actions(env.action_space), params
    inner.__dict__.update(step_env=step_env, reset_env=reset_env)
    try:
        program = jax.jit(jax.vmap(run)).lower(*arguments)
    finally:
        del inner.__dict__["step_env"], inner.__dict__["reset_env"]
    first_obs, steps = jax.tree.map(np.asarray, program.compile(compiler_options=QUICK)(*arguments))
    return Played(env, arguments[1], first_obs, *steps, num_resets=len(resets))


def alive(result):
    """[8, T] bool: the step belongs to the episode that began with the reset."""
    done = result.terminated | result.truncated
    return np.cumsum(done, axis=1) - done == 0


def test_ids_are_all_that_gymnax_has():
    assert sorted(registry.GYMNAX_IDS) == sorted(gymnax.registration._BUILTIN_ENV_IDS)
    assert len(registry.GYMNAX_IDS) == 26


@pytest.mark.parametrize("env_id", CASES)
def test_observations_lie_in_their_space(env_id):
    run = played(env_id)
    space, shape = run.env.observation_space, (len(LIMITS),)
    assert run.first_obs.dtype == run.result.obs.dtype == space.dtype
    assert run.first_obs.shape == shape + space.shape
    assert run.result.obs.shape == (*shape, NUM_STEPS, *space.shape)
    within = np.concatenate([run.first_obs, run.result.obs[alive(run.result)]])
    low, high = (0, space.n - 1) if isinstance(space, Discrete) else space.bounds()
    assert np.all(within >= low)
    assert np.all(within <= high)


@pytest.mark.parametrize("env_id", CASES)
def test_numbers_are_those_of_gymnax(env_id):
    run = played(env_id)
    obs, state, reward, terminated, _ = run.inner
    np.testing.assert_array_equal(run.result.obs, obs.astype(run.result.obs.dtype))
    np.testing.assert_array_equal(run.result.reward, reward.astype(np.float32))
    np.testing.assert_array_equal(run.result.terminated, terminated)
    jax.tree.map(np.testing.assert_array_equal, run.result.env_state, state)
    assert run.result.reward.dtype == np.float32
    assert run.result.reward.shape == run.result.terminated.shape == run.result.truncated.shape
    assert run.result.terminated.dtype == run.result.truncated.dtype == np.bool_


@pytest.mark.parametrize("env_id", CASES)
def test_time_out_truncates_and_only_where_nothing_terminated(env_id):
    run = played(env_id)
    terminated, truncated = run.result.terminated, run.result.truncated
    time_out = np.arange(1, NUM_STEPS + 1)[None, :] >= LIMITS[:, None]
    np.testing.assert_array_equal(truncated, time_out & ~terminated)
    np.testing.assert_array_equal(run.inner_truncated, time_out)
    first_end = np.argmax(terminated | truncated, axis=1) + 1
    ended = (terminated | truncated).any(axis=1)
    assert np.all(first_end[ended] <= LIMITS[ended])
    assert ended[LIMITS <= NUM_STEPS].all()


@pytest.mark.parametrize("env_id", CASES)
def test_step_computes_no_reset_and_clips_continuous_actions(env_id):
    run = played(env_id)
    assert run.num_resets == 1
    space = run.env.action_space
    if not isinstance(space, Box):
        np.testing.assert_array_equal(run.inner_action, run.action)
        return
    assert (np.abs(run.action) > np.abs(space.bounds()[1])).any()
    np.testing.assert_array_equal(run.inner_action, np.clip(run.action, *space.bounds()))


@pytest.mark.parametrize("env_id", SLOW)
def test_slow_ones_have_the_shapes_and_types_of_their_spaces(env_id):
    env = envs.make(env_id)
    obs, state = jax.eval_shape(env.reset, jax.random.key(0))
    result = jax.eval_shape(env.step, jax.random.key(0), state, jnp.int32(0), envs.env_params(env_id))
    assert obs == result.obs
    assert (obs.shape, obs.dtype.name) == (env.observation_space.shape, env.observation_space.dtype)
    assert result.reward.dtype == jnp.float32
    assert state == result.env_state


@pytest.mark.parametrize(
    ("env_id", "time"),
    [("DeepSea-bsuite", 8), ("Catch-bsuite", 9), ("UmbrellaChain-bsuite", 10), ("SimpleBandit-bsuite", 1)],
)
def test_tasks_of_fixed_length_terminate_at_their_end(env_id, time):
    run = played(env_id)
    longer = time < LIMITS
    expected = np.arange(1, NUM_STEPS + 1) == time
    np.testing.assert_array_equal(
        (run.result.terminated & alive(run.result))[longer], np.tile(expected, (longer.sum(), 1))
    )
    assert not (run.result.truncated & alive(run.result))[longer].any()


def test_deep_sea_terminates_where_its_limit_falls_on_its_end():
    """Its default limit is its length; bsuite ends the episode there with a discount of 0."""
    result = played("DeepSea-bsuite").result
    member = list(LIMITS).index(8)
    assert envs.env_params("DeepSea-bsuite").max_steps_in_episode == 8
    assert result.terminated[member, 7]
    assert not result.truncated[member, :8].any()


def test_public_gymnax_step_agrees_and_defaults_are_the_parameters():
    """gymnax's `step` resets by itself and hides the successor in `final_observation`."""
    env, (theirs, defaults) = envs.make("CartPole-v1"), gymnax.make("CartPole-v1")
    defaults = defaults.replace(max_steps_in_episode=5)
    short = envs.env_params("CartPole-v1", max_steps_in_episode=5)
    _, state = env.reset(jax.random.key(1))
    ours_step, theirs_step = jax.jit(env.step), jax.jit(theirs.step)
    for i in range(5):
        key = jax.random.fold_in(jax.random.key(2), i)
        _, _, reward, terminated, truncated, info = theirs_step(key, state, 1, defaults)
        result = ours_step(jax.random.split(key)[0], state, 1, short)
        free = ours_step(jax.random.split(key)[0], state, 1)
        np.testing.assert_allclose(result.obs, info["final_observation"], rtol=1e-6)
        np.testing.assert_allclose(free.obs, result.obs, rtol=1e-6)
        assert (result.reward, result.terminated, result.truncated) == (reward, terminated, truncated)
        assert not free.truncated
        state = result.env_state
    assert truncated


def test_bounds_of_actions_follow_the_parameters():
    env = envs.make("Pendulum-v1")
    torque = jnp.array([0.5, 2.0, 3.0])

    def torque_used(max_torque):
        _, state = env.reset(jax.random.key(0))
        params = envs.env_params("Pendulum-v1", max_torque=max_torque)
        return env.step(jax.random.key(0), state, jnp.array([100.0]), params).env_state.last_u

    np.testing.assert_allclose(jax.jit(jax.vmap(torque_used))(torque), torque)
    assert env.action_space == Box(-2.0, 2.0, (1,))
    assert envs.make("Pendulum-v1", max_torque=3.0).action_space == Box(-3.0, 3.0, (1,))


def test_no_value_of_a_parameter_traces_again():
    env, traces = envs.make("CartPole-v1"), []

    @jax.jit
    def gravity_seen(params):
        traces.append(1)
        _, state = env.reset(jax.random.key(0), params)
        return env.step(jax.random.key(0), state, 1, params).obs[3]

    values = [
        gravity_seen(envs.env_params("CartPole-v1", gravity=g)) for g in (9, 9.8, np.float64(20.0), jnp.float32(1))
    ]
    assert len(traces) == 1
    assert len({float(value) for value in values}) == 4


def test_same_name_same_object_and_settings_shape_it():
    assert envs.make("CartPole-v1") is envs.make("CartPole-v1")
    assert envs.make("DeepSea-bsuite", size=5) is envs.make("DeepSea-bsuite", size=5)
    assert envs.make("DeepSea-bsuite", size=5).observation_space.shape == (5, 5)
    assert envs.env_params("DeepSea-bsuite", size=5).max_steps_in_episode == 5
    assert envs.make("FrozenLake-misc", map_name="8x8").observation_space == Discrete(64)
    assert envs.env_params("Acrobot-v1", available_torque=[-2, 0, 2]).available_torque.dtype == jnp.float32


def test_built_inside_a_traced_function_it_holds_no_tracer():
    @jax.jit
    def first_position(key):
        return envs.make("FourRooms-misc", pos_fixed=(1, 1)).reset(key)[0]

    assert first_position(jax.random.key(0)).tolist()[:2] == [1, 1]
    assert envs.make("FourRooms-misc", pos_fixed=(1, 1)).reset(jax.random.key(0))[0].tolist()[:2] == [1, 1]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: envs.make("CartPole-v0"), ValueError, "did you mean 'CartPole-v1'"),
        (lambda: envs.make("cartpole"), ValueError, "did you mean 'CartPole-v1'"),
        (lambda: envs.make("BreakoutMinAtar"), ValueError, "'Breakout-MinAtar'"),
        (lambda: envs.make("zzzzzz"), ValueError, "known are Acrobot-v1, "),
        (lambda: envs.make("CartPole-v1", gravty=1.0), ValueError, "no setting 'gravty'; did you mean 'gravity'"),
        (lambda: envs.env_params("CartPole-v1", lenght=1.0), ValueError, "no setting 'lenght'; did you mean 'length'"),
        (lambda: envs.make("FourRooms-misc", goal_fixed=[1, 1]), TypeError, "goal_fixed must be plain Python values"),
        (lambda: envs.make("CartPole-v1", length=jnp.float32(1.0)), TypeError, "length must be plain Python values"),
        (lambda: envs.make("CartPole-v1", gravity="x"), TypeError, "gravity must be as its default 9.8, got 'x'"),
        (
            lambda: envs.env_params("CartPole-v1", gravity=None),
            TypeError,
            "gravity must be as its default 9.8, got None",
        ),
        (lambda: envs.from_gymnax(object()), TypeError, "lacks default_params, reset_env"),
    ],
)
def test_errors_name_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_from_gymnax_checks_the_shape_of_observations(monkeypatch):
    inner = gymnax.make("CartPole-v1")[0]
    monkeypatch.setattr(
        inner, "observation_space", lambda params: gymnax.environments.spaces.Box(0, 1, (3,)), raising=False
    )
    with pytest.raises(ValueError, match=r"shape \(4,\), their space declares \(3,\)"):
        envs.from_gymnax(inner)


# --- MNIST ------------------------------------------------------------------------------------------------------------


def test_mnist_without_its_files_says_which(monkeypatch, tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"")
    monkeypatch.setattr(load_mnist, "load_mnist", functools.partial(load_mnist.load_mnist, directory=str(tmp_path)))
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte\.gz, .*train-labels") as caught:
        envs.make("MNISTBandit-bsuite")
    assert "t10k-images" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_mnist_images_lie_between_0_and_1(monkeypatch):
    images = np.array([[[0, 100], [200, 255]]], np.uint8).astype(np.int8)  # as gymnax reads them
    labels = np.array([7], np.uint8)
    monkeypatch.setattr(load_mnist, "load_mnist", lambda directory=".": ((images, labels), None))
    monkeypatch.setattr(registry.pathlib.Path, "is_file", lambda path: True)
    env = envs.from_gymnax(registry._mnist_bandit())
    obs, state = env.reset(jax.random.key(0))
    np.testing.assert_allclose(obs, [[0, 100 / 255], [200 / 255, 1]], rtol=1e-6)
    results = [env.step(jax.random.key(0), state, action) for action in (7, 3)]
    assert [(float(r.reward), bool(r.terminated), bool(r.truncated)) for r in results] == [
        (1, True, False),
        (-1, True, False),
    ]
    assert env.observation_space == Box(0.0, 1.0, (2, 2))


def test_the_module_loads_no_environment_library():
    code = (
        "import sys, purerl.envs; print([m for m in ('gymnax', 'flax', 'matplotlib', 'distrax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]", inspect.cleandoc(done.stdout)


@pytest.mark.parametrize("env_id", [env_id for env_id in PLAYED if env_id not in SLOW])
def test_environments_keep_32_bits_under_x64(env_id):
    with jax.enable_x64(True):
        env = envs.make(env_id)
        assert envs.check(env, envs.env_params(env_id)) is env

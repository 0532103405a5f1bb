"""The adapters of suites in JAX beside the suites' own API, step by step; result.md has the command."""

import base64
import importlib.util
import json
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import own_api
import pytest

import purerl
from purerl import envs, films

STEPS = 1000


@pytest.fixture(params=own_api.CASES, ids=lambda case: case.__name__)
def case(request):
    name = request.param.__name__
    module = own_api.MODULES.get(name, name)
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    return name, *request.param()


def test_thousand_steps_are_those_of_the_suite(case, record):
    """Observations are the true successors, rewards equal, and each end is the one that the suite reports."""
    name, env, reset, step, observe = case
    assert envs.check(env) is env  # nothing needs a cast
    ours, theirs = (jax.jit(env.reset), jax.jit(env.step)), (jax.jit(reset), jax.jit(step))
    rng, ends = np.random.default_rng(0), np.zeros(2, int)
    state = None
    for t, key in enumerate(jax.random.split(jax.random.key(0), STEPS)):
        if state is None:
            (obs, state), their_state = ours[0](key), theirs[0](key)
        action = own_api.sampled(env.action_space, obs, rng)
        new = ours[1](key, state, action)
        successor, reward, terminated, truncated, their_state = theirs[1](key, their_state, action)
        wanted = observe(successor)
        parts = [(new.obs[part], wanted[part]) for part in wanted] if isinstance(wanted, dict) else [(new.obs, wanted)]
        for found, expected in parts:
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=f"{name}, step {t}")
        np.testing.assert_allclose(new.reward, reward, rtol=1e-5, atol=1e-6)
        flags = [bool(new.terminated), bool(new.truncated)]
        assert flags == [bool(terminated), bool(truncated)], f"{name}, step {t}"
        ends += flags
        obs, state = new.obs, None if any(flags) else new.env_state
        assert not all(flags)
    assert ends.sum() >= 1
    record(name, ends)


@pytest.mark.parametrize("name", [case.__name__ for case in own_api.CASES])
def test_observations_lie_in_their_spaces_and_the_limit_is_known(name):
    if importlib.util.find_spec(own_api.MODULES.get(name, name)) is None:
        pytest.skip(f"{name} is not installed")
    env = next(each for each in own_api.CASES if each.__name__ == name)()[0]
    assert env.id.startswith(f"{name}/")
    assert env.max_steps == (None if name == "pgx" else own_api.LIMIT)
    obs, state = jax.jit(env.reset)(jax.random.key(0))
    step, rng = jax.jit(env.step), np.random.default_rng(1)
    for key in jax.random.split(jax.random.key(1), 20):
        assert_within(obs, env.observation_space)
        new = step(key, state, own_api.sampled(env.action_space, obs, rng))
        obs, state = new.obs, new.env_state


def assert_within(obs, space):
    if hasattr(space, "spaces"):
        for part, inner in space.spaces:
            assert_within(obs[part], inner)
        return
    if hasattr(space, "n"):
        assert 0 <= int(obs) < space.n
        return
    low, high = space.bounds()
    found = np.asarray(obs, float)
    low, high = (bound.astype(float) for bound in (low, high))
    assert np.all((found >= low) & (found <= high)), (found.min(), found.max(), space)


@pytest.mark.parametrize(
    ("module", "env_id"),
    [
        ("navix", "Navix-DoorKey-5x5-v0"), ("xminigrid", "MiniGrid-DoorKey-6x6"), ("jumanji", "Snake-v1"),
        ("craftax", "Craftax-Classic-Symbolic-v1"), ("pgx", "connect_four"), ("pgx", "minatar-breakout"),
        ("jaxmarl", "MPE_simple_spread_v3"), ("brax", "ant"), ("playground", "CartpoleBalance"),
    ],
)  # fmt: skip
def test_states_are_drawn(module, env_id):
    if importlib.util.find_spec({"playground": "mujoco_playground"}.get(module, module)) is None:
        pytest.skip(f"{module} is not installed")
    env = envs.make(f"{module}/{env_id}")
    pictures = [env.render(jax.jit(env.reset)(jax.random.key(i))[1]) for i in range(2)]
    assert pictures[0].dtype == np.uint8
    assert pictures[0].shape[2:] == (3,)
    assert pictures[0].std() > 1


@pytest.mark.parametrize("name", ["MPE_simple_spread_v3", "MPE_simple_tag_v3", "overcooked"])
def test_the_limit_of_jaxmarl_is_the_length_of_its_episodes(name):
    """Nobody acts, so that nothing but the limit ends an episode."""
    pytest.importorskip("jaxmarl")
    env = envs.make(f"jaxmarl/{name}")
    key = jax.random.key(0)

    def body(env_state, _):
        new = env.step(key, env_state, jnp.zeros(env.action_space.shape, jnp.int32))
        return new.env_state, (new.terminated, new.truncated)

    _, (terminated, truncated) = jax.lax.scan(body, env.reset(key)[1], length=env.max_steps)
    assert not terminated.any()
    assert jnp.flatnonzero(truncated).tolist() == [env.max_steps - 1]


def test_brax_shows_an_episode_in_its_own_viewer(tmp_path):
    pytest.importorskip("brax")
    env = envs.make("brax/reacher", max_steps=5)
    agent = purerl.ppo(purerl.networks.actor_critic(env, (4,)))
    state = agent.init(jax.random.key(0), purerl.PPOHparams(), env.reset(jax.random.key(1))[0])
    played = films.play(jax.random.key(2), agent, env, state)
    page = films.save_page(env, played, tmp_path / "episode.html").read_text()
    packed = re.search(r'system = "([^"]*)"', page)[1]
    shown = json.loads(zlib.decompress(base64.b64decode(packed)))
    poses = played.env_states.env_state.pipeline_state.x.pos  # [6, links, 3]
    found = np.array([each["pos"] for each in shown["states"]["x"]])
    np.testing.assert_allclose(found[:, : poses.shape[1]], poses, atol=1e-5)

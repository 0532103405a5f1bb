"""The adapters of suites on the host beside the suites' own API; result.md has the command."""

import importlib.util

import numpy as np
import pytest

from purerl import envs

STEPS = 1000


def needs(module):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def played(env, steps=STEPS, seed=0):
    """The first observation, and the steps of random actions in a `HostEnv` of one: (action, HostStep)."""
    rng = np.random.default_rng(seed)
    first = env.reset(seed)
    taken = []
    for _ in range(steps):
        action = drawn(env.action_space, rng)[None]
        taken.append((action, env.step(action)))
    return first, taken


def drawn(space, rng):
    kind = type(space).__name__
    if kind == "Discrete":
        return np.int32(rng.integers(space.n))
    if kind == "MultiDiscrete":
        return rng.integers(0, space.num_values).astype(np.int32)
    return rng.uniform(*space.bounds()).astype(np.float32)


def ends(taken):
    return np.sum([[step.terminated[0], step.truncated[0]] for _, step in taken], axis=0)


def same(found, wanted):
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(wanted, float), rtol=1e-5, atol=1e-5)


def test_gymnasium(record):
    needs("Box2D")
    import gymnasium

    env = envs.make("gymnasium/LunarLander-v3", max_episode_steps=80)
    assert env.max_steps == 80
    assert env.id == "gymnasium/LunarLander-v3"
    first, taken = played(env)
    own = gymnasium.make("LunarLander-v3", max_episode_steps=80)
    obs, _ = own.reset(seed=0)
    same(first[0], obs)
    for action, step in taken:
        obs, reward, terminated, truncated, _ = own.step(action[0])
        same(step.next_obs[0], obs)
        same(step.reward[0], reward)
        assert (step.terminated[0], step.truncated[0]) == (terminated, truncated and not terminated)
        if terminated or truncated:
            obs, _ = own.reset()
        same(step.obs[0], obs)
    record("gymnasium", ends(taken))


@pytest.mark.parametrize("name", ["CartPole-v1", "Pong-v5"])
def test_envpool(name, record):
    needs("envpool")
    import envpool

    settings = {"max_episode_steps": 30}
    env = envs.make(f"envpool/{name}", **settings)
    first, taken = played(env, STEPS if name == "CartPole-v1" else 100)
    own = envpool.make_gymnasium(name, num_envs=1, seed=0, **settings)
    images = len(env.observation_space.shape) == 3
    shown = (lambda obs: np.moveaxis(obs[0], 0, -1)) if images else (lambda obs: obs[0])
    same(first[0], shown(own.reset()[0]))
    for action, step in taken:
        obs, reward, terminated, truncated, _ = own.step(action)
        same(step.next_obs[0], shown(obs))
        same(step.reward, reward)
        assert (step.terminated[0], step.truncated[0]) == (terminated[0], truncated[0] and not terminated[0])
        if terminated[0] or truncated[0]:
            obs = own.step(action)[0]  # EnvPool's own reset, in the step after the end
        same(step.obs[0], shown(obs))
    if name == "CartPole-v1":
        record("envpool", ends(taken))
    env.close()


def test_envpool_resets_only_the_environments_that_ended():
    needs("envpool")
    env = envs.make("envpool/CartPole-v1", num_envs=3, max_episode_steps=200)
    env.reset(0)
    rng, apart = np.random.default_rng(0), 0
    for _ in range(200):
        step = env.step(rng.integers(2, size=3))
        done = step.terminated | step.truncated
        same(step.obs[~done], step.next_obs[~done])
        apart += done.any() and not done.all()
        assert (np.abs(step.obs[done]) < 0.05 + 1e-6).all()
    assert apart
    env.close()


def test_ale(record):
    needs("ale_py")
    from ale_py.vector_env import AtariVectorEnv
    from gymnasium.vector import AutoresetMode

    settings = {"max_num_frames_per_episode": 400}
    env = envs.make("ale/Pong-v5", **settings)
    assert env.observation_space.shape == (84, 84, 4)
    first, taken = played(env)
    own = AtariVectorEnv("pong", 1, autoreset_mode=AutoresetMode.SAME_STEP, **settings)
    same(first[0], np.moveaxis(own.reset(seed=0)[0][0], 0, -1))
    for action, step in taken:
        obs, reward, terminated, truncated, info = own.step(action)
        last = info["final_obs"][0] if terminated[0] or truncated[0] else obs[0]
        same(step.next_obs[0], np.moveaxis(last, 0, -1))
        same(step.obs[0], np.moveaxis(obs[0], 0, -1))
        same(step.reward, reward)
        assert (step.terminated[0], step.truncated[0]) == (terminated[0], truncated[0] and not terminated[0])
    record("ale", ends(taken))


def test_pettingzoo(record):
    needs("pettingzoo")
    pytest.importorskip("pygame")
    pytest.importorskip("scipy")
    from pettingzoo.sisl import pursuit_v5

    settings = {"max_cycles": 15, "n_pursuers": 3, "n_evaders": 4, "x_size": 8, "y_size": 8}
    env = envs.make("pettingzoo/sisl/pursuit_v5", **settings)
    first, taken = played(env)
    own = pursuit_v5.parallel_env(**settings)
    agents = own.possible_agents
    obs, _ = own.reset(seed=0)
    same(first["agents"][0], np.stack([obs[agent] for agent in agents]))
    for action, step in taken:
        obs, reward, terminated, truncated, _ = own.step(dict(zip(agents, action[0])))
        same(step.next_obs["agents"][0], np.stack([obs[agent] for agent in agents]))
        same(step.next_obs["rewards"][0], [reward[agent] for agent in agents])
        same(step.reward[0], np.mean(list(reward.values())))
        ended, cut = all(terminated.values()), all(truncated.values())
        assert (step.terminated[0], step.truncated[0]) == (ended and not cut, cut)
        if not own.agents:
            own.reset()
    record("pettingzoo", ends(taken))


def test_dm_control(record):
    needs("dm_control")
    from dm_control import suite

    env = envs.make("dm_control/cartpole-balance", time_limit=0.3)
    first, taken = played(env)
    own = suite.load("cartpole", "balance", task_kwargs={"time_limit": 0.3, "random": 0})
    timestep = own.reset()
    same(first["position"][0], timestep.observation["position"])
    for action, step in taken:
        timestep = own.step(action[0])
        same(step.next_obs["velocity"][0], timestep.observation["velocity"])
        same(step.reward[0], timestep.reward)
        last, ended = timestep.last(), timestep.discount == 0
        assert (step.terminated[0], step.truncated[0]) == (last and ended, last and not ended)
        if last:
            timestep = own.reset()
    record("dm_control", ends(taken))

"""Each JAX suite by its own API, in the form in which the test steps it beside purerl's adapter.

A case is `(env, reset, step, observe)`: purerl's environment, and functions of the suite

    reset(key) -> state        step(key, state, action) -> (obs, reward, terminated, truncated, state)

where `observe` makes purerl's observation of what the suite returns. Both are given the same keys and actions.
"""

import jax.numpy as jnp
import numpy as np

from purerl import envs

LIMIT = 30


def brax():
    from brax import envs as theirs

    wrapped = theirs.create("inverted_pendulum", episode_length=LIMIT, auto_reset=False, backend="spring")
    return envs.make("brax/inverted_pendulum", max_steps=LIMIT, backend="spring"), *_episodes(wrapped)


def playground():
    from brax.envs.wrappers.training import EpisodeWrapper
    from mujoco_playground import registry

    inner = registry.load("CartpoleBalance", config_overrides={"impl": "jax"})
    return envs.make("playground/CartpoleBalance", max_steps=LIMIT), *_episodes(EpisodeWrapper(inner, LIMIT, 1))


def _episodes(wrapped):
    def step(key, state, action):
        new = wrapped.step(state, action)
        truncated = new.info["truncation"] > 0
        return new.obs, new.reward, (new.done > 0) & ~truncated, truncated, new

    return wrapped.reset, step, lambda obs: obs


def navix():
    import navix as theirs

    env = theirs.make("Navix-LavaGapS5-v0", max_steps=LIMIT)

    def step(key, state, action):
        new = env.step(state, action)  # resets in the step after the end
        return new.observation, new.reward, new.is_termination(), new.is_truncation(), new

    return envs.make("navix/Navix-LavaGapS5-v0", max_steps=LIMIT), env.reset, step, lambda obs: obs


def xminigrid():
    import xminigrid as theirs

    env, params = theirs.make("MiniGrid-Empty-5x5", max_steps=LIMIT)

    def step(key, state, action):
        new = env.step(params, state, action)
        return new.observation, new.reward, new.last() & (new.discount == 0), new.last() & (new.discount > 0), new

    reset = lambda key: env.reset(params, key)  # noqa: E731
    return envs.make("xminigrid/MiniGrid-Empty-5x5", max_steps=LIMIT), reset, step, lambda obs: obs


def craftax():
    from craftax.craftax_env import make_craftax_env_from_name

    env = make_craftax_env_from_name("Craftax-Classic-Symbolic-v1", auto_reset=True)
    params = env.default_params.replace(max_timesteps=LIMIT)

    def step(key, state, action):
        obs, new, reward, done, _ = env.step_env(key, state, action, params)
        dead = new.player_health <= 0
        return obs, reward, done & dead, done & ~dead, new

    reset = lambda key: env.reset(key, params)[1]  # noqa: E731
    return envs.make("craftax/Craftax-Classic-Symbolic-v1", max_timesteps=LIMIT), reset, step, lambda obs: obs


def jumanji():
    import jumanji as theirs
    from jumanji.environments import Snake
    from jumanji.wrappers import AutoResetWrapper

    resetting = AutoResetWrapper(Snake(time_limit=LIMIT), next_obs_in_extras=True)
    assert "Snake-v1" in theirs.registered_environments()

    def step(key, state, action):
        new, timestep = resetting.step(state, action)  # the true successor is in the extras
        obs = timestep.extras["next_obs"]
        ended = timestep.last() & (timestep.discount == 0)
        return obs, timestep.reward, ended, timestep.last() & (timestep.discount > 0), new

    reset = lambda key: resetting.reset(key)[0]  # noqa: E731
    return envs.make("jumanji/Snake-v1", time_limit=LIMIT), reset, step, lambda obs: obs._asdict()


def pgx():
    import pgx as theirs

    env = theirs.make("connect_four")

    def step(key, state, action):
        new = env.step(state, action, key)
        return new, new.rewards[state.current_player], new.terminated, new.truncated, new

    observe = lambda new: {"obs": new.observation.astype(jnp.float32), "action_mask": new.legal_action_mask}  # noqa: E731
    return envs.make("pgx/connect_four", self_play=True), env.init, step, observe


def jaxmarl():
    import jaxmarl as theirs

    env = theirs.make("overcooked", max_steps=LIMIT)

    def step(key, state, action):
        obs, new, rewards, done, _ = env.step_env(key, state, {a: action[i] for i, a in enumerate(env.agents)})
        reward = jnp.mean(jnp.stack([rewards[a] for a in env.agents]))
        return obs, reward, jnp.bool_(False), done["__all__"], new

    def observe(obs):
        flat = jnp.stack([obs[a].ravel().astype(jnp.float32) for a in env.agents])
        return {"agents": jnp.concatenate([flat, jnp.eye(len(flat))], axis=1)}

    return envs.make("jaxmarl/overcooked", max_steps=LIMIT), lambda key: env.reset(key)[1], step, observe


CASES = (brax, playground, navix, xminigrid, craftax, jumanji, pgx, jaxmarl)
MODULES = {"playground": "mujoco_playground"}  # where it is not the name of the family


def sampled(space, obs, rng):
    """A random action, an allowed one if the observation says which are."""
    kind = type(space).__name__
    if kind == "Discrete":
        mask = obs.get("action_mask") if isinstance(obs, dict) else None
        return np.int32(rng.choice(np.flatnonzero(mask)) if mask is not None else rng.integers(space.n))
    if kind == "MultiDiscrete":
        return rng.integers(0, space.num_values).astype(np.int32)
    return rng.uniform(*space.bounds()).astype(np.float32)

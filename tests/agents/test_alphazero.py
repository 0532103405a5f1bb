"""AlphaZero: what its search finds without a network's help, what it learns on probes, and its loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import envs, mdp, networks

HPARAMS = purerl.AlphaZeroHparams(learning_rate=1e-2, discount=0.9)


class Blank:
    """A network without an opinion: every action alike, every state worth nothing."""

    def __init__(self, num_actions):
        self.num_actions = num_actions

    def init(self, key, obs):
        return jnp.zeros(1)

    def apply(self, params, obs):
        return purerl.distributions.categorical(jnp.zeros(self.num_actions) + 0 * params), 0.0 * params[0]


def test_the_search_alone_finds_the_best_action_of_a_small_world():
    """Two steps ahead in a deterministic grid: from every cell next to the exit, and one further, it walks there."""
    model = mdp.gridworld(["S   ", " #  ", "   +"], noise=0.0, living_reward=-0.1)
    env = envs.with_state(envs.from_mdp(model, max_steps=20))
    agent = purerl.alphazero(Blank(4), env, num_simulations=64)
    best = mdp.value_iteration(model, 0.9)
    state = agent.init(jax.random.key(0), purerl.types.cast(HPARAMS), env.reset(jax.random.key(0))[0])
    obs, _ = env.reset(jax.random.key(0))
    near = [s for s in range(len(best.value)) if 0.5 < best.value[s] < 1.0]
    assert len(near) == 5

    def act(s):
        placed = jax.tree.map(lambda x: x, obs)
        placed["env_state"] = obs["env_state"]._replace(state=jnp.int32(s))
        placed["obs"] = jnp.int32(s)
        return agent.act(None, state, placed)[0]

    actions = jax.jit(jax.vmap(act))(jnp.array(near))
    for s, action in zip(near, np.asarray(actions)):
        assert best.q[s, action] >= best.q[s].max() - 1e-5, s


def test_probes():
    env = envs.with_state(envs.probe())
    network = networks.actor_critic(env, (16,))
    agent = purerl.alphazero(network, env, num_simulations=4, num_epochs=4)
    params = [envs.probe_params(name) for name in envs.PROBES]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *params)

    def run(key, env_params):
        sizes = {"num_updates": 80, "num_envs": 16, "rollout_length": 4}
        return purerl.train(key, agent, env, HPARAMS, env_params=env_params, **sizes)[0].params

    learned = jax.vmap(jax.vmap(run, (0, None)), (None, 0))(jax.random.split(jax.random.key(0), 10), stacked)
    apply = jax.jit(jax.vmap(lambda p, o: network.apply(p, {"obs": o}), (0, None)))
    for i, (name, probe) in enumerate(zip(envs.PROBES, params)):
        seen = [[-1.0], [1.0]] if probe.random_obs else [[0.0], [1.0]][: probe.length]
        for obs in map(jnp.array, seen):
            policy, value = apply(jax.tree.map(lambda x: x[i], learned), obs)
            np.testing.assert_allclose(value, envs.probe_value(probe, obs, 0.9), atol=0.1, err_msg=name)
            if "action" in name:
                assert (policy.log_probs.argmax(1) == envs.probe_action(probe, obs)).all(), name


def test_observations_must_tell_the_state():
    env = envs.probe()
    agent = purerl.alphazero(networks.actor_critic(env, (4,)), env)
    with pytest.raises(ValueError, match=r"envs\.with_state"):
        purerl.train(jax.random.key(0), agent, env, HPARAMS, num_updates=1, num_envs=2, rollout_length=2)

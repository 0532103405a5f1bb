"""PPO: its loss against an independent formula, what it learns on probes, truncation, and its options."""

import jax
import jax.numpy as jnp
import numpy as np
import probing
import pytest
from quick import jit_for_long_runs

import purerl
from purerl import combinators, envs, networks
from purerl.agents import ppo
from purerl.spaces import Box, Dict, Discrete
from purerl.types import Env, EnvStep, Transition

FAST = purerl.PPOHparams(learning_rate=5e-3, discount=0.9, entropy_coef=0.0, value_clip_epsilon=float("inf"))


@pytest.mark.parametrize("continuous", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("num_seeds", probing.SEEDS)
def test_all_probes_with_every_seed(continuous, num_seeds):
    env = envs.probe(continuous=continuous)
    network = networks.actor_critic(env, hidden=(16,))
    agent = purerl.ppo(network)
    states = probing.learn(agent, env, FAST, num_updates=80, num_seeds=num_seeds)
    probing.check_values(probing.values_of(network), states, 0.9, continuous=continuous)
    if not continuous:
        probing.check_actions(agent, states)


def test_truncation_bootstraps_from_the_true_successor():
    """V = 1 / (1 - 0.98) = 50 everywhere but at the marked first observation, which is worth 7 more than that."""
    env = envs.time_limit(envs.endless(), 8)
    network = networks.actor_critic(env, hidden=(16,))
    agent = purerl.ppo(network)
    hparams = FAST._replace(discount=0.98, learning_rate=1e-2, anneal_updates=500, max_grad_norm=10.0)
    params = envs.EndlessParams(jnp.ones(2), jnp.array([1.0, 8.0]), jnp.array([False, True]))
    sizes = {"num_updates": 500, "num_envs": 16, "rollout_length": 8}

    def values(env_params):
        state, _ = purerl.train(jax.random.key(0), agent, env, hparams, env_params=env_params, **sizes)
        return jax.vmap(lambda obs: network.apply(state.params, obs)[1])(jnp.array([[0.0], [1.0]]))

    found = jit_for_long_runs(jax.vmap(values))(params)
    np.testing.assert_allclose(found[:, 0], 50.0, atol=1.0)
    np.testing.assert_allclose(found[1, 1], 57.0, atol=1.2)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    size = 12
    numbers = [jnp.asarray(rng.normal(size=size), jnp.float32) for _ in range(4)]
    obs = jnp.asarray(rng.normal(size=(size, 4)), jnp.float32)
    return ppo.Batch(obs, jnp.asarray(rng.integers(0, 2, size)), numbers[0] * 0.3 - 0.7, *numbers[1:], ())


@pytest.mark.parametrize("masked", [False, True])
def test_the_loss_against_an_independent_formula(cartpole, batch, masked):
    network = networks.actor_critic(cartpole, hidden=(8,))
    params = jax.jit(network.init)(jax.random.key(0), batch.obs[0])
    hparams = purerl.PPOHparams(clip_epsilon=0.1, value_clip_epsilon=0.3, entropy_coef=0.05, value_coef=0.7)
    mask = np.array([1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 0]) if masked else np.ones(12)
    data = batch._replace(mask=jnp.asarray(mask, jnp.float32)) if masked else batch
    normalized = data._replace(advantage=ppo._advantages(True, data))
    total, metrics = ppo._loss(network, params, normalized, hparams, ppo.clipped_policy_loss)

    weights = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
    kept = np.flatnonzero(mask)
    obs, action, old_log_prob, advantage, old_value, target = (
        np.asarray(x)[kept].astype(np.float64) for x in batch[:6]
    )

    def tower(name, head):
        layer = weights[name]["Dense_0"]
        hidden = np.tanh(obs @ layer["kernel"] + layer["bias"])
        return hidden @ head["kernel"] + head["bias"]

    logits = tower("actor", weights["policy"]["Dense_0"])
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    value = tower("critic", weights["value"])[:, 0]
    ratio = np.exp(log_probs[np.arange(len(kept)), action.astype(int)] - old_log_prob)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    policy = -np.minimum(ratio * advantage, np.clip(ratio, 0.9, 1.1) * advantage).mean()
    clipped = old_value + np.clip(value - old_value, -0.3, 0.3)
    value_loss = 0.5 * np.maximum((value - target) ** 2, (clipped - target) ** 2).mean()
    entropy = -(np.exp(log_probs) * log_probs).sum(1).mean()
    np.testing.assert_allclose(metrics["loss/policy"], policy, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/value"], value_loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/entropy"], entropy, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/approx_kl"], (ratio - 1 - np.log(ratio)).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["loss/clip_fraction"], (np.abs(ratio - 1) > 0.1).mean(), rtol=1e-6)
    np.testing.assert_allclose(total, policy + 0.7 * value_loss - 0.05 * entropy, rtol=1e-5)


@pytest.fixture(scope="module")
def setting(cartpole):
    """A CartPole agent with a small network, its start, and one trajectory."""
    agent = purerl.ppo(networks.actor_critic(cartpole, hidden=(8,)), num_epochs=2, num_minibatches=2)
    start = purerl.start(jax.random.key(0), agent, cartpole, purerl.PPOHparams(), num_envs=4)
    _, data = purerl.rollout(jax.random.key(1), agent, cartpole, start.agent_state, start.actors, length=16)
    return agent, start.agent_state, data, jax.jit(agent.update)


def largest_change(old, new):
    return max(float(jnp.abs(a - b).max()) for a, b in zip(jax.tree.leaves(old.params), jax.tree.leaves(new.params)))


def test_target_kl_stops_and_annealing_ends(setting):
    _, state, data, update = setting
    free, metrics = update(jax.random.key(2), state, data)
    assert largest_change(state, free) > 1e-4
    stopped, stopped_metrics = update(
        jax.random.key(2), state._replace(hparams=state.hparams._replace(target_kl=0.0)), data
    )
    assert stopped.opt_state[1][0].count < free.opt_state[1][0].count == 4
    assert np.isfinite(list(stopped_metrics.values())).all()
    assert np.isfinite(list(metrics.values())).all()
    late = state._replace(num_updates=jnp.int32(10), hparams=state.hparams._replace(anneal_updates=jnp.float32(10)))
    assert largest_change(late, update(jax.random.key(2), late, data)[0]) == 0


def test_stopping_under_vmap_stops_only_those_who_should(setting):
    _, state, data, update = setting
    limits = jnp.array([jnp.inf, 0.0])
    many = jax.vmap(
        lambda limit: update(jax.random.key(2), state._replace(hparams=state.hparams._replace(target_kl=limit)), data)[
            0
        ]
    )
    counts = many(limits).opt_state[1][0].count
    assert counts[0] == 4
    assert counts[1] < 4


def test_the_ratio_is_one_before_the_first_step(setting):
    """With learning rate 0 nothing moves, so the log-probabilities of acting and of learning must agree."""
    _, state, data, update = setting
    still = state._replace(hparams=state.hparams._replace(learning_rate=jnp.float32(0)))
    _, metrics = update(jax.random.key(2), still, data)
    assert abs(metrics["loss/approx_kl"]) < 1e-10
    assert metrics["loss/clip_fraction"] == 0


def test_the_ratio_starts_at_one_where_squashed_actions_saturate():
    env = envs.probe(continuous=True)
    agent = purerl.ppo(networks.actor_critic(env, hidden=(4,), squash=True), num_epochs=1, num_minibatches=1)
    start = purerl.start(jax.random.key(0), agent, env, purerl.PPOHparams(learning_rate=0.0), num_envs=4)
    wide = jax.tree.map(lambda x: x, start.agent_state.params)
    wide["params"]["policy"]["log_std"] = jnp.full(1, 3.0)  # most samples lie beyond what float32 can invert
    state = start.agent_state._replace(params=wide)

    @jax.jit
    def update(state, actors):
        _, data = purerl.rollout(jax.random.key(1), agent, env, state, actors, length=16)
        return data.action, agent.update(jax.random.key(2), state, data)[1]

    action, metrics = update(state, start.actors)
    assert (jnp.abs(action) == 1).any()
    assert np.isfinite(list(metrics.values())).all()
    assert abs(metrics["loss/approx_kl"]) < 1e-6


def test_a_batch_that_does_not_divide_says_so(cartpole):
    agent = purerl.ppo(networks.actor_critic(cartpole, hidden=(4,)), num_minibatches=3)
    with pytest.raises(ValueError, match="num_minibatches = 3 does not divide the batch of 20 steps"):
        purerl.train(
            jax.random.key(0), agent, cartpole, purerl.PPOHparams(), num_updates=1, num_envs=4, rollout_length=5
        )


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"learning_rate": float("nan")}, "PPOHparams.learning_rate is NaN"),
        ({"discount": 1.5}, r"PPOHparams.discount = 1.5 is outside \[0.0, 1.0\]"),
        ({"clip_epsilon": -0.1}, "PPOHparams.clip_epsilon = -0.1 is outside"),
    ],
)
def test_bad_hyperparameters_are_named(cartpole, setting, hparams, message):
    with pytest.raises(ValueError, match=message):
        purerl.train(
            jax.random.key(0),
            setting[0],
            cartpole,
            purerl.PPOHparams(**hparams),
            num_updates=1,
            num_envs=4,
            rollout_length=4,
        )


def test_wrong_environments_and_observations_are_named(setting):
    agent, state, _, _ = setting
    with pytest.raises(ValueError, match=r"obs has shape \(3,\), but the network was built for \(4,\)"):
        agent.act(None, state, jnp.zeros(3))
    four_continuous = Env(
        lambda key, env_params=None: (jnp.zeros(4), jnp.zeros(4)),
        lambda key, s, a, env_params=None: EnvStep(s, s, jnp.float32(0), jnp.bool_(False), jnp.bool_(False)),
        Box(-1, 1, (4,)),
        Box(-1, 1, (1,)),
    )
    with pytest.raises(TypeError, match=r"the agent's action is int32\[\], but the environment's action space is Box"):
        purerl.start(jax.random.key(0), agent, four_continuous, purerl.PPOHparams(), num_envs=1)


def test_dict_observations_with_masked_actions_never_take_a_forbidden_one():
    space = Dict((("position", Box(-1, 1, (2,))), ("action_mask", Box(0, 1, (3,), "bool"))))

    def observe(key):
        mask = jax.random.permutation(key, jnp.array([True, False, True]))
        return {"position": jax.random.normal(key, (2,)), "action_mask": mask}

    def reset(key, env_params=None):
        obs = observe(key)
        return obs, obs["action_mask"]

    def step(key, mask, action, env_params=None):
        obs = observe(key)
        reward = jnp.where(mask[action], 1.0, -100.0)
        return EnvStep(obs, obs["action_mask"], reward, jnp.bool_(False), jnp.bool_(False))

    env = Env(reset, step, space, Discrete(3))
    agent = combinators.with_reward_scaling(
        combinators.with_observation_normalization(purerl.ppo(networks.actor_critic(env, hidden=(8,))))
    )

    @jax.jit
    def learn_and_act():
        sizes = {"num_updates": 3, "num_envs": 4, "rollout_length": 16}
        state, metrics = purerl.train(jax.random.key(0), agent, env, purerl.PPOHparams(), **sizes)
        start = purerl.start(jax.random.key(0), agent, env, purerl.PPOHparams(), num_envs=4)
        return metrics, purerl.rollout(jax.random.key(1), agent, env, state, start.actors, length=64)[1]

    metrics, data = learn_and_act()
    assert all(np.isfinite(v).all() for k, v in metrics.items() if k.startswith("loss"))
    assert isinstance(data, Transition)
    assert (data.reward == 1).all()

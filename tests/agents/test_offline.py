"""Behaviour cloning and CQL on recorded steps: what they converge to, in closed form; datasets on disk."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import checkpoint, combinators, datasets, distributions, networks
from purerl.types import Transition


class Table(NamedTuple):
    """A network that reads its output from a table."""

    init: Any
    apply: Any


def fit(agent, data, hparams, num_updates, seed=0):
    return purerl.fit(jax.random.key(seed), agent, data, purerl.hparams.cast(hparams), num_updates=num_updates)


def test_cloning_discrete_actions_gives_their_frequencies():
    """Cross-entropy on a table is least at the empirical frequencies; with minibatches nearly so."""
    rng = np.random.default_rng(0)
    obs, action = rng.integers(0, 2, 400), rng.integers(0, 3, 400)
    action = np.where((obs == 1) & (action == 2), 0, action)  # in state 1 the last action is rare
    action[:5], obs[:5] = 2, 1
    network = Table(
        lambda key, obs: jnp.zeros((2, 3)), lambda p, obs: (distributions.categorical(p[obs]), jnp.float32(0))
    )
    counts = np.stack([np.bincount(action[obs == s], minlength=3) for s in (0, 1)])
    expected = counts / counts.sum(1, keepdims=True)
    data = {"obs": jnp.asarray(obs), "action": jnp.asarray(action)}
    agent = purerl.behavior_cloning(network)
    state, metrics = fit(agent, data, purerl.CloningHparams(0.05), 400)
    np.testing.assert_allclose(jax.nn.softmax(state.params), expected, atol=1e-3)
    nll = -(counts / 400 * np.log(expected)).sum()
    np.testing.assert_allclose(metrics["loss/negative_log_likelihood"][-1], nll, atol=1e-4)
    assert agent.act(None, state, jnp.int32(1))[0] == expected[1].argmax()
    drawn = combinators.with_minibatches(agent, 64)
    state, _ = fit(drawn, data, purerl.CloningHparams(0.02, anneal_updates=600), 600)
    np.testing.assert_allclose(jax.nn.softmax(state.agent.params), expected, atol=0.04)


def test_cloning_real_actions_gives_their_mean_and_deviation_in_every_state():
    rng = np.random.default_rng(1)
    obs = rng.integers(0, 3, 600)
    action = (np.array([[1.0, -1.0], [0.0, 2.0], [0.5, 0.5]])[obs] + rng.normal(size=(600, 2)) * [0.5, 1.5]).astype(
        "f4"
    )
    network = Table(
        lambda key, obs: (jnp.zeros((3, 2)), jnp.zeros((3, 2))),
        lambda p, obs: (distributions.diagonal_gaussian(p[0][obs], p[1][obs]), jnp.float32(0)),
    )
    empty = jnp.zeros(600)
    data = Transition(jnp.asarray(obs), jnp.asarray(action), empty, empty, empty, jnp.asarray(obs))
    state, _ = fit(purerl.behavior_cloning(network), data, purerl.CloningHparams(0.05), 500)
    mean = np.stack([action[obs == s].mean(0) for s in range(3)])
    std = np.stack([action[obs == s].std(0) for s in range(3)])
    np.testing.assert_allclose(state.params[0], mean, atol=2e-3)
    np.testing.assert_allclose(jnp.exp(state.params[1]), std, rtol=2e-3)


def walk(repeats):
    """All transitions of a walk on 3 states, action 1 to the right and 0 to the left, as often as `repeats` [S, A]."""
    rows = [(s, a) for s in range(3) for a in range(2) for _ in range(repeats[s][a])]
    obs, action = np.array(rows).T
    moved = obs + np.where(action == 1, 1, -1)
    terminated = moved > 2
    reward = np.where(terminated, 1.0, -0.1).astype(np.float32)
    next_obs = np.clip(moved, 0, 2)
    columns = (obs, action, reward, terminated, np.zeros_like(terminated), next_obs)
    return Transition(*map(jnp.asarray, columns))


def exact_q(alpha, repeats, discount=0.9):
    """The fixed point q = B q − α (softmax(q) / β − 1), by damped iteration in float64."""
    beta = np.asarray(repeats, float) / np.sum(repeats, axis=1, keepdims=True)
    state, action = np.divmod(np.arange(6), 2)
    moved = state + 2 * action - 1
    q = np.zeros((3, 2))
    for _ in range(20_000):
        value = np.where(moved > 2, 0.0, q.max(1)[np.clip(moved, 0, 2)])
        backup = (np.where(moved > 2, 1.0, -0.1) + discount * value).reshape(3, 2)
        probs = np.exp(q) / np.exp(q).sum(1, keepdims=True)
        q += 0.05 * (backup - alpha * (probs / beta - 1) - q)
    return q


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_cql_converges_to_its_fixed_point(alpha):
    """α = 0: the optimal values; α > 0: rare actions are worth less than they seem, and common ones more."""
    repeats = [[3, 1], [2, 2], [1, 4]]
    table = Table(lambda key, obs: jnp.zeros((3, 2)), lambda p, obs: p[obs])
    hparams = purerl.CQLHparams(learning_rate=0.02, discount=0.9, conservative_coef=alpha, tau=0.1, anneal_updates=3000)
    state, _ = fit(purerl.cql(table), walk(repeats), hparams, 3000)
    np.testing.assert_allclose(state.params, exact_q(alpha, repeats), atol=2e-3)
    if alpha == 0:
        right = [1.0, -0.1 + 0.9, -0.1 + 0.9 * (-0.1 + 0.9)]
        np.testing.assert_allclose(state.params[:, 1], right[::-1], atol=2e-3)


def test_cql_ignores_forbidden_actions():
    """With an action forbidden everywhere, the other one has the values of a chain without choice."""
    table = Table(lambda key, obs: jnp.zeros((3, 2)), lambda p, obs: p[obs["s"]])
    data = walk([[0, 1], [0, 1], [0, 1]])
    allowed = jnp.broadcast_to(jnp.array([False, True]), (3, 2))
    data = data._replace(
        obs={"s": data.obs, "action_mask": allowed}, next_obs={"s": data.next_obs, "action_mask": allowed}
    )
    agent = purerl.cql(table)
    state, metrics = fit(agent, data, purerl.CQLHparams(0.02, 0.9, tau=0.2, anneal_updates=1500), 1500)
    np.testing.assert_allclose(state.params[:, 1], [-0.1 + 0.9 * 0.8, 0.8, 1.0], atol=2e-3)
    np.testing.assert_allclose(metrics["loss/conservative"], 0, atol=1e-6)
    assert agent.act(jax.random.key(0), state, jax.tree.map(lambda x: x[0], data.obs))[0] == 1


def test_what_offline_agents_refuse(cartpole):
    with pytest.raises(TypeError, match="the network must have no memory"):
        purerl.behavior_cloning(networks.recurrent_actor_critic(cartpole))
    agent = purerl.behavior_cloning(networks.actor_critic(cartpole, hidden=(4,)))
    with pytest.raises(ValueError, match="data has no column action"):
        fit(agent, {"obs": jnp.zeros((3, 4))}, purerl.CloningHparams(), 1)
    with pytest.raises(TypeError, match="data must be a Transition or a mapping of columns, got list"):
        agent.update(None, agent.init(jax.random.key(0), purerl.CloningHparams(), jnp.zeros(4)), [jnp.zeros((3, 4))])


@pytest.fixture(scope="module")
def recorded(cartpole):
    agent = purerl.ppo(networks.actor_critic(cartpole, hidden=(4,)))
    state = jax.jit(agent.init)(jax.random.key(0), purerl.hparams.cast(purerl.PPOHparams()), jnp.zeros(4))
    sizes = {"num_steps": 60, "num_envs": 2}
    record = [datasets.record(jax.random.key(1), agent, cartpole, state, greedy=g, **sizes) for g in (False, True)]
    return agent, state, *record


def test_a_record_is_what_the_agent_did(recorded):
    """Rows of one environment follow each other, episodes end in them, and actions are the policy's own."""
    agent, state, sampled, greedy = recorded
    assert sampled.obs.shape == (60, 4)
    follows = ~(sampled.terminated | sampled.truncated)[:29]
    np.testing.assert_array_equal(sampled.next_obs[:29][follows], sampled.obs[1:30][follows])
    assert sampled.terminated.any()
    assert len(set(np.asarray(sampled.action).tolist())) == 2
    best, _ = jax.vmap(agent.act, (None, None, 0))(None, state, greedy.obs)
    np.testing.assert_array_equal(greedy.action, best)


def test_a_dataset_survives_the_disk_and_damage_is_refused(recorded, tmp_path):
    _, _, sampled, _ = recorded
    data = sampled._replace(obs={"x": sampled.obs, "parts": (sampled.action, sampled.reward)})
    directory = datasets.save(tmp_path / "data", data, {"by": "a test"})
    back = datasets.load(directory)
    assert jax.tree.structure(back) == jax.tree.structure(data)
    jax.tree.map(np.testing.assert_array_equal, back, data)
    assert checkpoint.read_metadata(directory)["about"] == {"by": "a test"}
    (directory / "metadata.json").write_text((directory / "metadata.json").read_text().replace("a test", "a rest"))
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        datasets.load(directory)
    other = checkpoint.save(tmp_path / "other", {"x": jnp.zeros(1)})
    with pytest.raises(checkpoint.CheckpointError, match="holds a checkpoint, but no dataset"):
        datasets.load(other)


def test_a_record_that_does_not_divide_says_so(recorded, cartpole):
    agent, state, _, _ = recorded
    with pytest.raises(ValueError, match="num_steps = 7 does not divide among num_envs = 2"):
        datasets.record(jax.random.key(0), agent, cartpole, state, num_steps=7, num_envs=2)


# --- In place of play -------------------------------------------------------------------------------------------------


def test_train_on_rows_learns_what_fit_learns_and_plays_nothing(cartpole):
    """Each update sees length x environments rows, all of them equally often; the environment stands still."""
    data = walk([[1, 2], [3, 4], [0, 5]])
    shown = data._replace(obs=jnp.eye(4)[data.obs], next_obs=jnp.eye(4)[data.next_obs])
    linear = Table(lambda key, obs: jnp.zeros((4, 2)), lambda p, obs: (distributions.categorical(obs @ p), 0.0))
    rollout = datasets.rows(shown)
    agent = purerl.behavior_cloning(linear)
    sizes = {"num_updates": 800, "num_envs": 2, "rollout_length": 32}
    hparams = purerl.CloningHparams(0.05, anneal_updates=800)
    state, metrics = purerl.train(jax.random.key(0), agent, cartpole, hparams, rollout=rollout, **sizes)
    np.testing.assert_allclose(jax.nn.softmax(state.params[:3]), [[1 / 3, 2 / 3], [3 / 7, 4 / 7], [0, 1]], atol=0.04)
    assert np.isnan(metrics["episode_return"]).all()
    actors = purerl.start(jax.random.key(1), agent, cartpole, hparams, num_envs=2).actors
    after, drawn = rollout(jax.random.key(2), agent, cartpole, state, actors, length=1500)
    jax.tree.map(np.testing.assert_array_equal, after, actors)
    assert drawn.obs.shape == (3000, 4)
    rows = drawn.obs.argmax(1) * 2 + drawn.action
    np.testing.assert_allclose(np.bincount(rows, minlength=6) / 3000, np.array([1, 2, 3, 4, 0, 5]) / 15, atol=0.03)


def test_data_of_another_environment_are_refused(recorded, cartpole):
    data = recorded[2]
    datasets.check_fits(data, cartpole)
    with pytest.raises(ValueError, match=r"observations have shape \(3,\), those of the environment \(4,\)"):
        datasets.check_fits(data._replace(obs=data.obs[:, :3]), cartpole)
    with pytest.raises(TypeError, match=r"action is float32\[1\], but the environment's action space is Discrete"):
        datasets.check_fits(data._replace(action=jnp.zeros((60, 1))), cartpole)
    with pytest.raises(ValueError, match=r"actions, in \[0, 2\], are not all in the action space Discrete\(n=2"):
        datasets.check_fits(data._replace(action=data.action.at[7].set(2).at[8].set(0)), cartpole)
    masked = data._replace(action=data.action.at[7].set(-1), mask=jnp.ones(60).at[7].set(0))
    datasets.check_fits(masked, cartpole)
    with pytest.raises(ValueError, match=r"columns have different lengths \[59, 60\]"):
        datasets.rows(data._replace(reward=data.reward[1:]))

"""NaN in what must have no effect: masked steps, and the successors of steps that terminated."""

import functools

import agent_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import envs, loops, networks
from purerl.agents.common import action_values, trajectories

ENV = envs.probe()
REAL = envs.probe(continuous=True)
T, N = 4, 2


def actor_critic(factory, **options):
    return factory(networks.actor_critic(ENV, (4,)), **options)


def real(factory, actor):
    return factory(actor(REAL, (4,)), networks.critic(REAL, (4,)))


def recurrent():
    network = networks.recurrent_actor_critic(ENV, (4,), memory_size=4)
    return purerl.ppo(network, num_epochs=1, num_minibatches=1)


AGENTS = {  # agent, hyperparameters, the kind of data it takes
    "ppo": (lambda: actor_critic(purerl.ppo, num_epochs=1, num_minibatches=1), purerl.PPOHparams, "steps"),
    "ppo, recurrent": (recurrent, purerl.PPOHparams, "steps"),
    "actor_critic": (lambda: actor_critic(purerl.actor_critic), purerl.ActorCriticHparams, "steps"),
    "vtrace": (lambda: actor_critic(purerl.actor_critic, advantage="vtrace"), purerl.ActorCriticHparams, "steps"),
    "reinforce": (lambda: actor_critic(purerl.reinforce), purerl.ReinforceHparams, "steps"),
    "dqn": (lambda: purerl.dqn(networks.q_network(ENV, (4,))), purerl.DQNHparams, "steps"),
    "sac": (lambda: real(purerl.sac, networks.gaussian_actor), purerl.SACHparams, "real"),
    "td3": (lambda: real(purerl.td3, networks.deterministic_actor), purerl.TD3Hparams, "real"),
    "behavior_cloning": (lambda: actor_critic(purerl.behavior_cloning), purerl.CloningHparams, "rows"),
    "cql": (lambda: purerl.cql(networks.q_network(ENV, (4,))), purerl.CQLHparams, "rows"),
    "pqn": (
        lambda: purerl.pqn(networks.q_network(ENV, (4,)), num_epochs=1, num_minibatches=1),
        purerl.PQNHparams,
        "unmasked",
    ),
    "muzero": (
        lambda: purerl.muzero(networks.latent_model(ENV, (4,), 4), num_simulations=2, unroll_length=2),
        purerl.MuZeroHparams,
        "unmasked",
    ),
}


def steps(kind, hidden):
    """A trajectory whose second environment terminates at its second step; `hidden` stands where nothing counts."""
    numbers = np.random.default_rng(0)
    obs, next_obs = (numbers.normal(size=(T, N, 1)).astype(np.float32) for _ in range(2))
    reward = numbers.normal(size=(T, N)).astype(np.float32)
    terminated = np.zeros((T, N), bool)
    terminated[1, 1] = True
    next_obs[1, 1] = hidden
    action = numbers.normal(size=(T, N, 1)).astype(np.float32) if kind == "real" else numbers.integers(0, 2, (T, N))
    mask, log_prob = (), np.full((T, N), -0.7, np.float32)
    if kind != "unmasked":
        mask = np.ones((T, N), np.float32)
        mask[2:, 1] = 0
        for x in (obs, next_obs, reward, log_prob):
            x[2:, 1] = hidden
        if kind == "real":
            action[2:, 1] = hidden
    aux = {"log_prob": log_prob, "policy": np.full((T, N, 2), 0.5, np.float32)}
    data = purerl.Transition(obs, action, reward, terminated, np.zeros_like(terminated), next_obs, aux, mask=mask)
    if kind == "rows":
        data = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), data)
    return jax.tree.map(jnp.asarray, data)


def updates(agent, hparams, example):
    """`data -> (parameters, metrics)`: one update of a new state, one program for all data of the same shapes."""

    @jax.jit
    def update(data):
        state = agent.init(jax.random.key(0), purerl.hparams.cast(hparams), example)
        if agent.memory is not None:
            num_envs = jnp.arange(data.reward.shape[1])
            data = data._replace(memory=jax.vmap(lambda _: agent.memory(None, state))(num_envs))
        state, metrics = agent.update(jax.random.key(1), state, data)
        return purerl.get_params(state), metrics

    return update


@functools.cache
def updates_of(name):
    make, hparams, _ = AGENTS[name]
    return updates(make(), hparams(), jnp.zeros(1))


@pytest.mark.parametrize("name", list(AGENTS))
def test_hidden_values_do_not_reach_the_parameters(name):
    kind = AGENTS[name][2]
    params, metrics = updates_of(name)(steps(kind, np.nan))
    expected, _ = updates_of(name)(steps(kind, 0.0))
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert all(np.isfinite(x).all() for name, x in metrics.items())


def test_hidden_rewards_do_not_reach_the_parameters_of_evolution():
    agent = actor_critic(purerl.evolution)
    state = agent.init(jax.random.key(0), purerl.hparams.cast(purerl.EvolutionHparams()), jnp.zeros(1))
    memory = jax.vmap(agent.memory, (0, None))(jax.random.split(jax.random.key(1), N), state)
    state, _ = jax.jit(agent.update)(jax.random.key(2), state, steps("steps", np.nan)._replace(memory=memory))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))


def trajectory_of_alphazero():
    """The updates of AlphaZero, and what two environments gave it."""
    agent, env = agent_cases.alphazero()
    hparams, (example, _) = purerl.AlphaZeroHparams(), env.reset(jax.random.key(1))

    @jax.jit
    def collect():
        state = agent.init(jax.random.key(0), purerl.hparams.cast(hparams), example)
        random_obs = {"env_params": envs.probe_params("action_and_observation")}  # so that environments differ
        actors = loops.init_actors(jax.random.key(2), agent, env, state, num_envs=N, **random_obs)
        return loops.rollout(jax.random.key(3), agent, env, state, actors, length=T, **random_obs)[1]

    return updates(agent, hparams, example), collect()


@pytest.mark.parametrize("name", ["ppo", "actor_critic", "pqn", "muzero", "alphazero", "behavior_cloning", "cql"])
def test_an_environment_of_weight_zero_counts_as_if_it_were_not_there(name):
    if name == "alphazero":
        update, data = trajectory_of_alphazero()
    else:
        update, data = updates_of(name), steps("unmasked", 0.0)
    weight = jnp.ones((T, N)).at[:, 1].set(0)
    alone, weighted = jax.tree.map(lambda x: x[:, :1], data), data._replace(weight=2.0 * weight)
    if name in ("behavior_cloning", "cql"):
        alone, weighted = (jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), x) for x in (alone, weighted))
    found, everything = (
        update(weighted._replace(weight=w))[0] for w in (weighted.weight, jnp.ones_like(weighted.weight))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, update(alone)[0])
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(everything)))


def test_steps_of_weight_zero_have_no_part_in_the_loss_of_reinforce():
    update, data = updates_of("reinforce"), steps("steps", 0.0)
    weighted = data._replace(mask=jnp.ones((T, N)), weight=data.mask)
    expected, _ = update(data)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), update(weighted)[0], expected)


def test_evolution_refuses_weights_of_steps():
    agent, data = actor_critic(purerl.evolution), steps("steps", 0.0)
    state = agent.init(jax.random.key(0), purerl.hparams.cast(purerl.EvolutionHparams()), jnp.zeros(1))
    data = data._replace(weight=data.mask, memory=agent.memory(None, state))
    with pytest.raises(ValueError, match="evolution has no use for the weights of steps"):
        agent.update(jax.random.key(0), state, data)


def test_cleaning_leaves_what_counts_and_what_is_finite():
    data = steps("steps", 7.0)
    jax.tree.map(np.testing.assert_array_equal, trajectories.clean(data), data)


def test_a_mask_that_is_nan_free_is_a_weight_too():
    data = steps("steps", 0.0)
    data = data._replace(mask=2.0 * data.mask, weight=3.0 * jnp.ones((T, N)))
    np.testing.assert_array_equal(trajectories.step_weight(data), 3.0 * data.mask)


@pytest.mark.parametrize("lowest", [-jnp.inf, jnp.finfo(jnp.float32).min])
def test_infinite_values_of_other_actions_leave_the_action_taken(lowest):
    output = jnp.array([[1.0, lowest], [lowest, 2.0]])
    np.testing.assert_array_equal(action_values.take(output, jnp.array([0, 1])), [1, 2])


def test_a_state_that_allows_no_action_has_value_zero():
    q, mask = jnp.array([[1.0, 2.0], [1.0, 2.0]]), jnp.array([[1.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(action_values.best_value(q, mask), [1, 0])


class Tabular:
    """A Q-network whose parameters are the values of the two actions, whatever the state."""

    def init(self, key, obs):
        return jnp.array([1.0, 2.0])

    def apply(self, params, obs):
        return params


@pytest.mark.parametrize("agent", ["pqn", "dqn", "cql"])
def test_a_truncated_successor_that_allows_no_action_is_worth_nothing(agent):
    """Every target is then the reward alone: 0 for each action, so both values fall."""
    data = steps("unmasked", 0.0)
    allowed = jnp.ones((T, N, 2), bool)
    data = data._replace(
        obs={"action_mask": allowed}, next_obs={"action_mask": ~allowed}, action=jnp.arange(T * N).reshape(T, N) % 2,
        reward=jnp.zeros((T, N)), terminated=jnp.zeros((T, N), bool), truncated=jnp.ones((T, N), bool),
    )  # fmt: skip
    factory, hparams = getattr(purerl, agent), {"pqn": "PQN", "dqn": "DQN", "cql": "CQL"}[agent] + "Hparams"
    options = {"num_epochs": 1, "num_minibatches": 1} if agent == "pqn" else {}
    made = factory(Tabular(), **options)
    if agent == "cql":
        data = trajectories.flatten(data)
    state = made.init(
        jax.random.key(0), purerl.hparams.cast(getattr(purerl, hparams)()), {"action_mask": allowed[0, 0]}
    )
    _, metrics = jax.jit(made.update)(jax.random.key(1), state, data)
    np.testing.assert_allclose(metrics["loss/td_error"], 1.5)  # |0 − 1| and |0 − 2|


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_weighted_mean_does_not_depend_on_the_scale_of_the_weights(scale):
    mean = trajectories.masked_mean(jnp.array([1.0, 4.0, jnp.nan]), scale * jnp.array([2.0, 1.0, 0.0]))
    np.testing.assert_allclose(mean, 2.0, rtol=1e-6)


def test_the_mean_over_nothing_is_zero():
    assert trajectories.masked_mean(jnp.array([1.0, jnp.nan]), jnp.zeros(2)) == 0


@pytest.mark.parametrize("name", ["actor_critic", "reinforce"])
def test_normalized_advantages_are_those_of_the_steps_that_have_weight(name):
    """The second environment's rewards are large; with weight 0 they must not enter the spread."""
    agent = getattr(purerl, name)(networks.actor_critic(envs.probe(), hidden=(4,)), normalize_advantage=True)
    hparams = {"actor_critic": purerl.ActorCriticHparams, "reinforce": purerl.ReinforceHparams}[name]()
    state = agent.init(jax.random.key(0), purerl.hparams.cast(hparams), jnp.zeros(1))
    data = steps("steps", 0.0)
    data = data._replace(reward=data.reward * jnp.array([1.0, 1000.0]), mask=jnp.ones((T, N)))
    first = jnp.ones((T, N)).at[:, 1].set(0)
    masked, weighted = data._replace(mask=first), data._replace(weight=first)
    update = jax.jit(lambda data: agent.update(jax.random.key(1), state, data))
    expected, found = update(masked)[1], update(weighted)[1]
    np.testing.assert_allclose(found["loss/policy"], expected["loss/policy"], rtol=1e-5)


@pytest.mark.parametrize("name", ["ppo", "actor_critic with vtrace", "muzero"])
def test_data_without_what_the_actor_left_are_named(name):
    network = networks.actor_critic(envs.probe(), hidden=(4,))
    agent, hparams, entry = {
        "ppo": (purerl.ppo(network), purerl.PPOHparams(), "log_prob"),
        "actor_critic with vtrace": (
            purerl.actor_critic(network, advantage="vtrace"), purerl.ActorCriticHparams(), "log_prob",
        ),
        "muzero": (
            purerl.muzero(networks.latent_model(envs.probe(), (4,), 4), num_simulations=2, unroll_length=1),
            purerl.MuZeroHparams(), "policy",
        ),
    }[name]  # fmt: skip
    with pytest.raises(ValueError, match=rf"{name} needs Transition\.aux\['{entry}'\]"):
        purerl.fit(jax.random.key(0), agent, steps("unmasked", 0.0)._replace(aux=()), hparams, num_updates=1)

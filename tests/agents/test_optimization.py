"""Optimizers of agents: the default sees one vector, any other the tree; and counts of updates that cannot overflow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import purerl
from purerl import combinators, envs, networks
from purerl.agents.common import counts, optimization

ENV = envs.probe()
REAL = envs.probe(continuous=True)
NAMES = ("a", "b")
ROLES = ("optimizer", "actor_optimizer", "critic_optimizer", "temperature_optimizer")


def seen(record):
    """An optimizer that records the tree of parameters it is shown, and changes nothing."""

    def build(hparams):
        def init(params):
            record.append(params)
            return ()

        return optax.GradientTransformation(init, lambda grads, state, params: (grads, state))

    return build


def actor_critic(factory, **options):
    return factory(networks.actor_critic(ENV, (4,)), **options)


def q_network(factory, **options):
    return factory(networks.q_network(ENV, (4,)), **options)


def real(factory, actor, **options):
    return factory(actor(REAL, (4,)), networks.critic(REAL, (4,)), **options)


FACTORIES = {
    "ppo": functools.partial(actor_critic, purerl.ppo),
    "actor_critic": functools.partial(actor_critic, purerl.actor_critic),
    "reinforce": functools.partial(actor_critic, purerl.reinforce),
    "evolution": functools.partial(actor_critic, purerl.evolution),
    "behavior_cloning": functools.partial(actor_critic, purerl.behavior_cloning),
    "dqn": functools.partial(q_network, purerl.dqn),
    "pqn": functools.partial(q_network, purerl.pqn),
    "cql": functools.partial(q_network, purerl.cql),
    "muzero": lambda **options: purerl.muzero(networks.latent_model(ENV, (4,), 4), **options),
    "sac": functools.partial(real, purerl.sac, networks.gaussian_actor),
    "td3": functools.partial(real, purerl.td3, networks.deterministic_actor),
}
HPARAMS = {
    "ppo": "PPO", "actor_critic": "ActorCritic", "reinforce": "Reinforce", "evolution": "Evolution",
    "behavior_cloning": "Cloning", "dqn": "DQN", "pqn": "PQN", "cql": "CQL", "muzero": "MuZero", "sac": "SAC",
    "td3": "TD3",
}  # fmt: skip


def initial(agent, name):
    hparams = purerl.hparams.cast(getattr(purerl, HPARAMS[name] + "Hparams")())
    return jax.eval_shape(lambda key: agent.init(key, hparams, jnp.zeros(1)), jax.random.key(0))


@pytest.mark.parametrize("name", list(FACTORIES))
def test_an_optimizer_of_ones_own_sees_the_tree_of_parameters(name):
    record = []
    roles = ROLES[1:3] if name in ("sac", "td3") else ROLES[:1]
    params = initial(FACTORIES[name](**{role: seen(record) for role in roles}), name).params
    expected = (params.actor, params.critics) if name in ("sac", "td3") else (params,)
    assert [jax.tree.structure(x) for x in record] == [jax.tree.structure(x) for x in expected]


@pytest.mark.parametrize("name", list(FACTORIES))
def test_the_default_optimizer_sees_one_vector(name):
    opt_state = initial(FACTORIES[name](), name).opt_state
    assert {x.ndim for x in jax.tree.leaves(opt_state)} <= {0, 1}


def test_a_label_of_multi_transform_freezes_a_part_of_ppo():
    def optimizer(hparams):
        parts = {"value": optax.set_to_zero(), "other": optax.sgd(hparams.learning_rate)}
        return optax.multi_transform(
            parts, lambda params: {"params": {k: "value" if k == "value" else "other" for k in params["params"]}}
        )

    agent = actor_critic(purerl.ppo, num_epochs=1, num_minibatches=1, optimizer=optimizer)
    sizes = {"num_updates": 1, "num_envs": 2, "rollout_length": 4}
    start = purerl.start(jax.random.key(0), agent, ENV, purerl.PPOHparams(0.1), num_envs=2).agent_state
    state, _ = purerl.train(jax.random.key(0), agent, ENV, purerl.PPOHparams(0.1), **sizes)
    moved = {
        name: any((a != b).any() for a, b in zip(jax.tree.leaves(part), jax.tree.leaves(start.params["params"][name])))
        for name, part in state.params["params"].items()
    }
    assert (moved["value"], moved["critic"]) == (False, True)


def test_vector_and_tree_take_the_same_step():
    params = {"a": jnp.arange(3.0), "b": (jnp.ones((2, 2)),)}
    steps = [
        optimization.gradient_step(
            optimizer, purerl.PPOHparams(0.1), lambda p: (sum(jnp.sum(x**2) for x in jax.tree.leaves(p)), ()), params,
            optimization.init(optimizer, purerl.PPOHparams(0.1), params),
        )[0]
        for optimizer in (optimization.adam, lambda hparams: optimization.adam(hparams))
    ]  # fmt: skip
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), *steps)


def test_counts_stay_at_the_largest_integer():
    assert counts.increment(jnp.int32(2**31 - 1)) == 2**31 - 1


def test_counts_rise_by_one():
    assert counts.increment(jnp.int32(41)) == 42


def test_target_networks_are_still_copied_once_the_count_stands():
    agent = q_network(purerl.dqn)
    hparams = purerl.hparams.cast(purerl.DQNHparams(target_period=2))
    state = agent.init(jax.random.key(0), hparams, jnp.zeros(1))._replace(num_updates=jnp.int32(2**31 - 1))
    ends = jnp.zeros((1, 3), bool)
    data = purerl.Transition(
        jnp.ones((1, 3, 1)), jnp.zeros((1, 3), int), jnp.ones((1, 3)), ends, ends, jnp.ones((1, 3, 1))
    )
    update = jax.jit(agent.update)
    copied = []
    for i in range(4):
        state, _ = update(jax.random.key(i), state, data)
        copied.append(all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (state.params, state.target_params)))))
    assert copied == [False, True, False, True]


def test_parameters_are_read_and_replaced_below_combinators():
    agent = combinators.with_replay(q_network(purerl.dqn), capacity=8, batch_size=2)
    state = agent.init(jax.random.key(0), purerl.hparams.cast(purerl.DQNHparams()), jnp.zeros(1), 2)
    params = jax.tree.map(jnp.zeros_like, purerl.get_params(state))
    jax.tree.map(np.testing.assert_array_equal, purerl.set_params(state, params).agent.params, params)


def test_a_state_without_parameters_is_named():
    with pytest.raises(TypeError, match="has no field 'params'"):
        purerl.get_params((1, 2))


def step_of(optimizer, params):
    """Parameters after one step of zero gradients."""
    hparams = purerl.PPOHparams(0.1)
    grads = jax.tree.map(jnp.zeros_like, params)
    opt_state = optimization.init(optimizer, hparams, params)
    return optimization.apply_gradients(optimizer, hparams, grads, params, opt_state)


def test_a_mask_keeps_biases_from_weight_decay():
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    matrices = functools.partial(jax.tree.map, lambda x: x.ndim > 1)
    after, _ = step_of(lambda hparams: optax.adamw(hparams.learning_rate, weight_decay=0.5, mask=matrices), params)
    np.testing.assert_allclose(after["kernel"], 0.95, rtol=1e-6)
    np.testing.assert_array_equal(after["bias"], 1.0)


def test_muon_orthogonalizes_matrices_and_leaves_vectors_to_adam():
    params = {"kernel": jnp.ones((2, 5)), "bias": jnp.ones(5)}
    _, opt_state = step_of(lambda hparams: optax.contrib.muon(hparams.learning_rate), params)
    momenta = {jnp.shape(leaf) for leaf in jax.tree.leaves(opt_state.inner_states["muon"])}
    assert (2, 5) in momenta
    assert (5,) not in momenta


def test_statistics_of_batch_norm_are_refused():
    import flax.linen as nn

    class Normalized(nn.Module):
        @nn.compact
        def __call__(self, obs):
            x = nn.BatchNorm(use_running_average=False, axis_name=None)(obs[None])[0]
            return purerl.distributions.categorical(nn.Dense(2)(x)), nn.Dense(1)(x)[0]

    with pytest.raises(TypeError, match="collection batch_stats, which agents do not carry"):
        initial(purerl.ppo(Normalized()), "ppo")

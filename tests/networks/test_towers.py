"""Networks over batches, as CPUs and accelerators compute them, against one example at a time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accelerated import on_accelerator

from purerl import envs, networks
from purerl.agents.common.batches import apply_batch, apply_each
from purerl.networks.towers import one_by_one
from purerl.spaces import Box, Dict, Discrete

BOX = Box(-2.0, 2.0, (3,))


def space_pair(observation, action):
    return envs.probe()._replace(observation_space=observation, action_space=action)


MASKED = Dict((("action_mask", Box(0, 1, (4,), "bool")), ("seen", Box(-1.0, 1.0, (10,)))))
NETWORKS = {
    "two torsos": networks.actor_critic(space_pair(Box(-1.0, 1.0, (2,)), Discrete(3)), (12, 12)),
    "one torso, a mask and many inputs": networks.actor_critic(
        space_pair(MASKED, Discrete(4)), (9,), shared_torso=True
    ),
    "fewer units than examples": networks.actor_critic(space_pair(Box(-1.0, 1.0, (2,)), Discrete(3)), (2, 2), "relu"),
    "three layers of fewer units": networks.actor_critic(space_pair(Box(-1.0, 1.0, (2,)), Discrete(3)), (2, 3, 2)),
    "fewer units and many inputs": networks.actor_critic(space_pair(Box(-1.0, 1.0, (10,)), Discrete(3)), (2, 2)),
    "many actions": networks.actor_critic(space_pair(Box(-1.0, 1.0, (2,)), Discrete(11)), (12,), "silu"),
    "dueling": networks.q_network(space_pair(Box(-1.0, 1.0, (2,)), Discrete(3)), (7, 5), dueling=True),
    "padded widths": networks.actor_critic(space_pair(Box(-1.0, 1.0, (2,)), Discrete(3)), (40, 36)),
    "normalized": networks.q_network(space_pair(Box(-1.0, 1.0, (2,)), Discrete(3)), (7, 5), layer_norm=True),
    "normalized, padded widths": networks.q_network(
        space_pair(Box(-1.0, 1.0, (10,)), Discrete(3)), (40, 36), "tanh", layer_norm=True, dueling=True
    ),
    "gaussian": networks.gaussian_actor(space_pair(Box(-1.0, 1.0, (2,)), BOX), (6, 5)),
}


def batch_of(network):
    space, rng = network.observation_space, np.random.default_rng(0)
    if isinstance(space, Dict):
        mask = jnp.array([[True, False, True, True]] * 5)
        return {"action_mask": mask, "seen": jnp.asarray(rng.normal(size=(5, 10)), jnp.float32)}
    return jnp.asarray(rng.normal(size=(5, *space.shape)), jnp.float32)


def value_and_gradient(apply, params):
    def total(params):
        leaves = jax.tree.leaves(apply(params))
        return sum(jnp.sin(jnp.where(jnp.isfinite(leaf), leaf, 0)).sum() for leaf in leaves), leaves

    gradient, leaves = jax.grad(total, has_aux=True)(params)
    return leaves, gradient


def three_ways(monkeypatch, plain, batched, params):
    """Values and gradients of the plain function, and of the batched one on both platforms, in one program."""

    @jax.jit
    def run(params):
        expected, on_cpu = (value_and_gradient(function, params) for function in (plain, batched))
        with monkeypatch.context() as patched:
            on_accelerator(patched)
            return expected, on_cpu, value_and_gradient(batched, params)

    return run(params)


def assert_close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_has_the_values_and_gradients_of_its_examples(monkeypatch, name):
    network = NETWORKS[name]
    obs = batch_of(network)
    params = network.init(jax.random.key(0), jax.tree.map(lambda x: x[0], obs))
    params = jax.tree.map(lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), params)  # biases are not 0
    functions = lambda params: one_by_one(network, params, obs), lambda params: apply_batch(network, params, obs)
    expected, on_cpu, elsewhere = three_ways(monkeypatch, *functions, params)
    assert_close(on_cpu, expected)
    assert_close(elsewhere, expected)


def test_critics_together_have_the_gradients_of_each_also_of_the_action(monkeypatch):
    network = networks.critic(space_pair(Box(-1.0, 1.0, (2,)), BOX), (6, 5))
    obs, action = jnp.linspace(-1, 1, 8).reshape(4, 2), jnp.linspace(-2, 2, 12).reshape(4, 3)
    both = tuple(network.init(key, obs[0], action[0]) for key in jax.random.split(jax.random.key(0)))

    def each(args):
        return [one_by_one(network, one, obs, args[1]) for one in args[0]]

    functions = each, lambda args: apply_each(network, args[0], obs, args[1])
    expected, on_cpu, elsewhere = three_ways(monkeypatch, *functions, (both, action))
    assert_close(on_cpu, expected)
    assert_close(elsewhere, expected)


def test_two_torsos_take_the_products_of_one_on_an_accelerator(monkeypatch):
    network = NETWORKS["two torsos"]
    obs = batch_of(network)
    params = network.init(jax.random.key(0), obs[0])
    on_accelerator(monkeypatch)
    text = str(
        jax.make_jaxpr(lambda params: value_and_gradient(lambda p: apply_batch(network, p, obs), params))(params)
    )
    # The second layer, forward (twice, of which the compiler keeps one) and backward twice, and the gradient of obs.
    assert text.count("dot_general") == 2 + 2 + 1


def test_outputs_of_a_first_layer_of_few_inputs_are_not_kept_for_a_large_batch(monkeypatch):
    network = networks.actor_critic(space_pair(Box(-1.0, 1.0, (2,)), Discrete(3)), (2, 2), "tanh")
    params = network.init(jax.random.key(0), jnp.ones(2))
    on_accelerator(monkeypatch)

    def num_activations(batch_size):
        outputs, pull = jax.vjp(lambda params: apply_batch(network, params, jnp.ones((batch_size, 2))), params)
        return str(jax.make_jaxpr(pull)(outputs)).count("= tanh")

    # Of the first layer, which two others read, and of the second one; then for the two gradients that need the first.
    assert (num_activations(3), num_activations(4)) == (3, 3 + 2)


def test_values_alone_take_no_products_of_the_policy(monkeypatch):
    network = NETWORKS["two torsos"]
    obs = batch_of(network)
    params = network.init(jax.random.key(0), obs[0])
    on_accelerator(monkeypatch)
    value = jax.make_jaxpr(lambda params: apply_batch(network, params, obs)[1])(params)
    used, _ = jax.interpreters.partial_eval.dce_jaxpr(value.jaxpr, [True])
    assert str(used).count("dot_general") == 1


class Doubled(type(NETWORKS["dueling"])):
    """Somebody's own network on top of a default one."""

    def __call__(self, obs):
        return 2 * super().__call__(obs)


def test_a_subclass_with_another_output_is_what_a_batch_sees():
    base = NETWORKS["dueling"]
    network = Doubled(
        **{name: getattr(base, name) for name in base.__dataclass_fields__ if name not in ("parent", "name")}
    )
    obs = batch_of(network)
    params = network.init(jax.random.key(0), obs[0])
    np.testing.assert_array_equal(apply_batch(network, params, obs), one_by_one(network, params, obs))


def test_a_network_that_is_a_tuple_of_functions_keeps_its_own_batch():
    class Tuple(NamedTuple):
        init: object
        apply: object
        apply_batch: object

    network = Tuple(None, lambda params, x: params * x, lambda params, x: params * x + 1)
    assert apply_batch(network, 2.0, jnp.arange(3.0)).tolist() == [1, 3, 5]

"""Programs that are compiled side by side: each once, found by the calls, with the errors of the calls."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import ahead, loops

ENV = purerl.envs.make("CartPole-v1")
AGENT = purerl.actor_critic(purerl.networks.actor_critic(ENV, hidden=(4,)))
HPARAMS = purerl.ActorCriticHparams()
SIZES = {"num_updates": 2, "num_envs": 2, "rollout_length": 3}


@pytest.fixture
def compiled():
    """A list that grows by one with every program that XLA compiles."""
    found = []

    def listen(name, seconds, **about):
        if name.endswith("backend_compile_duration"):
            found.append(about.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def test_a_program_that_is_compiled_beside_is_found_by_the_call(compiled):
    double = jax.jit(lambda x: 2 * x)
    x = jnp.float32(1.5)
    compiled.clear()
    with ahead.beside(double.lower(x)):
        pass
    assert len(compiled) == 1
    assert float(double(x)) == 3.0
    assert len(compiled) == 1


def test_what_fails_beside_is_said_by_the_call():
    class Lowered:
        def compile(self):
            raise ValueError("no such program")

    lowered = Lowered()
    with ahead.beside(lowered):
        pass
    with pytest.raises(ValueError, match="no such program"):
        lowered.compile()


def test_an_error_of_the_body_is_raised():
    with pytest.raises(KeyError), ahead.beside(jax.jit(lambda x: x).lower(1.0)):
        raise KeyError("x")


def test_shapes_are_those_of_the_arrays_and_hash_alike():
    tree = {"key": jax.random.key(0), "x": jnp.zeros((2, 3), jnp.int8), "weak": 1.0}
    shapes = ahead.shapes_of(tree)
    assert hash(shapes) == hash(ahead.shapes_of(tree))
    assert shapes.tree()["x"].shape == (2, 3)
    assert shapes.tree()["weak"].weak_type
    assert shapes != ahead.shapes_of(tree | {"weak": jnp.float32(1)})


def test_arrays_that_are_traced_or_bound_to_a_device_are_not_free():
    x = jnp.zeros(3)
    assert ahead.is_free((x, None, 1.0))
    assert not ahead.is_free(jax.device_put(x, jax.devices()[0]))
    jax.jit(lambda traced: [traced, None][ahead.is_free(traced)])(x)


def test_training_compiles_its_two_programs_once_and_both_serve_the_resumable_layer(compiled):
    key = jax.random.key(0)
    whole, _ = purerl.train(key, AGENT, ENV, HPARAMS, **SIZES)
    assert compiled.count("jit(_start)") == compiled.count("jit(_advance_impl)") == 1
    begun = loops.start(key, AGENT, ENV, HPARAMS, num_envs=2)
    in_parts, _ = loops.advance(begun, AGENT, ENV, num_updates=2, rollout_length=3, donate=True)
    purerl.train(jax.random.key(1), AGENT, ENV, HPARAMS._replace(learning_rate=0.5), **SIZES)
    assert compiled.count("jit(_start)") == compiled.count("jit(_advance_impl)") == 1
    chex.assert_trees_all_equal(whole, in_parts.agent_state)


def test_training_from_a_state_leaves_that_state_to_its_owner():
    key, sizes = jax.random.key(0), SIZES | {"num_updates": 1}
    trained, _ = purerl.train(key, AGENT, ENV, HPARAMS, **sizes)
    before = jax.tree.map(np.asarray, trained)
    further, _ = purerl.train(key, AGENT, ENV, HPARAMS, state=trained, **sizes)
    chex.assert_trees_all_equal(before, trained)  # the memory of the loop's state is given away, and this is none of it
    assert not np.array_equal(jax.tree.leaves(further.params)[0], jax.tree.leaves(trained.params)[0])


def test_arrays_that_are_bound_to_a_device_train_as_others_do():
    bound = jax.device_put(jax.random.key(0), jax.devices()[0])
    there, _ = purerl.train(bound, AGENT, ENV, HPARAMS, **SIZES)
    here, _ = purerl.train(jax.random.key(0), AGENT, ENV, HPARAMS, **SIZES)
    chex.assert_trees_all_equal(there, here)

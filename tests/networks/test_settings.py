"""Every default network computes in float32 and broadcasts nothing in silence, whatever JAX is set to."""

import jax
import jax.numpy as jnp
import pytest

from purerl import networks
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple
from purerl.types import Env

OBS = Dict((("x", Box(-1.0, 1.0, (3,))), ("y", Tuple((Discrete(3), MultiDiscrete((2, 2)))))))
IMAGE = Box(0, 255, (40, 40, 2), "uint8")
REAL = Box((-2.0, 0.0), (4.0, 1.0), (2,))
CASES = {
    "actor_critic": (networks.actor_critic, OBS, Discrete(4), {}),
    "multi-discrete": (networks.actor_critic, OBS, MultiDiscrete((2, 3)), {"shared_torso": True}),
    "gaussian": (networks.actor_critic, OBS, REAL, {}),
    "squashed": (networks.actor_critic, OBS, REAL, {"squash": True}),
    "nature": (networks.actor_critic, IMAGE, Discrete(4), {}),
    "impala": (networks.q_network, IMAGE, Discrete(4), {"convolution": "impala", "layer_norm": True}),
    "dueling": (networks.q_network, OBS, Discrete(4), {"dueling": True, "num_atoms": 5}),
    "noisy": (networks.q_network, OBS, Discrete(4), {"noisy": True}),
    "sac": (networks.gaussian_actor, OBS, REAL, {}),
    "td3": (networks.deterministic_actor, OBS, REAL, {}),
    "critic": (networks.critic, IMAGE, REAL, {}),
    "gsde": (networks.gsde_actor, OBS, REAL, {}),
    "gru": (networks.recurrent_actor_critic, OBS, Discrete(4), {}),
    "lstm": (networks.recurrent_actor_critic, OBS, REAL, {"cell": "lstm"}),
    "muzero": (networks.latent_model, OBS, Discrete(4), {}),
}


def example(space):
    if isinstance(space, Dict):
        return {name: example(part) for name, part in space.spaces}
    if isinstance(space, Tuple):
        return tuple(map(example, space.spaces))
    return jnp.zeros(space.shape, space.dtype)


def outputs(name, key):
    build, observation_space, action_space, options = CASES[name]
    network = build(Env(None, None, observation_space, action_space), hidden=(8,), **options)
    inputs = [example(observation_space)]
    inputs += [example(action_space)] if build is networks.critic else []
    inputs += [network.memory()] if build is networks.recurrent_actor_critic else []
    extra = [key] if options.get("noisy") else []
    params = network.init(key, *inputs, *extra)
    found = network.apply(params, *inputs, *extra)
    first = found[0][0] if build is networks.recurrent_actor_critic else found[0] if isinstance(found, tuple) else found
    if hasattr(first, "log_prob"):
        action, log_prob = first.sample_and_log_prob(seed=key)
        found = found, log_prob, first.log_prob(action), first.entropy(), first.kl_divergence(first), first.mode()
    return params, found


@pytest.mark.parametrize("setting", ["x64", "rbg", "rank promotion"])
@pytest.mark.parametrize("name", CASES)
def test_networks_compute_in_float32_under_every_setting(name, setting):
    context = {
        "x64": jax.enable_x64(True),
        "rbg": jax.default_prng_impl("rbg"),
        "rank promotion": jax.numpy_rank_promotion("raise"),
    }[setting]
    with context:
        found = jax.eval_shape(lambda: outputs(name, jax.random.key(0)))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found)} <= {"float32", "int32"}

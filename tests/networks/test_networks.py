import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import networks
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple
from purerl.types import Env


def env(observation, action):
    return Env(None, None, observation, action)


@pytest.mark.parametrize(
    ("space", "obs", "expected"),
    [
        (Discrete(3), 1, [0, 1, 0]),
        (MultiDiscrete((2, 3)), np.array([1, 2]), [0, 1, 0, 0, 1]),
        (Box(0, 9, (2, 2)), np.arange(4.0).reshape(2, 2), [0, 1, 2, 3]),
        (Dict((("a", Box(0, 1, (2,))), ("action_mask", Box(0, 1, (3,))), ("b", Discrete(2)))),
         {"a": np.array([5.0, 6.0]), "b": 1, "action_mask": np.ones(3)}, [5, 6, 0, 1]),
        (Tuple((Discrete(2), Box(0, 1))), (0, 0.5), [1, 0, 0.5]),
    ],
)  # fmt: skip
def test_observations_are_encoded_as_one_vector(space, obs, expected):
    np.testing.assert_array_equal(networks.encode(jax.tree.map(jnp.asarray, obs), space), expected)


def test_a_convolution_over_slices_is_a_convolution():
    x = jax.random.normal(jax.random.key(0), (7, 6, 3))
    layer = networks.PatchConv(5, 3)
    params = jax.jit(layer.init)(jax.random.key(1), x)
    kernel = params["params"]["Dense_0"]["kernel"].reshape(3, 3, 3, 5)
    expected = jax.lax.conv_general_dilated(
        x[None], kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(layer.apply(params, x), expected[0], atol=1e-5)


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
@pytest.mark.parametrize("squash", [False, True])
def test_a_box_of_any_rank_has_one_log_probability(shape, squash):
    network = networks.actor_critic(env(Box(-1, 1, (3,)), Box(-2.0, 4.0, shape)), hidden=(4,), squash=squash)
    obs = jnp.ones(3)
    distribution, value = network.apply(jax.jit(network.init)(jax.random.key(0), obs), obs)
    action, log_prob = distribution.sample_and_log_prob(seed=jax.random.key(1))
    assert action.shape == distribution.mode().shape == shape
    assert value.shape == log_prob.shape == distribution.entropy().shape == ()
    np.testing.assert_allclose(distribution.log_prob(action), log_prob, rtol=1e-4)
    np.testing.assert_allclose(distribution.mode(), 1.0, atol=0.2)  # the middle of the bounds


def test_masks_forbid_parts_of_a_multi_discrete_action():
    space = Dict((("x", Box(-1, 1, (2,))), ("action_mask", Box(0, 1, (5,), "bool"))))
    network = networks.actor_critic(env(space, MultiDiscrete((2, 3))), hidden=(4,))
    obs = {"x": jnp.ones(2), "action_mask": jnp.array([True, False, False, False, True])}
    distribution, _ = network.apply(jax.jit(network.init)(jax.random.key(0), obs), obs)
    samples = jax.vmap(lambda key: distribution.sample(seed=key))(jax.random.split(jax.random.key(1), 50))
    np.testing.assert_array_equal(samples, np.broadcast_to([0, 2], (50, 2)))


def test_a_shared_torso_has_one_torso_and_images_go_through_a_convolution():
    image = env(Box(0, 1, (5, 5, 2)), Discrete(3))
    for shared, names in ((True, {"torso", "value", "policy"}), (False, {"actor", "critic", "value", "policy"})):
        network = networks.actor_critic(image, hidden=(4,), shared_torso=shared)
        params = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((5, 5, 2)))
        assert set(params["params"]) == names
        torso = params["params"]["torso" if shared else "actor"]
        assert torso["PatchConv_0"]["Dense_0"]["kernel"].shape == (18, 16)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"activation": "tahn"}, ValueError, "activation must be one of tanh"),
        ({"hidden": (0,)}, ValueError, "hidden must hold positive widths"),
        ({"hidden": 64}, TypeError, "hidden must be a tuple of widths, such as 64,64 or 64, for one layer; got 64"),
        ({"squash": True}, ValueError, "squash needs a Box"),
        ({"policy_scale": -1.0}, ValueError, "policy_scale must be a finite number of at least 0, got -1.0"),
        (
            {"env": env(Discrete(2), Box(1.0, 1.0, (2,)))},
            ValueError,
            "low == high == 1.0 in element 0",
        ),
        (
            {"env": env(Discrete(2), Tuple((Discrete(2),)))},
            TypeError,
            "action_space must be Discrete, MultiDiscrete or Box",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        networks.actor_critic(**({"env": env(Discrete(2), Discrete(2))} | arguments))


def test_policy_scale_is_every_singular_value_of_the_last_layer_at_the_start():
    obs = jnp.ones(3)
    default, large = (
        networks.actor_critic(env(Box(-1, 1, (3,)), Discrete(2)), hidden=(4,), **scale).init(jax.random.key(0), obs)
        for scale in ({}, {"policy_scale": 1.0})
    )
    kernels = [params["params"]["policy"]["Dense_0"]["kernel"] for params in (default, large)]  # [4, 2]
    np.testing.assert_allclose(kernels[1].T @ kernels[1], np.eye(2), atol=1e-5)
    np.testing.assert_allclose(100 * kernels[0], kernels[1], atol=1e-5)
    others = [{name: params["params"][name] for name in ("actor", "critic", "value")} for params in (default, large)]
    jax.tree.map(np.testing.assert_array_equal, *others)


# --- Action values ----------------------------------------------------------------------------------------------------

FLAT = env(Box(-1, 1, (3,)), Discrete(4))


def test_dueling_advantages_have_mean_zero():
    network = networks.q_network(FLAT, (8,), dueling=True)
    params = jax.jit(network.init)(jax.random.key(0), jnp.ones(3))
    flat = jax.tree.map(lambda x: x, params)
    apply = jax.jit(network.apply)
    q = apply(params, jnp.ones(3))
    flat["params"]["Dense_1"]["bias"] = flat["params"]["Dense_1"]["bias"] + 2.0  # the value's last layer: all q rise
    np.testing.assert_allclose(apply(flat, jnp.ones(3)), q + 2.0, rtol=1e-5)
    flat["params"]["Dense_0"]["bias"] = flat["params"]["Dense_0"]["bias"] + 3.0  # the advantages': nothing changes
    np.testing.assert_allclose(apply(flat, jnp.ones(3)), q + 2.0, rtol=1e-5)


def test_noisy_layers_have_the_factorised_covariance():
    """Cov(y_i, y_j) = (x ∘ S_i)·(x ∘ S_j) E[f²] E[f_i f_j] + ..., with E[f(ε)²] = E|ε| = √(2/π)."""
    layer = networks.q_values.NoisyDense(2)
    x = jnp.array([1.0, -2.0, 0.5])
    params = jax.jit(layer.init)(jax.random.key(0), x, None)
    mean = layer.apply(params, x, None)
    draws = jax.vmap(lambda key: layer.apply(params, x, key))(jax.random.split(jax.random.key(1), 20_000))
    moment = (2 / np.pi) ** 0.5
    spread = 0.5 / 3**0.5
    variance = spread**2 * (np.sum(np.square(x)) * moment**2 + moment)
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.02)
    np.testing.assert_allclose(draws.var(0), variance, rtol=0.05)
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.06  # they share ε, but not its sign


@pytest.mark.parametrize(
    "options", [{"num_atoms": 5}, {"num_atoms": 5, "dueling": True}, {"noisy": True, "num_atoms": 5}]
)
def test_atoms_have_an_axis_of_their_own(options):
    network = networks.q_network(FLAT, (8,), **options)
    out = jax.eval_shape(lambda obs: network.apply(network.init(jax.random.key(0), obs), obs), jnp.ones(3))
    assert out.shape == (4, 5)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_outside():
    image = env(Box(0, 1, (5, 5, 2)), Discrete(4))
    for build in (networks.q_network, networks.actor_critic):
        network, exact = build(image, (16,), dtype="bfloat16"), build(image, (16,))
        obs = jax.random.uniform(jax.random.key(0), (5, 5, 2))
        params = jax.jit(network.init)(jax.random.key(1), obs)
        assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
        value = (lambda out: out[1]) if build is networks.actor_critic else (lambda out: out)
        out, expected = jax.jit(lambda p, obs: (value(network.apply(p, obs)), value(exact.apply(p, obs))))(params, obs)
        assert out.dtype == jnp.float32
        assert "bf16" in str(jax.make_jaxpr(network.apply)(params, obs))
        np.testing.assert_allclose(out, expected, atol=0.05)
        assert np.any(np.asarray(out) != np.asarray(expected))


def test_images_can_be_flattened():
    image = env(Box(0, 1, (5, 5, 2)), Discrete(4))
    network = networks.q_network(image, (8,), convolution=False)
    params = jax.eval_shape(network.init, jax.random.key(0), jnp.ones((5, 5, 2)))
    assert params["params"]["Torso_0"]["Dense_0"]["kernel"].shape == (50, 8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"hidden": (0,)}, ValueError, "hidden must hold positive widths"),
        ({"activation": "rulu"}, ValueError, "activation must be one of"),
        ({"num_atoms": 0}, ValueError, "num_atoms"),
        ({"noisy": True, "layer_norm": True}, ValueError, "noisy and layer_norm"),
    ],
)
def test_bad_arguments_of_q_networks_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        networks.q_network(FLAT, **arguments)


def test_action_values_need_discrete_actions():
    with pytest.raises(TypeError, match="Discrete"):
        networks.q_network(env(Box(-1, 1, (3,)), Box(-1, 1, (1,))))

"""Images: bytes on the scale of other observations, convolutions for their size, none that sees nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import networks
from purerl.networks import images
from purerl.networks.layers import Torso
from purerl.spaces import Box, Dict, Discrete, Tuple
from purerl.types import Env

FOUR = Discrete(4)
BYTES = Box(0, 255, (84, 84, 4), "uint8")


def env(observation, action=FOUR):
    return Env(None, None, observation, action)


def some_bytes(shape, count=()):
    return jax.random.randint(jax.random.key(0), (*count, *shape), 0, 256).astype(jnp.uint8)


@pytest.mark.parametrize(
    ("space", "largest"),
    [
        (Box(0, 255, (2,), "uint8"), 255),
        (Box(-128, 127, (2,), "int8"), 128),
        (Box(0, 1, (2,), "int32"), 1),
        (Box((0, -8), (4, 2), (2,), "int32"), (4, 8)),
        (Box(-np.inf, np.inf, (2,), "int32"), 1),
        (Box(0, 2**40, (2,), "int32"), 1),
        (Box(0.0, 255.0, (2,), "float32"), 1),
        (Box(0.0, 255.0, (1, 1, 2), "float32"), 255),
        (Box(-np.inf, np.inf, (1, 1, 2), "float32"), 1),
    ],
)
def test_integers_and_images_are_divided_by_the_largest_magnitude_of_their_bounds(space, largest):
    obs = jnp.array([1, 2]).astype(space.dtype).reshape(space.shape)
    encoded = networks.encode(obs, space).reshape(-1)
    np.testing.assert_allclose(encoded, np.array([1, 2]) / largest, rtol=1e-6)


def test_images_inside_dicts_and_tuples_are_scaled_too():
    space = Dict((("camera", Tuple((Box(0, 255, (2, 2, 1), "uint8"), Discrete(2)))), ("speed", Box(0, 255, (1,)))))
    obs = {"camera": (jnp.full((2, 2, 1), 255, jnp.uint8), jnp.int32(1)), "speed": jnp.array([255.0])}
    assert networks.encode(obs, space).tolist() == [1, 1, 1, 1, 0, 1, 255]


@pytest.mark.parametrize(("size", "stride", "shape"), [(8, 4, (20, 21, 3)), (4, 2, (9, 10, 2)), (3, 1, (5, 4, 1))])
def test_a_convolution_with_strides_over_slices_is_a_convolution(size, stride, shape):
    x = jax.random.normal(jax.random.key(0), shape)
    layer = images.PatchConv(5, size, stride=stride)
    params = jax.jit(layer.init)(jax.random.key(1), x)
    kernel = params["params"]["Dense_0"]["kernel"].reshape(size, size, shape[-1], 5)
    numbers = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(x[None], kernel, (stride, stride), "VALID", dimension_numbers=numbers)
    np.testing.assert_allclose(layer.apply(params, x), expected[0], atol=1e-5)


def test_padding_keeps_the_size_and_pooling_halves_it():
    x = jax.random.normal(jax.random.key(0), (7, 6, 2))
    layer = images.PatchConv(3, 3, padding="SAME")
    assert jax.eval_shape(lambda: layer.init_with_output(jax.random.key(1), x)[0]).shape == (7, 6, 3)
    expected = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (3, 3, 1), (2, 2, 1), ((1, 1), (1, 1), (0, 0)))
    np.testing.assert_array_equal(images.max_pool(x), expected)


@pytest.mark.parametrize(
    ("convolution", "features", "layers"),
    [(True, 7 * 7 * 64, 3), ("nature", 7 * 7 * 64, 3), ("impala", 11 * 11 * 32, 15), ("minatar", 82 * 82 * 16, 1)],
)
def test_large_images_pass_the_convolution_that_is_asked_for(convolution, features, layers):
    network = networks.q_network(env(BYTES), (16,), convolution=convolution)
    torso = jax.eval_shape(network.init, jax.random.key(0), some_bytes(BYTES.shape))["params"]["Torso_0"]
    assert torso["Dense_0"]["kernel"].shape == (features, 16)
    assert sum(name.startswith("PatchConv") for name in torso) == layers


@pytest.mark.parametrize("convolution", ["minatar", "nature", "impala"])
def test_action_values_of_bytes_are_of_order_one_at_the_start(convolution):
    shape = (40, 40, 4)
    network = networks.q_network(env(Box(0, 255, shape, "uint8")), (32,), convolution=convolution)
    seen = some_bytes(shape, (4,))

    @jax.jit
    def values(key):
        params = network.init(key, seen[0])
        return jax.vmap(lambda obs: network.apply(params, obs))(seen)

    q = np.abs(values(jax.random.key(1)))
    assert 0.02 < q.mean() < 3


@pytest.mark.parametrize("shape", [(2, 5, 4), (5, 2, 4), (1, 1, 3), (3, 3, 1), (2, 2, 2)])
def test_no_image_is_too_small_to_be_seen(shape):
    network = networks.actor_critic(env(Box(-9.0, 9.0, shape)), hidden=(8,))
    seen = jax.random.normal(jax.random.key(0), (3, *shape))

    @jax.jit
    def values(key):
        params = network.init(key, seen[0])
        return jax.vmap(lambda obs: network.apply(params, obs)[1])(seen)

    assert len(np.unique(values(jax.random.key(1)))) == 3


BUILDERS = [networks.actor_critic, networks.q_network, networks.recurrent_actor_critic, networks.latent_model]
REAL_BUILDERS = [networks.gaussian_actor, networks.deterministic_actor, networks.critic, networks.gsde_actor]


@pytest.mark.parametrize("build", BUILDERS + REAL_BUILDERS)
def test_convolutions_that_cannot_be_are_named(build):
    action = Discrete(4) if build in BUILDERS else Box(-1.0, 1.0, (2,))
    with pytest.raises(ValueError, match=r"convolution='nature' needs images with sides of at least 36, but obs"):
        build(env(Box(0, 255, (84, 30, 4), "uint8"), action), convolution="nature")
    with pytest.raises(ValueError, match="convolution must be True, False, minatar, nature, impala; got 'atari'"):
        build(env(BYTES, action), convolution="atari")


CAMERAS = Dict(
    {
        "left": Box(0, 255, (6, 5, 3), "uint8"),
        "near": Tuple((Box(0.0, 9.0, (4, 4, 1)), Discrete(3))),
        "speed": Box(-1, 1),
    }
)


@pytest.mark.parametrize("build", BUILDERS + REAL_BUILDERS)
def test_images_inside_dicts_and_tuples_are_convolved(build):
    made = build(env(CAMERAS, FOUR if build in BUILDERS else Box(-1.0, 1.0, (2,))), hidden=(7,))
    obs = {"left": jnp.ones((6, 5, 3), jnp.uint8), "near": (jnp.ones((4, 4, 1)), jnp.int32(1)), "speed": jnp.float32(1)}
    more = {networks.critic: (jnp.zeros(2),), networks.recurrent_actor_critic: (jnp.zeros(64),)}.get(build, ())
    params, _ = jax.eval_shape(
        lambda key: (made.init(key, obs, *more), made.apply(made.init(key, obs, *more), obs, *more)), jax.random.key(0)
    )
    shapes = {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    kernels = [shape for name, shape in shapes.items() if "PatchConv" in name and "kernel" in name]
    assert {shape[0] for shape in kernels} == {3 * 3 * 3, 3 * 3 * 1}
    joined = 16 * (4 * 3 + 2 * 2) + 3 + 1 + 2 * (build is networks.critic)
    assert any(shape == (joined, 7) for shape in shapes.values()), shapes


def test_images_inside_dicts_are_too_small_for_a_convolution_by_name():
    with pytest.raises(
        ValueError, match=r"convolution='impala' needs images .* but observations have shape \(6, 5, 3\)"
    ):
        networks.q_network(env(CAMERAS), convolution="impala")


@pytest.mark.parametrize("build", BUILDERS + REAL_BUILDERS)
def test_something_without_spaces_is_named(build):
    with pytest.raises(TypeError, match=r"pass purerl\.envs\.make\('Pong-misc'\)"):
        build("Pong-misc")


@pytest.mark.parametrize(("dtype", "atol"), [(None, 1e-5), ("bfloat16", 0.05)])
def test_layer_normalization_of_an_image_is_over_all_its_pixels(dtype, atol):
    bare, torso = (Torso((), "tanh", layer_norm=norm, convolution=True, dtype=dtype) for norm in (False, True))
    image = jax.random.normal(jax.random.key(0), (10, 10, 4)) / 4
    params = torso.init(jax.random.key(1), image)
    convolution = {"params": {"PatchConv_0": params["params"]["PatchConv_0"]}}
    z = np.arctanh(np.asarray(bare.apply(convolution, image), np.float64))
    found = np.asarray(torso.apply(params, image), np.float64)
    np.testing.assert_allclose(found, np.tanh((z - z.mean()) / z.std()), atol=atol)


@pytest.mark.parametrize("nest", [lambda image: Dict({"camera": image}), lambda image: Tuple((FOUR, image))])
@pytest.mark.parametrize("convolution", [True, "nature"])
def test_images_with_their_channels_first_are_refused_inside_dicts_and_tuples(nest, convolution):
    space = nest(Box(0, 255, (3, 84, 84), "uint8"))
    with pytest.raises(ValueError, match=r"\(3, 84, 84\), which looks like an image with its channels first"):
        networks.actor_critic(env(space), convolution=convolution)
    networks.actor_critic(env(space), convolution=False)

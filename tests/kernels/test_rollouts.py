"""The rollout in one kernel makes the steps of `loops.rollout`; here the kernel is interpreted on a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import kernels, loops
from purerl.kernels import lanes

LENGTH, NUM_ENVS = 12, 16


@pytest.fixture(scope="module", params=["CartPole-v1", pytest.param("MountainCar-v0", marks=pytest.mark.slow)])
def both(request):
    """Two rollouts one after the other, by `loops.rollout` and by the kernel, with episodes that end in between."""
    env = purerl.envs.make(request.param)
    network = purerl.networks.actor_critic(env, hidden=(16, 16))
    agent = purerl.ppo(network)
    begun = purerl.start(jax.random.key(0), agent, env, purerl.PPOHparams(), num_envs=NUM_ENVS)
    params = purerl.envs.env_params(request.param, max_steps_in_episode=7)
    fused = kernels.fused_rollout(network, interpret=True)
    made = []
    for rollout in (loops.rollout, fused):
        actors, trajectories = begun.actors, []
        for i in range(2):
            key = jax.random.key(i)
            actors, trajectory = rollout(key, agent, env, begun.agent_state, actors, length=LENGTH, env_params=params)
            trajectories.append(trajectory)
        made.append((actors, trajectories))
    return made


def test_it_returns_what_a_rollout_returns(both):
    plain, fused = both
    assert jax.tree.structure(plain) == jax.tree.structure(fused)
    for x, y in zip(jax.tree.leaves(plain), jax.tree.leaves(fused), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)


def test_the_steps_are_the_same_up_to_rounding(both):
    plain, fused = both
    assert int(plain[1][0].truncated.sum()) == NUM_ENVS  # every episode ended once and began again
    for x, y in zip(jax.tree.leaves(plain), jax.tree.leaves(fused), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_actions_are_equal(both):
    for plain, fused in zip(both[0][1], both[1][1]):
        np.testing.assert_array_equal(plain.action, fused.action)


@pytest.fixture(params=["a repeated action", "an action taken once", "a loop of substeps"])
def loop(request):
    """An environment whose step has a loop."""
    if "action" in request.param:
        return purerl.envs.action_repeat(purerl.envs.make("CartPole-v1"), 1 if "once" in request.param else 4)
    return _with_loop(lambda x: jax.lax.fori_loop(0, 4, lambda i, x: x + i.astype(jnp.float32), x))


def _with_loop(substeps):
    """The endless environment, with rewards after further passes of a loop."""
    env = purerl.envs.endless()

    def step(key, *rest):
        new = env.step(key, *rest)
        return new._replace(reward=substeps(new.reward))

    return env._replace(step=step)


def test_every_pass_of_a_loop_in_the_step_is_made(loop):
    network = purerl.networks.actor_critic(loop, hidden=(16,))
    agent = purerl.ppo(network)
    begun = purerl.start(jax.random.key(0), agent, loop, purerl.PPOHparams(), num_envs=NUM_ENVS)

    def rewards(rollout):
        return rollout(jax.random.key(1), agent, loop, begun.agent_state, begun.actors, length=3)[1].reward

    np.testing.assert_array_equal(rewards(kernels.fused_rollout(network, interpret=True)), rewards(loops.rollout))


# --- What does not fit ------------------------------------------------------------------------------------------------


def rollout_of(env, network, num_envs=NUM_ENVS):
    agent = purerl.ppo(network)
    sizes = {"num_updates": 1, "num_envs": num_envs, "rollout_length": 4}
    fused = kernels.fused_rollout(network, interpret=True)
    jax.eval_shape(lambda: purerl.train(jax.random.key(0), agent, env, purerl.PPOHparams(), **sizes, rollout=fused))


def test_a_step_that_draws_random_numbers_is_refused():
    env = purerl.envs.make("CartPole-v1")
    noisy = env._replace(step=lambda key, *rest: _with_noise(env.step(key, *rest), key))
    with pytest.raises(lanes.NotElementwiseError, match=r"is not elementwise: it needs .*random_bits"):
        rollout_of(noisy, purerl.networks.actor_critic(noisy, hidden=(16,)))


def _with_noise(step, key):
    return step._replace(reward=step.reward + jax.random.normal(key))


@pytest.mark.parametrize(
    ("substeps", "message"),
    [
        (lambda x: jax.lax.fori_loop(0, 1000, lambda _, x: x + 1.0, x), r"a loop of 1000 passes \(at most 256\)"),
        (lambda x: jax.lax.while_loop(lambda x: x < 3, lambda x: x + 1.0, x), r"it needs while\n"),
        (lambda x: jax.lax.reduce(jnp.stack([x, x]), 0.0, lambda a, b: a + 2.0 * b, (0,)), r"it needs reduce\n"),
    ],
    ids=["long", "of unknown length", "over an array"],
)
def test_a_loop_that_cannot_be_unrolled_is_refused(substeps, message):
    env = _with_loop(substeps)
    with pytest.raises(lanes.NotElementwiseError, match=message):
        rollout_of(env, purerl.networks.actor_critic(env, hidden=(16,)))


@pytest.mark.parametrize(
    ("env_id", "hidden", "error", "message"),
    [
        ("CartPole-v1", (24,), ValueError, "hidden widths must be powers of two"),
        ("Pendulum-v1", (16,), TypeError, "the action space must be Discrete"),
        ("Breakout-MinAtar", (16,), TypeError, "the observation must be a vector of float32"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(env_id, hidden, error, message):
    with pytest.raises(error, match=message):
        kernels.fused_rollout(purerl.networks.actor_critic(purerl.envs.make(env_id), hidden=hidden))


def test_a_number_of_environments_that_does_not_fit_is_refused():
    env = purerl.envs.make("CartPole-v1")
    with pytest.raises(ValueError, match="num_envs = 20 must be a multiple of 16"):
        rollout_of(env, purerl.networks.actor_critic(env, hidden=(16,)), num_envs=20)


# --- Lanes ------------------------------------------------------------------------------------------------------------


def test_a_function_of_small_arrays_runs_on_lanes():
    def function(x, y):
        pair = jnp.stack([x, y * 2.0])
        return jnp.concatenate([pair[::-1], jnp.zeros(1)]).sum() + jnp.where(x > 0, pair[0], -1.0), pair.reshape(2, 1)

    closed = jax.make_jaxpr(function)(1.0, 2.0)
    x, y = jnp.array([1.0, -3.0, 2.0]), jnp.array([0.5, 1.0, 4.0])
    total, pair = lanes.run(closed, [lanes.single(x), lanes.single(y)])
    expected = jax.vmap(function)(x, y)
    np.testing.assert_allclose(total[()], expected[0])
    np.testing.assert_allclose(np.stack([np.asarray(each) for each in pair[:, 0]], axis=1), expected[1][:, :, 0])


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_with_constants_and_rows_runs_on_lanes(reverse):
    def function(x, y):
        def body(carry, row):
            return carry * y + row[0], (carry, carry - row)

        return jax.lax.scan(body, x, jnp.stack([x, y, x + y, y, 2.0, x]).reshape(3, 2), reverse=reverse)

    x, y = jnp.array([1.0, -3.0, 2.0]), jnp.array([0.5, 1.0, 4.0])
    results = lanes.run(jax.make_jaxpr(function)(1.0, 2.0), [lanes.single(x), lanes.single(y)])
    for result, expected in zip(results, jax.tree.leaves(jax.vmap(function)(x, y)), strict=True):
        rows = np.stack([np.broadcast_to(each, 3) for each in result.reshape(-1)], axis=1)
        np.testing.assert_allclose(rows.reshape(expected.shape), expected)


def test_calls_within_a_function_run_on_lanes_once():
    @jax.custom_vjp
    def doubled(x):
        return x * 2.0

    doubled.defvjp(lambda x: (doubled(x), None), lambda _, gradient: (gradient,))

    def function(x):
        return doubled(jax.checkpoint(jnp.square)(jax.nn.relu(jax.jit(jnp.negative)(x))))

    x = jnp.array([1.0, -3.0, 2.0])
    np.testing.assert_allclose(lanes.run(jax.make_jaxpr(function)(1.0), [lanes.single(x)])[0][()], function(x))

"""Episodes that are played, drawn, and saved or shown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import envs, films, mdp
from purerl.envs import pictures
from purerl.envs.adapters.side_by_side import Single, side_by_side
from purerl.envs.wrappers.rendering import Drawing
from purerl.spaces import Box, Discrete
from purerl.types import Agent

KEY = jax.random.key(0)
STILL = Agent(lambda *_: (), lambda key, state, obs: (jnp.int32(0), ()), lambda key, state, data: (state, {}))
LAYOUT = ["S #+", "   -"]


@pytest.fixture(scope="module")
def lake():
    env = envs.make("FrozenLake-misc")
    return env, films.play(KEY, STILL, env, (), max_steps=6)


def test_an_episode_has_one_state_more_than_rewards(lake):
    _, played = lake
    assert (len(played.env_states.position), len(played.obs), len(played.action), len(played.reward)) == (7, 7, 6, 6)


def test_an_episode_ends_where_the_environment_ends_it():
    env = envs.probe()
    assert films.play(KEY, STILL, env, (), max_steps=9).reward.shape == (1,)


def test_without_a_limit_it_is_asked_for():
    with pytest.raises(ValueError, match="max_steps"):
        films.play(KEY, STILL, envs.probe()._replace(max_steps=None), ())


@pytest.mark.parametrize("max_steps", [0, -1])
def test_a_limit_that_is_not_positive_is_refused(max_steps):
    with pytest.raises(ValueError, match=f"max_steps must be a positive integer, got {max_steps}"):
        films.play(KEY, STILL, envs.make("CartPole-v1"), (), max_steps=max_steps)


def test_something_that_cannot_be_played_is_named():
    with pytest.raises(TypeError, match=r"pass purerl\.envs\.make\('CartPole-v1'\)"):
        films.play(KEY, STILL, "CartPole-v1", (), max_steps=2)


def test_an_environment_is_played_with_what_the_loops_would_cast():
    env = envs.probe()
    flags = env._replace(step=lambda *x: env.step(*x)._replace(terminated=jnp.int32(1), truncated=jnp.int32(0)))
    assert films.play(KEY, STILL, flags, (), max_steps=3).reward.shape == (1,)


def test_every_kind_of_environment_draws_another_picture_once_something_moves():
    """The pictures of the first state and of one whose position differs."""
    moved = {
        "CartPole-v1": {"x": 1.0, "theta": 0.2}, "Pendulum-v1": {"theta": 1.0}, "Acrobot-v1": {"joint_angle1": 1.0},
        "MountainCar-v0": {"position": 0.2}, "FrozenLake-misc": {"position": 6}, "FourRooms-misc": {"pos": [1, 1]},
        "Catch-bsuite": {"paddle_x": 0},
    }  # fmt: skip
    for name, fields in moved.items():
        env = envs.make(name)
        state = jax.device_get(env.reset(jax.random.key(3))[1])
        other = state.replace(**{field: np.asarray(value) for field, value in fields.items()})
        first, second = env.render(state), env.render(other)
        assert first.dtype == np.uint8, name
        assert first.ndim == 3, name
        assert (first != second).any(), name


def test_a_page_shows_the_states_of_an_episode_inside_wrappers(tmp_path):
    """The page of the library sees the states of the environment itself, those before every step and after the last."""
    lake = envs.make("FrozenLake-misc")
    drawing = Drawing(lake.render, lambda states: " ".join(map(str, states.position.tolist())))
    env = envs.time_limit(lake._replace(render=drawing), 4)
    played = films.play(KEY, STILL, env, ())
    path = films.save_page(env, played, tmp_path / "new" / "page.html", max_frames=3)
    assert path.read_text() == " ".join(map(str, played.env_states.env_state.position[:3].tolist()))
    assert len(films.frames(env, played)) == len(played.reward) + 1


def lamps(lengths, shown):
    """Lamps on the host: the first goes out after `lengths[0]` steps. `shown` collects what the first one drew."""
    times = [0] * len(lengths)

    def single(i):
        def reset(seed):
            times[i] = 0
            return np.zeros(2, np.float32)

        def step(action):
            times[i] += 1
            return np.full(2, times[i], np.float32), 1.0, times[i] == lengths[i], False

        return Single(reset, step, lambda: None)

    def draw():
        shown.append(times[0])
        return np.full((40, 60, 3), 20 * times[0], np.uint8)

    env = side_by_side([single(i) for i in range(len(lengths))], Box(0.0, 9.0, (2,)), Discrete(2))
    return env._replace(render=draw)


def test_an_episode_on_the_host_is_drawn_before_every_step_until_its_own_end():
    shown = []
    images, played = films.film_on_host(KEY, STILL, lamps([4, 2], shown), (), title="lamps", max_steps=9)
    assert shown == [0, 1, 2, 3]
    assert (len(images), played.reward.tolist(), played.obs[:, 0].tolist()) == (4, [1.0] * 4, [0, 1, 2, 3, 4])
    assert [image[-1, image.shape[1] // 2, 0] for image in images] == [0, 20, 40, 60]


def test_an_episode_on_the_host_that_is_not_drawn_shows_its_observations():
    env = lamps([9], [])._replace(render=None)
    images, played = films.film_on_host(KEY, STILL, env, (), title="lamps", max_steps=3)
    assert (len(images), len(played.reward)) == (4, 3)
    assert (images[0] != images[1]).any()


def test_a_wrapped_environment_is_drawn_too():
    env = envs.frame_stack(envs.make("PositionCartPole-v1"), 2)
    state = jax.device_get(env.reset(KEY)[1])
    assert env.render(state).shape == (pictures.HEIGHT, pictures.WIDTH, 3)


def test_a_grid_world_is_drawn_from_its_layout():
    env = envs.from_mdp(mdp.gridworld(LAYOUT), 5, layout=LAYOUT)
    image = env.render(jax.device_get(env.reset(KEY)[1]))
    size = image.shape[0] // 2
    assert image.shape == (2 * size, 4 * size, 3)
    assert (image[size // 2, size // 2] != 255).any(), "the agent stands in the first cell"
    assert (image[size // 2, 5 * size // 2] < 60).all(), "the third one is a wall"


def test_a_layout_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"layout has 8 cells.*7 states"):
        envs.from_mdp(mdp.gridworld(LAYOUT), 5, layout=["S  +", "   -"])


def test_traffic_is_drawn_with_its_queues():
    env = envs.make("TrafficLight-v0")
    state = jax.device_get(env.reset(KEY)[1])
    waiting = state._replace(queue=np.array([3, 0, 0, 0]))
    changed = (env.render(state) != env.render(waiting)).any(axis=-1)
    assert changed[:120].any()
    assert not changed[150:].any()


def test_a_vector_without_a_picture_is_drawn_as_bars():
    env = envs.make("DiscountingChain-bsuite")
    assert env.render is None
    played = films.play(KEY, STILL, env, (), max_steps=2)
    assert [image.shape for image in films.frames(env, played)] == [(pictures.HEIGHT, pictures.WIDTH, 3)] * 3


def test_a_gif_holds_every_frame_and_a_second_more(lake, tmp_path):
    from PIL import Image

    env, played = lake
    images = films.captioned(films.frames(env, played), played, "FrozenLake")
    path = films.save(images, tmp_path / "new" / "replay.gif", fps=5)
    with Image.open(path) as found:
        assert found.size == images[0].shape[1::-1]
        total = 0
        for i in range(found.n_frames):  # equal frames are joined into longer ones
            found.seek(i)
            total += found.info["duration"]
    assert total == (len(images) + 5) * 200


def test_other_files_are_refused():
    with pytest.raises(ValueError, match=r"\.gif or \.mp4"):
        films.save([np.zeros((2, 2, 3), np.uint8)], "replay.png")


def test_the_terminal_shows_frames_over_each_other():
    written = []
    films.show([np.zeros((4, 4, 3), np.uint8)] * 2, written.append, columns=4, fps=1000)
    assert written[0].count("▀") == 8
    assert written[1] == "\x1b[2F" + written[0]


def test_the_return_of_what_is_drawn_is_that_of_evaluation():
    env = envs.time_limit(envs.make("CartPole-v1"), 12)
    played = films.play(KEY, STILL, env, (), max_steps=12)
    result = purerl.evaluate(KEY, STILL, env, (), num_episodes=3, max_steps=12)
    assert result.episode_return.min() - 2 <= played.reward.sum() <= result.episode_return.max() + 2

"""Pictures of environments that draw nothing themselves: a state as uint8 [H, W, 3], drawn on the host with Pillow."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from purerl.types import PyTree, RenderFn

Image: TypeAlias = Any
"""A NumPy array, uint8 [H, W, 3]."""
Pen: TypeAlias = Any
"""A `PIL.ImageDraw.ImageDraw`, in coordinates twice as fine as the picture's pixels."""

WIDTH, HEIGHT = 360, 240
_FINE = 2  # pictures are drawn larger and then reduced, which smooths their edges
_INK, _ACCENT, _GOOD, _WARN, _PALE = "#2b2b33", "#c8553d", "#3a8f5c", "#e0a030", "#d8dbe2"
CHANNELS = (
    "#4c9be8", "#f2b134", "#ed553b", "#59c9a5", "#b27ae0", "#f28fb2", "#a4d04a", "#5bd0e6", "#ffe066", "#9aa0ac",
)  # fmt: skip


def picture(draw: Callable[[Pen], object], width: int = WIDTH, height: int = HEIGHT, color: str = "white") -> Image:
    """What a function draws, as an image [height, width, 3].

    Examples:
      >>> picture(lambda pen: pen.rectangle((0, 0, 3, 3), fill="black"), 4, 2)[:, :, 0].tolist()
      [[0, 0, 255, 255], [0, 0, 255, 255]]
    """
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (_FINE * width, _FINE * height), color)
    draw(ImageDraw.Draw(canvas))
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX))


def of_gymnax(env: Any, params: PyTree) -> RenderFn | None:
    """`render` for an environment of gymnax: classic control, boards and images; None for others."""
    if env.name in _CONTROL:
        return functools.partial(_CONTROL[env.name], params=params)
    if hasattr(env, "desc") and hasattr(env, "nrow"):  # a frozen lake
        return lambda state: cells(_lake(env.desc), divmod(int(state.position), env.ncol))
    if hasattr(env, "occupied_map") and hasattr(env, "coords"):  # rooms and mazes
        walls = [["#" if wall else " " for wall in row] for row in np.asarray(env.occupied_map)]
        return lambda state: cells(walls, tuple(np.asarray(state.pos)), tuple(np.asarray(state.goal)))
    return _observed(env, params)


def _observed(env: Any, params: PyTree) -> RenderFn | None:
    """Draw the observation, if it is an image."""
    shape = env.observation_space(params).shape
    if len(shape) not in (2, 3) or max(shape) < 4 or not hasattr(env, "get_obs"):
        return None
    observe = jax.jit(lambda state: env.get_obs(state, params=params))
    return lambda state: board(np.asarray(observe(state)))


def board(obs: np.ndarray) -> Image:
    """An observation [H, W] or [H, W, C] as a board of squares; channels have colours, the last one in front.

    Examples:
      >>> board(np.ones((10, 5))).shape
      (240, 120, 3)
    """
    values = np.asarray(obs, np.float64)
    planes = values[..., None] if values.ndim == 2 else values
    height, width, num_channels = planes.shape
    colors = np.array([[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in CHANNELS])
    pixels = np.full((height, width, 3), 24.0)
    scale = max(1.0, float(np.abs(planes).max(initial=0.0)))
    for channel in range(num_channels):
        share = np.clip(planes[..., channel] / scale, 0, 1)[..., None]  # [H, W, 1]
        pixels = (1 - share) * pixels + share * colors[channel % len(colors)]
    size = max(1, HEIGHT // max(height, width))
    return np.kron(pixels, np.ones((size, size, 1))).astype(np.uint8)


def cells(rows: Sequence[Sequence[str]], agent: Sequence[int], goal: Sequence[int] | None = None) -> Image:
    """A grid world: '#' walls, '+' and 'G' good exits, '-' and 'H' bad ones, and the agent at (row, column)."""
    size = max(8, min(48, HEIGHT // len(rows)))
    fills = {"#": _INK, "+": _GOOD, "G": _GOOD, "-": _ACCENT, "H": "#5b87c7"}

    def draw(pen: Pen) -> None:
        side = _FINE * size
        for i, row in enumerate(rows):
            for j, kind in enumerate(row):
                fill = _GOOD if goal is not None and (i, j) == tuple(goal) else fills.get(kind, "white")
                pen.rectangle((j * side, i * side, (j + 1) * side, (i + 1) * side), fill=fill, outline=_PALE)
        i, j = (int(each) for each in agent)
        _disc(pen, (j + 0.5) * side, (i + 0.5) * side, 0.32 * side, _WARN)

    return picture(draw, size * len(rows[0]), size * len(rows))


def of_mdp(num_states: int, layout: Sequence[str] | None) -> RenderFn:
    """`render` for an MDP whose states are the cells of a layout that are not walls, row by row; or without a shape.

    Raises:
      ValueError: the layout has another number of cells than the MDP has states.
    """
    if layout is None:
        return lambda env_state: states(int(env_state.state), num_states)
    places = [(i, j) for i, row in enumerate(layout) for j, kind in enumerate(row) if kind != "#"]
    if len(places) != num_states:
        raise ValueError(f"layout has {len(places)} cells that are not walls, the MDP {num_states} states")
    return lambda env_state: cells(layout, places[int(env_state.state)])


def states(state: int, num_states: int) -> Image:
    """State s of S without a shape of their own, as one cell of a near-square grid."""
    columns = math.ceil(math.sqrt(num_states))
    kinds = [[" " if i * columns + j < num_states else "#" for j in range(columns)] for i in range(columns)]
    return cells([row for row in kinds if " " in row], divmod(state, columns))


def bars(values: np.ndarray) -> Image:
    """Any vector, as bars up and down from zero; the longest fills its half."""
    values = np.nan_to_num(np.asarray(values, np.float64).ravel()[:64])
    top = max(1.0, float(np.abs(values).max(initial=0.0)))

    def draw(pen: Pen) -> None:
        width, middle = _FINE * WIDTH / max(1, len(values)), _FINE * HEIGHT / 2
        for i, value in enumerate(values / top):
            low, high = sorted((middle, middle - value * middle * 0.95))
            pen.rectangle((i * width + 3, low, (i + 1) * width - 3, high), fill=_ACCENT if value < 0 else "#4c9be8")
        pen.line((0, middle, _FINE * WIDTH, middle), fill=_INK, width=_FINE)

    return picture(draw)


# --- Classic control --------------------------------------------------------------------------------------------------


def _cart_pole(state: Any, params: Any) -> Image:
    def draw(pen: Pen) -> None:
        scale = _FINE * WIDTH / 2 / 2.6  # pixels per unit; the cart leaves at 2.4
        x, y = _FINE * WIDTH / 2 + float(state.x) * scale, _FINE * HEIGHT * 0.72
        pen.line((0, y + 14 * _FINE, _FINE * WIDTH, y + 14 * _FINE), fill=_INK, width=_FINE)
        pen.rectangle((x - 28 * _FINE, y - 12 * _FINE, x + 28 * _FINE, y + 12 * _FINE), fill=_INK)
        angle, length = float(state.theta), 2 * float(params.length) * 95 * _FINE
        end = x + length * math.sin(angle), y - 6 * _FINE - length * math.cos(angle)
        pen.line((x, y - 6 * _FINE, *end), fill=_WARN, width=9 * _FINE)
        _disc(pen, x, y - 6 * _FINE, 5 * _FINE, "#8492c4")

    return picture(draw)


def _pendulum(state: Any, params: Any) -> Image:
    def draw(pen: Pen) -> None:
        x, y, length = _FINE * WIDTH / 2, _FINE * HEIGHT / 2, _FINE * 90
        angle = float(state.theta)  # 0 is up
        end = x + length * math.sin(angle), y - length * math.cos(angle)
        pen.line((x, y, *end), fill=_ACCENT, width=14 * _FINE)
        _disc(pen, *end, 7 * _FINE, _ACCENT)
        _disc(pen, x, y, 6 * _FINE, _INK)
        torque = float(np.ravel(state.last_u)[0]) / float(params.max_torque)
        low, high = sorted((x, x + torque * 80 * _FINE))
        pen.rectangle((low, _FINE * (HEIGHT - 12), high, _FINE * (HEIGHT - 6)), fill="#4c9be8")

    return picture(draw)


def _acrobot(state: Any, params: Any) -> Image:
    def draw(pen: Pen) -> None:
        x, y, length = _FINE * WIDTH / 2, _FINE * HEIGHT / 2, _FINE * 55
        first = float(state.joint_angle1)  # 0 hangs down
        second = first + float(state.joint_angle2)
        elbow = x + length * math.sin(first), y + length * math.cos(first)
        tip = elbow[0] + length * math.sin(second), elbow[1] + length * math.cos(second)
        pen.line((0, y - length, _FINE * WIDTH, y - length), fill=_GOOD, width=_FINE)
        for begin, end in (((x, y), elbow), (elbow, tip)):
            pen.line((*begin, *end), fill="#4c9be8", width=9 * _FINE)
            _disc(pen, *begin, 6 * _FINE, _INK)
        _disc(pen, *tip, 6 * _FINE, _ACCENT)

    return picture(draw)


def _mountain_car(state: Any, params: Any) -> Image:
    low, high = float(params.min_position), float(params.max_position)

    def at(position: float) -> tuple[float, float]:
        x = (position - low) / (high - low) * _FINE * WIDTH
        return x, _FINE * HEIGHT * (0.92 - 0.65 * (math.sin(3 * position) * 0.45 + 0.55))

    def draw(pen: Pen) -> None:
        pen.line([at(position) for position in np.linspace(low, high, 120)], fill=_INK, width=2 * _FINE)
        x, y = at(float(params.goal_position))
        pen.line((x, y, x, y - 40 * _FINE), fill=_INK, width=_FINE)
        pen.polygon(((x, y - 40 * _FINE), (x + 16 * _FINE, y - 34 * _FINE), (x, y - 28 * _FINE)), fill=_WARN)
        x, y = at(float(state.position))
        _disc(pen, x, y - 9 * _FINE, 9 * _FINE, _ACCENT)

    return picture(draw)


_CONTROL: dict[str, Callable[..., Image]] = {
    "CartPole-v1": _cart_pole, "Pendulum-v1": _pendulum, "Acrobot-v1": _acrobot, "MountainCar-v0": _mountain_car,
    "MountainCarContinuous-v0": _mountain_car,
}  # fmt: skip


# --- Others -----------------------------------------------------------------------------------------------------------


def crossing(state: Any) -> Image:
    """The crossing of `TrafficLight-v0`: waiting vehicles of each approach, and its light."""
    side, road, car = HEIGHT, 26, 9

    def draw(pen: Pen) -> None:
        middle = side * _FINE / 2
        for box in (
            (middle - road * _FINE, 0, middle + road * _FINE, side * _FINE),
            (0, middle - road * _FINE, side * _FINE, middle + road * _FINE),
        ):
            pen.rectangle(box, fill="#6d717c")
        for i, (dx, dy) in enumerate(((0, -1), (1, 0), (0, 1), (-1, 0))):  # north, east, south, west
            lane = -dy * 12 * _FINE, dx * 12 * _FINE  # vehicles keep to the right

            def place(distance: float, dx: int = dx, dy: int = dy, lane: Any = lane) -> tuple[float, float]:
                return middle + dx * distance * _FINE - lane[0], middle + dy * distance * _FINE - lane[1]

            queue, green = int(state.queue[i]), bool(state.green[i])
            for k in range(min(queue, 8)):
                x, y = place(road + 14 + k * (car + 1))
                half = (3 if dx == 0 else 4) * _FINE, (4 if dx == 0 else 3) * _FINE
                pen.rectangle((x - half[0], y - half[1], x + half[0], y + half[1]), fill="#f5f5f5")
            color = _GOOD if green else _WARN if int(state.amber) > 0 else _ACCENT
            _disc(pen, *place(road + 4), 5 * _FINE, color)
            pen.text((middle + dx * 104 * _FINE, middle + dy * 108 * _FINE), str(queue), fill="white", anchor="mm",
                     font_size=12 * _FINE)  # fmt: skip

    return picture(draw, side, side, "#e8efe4")


def _lake(desc: Any) -> list[list[str]]:
    """The letters of a frozen lake: start, frozen, hole, goal, which gymnax numbers in this order."""
    return [["SFHG"[each] for each in row] for row in np.asarray(desc).tolist()]


def _disc(pen: Pen, x: float, y: float, radius: float, fill: str) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)

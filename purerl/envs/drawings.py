"""Pictures of other libraries' environments from what these have: vector graphics, discs in the plane, solid bodies."""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from purerl.envs.pictures import picture
from purerl.runtime import install_hint

Image: TypeAlias = Any
"""A NumPy array, uint8 [H, W, 3]."""
Pen: TypeAlias = Any
"""A `PIL.ImageDraw.ImageDraw`, in coordinates twice as fine as the picture's pixels."""

_FINE, _SIDE = 2, 320
_PLANE, _SPHERE, _CAPSULE, _ELLIPSOID, _CYLINDER, _BOX = 0, 2, 3, 4, 5, 6  # MuJoCo's types of geoms


def svg(text: str) -> Image:
    """Vector graphics as pixels.

    Raises:
      ModuleNotFoundError: resvg-py is not installed; the message says how to get it.
    """
    import matplotlib
    from PIL import Image

    try:
        import resvg_py
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"drawing games of Pgx needs resvg-py: {install_hint('pgx')}") from None
    fonts: Any = {"font_dirs": [f"{matplotlib.get_data_path()}/fonts/ttf"], "skip_system_fonts": True}
    fonts |= {"font_family": "DejaVu Sans", "sans_serif_family": "DejaVu Sans", "serif_family": "DejaVu Serif"}
    png = bytes(resvg_py.svg_to_bytes(svg_string=text, background="white", **fonts))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def discs(places: np.ndarray, radii: np.ndarray, colors: np.ndarray, reach: float) -> Image:
    """Discs in the plane, the first ones in front.

    Args:
      places: [E, 2] centres, y upwards.
      radii: [E], in the same units.
      colors: [E, 3] in [0, 255].
      reach: the picture shows [−reach, reach]².

    Examples:
      >>> discs(np.zeros((1, 2)), np.ones(1), np.zeros((1, 3)), reach=2.0)[160, 160].tolist()
      [0, 0, 0]
    """
    scale = _FINE * _SIDE / (2 * reach)

    def draw(pen: Pen) -> None:
        for (x, y), radius, color in reversed(list(zip(places.tolist(), radii.tolist(), colors.tolist()))):
            left, top, r = (x + reach) * scale, (reach - y) * scale, radius * scale
            pen.ellipse(
                (left - r, top - r, left + r, top + r), fill=tuple(int(each) for each in color), outline="#2b2b33"
            )

    return picture(draw, _SIDE, _SIDE)


class Geoms(NamedTuple):
    """G solid bodies as MuJoCo has them.

    Attributes:
      kinds: [G] types of geoms; planes are the ground, and meshes are drawn as discs.
      sizes: [G, 3] half sizes in metres; of a capsule and a cylinder the radius and half the length, along z.
      places: [G, 3] centres in the world.
      turns: [G, 3, 3] rotation matrices, local to world.
    """

    kinds: np.ndarray
    sizes: np.ndarray
    places: np.ndarray
    turns: np.ndarray


def rotation(quaternions: np.ndarray) -> np.ndarray:
    """Unit quaternions (w, x, y, z), [..., 4], as rotation matrices [..., 3, 3].

    Examples:
      >>> rotation(np.array([1.0, 0, 0, 1.0]) / 2**0.5).round(6).astype(int).tolist()  # 90° about z
      [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    """
    w, x, y, z = np.moveaxis(np.asarray(quaternions, np.float64), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


# The camera looks along y, a little from above and from the side: rows are right, up and towards the camera.
_CAMERA = np.array([[0.94, 0.34, 0.0], [0.10, -0.28, 0.955], [0.325, -0.90, -0.297]])


def bodies(geoms: Geoms, center: np.ndarray, reach: float = 1.6) -> Image:
    """Bodies on the ground, seen from the side by a camera that moves along with `center`.

    Args:
      geoms: the bodies.
      center: [3] the point in the middle of the picture.
      reach: half of the picture's width in metres.
    """
    scale = _FINE * _SIDE / (2 * reach)

    def at(point: np.ndarray) -> tuple[float, float]:
        right, up, _ = _CAMERA @ (point - center)
        return (right + reach) * scale, (reach - up) * scale

    def line(pen: Pen, begin: np.ndarray, end: np.ndarray, radius: float, color: str) -> None:
        r, ends = max(radius * scale, 1.0), (at(begin), at(end))
        pen.line((*ends[0], *ends[1]), fill=color, width=max(1, round(2 * r)))
        for x, y in ends:
            pen.ellipse((x - r, y - r, x + r, y + r), fill=color)

    def draw(pen: Pen) -> None:
        if (geoms.kinds == _PLANE).any():
            _draw_ground(pen, at, center, reach)
        depth = (geoms.places - center) @ _CAMERA[2]
        for g in np.argsort(depth):  # the nearest last
            kind, size, place, turn = (each[g] for each in geoms)
            color = _COLORS[g % len(_COLORS)]
            if kind in (_CAPSULE, _CYLINDER):
                line(pen, place - turn[:, 2] * size[1], place + turn[:, 2] * size[1], size[0], color)
            elif kind == _BOX:
                corners = [place + turn @ (size * np.array(signs)) for signs in _CORNERS]
                for k, corner in enumerate(corners):
                    for j in (k ^ 1, k ^ 2, k ^ 4):
                        line(pen, corner, corners[j], 0.25 * float(size.min()), color)
            elif kind != _PLANE:
                line(pen, place, place, float(size[0]) or 0.05, color)

    return picture(draw, _SIDE, _SIDE, "#eef1f6")


_COLORS = ("#c8553d", "#e0a030", "#4c9be8", "#3a8f5c", "#8492c4", "#b27ae0")
_CORNERS = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]  # corner k differs from k ^ 1, 2, 4 in one


def _draw_ground(pen: Pen, at: Any, center: np.ndarray, reach: float) -> None:
    """Lines on the ground at every metre, so that moving is seen."""
    span = math.ceil(3 * reach)
    x0, y0 = math.floor(center[0]), math.floor(center[1])
    for k in range(-span, span + 1):
        for begin, end in (((x0 + k, y0 - span), (x0 + k, y0 + span)), ((x0 - span, y0 + k), (x0 + span, y0 + k))):
            pen.line((*at(np.array([*begin, 0.0])), *at(np.array([*end, 0.0]))), fill="#c9d0dc", width=_FINE)

"""Pictures from geometry: what is drawn where."""

import sys

import numpy as np
import pytest

from purerl.envs import drawings

UP = np.eye(3)


def colored(image):
    """The rows and columns of what is not gray or white: (rows, columns)."""
    return np.nonzero(np.ptp(image.astype(int), axis=-1) > 60)


def capsule(turn, place=(0.0, 0.0, 0.0)):
    geoms = drawings.Geoms(np.array([3]), np.array([[0.05, 0.5, 0.0]]), np.array([place]), turn[None])
    return drawings.bodies(geoms, np.zeros(3))


def test_discs_lie_where_they_are_in_the_plane():
    places, radii = np.array([[1.0, 0.5], [-1.0, -0.5]]), np.array([0.2, 0.4])
    image = drawings.discs(places, radii, np.array([[255, 0, 0], [0, 0, 255]]), reach=2.0)
    red, blue = ((image == color).all(axis=-1).nonzero() for color in ([255, 0, 0], [0, 0, 255]))
    assert [round(float(x.mean())) for x in red] == pytest.approx([120, 240], abs=1)  # 80 pixels per unit
    assert [round(float(x.mean())) for x in blue] == pytest.approx([200, 80], abs=1)
    assert len(blue[0]) / len(red[0]) == pytest.approx(4, rel=0.1)


def test_the_first_disc_is_in_front():
    image = drawings.discs(np.zeros((2, 2)), np.array([0.2, 0.4]), np.array([[255, 0, 0], [0, 0, 255]]), reach=2.0)
    assert image[160, 160].tolist() == [255, 0, 0]


def test_a_capsule_lies_along_its_own_z_axis():
    rows, columns = colored(capsule(UP))
    assert np.ptp(rows) > 4 * np.ptp(columns)  # upright
    half = 0.5**0.5
    rows, columns = colored(capsule(drawings.rotation(np.array([half, 0.0, half, 0.0]))))  # 90° about y: along x
    assert np.ptp(columns) > 4 * np.ptp(rows)


def test_what_is_higher_is_drawn_higher():
    low, high = (colored(capsule(UP, (0.0, 0.0, z)))[0].mean() for z in (0.0, 0.5))
    assert low - high == pytest.approx(0.5 * 0.955 * 100, abs=1)  # 100 pixels per metre


def test_rotations_are_orthogonal_and_compose():
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(2, 4))
    p, q = p / np.linalg.norm(p), q / np.linalg.norm(q)
    w = p[0] * q[0] - p[1:] @ q[1:]
    product = np.array([w, *(p[0] * q[1:] + q[0] * p[1:] + np.cross(p[1:], q[1:]))])
    np.testing.assert_allclose(drawings.rotation(product), drawings.rotation(p) @ drawings.rotation(q), atol=1e-12)
    np.testing.assert_allclose(drawings.rotation(p) @ drawings.rotation(p).T, np.eye(3), atol=1e-12)


def test_vector_graphics_without_their_library_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ModuleNotFoundError, match=r"purerl\[pgx\]"):
        drawings.svg("<svg/>")

"""The drawing kernels against what geometry says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.sample.camera import camera_view, sun_view
from dvos.sample.lighting import draw_awns, join_owners
from dvos.sample.raster import (
    STYLE_COLUMNS,
    Buffers,
    Ellipsoids,
    Ribbons,
    draw_ellipsoids,
    draw_ribbons,
)

NOISE = np.zeros((64, 64), np.float32)


def empty(height: int, width: int):
    depth = np.full((height, width), np.inf, np.float32)
    return depth, np.zeros((height, width, 8), np.float32), np.zeros((height, width), np.uint16)


NO_SURFACE = np.empty((0, 0, 8), np.float32)


def ball(centre, radii, owner=7, size=(60, 80), for_the_sun=False):
    depth, surface, owners = empty(*size)
    surface = NO_SURFACE if for_the_sun else surface
    axes = np.diag(np.asarray(radii, np.float32))[None]
    world = (axes / (axes**2).sum(axis=1, keepdims=True)).astype(np.float32)
    solid = Ellipsoids(
        np.array([centre], np.float32),
        axes,
        np.array([[0.5, 0.5, 0.5, 1.0, 64.0]], np.float32),
        np.array([owner], np.uint16),
    )
    draw_ellipsoids(solid, world, NOISE, Buffers(depth, surface, owners))
    return depth, surface, owners


@settings(max_examples=30)
@given(
    x=st.floats(20, 60),
    y=st.floats(20, 40),
    a=st.floats(2, 14),
    b=st.floats(2, 14),
)
def test_ellipsoid_covers_its_ellipse(x, y, a, b):
    depth, _, owner = ball((x, y, 5.0), (a, b, 0.5))
    rows, columns = np.mgrid[0:60, 0:80] + 0.5
    square = ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2
    np.testing.assert_array_equal(owner[square < 0.999] == 7, True)
    np.testing.assert_array_equal(owner[square > 1.001] == 0, True)
    inside = square < 0.99
    expected = 5.0 - 0.5 * np.sqrt(1.0 - square[inside])
    np.testing.assert_allclose(depth[inside], expected, atol=1e-3)


def test_ellipsoid_normal_points_out():
    _, surface, owner = ball((40.0, 30.0, 5.0), (10, 10, 1.0))
    row, column = np.argwhere(owner > 0).T
    lean = surface[row, column, 3]
    assert (lean[column > 45] > 0).all()
    assert (lean[column < 34] < 0).all()


def strip(z, owner_before=0, size=(40, 40)):
    depth, surface, owner = empty(*size)
    owner[:] = owner_before
    edges = np.zeros((1, 3, 2, 3), np.float32)
    edges[0, :, 0, 0], edges[0, :, 1, 0] = 10.0, 20.0
    edges[0, :, :, 1] = np.array([5.0, 15.0, 30.0])[:, None]
    edges[0, :, :, 2] = z
    return edges, depth, surface, owner


def draw(edges, depth, surface, owner):
    straight = np.tile(np.array([0, 0, 1], np.float32), (1, 3, 1))
    sideways = np.tile(np.array([1, 0, 0], np.float32), (1, 3, 1))
    style = np.zeros((1, STYLE_COLUMNS), np.float32)
    style[:, :6] = 0.3
    length = np.array([0.2], np.float32)
    ribbon = Ribbons(edges, straight, sideways, style, length)
    draw_ribbons(ribbon, NOISE, Buffers(depth, surface, owner))


def test_ribbon_covers_each_sample_of_its_quads_once_and_no_other():
    edges, depth, surface, owner = strip(2.0)
    draw(edges, depth, surface, owner)
    expected = np.zeros((40, 40), bool)
    expected[5:30, 10:20] = True
    np.testing.assert_array_equal(np.isfinite(depth), expected)


def test_nearer_ribbon_takes_the_samples_of_a_head():
    edges, depth, surface, owner = strip(2.0, owner_before=3)
    depth[:, :15] = 1.0
    draw(edges, depth, surface, owner)
    assert (owner[5:30, 15:20] == 0).all()
    assert (owner[5:30, 10:15] == 3).all()
    assert (depth[5:30, 10:15] == 1.0).all()


def test_the_sun_sees_the_same_outlines():
    edges, depth, _, owner = strip(2.0, owner_before=3)
    draw(edges, depth, NO_SURFACE, owner)
    assert np.isfinite(depth).sum() == 25 * 10
    assert (owner == 3).all()
    seen, _, _ = ball((20.0, 15.0, 3.0), (8, 5, 0.3))
    shade, _, owner = ball((20.0, 15.0, 3.0), (8, 5, 0.3), for_the_sun=True)
    np.testing.assert_allclose(shade, seen)
    assert not owner.any()


def test_awn_covers_its_width_and_hides_behind_what_is_nearer():
    depth = np.full((20, 30), 5.0, np.float32)
    depth[:, 20:] = 1.0
    light = np.zeros((20, 30, 3), np.float32)
    line = np.array([[[2.0, 10.5, 2.0], [28.0, 10.5, 2.0]]], np.float32)
    draw_awns(line, np.array([0.6], np.float32), np.ones((1, 3), np.float32), depth, light)
    assert light[10, 3, 0] == pytest.approx(0.6, abs=0.05)
    assert (light[10, 2:20] > 0).all()
    assert not light[:, 20:].any()
    assert not light[:9].any()


def test_two_of_four_samples_make_a_pixel():
    owner = np.array([[4, 0, 4, 9], [4, 0, 0, 0], [5, 5, 0, 8], [6, 6, 8, 8]], np.uint16)
    np.testing.assert_array_equal(join_owners(owner), [[4, 0], [5, 8]])


def views():
    origin = np.array([0.2, -0.5, 2.0])
    eye = camera_view(origin, (120, 160), pitch=0.9, yaw=0.3, roll=0.02, fov=0.6)
    area = np.array([[-1.0, -1.0], [1.0, 2.0]])
    sun = sun_view(np.array([0.6, 0.0, 0.8]), area, top_m=0.9, cell_m=0.01)
    return {"eye": eye, "sun": sun}


@pytest.mark.parametrize("name", ["eye", "sun"])
def test_jacobian_is_the_derivative_of_the_projection(name):
    view = views()[name]
    points = np.array([[0.1, 0.9, 0.3], [-0.2, 1.2, 0.0]])
    step = 1e-6
    numeric = np.stack(
        [
            (view.project(points + step * axis) - view.project(points - step * axis)) / (2 * step)
            for axis in np.eye(3)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(view.jacobian(points), numeric, rtol=1e-4, atol=1e-4)


def test_ground_undoes_the_projection():
    view = views()["eye"]
    corners = np.array([[0.0, 0.0], [160.0, 120.0], [30.0, 70.0]])
    ground = view.ground(corners, 0.4)
    back = view.project(np.column_stack([ground, np.full(3, 0.4)]))
    np.testing.assert_allclose(back[:, :2], corners, atol=1e-9)


def test_the_suns_view_holds_the_area():
    view = views()["sun"]
    corners = np.array([[-1, -1, 0], [1, 2, 0], [-1, 2, 0.9], [1, -1, 0.9]], float)
    seen = view.project(corners)
    assert (seen[:, :2] >= 0).all()
    assert (seen[:, 0] <= view.size[1]).all()
    assert (seen[:, 1] <= view.size[0]).all()
    assert (seen[:, 2] > 0).all()

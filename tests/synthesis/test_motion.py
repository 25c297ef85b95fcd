from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.config.scene import CameraSettings, ElasticSettings, WalkSettings, WindSettings
from dvos.synthesis.motion import (
    CameraPath,
    draw_bending,
    draw_camera,
    draw_own_sway,
    draw_steps,
    draw_wind,
)

STILL_CAMERA = {
    "enabled": True,
    "step": (0, 0),
    "change_direction": 0.0,
    "drift": (0, 0),
    "turn": (0, 0),
    "shake": (0, 0),
    "zoom": (0, 0),
    "roll": (0, 0),
    "parallax": (0, 0),
    "plate_follows": (1, 1),
}
WIND = {
    "enabled": True,
    "sway": (0.1, 0.1),
    "variation": (1, 1),
    "stalk": (3, 3),
    "wavelength": (10, 10),
    "period": (20, 20),
    "gusts": (0, 0),
    "gust_strength": (1, 1),
    "flutter": (0, 0),
}


def camera_of(seed: int, frames: int, size: tuple[int, int], **settings):
    return draw_camera(CameraSettings(**settings), rng(seed), frames, size)


def steps_of(frames: int, count: int, **settings):
    return draw_steps(WalkSettings(**settings), rng(), frames, count)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_published_steps_stay_in_their_ranges():
    moves, angle = steps_of(200, 60, enabled=True, step=(0, 5), turn=(1, 5), change_direction=0.05)
    assert set(np.unique(np.abs(moves[1:]))) == set(range(6))
    turns = np.degrees(np.diff(angle, axis=0))
    assert np.abs(turns).round(9).min() == 1
    assert np.abs(turns).round(9).max() == 5
    assert (np.sign(turns) == np.sign(turns[0])).all()  # one way for each sprite
    forward = np.sign(moves[1:].sum(2))
    changed = (np.diff(np.sign(moves[1:, :, 0]), axis=0) != 0).mean()
    assert forward.any()
    assert changed < 0.35


def test_directions_change_as_often_as_set():
    moves, _ = steps_of(400, 80, enabled=True, step=(3, 3), turn=(0, 0), change_direction=0.05)
    assert (np.diff(np.sign(moves[1:, :, 0]), axis=0) != 0).mean() == pytest.approx(0.05, abs=0.005)


def test_published_camera_steps():
    jerky = {**STILL_CAMERA, "step": (0, 10), "change_direction": 0.05}
    path = camera_of(3, 500, (100, 100), **jerky)
    steps = np.diff(path.travel, axis=0)
    assert set(np.unique(np.abs(steps))) == set(range(11))
    signs = np.sign(steps[(steps != 0).all(1)])
    assert (np.diff(signs[:, 0]) != 0).mean() == pytest.approx(0.05, abs=0.03)


@given(
    roll=st.floats(-0.5, 0.5),
    zoom=st.floats(0.5, 2),
    travel=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    depth=st.floats(0.5, 1.5),
    point=st.tuples(st.floats(-100, 200), st.floats(-100, 200)),
)
@settings(max_examples=50)
def test_unview_undoes_view(roll, zoom, travel, depth, point):
    path = CameraPath(
        np.array([50.0, 40.0]),
        np.array([travel]),
        np.array([zoom]),
        np.array([roll]),
        0.1,
        1.0,
    )
    share = np.array([depth])
    seen = path.view(np.array([[point]]), share, np.array([0]))[0]
    assert path.unview(seen, share, 0)[0] == pytest.approx(point, abs=1e-6)


def test_a_background_that_follows_wholly_moves_with_the_canopy():
    moving = {**STILL_CAMERA, "drift": (5, 5), "zoom": (0.01, 0.01), "roll": (1, 1)}
    path = camera_of(1, 10, (80, 100), **moving)
    points = np.array([[[10.0, 20.0], [70.0, 5.0]]])
    seen = path.view(points, np.ones(2), np.arange(10))
    maps = path.background_maps()
    back = np.einsum("tij,tnj->tni", maps[:, :, :2], seen) + maps[:, None, :, 2]
    assert back[:, 0] == pytest.approx(np.repeat(back[:1, 0], 10, 0), abs=0.6)


def test_the_region_holds_all_that_is_seen():
    moving = {**STILL_CAMERA, "drift": (6, 6), "roll": (2, 2), "parallax": (0.2, 0.2)}
    path = camera_of(2, 60, (80, 100), **moving)
    y0, y1, x0, x1 = path.region((80, 100), 5.0)
    edge = np.array([[0.0, 0], [80, 100], [0, 100], [80, 0], [40, 50]])
    for t in range(60):
        for depth in (0.8, 1.0, 1.2):
            points = path.unview(edge, np.full(5, depth), t)
            assert (points >= [y0, x0]).all()
            assert (points <= [y1, x1]).all()


def _sway(count: int, seed: int = 0, **changes):
    settings = WindSettings(**{**WIND, **changes})
    field = draw_wind(settings, rng(seed), 60, 20.0, 500.0)
    assert field is not None
    points = rng(1).random((count, 2)) * 200
    shift, lean = field.sway_sprites(
        points,
        np.zeros(count),
        np.full(count, 20.0),
        draw_own_sway(settings, rng(2), count),
        np.arange(60, dtype=float),
    )
    return points, shift, lean


def test_neighbours_sway_alike_and_far_ones_do_not():
    points, shift, _ = _sway(120)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    course = shift - shift.mean(0)
    flat = course.transpose(1, 0, 2).reshape(len(points), -1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    alike = flat @ flat.T
    upper = np.triu(np.ones_like(distance, bool), 1)
    assert alike[upper & (distance < 12)].mean() > 0.9
    assert alike[upper & (distance > 80)].mean() < 0.6


def test_sway_is_continuous_and_small():
    _, shift, lean = _sway(40, gusts=(4, 4), flutter=(0.2, 0.2))
    steps = np.linalg.norm(np.diff(shift, axis=0), axis=2)
    assert np.linalg.norm(shift, axis=2).max() < 20
    assert steps.max() < 3
    assert np.abs(lean).max() < 0.6


def test_feet_stand_still():
    """The foot of a leaning stalk lies where the upright stalk's does."""
    _, shift, lean = _sway(30, sway=(0.4, 0.4))
    stalk = 60.0
    # Upright: the head is at -y above its foot; turned by the lean.
    up = np.stack([-np.cos(lean), -np.sin(lean)], -1)
    foot = shift - stalk * up - np.array([stalk, 0.0])
    sideways = foot[..., 1]
    assert np.abs(sideways).max() < 1e-9
    assert np.abs(foot[..., 0]).max() < 0.3 * 0.4 * 20 * 2.5  # foreshortening only


def test_gusts_run_across_the_frame():
    gusty = WindSettings(**{**WIND, "gusts": (100, 100), "gust_strength": (3, 3), "sway": (1, 1)})
    field = draw_wind(gusty, rng(5), 60, 20.0, 500.0)
    assert field is not None
    start, speed, _, _ = field.gusts[0]
    from dataclasses import replace

    gust = replace(field, weight=np.zeros(3), gusts=field.gusts[:1])
    line = np.outer(np.linspace(0, 300, 61), field.direction)
    times = start + np.array([50.0, 100.0, 150.0]) / speed
    peak = np.linspace(0, 300, 61)[gust.strength(line, times).argmax(1)]
    assert peak == pytest.approx([50, 100, 150], abs=5)


def test_bending_is_continuous_and_as_frequent_as_set():
    elastic = ElasticSettings(
        probability=0.3, amplitude=(0.02, 0.02), shear=(0.1, 0.1), period=(10, 60)
    )
    bending = draw_bending(elastic, rng(), 3000)
    assert (np.abs(bending.nodes).max((1, 2, 3)) > 0).mean() == pytest.approx(0.3, abs=0.03)
    grids = bending.grids(np.arange(0, 30, 0.5))
    assert np.abs(np.diff(grids, axis=0)).max() < 0.05
    assert np.abs(grids).max() <= 0.02 + 0.1


def test_switched_off_nothing_moves():
    assert draw_wind(WindSettings(**{**WIND, "enabled": False}), rng(), 5, 20, 100) is None
    still = ElasticSettings(enabled=False, probability=1)
    assert not draw_bending(still, rng(), 4).nodes.any()
    off = {"enabled": False, "step": (5, 5), "turn": (5, 5), "change_direction": 0.5}
    assert not steps_of(6, 3, **off)[0].any()
    path = camera_of(0, 4, (9, 9), **{**STILL_CAMERA, "enabled": False, "drift": (5, 5)})
    assert not path.travel.any()

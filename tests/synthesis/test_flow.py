from __future__ import annotations

import numpy as np
import pytest
from tiny_material import ALL_OFF

SIZE = (120, 130)
MOVING = {
    **ALL_OFF,
    "population": {
        "objects": [0.15, 0.15],
        "distractors": [0.1, 0.1],
        "foreground": [0, 0],
        "overlap": 0.0,
        "clump": [0, 0],
    },
    "wind": {"sway": [0.2, 0.25]},
    "walk": {"enabled": True, "step": [0, 2], "turn": [0, 3]},
    "elastic": {"probability": 0.7, "amplitude": [0.02, 0.02], "shear": [0.05, 0.1]},
    "camera": {
        "drift": [3, 4],
        "zoom": [0.004, 0.004],
        "roll": [0.5, 0.5],
        "plate_follows": [0.7, 0.7],
    },
}


def _sampled(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    i, j = np.floor(y).astype(int), np.floor(x).astype(int)
    a, b = (y - i)[..., None], (x - j)[..., None]
    near = image[i, j] * (1 - b) + image[i, j + 1] * b
    far = image[i + 1, j] * (1 - b) + image[i + 1, j + 1] * b
    return near * (1 - a) + far * a


@pytest.mark.parametrize("index", range(3))
def test_the_flow_leads_to_the_same_things_in_the_frame_before(generator_of, index):
    clip = generator_of(**MOVING).make(index, frames=4, size=SIZE, flow=True)
    assert clip.flow is not None
    assert np.isnan(clip.flow[0]).all()
    for t in range(1, 4):
        y, x = np.indices(SIZE) + np.moveaxis(clip.flow[t], 2, 0)
        inside = (y >= 0) & (y < SIZE[0] - 1) & (x >= 0) & (x < SIZE[1] - 1)
        assert inside.mean() > 0.85
        there = _sampled(clip.frames[t - 1].astype(float), y[inside], x[inside])
        error = np.abs(clip.frames[t][inside].astype(float) - there).max(1)
        assert np.median(error) < 2
        # Away from edges, in what is seen of one object in both frames:
        near = np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)
        deep = _deep(clip.instances[t])[inside] & _deep(clip.instances[t - 1])[near]
        deep &= clip.instances[t][inside] == clip.instances[t - 1][near]
        assert deep.sum() > 200
        assert error[deep].mean() < 3
        assert np.quantile(error[deep], 0.99) < 12


def _deep(instances: np.ndarray) -> np.ndarray:
    """Pixels of objects with nothing else within 2 px."""
    import cv2

    kernel = np.ones((5, 5), np.uint8)
    same = cv2.dilate(instances, kernel) == cv2.erode(instances, kernel)
    return same & (instances > 0)


def test_a_background_moves_as_its_maps_say(generator_of):
    scene = {
        **ALL_OFF,
        "population": {
            "per": "frame",
            "objects": [0, 0],
            "distractors": [0, 0],
            "foreground": [0, 0],
        },
        "plates": {**ALL_OFF["plates"], "pan": [2, 2]},
    }
    clip = generator_of(**scene).make(0, frames=3, size=SIZE, flow=True)
    assert clip.flow is not None
    assert np.hypot(*np.moveaxis(clip.flow[1:], 3, 0)) == pytest.approx(2, abs=1e-4)
    assert np.ptp(clip.flow[1:], axis=(1, 2)) == pytest.approx(0, abs=1e-4)


def test_the_flow_of_a_window_is_that_of_the_whole(generator_of):
    generator = generator_of(**MOVING)
    whole = generator.make(0, frames=3, size=SIZE, flow=True)
    part = generator.make(0, frames=3, size=SIZE, window=(20, 30, 50, 40), times=[2], flow=True)
    assert whole.flow is not None
    assert part.flow is not None
    assert np.array_equal(part.flow[0], whole.flow[2, 20:70, 30:70])


def test_what_was_not_there_before_has_no_flow(generator_of):
    scene = {
        "preset": "published",
        "population": {
            "objects": [30, 30],
            "distractors": [0, 0],
            "recovery_variance": 0,
            "recovery_expansion": 1,
        },
        "walk": {"enabled": False},
        "camera": {"step": [9, 9], "change_direction": 0},
    }
    generator = generator_of(**scene)
    made = generator.scene(0, frames=30, size=(64, 64))
    born = made.alive & ~np.roll(made.alive, 1, 0)
    born[0] = False
    clip = generator.make(0, frames=30, size=(64, 64), flow=True)
    assert born.any()
    assert clip.flow is not None
    t, n = (int(v) for v in np.argwhere(born)[0])
    place = clip.instances[t] == made.instance[n]
    assert np.isnan(clip.flow[t][place]).all()

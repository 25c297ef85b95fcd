from __future__ import annotations

import cv2
import numpy as np
import pytest
from made_stills import blob_mask, shown

from dvos.config.data import ColourSettings, DegradationSettings, SpatialSettings
from dvos.media.mask import IGNORE
from dvos.training.augment.appearance import (
    ColourJitter,
    Degradation,
    add_noise,
    compress,
    gamma_curve,
    hue_matrix,
    motion_kernel,
)
from dvos.training.augment.spatial import draw_geometry
from dvos.training.clips.clip import query_clip


def spatial(**values):
    """Of geometry, only what is given changes."""
    return SpatialSettings(preset="none", **values)


def colour(**values):
    return ColourJitter(ColourSettings(preset="none", **values))


def degradation(**values):
    return Degradation(DegradationSettings(preset="none", **values))


EVERYTHING = spatial(
    scale=(0.5, 1.5),
    flip=True,
    quarter_turn=0.5,
    rotation=180,
    rotation_share=1.0,
    stretch=0.2,
    elastic=5,
    elastic_share=1.0,
)
STRONG: dict[str, float] = {
    "brightness": 0.35,
    "contrast": 0.25,
    "saturation": 0.35,
    "gain": 0.12,
    "hue": 25,
    "gamma": 0.3,
    "grey_share": 0.1,
    "shade_share": 0.5,
    "shade": 0.25,
    "per_frame": 0.1,
}
WORN: dict[str, float] = {
    "blur_share": 1,
    "blur": 2,
    "motion_share": 1,
    "motion": 7,
    "resolution_share": 1,
    "resolution": 0.5,
    "noise_share": 1,
    "noise": 12,
    "jpeg_share": 1,
    "jpeg_quality": 40,
}


def sample_of(size, frames=3, seed=0):
    mask = blob_mask(*size, seed=seed)
    return query_clip(np.stack([shown(mask)] * frames), mask.astype(np.uint16))


def apply(draw, frames, mask):
    """What the geometry makes of frames and the mask of the last, as one object."""
    result = draw.apply(query_clip(frames, mask.astype(np.uint16)), as_one=True)
    return result.frames, result.ids[-1]


@pytest.mark.parametrize("seed", range(12))
def test_frames_and_target_stay_aligned(seed):
    draw = draw_geometry(np.random.default_rng(seed), EVERYTHING, (96, 64))
    result = draw.apply(sample_of(draw.canvas, seed=seed), as_one=True)
    assert result.frames.shape == (3, 96, 64, 3)
    assert result.ids.shape == (3, 96, 64)
    assert (result.ids[:-1] == IGNORE).all()
    mask = result.ids[-1].astype(np.uint8)
    assert set(np.unique(result.ids[-1])) <= {0, 1}
    assert (result.frames == result.frames[-1]).all()
    seen = (result.frames[-1, ..., 0] > 125).astype(np.uint8)
    assert (seen != mask).mean() < 0.002
    for target, other in ((mask, seen), (seen, mask)):
        assert (cv2.erode(target, np.ones((3, 3)), borderValue=1) <= other).all()


def test_a_point_goes_where_the_geometry_says():
    jitter = spatial(rotation=90, rotation_share=1.0)
    draw = draw_geometry(np.random.default_rng(3), jitter, (61, 81))
    height, width = draw.canvas
    mask = np.zeros(draw.canvas, np.uint8)
    row, column = height // 2 + 9, width // 2 - 14
    mask[row - 2 : row + 3, column - 2 : column + 3] = 1
    _, result = apply(draw, np.repeat(mask[None, ..., None] * 255, 3, 3), mask)
    there = np.argwhere(result).mean(axis=0)[::-1] - (40, 30)
    back = draw.matrix @ there
    assert np.allclose(back, (column - (width - 1) / 2, row - (height - 1) / 2), atol=0.5)


def test_the_canvas_fills_the_result_without_mirrors():
    for seed in range(30):
        draw = draw_geometry(np.random.default_rng(seed), EVERYTHING, (64, 48))
        height, width = draw.canvas
        inner = np.ones((height, width), np.uint8)
        # Mirroring would show the rim from the inside, too: mark what lies beyond.
        frames = np.full((1, height, width, 3), 200, np.uint8)
        result, _ = apply(draw, frames, inner)
        columns, rows = result.shape[2], result.shape[1]
        assert (rows, columns) == (64, 48)
        corners = np.array([[-23.5, 23.5, -23.5, 23.5], [-31.5, -31.5, 31.5, 31.5]])
        reach = np.abs(draw.matrix @ corners).max(axis=1) + np.abs(draw.field).max()
        side = (height, width) if draw.turned else (width, height)
        assert (reach <= (np.array(side) - 1) / 2 + 1e-6).all()


def test_flips_and_turns_move_pixels_unchanged():
    for seed in range(16):
        draw = draw_geometry(
            np.random.default_rng(seed), spatial(flip=True, quarter_turn=0.5), (20, 30)
        )
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (2, *draw.canvas, 3), dtype=np.uint8)
        target = (frames[-1, ..., 0] > 100).astype(np.uint8)
        result, mask = apply(draw, frames, target)
        assert np.array_equal(mask, result[-1, ..., 0] > 100)
        assert np.array_equal(np.sort(result.ravel()), np.sort(frames.ravel()))


def test_unknown_survives_geometry():
    draw = draw_geometry(np.random.default_rng(5), EVERYTHING, (80, 80))
    target = np.zeros(draw.canvas, np.uint16)
    target[: draw.canvas[0] // 2] = IGNORE
    target[:, : draw.canvas[1] // 3] = 1
    _, result = apply(draw, np.zeros((1, *draw.canvas, 3), np.uint8), target)
    assert set(np.unique(result)) == {0, 1, IGNORE}


def test_scales_spread_over_their_range():
    jitter = spatial(scale=(0.4, 1.6))
    scales = [draw_geometry(np.random.default_rng(k), jitter, (9, 9)).scale for k in range(300)]
    assert min(scales) >= 0.4
    assert max(scales) <= 1.6
    assert np.median(scales) == pytest.approx(0.8, rel=0.15)


def test_no_jitter_changes_nothing():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 20, 24, 3), dtype=np.uint8)
    assert np.array_equal(colour().apply(rng, frames), frames)
    assert np.array_equal(colour(**STRONG, strength=0).apply(rng, frames), frames)
    assert np.array_equal(degradation().apply(rng, frames.copy()), frames)
    assert np.array_equal(degradation(**WORN, strength=0).apply(rng, frames.copy()), frames)
    draw = draw_geometry(rng, spatial(), (20, 24))
    assert draw.canvas == (20, 24)
    assert np.array_equal(apply(draw, frames, frames[0, ..., 0])[0], frames)


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_extreme_frames_pass_every_change(level):
    frames = np.full((3, 33, 47, 3), level, np.uint8)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        result = degradation(**WORN).apply(rng, colour(**STRONG).apply(rng, frames))
        assert result.dtype == np.uint8
        assert result.shape == frames.shape


def test_colours_are_one_draw_with_a_little_per_reference():
    frames = np.full((4, 16, 16, 3), (90, 130, 60), np.uint8)
    jitter = colour(gain=0.3, hue=40, per_frame=0.1)
    between, within = [], []
    for seed in range(40):
        means = jitter.apply(np.random.default_rng(seed), frames).mean(axis=(1, 2))
        between.append(means[-1])
        within.append(np.abs(means - means[-1]).mean())
    assert 0 < np.mean(within) < np.std(between, axis=0).mean() / 2


def test_the_query_stays_clean_on_request():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    clean_colour = colour(brightness=0.5, hue=60, query=False)
    result = clean_colour.apply(np.random.default_rng(1), frames)
    assert np.array_equal(result[-1], frames[-1])
    assert not np.array_equal(result[0], frames[0])
    worn = degradation(noise_share=1, noise=20, query=False).apply(rng, frames.copy())
    assert np.array_equal(worn[-1], frames[-1])
    assert not np.array_equal(worn[0], frames[0])


def test_exposure_stays_within_a_camera_s():
    frames = np.random.default_rng(0).integers(40, 140, (1, 32, 32, 3), dtype=np.uint8)
    jitter = colour(brightness=1.5)
    means = [jitter.apply(np.random.default_rng(k), frames).mean() for k in range(60)]
    assert min(means) >= 34
    assert max(means) <= 201
    assert np.ptp(means) > 100


def test_hue_turns_colours_and_leaves_greys():
    third = hue_matrix(2 * np.pi / 3)
    assert np.allclose(third @ (1, 0, 0), (0, 1, 0))
    assert np.allclose(hue_matrix(0.7) @ (5, 5, 5), (5, 5, 5))
    assert gamma_curve(1.0).tolist() == list(range(256))
    assert gamma_curve(2.0)[[0, 128, 255]].tolist() == [0, 64, 255]


@pytest.mark.parametrize("length", [2.0, 3.7, 7.0])
@pytest.mark.parametrize("angle", [0.0, 0.6, 1.57, 2.9])
def test_motion_blur_displaces_nothing(length, angle):
    kernel = motion_kernel(length, angle)
    rows, columns = np.indices(kernel.shape) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert (kernel * rows).sum() == pytest.approx(0, abs=1e-6)
    assert (kernel * columns).sum() == pytest.approx(0, abs=1e-6)


def test_noise_differs_between_frames_and_has_its_deviation():
    frames = np.full((2, 80, 80, 3), 128, np.uint8)
    add_noise(np.random.default_rng(0), frames, 10.0)
    assert frames.std() == pytest.approx(10, rel=0.05)
    assert frames.mean() == pytest.approx(128, abs=0.5)
    assert np.corrcoef(frames[0].ravel(), frames[1].ravel())[0, 1] < 0.1


def test_compression_keeps_size_and_look():
    image = shown(blob_mask(35, 51))
    result = compress(image, 90)
    assert result.shape == image.shape
    assert np.abs(result.astype(int) - image).mean() < 6


FLAT = np.full((4, 48, 48, 3), (90, 140, 70), np.uint8)


@pytest.mark.parametrize("query", [True, False])
def test_each_frame_may_have_colours_of_its_own(query):
    plain = STRONG | {"shade_share": 0.0}
    alone = colour(**plain, shared=False, query=query)
    colours = {tuple(frame[0, 0]) for k in range(3)
               for frame in alone.apply(np.random.default_rng(k), FLAT)}  # fmt: skip
    assert len(colours) == (12 if query else 10)
    assert query or tuple(FLAT[0, 0, 0]) in colours
    together = colour(**plain | {"per_frame": 0.0})
    changed = together.apply(np.random.default_rng(0), FLAT)
    assert (changed == changed[0]).all()


def test_each_frame_may_have_a_quality_of_its_own():
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    frames = np.stack([image] * 4)
    blurred = degradation(blur_share=0.5, blur=3.0, shared=False, query=False)
    kinds = set()
    for k in range(12):
        changed = blurred.apply(np.random.default_rng(k), frames.copy())
        assert np.array_equal(changed[-1], image)
        kinds.add(tuple(np.array_equal(frame, image) for frame in changed[:-1]))
    assert len(kinds) > 3
    together = degradation(blur_share=0.5, blur=3.0, query=False).apply(
        np.random.default_rng(1), frames.copy()
    )
    assert (together[:-1] == together[0]).all()

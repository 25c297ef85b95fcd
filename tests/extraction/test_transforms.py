"""The named transforms: shapes, exact where nothing is interpolated, one draw for all frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.config.extraction import TRANSFORM_NAMES, TransformSettings
from dvos.extraction.cutouts import draw_transform, fits, resize, transform_patch


def image_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def drawn(name: str, size: tuple[int, int], seed: int = 0, **options):
    return draw_transform(
        TransformSettings(name=name, **options), size, np.random.default_rng(seed)
    )


@pytest.mark.parametrize("name", TRANSFORM_NAMES)
def test_every_name_keeps_to_its_shape_and_is_one_draw(name: str) -> None:
    transform = drawn(name, (60, 80), height=40, width=30, p=1, elastic_p=1)
    first = transform(image_of(60, 80))
    assert np.array_equal(first, transform(image_of(60, 80)))
    resized = name in ("center_crop", "random_crop", "resize", "smallest_side_center_crop")
    assert first.shape == ((40, 30, 3) if resized else (60, 80, 3))
    assert first.dtype == np.uint8
    if name != "none":
        assert not np.array_equal(first, image_of(60, 80))
    with pytest.raises(ValueError, match="drawn for"):
        transform(image_of(61, 80))


def test_crops_and_flips_are_exact() -> None:
    image = image_of(60, 80)
    crop = drawn("center_crop", (60, 80), height=40, width=30)(image)
    assert np.array_equal(crop, image[10:50, 25:55])
    assert np.array_equal(drawn("horizontal_flip", (60, 80), p=1)(image), image[:, ::-1])
    assert np.array_equal(drawn("vertical_flip", (60, 80), p=1)(image), image[::-1])
    flips = {drawn("flip", (60, 80), seed, p=1)(image).tobytes() for seed in range(30)}
    expected = (image[::-1], image[:, ::-1], image[::-1, ::-1])
    assert flips == {np.ascontiguousarray(flip).tobytes() for flip in expected}


@pytest.mark.parametrize("name", ["horizontal_flip", "vertical_flip", "flip", "rotate", "elastic"])
def test_probability_zero_changes_nothing(name: str) -> None:
    image = image_of(20, 30)
    assert np.array_equal(drawn(name, (20, 30), p=0, elastic_p=0)(image), image)


def test_random_crop_reaches_every_place() -> None:
    image = np.arange(4 * 5, dtype=np.uint8).reshape(4, 5, 1).repeat(3, axis=2)
    corners = {
        int(drawn("random_crop", (4, 5), seed, height=3, width=3)(image)[0, 0, 0])
        for seed in range(200)
    }
    assert corners == {0, 1, 2, 5, 6, 7}


def test_rotation_by_a_fixed_angle_moves_the_right_way() -> None:
    image = np.zeros((41, 41, 3), np.uint8)
    image[19:22, 27:30] = 255
    for seed in range(5):
        transform = drawn("rotate", (41, 41), seed, p=1, angle=90)
        angle = np.random.default_rng(seed)
        angle.random()
        degrees = angle.uniform(-90, 90)
        row, column = np.argwhere(transform(image)[..., 0] > 60).mean(axis=0)
        assert row == pytest.approx(20 - 8 * np.sin(np.radians(degrees)), abs=0.7)
        assert column == pytest.approx(20 + 8 * np.cos(np.radians(degrees)), abs=0.7)


def test_elastic_displaces_by_the_amount_asked() -> None:
    rows, columns = np.indices((200, 200))
    ramp = np.dstack([rows, columns, columns]).astype(np.uint8)
    moved = [
        drawn("elastic", (200, 200), seed, elastic_p=1, elastic_amount=0.02)(ramp).astype(int)
        for seed in range(8)
    ]
    inner = np.s_[20:180, 20:180, :2]
    rms = np.sqrt(np.mean([(m - ramp)[inner] ** 2 for m in moved]))
    # 4 pixels at the grid's nodes, less between them.
    assert 2 < rms < 4.5


@settings(max_examples=40)
@given(
    *[st.integers(1, 60)] * 4,
)
def test_cover_always_gives_the_target(height: int, width: int, rows: int, columns: int) -> None:
    transform = drawn("smallest_side_center_crop", (height, width), height=rows, width=columns)
    assert transform(image_of(height, width)).shape == (rows, columns, 3)


def test_fits() -> None:
    assert not fits(TransformSettings(name="random_crop", height=10, width=10), (9, 20))
    assert fits(TransformSettings(name="random_crop", height=10, width=10), (10, 10))
    assert fits(TransformSettings(name="resize", height=10, width=10), (9, 20))


def test_resize_of_the_same_size_is_the_same() -> None:
    image = image_of(5, 6)
    assert resize(image, (5, 6)) is image
    assert resize(image, (10, 12)).shape == (10, 12, 3)


def patch_of(height: int, width: int) -> np.ndarray:
    rows, columns = np.indices((height, width))
    inside = ((rows - (height - 1) / 2) / (height / 2)) ** 2 + (
        (columns - (width - 1) / 2) / (width / 2)
    ) ** 2 <= 1
    return np.dstack([image_of(height, width), inside * np.uint8(255)])


@pytest.mark.parametrize("name", ["rotate", "elastic", "flip_rotate_elastic"])
def test_a_moved_patch_loses_nothing_and_fits_its_box(name: str) -> None:
    patch = patch_of(12, 70)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        moved = transform_patch(
            patch, TransformSettings(name=name, p=1, elastic_p=1, angle=180), rng
        )
        alpha = moved[..., 3]
        assert set(np.unique(alpha)) <= {0, 255}
        for side in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]):
            assert side.any()
        before = np.count_nonzero(patch[..., 3])
        assert np.count_nonzero(alpha) == pytest.approx(before, rel=0.12)


def test_patches_smaller_than_the_crop_stay_whole() -> None:
    patch = patch_of(12, 20)
    for name in ("center_crop", "random_crop", "none"):
        moved = transform_patch(patch, TransformSettings(name=name), np.random.default_rng(0))
        assert np.array_equal(moved, patch)
    # A crop that hits no pixel of the object: the patch as it came.
    hollow = patch.copy()
    hollow[2:10, 4:16, 3] = 0
    crop = TransformSettings(name="center_crop", height=2, width=2)
    assert np.array_equal(transform_patch(hollow, crop, np.random.default_rng(0)), hollow)

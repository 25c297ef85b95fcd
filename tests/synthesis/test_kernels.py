from __future__ import annotations

import numpy as np
import pytest

from dvos.synthesis.kernels.packed import (
    Textures,
    blend,
    draw_background,
    finish_frame,
    measure_owners,
    pack,
    spread,
)
from dvos.synthesis.kernels.sprites import draw_sprites
from dvos.synthesis.scene import Poses

NO_BLUR = np.zeros(2)


def words(image: np.ndarray) -> np.ndarray:
    rgbx = np.zeros((*image.shape[:2], 4), np.uint8)
    rgbx[..., :3] = image
    return rgbx.view(np.uint32)[..., 0]


def rgb(canvas: np.ndarray) -> np.ndarray:
    return canvas.view(np.uint8).reshape(*canvas.shape, 4)[..., :3]


def lanes(r: int, g: int, b: int, a: int) -> np.uint64:
    return spread(np.uint32(r | g << 8 | b << 16 | a << 24))


def test_words_survive_spreading_and_packing():
    for word in (0, 0xFFFFFFFF, 0x01020304, 0x80FF007F):
        assert pack(spread(np.uint32(word))) == word


def test_blending_never_overflows_and_is_nearly_exact():
    for alpha in range(1, 255):
        for under in (0, 1, 100, 128, 254, 255):
            for colour in (0, 90, 255):
                over = (colour * alpha + 127) // 255
                below = np.uint32(under * 0x010101)
                word = int(blend(below, lanes(over, over, over, alpha), np.uint64(alpha)))
                exact = colour * alpha / 255 + under * (1 - alpha / 255)
                assert word & 255 == (word >> 8) & 255 == (word >> 16) & 255
                assert word & 255 == pytest.approx(exact, abs=1.6)


def test_a_background_at_whole_pixels_is_copied_and_mirrored_beyond_its_border():
    background = np.random.default_rng(0).integers(0, 256, (12, 15, 3)).astype(np.uint8)
    canvas = np.empty((20, 30), np.uint32)
    matrix = np.array([[1.0, 0, -3], [0, 1, -7]])
    draw_background(canvas, (0, 0), words(background), matrix, NO_BLUR)
    mirrored = np.pad(background, [(3, 5), (7, 8), (0, 0)], mode="reflect")
    assert np.array_equal(rgb(canvas), mirrored)


def test_half_a_pixel_is_the_mean():
    background = np.random.default_rng(0).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    canvas = np.empty((4, 4), np.uint32)
    draw_background(
        canvas, (0, 0), words(background), np.array([[1.0, 0, 2], [0, 1, 2.5]]), NO_BLUR
    )
    mean = (background[2:6, 2:6].astype(float) + background[2:6, 3:7]) / 2
    assert np.abs(rgb(canvas) - mean).max() <= 0.5


@pytest.mark.parametrize("length", [3.0, 5.0, 8.0])
def test_a_background_blurs_along_its_path_and_keeps_its_mean(length):
    background = np.zeros((60, 60, 3), np.uint8)
    background[30] = 240
    canvas = np.empty((60, 60), np.uint32)
    still = np.array([[1.0, 0, 0], [0, 1, 0]])
    draw_background(canvas, (0, 0), words(background), still, np.array([length, 0.0]))
    column = rgb(canvas)[:, 30, 0].astype(float)
    assert column.sum() == pytest.approx(240, abs=8)
    spread_out = np.sqrt((column * (np.arange(60) - 30) ** 2).sum() / column.sum())
    assert spread_out == pytest.approx(length / np.sqrt(12), rel=0.35)


def one_sprite(**changes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a white square of 6 x 6 texels in a border of 2 at (10, 12)."""
    texture = np.zeros((10, 10), np.uint32)
    texture[2:8, 2:8] = 0xFFFFFFFF
    inverse = changes.get("inverse", np.array([[1.0, 0, -8], [0, 1, -10]])[None])
    poses = Poses(
        forward=inverse[None],
        inverse=inverse[None],
        grid=changes.get("grid", np.zeros((1, 3, 3, 2), np.float32))[None],
        reach=changes.get("reach", np.zeros(1))[None],
        blur=changes.get("blur", np.zeros((1, 2)))[None],
        box=np.array([[[0, 30, 0, 40]]], np.int32),
        shadow_inverse=inverse[None],
        shadow_box=np.zeros((1, 1, 4), np.int32),
    )
    none = np.zeros((1, 3), np.int64)
    place = np.array([[0, 10, 10]])
    textures = Textures(texture.reshape(-1), place, np.zeros(0, np.uint8), none)
    canvas, owner = np.zeros((30, 40), np.uint32), np.zeros((30, 40), np.int32)
    full = np.zeros(1, np.int64)
    inner = changes.get("inner", np.array([0, 30, 0, 40]))
    draw_sprites(canvas, owner, full, (0, 0), inner, np.array([0]), textures, poses, 0, 0)
    return canvas, owner, full


def test_a_sprite_lies_where_its_map_says():
    canvas, owner, full = one_sprite()
    square = np.zeros((30, 40), bool)
    square[10:16, 12:18] = True
    assert np.array_equal(owner == 1, square)
    assert np.array_equal(rgb(canvas)[..., 0] == 255, square)
    assert full[0] == 36


def test_the_full_area_counts_inside_the_window_only():
    assert one_sprite(inner=np.array([12, 30, 0, 14]))[2][0] == 4 * 2


def test_a_constant_displacement_moves_the_sprite():
    grid = np.zeros((1, 3, 3, 2), np.float32)
    grid[..., 0] = 3
    _, owner, _ = one_sprite(grid=grid, reach=np.array([3.0]))
    assert np.argwhere(owner).min(0).tolist() == [7, 12]
    assert (owner == 1).sum() == 36


def test_blur_keeps_the_light_of_a_sprite():
    sharp, _, _ = one_sprite()
    blurred, _, _ = one_sprite(blur=np.array([[0.0, 4.0]]))
    light = [float(rgb(drawn)[..., 0].sum()) for drawn in (sharp, blurred)]
    assert light[1] == pytest.approx(light[0], rel=0.02)
    assert (rgb(blurred)[..., 0] > 0).any(0).sum() > (rgb(sharp)[..., 0] > 0).any(0).sum()


def test_a_turned_sprite_keeps_its_area():
    angle = 0.6
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shift = np.array([4.5, 4.5]) - turn @ (15, 20)
    inverse = np.concatenate([turn, shift[:, None]], 1)[None]
    canvas, _, full = one_sprite(inverse=inverse)
    assert full[0] == pytest.approx(36, abs=3)
    assert rgb(canvas)[..., 0].sum() / 255 == pytest.approx(36, abs=1)


def finished(value: int, **changes) -> np.ndarray:
    canvas = words(np.full((200, 300, 3), value, np.uint8))
    values = {"light": np.full((8, 11, 3), 4096), "lit": False, "sigma": 0.0, "key": 1, **changes}
    normal = np.rint(1024 * np.sort(np.random.default_rng(0).normal(size=4096)))
    image = np.empty((200, 300, 3), np.uint8)
    finish_frame(
        canvas,
        (0, 0),
        values["light"].astype(np.int64),
        values["lit"],
        normal.astype(np.int16),
        np.full(256, round(1024 * values["sigma"]), np.int32),
        np.uint64(values["key"]),
        values["sigma"] > 0,
        image,
    )
    return image


def test_noise_has_its_spread_and_no_bias_and_differs_by_key():
    one, two = (finished(120, sigma=4.0, key=key).astype(float) for key in (1, 2))
    assert one.std() == pytest.approx(4, rel=0.05)
    assert one.mean() == pytest.approx(120, abs=0.15)
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(one[..., 0].ravel(), one[..., 1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(one[:, 1:].ravel(), one[:, :-1].ravel())[0, 1]) < 0.02


def test_light_runs_straight_between_the_corners_of_its_cells():
    light = np.full((8, 11, 3), 4096)
    light += 40 * np.arange(11)[None, :, None]
    image = finished(100, light=light, lit=True).astype(float)
    expected = 100 * (1 + 40 / 4096 * np.arange(300) / 32)
    assert np.abs(image[57, :, 1] - expected).max() <= 0.7


def test_light_saturates():
    assert (finished(200, light=np.full((8, 11, 3), 8192), lit=True) == 255).all()


def test_areas_and_boxes():
    owner = np.array([[0, 2, 2, 0], [0, 2, 1, 1], [0, 0, 0, 2]], np.int32)
    instances = np.empty(owner.shape, np.uint16)
    area, box = np.zeros(3, np.int64), np.zeros((3, 4), np.int32)
    measure_owners(owner, np.array([0, 9, 4], np.uint16), instances, area, box)
    assert area.tolist() == [2, 4, 0]
    assert box.tolist() == [[1, 2, 2, 4], [0, 3, 1, 4], [0, 0, 0, 0]]
    assert instances.tolist() == [[0, 9, 9, 0], [0, 9, 0, 0], [0, 0, 0, 9]]

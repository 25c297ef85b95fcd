from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvos.media.overlay import caption, contact_sheet, id_colours, outline, overlay

GREY = np.full((12, 16, 3), 100, dtype=np.uint8)


def test_semantic_mask_in_the_published_colour():
    mask = np.zeros((12, 16), dtype=bool)
    mask[3:5, 3:5] = True
    result = overlay(GREY, mask)
    # 0.6 * 100 + 0.4 * (204, 68, 150)
    assert result[3, 3].tolist() == [142, 87, 120]
    np.testing.assert_array_equal(result[~mask], GREY[~mask])
    np.testing.assert_array_equal(overlay(GREY, mask.astype(np.uint8) * 255), result)
    assert (GREY == 100).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_an_id_has_the_same_colour_in_every_frame(dtype):
    first = np.zeros((12, 16), dtype=dtype)
    first[0, :3] = (1, 2, 7)
    alone = np.zeros((12, 16), dtype=dtype)
    alone[5, 5] = 7
    a, b = overlay(GREY, first), overlay(GREY, alone)
    assert a[0, 2].tolist() == b[5, 5].tolist()
    assert len({tuple(a[0, k]) for k in range(4)}) == 4


def test_alpha_ends():
    mask = np.full((12, 16), 3, dtype=np.uint16)
    np.testing.assert_array_equal(overlay(GREY, mask, alpha=0.0), GREY)
    assert (overlay(GREY, mask, alpha=1.0) == id_colours()[3]).all()


def test_colours_of_neighbouring_ids_can_be_told_apart():
    colours = id_colours()[1:61]
    lab = cv2.cvtColor((colours / np.float32(255)).astype(np.float32)[None], cv2.COLOR_RGB2LAB)[0]
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + np.eye(60) * 1000
    near = np.abs(np.subtract.outer(np.arange(60), np.arange(60))) <= 8
    # A difference of 2.3 in CIE Lab is just noticeable.
    assert distance.min() > 2.3
    assert distance[near].min() > 20


def test_outline_is_inside_and_parts_touching_instances():
    ids = np.zeros((12, 16), dtype=np.uint16)
    ids[2:10, 2:8] = 1
    ids[2:10, 8:14] = 2
    result = outline(GREY, ids)
    drawn = (result != GREY).any(axis=-1)
    assert not drawn[ids == 0].any()
    assert drawn[5, 7]
    assert drawn[5, 8]
    assert not drawn[5, 5]
    assert drawn.sum() == 2 * (8 * 6 - 6 * 4)
    assert result[5, 7].tolist() == id_colours()[1].tolist()
    np.testing.assert_array_equal(outline(GREY, ids.astype(np.int32)), result)


def test_outline_of_a_semantic_mask_takes_the_colour():
    mask = np.zeros((12, 16), dtype=bool)
    mask[4:8, 4:8] = True
    assert outline(GREY, mask, colour=(1, 2, 3))[4, 4].tolist() == [1, 2, 3]


@pytest.mark.parametrize("function", [overlay, outline])
def test_pixels_of_unknown_label_are_not_drawn(function):
    known = np.zeros(GREY.shape[:2], np.uint8)
    known[:3, :3] = 255
    mask = known.copy()
    mask[5:, 5:] = 128
    np.testing.assert_array_equal(function(GREY, mask), function(GREY, known))
    ids = known.astype(np.uint16)
    unknown = np.where(mask == 128, 65535, ids).astype(np.uint16)
    np.testing.assert_array_equal(function(GREY, unknown), function(GREY, ids))


@pytest.mark.parametrize("function", [overlay, outline])
def test_sizes_must_agree(function):
    with pytest.raises(ValueError, match="shape"):
        function(GREY, np.zeros((5, 5), dtype=bool))


def test_contact_sheet_places_images_of_any_size():
    images = [
        np.full((h, w, 3), 10 * k, np.uint8) for k, (h, w) in enumerate([(8, 6), (4, 10), (2, 2)])
    ]
    sheet = contact_sheet(images, columns=2, gap=1)
    assert sheet.shape == (2 * 9 + 1, 2 * 11 + 1, 3)
    for k, image in enumerate(images):
        assert (sheet == 10 * k).all(axis=-1).sum() == image.shape[0] * image.shape[1]
    assert (sheet[0] == 255).all()


def test_contact_sheet_shrinks_into_its_cell_keeping_the_aspect():
    sheet = contact_sheet([np.zeros((100, 200, 3), np.uint8)], cell=(30, 40), gap=0)
    assert sheet.shape == (30, 40, 3)
    assert (sheet == 0).all(axis=-1).sum() == 20 * 40


def test_contact_sheet_labels():
    images = [np.full((20, 80, 3), 255, np.uint8)] * 2
    plain = contact_sheet(images, columns=1)
    labelled = contact_sheet(images, columns=1, labels=["Dice 0.91", "x" * 500])
    assert labelled.shape[0] > plain.shape[0]
    assert (labelled < 128).any()


@pytest.mark.parametrize("height", [8, 20, 45])
def test_a_caption_is_read_on_any_ground(height):
    """White letters as high as asked for, each within a black rim, in the corner or at a place."""
    for ground in (0, 128, 255):
        image = np.full((120, 200, 3), ground, np.uint8)
        caption(image, "1", height)
        there = np.argwhere((image != ground).any(axis=2))
        assert there.min(0).min() >= 0
        assert there.max() <= 2 * height
        letters = np.argwhere(image[..., 0] > 195 if ground < 255 else image[..., 0] < 60)
        assert height * 0.6 <= np.ptp(letters[:, 0]) <= height * 1.6
        assert image.min() < 60
        assert image.max() > 195
    image = np.zeros((120, 200, 3), np.uint8)
    caption(image, "1", height, (100, 90))
    there = np.argwhere(image.any(axis=2))
    assert there[:, 1].min() > 90
    assert 80 < there[:, 0].max() <= 100


@pytest.mark.parametrize(
    "arguments",
    [{"images": []}, {"images": [GREY], "columns": 0}, {"images": [GREY], "labels": ["a", "b"]}],
)
def test_contact_sheet_arguments(arguments):
    with pytest.raises(ValueError, match=r"contact sheet|labels for"):
        contact_sheet(**arguments)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_stills import agree, blob_mask, shown

from dvos.media.mask import IGNORE, mask_ids
from dvos.training.augment.spatial import (
    Box,
    SharedMap,
    cut,
    looked_at,
    place,
    resize_frame,
    resize_ids,
)
from dvos.training.clips.clip import merge_objects


def test_objects_of_an_instance_mask_as_one():
    mask = np.array([[0, 3, 700], [IGNORE, 0, 1]], np.uint16)
    assert merge_objects(mask_ids(mask)).tolist() == [[0, 1, 1], [IGNORE, 0, 1]]
    mask[1, 0] = 128
    assert merge_objects(mask_ids(mask)).tolist() == [[0, 1, 1], [1, 0, 1]]
    assert merge_objects(mask_ids(np.array([[True, False]]))).tolist() == [[1, 0]]


@settings(max_examples=50)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(-30, 30),
    st.integers(-30, 30),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_cut_mirrors_as_an_infinite_mirrored_image(height, width, top, left, rows, columns):
    top, left = max(top, 1 - rows), max(left, 1 - columns)
    top, left = min(top, height - 1), min(left, width - 1)
    image = np.arange(height * width, dtype=np.uint8).reshape(height, width)

    def mirrored(index, length):
        if length == 1:
            return 0
        index %= 2 * (length - 1)
        return index if index < length else 2 * (length - 1) - index

    expected = [
        [image[mirrored(y, height), mirrored(x, width)] for x in range(left, left + columns)]
        for y in range(top, top + rows)
    ]
    box = Box(top, left, rows, columns)
    assert cut(image, box).tolist() == expected
    near = looked_at(box, image.shape[:2])
    part = image[near.top : near.top + near.height, near.left : near.left + near.width]
    assert part.shape[:2] == near[2:]
    assert cut(part, box.relative_to(near)).tolist() == expected


@settings(max_examples=50)
@given(st.integers(0, 999), st.integers(1, 60), st.integers(1, 60), st.booleans())
def test_a_placed_box_is_inside_or_covers_the_image(seed, height, width, aimed):
    rng = np.random.default_rng(seed)
    size = (30, 41)
    aim = (int(rng.integers(size[0])), int(rng.integers(size[1]))) if aimed else None
    box = place(rng, (height, width), size, seed_point=aim)
    for axis in range(2):
        low, high = box[axis], box[axis] + box[2 + axis]
        if box[2 + axis] <= size[axis]:
            assert low >= 0
            assert high <= size[axis]
        else:
            assert low <= 0
            assert high >= size[axis]
        if aim is not None:
            assert low <= aim[axis] < high


@pytest.mark.parametrize("size", [(40, 52), (97, 131), (100, 130), (173, 219), (250, 330)])
def test_resizing_keeps_frame_and_target_together(size):
    mask = blob_mask(100, 130)
    frame = resize_frame(shown(mask), size)
    target = resize_ids(mask.astype(np.uint16), size, as_one=True)
    assert set(np.unique(target)) <= {0, 1}
    assert agree(frame, target)


def test_shrinking_averages_instead_of_aliasing():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_frame(stripes, (32, 32))
    assert small.min() >= 127
    assert small.max() <= 128


@pytest.mark.parametrize("size", [(20, 20), (31, 37), (80, 80)])
def test_resizing_keeps_unknown_apart(size):
    target = np.zeros((40, 40), np.uint16)
    target[:, 10:20] = 1
    target[:, 20:30] = IGNORE
    resized = resize_ids(target, size, as_one=True)
    assert set(np.unique(resized)) == {0, 1, IGNORE}
    share = (resized == IGNORE).mean()
    assert abs(share - 0.25) < 2 / size[1]
    # Nothing becomes object on the far side of the unknown band.
    assert (resized[:, size[1] * 3 // 4 + 1 :] == 0).all()


def test_unknown_is_not_object_nor_background():
    target = np.full((8, 8), IGNORE, np.uint16)
    assert (resize_ids(target, (3, 3), as_one=True) == IGNORE).all()
    assert (resize_ids(target, (20, 20), as_one=True) == IGNORE).all()


def test_identity_map_changes_nothing():
    mask = blob_mask(30, 40)
    rows, columns = np.mgrid[:30, :40].astype(np.float32)
    shared = SharedMap(columns, rows)
    assert np.array_equal(shared.frame(shown(mask)), shown(mask))
    ids = mask.astype(np.uint16)
    assert np.array_equal(shared.ids(ids, as_one=True), ids)
    assert np.array_equal(shared.ids(7 * ids, as_one=False), 7 * ids)

"""Objects of a mask, against a naive scan for each id."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dvos.extraction.cutouts import LabelledObject, cut_out, find_objects


def naive(ids: np.ndarray) -> list[LabelledObject]:
    found = []
    padded = np.pad(ids.astype(np.int64), 1)
    height, width = ids.shape
    for object_id in np.unique(ids):
        if object_id == 0:
            continue
        here = ids == object_id
        rows, columns = np.nonzero(here)
        around = set()
        for down in (0, 1, 2):
            for right in (0, 1, 2):
                around |= set(padded[down : down + height, right : right + width][here].tolist())
        top, left = rows.min(), columns.min()
        bottom, right = rows.max() + 1, columns.max() + 1
        found.append(
            LabelledObject(
                object_id=int(object_id),
                box=(int(top), int(left), int(bottom - top), int(right - left)),
                area=int(here.sum()),
                touching=len(around - {0, int(object_id)}),
                at_border=bool(top == 0 or left == 0 or bottom == height or right == width),
            )
        )
    return found


@settings(max_examples=50)
@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int32]),
        arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
        elements=st.sampled_from([0, 0, 0, 1, 2, 3, 200]),
    )
)
def test_agrees_with_a_scan_for_each_object(ids: np.ndarray) -> None:
    assert find_objects(ids) == naive(ids)


def test_large_ids_and_large_images() -> None:
    ids = np.zeros((300, 400), np.uint16)
    ids[10:20, 30:60] = 65535
    ids[20:25, 60:61] = 12345
    ids[299, 399] = 10000
    assert find_objects(ids) == naive(ids)
    assert [item.touching for item in find_objects(ids)] == [0, 1, 1]
    many = np.zeros((10, 10), np.int32)
    many[4, 4], many[4, 5] = 70000, 70001
    assert find_objects(many) == naive(many)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1), (7, 9)])
def test_nothing_labelled(shape: tuple[int, int]) -> None:
    assert find_objects(np.zeros(shape, np.uint8)) == []


def test_a_cutout_keeps_the_photo_around_the_object() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    ids = np.zeros((20, 30), np.uint16)
    ids[5:10, 7:9] = 3
    ids[9, 9] = 3
    ids[5, 9] = 4
    (item, _) = find_objects(ids)
    patch = cut_out(image, ids, item)
    assert patch.shape == (5, 3, 4)
    assert np.array_equal(patch[..., :3], image[5:10, 7:10])
    assert np.array_equal(patch[..., 3], (ids[5:10, 7:10] == 3) * 255)
    assert patch.dtype == np.uint8

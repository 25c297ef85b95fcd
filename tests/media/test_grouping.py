from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dvos.media.grouping import (
    GroupedMask,
    ObjectMaps,
    Sums,
    group_mask,
    group_objects,
    sum_objects,
)


def ellipses(count: int, step: int, *, seed: int = 0) -> NDArray[np.int32]:
    """Ids of ``count`` squared ellipses on a grid, neighbours touching here and there."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((count * step, count * step), np.int32)
    for number in range(count * count):
        row, column = divmod(number, count)
        centre = int((column + 0.5) * step), int((row + 0.5) * step)
        axes = int(0.5 * step), int(0.36 * step)
        cv2.ellipse(ids, centre, axes, float(rng.uniform(0, 180)), 0, 360, number + 1, -1)
    return ids


def exact_maps(ids: NDArray[np.int32], stride: int = 2) -> ObjectMaps:
    """What a network without a mistake says; motion (x, y) of object i is (i, -i)."""
    number = int(ids.max()) + 1
    rows, columns = np.indices(ids.shape)
    area = np.maximum(np.bincount(ids.ravel(), minlength=number), 1)
    x, y = (np.bincount(ids.ravel(), each.ravel(), number) / area for each in (columns, rows))
    height, width = (side // stride for side in ids.shape)
    owners = ids.reshape(height, stride, width, stride).max((1, 3))
    middle = (stride - 1) / 2
    across = x[owners] - (stride * np.arange(width) + middle)
    down = y[owners] - (stride * np.arange(height)[:, None] + middle)
    return ObjectMaps(
        np.stack([across, down]).astype(np.float32) / stride,
        np.stack([owners, -owners]).astype(np.float32) / stride,
    )


def same(found: GroupedMask, ids: NDArray[np.int32]) -> float:
    """Mean IoU of the objects found with the true ones they hold the most pixels of."""
    shares = []
    for number in range(1, found.labels.max() + 1):
        own = found.labels == number
        true = np.bincount(ids[own]).argmax()
        shares.append((own & (ids == true)).sum() / (own | (ids == true)).sum())
    return float(np.mean(shares))


def test_touching_objects_are_told_apart_in_reading_order() -> None:
    ids = ellipses(6, 24)
    found = group_mask(ids > 0, exact_maps(ids))
    assert found.labels.max() == 36
    assert ((found.labels > 0) == (ids > 0)).all()
    assert same(found, ids) > 0.97
    expected = [np.bincount(ids[found.labels == number]).argmax() for number in range(1, 37)]
    assert np.allclose(found.motion[:, 0], expected, atol=1)
    assert np.allclose(found.motion[:, 1], -found.motion[:, 0])


def test_an_object_in_two_parts_is_one() -> None:
    ids = np.zeros((40, 60), np.int32)
    ids[10:30, 8:22] = ids[10:30, 26:40] = 1
    assert group_mask(ids > 0, exact_maps(ids)).labels.max() == 1


def test_offsets_that_scatter_do_not_split_objects() -> None:
    ids = ellipses(5, 40)
    maps = exact_maps(ids)
    rng = np.random.default_rng(0)
    offset = maps.offset + rng.normal(0, 1.25, maps.offset.shape).astype(np.float32)
    found = group_mask(ids > 0, ObjectMaps(offset, maps.motion))
    assert found.labels.max() == 25
    assert same(found, ids) > 0.95


@pytest.mark.parametrize("side", [16, 48])
def test_the_frame_may_be_of_another_size_than_the_network_saw(side: int) -> None:
    ids = ellipses(4, side)
    maps = exact_maps(ids, stride=4 if side == 48 else 1)
    found = group_mask(ids > 0, maps)
    assert found.labels.max() == 16
    assert same(found, ids) > 0.9


def test_an_odd_frame_has_a_place_for_its_last_row() -> None:
    ids = ellipses(3, 24)
    whole = exact_maps(ids)
    found = group_mask((ids > 0)[:-1, :-1], whole)
    assert found.labels.shape == (71, 71)
    assert found.labels.max() == 9


def test_scraps_are_left_out() -> None:
    ids = ellipses(3, 24)
    ids[24:26, 46:48] = 10
    assert (ids == 10).sum() == 4
    maps = exact_maps(ids)
    assert group_mask(ids > 0, maps).labels.max() == 9
    assert group_mask(ids > 0, maps, area=30.0).labels.max() == 10
    assert group_mask(ids > 0, maps, area=30.0, minimum_area=5).labels.max() == 9
    assert group_mask(ids > 0, maps, minimum_area=10_000).labels.max() == 0


@pytest.mark.parametrize(("minimum_area", "count"), [(16, 10), (17, 9)])
def test_of_what_the_edge_cuts_any_part_counts(minimum_area: int, count: int) -> None:
    ids = np.zeros((96, 72), np.int32)
    ids[24:] = ellipses(3, 24)
    ids[0:2, 8:16] = 10  # a twentieth of an object
    found = group_mask(ids > 0, exact_maps(ids), area=320.0, minimum_area=minimum_area)
    assert found.labels.max() == count


@pytest.mark.parametrize("offset", [0.0, 1e9, np.nan])
def test_nothing_and_nonsense_end_well(offset: float) -> None:
    maps = exact_maps(ellipses(2, 16))
    wild = ObjectMaps(np.full_like(maps.offset, offset), maps.motion)
    mask = np.zeros((32, 32), np.bool_)
    assert group_mask(mask, wild).labels.max() == 0
    mask[4:20, 4:20] = True
    assert not group_mask(mask, wild).labels[~mask].any()


def test_many_objects_are_all_found() -> None:
    ids = ellipses(40, 16)
    found = group_mask(ids > 0, exact_maps(ids))
    assert found.labels.max() == 1600
    assert same(found, ids) > 0.9


def plain_sums(labels: NDArray[np.int32], probability: NDArray[np.float32], count: int) -> Sums:
    """What :func:`sum_objects` gives, pixel by pixel."""
    sums, highest = np.zeros((7, count)), np.zeros(count, np.float32)
    for (y, x), label in np.ndenumerate(labels):
        if label:
            value = probability[y, x]
            sums[:, label - 1] += [1, x, y, x * x, y * y, x * y, value]
            highest[label - 1] = max(highest[label - 1], value)
    return sums, highest


@pytest.mark.parametrize("shape", [(9, 13), (16, 1), (1, 16), (24, 40)])
def test_sums_are_those_of_the_pixels(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[1])
    # In runs that reach over the ends of lines, too.
    labels = np.repeat(rng.integers(0, 4, shape[0] * shape[1]), 3)[: shape[0] * shape[1]]
    labels = labels.astype(np.int32).reshape(shape)
    probability = rng.random(shape, np.float32)
    probability[0, 0] = 0.0
    before = labels.copy()
    sums, highest = sum_objects(labels, probability, 4)  # the fourth has no pixel
    expected, surest = plain_sums(labels, probability, 4)
    assert (labels == before).all()
    assert (sums[:6] == expected[:6]).all()
    assert np.allclose(sums[6], expected[6], rtol=1e-12)
    assert (highest == surest).all()


def test_an_object_reaches_to_half_of_its_own_probability() -> None:
    ids = np.kron(np.arange(1, 10, dtype=np.int32).reshape(3, 3), np.ones((24, 24), np.int32))
    ids[(np.indices(ids.shape) % 24 < 4).any(axis=0)] = 0  # squares of 20, apart
    certain = np.linspace(0.4, 1.0, 9, dtype=np.float32)
    inside = cv2.erode((ids > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    probability = np.where(ids > 0, certain[ids - 1], np.float32(0))
    # At its rim each is less likely: below half of its own, or of the mask's threshold.
    rim = (ids > 0) & ~inside
    probability[rim] *= np.where(np.indices(ids.shape)[1][rim] % 2, 0.8, 0.45).astype(np.float32)
    found = group_objects(probability, exact_maps(ids), minimum_area=5)
    expected = np.zeros_like(ids)
    kept = 0
    for number, sure in enumerate(certain, start=1):
        own = ids == number
        core = own & (probability >= np.float32(0.5))
        if sure >= 0.5:  # what is weaker has nothing in the mask, and is left out
            kept += 1
            limit = np.clip(0.5 * probability[core].mean(), 0.3, 0.5)
            expected[own & (probability >= limit)] = kept
    assert found.count == kept == 7
    assert (found.labels == expected).all()
    assert found.sums is not None
    for sums, plain in zip(found.sums, plain_sums(expected, probability, kept), strict=True):
        assert np.allclose(sums, plain, rtol=1e-12)
    assert np.allclose(found.motion[:, 0], np.arange(3, 10), atol=1)

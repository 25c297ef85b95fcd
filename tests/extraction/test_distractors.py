"""Distractor places: shape, source pixels, and the bound on the overlap."""

from __future__ import annotations

import numpy as np
import pytest

from dvos.extraction.cutouts import DistractorFinder


@pytest.fixture
def image() -> np.ndarray:
    # Every pixel tells its place, so that a patch tells where it came from.
    rows, columns = np.indices((120, 150))
    return np.dstack([rows, columns, rows + columns]).astype(np.uint8)


def ellipse() -> np.ndarray:
    rows, columns = np.indices((15, 21))
    return ((rows - 7) / 7.5) ** 2 + ((columns - 10) / 10.5) ** 2 <= 1


def overlap_with(labelled: np.ndarray, patch: np.ndarray) -> float:
    top, left = int(patch[0, 0, 0]), int(patch[0, 0, 1])
    shape = patch[..., 3] > 0
    window = labelled[top : top + shape.shape[0], left : left + shape.shape[1]]
    return float((window & shape).sum() / (window | shape).sum())


@pytest.mark.parametrize("max_iou", [0.05, 0.1, 0.5, 1.0])
def test_every_patch_keeps_to_the_bound(image: np.ndarray, max_iou: float) -> None:
    labelled = np.zeros(image.shape[:2], bool)
    rng = np.random.default_rng(1)
    for _ in range(25):
        top, left = rng.integers(0, 100), rng.integers(0, 130)
        labelled[top : top + 15, left : left + 15] = True
    finder = DistractorFinder(image, labelled, max_iou=max_iou, tries=200)
    patches = finder.find(ellipse(), 60, np.random.default_rng(2))
    assert len(patches) == 60
    overlaps = [overlap_with(labelled, patch) for patch in patches]
    assert max(overlaps) < max_iou
    # Not only where nothing is labelled: the bound is used.
    assert max(overlaps) > 0
    for patch in patches:
        top, left = int(patch[0, 0, 0]), int(patch[0, 0, 1])
        assert np.array_equal(patch[..., :3], image[top : top + 15, left : left + 21])
        assert np.array_equal(patch[..., 3], ellipse() * 255)


def test_places_are_spread_over_the_whole_image(image: np.ndarray) -> None:
    finder = DistractorFinder(image, np.zeros(image.shape[:2], bool), max_iou=0.1, tries=1)
    patches = finder.find(np.ones((119, 148), bool), 200, np.random.default_rng(0))
    assert {(int(p[0, 0, 0]), int(p[0, 0, 1])) for p in patches} == {
        (top, left) for top in (0, 1) for left in (0, 1, 2)
    }


def test_no_place_gives_fewer(image: np.ndarray) -> None:
    finder = DistractorFinder(image, np.ones(image.shape[:2], bool), max_iou=0.1, tries=50)
    assert finder.find(np.ones((10, 10), bool), 3, np.random.default_rng(0)) == []


def test_the_only_place_is_found(image: np.ndarray) -> None:
    labelled = np.ones(image.shape[:2], bool)
    labelled[-10:, :10] = False
    finder = DistractorFinder(image, labelled, max_iou=0.001, tries=300_000)
    (patch,) = finder.find(np.ones((10, 10), bool), 1, np.random.default_rng(0))
    assert tuple(patch[0, 0, :2]) == (110, 0)

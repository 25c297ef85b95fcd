from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.training.calibration import widened
from dvos.training.clips.files import FrameClip
from dvos.training.clips.stills import LabelledStill
from dvos.training.data import labelled_masks, learn_objects, synthetic_masks


def _discs(centres: list[tuple[int, int]], *, radius: int = 10) -> np.ndarray:
    mask = np.zeros((120, 160), np.uint16)
    for number, centre in enumerate(centres, 1):
        cv2.circle(mask, centre, radius, number, -1)
    return mask


_APART = [(30, 30), (80, 30), (130, 30), (30, 80)]


def test_width_and_area_of_numbered_objects() -> None:
    learnt = learn_objects([_discs([*_APART, (0, 100)])])
    assert learnt is not None
    assert learnt["width"] == pytest.approx(21, abs=1.5)
    assert learnt["area"] == (_discs([(60, 60)]) > 0).sum()
    # One mask tells nothing of how far others differ.
    assert "error" not in learnt


def test_objects_that_hide_each_other_are_counted_wrong() -> None:
    hidden = _discs([*_APART, (33, 30), (83, 30)])
    learnt = learn_objects([hidden, _discs(_APART), _discs(_APART)])
    assert learnt is not None
    # 4 of 6, and twice 4 of 4.
    error = (6 * (4 / 6 - 1) ** 2 / 14) ** 0.5
    assert learnt["error"] == pytest.approx(widened(error, 3), abs=1e-3)


def test_of_masks_without_numbers_only_single_shapes_count() -> None:
    clump = _discs([*_APART, (95, 30), (110, 30)]) > 0
    learnt = learn_objects([clump])
    assert learnt is not None
    assert learnt["width"] == pytest.approx(21, abs=1.5)
    assert learnt["area"] == (_discs([(60, 60)]) > 0).sum()
    assert "error" not in learnt


def test_two_classes_of_many_objects_are_no_numbers() -> None:
    classes = np.kron(np.arange(16).reshape(4, 4) % 2 + 1, np.pad(np.ones((9, 9), int), 3))
    learnt = learn_objects([classes])
    assert learnt is not None
    assert learnt["area"] == 81
    assert "error" not in learnt


def test_nothing_is_learnt_from_nothing() -> None:
    assert learn_objects([]) is None
    assert learn_objects([np.zeros((40, 40), np.uint8)]) is None


def test_masks_are_read_at_the_scale_of_their_stills(tmp_path: Path) -> None:
    mask = _discs(_APART)
    write_mask(tmp_path / "mask.png", mask)
    write_image(tmp_path / "image.png", np.zeros((120, 160, 3), np.uint8))
    still = LabelledStill(tmp_path / "image.png", tmp_path / "mask.png", "auto", 0.5)
    bare = LabelledStill(tmp_path / "image.png", None)
    clip = FrameClip("clip", {0: tmp_path / "image.png"}, {0: tmp_path / "mask.png"}, void="2")
    half, whole = labelled_masks([still, bare], [clip])
    assert half.shape == (60, 80)
    assert set(np.unique(half)) == {0, 1, 2, 3, 4}
    assert set(np.unique(whole)) == {0, 1, 3, 4}
    learnt = learn_objects([half])
    assert learnt is not None
    assert learnt["width"] == pytest.approx(10.5, abs=1.5)


def test_synthetic_frames_are_apart_from_those_trained_on() -> None:
    asked: list[int] = []

    class _Made:
        instances = np.zeros((1, 8, 8), np.uint16)

    class _Maker:
        def make(self, clip_index: int, *, frames: int, size: tuple[int, int], scale: float = 1.0):
            asked.append(clip_index)
            return _Made()

    assert all(mask.shape == (8, 8) for mask in synthetic_masks(_Maker(), side=8))  # type: ignore[arg-type]
    assert len(set(asked)) == len(asked) > 0
    assert min(asked) > 2**62 + 10_000

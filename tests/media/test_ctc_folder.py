"""Folders of the Cell Tracking Challenge as labelled clips and as truth."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile

from dvos.errors import MediaError
from dvos.media.ctc_folder import ctc_sequences, labelled_clips, result_mask


def _data_set(root: Path, whole: tuple[int, ...] = (0, 2), some: tuple[int, ...] = (1,)) -> Path:
    for frame in range(4):
        labels = np.zeros((12, 16), np.uint16)
        labels[2:6, 2:6], labels[7:10, 9:13] = 1, 2
        for path, array in {
            root / f"01/t{frame:03}.tif": np.full((12, 16), 90 + frame, np.uint16),
            root / f"01_GT/TRA/man_track{frame:03}.tif": labels,
        }.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, array)
        seg = labels if frame in whole else np.where(labels == 1, 1, 0) if frame in some else None
        if seg is not None:
            (root / "01_GT/SEG").mkdir(exist_ok=True)
            tifffile.imwrite(root / f"01_GT/SEG/man_seg{frame:03}.tif", seg.astype(np.uint16))
    (root / "01_GT/TRA/man_track.txt").write_text("1 0 3 0\n2 0 3 0\n")
    return root


def test_frames_that_are_labelled_whole_make_a_clip(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _data_set(tmp_path / "Fluo")
    with caplog.at_level(logging.WARNING):
        (clip,) = labelled_clips(root)
    assert clip.name == "01"
    assert [path.name for path in clip.frames.values()] == [f"t00{k}.tif" for k in range(4)]
    assert {k: path.name for k, path in clip.masks.items()} == {
        0: "man_seg000.tif",
        2: "man_seg002.tif",
    }
    assert "1 of 3 masks show some" in caplog.text


def test_the_truth_alone_is_found_by_its_own_name(tmp_path: Path) -> None:
    root = _data_set(tmp_path / "Fluo")
    (one,) = ctc_sequences(root / "01_GT")
    assert (one.name, one.frame_name(3), len(one.markers)) == ("01", "t003", 4)
    assert ctc_sequences(root / "01") == []


def test_truth_that_begins_later_is_read(tmp_path: Path) -> None:
    root = _data_set(tmp_path / "Fluo", whole=(3,), some=())
    (clip,) = labelled_clips(root)
    assert [*clip.masks] == [3]


def test_a_sequence_without_whole_masks_is_told(tmp_path: Path) -> None:
    root = _data_set(tmp_path / "Fluo", whole=(), some=(1,))
    with pytest.raises(MediaError, match="has no labelled frame"):
        labelled_clips(root)


def test_other_folders_are_read_as_ever(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="holds no clips"):
        labelled_clips(tmp_path)


def test_result_masks_are_found_beside_and_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "01_RES").mkdir()
    path = tmp_path / "01_RES/mask007.tif"
    path.touch()
    assert result_mask(tmp_path, "01", "t007") == path
    assert result_mask(tmp_path / "01_RES", "01", "t007") == path
    assert result_mask(tmp_path, "01", "t008") is None
    assert result_mask(tmp_path, "02", "t007") is None

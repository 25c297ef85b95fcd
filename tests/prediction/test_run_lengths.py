from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dvos.errors import MediaError
from dvos.media.mask import write_mask
from dvos.prediction.write import (
    decode_runs,
    encode_runs,
    read_run_lengths,
    write_run_lengths,
)


@settings(deadline=None, max_examples=50)
@given(arrays(bool, st.tuples(st.integers(1, 30), st.integers(1, 30))))
def test_any_mask_comes_back(mask: np.ndarray) -> None:
    assert (decode_runs(encode_runs(mask), mask.shape) == mask).all()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=12), st.booleans())
def test_long_runs_come_back(runs: list[int], first: bool) -> None:
    values = (np.arange(len(runs)) % 2 == 1) ^ first
    mask = np.repeat(values, runs)[None]
    assert (decode_runs(encode_runs(mask), mask.shape) == mask).all()


def test_the_text_is_that_of_the_coco_tools() -> None:
    # Worked out by hand after maskApi.c: the runs 2, 3, 1, 4, 90 as 2, 3, 1, 1, 89.
    column = np.repeat([False, True, False, True, False], [2, 3, 1, 4, 90])
    assert encode_runs(column[:, None]) == "2311i2"
    # Masks are read column by column and begin with the run of zeros.
    assert encode_runs(np.array([[True, False], [True, False]])) == "022"
    # A run shorter than the one before the last gives a negative step.
    assert encode_runs(np.repeat([False, True, False, True], [1, 9, 1, 2])[:, None]) == "191I"
    assert encode_runs(np.zeros((4, 5), bool)) == "d0"


@pytest.mark.parametrize("text", ["", "2", "9", "P", "\x10", "oooooooooo0"])
def test_text_that_is_no_mask_of_the_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"runs|run length"):
        decode_runs(text, (2, 3))


def _clip(folder: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    masks = {f"v_{k:03d}": rng.random((12, 17)) > 0.3 + 0.35 * k for k in range(3)}
    masks["v_002"][:] = False
    for name, mask in masks.items():
        write_mask(folder / f"{name}.png", mask)
    return masks


def test_a_clip_comes_back_and_the_file_is_coco(tmp_path: Path) -> None:
    masks = _clip(tmp_path / "clip")
    path = tmp_path / "clip.json"
    write_run_lengths(path, masks, tmp_path / "clip", (12, 17))
    read = read_run_lengths(path)
    assert list(read) == list(masks)
    assert all((read[name] == mask).all() for name, mask in masks.items())
    content = json.loads(path.read_text())
    assert content["images"][1] == {"id": 2, "file_name": "v_001.png", "height": 12, "width": 17}
    first = content["annotations"][0]
    assert first["area"] == masks["v_000"].sum()
    rows, columns = np.nonzero(masks["v_000"])
    assert first["bbox"] == [
        columns.min(),
        rows.min(),
        np.ptp(columns) + 1,
        np.ptp(rows) + 1,
    ]
    assert content["annotations"][2]["bbox"] == [0, 0, 0, 0]


def test_a_mask_of_another_size_and_a_damaged_file_are_told(tmp_path: Path) -> None:
    masks = _clip(tmp_path / "clip")
    with pytest.raises(MediaError, match="17 x 12 pixels"):
        write_run_lengths(tmp_path / "clip.json", masks, tmp_path / "clip", (12, 18))
    assert not (tmp_path / "clip.json").exists()
    (tmp_path / "clip.json").write_text('{"images": [], "annotations": [{}]}')
    with pytest.raises(MediaError, match="no file of run lengths"):
        read_run_lengths(tmp_path / "clip.json")

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dvos.errors import MediaError
from dvos.media.mask import write_mask
from dvos.prediction.run_lengths import (
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
        write_mask(folder / f"instances/{name}.png", mask.astype(np.uint16))
    return masks


SIDES = st.integers(1, 9)


def _write(path: Path, masks: Iterable[str], size: tuple[int, int] = (12, 17)) -> None:
    write_run_lengths(path, {name: f"{name}.jpg" for name in masks}, path.with_suffix(""), size)


def test_a_clip_comes_back_and_the_file_is_coco(tmp_path: Path) -> None:
    masks = _clip(tmp_path / "clip")
    path = tmp_path / "clip.json"
    _write(path, masks)
    read = read_run_lengths(path)
    assert list(read) == list(masks)
    assert all((read[name] == mask).all() for name, mask in masks.items())
    content = json.loads(path.read_text())
    assert content["images"][1] == {"id": 2, "file_name": "v_001.jpg", "height": 12, "width": 17}
    first = content["annotations"][0]
    assert first["area"] == masks["v_000"].sum()
    rows, columns = np.nonzero(masks["v_000"])
    assert first["bbox"] == [
        columns.min(),
        rows.min(),
        np.ptp(columns) + 1,
        np.ptp(rows) + 1,
    ]
    assert [one["image_id"] for one in content["annotations"]] == [1, 2]


def test_a_mask_of_another_size_and_a_damaged_file_are_told(tmp_path: Path) -> None:
    masks = _clip(tmp_path / "clip")
    with pytest.raises(MediaError, match="17 x 12 pixels"):
        _write(tmp_path / "clip.json", masks, (12, 18))
    assert not (tmp_path / "clip.json").exists()
    (tmp_path / "clip.json").write_text('{"images": [], "annotations": [{}]}')
    with pytest.raises(MediaError, match="no file of run lengths"):
        read_run_lengths(tmp_path / "clip.json")


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ids=arrays(
        np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4)
    )
)
def test_every_object_has_an_annotation_of_its_own(tmp_path: Path, ids: np.ndarray) -> None:
    write_mask(tmp_path / "clip/instances/a.png", ids)
    _write(tmp_path / "clip.json", ["a"], ids.shape)
    annotations = json.loads((tmp_path / "clip.json").read_text())["annotations"]
    assert [one["object"] for one in annotations] == [int(x) for x in np.unique(ids) if x]
    for one in annotations:
        mask = ids == one["object"]
        coded = one["segmentation"]
        assert coded["counts"] == encode_runs(mask)
        assert (decode_runs(coded["counts"], tuple(coded["size"])) == mask).all()
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert (one["bbox"], one["area"], one["iscrowd"]) == (box, mask.sum(), 0)


def _coco(path: Path, *segmentations: object, **image: object) -> Path:
    picture = {"id": 7, "file_name": "sub/a.jpg", "height": 4, "width": 5} | image
    annotations = [
        {"id": number, "image_id": 7, "segmentation": one}
        for number, one in enumerate(segmentations)
    ]
    path.write_text(json.dumps({"images": [picture], "annotations": annotations}))
    return path


def test_files_of_others_are_read_whole(tmp_path: Path) -> None:
    first = np.zeros((4, 5), bool)
    first[:, 0] = True
    left = {"size": [4, 5], "counts": encode_runs(first)}
    plain = {"size": [4, 5], "counts": [16, 4]}  # the last
    square = [[1, 1, 3, 1, 3, 3, 1, 3]]
    mask = read_run_lengths(_coco(tmp_path / "a.json", left, plain, square, square[0]))["a"]
    expected = np.zeros((4, 5), bool)
    expected[:, [0, 4]] = True
    expected[1:3, 1:3] = True
    assert (mask == expected).all()
    # A picture without objects is known to have none.
    assert not read_run_lengths(_coco(tmp_path / "b.json"))["a"].any()


@pytest.mark.parametrize(
    "spoilt",
    [
        {"size": [4, 6], "counts": "d0"},
        {"size": [4, 5], "counts": [16, 5]},
        {"size": [4, 5], "counts": [24, -4]},
        [[1, 1, 3]],
        [],
        None,
    ],
)
def test_what_cannot_be_read_whole_is_refused(tmp_path: Path, spoilt: object) -> None:
    with pytest.raises(MediaError, match="is no file of run lengths"):
        read_run_lengths(_coco(tmp_path / "a.json", spoilt))


def test_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    image = {"height": 2, "width": 2}
    pictures = [{"id": n, "file_name": f"{n}/001.jpg", **image} for n in (1, 2)]
    (tmp_path / "a.json").write_text(json.dumps({"images": pictures, "annotations": []}))
    with pytest.raises(MediaError, match="two pictures are named '001'"):
        read_run_lengths(tmp_path / "a.json")


@pytest.mark.parametrize("place", [1e300, -1e9, float("nan"), 2**31, 100])
def test_polygons_that_lead_far_out_of_their_picture_are_told(tmp_path, place):
    path = tmp_path / "a.json"
    image = {"id": 1, "file_name": "a.png", "height": 3, "width": 4}
    one = {"image_id": 1, "segmentation": [[0, 0, place, 0, 2, 2]]}
    path.write_text(json.dumps({"images": [image], "annotations": [one]}))
    with pytest.raises(MediaError, match="leads far out of its picture"):
        read_run_lengths(path)
    path.write_text(json.dumps({"images": [image | {"width": 10**9}], "annotations": []}))
    with pytest.raises(MediaError, match="a picture of 1000000000 x 3 pixels"):
        read_run_lengths(path)

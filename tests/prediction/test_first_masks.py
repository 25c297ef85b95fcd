from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dvos.config.prediction import FirstMaskOptions, XMemPredictionSettings
from dvos.errors import MediaError, UsageError
from dvos.media.mask import write_mask
from dvos.media.video import VideoFrame
from dvos.prediction.first_masks import FirstMasks, GivenMasks, MaskRules, MaskTree, array_masks

SIZE = (12, 16)
FRAMES = ["a_frame-00000", "a_frame-00001", "a_frame-00002"]


def _mask(path: Path, *ids: int) -> Path:
    mask = np.zeros(SIZE, np.uint16)
    for place, name in enumerate(ids):
        mask[2:6, 4 * place : 4 * place + 3] = name
    write_mask(path, mask if max(ids, default=0) > 255 else mask.astype(np.uint8))
    return path


def _frame(index: int, name: str | None = None) -> VideoFrame:
    image = np.zeros((*SIZE, 3), np.uint8)
    return VideoFrame(index, 0.0, name or FRAMES[index], image)


def _ids(mask: np.ndarray | None) -> list[int] | None:
    return None if mask is None else [int(x) for x in np.unique(mask) if x]


def _rules(*, single_object: bool = False, **settings: object) -> MaskRules:
    return MaskRules(XMemPredictionSettings.model_validate(settings), single_object)


def _find(
    path: Path, clip: str, names: list[str] | None = None, *, alone: bool = True
) -> GivenMasks:
    return MaskTree(path, _rules()).of_clip(clip, names, alone=alone)


def _read(masks: FirstMasks, *indices: int) -> Iterator[list[int] | None]:
    return (_ids(ids) for _, ids in masks.along([_frame(index) for index in indices]))


def _given(tmp_path: Path, **rules: object) -> GivenMasks:
    return MaskTree(tmp_path, _rules(**rules)).of_clip("a", FRAMES)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["one.png", "a.tif", "a.nrrd", "masks/a.png"])
def test_a_single_mask_starts_the_first_frame(tmp_path: Path, place: str) -> None:
    path = _mask(tmp_path / place, 1)
    for source in (path, tmp_path):
        found = _find(source, "a", FRAMES)
        assert (found.first, found.named) == (path, {})


def test_void_says_which_values_are_no_object(tmp_path: Path) -> None:
    _mask(tmp_path / "a.png", 1, 2, 255)
    for void, ids in (
        ("auto", [1, 2, 255]),
        ("255", [1, 2]),
        ("2,255", [1]),
        ("none", [1, 2, 255]),
    ):
        rules = MaskRules(XMemPredictionSettings(), void=void)
        found = MaskTree(tmp_path, rules).of_clip("a", FRAMES)
        assert list(_read(found, 0)) == [ids]


def test_a_file_named_after_a_frame_belongs_to_it(tmp_path: Path) -> None:
    path = _mask(tmp_path / "a_mask-00002.png", 1)
    assert _find(path, "a", FRAMES).named == {FRAMES[2]: path}
    video = _mask(tmp_path / "field_000030.png", 1)
    assert _find(video, "field").named == {"field_000030": video}


@pytest.mark.parametrize("place", ["a", "masks/a", "a/Masks"])
def test_a_clip_of_a_tree_has_its_own_folder(tmp_path: Path, place: str) -> None:
    paths = [_mask(tmp_path / place / f"{name}.png", 1) for name in FRAMES]
    _mask(tmp_path / place.replace("a", "b", 1) / "other.png", 1)
    found = _find(tmp_path, "a", FRAMES, alone=False)
    assert found.files == tuple(paths)


def test_what_cannot_be_found_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder; check --first-mask"):
        _find(tmp_path / "nowhere", "a")
    with pytest.raises(MediaError, match=r"holds no mask of the clip 'a'; expected a\.png"):
        _find(tmp_path, "a", alone=False)
    with pytest.raises(MediaError, match="is one mask, and there are several clips"):
        _find(_mask(tmp_path / "one.png", 1), "a", alone=False)
    for name in ("x", "y"):
        _mask(tmp_path / "c" / f"{name}.png", 1)
    with pytest.raises(MediaError, match="holds 2 masks, none of which has the name of a frame"):
        _find(tmp_path, "c", FRAMES)


@pytest.mark.parametrize(
    ("frames", "expected"), [("first", [[7], None, None]), ("new", [[7], [7, 300], [300]])]
)
def test_later_masks_are_used_on_request(
    tmp_path: Path, frames: str, expected: list[list[int] | None]
) -> None:
    for name, ids in zip(FRAMES, ([7], [7, 300], [300]), strict=True):
        _mask(tmp_path / "a" / f"{name}.png", *ids)
    assert list(_read(_given(tmp_path, frames=frames), 0, 1, 2)) == expected


def test_empty_masks_wait_for_the_first_object(tmp_path: Path) -> None:
    for name, ids in zip(FRAMES, ([], [], [4]), strict=True):
        _mask(tmp_path / "a" / f"{name}.png", *ids)
    masks = _given(tmp_path)
    masks.check(SIZE)
    assert list(_read(masks, 0, 1, 2)) == [None, None, [4]]


def test_a_mask_without_an_object_is_told(tmp_path: Path) -> None:
    path = _mask(tmp_path / "a.png")
    with pytest.raises(MediaError, match=r"a\.png: holds no object.*draw the objects"):
        _given(tmp_path).check(SIZE)
    with pytest.raises(MediaError, match="holds no object"):
        next(_read(_given(tmp_path), 0))
    path.unlink()
    for name in FRAMES[:2]:
        _mask(tmp_path / "a" / f"{name}.png")
    read = _read(_given(tmp_path), 0, 1, 2)
    assert next(read) is None
    with pytest.raises(MediaError, match="none of the 2 masks of the clip 'a' holds an object"):
        next(read)


def test_a_mask_of_another_size_is_told(tmp_path: Path) -> None:
    _mask(tmp_path / "a.png", 1)
    with pytest.raises(MediaError, match="is 16 x 12 pixels; expected 40 x 30"):
        _given(tmp_path).check((30, 40))
    array = array_masks({0: np.ones((4, 5), np.uint8)}, _rules())
    with pytest.raises(MediaError, match="is 5 x 4 pixels; expected 16 x 12"):
        next(_read(array, 0))


def test_masks_that_never_come_are_told(tmp_path: Path) -> None:
    _mask(tmp_path / "a" / f"{FRAMES[2]}.png", 1)
    read = _read(_given(tmp_path), 0)
    assert next(read) is None
    with pytest.raises(MediaError, match=r"holds no object of a frame that is looked at.*--every"):
        next(read)
    array = array_masks({9: np.ones(SIZE, np.uint8)}, _rules())
    with pytest.raises(MediaError, match="no frame came with an object"):
        list(_read(array, 0))


def test_objects_are_ids_a_union_or_pieces() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 5:20] = 255
    mask[5:20, 40:55] = 255
    mask[30, 30] = 255
    assert _ids(_rules().apply(mask, "m")) == [255]
    assert _ids(_rules(objects="union").apply(mask // 51, "m")) == [1]
    pieces = _rules(objects="instances", minimum_area=5).apply(mask, "m")
    assert _ids(pieces) == [1, 2]
    assert pieces[30, 30] == 0
    mask[5:20, 40:55] = 3
    assert _ids(_rules(objects="instances").apply(mask, "m")) == [3, 255]


def test_thousands_of_16_bit_ids_are_kept_apart() -> None:
    ids = np.arange(60_000, 63_600, dtype=np.uint16).reshape(60, 60)
    assert (_rules(objects_max=4000).apply(ids, "m") == ids).all()


def test_too_many_objects_are_told() -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with pytest.raises(MediaError, match="m: holds 11 objects; expected at most 10; raise"):
        _rules(objects_max=10).apply(mask, "m")
    with pytest.raises(MediaError, match=r"trained on single objects.*objects=union"):
        _rules(single_object=True).apply(mask, "m")
    assert _rules(single_object=True, objects="union").apply(mask, "m").max() == 1


@pytest.mark.parametrize("mask", [np.ones((3, 4, 1), np.uint8), np.ones(SIZE), -np.ones(SIZE, int)])
def test_arrays_that_are_no_masks_are_refused(mask: np.ndarray) -> None:
    with pytest.raises(MediaError, match=r"\(height, width\) of bool or of ids"):
        array_masks({0: mask}, _rules())


def test_settings_say_what_does_not_fit() -> None:
    assert FirstMaskOptions(first_mask="masks").first_mask == Path("masks")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give the network that finds it"):
        FirstMaskOptions(first_mask=Path("auto"))
    with pytest.raises(ValueError, match="is for first_mask=auto"):
        FirstMaskOptions(first_mask=Path("m"), first_mask_checkpoint=Path("c"))
    with pytest.raises(ValueError, match="numbers each mask anew"):
        XMemPredictionSettings(objects="instances", frames="new")
    with pytest.raises(ValueError, match="more than min_mid_term_frames"):
        XMemPredictionSettings(max_mid_term_frames=3)
    with pytest.raises(ValueError, match="at least prototypes"):
        XMemPredictionSettings(long_term_max=3)

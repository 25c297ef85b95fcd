from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from dvos.config.scoring import ScoringSettings
from dvos.errors import MediaError, TableError, UsageError
from dvos.media.image import image_size, read_image, write_image
from dvos.media.mask import write_mask
from dvos.media.video_write import VideoWriter
from dvos.scoring.score import score_command
from dvos.scoring.summary import Scores
from dvos.tables import ClipRow, write_clips

SIZE = (24, 32)


def _mask(columns: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[:, :columns] = True
    return mask


def _write(folder: Path, names: dict[str, int]) -> Path:
    for name, columns in names.items():
        write_mask(folder / name, _mask(columns))
    return folder


def _score(tmp_path: Path, **options: object) -> Scores:
    result = score_command(
        ScoringSettings.model_validate(
            {
                "truth": tmp_path / "truth",
                "predictions": tmp_path / "predictions",
                "out": tmp_path / "out",
                "workers": 1,
                **options,
            }
        )
    )
    assert isinstance(result, Scores)
    return result


def _pooled_dice(pairs: list[tuple[int, int]]) -> float:
    return 2 * sum(min(p, t) for p, t in pairs) / sum(p + t for p, t in pairs)


def test_void_says_which_values_of_the_truth_count_nowhere(tmp_path: Path) -> None:
    truth = _mask(8).astype(np.uint8)
    truth[:, 16:] = 254
    for name in ("0", "1"):
        write_mask(tmp_path / f"truth/a/{name}.png", truth)
    _write(tmp_path / "predictions", {"a/0.png": 8, "a/1.png": 4})
    assert _score(tmp_path, void="254").pooled_dice == pytest.approx(_pooled_dice([(8, 8), (4, 8)]))
    whole = _score(tmp_path, void="none").pooled_dice
    assert whole == pytest.approx(_pooled_dice([(8, 24), (4, 24)]))
    with pytest.raises(ValueError, match="auto, none, or the values that mean unknown"):
        _score(tmp_path, void="many")


def test_a_tree_of_clips(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"a/0.png": 8, "a/1.png": 8, "b/0.png": 16})
    _write(tmp_path / "predictions", {"a/0.png": 8, "a/1.png": 4, "b/0.png": 20})
    scores = _score(tmp_path)
    assert scores.pooled_dice == pytest.approx(_pooled_dice([(8, 8), (4, 8), (20, 16)]))
    smoothed = [1.0, (2 * 96 + 1) / (288 + 1), (2 * 384 + 1) / (864 + 1)]
    assert scores.mean_dice == pytest.approx(sum(smoothed) / 3)
    assert not scores.missing
    stored = json.loads((tmp_path / "out/scores.json").read_text())
    assert stored["masks"] == 3
    assert stored["missing"] == 0
    assert stored["pooled_dice"] == scores.pooled_dice
    assert set(stored["clips"]) == {"a", "b"}
    assert stored["pooled_dice_interval"]["unit"] == "clip"
    with open(tmp_path / "out/scores.csv", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["Image", "Mask", "Pred", "IoU", "Dice"]
    assert len(rows) == 5
    assert rows[-1][0] == "Mean"
    assert float(rows[-1][4]) == pytest.approx(scores.mean_dice)
    assert float(rows[-1][3]) == pytest.approx(scores.mean_iou)


def test_only_the_last_frame_of_each_clip_in_natural_order(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"a/f9.png": 8, "a/f10.png": 16, "b/f0.png": 4})
    _write(tmp_path / "predictions", {"a/f9.png": 1, "a/f10.png": 16, "b/f0.png": 4})
    scores = _score(tmp_path, frames="last")
    assert [mask.pair.name for mask in scores.masks] == ["f10", "f0"]
    assert scores.pooled_dice == 1.0


@pytest.mark.parametrize(
    "predictions", ["{0}.png", "{0}/{0}.png", "field/{0}.png", "truth/{0}.png", "masks/{0}.png"]
)
def test_flat_truth_finds_flat_stills_and_single_clip_predictions(
    tmp_path: Path, predictions: str
) -> None:
    names = {"s1": 8, "s2": 16}
    _write(tmp_path / "truth", {f"{name}.png": columns for name, columns in names.items()})
    _write(
        tmp_path / "predictions",
        {predictions.format(name): columns for name, columns in names.items()},
    )
    scores = _score(tmp_path)
    assert not scores.missing
    assert scores.pooled_dice == 1.0


def test_flat_predictions_of_a_tree_need_unique_names(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"a/0.png": 8, "a/1.png": 8, "b/1.png": 8})
    _write(tmp_path / "predictions", {"0.png": 8, "1.png": 8})
    scores = _score(tmp_path)
    assert [mask.pair.prediction is None for mask in scores.masks] == [False, True, True]


def test_flat_truth_that_fits_two_clips_is_a_fault(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"0.png": 8})
    _write(tmp_path / "predictions", {"a/0.png": 8, "b/0.png": 8})
    with pytest.raises(MediaError, match=r"0\.png: fits 2 predictions"):
        _score(tmp_path)


def test_synthetic_clips_and_the_xmem_layout(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"VID_00000/Masks/vid-00000_mask-00003.png": 8})
    write_image(
        tmp_path / "truth/VID_00000/Frames/vid-00000_frame-00003.png",
        np.zeros((*SIZE, 3), np.uint8),
    )
    _write(tmp_path / "predictions", {"VID_00000/vid-00000_frame-00003.png": 8})
    assert _score(tmp_path).pooled_dice == 1.0
    _write(tmp_path / "xmem/masks", {"goat/00000.png": 8})
    _write(tmp_path / "other", {"goat/00000.png": 4})
    given = {"truth": tmp_path / "xmem", "predictions": tmp_path / "other", "out": tmp_path / "o"}
    scores = _score(tmp_path, **given)
    assert scores.masks[0].pair.clip == "goat"
    assert scores.pooled_dice == pytest.approx(8 / 12)


def test_missing_predictions_count_as_empty_and_are_listed(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"a/0.png": 8, "a/1.png": 8, "a/2.png": 8})
    _write(tmp_path / "predictions", {"a/0.png": 8})
    scores = _score(tmp_path)
    assert len(scores.missing) == 2
    assert "has no prediction" in str(scores.missing[0])
    assert str(tmp_path / "predictions/a/1.png") in str(scores.missing[0])
    assert scores.pooled_dice == pytest.approx(2 * 8 / (8 + 24))
    assert scores.mean_dice == pytest.approx((1 + 2 / (24 * 8 + 1)) / 3)
    stored = json.loads((tmp_path / "out/scores.json").read_text())
    assert (stored["masks"], stored["missing"]) == (3, 2)


def test_size_mismatch_and_damage_are_reported_together(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"a/0.png": 8, "a/1.png": 8, "a/2.png": 8})
    _write(tmp_path / "predictions", {"a/2.png": 8})
    write_mask(tmp_path / "predictions/a/0.png", np.ones((5, 6), bool))
    (tmp_path / "predictions/a/1.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    with pytest.raises(MediaError) as caught:
        _score(tmp_path)
    assert len(caught.value.faults) == 2
    assert "is 6 x 5 pixels; expected 32 x 24" in str(caught.value)
    assert not (tmp_path / "out/scores.json").exists()


def test_instance_truth_is_reduced_and_its_objects_counted(tmp_path: Path) -> None:
    truth = np.zeros(SIZE, np.uint16)
    truth[:, 2:6], truth[:, 8:12] = 1, 700
    write_mask(tmp_path / "truth/a/0.png", truth)
    write_mask(tmp_path / "predictions/a/0.png", truth > 0)
    (tmp_path / "predictions/counts.csv").write_text("clip,frame,count\na,0,5\n")
    scores = _score(tmp_path)
    assert scores.pooled_dice == 1.0
    assert scores.count_errors is not None
    assert scores.count_errors.bias == 3.0


@pytest.mark.parametrize(("pieces", "counted"), [(1, 3), (2, 2)])
def test_a_clip_with_one_object_or_none_counts_beside_others(
    tmp_path: Path, pieces: int, counted: int
) -> None:
    """A negative control shows false alarms; of semantic masks of several pieces nothing does."""
    places = [(2, 2), (2, 12), (12, 2)]
    shown = {"a": 3, "none": 0, "one": 1}
    for clip, number in shown.items():
        true, found = np.zeros((2, 20, 20), np.uint16)
        for id_, (y, x) in enumerate(places[:number], start=1):
            true[y : y + 5, x : x + 5] = found[y : y + 5, x : x + 5] = id_
        found[14:18, 14:18] = 9  # a false alarm
        if clip == "one" and pieces > 1:
            true[12:17, 2:7] = 1
        write_mask(tmp_path / "truth" / clip / "0.png", true)
        write_mask(tmp_path / "predictions" / clip / "0.png", found)
    scores = _score(tmp_path)
    told = {mask.pair.clip: mask.true_count for mask in scores.masks}
    assert told == {"a": 3, "none": 0, "one": 1 if counted == 3 else None}
    assert scores.count_errors is not None
    assert (scores.count_errors.frames, scores.count_errors.bias) == (counted, 1)


@pytest.mark.parametrize(("unknown", "kind"), [(128, np.uint8), (65535, np.uint16)])
def test_pixels_of_unknown_label_count_nowhere(
    tmp_path: Path, unknown: int, kind: type[np.generic]
) -> None:
    # Left of column 20 all is known: objects 255 and, of ids, 7.
    truth = np.zeros(SIZE, kind)
    truth[:, :8] = 255
    truth[:, 20:] = unknown
    if unknown == 65535:
        truth[:, 12:16] = 7
    found = truth != 0
    found[:, 20:26] = False
    write_mask(tmp_path / "truth/a/0.png", truth)
    write_mask(tmp_path / "predictions/a/0.png", found)
    scores = _score(tmp_path)
    assert scores.pooled_dice == 1.0
    assert scores.mean_iou == 1.0
    assert json.loads((tmp_path / "out/scores.json").read_text())["boundary_f"] == 1.0
    found[:, :4] = False
    write_mask(tmp_path / "predictions/a/0.png", found)
    pixels = 12 if unknown == 65535 else 8
    assert _score(tmp_path).pooled_dice == pytest.approx(_pooled_dice([(pixels - 4, pixels)]))


def test_csv_truth_labelled_all_and_last(tmp_path: Path) -> None:
    rows = []
    for fid in range(4):
        image, mask = tmp_path / f"frames/f{fid}.png", tmp_path / f"masks/f{fid}.png"
        write_image(image, np.zeros((*SIZE, 3), np.uint8))
        write_mask(mask, _mask(8))
        rows.append(ClipRow("", "clip", fid, image, mask if fid < 3 else None, int(fid == 1)))
    write_clips(tmp_path / "clips.csv", rows)
    _write(tmp_path / "predictions/clip", {f"f{fid}.png": 8 for fid in range(4)})
    names = {
        frames: [
            mask.pair.name
            for mask in _score(tmp_path, truth=tmp_path / "clips.csv", frames=frames).masks
        ]
        for frames in ("labelled", "all", "last")
    }
    assert names == {"labelled": ["f1"], "all": ["f0", "f1", "f2"], "last": ["f2"]}


def test_pictures_of_best_median_worst_and_every_second(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {f"a/{k}.png": 8 for k in range(5)})
    _write(tmp_path / "predictions", {f"a/{k}.png": 8 - k for k in range(5)})
    for k in range(5):
        write_image(tmp_path / f"images/a/{k}.jpg", np.full((*SIZE, 3), 90, np.uint8))
    scores = _score(tmp_path, overlay_interval=2, images=tmp_path / "images")
    assert [path.name for path in scores.overlays] == ["a_0.png", "a_2.png", "a_4.png"]
    pictures = [tmp_path / "out" / f"{name}.png" for name in ("best", "median", "worst")]
    for path in (*pictures, *scores.overlays):
        height, width = image_size(path)
        assert height == SIZE[0]
        assert width > 3 * SIZE[1]


def test_places_that_do_not_exist(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"a/0.png": 8})
    with pytest.raises(UsageError, match="predictions: no such file or folder"):
        _score(tmp_path)
    with pytest.raises(UsageError, match="no such file or folder") as caught:
        _score(tmp_path, truth=tmp_path / "nowhere")
    assert len(caught.value.faults) == 2


def test_truth_without_masks(tmp_path: Path) -> None:
    (tmp_path / "truth/a").mkdir(parents=True)
    (tmp_path / "predictions").mkdir()
    with pytest.raises(MediaError, match="holds no true mask"):
        _score(tmp_path)


def test_frames_of_a_video_under_the_overlays(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "field.mp4", frame_rate=10, size=SIZE) as video:
        for k in range(3):
            video.write(np.full((*SIZE, 3), 60 + 60 * k, np.uint8))
    _write(tmp_path / "truth", {"field/field_000001.png": 8})
    _write(tmp_path / "predictions", {"field/field_000001.png": 8})
    scores = _score(tmp_path, images=tmp_path / "field.mp4")
    frame = read_image(scores.out / "best.png")[:, : SIZE[1]]
    assert abs(float(frame.mean()) - 120) < 6


def test_a_clip_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"0.png": 8, "1.png": 8})
    _write(tmp_path / "predictions", {"0.png": 8, "1.png": 8})
    rows = [
        ClipRow("", clip, 0, mask, mask, 1)
        for clip, mask in (
            ("../../../escaped", tmp_path / "truth/0.png"),
            ("plain", tmp_path / "truth/1.png"),
        )
    ]
    write_clips(tmp_path / "clips.csv", rows)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TableError, match=r"clip name '../../../escaped'") as caught:
        _score(tmp_path, truth=tmp_path / "clips.csv", overlay_interval=1)
    assert len(caught.value.faults) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_truth_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"a/0.png": 8, "a/2.png": 8})
    _write(tmp_path / "predictions", {"a/0.png": 8, "a/1.png": 8, "a/2.png": 8})
    (tmp_path / "truth/a/1.png").symlink_to("/nowhere/1.png")
    with pytest.raises(MediaError, match=r"1\.png: is a link to /nowhere/1\.png"):
        _score(tmp_path)
    (tmp_path / "truth/a/1.png").unlink()
    (tmp_path / "truth/b").symlink_to("/nowhere/b")
    with pytest.raises(MediaError, match="truth/b: is a link to /nowhere/b, which is not there"):
        _score(tmp_path)


_COMPOSED, _DECOMPOSED = "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("names", [(_COMPOSED, _DECOMPOSED), (_DECOMPOSED, _COMPOSED)])
def test_names_match_however_their_accents_are_written(
    tmp_path: Path, names: tuple[str, str], flat: bool
) -> None:
    true, found = names
    prefix = ("", "") if flat else (f"{true}/", f"{found}/")
    _write(tmp_path / "truth", {f"{prefix[0]}{true}_{k:06d}.png": 8 for k in range(2)})
    _write(tmp_path / "predictions", {f"{prefix[1]}{found}_{k:06d}.png": 8 for k in range(2)})
    with VideoWriter(tmp_path / f"{true}.mp4", frame_rate=10, size=SIZE) as video:
        for value in (0, 250):
            video.write(np.full((*SIZE, 3), value, np.uint8))
    scores = _score(tmp_path, images=tmp_path / f"{true}.mp4")
    assert scores.pooled_dice == 1.0
    assert not scores.missing
    assert scores.figures["temporal_stability"] == (None if flat else 1.0)
    assert read_image(scores.out / "worst.png").max() == 255


def test_a_table_of_clips_matches_names_likewise(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {f"{_DECOMPOSED}.png": 8})
    _write(tmp_path / "predictions", {f"{_COMPOSED}/{_COMPOSED}.png": 8})
    mask = f"truth/{_COMPOSED}.png"
    (tmp_path / "clips.csv").write_text(
        f"VID,FID,Image,Mask,Label\n{_DECOMPOSED},0,{mask},{mask},1\n", encoding="utf-8"
    )
    scores = _score(tmp_path, truth=tmp_path / "clips.csv")
    assert scores.pooled_dice == 1.0
    assert not scores.missing


def test_a_truth_numbered_from_one_beside_predictions_from_zero_is_told(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {f"a/f_{k:06d}.png": 8 for k in range(1, 5)})
    _write(tmp_path / "predictions", {f"a/f_{k:06d}.png": 8 for k in range(4)})
    (fault,) = _score(tmp_path).missing
    assert fault.where.endswith("a/f_000004.png")
    assert "the truth is numbered 1 to 4, the predictions 0 to 3" in fault.remedy


def test_a_frame_left_out_at_the_end_is_no_other_numbering(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {f"a/f_{k:06d}.png": 8 for k in (10, 20, 30)})
    _write(tmp_path / "predictions", {f"a/f_{k:06d}.png": 8 for k in range(35) if k != 30})
    (fault,) = _score(tmp_path).missing
    assert "numbered" not in fault.remedy


def test_a_mask_that_lies_on_its_side_is_told(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"a/0.png": 8})
    write_mask(tmp_path / "predictions/a/0.png", _mask(8).T)
    with pytest.raises(MediaError, match=r"24 x 32 pixels; expected 32 x 24.*lies on its side"):
        _score(tmp_path)

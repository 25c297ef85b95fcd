from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from dvos.config.scoring import ScoringSettings
from dvos.errors import DvosError, MediaError, TableError, UsageError
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.scoring.aggregate import FIGURES
from dvos.scoring.score import score
from dvos.scoring.summary import Scores
from dvos.tables import ClipRow, write_clips

SIZE = (24, 32)


def _mask(columns: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[:, :columns] = True
    return mask


def _stripes(*names: int, width: int = 4, shift: int = 0) -> np.ndarray:
    """An instance mask with a stripe for each id, 8 columns apart."""
    mask = np.zeros(SIZE, np.uint16)
    for place, name in enumerate(names):
        mask[:, 8 * place + shift : 8 * place + shift + width] = name
    return mask


def _write(folder: Path, masks: dict[str, np.ndarray]) -> None:
    for name, mask in masks.items():
        write_mask(folder / f"{name}.png", mask)


def _score(root: Path, **options: Any) -> Scores:
    values = {
        "truth": root / "truth",
        "predictions": root / "predictions",
        "out": root / "out",
        "workers": 2,
        **options,
    }
    return score(ScoringSettings.model_validate(values))


def _json(root: Path) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((root / "out/scores.json").read_text())
    return stored


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_figure_is_told_overall_and_by_clip(tmp_path: Path) -> None:
    masks = {f"{clip}/{k}": _mask(8) for clip in "ab" for k in range(4)}
    _write(tmp_path / "truth", masks)
    _write(tmp_path / "predictions", masks)
    _score(tmp_path)
    stored = _json(tmp_path)
    unmeasured = {"temporal_stability", "instance_f1", "count_mae"}
    for name in FIGURES:
        expected = None if name in unmeasured else 1.0
        assert stored[name] == expected
        assert stored["clips"]["b"][name] == expected
        assert (stored[f"{name}_interval"] is None) == (expected is None)
    assert stored["davis"] == {
        "j_mean": 1.0,
        "j_recall": 1.0,
        "j_decay": 0.0,
        "f_mean": 1.0,
        "f_recall": 1.0,
        "f_decay": 0.0,
        "jf_mean": 1.0,
    }
    assert stored["instances"] is stored["domains"] is stored["domain_mean"] is None
    assert stored["temporal"]["compared"] == 6
    assert {"mean_dice", "masks", "missing", "precision", "pictures", "counts"} <= set(stored)


def test_flicker_beside_a_still_truth(tmp_path: Path) -> None:
    # 40 masks: longer than what one thread takes at once.
    _write(tmp_path / "truth", {f"a/{k:02d}": _mask(8) for k in range(40)})
    _write(tmp_path / "predictions", {f"a/{k:02d}": _mask(8 if k % 2 else 4) for k in range(40)})
    scores = _score(tmp_path)
    assert scores.figures["relative_stability"] == pytest.approx(0.5)
    assert _json(tmp_path)["temporal"]["compared"] == 39
    assert _score(tmp_path, temporal=False).figures["relative_stability"] is None


def test_frames_give_temporal_stability(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    for k in range(3):
        write_image(tmp_path / f"images/a/{k}.png", image)
    _write(tmp_path / "truth", {f"a/{k}": _mask(8) for k in range(3)})
    _write(tmp_path / "predictions", {f"a/{k}": _mask(8 - 2 * k) for k in range(3)})
    scores = _score(tmp_path, images=tmp_path / "images")
    assert scores.figures["temporal_stability"] == pytest.approx((6 / 8 + 4 / 6) / 2)
    assert _json(tmp_path)["temporal"] == {
        "followed": 2,
        "followed_truth": 2,
        "truth_stability": 1.0,
        "compared": 2,
    }
    details = _rows(tmp_path / "out/scores_by_mask.csv")
    assert details[0]["temporal_stability"] == ""
    assert float(details[1]["temporal_stability"]) == pytest.approx(0.75)


def _predict_objects(root: Path, *, probabilities: bool) -> None:
    """Two frames: all three objects but one found, and a false one; a frame of one object."""
    _write(root / "truth", {"a/0": _stripes(3, 500, 9), "a/1": _stripes(1)})
    found = {"a/0": _stripes(1, 2, 0, 4), "a/1": _stripes(7, width=3)}
    _write(root / "predictions", {name: mask > 0 for name, mask in found.items()})
    _write(root / "predictions", {name.replace("/", "/instances/"): m for name, m in found.items()})
    if probabilities:
        (root / "predictions/a.objects.csv").write_text(
            "frame_index,frame,object,mean_probability\n"
            "0,0,1,0.9\n0,0,2,0.8\n0,0,4,0.95\n1,1,7,0.6\n"
        )


def test_objects_of_instance_masks(tmp_path: Path) -> None:
    _predict_objects(tmp_path, probabilities=True)
    scores = _score(tmp_path)
    found = scores.instances
    assert found is not None
    assert (found.predicted, found.true, found.frames) == (4, 4, 2)
    assert found.f1 == scores.figures["instance_f1"] == 0.75
    # By falling rank: miss, hit, hit, hit (IoU 1, 1, 3/4) of 4: precision 3/4
    # up to recall 0.75, which 76 of the 101 places are.
    assert found.average_precision_50 == pytest.approx(0.75 * 76 / 101)
    assert found.average_precision_75 == pytest.approx(0.75 * 76 / 101)
    # Above an IoU of 0.75 two hits are left: 2/3 up to recall 0.5.
    high = 2 / 3 * 51 / 101
    assert found.average_precision == pytest.approx((6 * 0.75 * 76 / 101 + 4 * high) / 10)
    stored = _json(tmp_path)
    assert stored["instances"]["ranked_by"] == "mean_probability"
    assert stored["average_precision"] == found.average_precision
    assert stored["clips"]["a"]["average_precision_50"] == found.average_precision_50
    # No counts.csv: objects are counted. 3 against 3, 1 against 1.
    assert stored["counts"]["mean_absolute_error"] == stored["count_mae"] == 0.0


def test_objects_without_probabilities_rank_by_area(tmp_path: Path) -> None:
    _predict_objects(tmp_path, probabilities=False)
    found = _score(tmp_path).instances
    assert _json(tmp_path)["instances"]["ranked_by"] == "area"
    assert found is not None
    # Three of 96 pixels: hit, hit, miss; then the narrow one, a hit.
    assert found.average_precision_50 == pytest.approx((51 + 25 * 0.75) / 101)


def test_predicted_masks_that_are_instance_masks_themselves(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"a/0": _stripes(3, 500, 9), "a/1": _stripes(1)})
    _write(tmp_path / "predictions", {"a/0": _stripes(1, 2, 3), "a/1": _stripes(0)})
    scores = _score(tmp_path)
    assert scores.instances is not None
    assert scores.instances.recall == 0.75
    assert scores.count_errors is not None
    assert scores.count_errors.bias == -0.5


def test_semantic_predictions_have_no_objects(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"a/0": _stripes(3, 500, 9), "a/1": _stripes(1)})
    _write(tmp_path / "predictions", {"a/0": _stripes(1, 2, 3) > 0, "a/1": _stripes(1) > 0})
    scores = _score(tmp_path)
    assert scores.instances is None
    assert scores.count_errors is None


def test_a_missing_instance_mask_is_a_fault_and_its_objects_are_missed(tmp_path: Path) -> None:
    _predict_objects(tmp_path, probabilities=True)
    (tmp_path / "predictions/a/instances/1.png").unlink()
    scores = _score(tmp_path)
    assert scores.instances is not None
    assert scores.instances.recall == 0.5
    assert len(scores.missing) == 1
    assert "has no predicted instance mask; expected" in str(scores.missing[0])
    assert _json(tmp_path)["missing"] == 0


def test_a_clip_without_counts_beside_one_with_is_told(tmp_path: Path) -> None:
    masks = {f"{clip}/{k}": _stripes(1, 2) for clip in "ab" for k in range(3)}
    _write(tmp_path / "truth", masks)
    _write(tmp_path / "predictions", masks)
    table = tmp_path / "predictions/counts.csv"
    rows = [f"b,{k},{k},2\n" for k in range(3)]
    table.write_text("clip,frame_index,frame,count\n" + "".join(rows))
    scores = _score(tmp_path)
    assert scores.count_errors is not None
    assert scores.count_errors.frames == 3
    (fault,) = scores.missing
    assert fault.where == str(table)
    assert fault.found == "has no row for 3 of 3 frames of the clip a"
    table.write_text(table.read_text() + "a,0,0,2\na,1,1,2\na,2,2,2\n")
    assert not _score(tmp_path).missing


def test_smoothed_counts_and_their_interval(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"a/0": _stripes(1, 2), "a/1": _stripes(1, 2, 3)})
    _write(tmp_path / "predictions", {"a/0": _mask(8), "a/1": _mask(8)})
    (tmp_path / "predictions/counts.csv").write_text(
        "clip,frame_index,frame,count,count_smooth,count_low,count_high\n"
        "a,0,0,4,2.5,1,3\na,1,1,4,2.5,1,2.9\n"
    )
    _score(tmp_path)
    counts = _json(tmp_path)["counts"]
    assert counts["mean_absolute_error"] == 1.5
    assert counts["smooth"]["mean_absolute_error"] == 0.5
    assert counts["interval_coverage"] == 0.5


def _fields(root: Path) -> None:
    _write(root / "truth", {f"{field}_{k}/0": _mask(8) for field in "mn" for k in range(3)})
    columns = {"m": 8, "n": 4}
    _write(
        root / "predictions",
        {f"{field}_{k}/0": _mask(columns[field]) for field in "mn" for k in range(3)},
    )


def test_domains_by_regular_expression(tmp_path: Path) -> None:
    _fields(tmp_path)
    _score(tmp_path, domain=r"^([a-z]+)_")
    stored = _json(tmp_path)
    assert list(stored["domains"]) == ["m", "n"]
    n = stored["domains"]["n"]
    assert (n["masks"], n["clips"], n["pooled_dice"]) == (3, 3, pytest.approx(2 / 3))
    assert n["pooled_dice_interval"]["low"] == pytest.approx(2 / 3)
    mean = stored["domain_mean"]
    assert mean["domains"] == 2
    assert mean["pooled_dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert mean["pooled_dice_interval"]["high"] == pytest.approx((1 + 2 / 3) / 2)
    assert mean["temporal_stability"] is None
    assert _rows(tmp_path / "out/scores_by_mask.csv")[0]["domain"] == "m"


def test_masks_without_a_domain_are_told_together(tmp_path: Path) -> None:
    _fields(tmp_path)
    with pytest.raises(UsageError, match=r"n_0/0 has no domain; expected a match of \^m") as caught:
        _score(tmp_path, domain="^m")
    assert len(caught.value.faults) == 3
    with pytest.raises(ValidationError, match="a regular expression"):
        _score(tmp_path, domain="(")


def test_domains_of_a_table(tmp_path: Path) -> None:
    rows = []
    for clip in ("p", "q"):
        image, mask = tmp_path / f"frames/{clip}.png", tmp_path / f"masks/{clip}.png"
        write_image(image, np.zeros((*SIZE, 3), np.uint8))
        write_mask(mask, _mask(8))
        rows.append(ClipRow("", clip, 0, image, mask, 1))
    table = tmp_path / "clips.csv"
    write_clips(table, rows)
    _write(tmp_path / "predictions", {"p/p": _mask(8), "q/q": _mask(4)})
    lines = table.read_text().splitlines()
    cells = ("Domain", "wet", "dry")
    table.write_text("".join(f"{a},{b}\n" for a, b in zip(lines, cells, strict=True)))
    _score(tmp_path, truth=table)
    domains = _json(tmp_path)["domains"]
    assert {name: one["mean_iou"] for name, one in domains.items()} == {
        "dry": pytest.approx(97 / 193),
        "wet": 1.0,
    }
    assert domains["wet"]["pooled_dice_interval"] is None
    table.write_text(table.read_text().replace(",dry", ","))
    with pytest.raises(UsageError, match=r"masks/q\.png: its row has no Domain"):
        _score(tmp_path, truth=table)


def test_more_files_than_the_truth_has(tmp_path: Path) -> None:
    _write(tmp_path / "truth", {"0": _mask(8), "1": _mask(8)})
    more = {"0": _mask(8), "2": _mask(1), "instances/1": _mask(3), "probabilities/1": _mask(2)}
    _write(tmp_path / "predictions", more)
    (tmp_path / "predictions/notes.txt").write_text("what else lies there")
    scores = _score(tmp_path)
    # What lies beside flat masks is no clip: frame 1 has no prediction.
    assert scores.without_prediction == len(scores.missing) == 1
    assert scores.pooled_dice == pytest.approx(2 * 8 / (8 + 16))


def _float_nrrd(path: Path, values: np.ndarray) -> None:
    height, width = values.shape[-2:]
    sizes = " ".join(str(size) for size in values.shape[::-1])
    header = (
        f"NRRD0004\ntype: float\ndimension: {values.ndim}\nsizes: {sizes}\n"
        "encoding: raw\nendian: little\n\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.encode() + values.astype("<f4").tobytes())
    assert (height, width) == SIZE


def _half(root: Path) -> None:
    _float_nrrd(root / "truth/a/0.nrrd", np.full(SIZE, 0.5))


def _volume(root: Path) -> None:
    _float_nrrd(root / "truth/a/0.nrrd", np.ones((3, *SIZE)))


def _cut_off(root: Path) -> None:
    path = root / "predictions/a/0.png"
    path.write_bytes(path.read_bytes()[:-20])


def _other_instances(root: Path) -> None:
    write_mask(root / "truth/a/0.png", _stripes(1, 2))
    write_mask(root / "predictions/a/instances/0.png", np.ones((5, 6), np.uint16))


def _no_counts(root: Path) -> None:
    (root / "predictions/counts.csv").write_text("clip,frame,count\na,0,many\n")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_half, MediaError, r"0\.nrrd: fractional values \(such as 0\.5\); expected whole ids"),
        (_volume, MediaError, r"0\.nrrd: 3 axes of lengths 32 x 24 x 3; expected a flat mask"),
        (_cut_off, MediaError, r"0\.png: truncated or corrupt PNG"),
        (_other_instances, MediaError, r"instances.0\.png: is 6 x 5 pixels; expected 32 x 24"),
        (_no_counts, TableError, r"counts\.csv: is no table of counts .*many"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, damage: Any, error: type[DvosError], message: str
) -> None:
    if damage not in (_half, _volume):
        _write(tmp_path / "truth", {"a/0": _mask(8)})
    _write(tmp_path / "predictions", {"a/0": _mask(8)})
    damage(tmp_path)
    with pytest.raises(error, match=message) as caught:
        _score(tmp_path)
    assert len(caught.value.faults) == 1
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out/scores.json").exists()

"""Counts by hand beside predicted ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dvos.config.scoring import ScoringSettings
from dvos.errors import TableError
from dvos.media.mask import write_mask
from dvos.scoring.hand_counts import HandCounts, agreement
from dvos.scoring.score import score_command

COUNTS = "clip,frame_index,frame,count\nv,0,v_000,10\nv,1,v_001,14\nw,0,v_000,7\nstill,0,still,21\n"


def _compare(tmp_path: Path, table: str, totals: str = "") -> HandCounts:
    predictions = tmp_path / "p"
    predictions.mkdir(exist_ok=True)
    (predictions / "counts.csv").write_text(COUNTS)
    if totals:
        (predictions / "totals.csv").write_text(totals)
    (tmp_path / "hand.csv").write_text(table)
    found = score_command(
        ScoringSettings(predictions=predictions, counts=tmp_path / "hand.csv", out=tmp_path / "s")
    )
    assert isinstance(found, HandCounts)
    return found


def test_figures_are_those_of_their_definitions(tmp_path: Path) -> None:
    found = agreement(np.array([10.0, 20.0, 30.0]), np.array([12.0, 20.0, 29.0]), tmp_path)
    assert found.bias == pytest.approx(1 / 3)
    assert found.mae == pytest.approx(1.0)
    assert found.rmse == pytest.approx(np.sqrt(5 / 3))
    assert found.relative_error == pytest.approx(0.05)
    assert found.r2 == pytest.approx(1 - 5 / 200)
    reach = 1.96 * np.std([2, 0, -1], ddof=1)
    assert found.limits_of_agreement == pytest.approx((1 / 3 - reach, 1 / 3 + reach))


def test_one_count_has_no_limits_and_no_r2(tmp_path: Path) -> None:
    found = agreement(np.array([0.0]), np.array([2.0]), tmp_path)
    assert (found.r2, found.limits_of_agreement, found.relative_error) == (None, None, None)


def test_images_are_found_by_name_and_by_clip(tmp_path: Path) -> None:
    table = "Image,count\nphotos/still.jpg,20\nv_001.png,15\nv/v_000.png,9\nw/v_000.png,7\n"
    found = _compare(tmp_path, table)
    assert found.compared == 4
    lines = (tmp_path / "s/counts_by_hand.csv").read_text().splitlines()
    assert lines[0] == "clip,Image,by_hand,predicted,difference"
    assert [line.split(",")[3] for line in lines[1:]] == ["21.0", "14.0", "10.0", "7.0"]
    assert json.loads((tmp_path / "s/counts_by_hand.json").read_text())["bias"] == 0.25
    assert "<svg" in (tmp_path / "s/counts_by_hand.svg").read_text()


def test_clips_are_compared_by_their_distinct_objects(tmp_path: Path) -> None:
    totals = "clip,region,distinct,low,high,area_m2,per_m2,frames\nv,,18,15,21,,,2\nv,a,3,1,4,,,2\n"
    found = _compare(tmp_path, "clip,count\nv,20\nw,7\n", totals)
    assert (found.compared, found.bias) == (2, -1.0)
    assert str(found).startswith("2 counts by hand: bias -1.00, MAE 1.00")


def test_regions_of_a_clip_are_compared_with_their_own_totals(tmp_path: Path) -> None:
    totals = "clip,region,distinct,low,high\nv,,18,15,21\nv,a,3,1,4\nv,b,9,8,11\n"
    found = _compare(tmp_path, "clip,region,count\nv,b,8\nv,a,3\nv,,20\n", totals)
    assert (found.compared, found.bias) == (3, pytest.approx(-1 / 3))
    lines = (tmp_path / "s/counts_by_hand.csv").read_text().splitlines()
    assert lines[:2] == ["clip,Image,by_hand,predicted,difference,region", "v,,8.0,9.0,1.0,b"]
    with pytest.raises(TableError, match=r"hand.csv: v region c: has no prediction"):
        _compare(tmp_path, "clip,region,count\nv,c,8\n", totals)
    with pytest.raises(TableError, match="row 2 column region: 'a'; expected none of an image"):
        _compare(tmp_path, "Image,region,count\nv_001,a,8\n", totals)


def test_the_plot_is_the_same_again(tmp_path: Path) -> None:
    table = "clip,count\nw,7\nstill,20\n"
    _compare(tmp_path, table)
    first = (tmp_path / "s/counts_by_hand.svg").read_bytes()
    _compare(tmp_path, table)
    assert (tmp_path / "s/counts_by_hand.svg").read_bytes() == first


def test_each_bad_row_is_told(tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        _compare(tmp_path, "Image,clip,count\n,,3\nv_001,,-2\nv_001,,many\nv_001,,nan\n")
    text = str(caught.value)
    assert "row 2 column Image" in text
    assert "row 3 column count: -2; expected a number from 0 on" in text
    assert "row 4 column count: 'many'" in text
    assert "row 5 column count: nan; expected" in text


def test_what_was_not_predicted_is_told(tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        _compare(tmp_path, "Image,clip,count\nv_000,,3\nother,,2\n,v,12\n,x,1\n")
    faults = [fault.found for fault in caught.value.faults]
    assert faults == [
        "fits 2 predictions (of v, w)",
        "fits 0 predictions",
        "has 2 frames and no row in totals.csv: predict with tracks=true",
        "has no prediction",
    ]


@pytest.mark.parametrize("row", ["w/v_001.png,,3", "v_001,w,3", "data/w/v_001.png,,3"])
def test_a_frame_of_another_clip_is_not_taken_for_one_of_its_name(tmp_path: Path, row: str) -> None:
    with pytest.raises(TableError, match=r"fits 0 predictions \(of v\)"):
        _compare(tmp_path, f"Image,clip,count\n{row}\n")


def test_a_prediction_is_compared_once(tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        _compare(tmp_path, "Image,clip,count\nv/v_001,,3\nv_001,,2\n,w,1\n,w,1\n")
    faults = [fault.found for fault in caught.value.faults]
    assert faults == [
        "would be compared with frame v_001 of clip v, as v/v_001 is",
        "would be compared with frame v_000 of clip w, as w is",
    ]


@pytest.mark.parametrize(
    ("totals", "told"),
    [
        ("\n", "totals.csv row 1: misses the column"),
        ("clip,distinct\nv,3\n", "misses the column region, low, high"),
        ("clip,region,distinct,low,high\nv,,many,1,2\n", "row 2 column distinct: 'many'"),
        ("clip,region,distinct,low,high\nv,,3\n", "row 2: has 3 values"),
    ],
)
def test_a_spoilt_table_of_totals_is_told(tmp_path: Path, totals: str, told: str) -> None:
    with pytest.raises(TableError) as caught:
        _compare(tmp_path, "clip,count\nv,12\n", totals)
    assert told in str(caught.value)


def test_they_stand_beside_the_scores_of_masks(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/counts.csv").write_text(COUNTS)
    (tmp_path / "hand.csv").write_text("clip,count\nstill,20\n")
    for folder in ("t", "p"):
        write_mask(tmp_path / folder / "still/still.png", np.ones((8, 8), bool))
    settings = ScoringSettings(
        truth=tmp_path / "t",
        predictions=tmp_path / "p",
        counts=tmp_path / "hand.csv",
        out=tmp_path / "s",
        temporal=False,
    )
    assert "1 counts by hand" in str(score_command(settings))
    told = json.loads((tmp_path / "s/scores.json").read_text())
    assert told["counts_by_hand"]["compared"] == 1


def test_truth_or_counts_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give true masks as truth, or counts"):
        ScoringSettings(predictions=tmp_path)

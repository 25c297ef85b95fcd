"""Scores of tracks: right on clips whose figures are known, and not to be led astray."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from dvos.config.scoring import ScoringSettings
from dvos.errors import DvosError, MediaError, TableError
from dvos.media.mask import IGNORE, read_label_image, write_label_image, write_mask
from dvos.scoring.score import score
from dvos.scoring.track_measures import FrameMatch, Sequences, _calculated, measure
from dvos.scoring.tracks import match_frame, score_tracks, within

MEASURES = ("SEG", "DET", "LNK", "TRA", "CHOTA", "HOTA", "IDF1")
PLACES = [(2, 2), (2, 12), (12, 2), (12, 12)]


def _frame(ids: dict[int, int]) -> np.ndarray:
    """A frame in which squares stand at four places, by place and id."""
    labels = np.zeros((20, 20), np.int32)
    for place, id_ in ids.items():
        y, x = PLACES[place]
        labels[y : y + 5, x : x + 5] = id_
    return labels


def _write(
    folder: Path, frames: list[dict[int, int]], parents: dict[int, int] | None = None
) -> Path:
    """A result of ``dvos predict``: tracks of the clip ``clip`` and masks."""
    for number, ids in enumerate(frames):
        labels = _frame(ids)
        write_label_image(folder / f"clip/tracks/f{number}.png", labels)
        write_mask(folder / f"clip/f{number}.png", labels > 0)
    lines = [f"{child},{parent}\n" for child, parent in (parents or {}).items()]
    (folder / "clip.tracks.csv").write_text("id,parent\n" + "".join(lines))
    return folder


def _truth(folder: Path, frames: list[dict[int, int]]) -> Path:
    for number, ids in enumerate(frames):
        write_mask(folder / f"clip/f{number}.png", _frame(ids).astype(np.uint16))
    return folder


def _challenge(root: Path, frames: list[dict[int, int]], table: str, kind: str = "GT") -> Path:
    """A folder of the Cell Tracking Challenge, truth or result."""
    folder = root / f"01_{kind}" / ("TRA" if kind == "GT" else "")
    stem = "man_track" if kind == "GT" else "mask"
    folder.mkdir(parents=True)
    for number, ids in enumerate(frames):
        tifffile.imwrite(folder / f"{stem}{number:03}.tif", _frame(ids).astype(np.uint16))
    (folder / ("man_track.txt" if kind == "GT" else "res_track.txt")).write_text(table)
    return root


def _scored(truth: Path, predictions: Path) -> dict[str, Any]:
    settings = ScoringSettings(truth=truth, predictions=predictions, tracks=True)
    return score_tracks(settings, truth)


DIVIDING = [{0: 1, 3: 9}, {0: 1, 3: 9}, {0: 2, 1: 3, 3: 9}, {0: 2, 1: 3, 3: 9}]
TABLE = "1 0 1 0\n2 2 3 1\n3 2 3 1\n9 0 3 0\n"


def test_truth_against_itself_is_one_with_a_division_and_a_tolerance(tmp_path: Path) -> None:
    truth = _challenge(tmp_path / "t", DIVIDING, TABLE)
    found = _scored(truth, _challenge(tmp_path / "r", DIVIDING, TABLE, "RES"))
    assert [found[name] for name in MEASURES] == [1.0] * 7
    assert found["BC"] == {str(frames): pytest.approx(1.0) for frames in range(4)}
    assert (found["id_switches"], found["distinct"], found["distinct_truth"]) == (0, 4, 4)


def test_masks_with_permanent_ids_are_truth_and_prediction_too(tmp_path: Path) -> None:
    # Of masks nothing tells parents, and an id that comes back goes on.
    frames = [{0: 1, 1: 2}, {0: 1}, {0: 1, 1: 2}]
    found = _scored(_truth(tmp_path, frames), tmp_path)
    assert [found[name] for name in MEASURES] == [1.0] * 7
    assert found["distinct"] == found["distinct_truth"] == 2


def test_ids_are_not_compared_by_number(tmp_path: Path) -> None:
    truth = _truth(tmp_path / "t", [{0: 1, 1: 2}] * 3)
    found = _scored(truth, _write(tmp_path / "p", [{0: 2, 1: 1}] * 3))
    assert [found[name] for name in MEASURES] == [1.0] * 7


def test_ids_beyond_sixteen_bits_are_told_apart(tmp_path: Path) -> None:
    truth = _truth(tmp_path / "t", [{0: 1, 1: 2}] * 3)
    for number in range(3):
        path = tmp_path / f"p/clip/tracks/f{number}.tif"
        write_label_image(path, _frame({0: 70_000, 1: 70_000 - 65_536}))
    assert _scored(truth, tmp_path / "p")["HOTA"] == 1.0


def test_without_division_in_the_truth_branching_is_none(tmp_path: Path) -> None:
    truth = _truth(tmp_path / "t", [{0: 1}] * 3)
    found = _scored(truth, _write(tmp_path / "p", [{0: 1}] * 3))
    assert found["BC"] == dict.fromkeys("0123")


def test_a_division_one_frame_early_is_right_with_a_tolerance_of_one(tmp_path: Path) -> None:
    early = [{0: 1, 3: 9}, {0: 2, 3: 9}, {0: 2, 1: 3, 3: 9}, {0: 2, 1: 3, 3: 9}]
    truth = _challenge(tmp_path / "t", DIVIDING, TABLE)
    result = _challenge(tmp_path / "r", early, "1 0 0 0\n2 1 3 1\n3 2 3 1\n9 0 3 0\n", "RES")
    found = _scored(truth, result)["BC"]
    assert found["0"] == 0.0
    assert found["1"] == pytest.approx(1.0)


def test_a_switch_of_ids_is_counted(tmp_path: Path) -> None:
    truth = _truth(tmp_path / "t", [{0: 1, 1: 2}] * 4)
    swapped = [{0: 1, 1: 2}] * 2 + [{0: 2, 1: 1}] * 2
    found = _scored(truth, _write(tmp_path / "p", swapped))
    assert (found["id_switches"], found["links"], found["distinct"]) == (2, 6, 2)
    # Each true track shares half of its frames with each of two others.
    assert found["HOTA"] == pytest.approx(np.sqrt(1 / 3))
    assert found["IDF1"] == pytest.approx(0.5)
    assert found["DET"] == found["SEG"] == 1.0


def test_a_table_that_tells_other_frames_than_the_masks_is_refused(tmp_path: Path) -> None:
    truth = _challenge(tmp_path / "t", [{0: 1}] * 3, "1 0 3 0\n")
    _challenge(tmp_path / "t", [{0: 1}] * 3, "1 0 2 0\n", "RES")
    with pytest.raises(TableError, match=r"label 1 is told for frames 0 to 3.*0 to 2"):
        _scored(truth, truth)
    good = _challenge(tmp_path / "g", [{0: 1}] * 3, "1 0 2 0\n")
    result = _challenge(tmp_path / "r", [{0: 1}] * 3, "1 0 1 0\n", "RES")
    with pytest.raises(TableError, match=r"res_track.txt: label 1 is told for frames 0 to 1"):
        _scored(good, result)


def test_a_truth_may_begin_late_and_lack_a_frame(tmp_path: Path) -> None:
    for kind in ("GT", "RES"):
        root = _challenge(tmp_path, [{0: 1}] * 6, "1 2 5 0\n", kind)
        for number in (0, 1, 3):
            next(root.glob(f"01_{kind}/**/*{number:03}.tif")).unlink()
    found = _scored(tmp_path, tmp_path)
    assert [found[name] for name in MEASURES] == [1.0] * 7


@pytest.mark.parametrize("in_truth", [False, True])
def test_what_is_painted_as_unknown_in_predictions_is_no_object(
    tmp_path: Path, in_truth: bool
) -> None:
    frames = [{0: 1, 1: 2, 2: 3}] * 3
    truth, predictions = _truth(tmp_path / "t", frames), _write(tmp_path / "p", frames)
    flat = _truth(tmp_path / "q", frames)
    for folder in (predictions, flat, *([truth] if in_truth else [])):
        for path in folder.rglob("*.png"):
            labels = read_label_image(path).astype(np.uint16)
            if path.parent.name == "tracks" or folder != predictions:
                labels[12:17, 12:17] = IGNORE
                write_mask(path, labels)
    for found in (predictions, flat):
        scores = _scored(truth, found)
        assert [scores[name] for name in MEASURES] == [1.0] * 7
        settings = ScoringSettings(truth=truth, predictions=found, out=tmp_path / f"s{found.name}")
        assert score(settings).pooled_dice == 1.0


@pytest.mark.parametrize(
    "frames",
    [
        [{}] * 9 + [{0: 1, 1: 2}] * 3,
        [{0: 1}] * 4,
        [{0: 3}] * 4,
    ],
)
def test_truth_of_few_objects_is_truth(tmp_path: Path, frames: list[dict[int, int]]) -> None:
    found = _scored(_truth(tmp_path, frames), tmp_path)
    assert [found[name] for name in MEASURES] == [1.0] * 7


def test_a_clip_without_any_object_keeps_no_other_from_its_scores(tmp_path: Path) -> None:
    truth = _truth(tmp_path, [{0: 1, 1: 2}] * 3)
    for number in range(3):
        write_mask(truth / f"bare/f{number}.png", _frame({}).astype(np.uint16))
    found = _scored(truth, truth)
    assert [found[name] for name in MEASURES] == [1.0] * 7
    assert {*found["clips"]} == {"bare", "clip"}
    assert [found["clips"]["bare"][name] for name in MEASURES] == [None] * 7


def test_objects_where_there_are_none_are_false_and_no_share_of_any(tmp_path: Path) -> None:
    found = _scored(_truth(tmp_path / "t", [{}] * 3), _write(tmp_path / "p", [{0: 1}] * 3))
    assert [found[name] for name in MEASURES] == [None] * 4 + [0.0] * 3


@pytest.mark.parametrize("predicted", [[{0: 1}, {0: 2}], [{0: 1}, {0: 1}], [{1: 1}, {1: 1}]])
def test_a_truth_without_links_tells_nothing_of_them(
    tmp_path: Path, predicted: list[dict[int, int]]
) -> None:
    """A fast pan, or frames apart, in which each object is seen once: all else is scored."""
    truth = _truth(tmp_path / "t", [{0: 1}, {0: 2}])
    for number in range(3):
        write_mask(truth / f"other/f{number}.png", _frame({0: 1, 1: 2}).astype(np.uint16))
    result = _write(tmp_path / "p", predicted)
    shutil.copytree(truth / "other", result / "other/tracks")
    found = _scored(truth, result)
    alone = found["clips"]["clip"]
    assert (alone["LNK"], alone["links"]) == (None, 0)
    assert alone["DET"] == float(1 not in predicted[0])
    # A false link costs 1, four missed ones 1.5 each.
    false = predicted == [{0: 1}, {0: 1}]
    assert found["LNK"] == pytest.approx(1 - 1 / 6 if false else 1)
    assert found["clips"]["other"]["LNK"] == 1.0


def test_a_truth_that_tells_no_objects_apart_is_refused(tmp_path: Path) -> None:
    for number in range(3):
        write_mask(tmp_path / f"t/clip/f{number}.png", _frame({0: 1, 1: 1}) > 0)
    predictions = _write(tmp_path / "p", [{0: 1, 1: 2}] * 3)
    with pytest.raises(MediaError, match=r"clip: tells no objects apart \(0 and 255\)"):
        _scored(tmp_path / "t", predictions)


def test_a_frame_without_predicted_tracks_is_named(tmp_path: Path) -> None:
    truth = _truth(tmp_path / "t", [{0: 1}] * 4)
    predictions = _write(tmp_path / "p", [{0: 1}] * 4)
    (predictions / "clip/tracks/f2.png").unlink()
    values = {"truth": truth, "predictions": predictions, "out": tmp_path / "s", "tracks": True}
    found = score(ScoringSettings.model_validate(values))
    assert [str(fault) for fault in found.missing] == [
        "clip/f2: has no predicted tracks; expected a label image of its tracks; "
        "predict the clip again"
    ]
    assert found.tracks is not None
    assert found.tracks["clips"]["clip"]["missing"] == ["f2"]
    assert found.tracks["DET"] == 0.75
    # Of a frame without any prediction that is told once.
    (predictions / "clip/f2.png").unlink()
    (fault,) = score(ScoringSettings.model_validate(values)).missing
    assert fault.found == "has no prediction"


def test_results_that_share_no_object_score_nothing(tmp_path: Path) -> None:
    truth = _truth(tmp_path / "t", [{0: 1}] * 3)
    found = _scored(truth, _write(tmp_path / "p", [{}, {}, {}]))
    assert [found[name] for name in MEASURES] == [0.0] * 7
    assert (found["distinct"], found["distinct_truth"]) == (0, 1)


def test_frames_without_true_objects_are_scored(tmp_path: Path) -> None:
    truth = _truth(tmp_path / "t", [{0: 1}, {}, {0: 1}, {}])
    found = _scored(truth, _write(tmp_path / "p", [{0: 1}, {0: 1, 1: 2}, {0: 1}, {}]))
    # Two true objects, both found; two false ones, one of them in the right track.
    assert found["IDF1"] == pytest.approx(2 * 2 / (2 + 4))
    assert found["HOTA"] == pytest.approx(np.sqrt(2 * (2 / 3) / 4))
    assert found["DET"] == pytest.approx(1 - 2 / 20)


def test_what_lies_in_unknown_pixels_is_not_judged() -> None:
    true = _frame({0: 1})
    true[:, 10:] = -1
    match = match_frame(true, _frame({0: 5, 1: 6}))
    assert (match.objects.tolist(), match.overlaps) == ([[1, 5]], [1.0])


def test_two_true_objects_in_one_found_are_both_found_by_it() -> None:
    true, found = _frame({0: 1, 1: 2}), _frame({0: 7, 1: 7})
    match = match_frame(true, found)
    assert (match.objects.tolist(), match.overlaps) == ([[1, 7], [2, 7]], [0.5, 0.5])


def test_more_than_half_must_be_covered() -> None:
    true, found = np.zeros((4, 8), np.int32), np.zeros((4, 8), np.int32)
    true[0], found[0, :4] = 1, 3
    assert match_frame(true, found).objects.tolist() == [[1, 0], [0, 3]]
    found[0, 4] = 3
    assert match_frame(true, found).objects.tolist() == [[1, 3]]


def test_masks_of_some_objects_count_in_seg_alone(tmp_path: Path) -> None:
    truth = _challenge(tmp_path / "t", [{0: 1, 1: 2}] * 3, "1 0 2 0\n2 0 2 0\n")
    (truth / "01_GT/SEG").mkdir()
    small = _frame({0: 4})
    small[6:7] = 0
    tifffile.imwrite(truth / "01_GT/SEG/man_seg001.tif", small.astype(np.uint16))
    found = _scored(
        truth, _challenge(tmp_path / "r", [{0: 1, 1: 2}] * 3, "1 0 2 0\n2 0 2 0\n", "RES")
    )
    assert found["SEG"] == pytest.approx(20 / 25)
    assert found["DET"] == 1.0


def test_what_cannot_be_scored_is_told(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="has one frame with truth"):
        _scored(_truth(tmp_path / "one", [{0: 1}]), _write(tmp_path / "p", [{0: 1}]))
    for number in range(3):
        write_mask(tmp_path / f"plain/clip/f{number}.png", _frame({0: 1}) > 0)
    with pytest.raises(MediaError, match="holds no tracks of the clip clip"):
        _scored(_truth(tmp_path / "t", [{0: 1}] * 3), tmp_path / "plain")


def test_scores_tell_of_tracks_too(tmp_path: Path) -> None:
    truth = _truth(tmp_path / "t", [{0: 1, 1: 2}] * 3)
    predictions = _write(tmp_path / "p", [{0: 1, 1: 2}] * 3)
    (predictions / "totals.csv").write_text(
        "clip,region,distinct,low,high,area_m2,per_m2,frames\nclip,,2,1,3,,,3\n"
    )
    settings = ScoringSettings(
        truth=truth, predictions=predictions, out=tmp_path / "s", tracks=True, temporal=False
    )
    found = score(settings)
    assert "HOTA 1.000" in str(found)
    told = json.loads((tmp_path / "s/tracks.json").read_text())
    assert told["clips"]["clip"]["distinct_interval"] == {"low": 1, "high": 3}
    assert json.loads((tmp_path / "s/scores.json").read_text())["tracks"] == told


def test_groups_of_tracks_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(7)
    every = []
    for _ in range(2):
        frames, parts = 12, []
        for offset in (0, 100):
            own = []
            for label in range(1, 15):
                first = int(rng.integers(0, 8))
                last = int(rng.integers(first + 1, frames))
                mothers = [k for k, one in enumerate(own) if one[2] < first]
                parent = int(rng.choice(mothers)) if mothers and rng.random() < 0.5 else -1
                own.append((label + offset, first, last, parent))
            parts.append(own)
        matches = []
        for place in range(frames):
            there = [[k for k, a, b, _ in own if a <= place <= b] for own in parts]
            found = [k for k in there[0] if there[1] and rng.random() < 0.7]
            by = {k: int(rng.choice(there[1])) for k in found}
            objects = [(k, by.get(k, 0)) for k in there[0]]
            objects += [(0, k) for k in there[1] if k not in by.values()]
            matches.append(FrameMatch(np.array(objects).reshape(-1, 2), [0.8] * len(by)))
        every.append(Sequences.of(matches, matches, *parts))
    clips = every[0] + every[1]
    whole = _calculated(clips, ["CHOTA", "HOTA", "IDF1"])
    found = measure(clips)
    for name in ("CHOTA", "HOTA", "IDF1"):
        assert found[name] == pytest.approx(float(whole[name]), abs=1e-12)


def test_figures_are_those_of_the_library_on_the_challenge_s_own_files(tmp_path: Path) -> None:
    from ctc_metrics.scripts.evaluate import evaluate_sequence

    # Ids in no order of their first frames; one is lost, one divides, two change places.
    true = [{0: 5, 1: 3, 3: 9}, {0: 5, 1: 3, 3: 9}, {0: 2, 1: 3, 2: 7, 3: 9}]
    true += [{0: 2, 1: 3, 2: 7, 3: 9}] * 2
    table = "2 2 4 5\n3 0 4 0\n5 0 1 0\n7 2 4 5\n9 0 4 0\n"
    found = [{0: 8, 1: 4, 3: 1}, {0: 8, 3: 1}, {0: 8, 1: 6, 2: 5, 3: 1}]
    found += [{0: 8, 1: 6, 2: 5, 3: 1}, {0: 8, 1: 2, 2: 5, 3: 3}]
    result = "1 0 3 0\n2 4 4 6\n3 4 4 0\n4 0 0 0\n5 2 4 0\n6 2 3 4\n8 0 4 0\n"
    root = _challenge(_challenge(tmp_path, true, table), found, result, "RES")
    shutil.copytree(root / "01_GT/TRA", root / "01_GT/SEG")
    for path in (root / "01_GT/SEG").glob("*.tif"):
        path.rename(path.with_name(path.name.replace("track", "seg")))
    names = [*MEASURES, "MOTA", "BC"]
    own = evaluate_sequence(str(root / "01_RES"), str(root / "01_GT"), names, threads=1)
    ours = _scored(root, root)
    for name in MEASURES:
        assert ours[name] == pytest.approx(float(own[name]), abs=1e-12), name
    assert ours["id_switches"] == own["IDSW"]
    assert ours["BC"]["1"] == own["BC(1)"] == 0.0


def test_truth_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tracks need true masks"):
        ScoringSettings(predictions=tmp_path, counts=tmp_path / "c.csv", tracks=True)
    with pytest.raises(DvosError):
        _scored(tmp_path / "nowhere", tmp_path)


def test_unknown_pixels_of_masks_are_known_as_such(tmp_path: Path) -> None:
    for number in range(3):
        labels = _frame({0: 1}).astype(np.uint16)
        labels[:, 10:] = IGNORE
        write_mask(tmp_path / f"t/clip/f{number}.png", labels)
    found = _scored(tmp_path / "t", _write(tmp_path / "p", [{0: 1, 1: 2}] * 3))
    assert found["DET"] == found["HOTA"] == 1.0


def test_what_lies_wholly_within_the_border_counts_nowhere(tmp_path: Path) -> None:
    """As outside the challenge's field of interest, in truth and predictions, and in SEG."""
    frames = [{0: 1}, {0: 1}]
    truth = _challenge(tmp_path / "t", frames, "1 0 1 0\n2 0 1 0\n")
    found = _challenge(tmp_path / "r", frames, "1 0 1 0\n3 0 1 0\n", "RES")
    for number in range(2):
        # Of the truth below at the left, of the predictions above at the right; four wide.
        for folder, place, id_ in (
            (truth / "01_GT/TRA/man_track", np.s_[14:18, 0:4], 2),
            (found / "01_RES/mask", np.s_[0:4, 14:18], 3),
        ):
            path = folder.parent / f"{folder.name}{number:03}.tif"
            labels = tifffile.imread(path)
            labels[place] = id_
            tifffile.imwrite(path, labels)
    (truth / "01_GT/SEG").mkdir()
    shutil.copy(truth / "01_GT/TRA/man_track000.tif", truth / "01_GT/SEG/man_seg000.tif")

    def scored(border: int) -> dict[str, Any]:
        values = {"truth": truth, "predictions": found, "tracks": True, "border": border}
        return score_tracks(ScoringSettings.model_validate(values), truth)

    assert scored(3) == scored(0)  # one pixel reaches further in
    assert scored(0)["SEG"] == pytest.approx(0.5)
    assert scored(0)["distinct_truth"] == 2
    inside = scored(4)
    assert [inside[name] for name in MEASURES] == [1.0] * 7
    assert (inside["distinct"], inside["distinct_truth"], inside["links"]) == (1, 1, 1)
    with pytest.raises(
        MediaError, match=r"man_track000\.tif: is all border: 10 pixels at each edge"
    ):
        scored(10)


def test_unknown_pixels_stay_unknown_within_the_border() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[:, :5] = -1
    labels[8:12, 3:8] = 7
    assert np.array_equal(within(labels, 5, Path()), labels)
    labels[0:2, 10:14] = 4
    assert not (within(labels, 5, Path()) == 4).any()
    assert (within(labels, 5, Path()) == -1).sum() == (labels == -1).sum()


def test_a_border_is_for_tracks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="border is for tracks; set tracks, too"):
        ScoringSettings(truth=tmp_path, predictions=tmp_path, border=5)

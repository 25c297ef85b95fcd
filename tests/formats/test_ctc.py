"""The layout of the Cell Tracking Challenge, written and read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ctc_metrics import evaluate_sequence

from dvos.errors import MediaError, TableError
from dvos.formats import ctc
from dvos.formats.ctc import CtcTrack, CtcWriter, check_presence, read_track_table
from dvos.media.mask import read_label_image


def _labels(*ids: int) -> np.ndarray:
    return np.array([[0, *ids, *[0] * (4 - len(ids))]], np.int64)


def _write(folder: Path, frames: list[tuple[list[int], dict[int, int]]]) -> dict[int, CtcTrack]:
    writer = CtcWriter(folder, len(frames))
    for frame, (ids, parents) in enumerate(frames):
        writer.add(_labels(*ids), parents, frame)
    writer.finish()
    return read_track_table(folder / "res_track.txt")


def test_a_gap_makes_two_tracks_the_later_with_the_earlier_as_parent(tmp_path: Path) -> None:
    tracks = _write(tmp_path, [([7, 9], {}), ([9], {}), ([7, 9], {}), ([7], {})])
    later = 32_767
    assert tracks == {7: CtcTrack(0, 0, 0), 9: CtcTrack(0, 2, 0), later: CtcTrack(2, 3, 7)}
    assert read_label_image(tmp_path / "mask002.tif").tolist() == [[0, later, 9, 0, 0]]
    seen = {7: [0], 9: [0, 1, 2], later: [2, 3]}
    check_presence(tmp_path / "res_track.txt", tracks, seen, range(4))


def test_a_division_in_the_last_part_of_a_track_keeps_its_parent(tmp_path: Path) -> None:
    frames = [([1], {}), ([], {}), ([1], {}), ([2, 3], {2: 1, 3: 1}), ([2, 3], {})]
    assert _write(tmp_path, frames) == {
        1: CtcTrack(0, 0, 0),
        32_767: CtcTrack(2, 2, 1),
        2: CtcTrack(3, 4, 32_767),
        3: CtcTrack(3, 4, 32_767),
    }


def test_a_parent_that_is_nowhere_is_none(tmp_path: Path) -> None:
    assert _write(tmp_path, [([1], {}), ([1, 2], {2: 103})])[2].parent == 0


def test_frames_left_out_are_written_empty(tmp_path: Path) -> None:
    writer = CtcWriter(tmp_path, 5)
    writer.add(_labels(1), {}, 0)
    writer.add(_labels(1), {}, 3)
    writer.finish()
    assert sorted(path.name for path in tmp_path.glob("*.tif")) == [
        f"mask00{k}.tif" for k in range(4)
    ]
    assert read_track_table(tmp_path / "res_track.txt")[32_767] == CtcTrack(3, 3, 1)


def test_names_have_as_many_digits_as_the_clip_needs(tmp_path: Path) -> None:
    assert CtcWriter(tmp_path, 1000).files(7).name == "mask007.tif"
    assert CtcWriter(tmp_path, 1001).files(7).name == "mask0007.tif"


def test_perfect_tracks_with_gaps_score_perfectly_with_the_challenge_s_own_scorer(
    tmp_path: Path,
) -> None:
    """It adds the labels of two masks of 16 bits: high ones would run over."""
    ids = np.arange(1, 31).reshape(5, 6)
    labels = np.kron(ids, np.pad(np.ones((4, 4), np.int64), 2))
    for folder in ("01_RES", "01_GT/TRA", "01_GT/SEG"):
        writer = CtcWriter(tmp_path / folder, 8)
        for frame in range(8):
            # Each object is away in one frame, at another time than its neighbour.
            writer.add(np.where(labels % 6 + 1 == frame, 0, labels), {}, frame)
        writer.finish()
    for kind, folder in (("track", "TRA"), ("seg", "SEG")):
        place = tmp_path / "01_GT" / folder
        for path in place.glob("mask*.tif"):
            path.rename(place / path.name.replace("mask", f"man_{kind}"))
        (place / "res_track.txt").rename(place / f"man_{kind}.txt")
    wanted = ["Valid", "SEG", "DET", "LNK", "TRA"]
    found = evaluate_sequence(str(tmp_path / "01_RES"), str(tmp_path / "01_GT"), metrics=wanted)
    assert [found[name] for name in wanted] == [1] * 5


def test_what_is_finished_and_what_is_removed(tmp_path: Path) -> None:
    writer, beside = CtcWriter(tmp_path, 2), tmp_path / "notes.txt"
    beside.write_text("kept")
    assert not writer.is_finished()
    writer.add(_labels(1), {}, 0)
    writer.add(_labels(1), {}, 1)
    writer.finish()
    assert CtcWriter(tmp_path, 2).is_finished()
    assert not CtcWriter(tmp_path, 3).is_finished()
    CtcWriter(tmp_path, 0).remove()
    assert [*tmp_path.iterdir()] == [beside]


def test_more_tracks_than_the_layout_holds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ctc.LARGEST_16 == 65_535
    monkeypatch.setattr(ctc, "LARGEST_16", 3)
    writer = CtcWriter(tmp_path, 2)
    writer.add(_labels(1, 2, 3), {}, 0)
    with pytest.raises(MediaError, match="more than 3 tracks"):
        writer.add(_labels(1, 2, 3, 4), {}, 1)
    assert [*tmp_path.iterdir()] == []


def test_a_table_that_tells_other_frames_than_the_masks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "res_track.txt"
    path.write_text("4 3 9 0\n5 0 2 0\n")
    with pytest.raises(TableError, match=r"label 4 is told for frames 3 to 9.*3 to 8") as caught:
        check_presence(
            path, read_track_table(path), {4: [*range(3, 9)], 5: [0, 2], 6: [1]}, range(10)
        )
    assert "label 5" not in str(caught.value)
    assert "label 6 of frame 1 is not in it" in str(caught.value)


def test_frames_without_masks_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "man_track.txt"
    path.write_text("1 7 11 0\n2 9 9 0\n")
    numbers = [7, 8, 10, 11]
    check_presence(path, read_track_table(path), {1: numbers}, numbers)
    with pytest.raises(TableError, match=r"label 1 is told for frames 7 to 11.*7 to 10"):
        check_presence(path, read_track_table(path), {1: [7, 8, 10]}, numbers)
    with pytest.raises(TableError, match=r"label 1 is told for frames 7 to 11.*7 to 10"):
        check_presence(path, read_track_table(path), {1: [7, 8, 10]}, [7, 8, 10])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1 0 5\n", "line 1"),
        ("1 0 5 0\n1 6 8 0\n", "line 2"),
        ("1 5 2 0\n", "line 1"),
        ("1 0 5 0\n2 6 8 9\n", "its parent 9 is not there"),
        ("1 0 5 0\n2 5 8 1\n", "its parent 1 ends at frame 5"),
        ("1 0 five 0\n", "four whole numbers"),
    ],
)
def test_bad_lines_of_a_table_are_told(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "man_track.txt"
    path.write_text(text)
    with pytest.raises(TableError, match=found):
        read_track_table(path)


def test_tabs_and_empty_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "man_track.txt"
    path.write_text("1\t0\t5\t0\n\n2\t6\t8\t1\n")
    assert read_track_table(path) == {1: CtcTrack(0, 5, 0), 2: CtcTrack(6, 8, 1)}

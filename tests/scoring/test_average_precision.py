from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvos.errors import TableError
from dvos.scoring.instances import (
    ObjectMatches,
    average_precision,
    instance_figures,
    match_objects,
    match_whole,
    object_count,
    read_probabilities,
)
from dvos.scoring.overlap import PixelCounts


def _row(*runs: tuple[int, int]) -> np.ndarray:
    """A mask of one row from (id, length) runs."""
    return np.concatenate([np.full(length, name, np.uint16) for name, length in runs])[None]


def _matches(true: int, overlaps: list[float]) -> ObjectMatches:
    number = len(overlaps)
    return ObjectMatches(
        true, np.arange(1, number + 1), np.full(number, 9), np.array(overlaps, np.float64)
    )


def test_matching_by_hand() -> None:
    truth = _row((0, 2), (7, 10), (0, 2), (900, 10), (3, 10))
    prediction = _row((0, 2), (1, 8), (0, 4), (5, 4), (6, 12), (0, 4))
    found = match_objects(prediction, truth)
    # 1 covers 8 of the 10 pixels of 7. 5 covers 4 of 900 and is no match, 6
    # lies on 6 pixels of 900 and 6 of 3: 6 / 16 each, no match.
    assert found.true == 3
    assert found.ids.tolist() == [1, 5, 6]
    assert found.areas.tolist() == [8, 4, 12]
    assert found.overlaps.tolist() == [0.8, 0.0, 0.0]
    assert found.hits == 1


def test_one_true_object_is_found_once() -> None:
    found = match_objects(_row((1, 5), (2, 5)), _row((4, 10)))
    assert sorted(found.overlaps.tolist()) == [0.0, 0.5]
    found = match_objects(_row((4, 10)), _row((1, 5), (2, 5)))
    assert found.overlaps.tolist() == [0.5]


def test_average_precision_by_hand() -> None:
    # By falling rank: hit, miss, hit, of 3 true objects. Precision 1, 1/2, 2/3
    # at recalls 1/3, 1/3, 2/3: up to recall 0.33 (34 of the 101 places) it is
    # 1, up to 0.66 (33 more) 2/3, beyond that 0.
    ranks, overlaps = np.array([0.5, 0.9, 0.7]), np.array([0.8, 0.6, 0.0])
    expected = (34 * 1 + 33 * 2 / 3) / 101
    assert average_precision(ranks, overlaps, 3, 0.5) == pytest.approx(expected)
    # From 0.65 on only the lowest ranked is right: precision 1/3 at recall 1/3.
    assert average_precision(ranks, overlaps, 3, 0.65) == pytest.approx(34 / 3 / 101)
    assert average_precision(ranks, overlaps, 3, 0.85) == 0.0


def test_figures_over_frames_by_hand() -> None:
    frames = [_matches(2, [0.8, 0.0]), _matches(1, [0.6])]
    found = instance_figures(frames, [np.array([0.5, 0.7]), np.array([0.9])])
    at_50 = (34 + 33 * 2 / 3) / 101
    assert found.average_precision_50 == pytest.approx(at_50)
    assert found.average_precision_75 == pytest.approx(34 / 3 / 101)
    # 0.5, 0.55, 0.6 as at 0.5; 0.65 to 0.8 as at 0.75; nothing above.
    assert found.average_precision == pytest.approx((3 * at_50 + 4 * 34 / 3 / 101) / 10)
    assert (found.precision, found.recall, found.f1) == (2 / 3, 2 / 3, 2 / 3)
    assert (found.frames, found.predicted, found.true) == (2, 3, 3)


def test_no_objects_at_all_and_only_false_ones() -> None:
    nothing = instance_figures([_matches(0, [])], [np.empty(0)])
    assert nothing.average_precision is None
    assert (nothing.precision, nothing.recall, nothing.f1) == (1.0, 1.0, 1.0)
    false = instance_figures([_matches(0, [0.0])], [np.ones(1)])
    assert (false.precision, false.recall, false.f1) == (0.0, 0.0, 0.0)
    missed = instance_figures([_matches(2, [])], [np.empty(0)])
    assert missed.average_precision == 0.0
    assert (missed.precision, missed.recall, missed.f1) == (0.0, 0.0, 0.0)


def _blobs(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask = np.zeros((24, 30), np.uint16)
    for name in rng.choice(60000, 6, replace=False) + 1:
        y, x = rng.integers(0, 20, 2)
        mask[y : y + 7, x : x + 7] = name
    return mask


@settings(max_examples=40)
@given(first=st.integers(0, 2**32), second=st.integers(0, 2**32))
def test_matching_invariants(first: int, second: int) -> None:
    a, b = _blobs(first), _blobs(second)
    perfect = instance_figures([match_objects(a, a)], [np.ones(len(np.unique(a)) - 1)])
    assert perfect.average_precision == perfect.f1 == 1.0
    there, back = match_objects(a, b), match_objects(b, a)
    assert there.hits == back.hits
    assert sorted(there.overlaps[there.overlaps > 0]) == sorted(back.overlaps[back.overlaps > 0])
    assert ((there.overlaps == 0) | ((there.overlaps >= 0.5) & (there.overlaps <= 1))).all()
    figures = instance_figures([there], [there.areas.astype(float)])
    assert figures.average_precision is not None
    assert figures.average_precision_50 is not None
    # The mean of ten equal figures may differ from them in its last bit.
    rounding = 1e-12
    assert 0 <= figures.average_precision <= figures.average_precision_50 + rounding
    assert figures.average_precision_50 <= 1


@settings(max_examples=40)
@given(overlap=st.integers(0, 10), more=st.integers(0, 10), missed=st.integers(0, 10))
def test_single_objects_match_by_pixels_alone(overlap: int, more: int, missed: int) -> None:
    truth = _row((1, overlap + missed), (0, more + 1))
    prediction = _row((0, missed), (1, overlap + more), (0, 1))
    whole = match_whole(PixelCounts(overlap, overlap + more, overlap + missed))
    found = match_objects(prediction, truth)
    assert (whole.true, whole.predicted) == (found.true, found.predicted)
    assert whole.overlaps.tolist() == found.overlaps.tolist()
    assert whole.areas.tolist() == found.areas.tolist()


def test_what_counts_as_semantic() -> None:
    ids = np.zeros((3, 4), np.uint8)
    assert object_count(ids) == 0
    ids[0] = 1
    assert object_count(ids) == 1
    ids[1] = 255
    assert object_count(ids) == 2
    assert object_count(np.where(ids, 255, 0).astype(np.uint8)) is None


def test_probabilities_of_objects(tmp_path: Path) -> None:
    table = tmp_path / "a.objects.csv"
    assert read_probabilities(table) is None
    table.write_text("frame,object,area\n0,1,5\n")
    assert read_probabilities(table) is None
    table.write_text("frame,object,mean_probability\nf0,1,0.5\nf0,3,0.75\nf1,1,1\n")
    assert read_probabilities(table) == {"f0": {1: 0.5, 3: 0.75}, "f1": {1: 1.0}}
    table.write_text("frame,object,mean_probability\nf0,one,0.5\n")
    with pytest.raises(TableError, match=r"a\.objects\.csv: is no table of objects .*'one'"):
        read_probabilities(table)

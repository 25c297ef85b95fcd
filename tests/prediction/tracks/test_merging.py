"""Objects that several tracks share are parted between these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest
from moving_objects import both, drawn, measured
from numpy.typing import NDArray

from dvos.config.prediction import LinkingSettings
from dvos.prediction.tracks.clip import follow
from dvos.prediction.tracks.state import LinkedFrame

OTHERS = [(20, 20), (140, 100), (20, 100)]
AT = (80, 60)


def _meeting(
    apart: Sequence[float], radii: tuple[float, float] = (8, 7)
) -> tuple[list[NDArray[np.uint16]], list[NDArray[np.uint16]]]:
    """True labels of discs that come near one another, and as found: as one where they touch."""
    (x, y), (left, right) = AT, radii
    true = [drawn([(x - d / 2, y, left), (x + d / 2, y, right), *OTHERS]) for d in apart]
    found = [labels.copy() for labels in true]
    for labels, distance in zip(found, apart, strict=True):
        if distance < left + right:
            labels[labels == 2] = 1
    return true, found


def _tracks(one: LinkedFrame) -> NDArray[np.int64]:
    return np.append(0, one.ids)[one.objects.labels]


THROUGH = [24, 21, 18, 15, 12, 11, 10, 10, 11, 12, 15, 18, 21, 24]


def test_objects_that_are_found_as_one_keep_their_places() -> None:
    true, found = _meeting(THROUGH)
    linked = both(found)
    first = _tracks(linked[0][1])
    track_of = [int(np.bincount(first[true[0] == number]).argmax()) for number in range(6)]
    assert sorted(track_of) == [0, 1, 2, 3, 4, 5]
    for labels, (_, one) in zip(true, linked, strict=True):
        tracks = _tracks(one)
        for number in range(1, 6):
            own, other = labels == number, tracks == track_of[number]
            assert np.count_nonzero(own & other) >= 0.85 * np.count_nonzero(own | other)


def test_parts_are_measured_and_stand_after_the_frame_s_own_objects() -> None:
    _, found = _meeting(THROUGH)
    for labels, (_, one) in zip(found, both(found), strict=True):
        own, parted = measured(labels), one.objects
        shared = int(labels.max()) == 5 and not (labels == 2).any()
        assert parted.count == own.count + shared == len(one.ids)
        assert ((parted.labels > 0) == (labels > 0)).all()
        whole = np.append(np.arange(own.count), [0] * shared)
        assert (np.append(0, whole + 1)[parted.labels] == own.labels).all()
        anew = measured(parted.labels.astype(np.uint16))
        for field in fields(parted):
            if field.name in ("numbers", "motion", "tracks"):
                continue
            given, expected = (getattr(each, field.name) for each in (parted, anew))
            np.testing.assert_allclose(given, expected, atol=1e-6, err_msg=field.name)


def test_three_in_one_are_parted_too() -> None:
    frames, centres = [], []
    for d in [20, 20, 20, 17, 13, 12, 12, 12, 12, 12]:
        places = [(80 - d, 60, 7), (80, 60, 7), (80 + d, 60, 7), *OTHERS]
        labels = drawn(places)
        if d < 14:
            labels[(labels == 2) | (labels == 3)] = 1
        frames.append(labels)
        centres.append(places)
    _, last = both(frames)[-1]
    assert last.objects.count == 6
    assert sorted(last.ids.tolist()) == [1, 2, 3, 4, 5, 6]
    for x, y, *_ in centres[-1]:
        assert np.hypot(*(last.objects.centre - (x, y)).T).min() < 1.5


@pytest.mark.parametrize(
    ("apart", "radii"),
    [
        # It goes behind the other: nothing of it is to be seen.
        ([24, 20, 16, 13, 9, 4, 0, 0, 0, 4, 9, 13, 16, 20, 24], (12, 6)),
        # A chance find, seen once, tells nothing.
        ([12, 12, 12, 16, 12, 12, 12], (8, 7)),
    ],
)
def test_what_is_hidden_and_what_is_no_track_is_not_parted(apart, radii) -> None:
    _, found = _meeting(apart, radii)
    linked = both(found)
    for labels, (_, one) in list(zip(found, linked, strict=True))[5:9]:
        assert one.objects.count == measured(labels).count


def test_an_object_that_falls_in_two_now_and_then_stays_one() -> None:
    frames = []
    for t in range(40):
        labels = drawn([(*AT, 9), *OTHERS])
        if t % 4 == 3:
            right = np.arange(labels.shape[1]) > AT[0]
            labels[(labels == 1) & right] = 5
        frames.append(labels)
    ids = {one for _, linked in both(frames) for one in linked.ids.tolist()} - {0}
    assert ids == {1, 2, 3, 4}


def _followed(frames: Sequence[NDArray[np.uint16]], **settings: object) -> list[LinkedFrame]:
    """As :func:`both` links them, and then parted by hindsight."""
    chosen = LinkingSettings.model_validate(settings)
    given = ((None, measured(labels), t) for t, labels in enumerate(frames))
    return [linked for _, _, linked in follow(given, "linked", chosen)]


def test_objects_that_were_never_seen_apart_are_parted_once_they_are() -> None:
    true, found = _meeting([12, 12, 12, 12, 12, 12, 12, 13, 15, 18, 21, *[24] * 6])
    linked = _followed(found)
    last = _tracks(linked[-1])
    track_of = [int(np.bincount(last[true[-1] == number]).argmax()) for number in range(6)]
    assert sorted(track_of) == [0, 1, 2, 3, 4, 5]
    for labels, one in zip(true, linked, strict=True):
        tracks = _tracks(one)
        for number in range(1, 6):
            own, other = labels == number, tracks == track_of[number]
            assert np.count_nonzero(own & other) >= 0.85 * np.count_nonzero(own | other)


def test_hindsight_reaches_back_eight_frames_and_not_beyond() -> None:
    _, found = _meeting([12] * 20 + [16] * 8)
    counts = [one.objects.count for one in _followed(found)]
    assert counts == [4] * 12 + [5] * 16


@pytest.mark.parametrize("divisions", [False, True])
def test_a_round_cell_that_divides_was_one_before(divisions: bool) -> None:
    frames = [drawn([(*AT, 9), *OTHERS]) for _ in range(10)]
    frames += [drawn([(70, 60, 6), (90, 60, 6), *OTHERS]) for _ in range(10)]
    counts = [one.objects.count for one in _followed(frames, divisions=divisions)]
    assert counts == [4] * 10 + [5] * 10


def test_what_comes_out_from_behind_was_not_there_before() -> None:
    """The object beside it was no larger than it is itself: it held no other."""
    frames = [drawn([(*AT, 9), *OTHERS]) for _ in range(10)]
    frames += [drawn([(AT[0] + 2 * t, AT[1], 7), (*AT, 9), *OTHERS]) for t in range(4, 14)]
    counts = [one.objects.count for one in _followed(frames)]
    assert counts == [4] * 10 + [5] * 10


def test_parts_reach_to_the_edge_of_the_picture_and_are_told_so() -> None:
    frames = []
    for t in range(12):
        labels = drawn([(8, 60 - d, 9) for d in (0, max(12, 26 - 2 * t))] + OTHERS[1:])
        if 26 - 2 * t < 18:
            labels[labels == 2] = 1
        frames.append(labels)
    _, last = both(frames)[-1]
    assert last.objects.count == 4
    assert last.objects.touches_border[[0, 3]].all()

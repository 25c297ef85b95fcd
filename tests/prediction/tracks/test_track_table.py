"""The table of tracks."""

from __future__ import annotations

import numpy as np
import pytest
from moving_objects import drawn, measured

from dvos.prediction.tracks.motion import REST, shifted
from dvos.prediction.tracks.state import LinkedFrame
from dvos.prediction.tracks.table import TRACK_COLUMNS, TrackTable


def _rows(places: np.ndarray, ground: np.ndarray) -> list[dict[str, object]]:
    """Of objects at (T, N, 2), with the ground moved by (T, 2), the first by nothing."""
    table = TrackTable()
    for t, centre in enumerate(places):
        objects = measured(drawn(centre.tolist(), (200, 600)))
        linked = LinkedFrame(t, objects.numbers, {}, None, objects)
        table.add({"time_s": t / 10}, linked, shifted(-ground[t]))
    return [dict(zip(TRACK_COLUMNS, row, strict=True)) for row in table.rows()]


def test_what_is_nearer_to_the_camera_stands_higher() -> None:
    t = np.arange(21)[:, None]
    ground = np.hstack([t * 10.0, t * 0.0])
    home = np.array([[20.0, 40], [20.0, 100], [20.0, 160]])
    # At 1, 4 / 5 and 5 / 4 of the distance from the camera.
    places = home + ground[:, None] * np.array([1, 1.25, 0.8])[:, None]
    heights = [row["relative_height"] for row in _rows(places, ground)]
    assert heights == pytest.approx([0, 0.2, -0.25], abs=0.01)
    assert [row["sway"] for row in _rows(places, ground)] == pytest.approx([0, 0, 0], abs=0.3)


def test_sway_is_what_the_ground_s_motion_leaves() -> None:
    t = np.arange(40)[:, None]
    for ground in (np.hstack([t * 10.0, t * 0.0]), np.zeros((40, 2))):
        sway = np.hstack([t * 0.0, 8 * np.sin(t * np.pi / 5)])
        still, moved = np.array([30.0, 50]) + ground, np.array([30.0, 120]) + ground + sway
        rows = _rows(np.stack([still, moved], axis=1), ground)
        assert [row["sway"] for row in rows] == pytest.approx([0, 8 / np.sqrt(2)], abs=0.2)
        assert (rows[0]["relative_height"] is None) == (ground[-1, 0] == 0)


def test_objects_that_the_camera_comes_back_to_are_known_and_those_that_enter_are_not() -> None:
    plants = np.array([[40.0 + 60 * k, 60.0] for k in range(20)])

    def came_back(way: list[int]) -> tuple[int, list[int]]:
        table, poses, ids, last = TrackTable(), [], {}, {}
        for t, shift in enumerate(way):
            here = [k for k in range(20) if 0 <= plants[k, 0] - shift < 600]
            for k in here:
                # Seen again after its gap, it has another track.
                if t - last.get(k, -99) > 10:
                    ids[k] = len(ids) + 1 if k not in ids else max(ids.values()) + 1
                last[k] = t
            objects = measured(drawn((plants[here] - [shift, 0]).tolist(), (120, 600)))
            linked = LinkedFrame(t, np.array([ids[k] for k in here]), {}, None, objects)
            poses.append(shifted(np.array([float(shift), 0])))
            table.add({"time_s": None}, linked, poses[-1])
        return table.count, table.came_back(poses, (120, 600), 3).tolist()

    there = list(range(0, 601, 20))
    assert came_back(there) == (20, [])
    count, again = came_back(there + there[::-1])
    # All but those that were still to be seen at the turn, or had just been.
    assert count - len(again) == 20
    assert len(again) >= 8


def test_what_is_born_where_the_camera_comes_back_was_not_counted_before() -> None:
    table, poses = TrackTable(), []
    for t, shift in enumerate([0, 0, 0, 0, 300, 300, 0, 0, 0]):
        ids = {6: [1], 7: [2, 3], 8: [2, 3]}.get(t, [])
        objects = measured(drawn([(60, 60), (90, 60)][: len(ids)], (120, 200)))
        parents = {2: 1, 3: 1} if t == 7 else {}
        linked = LinkedFrame(t, np.array(ids, np.int64), parents, None, objects)
        poses.append(shifted(np.array([float(shift), 0])))
        table.add({"time_s": None}, linked, poses[-1])
    assert table.entered.tolist() == [False, False, False]
    assert table.came_back(poses, (120, 200), 3).tolist() == []


def test_confidence_is_told_by_the_frames_that_were_looked_at() -> None:
    table = TrackTable()
    for t in (0, 5, 10, 15):
        objects = measured(drawn([(50, 50)] if t != 5 else []))
        table.add({"time_s": None}, LinkedFrame(t, objects.numbers, {}, None, objects), REST)
    (row,) = (dict(zip(TRACK_COLUMNS, row, strict=True)) for row in table.rows())
    assert (row["first_frame"], row["last_frame"], row["frames"]) == (0, 15, 3)
    assert row["confidence"] == pytest.approx(3 / 4 * objects.probability[0], abs=1e-4)


def test_a_track_that_breaks_leaves_two_loose_ends_and_what_comes_or_goes_one() -> None:
    middle, edge = (60, 60), (4, 60)

    def loose(ways: dict[int, tuple[tuple[int, int], range]], parents: dict[int, int]) -> float:
        table = TrackTable()
        for t in range(8):
            here = {one: at for one, (at, times) in ways.items() if t in times}
            objects = measured(drawn([*here.values()], (120, 200)))
            born = {one: mother for one, mother in parents.items() if ways[one][1][0] == t}
            linked = LinkedFrame(t, np.array([*here], np.int64), born, None, objects)
            table.add({"time_s": None}, linked, REST)
        every = np.array([*ways])
        assert table.loose(every) == table.loose()
        return table.loose()

    ends, begins = (middle, range(4)), (middle, range(5, 8))
    assert loose({1: ends, 2: begins}, {}) == 1
    assert loose({1: ends}, {}) == loose({1: begins}, {}) == 0
    assert loose({1: ends, 2: (edge, range(5, 8))}, {}) == 0
    assert loose({1: (edge, range(4)), 2: begins}, {}) == 0
    other = (140, 60)
    third = (100, 60), range(4)
    assert loose({1: ends, 2: begins, 3: (other, range(4)), 4: third}, {}) == np.sqrt(3)
    # A mother's track ends in no break, and her daughters' are no rests.
    assert loose({1: ends, 2: (middle, range(4, 8)), 3: (other, range(4, 8))}, {2: 1, 3: 1}) == 0


@pytest.mark.parametrize(("before", "again"), [([6] * 9, []), ([20] * 2, []), ([20] * 3, [1])])
def test_ground_counts_as_seen_where_a_track_of_it_would_have_been(
    before: list[int], again: list[int]
) -> None:
    """A plant that an earlier row cut, or showed too briefly to follow it, was not counted."""
    table, poses = TrackTable(), []
    for t, shift in enumerate([*before, 0, 0, 8, 30, 30]):
        # Below the picture at first; its middle is in it from 5 on, and whole it is from 9 on.
        found = [(60, 124 - shift)] if t > len(before) + 1 else []
        objects = measured(drawn(found, (120, 200)))
        poses.append(shifted(np.array([0.0, shift])))
        table.add({"time_s": None}, LinkedFrame(t, objects.numbers, {}, None, objects), poses[-1])
    assert table.entered.tolist() == [True]
    assert table.came_back(poses, (120, 200), 3).tolist() == again


def test_what_is_in_no_track_and_frames_without_an_object_make_no_row() -> None:
    table = TrackTable()
    for t, ids in enumerate(([1, 0], [], [1, 0], [0, 2])):
        objects = measured(drawn([(30, 30), (90, 30)][: len(ids)]))
        linked = LinkedFrame(t, np.array(ids, np.int64), {}, None, objects)
        table.add({"time_s": None}, linked, shifted(np.zeros(2)))
    rows = [dict(zip(TRACK_COLUMNS, row, strict=True)) for row in table.rows()]
    assert [row["id"] for row in rows] == [1, 2]
    # Nothing is made up for the frame that it was missed in.
    assert (rows[0]["first_frame"], rows[0]["last_frame"], rows[0]["frames"]) == (0, 2, 2)


def test_times_and_sizes_are_told() -> None:
    (row,) = _rows(np.full((4, 1, 2), 50.0), np.zeros((4, 2)))
    assert (row["first_time_s"], row["last_time_s"], row["frames"]) == (0.0, 0.3, 4)
    assert row["mean_area"] == 81
    assert row["path_length"] == 0

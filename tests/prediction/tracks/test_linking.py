"""Tracks through the situations that trackers are known to get wrong."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from moving_objects import SIZE, both, drawn, linked, measured

from dvos.config.prediction import LinkingSettings
from dvos.prediction.tracks.linking import Linker

GRID = [(20 + 30 * column, 20 + 27 * row) for row in range(4) for column in range(5)]


def _tracks(found: list[dict[int, int]]) -> set[int]:
    return {track for frame in found for track in frame.values() if track}


def _steady(found: list[dict[int, int]]) -> bool:
    """Whether each number has one track, of its own, in all frames that it is in."""
    pairs = {pair for frame in found for pair in frame.items()}
    numbers, tracks = ({pair[k] for pair in pairs} for k in (0, 1))
    return 0 not in tracks and len(pairs) == len(numbers) == len(tracks)


def test_ids_of_each_clip_begin_at_one_whatever_came_before() -> None:
    frames = [drawn([(30 + 2 * t, 40), (100, 60)]) for t in range(4)]
    alone = linked(frames)
    assert alone == linked(frames) == [{1: 1, 2: 2}] * 4


def test_chance_finds_use_up_no_ids() -> None:
    steady = [(30, 30), (80, 60), (130, 90)]
    frames = [drawn([*steady, (20 + 40 * (t % 3), 100)] if t % 2 else steady) for t in range(9)]
    found = linked(frames)
    assert _tracks(found) == {1, 2, 3}
    # What is in no track is told as such, and not left out.
    assert [len(frame) for frame in found] == [3, 4] * 4 + [3]
    assert found[1][4] == 0


def test_every_object_of_a_frame_is_in_the_output() -> None:
    frames = [drawn(GRID) for _ in range(3)]
    assert _steady(linked(frames))
    assert [len(frame) for frame in linked(frames)] == [20] * 3


def test_empty_frames_count_as_a_gap() -> None:
    here = [(30, 30), (80, 60)]
    frames = [drawn(here)] * 3 + [drawn([])] * 30 + [drawn(here)] * 3
    found = linked(frames)
    assert found[:3] == [{1: 1, 2: 2}] * 3
    assert found[3:33] == [{}] * 30
    assert found[33:] == [{1: 3, 2: 4}] * 3


@pytest.mark.parametrize("missed", [1, 2, 3])
def test_a_gap_of_just_as_many_frames_as_allowed_is_bridged(missed: int) -> None:
    here, other = (40, 40), (120, 80)
    frames = [drawn([other, here])] * 3 + [drawn([other])] * missed + [drawn([other, here])] * 3
    assert _tracks(linked(frames, gap=missed)) == {1, 2}
    assert _tracks(linked(frames, gap=missed - 1)) == {1, 2, 3}


def test_frames_left_out_count_as_missed() -> None:
    objects = measured(drawn([(40, 40)]))
    linker = Linker(LinkingSettings(gap=3, sightings=2))
    pushed = [linker.push(objects, frame) for frame in (0, 1, 5, 6, 11, 12)]
    found = [one for frames in [*pushed, linker.finish()] for one in frames]
    assert [one.frame for one in found] == [0, 1, 5, 6, 11, 12]
    assert [one.ids.tolist() for one in found] == [[1]] * 4 + [[2]] * 2
    with pytest.raises(ValueError, match="comes after"):
        linker.push(objects, 12)


def test_reach_grows_with_the_gap_and_is_bounded() -> None:
    # Slow while it is seen, and further off after three frames than after one.
    others = [(20, 100), (60, 100), (100, 100), (140, 100), (140, 20)]
    wander = [(0, 0), (1, 1), (0, 1), (1, 0)]
    before = [drawn([(40 + x, 40 + y), *others]) for x, y in wander]
    gone = drawn([(500, 500), *others])
    assert (
        linked(
            [*before, gone, gone, drawn([(49, 40), *others])] * 1 + [drawn([(49, 40), *others])]
        )[-1][1]
        == 1
    )
    far = drawn([(100, 40), *others])
    assert linked([*before, gone, gone, gone, far, far])[-1][1] != 1


def test_ten_thousand_alike_objects_are_linked_in_bounded_time() -> None:
    rng = np.random.default_rng(3)
    side, spacing = 40, 9
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    places = 6 + spacing * grid
    size = (side * spacing + 10, side * spacing + 10)
    frames = []
    for _ in range(3):
        labels = np.zeros(size, np.uint16)
        # Each moves by half its spacing, anywhere.
        at = places + rng.integers(-4, 5, places.shape)
        labels[at[:, 1], at[:, 0]] = np.arange(1, len(at) + 1)
        frames.append(labels)
    found = both(frames)
    for _, frame in found:
        tracked = frame.ids[frame.ids > 0]
        assert len(np.unique(tracked)) == len(tracked)


@pytest.mark.parametrize("jump", [(38, 0), (-31, 22), (45, -18)])
def test_a_jump_of_the_whole_field_is_taken_out_first(jump: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    places = np.array([(x, y) for x in range(-60, 260, 17) for y in range(-60, 220, 17)])
    places = places + rng.integers(-5, 6, places.shape)
    frames = []
    for t in range(6):
        moved = places + (np.array(jump) if t >= 3 else 0)
        frames.append(drawn(moved.tolist(), radius=3))
    found = linked(frames)
    kept = [
        (frame[number], later[number])
        for frame, later in pairwise(found)
        for number in frame
        if number in later
    ]
    assert np.mean([a == b for a, b in kept]) > 0.98


def test_one_that_enters_far_from_where_another_left_is_a_new_one() -> None:
    leaving = [drawn([(140 + 5 * t, 30), (60, 90)]) for t in range(6)]
    entering = [drawn([(400, 400), (60, 90), (5 + 4 * t, 70)]) for t in range(5)]
    found = linked(leaving + entering)
    assert found[0][1] == 1
    assert found[-1] == {2: 2, 3: 3}


def test_objects_that_touch_for_some_frames_keep_their_ids() -> None:
    frames = []
    for t in range(15):
        apart = abs(7 - t) * 3
        labels = drawn([(80 - apart, 60, 7), (86 + apart, 60, 7), (20, 20), (140, 100)])
        if apart < 4:
            # One object in place of two.
            labels[labels == 2] = 1
        frames.append(labels)
    found = linked(frames)
    assert _tracks(found) == {1, 2, 3, 4}
    assert found[-1] == found[0] == {1: 1, 2: 2, 3: 3, 4: 4}


def test_a_piece_of_an_object_for_some_frames_is_no_object() -> None:
    frames = []
    for t in range(12):
        labels = drawn([(60, 60, 12), (130, 30), (20, 100)])
        if t in (4, 5, 6):
            labels[:, 65] = 0
            labels[:, 66:][labels[:, 66:] == 1] = 4
        frames.append(labels)
    found = linked(frames)
    assert _tracks(found) == {1, 2, 3}
    assert {frame[1] for frame in found} == {found[0][1]}


def test_a_piece_that_lasts_is_a_track_from_its_first_frame_on() -> None:
    frames = []
    for t in range(16):
        labels = drawn([(60, 60, 12), (130, 30), (20, 100)])
        if t > 3:
            labels[:, 65] = 0
            labels[:, 66:][labels[:, 66:] == 1] = 4
        frames.append(labels)
    found = linked(frames)
    assert [frame.get(4) for frame in found] == [None] * 4 + [4] * 12


def test_objects_far_apart_that_overlap_in_no_frame_are_followed() -> None:
    frames = [drawn([(10 + 14 * t, 30), (150 - 14 * t, 60), (10 + 14 * t, 95)]) for t in range(10)]
    assert _steady(linked(frames))


def test_objects_that_cross_keep_their_ids() -> None:
    frames = [drawn([(15 + 8 * t, 40), (15 + 8 * t, 100 - 7 * t), (150, 10)]) for t in range(16)]
    found = linked(frames)
    assert found[0][1] == found[-1][1]
    assert found[0][3] == found[-1][3]


def test_more_tracks_than_sixteen_bits_hold_are_told_apart() -> None:
    linker = Linker(LinkingSettings(gap=0, sightings=1))
    objects = measured(drawn([(20 * k + 10, 60) for k in range(8)]))
    linker._count = 65_530
    (linked,) = [*linker.push(objects), *linker.finish()]
    assert linked.ids.tolist() == list(range(65_531, 65_539))


def test_the_camera_turns_and_comes_nearer() -> None:
    rng = np.random.default_rng(2)
    places = np.array([(x, y) for x in range(10, 150, 14) for y in range(10, 110, 14)])
    places = places + rng.integers(-3, 4, places.shape) - 70.0
    frames = []
    for t in range(8):
        angle, scale = np.radians(4 * t), 1.04**t
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        frames.append(drawn((places @ turn.T + 70).tolist(), radius=3))
    found = linked(frames)
    numbers = set.intersection(*({*frame} for frame in found))
    assert len(numbers) > 30
    assert all(len({frame[number] for frame in found}) == 1 for number in numbers)


def test_motion_told_by_the_network_leads_the_links() -> None:
    # Each leaps by a whole spacing: by distance alone every one is taken for its neighbour.
    linker = Linker(LinkingSettings())
    found = []
    for t in range(4):
        objects = measured(drawn([(20 + 20 * k + 20 * t, 60) for k in range(4)]))
        told = np.tile(np.array([-20, 0], np.float32), (objects.count, 1))
        found += linker.push(replace(objects, motion=told))
    found += linker.finish()
    assert [one.ids.tolist() for one in found] == [[1, 2, 3, 4]] * 4


def test_a_clip_of_one_frame_has_as_many_tracks_as_objects() -> None:
    assert linked([drawn([(30, 30), (90, 60)])]) == [{1: 1, 2: 2}]


def test_links_are_the_same_again_and_settle_within_the_delay() -> None:
    rng = np.random.default_rng(0)
    frames = [drawn((np.array(GRID) + rng.integers(-4, 5, (20, 2))).tolist()) for _ in range(8)]
    linker = Linker(LinkingSettings(sightings=3, gap=4))
    waiting = 0
    for labels in frames:
        waiting += 1 - len(linker.push(measured(labels)))
        assert waiting <= linker.delay
    assert [one.ids.tolist() for _, one in both(frames)] == [
        one.ids.tolist() for _, one in both(frames)
    ]


def test_labels_of_no_object_are_linked_to_nothing() -> None:
    assert linked([np.zeros(SIZE, np.uint16)] * 3) == [{}] * 3

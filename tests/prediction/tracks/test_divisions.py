"""Cells that divide: mothers, daughters, and what looks like them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moving_objects import both, drawn
from numpy.typing import NDArray

from dvos.prediction.tracks import divisions
from dvos.prediction.tracks.state import LinkedFrame

Found = list[tuple[list[int], LinkedFrame]]
Disc = tuple[float, float, float]

#: Cells that do not divide, by their numbers in the frames.
STEADY: list[Disc] = [(20, 20, 7), (130, 25, 7), (25, 95, 7), (135, 95, 7)]
MOTHER: Disc = (70, 60, 9)
DAUGHTERS: tuple[Disc, Disc] = (62, 58, 6), (78, 62, 6)
AT = 5  # the frame that she is in no longer
NOWHERE: Disc = (-99, -99, 1)


def _frame(*cells: Disc) -> NDArray[np.uint16]:
    return drawn([*STEADY, *cells])


def _names(found: Found) -> list[dict[int, int]]:
    return [dict(zip(numbers, one.ids.tolist(), strict=True)) for numbers, one in found]


def _born(found: Found) -> dict[int, int]:
    return {child: parent for _, one in found for child, parent in one.parents.items()}


def _steady(found: Found) -> bool:
    """Whether all others keep one track each."""
    kept = {(number, frame[number]) for frame in _names(found) for number in range(1, 5)}
    return len(kept) == 4


def _divided(first: int, second: int, frames: int = 20) -> Found:
    """The mother is 5 in frames 0 to 4; her daughters are 5 and 6, from frames of their own on."""
    one, other = DAUGHTERS
    seen = [_frame(MOTHER)] * AT
    for t in range(AT, frames):
        seen.append(_frame(one if t >= first else NOWHERE, other if t >= second else NOWHERE))
    return both(seen, divisions=True)


def test_one_of_a_chain_divides_and_pushes_the_others_on() -> None:
    # Cells of a channel, of lengths of their own; the third divides, those above are pushed on.
    lengths = [14, 18, 22, 15, 19, 16]
    frames = []
    for t in range(12):
        labels = np.zeros((40, 220), np.uint16)
        grown = [n + t if k == 2 and t < 6 else n for k, n in enumerate(lengths)]
        parts = [(k + 1, n) for k, n in enumerate(grown)]
        if t >= 6:
            parts[2:3] = [(3, 14 + (t - 6) // 2), (7, 14 + (t - 6) // 2)]
        left = 5
        for number, length in parts:
            labels[15:25, left : left + length] = number
            left += length + 2
        frames.append(labels)
    found = both(frames, divisions=True)
    names = [dict(zip(numbers, one.ids.tolist(), strict=True)) for numbers, one in found]
    for number in (1, 2, 4, 5, 6):
        assert len({frame[number] for frame in names}) == 1
    born = {child: parent for _, one in found for child, parent in one.parents.items()}
    assert born == {names[-1][3]: names[0][3], names[-1][7]: names[0][3]}


@pytest.mark.parametrize("late", range(5))
def test_a_daughter_may_be_seen_frames_after_her_sister(late: int) -> None:
    found = _divided(AT, AT + late)
    names = _names(found)
    mother, one, other = names[0][5], names[-1][5], names[-1][6]
    assert _born(found) == {one: mother, other: mother}
    assert len({mother, one, other}) == 3
    assert [frame[5] for frame in names] == [mother] * AT + [one] * (20 - AT)
    assert [frame.get(6) for frame in names] == [None] * (AT + late) + [other] * (15 - late)
    assert _steady(found)


@pytest.mark.parametrize("late", [5, 8])
def test_one_that_comes_later_still_is_no_daughter(late: int) -> None:
    found = _divided(AT, AT + late)
    assert _born(found) == {}
    assert {frame[5] for frame in _names(found)} == {_names(found)[0][5]}


@pytest.mark.parametrize(("first", "second"), [(7, 7), (8, 9), (7, 9), (9, 7)])
def test_a_mother_may_be_out_of_sight_while_she_divides(first: int, second: int) -> None:
    found = _divided(first, second)
    names = _names(found)
    mother, one, other = names[0][5], names[-1][5], names[-1][6]
    assert _born(found) == {one: mother, other: mother}
    assert [frame.get(5) for frame in names[AT:]] == [None] * (first - AT) + [one] * (20 - first)
    assert [frame.get(6) for frame in names[AT:]] == [None] * (second - AT) + [other] * (
        20 - second
    )
    assert _steady(found)


@pytest.mark.parametrize(
    "cells",
    [
        # A cell keeps its size when another one appears beside it.
        [(MOTHER, NOWHERE), (MOTHER, (86, 62, 6))],
        [(MOTHER, NOWHERE), ((70, 60, 8), (86, 62, 6))],
        # One that shrinks, and one that appears too far away, or far larger than what is left.
        [(MOTHER, NOWHERE), ((66, 60, 6), (106, 60, 6))],
        [(MOTHER, NOWHERE), ((66, 60, 4), (82, 60, 8))],
        # Daughters part to both sides of where she was.
        [(MOTHER, NOWHERE), ((66, 60, 6), (91, 60, 6))],
        # A scrap that breaks off.
        [(MOTHER, NOWHERE), ((70, 60, 9), (82, 60, 2.9))],
    ],
)
@pytest.mark.parametrize("late", [1, 3])
def test_what_is_no_division(cells: Sequence[tuple[Disc, Disc]], late: int) -> None:
    (before, _), (after, new) = cells
    frames = [_frame(before)] * AT
    for t in range(AT, 16):
        frames.append(_frame(after, new if t >= AT + late else NOWHERE))
    found = both(frames, divisions=True)
    assert _born(found) == {}
    assert {frame[5] for frame in _names(found)} == {_names(found)[0][5]}


def test_a_daughter_that_is_seen_twice_alone_is_none() -> None:
    one, other = DAUGHTERS
    frames = [_frame(MOTHER)] * AT + [_frame(one)] * 3 + [_frame(one, other)] * 2
    found = both(frames + [_frame(one)] * 8, divisions=True)
    assert _born(found) == {}
    assert {frame[5] for frame in _names(found)} == {_names(found)[0][5]}
    assert {frame[6] for frame in _names(found) if 6 in frame} == {0}


@pytest.mark.parametrize("late", [0, 2, 4])
@pytest.mark.parametrize("begins", [52, 57, 61, 64, 120])
def test_daughters_name_their_parent_however_long_the_clip(begins: int, late: int) -> None:
    """Keys of what has ended are forgotten every so often; mothers are still asked for."""
    one, other = DAUGHTERS
    frames = [_frame(MOTHER)] * begins
    for t in range(begins, begins + 14):
        frames.append(_frame(one, other if t >= begins + late else NOWHERE))
    found = both(frames, divisions=True)
    first, last = _names(found)[0], _names(found)[-1]
    assert _born(found) == {last[5]: first[5], last[6]: first[5]}


@pytest.mark.parametrize("again", [8, 10, 13])
def test_her_track_ends_though_another_comes_to_where_she_was(again: int) -> None:
    small = (55, 60, 6), (85, 60, 6)
    frames = [_frame(MOTHER)] * AT
    for t in range(AT, 24):
        frames.append(_frame(MOTHER if t >= again else NOWHERE, *small))
    found = both(frames, divisions=True)
    names = _names(found)
    mother, newcomer = names[0][5], names[-1][5]
    assert newcomer != mother
    assert _born(found) == {names[-1][6]: mother, names[-1][7]: mother}
    assert all(mother not in frame.values() for frame in names[AT:])


def test_she_who_is_seen_beside_them_has_not_divided() -> None:
    small = (55, 60, 6), (85, 60, 6)
    frames = [_frame(MOTHER)] * AT + [_frame(NOWHERE, *small)] + [_frame(MOTHER, *small)] * 9
    found = both(frames, divisions=True)
    assert _born(found) == {}
    assert {frame[5] for frame in _names(found) if 5 in frame} == {_names(found)[0][5]}


@pytest.mark.parametrize(("since", "divides"), [(0, True), (1, True), (3, False), (4, False)])
def test_a_chance_find_does_not_divide(since: int, divides: bool) -> None:
    """But one who was there when the clip began may have been there for long."""
    start = 0 if since == 1 else since
    frames = [_frame(MOTHER if t >= start else NOWHERE) for t in range(1 if since == 1 else AT)]
    found = both(frames + [_frame(*DAUGHTERS)] * 9, divisions=True)
    assert bool(_born(found)) == divides
    assert len({*_born(found).values()}) == divides
    ids = [track for frame in _names(found) for track in frame.values()]
    assert {*ids} == {*range(1, max(ids) + 1)}


def test_nothing_divides_from_one_scene_to_the_next() -> None:
    rng = np.random.default_rng(4)

    def scene(count: int, radius: float) -> list[Disc]:
        x, y = rng.uniform(10, 390, count), rng.uniform(10, 290, count)
        return [(a, b, radius) for a, b in zip(x.tolist(), y.tolist(), strict=True)]

    before, after = scene(60, 9), scene(100, 6.3)
    frames = [drawn(cells, (300, 400)) for cells in [before] * 10 + [after] * 10]
    found = both(frames, divisions=True)
    assert found[10][1].lost
    assert _born(found) == {}


def test_many_that_begin_at_once_are_paired_with_those_near_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def counted(*given: object) -> None:
        tried.append(given)

    monkeypatch.setattr(divisions, "_apart", counted)
    grid = [(10 + 12 * x, 10 + 12 * y, 4.0) for x in range(30) for y in range(20)]
    specks = [(35.0, 35.0, 4.5), (290.0, 200.0, 4.5)]
    frames = [drawn(cells, (260, 380)) for cells in [specks] * 3 + [grid] * 3]
    both(frames, divisions=True)
    assert len(tried) < 200


def test_daughters_divide_in_turn() -> None:
    def cells(t: int) -> list[Disc]:
        one, other = DAUGHTERS
        if t < AT:
            return [MOTHER]
        if t < AT + 2:
            return [one]
        if t < AT + 8:
            return [one, other]
        grand = (75, 62, 4), (81, 62, 4)
        return [one, grand[0], *(grand[1:] if t >= AT + 10 else ())]

    found = both([_frame(*cells(t)) for t in range(24)], divisions=True)
    first, last = _names(found)[0], _names(found)[-1]
    between = _names(found)[AT + 4]
    mother, one, other = first[5], between[5], between[6]
    assert _born(found) == {
        one: mother,
        other: mother,
        last[6]: other,
        last[7]: other,
    }
    assert last[5] == one


@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=14))
def test_ids_are_of_one_life_each_whatever_is_seen(seen: list[list[bool]]) -> None:
    one, other = DAUGHTERS
    places = [*STEADY, MOTHER, one, other]
    frames = [
        drawn([p if s else NOWHERE for p, s in zip(places, row, strict=True)]) for row in seen
    ]
    found = both(frames, divisions=True)
    assert [one.frame for _, one in found] == list(range(len(frames)))
    lives: dict[int, list[int]] = {}
    for t, (_, linked) in enumerate(found):
        own = linked.ids[linked.ids > 0].tolist()
        assert len(own) == len(set(own))
        for track in own:
            lives.setdefault(track, []).append(t)
    assert sorted(lives) == [*range(1, len(lives) + 1)]
    parents = _born(found)
    for child, parent in parents.items():
        # A mother has two daughters, and is gone before either is seen.
        assert list(parents.values()).count(parent) == 2
        assert lives[parent][-1] < lives[child][0]
    for _, linked in found:
        assert set(linked.parents) <= set(linked.ids.tolist())

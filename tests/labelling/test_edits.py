"""Edits of masks: exact pixels, and patches that undo them."""

from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from dvos.errors import UsageError
from dvos.formats.labels import Region
from dvos.labelling.edits import (
    Patch,
    add,
    add_new,
    add_one,
    adopt,
    copy_objects,
    free_ids,
    paint,
    recolour,
    split,
)
from dvos.labelling.requests import Runs, region_of
from dvos.media.mask import IGNORE


def mask(text):
    """A mask drawn with a digit for each id, '.' for background and '?' for unknown."""
    values = {".": 0, "?": IGNORE}
    rows = [
        [values.get(sign) if sign in values else int(sign) for sign in row] for row in text.split()
    ]
    return np.array(rows, np.uint16)


def region(box, text):
    return Region(*box[:2], mask(text) > 0)


def result(ids, edit):
    """What an edit makes of a mask; the edit itself leaves it alone, and its patch is undone."""
    before = ids.copy()
    patch = Patch.of(ids, edit)
    assert np.array_equal(ids, before)
    after = ids.copy()
    if patch is not None:
        patch.apply(after)
        undone = after.copy()
        patch.apply(undone)
        assert np.array_equal(undone, before)
    return after


def test_brush_paints_hard_pixels_over_everything_or_chosen_ids():
    ids = mask(".11. .11. 22?.")
    stroke = region((0, 0, 2, 4), "1111 .11.")
    assert np.array_equal(result(ids, paint(ids, stroke, 3)), mask("3333 .33. 22?."))
    assert np.array_equal(result(ids, paint(ids, stroke, 3, only=[0])), mask("3113 .11. 22?."))
    erased = result(ids, paint(ids, stroke, 0, only=[1]))
    assert np.array_equal(erased, mask(".... .... 22?."))


def test_unknown_is_painted_and_survives_an_erased_object():
    ids = mask("11.. ....")
    unknown = result(ids, paint(ids, region((0, 1, 2, 3), "11 11"), IGNORE))
    assert np.array_equal(unknown, mask("1??. .??."))


def test_runs_are_read_row_by_row_within_their_box():
    found = region_of(Runs(box=[1, 1, 3, 4], runs=[1, 2, 0, 1, 2]), (4, 5))
    assert found.mask.tolist() == [[False, True, True], [True, False, False]]
    assert region_of(Runs(box=[0, 0, 1, 2], runs=[0, 2]), (1, 2)).mask.all()


@pytest.mark.parametrize(
    ("box", "runs"),
    [
        ((0, 0, 5, 1), [5]),
        ((-1, 0, 1, 1), [2]),
        ((1, 0, 1, 2), []),
        ((0, 0, 2, 2), [3]),
        ((0, 0, 2, 2), [5, -1]),
        ((0, 0, 2, 2), [2**31, 2**31, 2**31, 2**31 + 4]),
    ],
)
def test_runs_that_do_not_fill_their_box_are_refused(box, runs):
    with pytest.raises((UsageError, ValidationError)):
        region_of(Runs(box=list(box), runs=runs), (4, 4))


def test_added_objects_take_background_only_the_first_first():
    ids = mask("1... ....")
    objects = [(region((0, 0, 2, 2), "11 11"), 2), (region((0, 1, 2, 4), "111 111"), 3)]
    assert np.array_equal(result(ids, add(ids, objects)), mask("1233 2233"))
    assert np.array_equal(result(ids, add(ids, [])), ids)


def test_new_objects_get_ids_of_their_own():
    ids = mask("7... ..?.")
    regions = [region((0, 1, 1, 2), "1"), region((1, 0, 2, 3), "111")]
    assert np.array_equal(result(ids, add_new(ids, regions, 1)), mask("78.. 99?."))


def test_objects_have_ids_of_their_own_also_from_255_on():
    """It is given only where objects are not told apart, and is then that of all."""
    ids = np.zeros((4, 4), np.uint16)
    two = [region((0, 0, 1, 1), "1"), region((0, 2, 1, 3), "1")]
    assert result(ids, add_new(ids, two, 255))[0].tolist() == [256, 0, 257, 0]
    ids[3] = 7
    assert result(ids, add_one(ids, two[0], 7))[0].tolist() == [8, 0, 0, 0]
    ids[ids > 0] = 255
    assert result(ids, add_one(ids, two[0], 255))[0].tolist() == [255, 0, 0, 0]
    assert np.array_equal(result(ids, add_one(ids, None, 255)), ids)


def test_merge_delete_and_unknown_change_whole_objects():
    ids = mask("1122 .3.2 ????")
    assert np.array_equal(result(ids, recolour(ids, {2: 1})), mask("1111 .3.1 ????"))
    assert np.array_equal(result(ids, recolour(ids, {2: 0})), mask("11.. .3.. ????"))
    assert np.array_equal(result(ids, recolour(ids, {3: IGNORE})), mask("1122 .?.2 ????"))
    assert Patch.of(ids, recolour(ids, {9: 1})) is None


def test_split_loses_no_pixel_and_the_largest_part_keeps_its_id():
    ids = mask("11111 11111 22222")
    parts = result(ids, split(ids, 1, region((0, 1, 2, 2), "1 1"), 5))
    assert np.count_nonzero(parts == 1) + np.count_nonzero(parts == 5) == 10
    assert np.array_equal(parts[:, [0, 2, 3, 4]], mask("5111 5111 2222"))
    assert set(parts[:2, 1].tolist()) <= {1, 5}


def test_split_along_a_diagonal_one_pixel_wide():
    ids = np.full((5, 5), 1, np.uint16)
    line = Region(0, 0, np.eye(5, dtype=bool))
    parts = result(ids, split(ids, 1, line, 2))
    upper, lower = np.triu_indices(5, 1), np.tril_indices(5, -1)
    assert len(np.unique(parts[upper])) == len(np.unique(parts[lower])) == 1
    assert parts[upper][0] != parts[lower][0]
    assert (parts > 0).all()


def test_split_into_connected_parts_and_parts_elsewhere_stay():
    ids = mask("11.1 ...1 1...")
    assert np.array_equal(result(ids, split(ids, 1, None, 4)), mask("11.4 ...4 5..."))
    bar = mask("11111 ..... 1....")
    cut = result(bar, split(bar, 1, region((0, 2, 1, 3), "1"), 2))
    assert cut[2, 0] == 1


@pytest.mark.parametrize("line", [region((0, 0, 1, 1), "1"), None])
def test_split_that_parts_nothing_is_told(line):
    ids = mask("111 111")
    with pytest.raises(UsageError, match="stays in one piece"):
        split(ids, 1, line, 2)
    with pytest.raises(UsageError, match="not in this frame"):
        split(ids, 3, line, 2)


def test_copied_objects_overwrite_nothing_and_keep_their_ids():
    ids, other = mask("11... ....."), mask("22222 3?..3")
    assert np.array_equal(result(ids, copy_objects(ids, other)), mask("11222 3...3"))
    assert np.array_equal(result(ids, copy_objects(ids, other, [3])), mask("11... 3...3"))


def test_adopted_objects_get_ids_that_none_here_has():
    ids, predicted = mask("1.... ....."), mask("11.2. 11.?.")
    assert np.array_equal(result(ids, adopt(ids, predicted, 1)), mask("12.3. 22..."))


def test_free_ids_leave_out_those_that_other_programs_use():
    assert free_ids([254, 3], 1, 2) == [256, 257]
    with pytest.raises(UsageError, match="all 65534 are taken"):
        free_ids(range(IGNORE + 1), 1, 1)


def test_ids_start_again_at_the_lowest_when_the_highest_is_taken():
    assert free_ids([1, IGNORE - 1, IGNORE], 1, 2) == [2, 3]
    assert free_ids([1, 2], 9, 2) == [9, 10]


small = arrays(np.uint16, (6, 7), elements=st.sampled_from([0, 1, 2, 3, IGNORE]))


@settings(max_examples=60)
@given(small, arrays(np.bool_, (6, 7)), st.sampled_from([0, 4, IGNORE]))
def test_any_sequence_is_undone_to_the_beginning(ids, pixels, value):
    stroke = Region(0, 0, pixels)
    steps = [
        lambda now: paint(now, stroke, value),
        lambda now: recolour(now, {1: 2}),
        lambda now: add_new(now, [stroke], 1),
        lambda now: copy_objects(now, ids),
    ]
    now, patches = ids.copy(), []
    for step in steps:
        patch = Patch.of(now, step(now))
        if patch is not None:
            patch.apply(now)
            patches.append(patch)
    for patch in reversed(patches):
        patch.apply(now)
    assert np.array_equal(now, ids)


@settings(max_examples=60)
@given(small, arrays(np.bool_, (6, 7)))
def test_a_split_changes_neither_the_object_nor_the_others(ids, pixels):
    try:
        window, new = split(ids, 1, Region(0, 0, pixels), 9)
    except UsageError:
        return
    after = ids.copy()
    after[window] = new
    own = ids == 1
    assert np.array_equal(after[~own], ids[~own])
    assert ((after[own] == 1) | (after[own] >= 9)).all()
    assert (after == 1).any()
    assert (after == 9).any()


def test_a_damaged_patch_is_told():
    with pytest.raises(ValueError, match="damaged patch"):
        Patch((0, 0, 1, 1), b"no").apply(np.zeros((2, 2), np.uint16))


def test_a_patch_unpacks_no_more_than_its_box_holds():
    ids = np.zeros((2, 2), np.uint16)
    packed = zlib.compress(bytes(100_000_000))
    tracemalloc.start()
    with pytest.raises(ValueError, match="size"):
        Patch((0, 0, 2, 2), packed).apply(ids)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_objects_of_a_frame_of_another_size_are_not_copied():
    with pytest.raises(UsageError, match="other frame is 4 x 6 pixels; expected 4 x 5, as this"):
        copy_objects(np.zeros((5, 4), np.uint16), np.ones((6, 4), np.uint16))

"""Masks that another program writes while they are open: they hold, and no stroke is lost."""

from __future__ import annotations

import os

import numpy as np
import pytest
from page_support import ids_of, painted, put_mask, stroke

from dvos.errors import OutputError, UsageError
from dvos.labelling.store import ConflictError, _copy
from dvos.media.mask import read_mask, write_mask


def test_a_mask_that_another_program_changes_meanwhile_holds(folder, opened, caplog):
    store = opened(folder)
    store.edit(0, stroke(), token="a", base=0)
    store.flush()
    place, theirs = folder / "annotated" / "masks" / "photo1.png", painted((77, (0, 0, 40, 40)))
    write_mask(place, theirs)
    with pytest.raises(ConflictError, match="photo1: was changed by another program; look"):
        store.edit(0, stroke(2, (20, 20, 30, 30)), token="b", base=1)
    assert np.array_equal(ids_of(store), theirs)
    assert "photo1: the mask was changed by another program" in caplog.text
    assert (folder / ".labelling" / "journals" / "1.old" / "photo1.jsonl").is_file()
    with pytest.raises(UsageError, match="nothing to undo"):
        store.step(0, "undo", token="c")
    store.edit(0, stroke(2, (20, 20, 30, 30)), token="d", base=2)
    store.close()
    both = painted((77, (0, 0, 40, 40)), (2, (20, 20, 30, 30)))
    assert np.array_equal(read_mask(place), both)
    again = opened(folder)
    with pytest.raises(ConflictError, match="was changed by another program"):
        again.edit(0, stroke(), token="e", base=1)
    again.step(0, "undo", token="f", base=3)
    assert np.array_equal(ids_of(again), theirs)


@pytest.mark.parametrize("theirs", [painted((77, (0, 0, 40, 40))), painted(), None])
def test_it_holds_too_if_it_comes_between_an_edit_and_its_saving(folder, opened, theirs):
    """Even where it is what the mask was before, as a copy that is put back."""
    place = put_mask(folder, painted())
    store = opened(folder)
    store.edit(0, stroke(), token="a")
    store.flush()
    store._saver.submit = lambda *_: None
    store.edit(0, stroke(2, (20, 20, 30, 30)), token="b")
    if theirs is None:
        place.unlink()
    else:
        write_mask(place, theirs)
    store.flush()
    assert (read_mask(place) == theirs).all() if theirs is not None else not place.exists()
    assert np.array_equal(ids_of(store), painted() if theirs is None else theirs)
    assert "by another program before your latest edits were saved" in store.failures[0]
    store.edit(0, stroke(5), token="c")
    store.flush()
    assert not store.failures
    assert (read_mask(place)[4:10, 4:20] == 5).all()


def test_a_mask_of_another_program_where_none_was_holds(folder, opened):
    store = opened(folder)
    assert not ids_of(store).any()
    theirs = painted((7, (0, 0, 9, 9)))
    place = put_mask(folder, theirs)
    with pytest.raises(ConflictError, match="was changed by another program"):
        store.edit(0, stroke(), token="a", base=0)
    store.edit(0, stroke(), token="b", base=1)
    store.flush()
    assert np.array_equal(read_mask(place), painted((7, (0, 0, 9, 9)), (1, (4, 4, 10, 20))))
    kept = folder / "annotated" / "masks_before_editing" / "photo1.png"
    assert np.array_equal(read_mask(kept), theirs)


@pytest.mark.parametrize("unsaved", [False, True])
def test_a_mask_that_is_written_anew_as_it_was_loses_no_edit(folder, opened, unsaved):
    store = opened(folder)
    store.edit(0, stroke(), token="a", base=0)
    store.flush()
    place = folder / "annotated" / "masks" / "photo1.png"
    if unsaved:
        store._saver.submit = lambda *_: None
        store.edit(0, stroke(2, (20, 20, 30, 30)), token="b", base=1)
    os.utime(place, ns=(0, 0))
    store.edit(0, stroke(3, (30, 20, 40, 30)), token="c", base=1 + unsaved)
    store.flush()
    assert not store.failures
    assert np.array_equal(read_mask(place), ids_of(store))
    for number in range(2 + unsaved):
        store.step(0, "undo", token=f"u{number}")
    assert not ids_of(store).any()


def test_a_mask_that_another_program_is_still_writing_refuses_no_stroke_for_good(folder, opened):
    store = opened(folder)
    store.edit(0, stroke(), token="a", base=0)
    store.flush()
    place = folder / "annotated" / "masks" / "photo1.png"
    whole = place.read_bytes()
    place.write_bytes(whole[:40])
    with pytest.raises(ConflictError, match=r"photo1.png: truncated or corrupt"):
        store.edit(0, stroke(2, (20, 20, 30, 30)), token="b", base=1)
    place.write_bytes(whole)
    store.edit(0, stroke(2, (20, 20, 30, 30)), token="b", base=1)
    store.flush()
    assert np.array_equal(read_mask(place), ids_of(store))


@pytest.mark.parametrize("full", ["tracks", "masks"])
def test_what_a_full_disk_left_half_saved_is_no_change_by_another_program(
    run, opened, monkeypatch, full
):
    """Of a frame's tracks and its label one is written."""

    def fail(path, mask):
        if path.parent.name == full:
            raise OutputError.at(path, "cannot be written (No space left on device)")
        write_mask(path, mask)

    store = opened(run)
    with monkeypatch.context() as patch:
        patch.setattr("dvos.labelling.store.write_mask", fail)
        store.edit(0, stroke(5), token="a", base=0)
        store.flush()
        assert "No space left" in store.failures[0]
    store.edit(0, stroke(6, (40, 40, 44, 44)), token="b", base=1)
    store.flush()
    assert not store.failures
    assert np.array_equal(read_mask(run / "film" / "tracks" / "000.png"), ids_of(store))


@pytest.mark.parametrize("full", ["tracks", "masks", "images"])
def test_what_was_half_saved_at_the_end_is_saved_at_the_next_start(run, opened, monkeypatch, full):
    """Tracks, their label and its picture."""

    def fail(path, mask):
        if path.parent.name == full:
            raise OutputError.at(path, "cannot be written (No space left on device)")
        write_mask(path, mask)

    def fail_to_copy(source, target):
        if target.parent.name == full:
            raise OutputError.at(target, "cannot be written (No space left on device)")
        copy(source, target)

    store, copy = opened(run), _copy
    with monkeypatch.context() as patch:
        patch.setattr("dvos.labelling.store._copy", fail_to_copy)
        patch.setattr("dvos.labelling.store.write_mask", fail)
        store.edit(0, stroke(5), token="a", base=0)
        store.close()
        assert "No space left" in store.failures[0]
    again = opened(run)
    again.flush()
    labels = run.with_name("predictions-labels") / "annotated"
    assert (labels / "images" / "000.png").is_file()
    for place in (run / "film" / "tracks" / "000.png", labels / "masks" / "000.png"):
        assert np.array_equal(read_mask(place), ids_of(again))


def test_a_label_of_tracks_that_another_program_changed_holds(run, opened):
    place = run.with_name("predictions-labels") / "annotated" / "masks" / "000.png"
    store = opened(run)
    store.edit(0, stroke(5), token="a")
    store.flush()
    theirs = painted((77, (10, 10, 19, 19)))
    write_mask(place, theirs)
    for number, one in enumerate((store, opened(run))):
        one.edit(0, stroke(6, (40, 40, 44 + number, 44)), token=f"b{number}")
        one.flush()
        assert f"{place}: was changed by another program: it holds" in one.failures[0]
        assert np.array_equal(read_mask(place), theirs)
        assert np.array_equal(read_mask(run / "film" / "tracks" / "000.png"), ids_of(one))
    place.unlink()
    one.edit(0, stroke(7, (30, 40, 34, 44)), token="c")
    one.flush()
    assert not one.failures
    assert np.array_equal(read_mask(place), ids_of(one))


def test_a_label_of_tracks_that_were_changed_elsewhere_is_still_ours(run, opened):
    """Its digest stands in the journal that was set aside."""
    place, tracks = (
        run.with_name("predictions-labels") / "annotated" / "masks" / "000.png",
        run / "film" / "tracks" / "000.png",
    )
    store = opened(run)
    store.edit(0, stroke(5), token="a")
    store.flush()
    write_mask(tracks, painted((3, (10, 10, 19, 19))))
    store.edit(0, stroke(6, (40, 40, 44, 44)), token="b")
    store.flush()
    assert not store.failures
    assert np.array_equal(read_mask(place), ids_of(store))
    assert np.array_equal(read_mask(tracks), ids_of(store))


def test_a_label_from_elsewhere_is_kept_before_tracks_replace_it(run, opened):
    labels = run.with_name("predictions-labels")
    place = put_mask(labels, painted((9, (0, 0, 9, 9))), name="000")
    before = place.read_bytes()
    store = opened(run)
    store.edit(0, stroke(5), token="a")
    store.close()
    kept = labels / "annotated" / "masks_before_editing" / "000.png"
    assert kept.read_bytes() == before
    assert np.array_equal(read_mask(place), ids_of(store))


def test_the_longest_name_is_labelled_and_its_journal_set_aside(folder, opened):
    name = "x" * 249
    (folder / "photo1.png").rename(folder / f"{name}.png")
    for theirs in (7, 8):
        store = opened(folder)
        index = [frame.name for frame in store.document.frames].index(name)
        store.edit(index, stroke(), token="a")
        store.close()
        place = folder / "annotated" / "masks" / f"{name}.png"
        assert (read_mask(place)[4:10, 4:20] == 1).all()
        write_mask(place, painted((theirs, (0, 0, 40, 40))))
    journals = folder / ".labelling" / "journals"
    assert (journals / "1.old" / f"{name}.jsonl").is_file()


def test_no_journal_takes_the_place_of_one_that_was_set_aside(folder, opened):
    """Revisions are counted from 0 again where nothing was edited since."""
    for theirs in (7, 8):
        store = opened(folder)
        store.edit(0, stroke(), token="a")
        store.close()
        write_mask(folder / "annotated" / "masks" / "photo1.png", painted((theirs, (0, 0, 40, 40))))
        assert ids_of(opened(folder))[0, 0] == theirs
    journals = folder / ".labelling" / "journals"
    assert len([*journals.glob("*.old/photo1.jsonl")]) == 2

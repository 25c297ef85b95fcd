"""Tracks of a run: joined, split, deleted through all frames, undone, and finished after a kill."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from page_support import photo

from dvos.errors import MediaError, OutputError, UsageError
from dvos.formats.labels import Region
from dvos.labelling.clip_edits import ClipEdits
from dvos.labelling.documents import find_predictions, open_document
from dvos.labelling.edits import paint
from dvos.labelling.store import LabelStore
from dvos.media.mask import read_mask, write_mask


def ids_of(store):
    found = []
    for index in range(len(store.document.frames)):
        with store.sheet(index) as sheet:
            found.append([int(sheet.ids[4, index + 2]), int(sheet.ids[25, 25])])
    return found


def test_a_run_is_opened_with_its_frames_and_tracks(run):
    document = open_document(run)
    assert document.root.name == "predictions-labels"
    assert [frame.name for frame in document.frames] == ["000", "001", "002", "003"]
    assert np.array_equal(document.frames[2].picture.read(), photo(2))
    assert document.tracked == {"film": run / "film" / "tracks"}
    (clip,) = find_predictions(run)
    assert clip.counts == (2, 2, 2, 2)
    assert clip.mask("001") == run / "film" / "tracks" / "001.png"


def test_a_run_whose_frames_are_gone_is_told(run):
    (run.parent / "film").rename(run.parent / "elsewhere")
    with pytest.raises(MediaError, match=r"its frames .*film\) are gone"):
        open_document(run)


def test_tracks_are_joined_split_and_deleted_through_all_frames(run, opened):
    store = opened(run)
    clips = ClipEdits(store)
    assert clips.highest("film") == 2
    assert clips.change("film", {2: 3}, 2, "split") == [2, 3]
    assert ids_of(store) == [[1, 2], [1, 2], [1, 3], [1, 3]]
    assert clips.change("film", {3: 1}, 0, "join") == [2, 3]
    assert ids_of(store) == [[1, 2], [1, 2], [1, 1], [1, 1]]
    assert clips.change("film", {1: 0}, 0, "delete") == [0, 1, 2, 3]
    assert ids_of(store) == [[0, 2], [0, 2], [0, 0], [0, 0]]
    for token in ("a", "b", "c"):
        clips.undo("film", token)
    assert ids_of(store) == [[1, 2]] * 4
    with pytest.raises(UsageError, match="no change of the whole clip"):
        clips.undo("film", "d")


def test_they_are_saved_where_they_lie_with_the_originals_beside_them(run, opened):
    before = (run / "film" / "tracks" / "003.png").read_bytes()
    ClipEdits(opened(run)).change("film", {2: 0}, 3, "delete")
    assert 2 not in read_mask(run / "film" / "tracks" / "003.png")
    assert (run / "film" / "tracks_before_editing" / "003.png").read_bytes() == before
    assert not (run / "film" / "tracks_before_editing" / "000.png").exists()
    assert not (run.parent / "predictions-labels" / "annotated").exists()


def test_a_correction_by_hand_is_a_label_too(run, opened):
    store = opened(run)
    square = Region(40, 40, np.ones((4, 4), bool))
    store.edit(1, lambda ids: paint(ids, square, 3), token="a")
    store.flush()
    label = run.parent / "predictions-labels" / "annotated" / "masks" / "001.png"
    assert np.array_equal(read_mask(label), read_mask(run / "film" / "tracks" / "001.png"))
    assert (label.parent.parent / "images" / "001.png").is_file()
    ClipEdits(store).change("film", {3: 9}, 0, "b")
    assert read_mask(label)[41, 41] == 9


def test_a_change_of_the_clip_is_undone_as_a_whole_or_not_at_all(run, opened):
    store = opened(run)
    clips = ClipEdits(store)
    clips.change("film", {2: 5}, 0, "a")
    with pytest.raises(UsageError, match="one of the whole clip"):
        store.step(1, "undo", token="b")
    square = Region(40, 40, np.ones((4, 4), bool))
    store.edit(2, lambda ids: paint(ids, square, 7), token="c")
    with pytest.raises(UsageError, match="002: was edited since"):
        clips.undo("film", "d")
    assert ids_of(store) == [[1, 5]] * 4
    store.step(2, "undo", token="e")
    clips.undo("film", "f")
    assert ids_of(store) == [[1, 2]] * 4


def test_a_kill_in_the_middle_leaves_no_clip_half_changed(run, opened, monkeypatch):
    class KilledError(Exception):
        pass

    real, calls = LabelStore.edit, []

    def edit(self, index, *arguments, **options):
        calls.append(index)
        if len(calls) == 3:
            raise KilledError
        return real(self, index, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(LabelStore, "edit", edit)
        store = opened(run)
        with pytest.raises(KilledError):
            ClipEdits(store).change("film", {2: 6}, 0, "a")
        assert ids_of(store) == [[1, 6], [1, 6], [1, 2], [1, 2]]
    again = opened(run)
    ClipEdits(again)
    assert ids_of(again) == [[1, 6]] * 4


def test_what_a_full_disk_broke_off_is_finished_before_the_next_change(run, opened, monkeypatch):
    real = LabelStore.step

    def full(self, index, *arguments, **options):
        if index == 2:
            raise OutputError.at("003", "cannot be written (No space left on device)")
        return real(self, index, *arguments, **options)

    store = opened(run)
    clips = ClipEdits(store)
    clips.change("film", {2: 5}, 0, "a")
    clips.change("film", {2: 5, 1: 7}, 0, "b")
    with monkeypatch.context() as patch:
        patch.setattr(LabelStore, "step", full)
        with pytest.raises(OutputError):
            clips.undo("film", "c")
        with pytest.raises(OutputError):
            clips.change("film", {5: 9}, 0, "d")
    assert ids_of(store) == [[1, 5], [1, 5], [7, 5], [7, 5]]
    assert clips.undo("film", "e") == [2, 3]
    assert ids_of(store) == [[1, 5]] * 4
    assert clips.undo("film", "f") == [0, 1, 2, 3]
    assert ids_of(ClipEdits(opened(run))._store) == [[1, 2]] * 4


def test_new_objects_get_ids_that_no_frame_of_the_clip_has(run, opened):
    store = opened(run)
    clips = ClipEdits(store)
    (run / "film.tracks.csv").write_text("id,parent\n1,0\n41,0\n")
    assert clips.highest("film") == 41
    clips.note("film", 50)
    assert clips.highest("film") == 49


def test_ids_given_by_hand_are_not_given_again_by_another_start(run, opened):
    (run / "film.tracks.csv").write_text("id,parent\n1,0\n2,0\n")
    ClipEdits(opened(run)).change("film", {2: 3}, 2, "a")
    assert ClipEdits(opened(run)).highest("film") == 3
    # Where the journals are gone, the originals tell which masks were changed.
    later = (run / "film" / "tracks" / "002.png").stat().st_mtime_ns + 10**9
    os.utime(run / "film.tracks.csv", ns=(later, later))
    shutil.rmtree(run.with_name("predictions-labels"))
    assert ClipEdits(opened(run)).highest("film") == 3


def test_ids_that_another_program_gave_are_known(run, opened):
    table = run / "film.tracks.csv"
    table.write_text("id,parent\n1,0\n2,0\n")
    mask = run / "film" / "tracks" / "001.png"
    ids = read_mask(mask)
    ids[40:44, 40:44] = 9
    write_mask(mask, ids)
    os.utime(table, ns=(10**9, mask.stat().st_mtime_ns - 1))
    assert ClipEdits(opened(run)).highest("film") == 9


def test_the_highest_id_is_known_without_saving(run, opened, monkeypatch):
    """Who holds a mask must not wait for the saver, who waits for him."""
    shutil.rmtree(run / "film" / "tracks")
    store = opened(run)
    square = Region(40, 40, np.ones((4, 4), bool))
    with monkeypatch.context() as patch:
        patch.setattr(LabelStore, "_save", lambda self, index: pytest.fail("waits"))
        store.edit(1, lambda ids: paint(ids, square, 77), token="a")
        with store.sheet(0):
            assert ClipEdits(store).highest("film") == 77

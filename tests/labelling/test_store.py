"""Masks saved as ordinary files; nothing acknowledged is lost, and nothing is overwritten."""

from __future__ import annotations

import numpy as np
import pytest
from page_support import SIZE, ids_of, painted, put_mask, stroke

from dvos.errors import MediaError, OutputError, UsageError
from dvos.labelling.edits import recolour
from dvos.labelling.store import ConflictError, LabelStore
from dvos.media.image import read_image
from dvos.media.mask import IGNORE, mask_ids, read_mask, write_mask
from dvos.media.mask_values import declared_void


def revision_of(store) -> int:
    with store.sheet(0) as sheet:
        return sheet.journal.revision


def test_a_label_is_an_ordinary_file_beside_its_photo(folder, opened):
    store = opened(folder)
    assert store.edit(0, stroke(), token="a", base=0) == (4, 4, 10, 20)
    assert revision_of(store) == 1
    store.flush()
    saved = read_mask(folder / "annotated" / "masks" / "photo1.png")
    assert saved.dtype == np.uint16
    assert np.array_equal(saved, painted((1, (4, 4, 10, 20))))
    image = folder / "annotated" / "images" / "photo1.png"
    assert image.read_bytes() == (folder / "photo1.png").read_bytes()
    assert not (folder / "annotated" / "masks" / "photo2.png").exists()


def test_a_file_is_saved_without_being_asked(folder, opened):
    store = opened(folder)
    store.edit(0, stroke(), token="a")
    store.close()
    assert (folder / "annotated" / "masks" / "photo1.png").is_file()


def test_a_save_that_was_broken_off_leaves_no_folder_whose_ids_are_in_doubt(folder, opened):
    (folder / "annotated" / "masks").mkdir(parents=True)  # as far as it came
    store = opened(folder)
    store.edit(0, stroke(255), token="a")
    store.close()
    mask = folder / "annotated" / "masks" / "photo1.png"
    assert declared_void(mask.parent) == ()
    assert 255 in mask_ids(read_mask(mask), where=mask)


def test_what_was_acknowledged_outlives_a_kill_before_the_file_is_written(
    folder, opened, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(LabelStore, "_save", lambda self, index: None)
        first = opened(folder)
        first.edit(0, stroke(), token="a")
        first.edit(0, stroke(2, (20, 20, 30, 30)), token="b")
        first.step(0, "undo", token="c")
    again = opened(folder)
    again.flush()  # saved, though nobody has looked at it
    expected = painted((1, (4, 4, 10, 20)))
    assert np.array_equal(read_mask(folder / "annotated/masks/photo1.png"), expected)
    assert np.array_equal(ids_of(again), expected)
    again.step(0, "redo", token="d", base=3)
    assert np.array_equal(ids_of(again)[20:30, 20:30], np.full((10, 10), 2))
    again.flush()
    assert np.array_equal(read_mask(folder / "annotated/masks/photo1.png"), ids_of(again))


def test_a_line_that_a_kill_left_torn_was_not_acknowledged(folder, opened):
    first = opened(folder)
    first.edit(0, stroke(), token="a")
    first.close()
    journal = folder / ".labelling" / "journals" / "photo1.jsonl"
    with open(journal, "ab") as stream:
        stream.write(b'{"at": 2, "edit": "b", "box": [0, 0')
    again = opened(folder)
    again.edit(0, stroke(3, (0, 0, 2, 2)), token="c", base=1)
    again.close()
    expected = painted((1, (4, 4, 10, 20)), (3, (0, 0, 2, 2)))
    assert np.array_equal(ids_of(opened(folder)), expected)


def test_a_kill_between_file_and_note_makes_no_edit_twice(folder, opened, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("dvos.labelling.journal.Journal.saved", lambda self: None)
        first = opened(folder)
        for number in range(3):
            first.edit(0, stroke(number + 1, (number, 0, number + 9, 30)), token=str(number))
            first.flush()
        expected = ids_of(first)
        first.close()
    again = opened(folder)
    assert np.array_equal(ids_of(again), expected)
    for number in range(3):
        again.step(0, "undo", token=f"u{number}")
    assert not ids_of(again).any()


def test_undo_and_redo_go_on_after_a_restart(folder, opened):
    first = opened(folder)
    for number in range(40):
        first.edit(
            0, stroke(number + 1, (number, number, number + 5, number + 9)), token=str(number)
        )
    whole = ids_of(first)
    first.close()
    second = opened(folder)
    for number in range(40):
        second.step(0, "undo", token=f"u{number}")
    assert not ids_of(second).any()
    second.close()
    third = opened(folder)
    for number in range(40):
        third.step(0, "redo", token=f"r{number}")
    assert np.array_equal(ids_of(third), whole)
    with pytest.raises(UsageError, match="nothing to redo"):
        third.step(0, "redo", token="r40")


def test_an_object_painted_over_is_whole_again_after_undo_and_reload(folder, opened):
    first = opened(folder)
    first.edit(0, stroke(2, (0, 0, 20, 40)), token="b")
    first.edit(0, stroke(1, (5, 5, 10, 10)), token="a")
    first.step(0, "undo", token="u")
    first.close()
    assert np.array_equal(ids_of(opened(folder)), painted((2, (0, 0, 20, 40))))


def test_two_tabs_do_not_overwrite_each_other(folder, opened):
    store = opened(folder)
    store.edit(0, stroke(1), token="a", base=0)
    with pytest.raises(ConflictError, match="is at revision 1, the edit is of 0"):
        store.edit(0, stroke(2), token="b", base=0)
    with pytest.raises(ConflictError):
        store.step(0, "undo", token="c", base=0)
    assert np.array_equal(ids_of(store), painted((1, (4, 4, 10, 20))))


def test_a_fresh_object_is_never_joined_to_one_that_has_got_its_id(folder, opened):
    """As where two tabs, or a stroke and a split that is under way, gave the same id."""
    store = opened(folder)
    store.edit(0, stroke(1), token="a", fresh=1)
    with pytest.raises(ConflictError, match="has an object 1 by now"):
        store.edit(0, stroke(1, (20, 4, 30, 20)), token="b", base=1, fresh=1)
    store.edit(0, stroke(1), token="a", fresh=1)  # the same stroke, sent again
    assert np.array_equal(ids_of(store), painted((1, (4, 4, 10, 20))))


def test_an_edit_that_is_sent_again_is_made_once(folder, opened):
    store = opened(folder)
    store.edit(0, stroke(1), token="a", base=0)
    store.edit(0, stroke(2, (0, 0, 4, 4)), token="b", base=1)
    assert store.edit(0, stroke(1), token="a", base=0) is None
    assert revision_of(store) == 2
    store.close()
    again = opened(folder)
    assert again.edit(0, stroke(1), token="b", base=1) is None
    assert revision_of(again) == 2


def test_a_mask_from_elsewhere_is_kept_once_as_it_was(folder, opened):
    place = put_mask(folder, painted((7, (0, 0, 9, 9))))
    before = place.read_bytes()
    store = opened(folder)
    assert ids_of(store)[0, 0] == 7
    kept = folder / "annotated" / "masks_before_editing" / "photo1.png"
    assert not kept.exists()
    store.edit(0, stroke(), token="a")
    assert kept.read_bytes() == before
    store.close()
    again = opened(folder)
    again.edit(0, stroke(9, (0, 0, 3, 3)), token="b")
    again.close()
    assert kept.read_bytes() == before
    assert place.read_bytes() != before


def test_a_label_made_here_is_kept_nowhere_else(folder, opened):
    store = opened(folder)
    store.edit(0, stroke(), token="a")
    store.close()
    assert not (folder / "annotated" / "masks_before_editing").exists()


def test_a_mask_that_another_program_changed_holds(folder, opened, caplog):
    store = opened(folder)
    store.edit(0, stroke(), token="a")
    revision = revision_of(store)
    store.close()
    place = folder / "annotated" / "masks" / "photo1.png"
    write_mask(place, painted((3, (0, 0, 40, 40))))
    again = opened(folder)
    assert np.array_equal(ids_of(again), painted((3, (0, 0, 40, 40))))
    assert "changed by another program" in caplog.text
    again.edit(0, stroke(), token="b")
    assert revision_of(again) > revision
    with pytest.raises(ConflictError):
        again.edit(0, stroke(5), token="c", base=revision)


def test_a_mask_that_was_removed_stays_away(folder, opened):
    store = opened(folder)
    store.edit(0, stroke(), token="a")
    store.close()
    (folder / "annotated" / "masks" / "photo1.png").unlink()
    assert not ids_of(opened(folder)).any()


def test_a_semantic_mask_stays_one(folder, opened):
    mask = np.zeros(SIZE, np.uint8)
    mask[:9, :9], mask[20:30, 20:30], mask[40:, :] = 255, 255, 128
    place = put_mask(folder, mask, masks="head_mask")
    store = opened(folder)
    with store.sheet(0) as sheet:
        assert set(np.unique(sheet.ids)) == {0, 255, IGNORE}
        assert sheet.summary(1) == {"next": 255, "count": 1, "semantic": True}
    store.edit(0, stroke(255), token="a")
    store.close()
    saved = read_mask(place)
    assert saved.dtype == np.uint8
    assert set(np.unique(saved)) == {0, 128, 255}
    assert (saved[4:10, 4:20] == 255).all()


def test_a_semantic_label_stays_one_where_labels_go_elsewhere(folder, opened, tmp_path):
    mask = np.zeros(SIZE, np.uint8)
    mask[:9, :9], mask[20:30, 20:30] = 255, 255
    place = put_mask(folder, mask)
    store = opened(folder, out=tmp_path / "out")
    store.edit(0, stroke(255), token="a")
    store.close()
    saved = read_mask(tmp_path / "out" / "annotated" / "masks" / "photo1.png")
    assert set(np.unique(saved)) == {0, 255}
    assert np.array_equal(read_mask(place), mask)


@pytest.mark.parametrize("first", [0, 1])
def test_unknown_is_read_back_whatever_was_labelled_first(folder, opened, tmp_path, first):
    mask = np.zeros(SIZE, np.uint8)
    mask[20:30, 20:30] = 255
    put_mask(folder, mask)
    store = opened(folder, out=tmp_path / "out")
    for index in (first, 1 - first):
        store.edit(index, stroke(IGNORE), token="a")
        store.flush()
    store.close()
    for index in (0, 1):
        assert (ids_of(opened(folder, out=tmp_path / "out"), index)[4:10, 4:20] == IGNORE).all()


def test_ids_given_to_objects_of_a_semantic_mask_are_saved(folder, opened):
    mask = np.zeros(SIZE, np.uint8)
    mask[:9, :9], mask[20:30, 20:30] = 255, 255
    place = put_mask(folder, mask)
    store = opened(folder)
    store.edit(0, lambda ids: recolour(ids, {255: 3}), token="a")
    store.close()
    assert read_mask(place).dtype == np.uint16
    assert set(np.unique(read_mask(place))) == {0, 3}


def test_a_mask_of_another_size_is_told(folder, opened):
    put_mask(folder, np.zeros((8, 8), np.uint16))
    with pytest.raises(MediaError, match=r"8 x 8 pixels.*64 x 48"):
        ids_of(opened(folder))


def test_a_full_disk_loses_no_edit(folder, opened, monkeypatch):
    def fail(path, mask):
        raise OutputError.at(path, "cannot be written (No space left on device)")

    store = opened(folder)
    with monkeypatch.context() as patch:
        patch.setattr("dvos.labelling.store.write_mask", fail)
        store.edit(0, stroke(), token="a")
        store.flush()
        assert "No space left" in store.failures[0]
    store.edit(0, stroke(2, (0, 0, 2, 2)), token="b")
    store.flush()
    assert not store.failures
    assert np.array_equal(read_mask(folder / "annotated/masks/photo1.png"), ids_of(store))


def test_an_edit_that_cannot_be_noted_is_not_made(folder, opened, monkeypatch):
    store = opened(folder)
    store.edit(0, stroke(), token="a")

    def fail(path, text, *, sync=False):
        raise OutputError.at(path, "cannot be written (No space left on device)")

    monkeypatch.setattr("dvos.labelling.journal.append_text", fail)
    with pytest.raises(OutputError):
        store.edit(0, stroke(2), token="b")
    assert np.array_equal(ids_of(store), painted((1, (4, 4, 10, 20))))


def test_ids_come_back_from_the_file_whatever_they_are(folder, opened):
    """No value is taken for another program's "unknown", in a folder that the page made."""
    store = opened(folder)
    ids = np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE) % 256
    other = np.where(ids > 200, IGNORE, 10_000).astype(np.uint16)
    whole = np.s_[0 : SIZE[0], 0 : SIZE[1]]
    store.edit(0, lambda now: (whole, ids), token="a")
    store.edit(1, lambda now: (whole, other), token="b")
    store.close()
    again = opened(folder)
    assert np.array_equal(ids_of(again), ids)
    assert set(np.unique(ids_of(again, 1))) == {10_000, IGNORE}


def test_memory_is_bounded_by_what_is_saved(folder, opened, monkeypatch):
    monkeypatch.setattr("dvos.labelling.store._ROOM", 0)
    store = opened(folder)
    store.edit(0, stroke(), token="a")
    store.flush()
    ids_of(store, 1)
    assert list(store._sheets) == [1]
    assert np.array_equal(ids_of(store), painted((1, (4, 4, 10, 20))))
    assert read_image(folder / "annotated/images/photo1.png").shape == (*SIZE, 3)

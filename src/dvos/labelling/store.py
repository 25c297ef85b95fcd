"""The truth of all masks: edits applied, noted at once, and saved as ordinary files.

Everything is a file of the data folder::

    annotated/images/NAME.*                  the picture, once its frame is labelled
    annotated/masks/NAME.png                 its mask
    annotated/masks_before_editing/NAME.*    a mask that came from elsewhere, as it was
    .labelling/journals/NAME.jsonl           its edits, for undo and after a kill
    .labelling/journals/N.old/NAME.jsonl     those that another program's change of it ended
    .labelling/clips.jsonl                   changes of objects through all frames of a clip
"""

import logging
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dvos.errors import DvosError, MediaError, UsageError, check_size
from dvos.files import atomic_path, file_stamp, write_text
from dvos.labelling.documents import Document, Frame
from dvos.labelling.edits import Box, Edit, Ids, Patch, areas_of, free_ids, present
from dvos.labelling.journal import CHANGED, Entry, Journal, content_digest, is_settled
from dvos.media.image import write_image
from dvos.media.layout import before_editing
from dvos.media.mask import IGNORE, label_components, mask_ids, read_mask, write_mask
from dvos.media.mask_values import DECLARATION, SEMANTIC, declared_void

_log = logging.getLogger(__name__)

_ROOM = 600_000_000  # masks kept in memory, in bytes; what is not yet saved stays in any case
_OBJECT = SEMANTIC[2]  # the id of all objects in a mask that does not tell them apart
Make = Callable[[Ids], Edit]  # says what a part of a mask becomes
Way = Literal["undo", "redo"]


class ConflictError(UsageError):
    """A frame has changed since the sender last saw it, in another tab or by another program."""


@dataclass
class Sheet:
    """The mask of a frame in memory."""

    ids: Ids
    journal: Journal  # its edits
    semantic: bool  # whether the file holds 0, 128 and 255 alone: objects are not told apart
    dirty: bool  # whether there are edits that the file does not have
    areas: NDArray[np.int64]  # pixels of each id: to count them anew takes long in a large mask
    stamp: list[int] | None  # of the file as it was read or written last; None if there is none

    @property
    def values(self) -> list[int]:
        """What the mask holds, rising."""
        return np.flatnonzero(self.areas).tolist()

    def apply(self, patch: Patch) -> None:
        """Make a change, or take it back."""
        top, left, bottom, right = patch.box
        part = self.ids[top:bottom, left:right]
        self.areas -= areas_of(part)
        patch.apply(self.ids)
        self.areas += areas_of(part)

    def summary(self, first: int) -> dict[str, int | bool]:
        """``count`` objects, told apart or not, and ``next``, a new one's id, from ``first`` on."""
        values = self.values
        semantic = self.semantic and _is_semantic(values)
        next_id = _OBJECT if semantic else free_ids(values, first, 1)[0]
        count = sum(0 < value < IGNORE for value in values)
        return {"next": next_id, "count": count, "semantic": semantic}


class LabelStore:
    """Masks of a document, edited by several threads and saved by one.

    ``failures`` tells of frames that cannot be saved why; their edits are in the journal.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.failures: dict[int, str] = {}
        self._sheets: dict[int, Sheet] = {}
        self._guard = threading.RLock()
        # One file at a time, so that an older content never replaces a newer one.
        self._saving = threading.Lock()
        self._saver = ThreadPoolExecutor(1, "dvos-saver")
        # What a kill left unsaved is opened, and so saved, though nobody looks at its frame.
        for index, frame in enumerate(document.frames):
            if not is_settled(self._journal(frame)):
                try:
                    with self.sheet(index):
                        pass
                except DvosError as error:
                    _log.warning("%s", error)

    @contextmanager
    def sheet(self, index: int) -> Iterator[Sheet]:
        """The mask of a frame, which nobody else changes meanwhile.

        A ConflictError if another program has made something of its file that cannot be read.
        """
        with self._guard:
            if index not in self._sheets:
                room = sum(sheet.ids.nbytes for sheet in self._sheets.values())
                for other in [other for other, sheet in self._sheets.items() if not sheet.dirty]:
                    room -= self._sheets.pop(other).ids.nbytes if room > _ROOM else 0
                self._sheets[index] = self._read(self.document.frames[index])
                if self._sheets[index].dirty:
                    self._saver.submit(self._save, index)
            elif not self._sheets[index].dirty:  # else it is looked at when it is saved
                try:
                    self._look_again(index)
                except MediaError as error:
                    raise ConflictError(error.faults) from error
            self._sheets[index] = self._sheets.pop(index)
            yield self._sheets[index]

    def edit(
        self,
        index: int,
        make: Make,
        *,
        token: str,
        base: int | None = None,
        fresh: int = 0,
        group: str = "",
    ) -> Box | None:
        """Change a mask by what ``make`` says that a part of it becomes, in a ``group`` or alone.

        Gives the box that changed; an edit whose token was noted is not made again. A ConflictError
        if the mask is not at revision ``base``, as last seen, or has an object of the id ``fresh``.
        """

        def note(sheet: Sheet) -> Patch | None:
            if fresh and sheet.areas[fresh]:
                raise self._conflict(index, f"has an object {fresh} by now")
            patch = Patch.of(sheet.ids, make(sheet.ids))
            if patch is not None:
                if not sheet.journal.begun:
                    frame = self.document.frames[index]
                    for path in {frame.mask, frame.label or frame.mask}:
                        _keep(path)
                    sheet.journal.begin(sheet.ids)
                sheet.journal.edit(Entry(token, patch, group))
            return patch

        return self._changed(index, token, base, note)

    def step(
        self, index: int, kind: Way, *, token: str, base: int | None = None, group: str = ""
    ) -> Box | None:
        """Undo the latest edit, or make the one last undone again, if it is of the ``group``."""

        def note(sheet: Sheet) -> Patch:
            name = self.document.frames[index].name
            entries = sheet.journal.done if kind == "undo" else sheet.journal.undone
            if not entries:
                raise UsageError.at(name, f"there is nothing to {kind}")
            if entries[-1].group != group:
                found = "the latest change is one of the whole clip"
                raise UsageError.at(name, found, remedy=f"{kind} it for the clip")
            return sheet.journal.step(kind, token)

        return self._changed(index, token, base, note)

    def unsaved(self) -> list[int]:
        """Frames with edits that their files do not have."""
        with self._guard:
            return [index for index, sheet in self._sheets.items() if sheet.dirty]

    def edited(self, index: int, since: Path) -> bool:
        """Whether a frame's mask was changed, here or by another program, since a file was made."""
        mask = self.document.frames[index].mask
        if index in self.unsaved() or (before_editing(mask.parent) / mask.name).exists():
            return True
        return mask.stat().st_mtime_ns > since.stat().st_mtime_ns

    def flush(self) -> None:
        """Save everything that is not yet saved; never within :meth:`sheet`, which saving needs."""
        for index in self.unsaved():
            self._save(index)

    def close(self) -> None:
        """Save everything and end the thread that saves."""
        self._saver.shutdown(cancel_futures=True)
        self.flush()

    def _changed(
        self, index: int, token: str, base: int | None, note: Callable[[Sheet], Patch | None]
    ) -> Box | None:
        """Change a mask by the patch that is noted, unless that was done or would conflict."""
        with self.sheet(index) as sheet:
            revision = sheet.journal.revision
            if token in sheet.journal.tokens:
                return None
            if base is not None and base < sheet.journal.began:
                raise self._conflict(index, CHANGED)
            if base not in (None, revision):
                found = f"(it is at revision {revision}, the edit is of {base})"
                raise self._conflict(index, f"has changed, perhaps in another tab {found}")
            patch = note(sheet)
            if patch is None:
                return None
            sheet.apply(patch)
            sheet.dirty = True
            self._saver.submit(self._save, index)
            return patch.box

    def _conflict(self, index: int, found: str) -> ConflictError:
        name = self.document.frames[index].name
        return ConflictError.at(name, found, remedy="look at it again, then repeat")

    def _read(self, frame: Frame) -> Sheet:
        stamp, is_saved = _stamp(frame.mask), os.path.lexists(frame.mask)
        ids, semantic = self._stored(frame, is_saved)
        opened = Journal.open(self._journal(frame), ids, is_saved)
        return Sheet(ids, opened, semantic, opened.behind, areas_of(ids), stamp)

    def _look_again(self, index: int) -> None:
        """Let a mask that another program changed hold: it is read, and its undo begins anew."""
        frame, sheet = self.document.frames[index], self._sheets[index]
        stamp, journal = _stamp(frame.mask), sheet.journal
        if stamp == sheet.stamp:
            return
        ids, semantic = self._stored(frame, os.path.lexists(frame.mask))
        own = journal.held if sheet.dirty else [content_digest(sheet.ids)]
        if content_digest(ids) in own:  # it was written anew, but as it was
            sheet.stamp = stamp
            return
        anew = journal.set_aside()
        self._sheets[index] = Sheet(ids, anew, semantic, False, areas_of(ids), stamp)
        if sheet.dirty:
            text = f"{CHANGED} before your latest edits were saved: it holds, they are left out"
            self.failures[index] = f"{frame.name}: {text}"

    def _stored(self, frame: Frame, is_saved: bool) -> tuple[Ids, bool]:
        """What the mask holds, or is to begin from, and whether that tells no objects apart."""
        size = frame.picture.size()
        if frame.label is not None and not is_saved:
            expected = "the tracks of this frame, 16 bit"
            raise MediaError.at(frame.mask, "no such file", expected, "predict again")
        path = frame.mask if is_saved else frame.given
        ids, semantic = np.zeros(size, np.uint16), False
        if path is not None:
            ids, semantic = _read_ids(path, size)
        if path is not None and frame.predicted and not is_saved and semantic:
            # A beginning: its objects are there to be corrected one by one.
            ids, semantic = _numbered(ids, path), False
        return ids, semantic

    def _journal(self, frame: Frame) -> Path:
        return self.document.root / ".labelling" / "journals" / f"{frame.name}.jsonl"

    def _save(self, index: int) -> None:
        """Write a mask as it is now, unless another program has; edits may go on meanwhile."""
        frame = self.document.frames[index]
        with self._saving:
            try:
                with self._guard:
                    if index not in self._sheets or not self._sheets[index].dirty:
                        return
                    self._look_again(index)
                    sheet = self._sheets[index]
                    if not sheet.dirty:
                        return
                    ids, revision = sheet.ids.copy(), sheet.journal.revision
                    values = sheet.values
                    # Whether an edit that is no part of a change of the whole clip is in force.
                    by_hand = any(not entry.group for entry in sheet.journal.done)
                digest = content_digest(ids)
                with self._guard:
                    sheet.journal.saving(digest, revision)
                stored: NDArray[np.uint8] | Ids = ids
                plain = declared_void(frame.mask.parent) is None  # else 128 may be an object
                if plain and sheet.semantic and _is_semantic(values):
                    stored = np.where(ids == IGNORE, SEMANTIC[1], ids).astype(np.uint8)
                told = self._write_label(frame, stored, by_hand, sheet.journal)
                # Last: what it holds tells, after a kill, whether all of this is done.
                write_mask(frame.mask, stored)
                with self._guard:
                    sheet.stamp = _stamp(frame.mask)
                    sheet.journal.saved()
                    sheet.dirty = sheet.journal.revision != revision
                    self.failures.pop(index, None)
                    self.failures |= {index: told} if told else {}
            except (DvosError, OSError) as error:
                self.failures[index] = str(error)
                _log.warning("%s: not saved yet, its edits are kept: %s", frame.name, error)

    def _write_label(
        self, frame: Frame, stored: NDArray[np.uint8] | Ids, by_hand: bool, journal: Journal
    ) -> str:
        """The picture of a mask that is a label, and of tracks, which lie elsewhere, their label.

        A label of tracks that another program has changed holds: that is told.
        """
        label = frame.label or frame.mask
        if label != frame.mask and label.exists():
            ids, _ = _read_ids(label, stored.shape)
            if not journal.has_noted(content_digest(ids)) and not _is_kept(label):
                text = f"{CHANGED}: it holds, and edits go to the tracks alone"
                return f"{label}: {text}; to have them here, too, remove it and edit the frame"
        elif label != frame.mask and not by_hand:
            return ""
        images = self.document.root / "annotated" / "images"
        source = frame.picture.path
        target = images / f"{frame.name}{'.png' if frame.picture.video else source.suffix}"
        if not target.exists() and frame.picture.video:
            write_image(target, frame.picture.read())
        elif not target.exists():
            _copy(source, target)
        # Ids as they are, unless a mask in this folder is another program's.
        if stored.dtype == np.uint16 and not any(label.parent.glob("[!.]*")):
            write_text(label.parent / DECLARATION, "none\n")
        if label != frame.mask:
            write_mask(label, stored)
        return ""


def read_objects(path: Path, size: tuple[int, int]) -> Ids:
    """The objects of a predicted mask of a size; of a semantic one its connected parts."""
    ids, semantic = _read_ids(path, size)
    return _numbered(ids, path) if semantic else ids


def _read_ids(path: Path, size: tuple[int, int]) -> tuple[Ids, bool]:
    stored = read_mask(path)
    check_size(path, stored.shape, size, "the picture")
    semantic = stored.dtype == np.uint8 and _is_semantic(present(stored))
    return mask_ids(stored, where=path), semantic


def _is_semantic(values: Collection[int]) -> bool:
    """Whether these values of a mask are of objects, none of which is told from the others."""
    return _OBJECT in values and {*values} <= {*SEMANTIC, IGNORE}


def _numbered(ids: Ids, path: Path) -> Ids:
    """The connected parts of a semantic mask as objects from 1."""
    parts = label_components(ids == _OBJECT)
    if parts.max(initial=0) >= IGNORE:
        found = f"{parts.max()} objects"
        raise MediaError.at(path, found, f"at most {IGNORE - 1}", "label a part of the picture")
    return np.where(ids == IGNORE, ids, parts.astype(np.uint16))


def _keep(mask: Path) -> None:
    """Before its first edit: keep a mask that came from elsewhere, once."""
    kept = before_editing(mask.parent) / mask.name
    if mask.exists() and not kept.exists():
        _copy(mask, kept)


def _is_kept(mask: Path) -> bool:
    """Whether a mask is still what was kept of it before its first edit."""
    kept = before_editing(mask.parent) / mask.name
    return kept.exists() and kept.read_bytes() == mask.read_bytes()


def _stamp(path: Path) -> list[int] | None:
    with suppress(OSError):
        return file_stamp(path)
    return None


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)

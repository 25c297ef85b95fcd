"""The Cell Tracking Challenge: a label image for each frame, and a table of tracks.

Its lines are ``label first last parent``, frames from 0, parent 0 for none; a label is there in
each frame between. See https://celltrackingchallenge.net and Maska et al. (Nature Methods 2023).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import FaultCollector, MediaError, TableError
from dvos.files import read_bytes, write_text
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, label_objects
from dvos.formats.reading import Format, Reading
from dvos.formats.sheets import labelled, videos_of
from dvos.media.ctc_folder import CtcSequence, ctc_sequences, numbered_files
from dvos.media.layout import list_folders
from dvos.media.mask import LARGEST_16, LARGEST_32, mask_size, read_label_image, write_label_image

#: Name of the table of tracks beside result masks.
RESULT_TABLE = "res_track.txt"


@dataclass(frozen=True)
class CtcTrack:
    """A line of the table: frames first and last seen, and the label it comes from; 0 for none."""

    first: int
    last: int
    parent: int


class CtcWriter:
    """Writes ``mask000.tif`` and on into a folder as ``01_RES``, then ``res_track.txt``.

    A track's label is its id. It becomes two at a gap, as the layout has it, the later with the
    earlier as its parent and a free label. ``frames`` tells how many digits names need.
    """

    def __init__(self, folder: Path, frames: int) -> None:
        self._folder, self._frames = folder, frames
        self._digits = max(3, len(str(max(0, frames - 1))))
        self._labels: dict[int, int] = {}  # of ids, the latest
        self._tracks: dict[int, list[int]] = {}
        # From the middle down, as the challenge's own scorer adds the labels of two masks in 16
        # bits; then from below what our own masks take for unknown.
        free = chain(range(LARGEST_16 // 2, 0, -1), range(LARGEST_16 - 1, LARGEST_16 // 2, -1))
        self._free = (one for one in free if one not in self._tracks)
        self._next = 0

    def files(self, frame: int) -> Path:
        """The label image of a frame."""
        return self._folder / f"mask{frame:0{self._digits}}.tif"

    def add(self, labels: NDArray[Any], parents: Mapping[int, int], frame: int) -> None:
        """Write the next frame, those left out before it without objects.

        ``labels`` are the permanent ids of tracks (H, W), 0 background; ``parents`` are the tracks
        that those which begin here by a division come from. A MediaError if labels run out; nothing
        is left of what was written then.
        """
        while self._next < frame:
            write_label_image(self.files(self._next), np.zeros_like(labels))
            self._next += 1
        ids = np.unique(labels)
        own = np.zeros(int(ids[-1]) + 1, np.int64)
        for id_ in ids[ids > 0].tolist():
            own[id_] = self._label(id_, parents, frame)
        write_label_image(self.files(frame), own[labels])
        self._next = frame + 1

    def _label(self, id_: int, parents: Mapping[int, int], frame: int) -> int:
        """The label of a track in a frame: that of the frame before, or else a new one."""
        label = self._labels.get(id_, 0)
        if label and self._tracks[label][1] == frame - 1:
            self._tracks[label][1] = frame
            return label
        parent = label or self._labels.get(parents.get(id_, 0), 0)
        own = id_ <= LARGEST_16 and id_ not in self._tracks
        new = id_ if own else next(self._free, 0)
        if not new:
            self.remove()
            found = f"more than {LARGEST_16} tracks, counting each gap as the end of one"
            expected = "as many as the Cell Tracking Challenge's 16 bits hold"
            remedy = "leave out format=ctc: <clip>/tracks holds any number, or cut the clip"
            raise MediaError.at(self._folder, found, expected, remedy)
        self._labels[id_], self._tracks[new] = new, [frame, frame, parent]
        return new

    def is_finished(self) -> bool:
        """Whether the table is there, and the label image of each frame."""
        images = map(self.files, range(self._frames))
        return (self._folder / RESULT_TABLE).is_file() and all(path.is_file() for path in images)

    def remove(self) -> None:
        """Remove the table and all label images."""
        (self._folder / RESULT_TABLE).unlink(missing_ok=True)
        for path in numbered_files(self._folder).values():
            path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Write the table."""
        lines = (f"{label} {' '.join(map(str, one))}\n" for label, one in self._tracks.items())
        write_text(self._folder / RESULT_TABLE, "".join(lines))


def read_track_table(path: Path) -> dict[int, CtcTrack]:
    """Tracks by label; a TableError with a fault for each line that is wrong."""
    text = read_bytes(path, "a table of tracks").decode("utf-8", "replace")
    tracks: dict[int, CtcTrack] = {}
    expected = "four whole numbers: label, first frame, last frame, parent or 0"
    with FaultCollector(TableError) as faults:
        for number, line in enumerate(text.splitlines(), 1):
            where, cells = f"{path} line {number}", line.split()
            if not cells:
                continue
            if len(cells) != 4 or not all(cell.isascii() and cell.isdigit() for cell in cells):
                faults.add(where, repr(line), expected)
                continue
            label, first, last, parent = map(int, cells)
            if label < 1 or label in tracks or first > last or parent == label:
                faults.add(where, repr(line), "a label of its own, and frames in order")
                continue
            tracks[label] = CtcTrack(first, last, parent)
        for label, one in tracks.items():
            mother = tracks.get(one.parent)
            if one.parent and (mother is None or mother.last >= one.first):
                found = f"label {label} begins at frame {one.first}, its parent {one.parent} "
                found += "is not there" if mother is None else f"ends at frame {mother.last}"
                faults.add(path, found, "a parent that ends before")
    return tracks


def check_presence(
    path: Path,
    tracks: Mapping[int, CtcTrack],
    seen: Mapping[int, list[int]],
    numbers: Sequence[int],
) -> None:
    """A TableError with a fault for each label that is seen in other frames than a table tells.

    ``seen`` are the frames of each label, of the ``numbers`` of those that are there, both rising;
    gaps in between do not count.
    """
    with FaultCollector(TableError) as faults:
        for label in sorted({*tracks, *seen}):
            one, frames = tracks.get(label), seen.get(label, [])
            if one is None:
                faults.add(path, f"label {label} of frame {frames[0]} is not in it", "its line")
                continue
            # Frames in between may lack their masks.
            told = [number for number in numbers if one.first <= number <= one.last]
            beyond = not numbers or one.first < numbers[0] or one.last > numbers[-1]
            if beyond or (told and (not frames or (frames[0], frames[-1]) != (told[0], told[-1]))):
                shown = f"{frames[0]} to {frames[-1]}" if frames else "none"
                found = f"label {label} is told for frames {one.first} to {one.last}, "
                faults.add(path, f"{found}the masks show it in {shown}", "the same in both")


def _matches(path: Path, _: Any) -> bool:
    return path.is_dir() and bool(_sequences(path))


def _sequences(path: Path) -> list[CtcSequence]:
    """Those with truth, else those with results."""
    folders = [path.absolute(), *list_folders(path.absolute())]
    return ctc_sequences(path) or [
        CtcSequence.of(one, {}, masks, one / RESULT_TABLE)
        for one in folders
        if one.name.endswith("_RES") and (masks := numbered_files(one))
    ]


def _read(path: Path, _: Any, reading: Reading) -> Iterator[Picture]:
    """All frames; labelled are those whose masks show every object, with the ids of tracks."""
    for one in _sequences(path):
        # That of a sequence without objects is empty.
        tracks = read_track_table(one.table) if one.table and one.table.stat().st_size else {}
        parents = {label: track.parent for label, track in tracks.items() if track.parent}
        reading.parents[one.name] = parents
        masks = one.whole_masks()
        if not masks:
            note = "sequences without SEG: the markers of TRA are taken for masks"
            reading.notes.add(note, one.name)
            masks = one.markers
        first = next(iter(masks.values()))
        for number in sorted({*one.frames, *masks}):
            image, mask = one.frames.get(number), masks.get(number)
            size = reading.size(image, mask_size(mask or first), str(mask or image))
            marker = one.markers.get(number) if mask != one.markers.get(number) else None
            name = f"{one.name}/{one.frame_name(number)}.tif"
            objects = partial(_objects, mask, marker)
            yield Picture(name, size, objects, image, one.name, number, mask is not None)


def _objects(mask: Path | None, marker: Path | None) -> Iterator[LabelledObject]:
    """The objects of a mask, under the ids of the markers that lie in them, if there are any."""
    objects = [] if mask is None else label_objects(read_label_image(mask))
    if marker is None:
        yield from objects
        return
    markers = read_label_image(marker)
    for one in objects:
        region = one.draw()
        ids, counts = np.unique(markers[region.window][region.mask], return_counts=True)
        ids, counts = ids[ids > 0], counts[ids > 0]
        yield replace(one, id=int(ids[counts.argmax()]) if len(ids) else None)


def _write(source: LabelledSource, out: Path) -> None:
    frames = max(one.frame for one in source.pictures) + 1
    for video, own in videos_of(source, LARGEST_32):
        writer = None
        for sheet in labelled(own, gaps=False):
            writer = writer or CtcWriter(out / f"{video}_RES", frames)
            parents = source.parents.get(sheet.picture.video, {})
            writer.add(sheet.labels(), parents, sheet.picture.frame)
        if writer:
            writer.finish()


#: ``VIDEO_RES/mask000.tif`` and on are written, with ``res_track.txt``; of a photo one frame.
FORMAT = Format("ctc", "Cell Tracking Challenge", _matches, _read, write=_write, classes=False)

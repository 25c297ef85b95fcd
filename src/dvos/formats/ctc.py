"""The layout of the Cell Tracking Challenge: a label image for each frame, and a table of tracks.

A line of the table says ``label first last parent``, frames counted from 0, parent 0 for none. A
label is there in each frame from its first to its last; see
https://celltrackingchallenge.net and Maska et al. (Nature Methods 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import FaultCollector, MediaError, TableError
from dvos.files import read_bytes, write_text
from dvos.media.label_image import LARGEST_16, write_label_image

#: Name of the table of tracks beside result masks, and of that beside true ones.
RESULT_TABLE, TRUTH_TABLE = "res_track.txt", "man_track.txt"


@dataclass(frozen=True)
class CtcTrack:
    """A line of the table: frames first and last seen, and the label it comes from; 0 for none."""

    first: int
    last: int
    parent: int


class CtcWriter:
    """Writes ``mask000.tif`` and on, frame after frame, then ``res_track.txt``.

    A track that is not seen in some frames becomes two, the later with the earlier as its parent,
    as a label may not be absent between its first and its last frame.

    Args:
        folder: For the files, as ``01_RES``.
        frames: How many frames there will be, which tells how many digits names need.
    """

    def __init__(self, folder: Path, frames: int) -> None:
        self._folder = folder
        self._digits = max(3, len(str(max(0, frames - 1))))
        self._labels = np.zeros(1, np.int64)
        self._tracks: dict[int, list[int]] = {}
        self._next = 0

    def files(self, frame: int) -> Path:
        """The label image of a frame."""
        return self._folder / f"mask{frame:0{self._digits}}.tif"

    def add(self, labels: NDArray[Any], parents: Mapping[int, int], frame: int) -> None:
        """Write the next frame.

        Args:
            labels: Whole numbers (H, W): the permanent ids of tracks, 0 background.
            parents: Of tracks that begin here by a division, the track they come from.
            frame: Number of the frame, which rises; frames left out are written without objects.

        Raises:
            MediaError: If there are more labels than the layout can hold.
            OutputError: If the file cannot be written.
        """
        while self._next < frame:
            write_label_image(self.files(self._next), np.zeros_like(labels))
            self._next += 1
        ids = np.unique(labels)
        ids = ids[ids > 0]
        if len(ids) and ids[-1] >= len(self._labels):
            more = np.zeros(max(int(ids[-1]) + 1, 2 * len(self._labels)) - len(self._labels))
            self._labels = np.append(self._labels, more.astype(np.int64))
        for id_ in ids.tolist():
            label = int(self._labels[id_])
            if label and self._tracks[label][1] == frame - 1:
                self._tracks[label][1] = frame
                continue
            mother = parents.get(id_, 0)
            parent = label or int(self._labels[mother] if mother < len(self._labels) else 0)
            new = len(self._tracks) + 1
            if new > LARGEST_16:
                raise MediaError.at(
                    self._folder,
                    f"more than {LARGEST_16} tracks, counting each gap as the end of one",
                    "as many as the Cell Tracking Challenge's 16 bits hold",
                    "leave out format=ctc: <clip>/tracks holds any number, or cut the clip",
                )
            self._labels[id_] = new
            self._tracks[new] = [frame, frame, parent]
        write_label_image(self.files(frame), self._labels[labels])
        self._next = frame + 1

    def finish(self) -> None:
        """Write the table.

        Raises:
            OutputError: If the file cannot be written.
        """
        lines = (f"{label} {' '.join(map(str, one))}\n" for label, one in self._tracks.items())
        write_text(self._folder / RESULT_TABLE, "".join(lines))


def read_track_table(path: Path) -> dict[int, CtcTrack]:
    """Read ``man_track.txt`` or ``res_track.txt``: tracks by label.

    Raises:
        TableError: If it cannot be read, with a fault for each line that is wrong.
    """
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
    path: Path, tracks: Mapping[int, CtcTrack], seen: Mapping[int, list[int]]
) -> None:
    """See that a table of tracks tells what its label images show, but for gaps in between.

    Args:
        path: The table.
        tracks: What it says.
        seen: The frames in which each label is seen, rising.

    Raises:
        TableError: With a fault for each label that is seen in other frames than told.
    """
    with FaultCollector(TableError) as faults:
        for label in sorted({*tracks, *seen}):
            one, frames = tracks.get(label), seen.get(label, [])
            if one is None:
                faults.add(path, f"label {label} of frame {frames[0]} is not in it", "its line")
            elif not frames or (frames[0], frames[-1]) != (one.first, one.last):
                shown = f"{frames[0]} to {frames[-1]}" if frames else "none"
                found = f"label {label} is told for frames {one.first} to {one.last}, "
                faults.add(path, f"{found}the masks show it in {shown}", "the same in both")

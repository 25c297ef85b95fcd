"""What every annotators' format is turned into, and written from: pictures with their objects.

A reader gives a :class:`LabelledSource` and draws nothing; a writer asks objects for their pixels.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: What stands in a label image where nothing is known.
UNKNOWN = -1
#: Most ids that are looked up by their number alone.
_DENSE = 2**20
#: (height, width) of a picture as it is shown, turned by its orientation.
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Region:
    """Some pixels of a picture: ``mask``, bool (h, w), lies at row ``top`` and column ``left``."""

    top: int
    left: int
    mask: NDArray[np.bool_]

    @property
    def area(self) -> int:
        """Number of its pixels."""
        return int(np.count_nonzero(self.mask))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Top, left, bottom and right; the last two are the first beyond."""
        height, width = self.mask.shape
        return self.top, self.left, self.top + height, self.left + width

    @property
    def window(self) -> tuple[slice, slice]:
        """Where it lies in its picture."""
        top, left, bottom, right = self.box
        return slice(top, bottom), slice(left, right)

    def whole(self, size: Size) -> NDArray[np.bool_]:
        """The mask of the whole picture, bool (H, W)."""
        mask = np.zeros(size, np.bool_)
        mask[self.window] = self.mask
        return mask


@dataclass(frozen=True, eq=False)
class LabelledObject:
    """An object of one picture."""

    label: str  # its class; empty where the format has none
    draw: Callable[[], Region]  # gives its pixels, all of its parts together, maybe none
    id: int | None = None  # the same in all frames of a video; None where the source has none
    unknown: bool = False  # a region of unknown label, such as a crowd, and no object
    z: int = 0  # of two that overlap the one with the higher lies on top


@dataclass(frozen=True, eq=False)
class Picture:
    """A photo, or a frame of a video."""

    name: str  # as the source names it, with its folders and ending
    size: Size
    objects: Callable[[], Iterable[LabelledObject]]  # gives them in the order of the source
    path: Path | None = None  # its file, if that was found
    video: str = ""  # name of its video; empty for a photo
    frame: int = 0  # number of the frame in the video, from 0
    labelled: bool = True  # whether it was looked at
    film: Path | None = None  # video file that holds the frame, where it has no file of its own

    @property
    def is_in_film(self) -> bool:
        """Whether it is a frame of a video file, and nowhere a picture by itself."""
        return self.path is None and self.film is not None


class Notes(dict[str, set[Hashable]]):
    """What was not taken as it stands: of each kind the places where, each once."""

    def add(self, note: str, *where: Hashable) -> None:
        """Note it at a place, which may have been looked at before."""
        self.setdefault(note, set()).add(where)

    def lines(self) -> list[str]:
        """A line for each kind, with how often."""
        return [f"{note} ({len(places)})" for note, places in self.items()]


@dataclass(frozen=True)
class LabelledSource:
    """All pictures of an annotators' file or folder."""

    path: Path
    format: str  # a name in dvos.formats.known.FORMATS
    pictures: Sequence[Picture]  # photos, and frames of videos in order
    notes: Notes = field(default_factory=Notes)
    #: Of each video, of an id the one that it comes from by a division.
    parents: dict[str, dict[int, int]] = field(default_factory=dict)

    def classes(self) -> Counter[str]:
        """How many objects each class has."""
        return Counter(
            one.label for picture in self.pictures for one in picture.objects() if not one.unknown
        )


def cropped(mask: NDArray[np.bool_], top: int = 0, left: int = 0) -> Region:
    """The region of a mask whose upper left pixel lies at (top, left)."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return Region(top, left, np.zeros((0, 0), np.bool_))
    row, column = int(rows[0]), int(columns[0])
    inner = mask[row : int(rows[-1]) + 1, column : int(columns[-1]) + 1]
    return Region(top + row, left + column, np.ascontiguousarray(inner))


def joined(regions: Iterable[Region]) -> Region:
    """The region of several parts."""
    parts = [part for part in regions if part.mask.size]
    if len(parts) < 2:
        return parts[0] if parts else cropped(np.zeros((0, 0), np.bool_))
    top, left = min(part.top for part in parts), min(part.left for part in parts)
    ends = [[side.stop for side in part.window] for part in parts]
    mask = np.zeros(np.max(ends, axis=0) - (top, left), np.bool_)
    for part in parts:
        mask[Region(part.top - top, part.left - left, part.mask).window] |= part.mask
    return Region(top, left, mask)


def label_objects(labels: NDArray[np.int32], unknown: int | None = None) -> list[LabelledObject]:
    """The objects of a label image (H, W), one for each id above 0, perhaps one ``unknown``."""
    # It takes a while to load, and drawn polygons do without.
    from scipy import ndimage

    dense: NDArray[np.integer] = np.maximum(labels, 0)
    ids = np.arange(int(dense.max(initial=0)) + 1)
    if len(ids) > _DENSE:
        ids, places = np.unique(np.append(0, dense), return_inverse=True)
        dense = places[1:].reshape(labels.shape)
    found = []
    for id_, window in zip(ids[1:].tolist(), ndimage.find_objects(dense), strict=True):
        if window is not None:

            def draw(id_: int = id_, window: tuple[slice, slice] = window) -> Region:
                return Region(window[0].start, window[1].start, labels[window] == id_)

            found.append(LabelledObject("", draw, id_, unknown=id_ == unknown))
    return found

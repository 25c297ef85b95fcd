"""Pictures for the page: tiles of a pyramid, so that it never holds a large photo whole."""

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from dvos.errors import DvosError, UsageError
from dvos.formats.labels import Size
from dvos.labelling.documents import Frame
from dvos.media.image import resized

Pixels = NDArray[np.uint8]

TILE = 512  # side of a tile, in pixels
_THUMBNAIL = 160
_QUALITY = 92
_ROOM = 800_000_000  # bytes of decoded pictures that are kept; the latest one in any case
_MOST_THUMBNAILS = 2000
_LARGE = 16_000_000  # pixels of a picture that is large


class Pictures:
    """Decoded pictures of frames with their halved versions, the latest few.

    A JPEG is decoded as small as is asked for: a large photo is seen before it was read whole.
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = frames
        self._guard = threading.Lock()
        # Of each frame its levels from one on, each half of the one before.
        self._levels: OrderedDict[int, dict[int, Pixels]] = OrderedDict()
        self.thumbnail = lru_cache(_MOST_THUMBNAILS)(self._thumbnail)

    def begin(self, index: int) -> threading.Thread:
        """Read a frame's picture, if it is large, while the page that will show it comes up."""

        def read() -> None:
            # What cannot be read is told when the page asks for it.
            with suppress(DvosError, OSError):
                if math.prod(self._frames[index].picture.size()) >= _LARGE:
                    self.thumbnail(index)

        reading = threading.Thread(target=read, daemon=True)
        reading.start()
        return reading

    def whole(self, index: int) -> Pixels:
        """The picture of a frame."""
        return self._level(index, 0)

    def tile(self, index: int, level: int, row: int, column: int) -> bytes:
        """A tile as JPEG, at most 512 x 512; a UsageError if the picture has no such tile.

        Level 0 is the picture, each further one half of the one before, until it fits in one tile.
        """
        sizes = _sizes(self._frames[index].picture.size())
        if level < len(sizes):
            height, width = sizes[level]
            if row * TILE < height and column * TILE < width:
                picture = self._level(index, level)
                return _jpeg(picture[row * TILE :][:TILE, column * TILE :][:, :TILE])
        raise UsageError.at("tile", f"{level}/{row}/{column}", f"a tile of {len(sizes)} levels")

    def _level(self, index: int, level: int) -> Pixels:
        with self._guard:
            if level not in self._levels.get(index, {}):
                self._levels[index] = _read_levels(self._frames[index], level)
            self._levels.move_to_end(index)
            known = self._levels.values()
            room = [sum(level.nbytes for level in levels.values()) for levels in known]
            while len(room) > 1 and sum(room) > _ROOM:
                room.pop(0)
                self._levels.popitem(last=False)
            return self._levels[index][level]

    def _thumbnail(self, index: int) -> bytes:
        known, shown = self._levels.get(index), self._frames[index].picture
        sizes = _sizes(shown.size())
        if known:
            picture = known[max(known)]
        elif math.prod(sizes[0]) >= _LARGE:
            # Read once, its tiles from it too, and no two at a time: each takes seconds and memory.
            picture = self._level(index, len(sizes) - 1)
        else:
            picture = shown.small(_THUMBNAIL)
        return _jpeg(resized(picture, min(1.0, _THUMBNAIL / max(picture.shape[:2]))))


def _sizes(size: Size) -> list[Size]:
    """(height, width) of each level, rounded up, as the page counts the tiles of a level."""
    sizes = [size]
    while max(sizes[-1]) > TILE:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def _read_levels(frame: Frame, level: int) -> dict[int, Pixels]:
    """The levels of a picture from that one on, or from an earlier one."""
    sizes = _sizes(frame.picture.size())
    picture = frame.picture.small(min(sizes[level])) if level else frame.picture.read()
    if picture.shape[:2] not in sizes:
        picture = frame.picture.read()
    first = sizes.index(picture.shape[:2])
    levels = {first: picture}
    for number, (height, width) in enumerate(sizes[first + 1 :], first + 1):
        half = cv2.resize(levels[number - 1], (width, height), interpolation=cv2.INTER_AREA)
        levels[number] = np.asarray(half, np.uint8)
    return levels


def _jpeg(picture: Pixels) -> bytes:
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), _QUALITY, "RGB", "444"))

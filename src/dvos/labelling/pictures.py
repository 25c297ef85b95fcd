"""Pictures for the page: tiles of a pyramid, so that it never holds a large photo whole."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from dvos.errors import UsageError
from dvos.labelling.documents import Frame

#: Side of a tile, in pixels.
TILE = 512
_THUMBNAIL = 160
_QUALITY = 92
#: Bytes of decoded pictures that are kept; the latest one in any case.
_ROOM = 800_000_000
_MOST_THUMBNAILS = 2000


class Pictures:
    """Decoded pictures of frames with their halved versions, the latest few."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = frames
        self._guard = threading.Lock()
        self._pyramids: OrderedDict[int, list[NDArray[np.uint8]]] = OrderedDict()
        self.thumbnail = lru_cache(_MOST_THUMBNAILS)(self._thumbnail)

    def pyramid(self, index: int) -> list[NDArray[np.uint8]]:
        """The picture, then each time half of it, until it fits in one tile."""
        with self._guard:
            if index not in self._pyramids:
                levels = [self._frames[index].picture.read()]
                while max(levels[-1].shape[:2]) > TILE:
                    # Rounded up, as the page counts the tiles of a level.
                    height, width = (-(-side // 2) for side in levels[-1].shape[:2])
                    half = cv2.resize(levels[-1], (width, height), interpolation=cv2.INTER_AREA)
                    levels.append(np.asarray(half, np.uint8))
                self._pyramids[index] = levels
            self._pyramids.move_to_end(index)
            sizes = [sum(level.nbytes for level in one) for one in self._pyramids.values()]
            while len(sizes) > 1 and sum(sizes) > _ROOM:
                sizes.pop(0)
                self._pyramids.popitem(last=False)
            return self._pyramids[index]

    def tile(self, index: int, level: int, row: int, column: int) -> bytes:
        """A tile as JPEG, at most 512 x 512; a UsageError if the picture has no such tile."""
        levels = self.pyramid(index)
        if level < len(levels):
            tile = levels[level][row * TILE :][:TILE, column * TILE :][:, :TILE]
            if tile.size:
                return _jpeg(tile)
        raise UsageError.at("tile", f"{level}/{row}/{column}", f"a tile of {len(levels)} levels")

    def _thumbnail(self, index: int) -> bytes:
        known = self._pyramids.get(index)
        picture = known[-1] if known else self._frames[index].picture.small(_THUMBNAIL)
        scale = min(1.0, _THUMBNAIL / max(picture.shape[:2]))
        size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return _jpeg(np.asarray(small, np.uint8))


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), _QUALITY, "RGB", "444"))

"""Frames and masks of clips on the disk: files of their own, or frames of clip stores."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media.clip_store import ClipStore
from dvos.media.image import image_size, read_image
from dvos.media.mask import mask_size, read_mask
from dvos.media.window import read_png_window
from dvos.tables import SizeReader, split_address
from dvos.training.clips import target_of
from dvos.training.geometry import Box, cut, looked_at
from dvos.training.stills import aims_of
from dvos.training.store import DecodedFiles

__all__ = ["ClipFiles", "OpenStores", "read_frame", "read_frame_mask", "size_readers"]


class OpenStores:
    """Clip stores kept open; the least recently used is closed first.

    A copy in another process begins empty: that process opens its own.

    Args:
        limit: Most stores open at a time.
    """

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._open: OrderedDict[Path, ClipStore] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def __getstate__(self) -> dict[str, Any]:
        return {"_limit": self._limit, "_open": OrderedDict()}

    def find(self, path: Path) -> tuple[ClipStore, int] | None:
        """Store and frame index that a path names; None for a file of its own.

        Raises:
            MediaError: If the store cannot be opened or has no such frame.
        """
        address = split_address(path)
        if address is None:
            return None
        file, index = address
        store = self._open.pop(file, None) or ClipStore(file)
        self._open[file] = store
        while len(self._open) > self._limit:
            self._open.popitem(last=False)[1].close()
        if index >= len(store):
            expected = f"a frame from 0 to {len(store) - 1}"
            raise MediaError.at(file, f"has no frame {index}", expected, "correct the number")
        return store, index


def size_readers() -> tuple[SizeReader, SizeReader]:
    """Readers of the (height, width) of a frame and of a mask, from headers only.

    A store's frame is known to be there by them too.
    """
    stores = OpenStores()
    return partial(_size, stores, image_size), partial(_size, stores, mask_size)


def read_frame(path: Path) -> NDArray[np.uint8]:
    """Read a clip's frame, uint8 RGB (H, W, 3).

    Raises:
        MediaError: If it cannot be read.
    """
    found = OpenStores().find(path)
    return found[0].read_frames([found[1]])[0] if found else read_image(path)


def read_frame_mask(path: Path) -> NDArray[Any]:
    """Read a clip's semantic mask: a file as stored, a store's as bool (H, W).

    Raises:
        MediaError: If it cannot be read.
    """
    found = OpenStores().find(path)
    return found[0].read_masks([found[1]])[0] if found else read_mask(path)


@dataclass(frozen=True)
class _DecodedMask:
    """A mask file as a target, uint8 (H, W), with pixels to aim at, int64 (N, 2)."""

    target: NDArray[np.uint8]
    aims: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        return self.target.nbytes + self.aims.nbytes


class ClipFiles:
    """Reads parts of frames and masks, by their paths in a table of clips.

    Frames in files are decoded whole and kept while there is room; those met
    later are read anew each time, of a PNG only what the part needs. They do
    not take the place of others: frames are drawn at random, so that one is
    worth as much as another. Of a clip store only the tiles that a part meets
    are decoded, each time anew; of its masks the pixels to aim at are kept,
    for which a whole mask is read.

    Args:
        decoded: Where decoded files are kept.
        open_stores: Most clip stores open at a time.
    """

    def __init__(self, decoded: DecodedFiles, *, open_stores: int = 16) -> None:
        self._decoded = decoded
        self._stores = OpenStores(open_stores)

    def size(self, mask: Path, ignore_value: int | None = None) -> tuple[int, int]:
        """(height, width) of a mask; a file is decoded for it."""
        found = self._stores.find(mask)
        if found:
            return found[0].size
        height, width = self._mask(mask, ignore_value).target.shape
        return height, width

    def aims(self, mask: Path, ignore_value: int | None = None) -> NDArray[np.int64]:
        """(row, column) of pixels spread over a mask's objects, int64 (N, 2)."""
        found = self._stores.find(mask)
        if not found:
            return self._mask(mask, ignore_value).aims
        store, index = found
        return self._decoded.get(
            ("aims", mask), lambda: aims_of(target_of(store.read_masks([index])[0]))
        )

    def target(self, mask: Path, box: Box, ignore_value: int | None = None) -> NDArray[np.uint8]:
        """Part of a mask as a target, uint8 (height, width) of the box.

        Args:
            mask: A file, or a store's frame, whose ids have no "unknown".
            box: The part; mirrored where it reaches beyond the mask.
            ignore_value: A file's value for "unknown", if it has one.
        """
        found = self._stores.find(mask)
        if not found:
            return cut(self._mask(mask, ignore_value).target, box)
        store, index = found
        near = looked_at(box, store.size)
        return cut(target_of(store.read_masks([index], near)[0]), box.relative_to(near))

    def frame(self, image: Path, box: Box, *, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Part of a frame, uint8 (height, width, 3) of the box.

        Args:
            image: A file, or a store's frame.
            box: The part; mirrored where it reaches beyond the frame.
            size: (height, width) that the whole frame must have.

        Raises:
            MediaError: If it cannot be read or has another size.
        """
        found = self._stores.find(image)
        if not found:
            return self._of_file(image, box, size)
        store, index = found
        _check_size(image, store.size, size)
        near = looked_at(box, store.size)
        return cut(store.read_frames([index], near)[0], box.relative_to(near))

    def _of_file(self, image: Path, box: Box, size: tuple[int, int]) -> NDArray[np.uint8]:
        if self._decoded.keeps(image, size[0] * size[1] * 3):
            whole = self._decoded.get(image, partial(read_image, image))
        else:
            near = looked_at(box, size)
            part = read_png_window(image, near, size=size)
            if part is not None:
                return cut(part, box.relative_to(near))
            whole = read_image(image)
        _check_size(image, whole.shape[:2], size)
        return cut(whole, box)

    def _mask(self, path: Path, ignore_value: int | None) -> _DecodedMask:
        return self._decoded.get(
            ("mask", path, ignore_value), partial(_decode_mask, path, ignore_value)
        )


def _decode_mask(path: Path, ignore_value: int | None) -> _DecodedMask:
    target = target_of(read_mask(path), ignore_value)
    return _DecodedMask(target, aims_of(target))


def _size(stores: OpenStores, of_file: SizeReader, path: Path) -> tuple[int, int]:
    found = stores.find(path)
    return found[0].size if found else of_file(path)


def _check_size(path: Path, found: tuple[int, ...], expected: tuple[int, int]) -> None:
    if found != expected:
        raise MediaError.at(
            path,
            f"is {found[1]} x {found[0]} pixels",
            f"{expected[1]} x {expected[0]} as the mask of the clip's query",
            "give all frames of a clip one size",
        )

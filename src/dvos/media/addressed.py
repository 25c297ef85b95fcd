"""Reading frames and masks by the paths of a clip table: files, or frames of clip stores."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media.clip_store import ClipStore
from dvos.media.image import image_size, read_image
from dvos.media.intensity import folder_intensity
from dvos.media.mask import Mask, mask_size, read_mask
from dvos.tables import split_address


class OpenStores:
    """Reads by path; clip stores stay open, the least recently used is closed first.

    A copy in another process begins empty: that process opens its own. All
    methods raise a :class:`MediaError` if a store has no such frame.
    """

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._open: OrderedDict[Path, ClipStore] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def __getstate__(self) -> dict[str, Any]:
        return {"_limit": self._limit, "_open": OrderedDict()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def find(self, path: Path) -> tuple[ClipStore, int] | None:
        """Store and frame index that a path names; None for a file of its own."""
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

    def read_image(self, path: Path, intensity: str = "full") -> NDArray[np.uint8]:
        """A frame, uint8 RGB (H, W, 3); ``intensity`` as of :func:`read_image`."""
        found = self.find(path)
        return found[0].read_frames([found[1]])[0] if found else read_image(path, intensity)

    def read_mask(self, path: Path, void: str = "auto") -> Mask:
        """A mask as :func:`read_mask` gives it; of a store's frame its instance ids, uint16."""
        found = self.find(path)
        return found[0].read_instances([found[1]])[0] if found else read_mask(path, void)

    def image_size(self, path: Path) -> tuple[int, int]:
        """(height, width) of a frame, from the header only."""
        found = self.find(path)
        return found[0].size if found else image_size(path)

    def mask_size(self, path: Path) -> tuple[int, int]:
        """(height, width) of a mask, from the header only."""
        found = self.find(path)
        return found[0].size if found else mask_size(path)


def read_image_at(path: Path) -> NDArray[np.uint8]:
    """A frame to look at, uint8 RGB (H, W, 3), from a file or a store's address.

    Samples of more than 8 bit are measured over the images of its folder.
    """
    with OpenStores() as stores:
        return stores.read_image(path, folder_intensity(path))


def read_mask_at(path: Path, void: str = "auto") -> Mask:
    """A mask as :func:`read_mask` gives it, of a file; of a store's address its instance ids."""
    with OpenStores() as stores:
        return stores.read_mask(path, void)

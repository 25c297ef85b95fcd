"""Frames and masks that a clip table names: files of their own, or frames of a clip store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media.clip_store import ClipStore
from dvos.media.image import read_image
from dvos.media.mask import Mask, read_mask
from dvos.tables import split_address

__all__ = ["read_image_at", "read_mask_at"]


def read_image_at(path: Path) -> NDArray[np.uint8]:
    """A frame, uint8 RGB (H, W, 3), from a file or a store's address.

    Raises:
        MediaError: If it cannot be read or the store has no such frame.
    """
    address = split_address(path)
    if address is None:
        return read_image(path)
    with ClipStore(address[0]) as store:
        return np.asarray(store.read_frames([_inside(store, address[1])])[0])


def read_mask_at(path: Path) -> Mask:
    """A mask as stored, (H, W), from a file; of a store's address its instance ids.

    Raises:
        MediaError: As :func:`read_image_at`.
    """
    address = split_address(path)
    if address is None:
        return read_mask(path)
    with ClipStore(address[0]) as store:
        return np.asarray(store.read_instances([_inside(store, address[1])])[0])


def _inside(store: ClipStore, frame: int) -> int:
    if frame >= len(store):
        raise MediaError.at(
            store.path,
            f"has no frame {frame}",
            f"a frame from 0 to {len(store) - 1}",
            "correct the number",
        )
    return frame

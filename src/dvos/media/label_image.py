"""Label images: numbers of objects as they are, of 16 bit, or of 32 where there are more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.files import atomic_path, read_bytes
from dvos.media.image import write_image
from dvos.media.mask import stored_samples

#: The largest number of a PNG, and of a TIFF of 16 bit.
LARGEST_16 = 2**16 - 1
#: And of one of 32 bit.
LARGEST_32 = 2**31 - 1


def read_label_image(path: Path) -> NDArray[np.int32]:
    """Read the numbers of a label image; unlike in a mask, each value is a number or background.

    Returns:
        int32 (H, W), 0 background.

    Raises:
        MediaError: If it cannot be read, or holds anything but whole numbers of one channel.
    """
    path = Path(path)
    data = read_bytes(path, "a label image")
    array = stored_samples(data, path)
    if array.ndim == 3 and (array[..., 1:3] == array[..., :1]).all():
        array = array[..., 0]
    expected = f"whole numbers from 0 to {LARGEST_32}, one for each pixel"
    if array.ndim != 2 or array.dtype.kind not in "iub":
        raise MediaError.at(path, f"samples {array.shape} of type {array.dtype}", expected)
    if array.dtype.itemsize >= 4 or array.dtype.kind == "i":
        # In files of some programs -1 is the background.
        array = np.where(array == -1, 0, array)
        low, high = int(array.min(initial=0)), int(array.max(initial=0))
        if low < 0 or high > LARGEST_32:
            raise MediaError.at(path, f"values from {low} to {high}", expected, "renumber them")
    return array.astype(np.int32)


def write_label_image(path: Path, labels: NDArray[Any]) -> None:
    """Write numbers as they are: 16 bit to ``.png`` and ``.tif``, 32 bit to ``.tif`` where needed.

    Args:
        path: Ending ``.png`` or ``.tif``.
        labels: Whole numbers (H, W), 0 background.

    Raises:
        MediaError: If a number does not fit.
        OutputError: If the file cannot be written.
    """
    largest = int(labels.max(initial=0))
    if labels.min(initial=0) < 0 or largest > (LARGEST_32 if path.suffix == ".tif" else LARGEST_16):
        raise MediaError.at(path, f"the number {largest}", "numbers that the format can hold")
    if path.suffix != ".tif":
        write_image(path, labels.astype(np.uint16))
        return
    import tifffile

    stored = labels.astype(np.uint16 if largest <= LARGEST_16 else np.uint32)
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, stored, compression="zlib", software="", metadata=None)

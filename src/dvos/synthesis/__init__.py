"""Synthetic clips: moving cutouts over backgrounds, with their complete truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ids = NDArray[np.uint16]
Ints = NDArray[np.int64]
#: Boxes, and the number + 1 of the sprite that each pixel belongs to.
Ints32 = NDArray[np.int32]
#: Pixels and texels of four bytes each, see :mod:`dvos.synthesis.kernels.packed`.
Words = NDArray[np.uint32]
#: Height and width, px.
Size = tuple[int, int]

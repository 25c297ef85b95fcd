"""What a network's encoder sees in a frame, for those who judge beside its masks.

Importing this module loads no torch. Tensor letters: C channels, h and w the
grid of stride 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.prediction.tiles import Tile, tile_grid, tile_sides

if TYPE_CHECKING:
    from torch import Tensor

    from dvos.prediction.network import LoadedNetwork


#: Pixels of a frame for each step of the grid of features.
FEATURE_STRIDE = 4


@dataclass(frozen=True, eq=False)
class Piece:
    """Features of a part of a frame.

    Attributes:
        rows: Of the frame's grid (ceil(H / 4), ceil(W / 4)).
        columns: Likewise.
        values: float32 (C, rows, columns).
    """

    rows: slice
    columns: slice
    values: NDArray[np.float32]


class FeatureReader(Protocol):
    """Reads the features of single frames."""

    def pieces(self, image: NDArray[np.uint8]) -> Iterator[Piece]:
        """The features of a frame, piece after piece, without overlap or gap.

        Args:
            image: uint8 RGB (H, W, 3).
        """


class NetworkFeatures:
    """A :class:`FeatureReader` of a network with the method ``features``.

    That takes normalised frames (N, 3, H, W) and gives (N, C, ceil(H / 4),
    ceil(W / 4)). Each frame is seen at its own size and at half of it, where
    objects are seen in more of their surroundings; the channels of both follow
    each other.

    Args:
        loaded: The network.
        tile: As ``PredictorOptions.tile``.
    """

    def __init__(self, loaded: LoadedNetwork, tile: int = 0) -> None:
        self._loaded = loaded
        network = loaded.network
        prepared = network.for_inference() if hasattr(network, "for_inference") else network
        self._features = prepared.features
        self._tile, self._overlap = tile_sides(tile)

    def pieces(self, image: NDArray[np.uint8]) -> Iterator[Piece]:
        """The features of a frame, piece after piece, without overlap or gap.

        Args:
            image: uint8 RGB (H, W, 3).
        """
        size = (image.shape[0], image.shape[1])
        for tile in tile_grid(size, self._tile, self._overlap):
            part = image[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
            values = self._both_sizes(part)
            rows, columns = self._own_part(tile, size)
            top, left = tile.top // FEATURE_STRIDE, tile.left // FEATURE_STRIDE
            inner = values[
                :, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
            ]
            yield Piece(rows, columns, inner)

    def _own_part(self, tile: Tile, size: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the frame's grid that a tile answers for: half of each overlap."""

        def own(start: int, length: int, whole: int) -> slice:
            # Tiles and half their overlaps are multiples of the stride.
            end = start + length
            first = start + self._overlap // 2 if start else 0
            last = end - self._overlap // 2 if end < whole else end
            return slice(first // FEATURE_STRIDE, -(-last // FEATURE_STRIDE))

        return own(tile.top, tile.height, size[0]), own(tile.left, tile.width, size[1])

    def _both_sizes(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 (C, h, w) of uint8 RGB (H, W, 3)."""
        import torch
        import torch.nn.functional as F

        def encoded(pixels: NDArray[np.uint8]) -> Tensor:
            features: Tensor = self._features(self._loaded.normalised(pixels[None]))
            return features

        half_size = (-(-image.shape[1] // 2), -(-image.shape[0] // 2))
        small = np.asarray(cv2.resize(image, half_size, interpolation=cv2.INTER_AREA), np.uint8)
        with torch.inference_mode():
            whole, half = encoded(np.ascontiguousarray(image)), encoded(small)
            # Twice its grid is at most a step larger than that of the whole.
            doubled = F.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False)
            joined = torch.cat([whole, doubled[..., : whole.shape[-2], : whole.shape[-1]]], 1)
            return np.asarray(joined[0].float().cpu().numpy(), np.float32)

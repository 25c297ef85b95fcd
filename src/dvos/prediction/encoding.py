"""Features of frames by a network's encoder, at two sizes, in pieces.

Tensor letters: C channels, h and w the grid of stride 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dvos.prediction.features import FEATURE_STRIDE, Piece
from dvos.prediction.tiles import Tile, tile_grid

__all__ = ["NetworkFeatures", "OffersFeatures"]


class OffersFeatures(Protocol):
    """A network that shows what its encoder sees."""

    def features(self, frames: Tensor) -> Tensor:
        """(N, 3, H, W), normalised, to (N, C, ceil(H / 4), ceil(W / 4))."""


class NetworkFeatures:
    """Keeps to :class:`~dvos.prediction.features.FeatureReader`.

    Each frame is seen at its own size and at half of it, where objects are
    seen in more of their surroundings; the channels of both follow each other.

    Args:
        network: In evaluation mode, on ``device``.
        mean: Of each colour channel, 0..1, as the network was trained.
        std: As ``mean``.
        device: Where the network is.
        tile: Side of the tiles that larger frames are cut into, a multiple of
            32; 0 = whole frames.
        overlap: By how much tiles overlap, a multiple of 32.
    """

    def __init__(
        self,
        network: OffersFeatures,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        tile: int = 0,
        overlap: int = 0,
    ) -> None:
        self._network = network
        self._mean = torch.tensor(mean, dtype=torch.float32, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32, device=device).view(1, 3, 1, 1)
        self._device = device
        self._tile = tile
        self._overlap = overlap

    def pieces(self, image: NDArray[np.uint8]) -> Iterator[Piece]:
        """The features of a frame, piece after piece; see the protocol."""
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

    @torch.inference_mode()
    def _both_sizes(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 (C, h, w) of uint8 RGB (H, W, 3)."""
        whole = self._encoded(image)
        half_size = (-(-image.shape[1] // 2), -(-image.shape[0] // 2))
        half = self._encoded(
            np.asarray(cv2.resize(image, half_size, interpolation=cv2.INTER_AREA), np.uint8)
        )
        # Twice its grid is at most a step larger than that of the whole.
        doubled = F.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False)
        joined = torch.cat([whole, doubled[..., : whole.shape[-2], : whole.shape[-1]]], 1)
        return np.asarray(joined[0].float().cpu().numpy(), np.float32)

    def _encoded(self, image: NDArray[np.uint8]) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self._device)
        frame = pixels.permute(2, 0, 1)[None].float() / 255.0
        return self._network.features((frame - self._mean) / self._std)

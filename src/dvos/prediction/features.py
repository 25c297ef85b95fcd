"""What an encoder sees in a frame, for those who judge beside its masks: C channels, stride 4."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.config.prediction import PredictorOptions
from dvos.media.image import resized
from dvos.prediction.tiles import tile_grid, tile_sides

if TYPE_CHECKING:
    from dvos.prediction.network import LoadedNetwork

FEATURE_STRIDE = 4  # pixels of a frame for each step of the grid of features


class Piece(NamedTuple):
    """Features (C, rows, columns) of a part of a frame's grid (ceil(H / 4), ceil(W / 4))."""

    rows: slice
    columns: slice
    values: NDArray[np.float32]


class FeatureReader:
    """Reads the features of single frames from a network with the method ``features``.

    That takes normalised frames (N, 3, H, W) and gives (N, C, ceil(H / 4), ceil(W / 4)). Each frame
    is seen at the size that the network was trained at and at half of it, where objects are seen in
    more of their surroundings; the channels of both follow each other. ``tile`` is as in
    ``PredictorOptions``.
    """

    def __init__(self, loaded: "LoadedNetwork", tile: int = 0) -> None:
        self._loaded = loaded
        network = loaded.network
        prepare = getattr(network, "for_inference", lambda: network)
        self._features = prepare().features
        self.scale = loaded.at_own_scale(PredictorOptions()).scale  # of a frame's own size
        self._tile, self._overlap = tile_sides(round(tile / self.scale))

    def pieces(self, image: NDArray[np.uint8]) -> Iterator[Piece]:
        """The features of a frame, RGB (H, W, 3), piece after piece, without overlap or gap."""
        size = (image.shape[0], image.shape[1])
        for tile in tile_grid(size, self._tile, self._overlap):
            end = (tile.top + tile.height, tile.left + tile.width)
            values = self._both_sizes(image[tile.top : end[0], tile.left : end[1]])
            # Of each overlap a tile answers for half, in rows and columns of the frame's grid.
            rows, columns = (
                slice(
                    (start + self._overlap // 2 if start else 0) // FEATURE_STRIDE,
                    -(-(last - self._overlap // 2 if last < whole else last) // FEATURE_STRIDE),
                )
                for start, last, whole in zip((tile.top, tile.left), end, size, strict=True)
            )
            # Tiles and half their overlaps are multiples of the stride.
            top, left = tile.top // FEATURE_STRIDE, tile.left // FEATURE_STRIDE
            inner = values[
                :, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
            ]
            yield Piece(rows, columns, inner)

    def _both_sizes(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(C, h, w) of (H, W, 3)."""
        import torch
        import torch.nn.functional as F

        grid = [-(-side // FEATURE_STRIDE) for side in image.shape[:2]]
        image = resized(image, self.scale)
        half_size = (-(-image.shape[1] // 2), -(-image.shape[0] // 2))
        small = np.asarray(cv2.resize(image, half_size, interpolation=cv2.INTER_AREA), np.uint8)
        with torch.inference_mode():
            whole, half = (
                self._features(self._loaded.normalised(pixels[None]))
                for pixels in (np.ascontiguousarray(image), small)
            )
            # Twice its grid is at most a step larger than that of the whole.
            doubled = F.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False)
            joined = torch.cat([whole, doubled[..., : whole.shape[-2], : whole.shape[-1]]], 1)
            if self.scale != 1:
                shrinks = {"antialias": self.scale > 1, "align_corners": False}
                joined = F.interpolate(joined, grid, mode="bilinear", **shrinks)
            return np.asarray(joined[0].float().cpu().numpy(), np.float32)


def offers_features(network: object) -> bool:
    """Whether a network, or the class in its spec, shows what its encoder sees."""
    return hasattr(network, "features")

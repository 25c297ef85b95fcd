"""What a network's encoder sees in a frame, for judges beside its masks.

Importing this module loads no torch; :func:`load_features` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEATURE_STRIDE", "FeatureReader", "Piece", "load_features"]

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


def load_features(checkpoint: str | Path, device: str = "auto", *, tile: int = 0) -> FeatureReader:
    """Load a trained network as a reader of features.

    Args:
        checkpoint: ``best.safetensors`` of a training run.
        device: As for :func:`dvos.prediction.predictor.load_predictor`.
        tile: Likewise; a frame's features come in a piece for each tile.

    Raises:
        CheckpointError: If the file is missing or damaged, or holds a network
            that offers no features.
        UsageError: If the device does not exist.
    """
    from dvos.prediction.build import build_feature_reader

    return build_feature_reader(Path(checkpoint), device=device, tile=tile)

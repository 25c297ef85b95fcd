"""Cutting large frames into overlapping tiles, and joining them without seams."""

import numpy as np
from numpy.typing import NDArray

from dvos.training.augment.spatial import Box

#: Tiles begin at multiples of the coarsest stride of the networks: then the
#: network's own grid lies the same in a tile as in the whole frame.
_ALIGNMENT = 32
Tile = Box  # a part of a frame, in pixels


def tile_sides(tile: int) -> tuple[int, int]:
    """Side and overlap of the tiles that come nearest to the side asked for; 0 = no tiles."""

    def aligned(length: int) -> int:
        return -(-length // _ALIGNMENT) * _ALIGNMENT

    if not tile:
        return 0, 0
    # A tile of one step would leave no room for the overlap.
    side = max(aligned(tile), 2 * _ALIGNMENT)
    return side, aligned(side // 4)


def tile_grid(size: tuple[int, int], tile: int, overlap: int) -> list[Tile]:
    """Cover a frame (height, width) with tiles, 0 = one, row by row; the last may be smaller."""
    height, width = size
    if tile == 0:
        return [Tile(0, 0, height, width)]
    if tile % _ALIGNMENT or overlap % _ALIGNMENT or not 0 <= overlap < tile:
        raise ValueError(f"tile {tile} and overlap {overlap} must be multiples of {_ALIGNMENT}")
    return [
        Tile(top, left, min(tile, height - top), min(tile, width - left))
        for top in range(0, max(1, height - overlap), tile - overlap)
        for left in range(0, max(1, width - overlap), tile - overlap)
    ]


def tile_weight(tile: Tile, size: tuple[int, int], overlap: int) -> NDArray[np.float32]:
    """Weight of each pixel of a tile in the join, float32 (height, width), above 0.

    It falls from 1 to almost 0 over the overlap, but not at the frame's edge. The outermost eighth,
    which the network sees with too little context, hardly counts.
    """
    rows = _ramp(tile.height, tile.top > 0, tile.top + tile.height < size[0], overlap)
    columns = _ramp(tile.width, tile.left > 0, tile.left + tile.width < size[1], overlap)
    return np.outer(rows, columns)


def _ramp(length: int, inner_start: bool, inner_end: bool, overlap: int) -> NDArray[np.float32]:
    weight = np.ones(length, np.float64)
    if overlap:
        margin = overlap / 8
        distance = np.arange(length) + 0.5
        rise = np.clip((distance - margin) / (overlap - 2 * margin), 1e-6, 1.0)
        # Half a cosine: its slope ends in 0 on both sides, so no edge shows.
        rise = 0.5 - 0.5 * np.cos(np.pi * rise)
        if inner_start:
            weight *= rise
        if inner_end:
            weight *= rise[::-1]
    return np.maximum(weight, 1e-9).astype(np.float32)

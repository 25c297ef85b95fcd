"""Dense motion to the frame before, from the very maps that drew the frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvos.compiling import jit

__all__ = ["fill_flow"]

_ROUNDS = 24  # of the fixed point; a bending changes it by far less than half a round


@jit
def _displacement(
    grid: NDArray[np.float32], height: int, width: int, row: float, column: float
) -> tuple[float, float]:
    """Displacement in texels at texture coordinates, bilinear on 3 x 3 nodes."""
    gr = min(max(2 * row / (height - 1), 0.0), 2.0)
    gc = min(max(2 * column / (width - 1), 0.0), 2.0)
    i, j = min(int(gr), 1), min(int(gc), 1)
    gr, gc = gr - i, gc - j
    w00, w01, w10, w11 = (1 - gr) * (1 - gc), (1 - gr) * gc, gr * (1 - gc), gr * gc
    down = w00 * grid[i, j, 0] + w01 * grid[i, j + 1, 0]
    down += w10 * grid[i + 1, j, 0] + w11 * grid[i + 1, j + 1, 0]
    right = w00 * grid[i, j, 1] + w01 * grid[i, j + 1, 1]
    right += w10 * grid[i + 1, j, 1] + w11 * grid[i + 1, j + 1, 1]
    return down, right


@jit
def fill_flow(
    owner: NDArray[np.int32],
    top: int,
    left: int,
    texture: NDArray[np.int64],
    inverse: NDArray[np.float64],
    grid: NDArray[np.float32],
    before: NDArray[np.float64],
    grid_before: NDArray[np.float32],
    alive_before: NDArray[np.bool_],
    plate: NDArray[np.float64],
    plate_before: NDArray[np.float64],
    flow: NDArray[np.float32],
) -> None:
    """Fill the flow of a window.

    A sprite's pixel is taken to its texel by this frame's map and from there
    to the frame before by that frame's; a plate's pixel likewise.

    Args:
        owner: (h, w), sprite number + 1, 0 = plate.
        top: Frame row of the window's first row.
        left: Frame column of its first column.
        texture: Per sprite (N, 3): first texel, height, width.
        inverse: Per sprite (N, 2, 3): frame to texture, now.
        grid: Per sprite (N, 3, 3, 2): displacement in texels, now.
        before: Per sprite (N, 2, 3): texture to frame, one frame before.
        grid_before: As ``grid``, one frame before.
        alive_before: Per sprite (N,): whether it was there.
        plate: (2, 3): frame to plate, now.
        plate_before: (2, 3): plate to frame, one frame before.
        flow: Receives (h, w, 2): way in px (y, x) to the place in the frame
            before; NaN where the sprite was not there.
    """
    for y in range(owner.shape[0]):
        for x in range(owner.shape[1]):
            fy, fx = float(y + top), float(x + left)
            n = owner[y, x] - 1
            if n < 0:
                row = plate[0, 0] * fy + plate[0, 1] * fx + plate[0, 2]
                column = plate[1, 0] * fy + plate[1, 1] * fx + plate[1, 2]
                py = plate_before[0, 0] * row + plate_before[0, 1] * column + plate_before[0, 2]
                px = plate_before[1, 0] * row + plate_before[1, 1] * column + plate_before[1, 2]
            elif not alive_before[n]:
                py, px = np.nan, np.nan
            else:
                height, width = texture[n, 1], texture[n, 2]
                row = inverse[n, 0, 0] * fy + inverse[n, 0, 1] * fx + inverse[n, 0, 2]
                column = inverse[n, 1, 0] * fy + inverse[n, 1, 1] * fx + inverse[n, 1, 2]
                down, right = _displacement(grid[n], height, width, row, column)
                row += down
                column += right
                r, c = row, column
                for _ in range(_ROUNDS):
                    down, right = _displacement(grid_before[n], height, width, r, c)
                    r, c = row - down, column - right
                py = before[n, 0, 0] * r + before[n, 0, 1] * c + before[n, 0, 2]
                px = before[n, 1, 0] * r + before[n, 1, 1] * c + before[n, 1, 2]
            flow[y, x, 0] = py - fy
            flow[y, x, 1] = px - fx

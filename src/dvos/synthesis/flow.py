"""Dense flow of rendered frames to the frames before them, and its files.

Files are 16-bit PNG in the encoding of the KITTI benchmark (Menze and Geiger, CVPR 2015): red =
64 u + 2**15, green = 64 v + 2**15, u to the right and v down in px, blue = 1, or all 0 for unknown.
"""

from pathlib import Path

import cv2
import numpy as np

from dvos.compiling import jit
from dvos.errors import MediaError
from dvos.media.image import write_image
from dvos.synthesis import Bools, Floats, Ints, Ints32, Singles
from dvos.synthesis.scene import Poses, Scene

_STEPS = 64  # per px
_ZERO = 2**15


def write_flow(path: Path, flow: Singles) -> None:
    """Write a flow as :func:`read_flow` gives it: to 1/64 px, within 512 px either way."""
    steps = np.rint(flow[..., ::-1] * _STEPS) + _ZERO
    known = ((steps >= 0) & (steps <= 65535)).all(-1, keepdims=True)
    packed = np.concatenate([steps, np.ones_like(steps[..., :1])], -1)
    write_image(path, np.where(known, packed, 0).astype(np.uint16))


def read_flow(path: Path) -> Singles:
    """Motion float32 (H, W, 2) in y and x, px, as it was written; NaN where unknown."""
    try:
        bgr = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, cv2.error) as error:
        raise MediaError.at(path, f"cannot be read ({error})", "a flow PNG") from error
    if bgr is None or bgr.dtype != np.uint16 or bgr.ndim != 3 or bgr.shape[2] != 3:
        raise MediaError.at(path, "is no 16-bit RGB PNG", "a flow as dvos synthesize writes it")
    # OpenCV gives blue, green, red: known, v, u; what is wanted is (v, u).
    flow = (bgr[..., 1:].astype(np.float32) - _ZERO) / _STEPS
    flow[bgr[..., 0] == 0] = np.nan
    return np.asarray(flow)


_ROUNDS = 24  # of the fixed point; a bending changes it by far less than half a round


@jit
def _displacement(
    grid: Singles, height: int, width: int, row: float, column: float
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


def background_step(scene: Scene, frame: int) -> tuple[Floats, Floats]:
    """Maps (2, 3) from the frame to its background, and from the one before back to its frame."""
    maps = scene.background.maps
    back = np.linalg.inv(maps[frame - 1][:, :2])
    shift = -back @ maps[frame - 1][:, 2]
    return maps[frame], np.concatenate([back, shift[:, None]], 1)


@jit
def fill_flow(
    owner: Ints32,  # (h, w), sprite number + 1, 0 = background
    corner: tuple[int, int],  # row and column of the frame at which the window begins
    place: Ints,  # (N, 3): first texel, height, width of each sprite's texture
    poses: Poses,
    poses_before: Poses,  # one frame before each
    k: int,  # which of the poses
    alive_before: Bools,  # (N,): whether a sprite was there
    background_maps: tuple[Floats, Floats],  # see ``background_step``
    flow: Singles,  # receives (h, w, 2): way in px (y, x) to the place in the frame before
) -> None:
    """Fill the flow of a window; NaN where a sprite was not there before.

    A pixel goes to its texel, or the background's, by this frame's map and back by the other's.
    """
    inverse, grid = poses.inverse[k], poses.grid[k]
    before, grid_before = poses_before.forward[k], poses_before.grid[k]
    background, back = background_maps
    top, left = corner
    for y in range(owner.shape[0]):
        for x in range(owner.shape[1]):
            fy, fx = float(y + top), float(x + left)
            n = owner[y, x] - 1
            if n < 0:
                row = background[0, 0] * fy + background[0, 1] * fx + background[0, 2]
                column = background[1, 0] * fy + background[1, 1] * fx + background[1, 2]
                py = back[0, 0] * row + back[0, 1] * column + back[0, 2]
                px = back[1, 0] * row + back[1, 1] * column + back[1, 2]
            elif not alive_before[n]:
                py, px = np.nan, np.nan
            else:
                height, width = place[n, 1], place[n, 2]
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

"""Dense flow of rendered frames to the frames before them, and its files.

Files are 16-bit PNG in the encoding of the KITTI benchmark. Source: Menze and
Geiger, "Object Scene Flow for Autonomous Vehicles" (CVPR 2015), development
kit: red = 64 u + 2**15, green = 64 v + 2**15, u to the right and v down in px,
blue = 1 where the flow is known, else all three are 0.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media.image import write_image
from dvos.synthesis.atlas import Atlas
from dvos.synthesis.kernels.flow import fill_flow
from dvos.synthesis.poses import Poses, sprite_poses
from dvos.synthesis.scene import Scene

__all__ = ["FlowMaker", "read_flow", "write_flow"]

_STEPS = 64  # per px
_ZERO = 2**15


class FlowMaker:
    """Makes the flow of some frames of a scene.

    Args:
        scene: The scene.
        atlas: Its cutouts.
        frames: (F,) frame numbers.
        poses: Their poses.
        texture: int64 (N, 3), each sprite's texture.
    """

    def __init__(
        self,
        scene: Scene,
        atlas: Atlas,
        frames: NDArray[np.int64],
        poses: Poses,
        texture: NDArray[np.int64],
    ) -> None:
        self._scene = scene
        self._frames = frames
        self._poses = poses
        self._texture = texture
        self._before = sprite_poses(scene, atlas, np.maximum(frames - 1, 0))

    def fill(
        self, k: int, owner: NDArray[np.int32], corner: tuple[int, int], flow: NDArray[np.float32]
    ) -> None:
        """Fill ``flow`` (h, w, 2) of the k-th frame for a window at ``corner``.

        The first frame of a clip has none before it: NaN throughout.
        """
        frame = int(self._frames[k])
        if frame == 0:
            flow[:] = np.nan
            return
        maps = self._scene.plate.maps
        back = np.linalg.inv(maps[frame - 1][:, :2])
        shift = -back @ maps[frame - 1][:, 2]
        fill_flow(
            owner,
            corner[0],
            corner[1],
            self._texture,
            self._poses.inverse[k],
            self._poses.grid[k],
            self._before.forward[k],
            self._before.grid[k],
            self._scene.alive[frame - 1],
            maps[frame],
            np.concatenate([back, shift[:, None]], 1),
            flow,
        )


def write_flow(path: Path, flow: NDArray[np.float32]) -> None:
    """Write a flow; kept to 1/64 px, within 512 px either way.

    Args:
        path: Ending ``.png``.
        flow: float32 (H, W, 2), motion in y and x, px; NaN where unknown.
    """
    steps = np.rint(flow[..., ::-1] * _STEPS) + _ZERO
    known = ((steps >= 0) & (steps <= 65535)).all(-1, keepdims=True)
    packed = np.concatenate([steps, np.ones_like(steps[..., :1])], -1)
    write_image(path, np.where(known, packed, 0).astype(np.uint16))


def read_flow(path: Path) -> NDArray[np.float32]:
    """Read what :func:`write_flow` wrote.

    Returns:
        float32 (H, W, 2), motion in y and x, px; NaN where unknown.

    Raises:
        MediaError: If the file is missing or no 16-bit RGB PNG.
    """
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

"""Dense flow of rendered frames to the frames before them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvos.synthesis.atlas import Atlas
from dvos.synthesis.kernels.flow import fill_flow
from dvos.synthesis.poses import Poses, sprite_poses
from dvos.synthesis.scene import Scene

__all__ = ["FlowMaker"]


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

"""What ``benchmarks/xmem.py`` runs over: frames and a first mask."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["AnyScene", "ClipScene", "Scene"]


class AnyScene(Protocol):
    """A first mask (N, H, W), and frames by index."""

    mask: Tensor

    def frame(self, index: int) -> Tensor: ...


class Scene:
    """A blurred random field that drifts, and squares on it as first mask."""

    def __init__(self, height: int, width: int, objects: int) -> None:
        rng = np.random.default_rng(0)
        noise = rng.standard_normal((1, 3, height + 64, width + 64)).astype(np.float32)
        self._field = 3 * F.avg_pool2d(torch.from_numpy(noise), 5, 1, 2)[0]
        self._size = (height, width)
        ids = np.zeros((height, width), np.int64)
        # In a grid, so that every object is whole.
        columns = max(1, round((objects * width / height) ** 0.5))
        rows = -(-objects // columns)
        for index in range(objects):
            top, left = index // columns * height // rows, index % columns * width // columns
            side = max(4, min(height // rows, width // columns) * 2 // 3)
            ids[top : top + side, left : left + side] = index + 1
        self.mask = torch.from_numpy(ids == np.arange(1, objects + 1)[:, None, None]).float()

    def frame(self, index: int) -> Tensor:
        """(3, H, W); goes back and forth."""
        place = 63 - abs(index % 126 - 63)
        height, width = self._size
        return self._field[:, place : place + height, place // 2 : place // 2 + width].contiguous()


class ClipScene:
    """A clip and its first mask, the shorter side reduced to 384; goes back and forth."""

    def __init__(self, paths: str) -> None:
        import cv2

        from dvos.media.frames import open_frames
        from dvos.media.mask import read_mask
        from dvos.networks.xmem.network import XMEM_NORMALISATION

        frames, masks = paths.rsplit(":", 1)
        images = [frame.image for frame in open_frames(Path(frames))]
        height, width = images[0].shape[:2]
        factor = 384 / min(height, width)
        size = (round(width * factor), round(height * factor))
        mean, std = (
            np.array(values, np.float32)
            for values in (XMEM_NORMALISATION.mean, XMEM_NORMALISATION.std)
        )
        small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
        self._frames = [(image / np.float32(255) - mean) / std for image in small]
        first = read_mask(min(Path(masks).iterdir())) > 0
        mask = cv2.resize(first.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        self.mask = torch.from_numpy(mask).float()[None]

    def frame(self, index: int) -> Tensor:
        last = len(self._frames) - 1
        frame = self._frames[last - abs(index % (2 * last) - last)] if last else self._frames[0]
        return torch.from_numpy(frame).permute(2, 0, 1).contiguous()

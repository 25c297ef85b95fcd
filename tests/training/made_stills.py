"""Tiny labelled stills, clips and a clip maker that the tests of clip data share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.training.datasets import TrainingClips

DARK, BRIGHT = 30, 220


def blob_mask(height: int, width: int, *, seed: int = 0, blobs: int = 12) -> NDArray[np.bool_]:
    """A mask of ellipses at random places."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for _ in range(blobs):
        row, column = rng.uniform(0, height), rng.uniform(0, width)
        radii = rng.uniform(min(height, width) / 16, min(height, width) / 6, 2)
        mask |= ((y - row) / radii[0]) ** 2 + ((x - column) / radii[1]) ** 2 < 1
    return mask


def shown(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """An image in which every object pixel is bright and every other dark."""
    grey = np.where(mask, BRIGHT, DARK).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def agree(frame: NDArray[np.uint8], target: NDArray[np.uint8]) -> bool:
    """Whether a target says object just where its frame is more bright than dark.

    A pixel that is half and half may be either.
    """
    grey = frame[..., 0].astype(int)
    halves = np.abs(grey - (DARK + BRIGHT) // 2) <= 2
    return bool(((grey > (DARK + BRIGHT) // 2) == (target == 1))[~halves].all())


def write_stills(
    folder: Path, count: int, size: tuple[int, int] = (120, 160), *, blobs: int = 12
) -> Path:
    """Write ``images/`` and ``masks/`` of ``count`` stills."""
    for number in range(count):
        mask = blob_mask(*size, seed=number, blobs=blobs)
        write_image(folder / "images" / f"still_{number}.png", shown(mask))
        write_mask(folder / "masks" / f"still_{number}.png", mask)
    return folder


def write_clip(folder: Path, name: str, count: int, *, labelled: range | None = None) -> None:
    """Write ``NAME/frames`` and ``NAME/masks`` of a clip whose frame i has the grey 10 * i + 5."""
    size = (64, 80)
    for number in range(count):
        image = np.full((*size, 3), 10 * number + 5, np.uint8)
        write_image(folder / name / "frames" / f"{number:05d}.png", image)
    for number in labelled if labelled is not None else range(count):
        write_mask(folder / name / "masks" / f"{number:05d}.png", blob_mask(*size, seed=number))


@dataclass(frozen=True)
class MadeClip:
    frames: NDArray[np.uint8]
    instances: NDArray[np.uint16]


class BlobMaker:
    """A clip maker whose frames show the blobs of their number."""

    def make(
        self,
        clip_index: int,
        *,
        frames: int,
        size: tuple[int, int],
        times: Sequence[int] | None = None,
        scale: float = 1.0,
    ) -> MadeClip:
        assert times is None
        self.scale = scale
        mask = blob_mask(*size, seed=clip_index)
        clip = np.stack([shown(mask)] * frames)
        return MadeClip(clip, np.stack([mask.astype(np.uint16) * 7] * frames))


def digests(data: TrainingClips, indices: list[int]) -> list[str]:
    """Fingerprint of each clip; runs in another process too."""
    found = []
    for k in indices:
        item = data[k]
        shown = item["frames"].numpy().tobytes() + item["target"].numpy().tobytes()
        found.append(hashlib.blake2b(shown, digest_size=16).hexdigest())
    return found

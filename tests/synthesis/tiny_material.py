"""Makes tiny cutouts, distractors and backgrounds; settings with every effect on or off."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EFFECTS = ("walk", "wind", "elastic", "camera", "shadow", "light")
LENS = ("motion_blur", "defocus", "noise", "compression")

#: All effects, each at work in every clip.
ALL_ON: dict[str, Any] = {
    "appearance": {"size": None, "scale": [0.5, 1.4]},
    "walk": {"enabled": True, "step": [0, 2]},
    "elastic": {"probability": 0.6},
    "camera": {"drift": [2, 4], "zoom": [0.003, 0.004], "roll": [0.2, 0.3]},
    "shadow": {"strength": [0.3, 0.5]},
    "motion_blur": {"shutter": [0.4, 0.6]},
    "defocus": {"probability": 1.0},
    "noise": {"read": [1, 2]},
    "compression": {"probability": 1.0},
}

#: Nothing moves, nothing is photographed: cutouts as they are on backgrounds as they are.
ALL_OFF: dict[str, Any] = {
    **{name: {"enabled": False} for name in (*EFFECTS, *LENS)},
    "appearance": {
        "size": None,
        "scale": [1, 1],
        "rotation": [0, 0],
        "flip_horizontal": 0,
        "hue": [0, 0],
        "saturation": [1, 1],
        "gain": [1, 1],
        "harmonise": [0, 0],
        "feather": [1, 1],
        "shrink": [0, 0],
    },
    "plates": {"scale": [1, 1], "flip": False, "pan": [0, 0], "zoom": [0, 0]},
}


def texture(rng: np.random.Generator, size: tuple[int, int], mean: float = 128) -> np.ndarray:
    """A smooth random colour image."""
    import cv2

    coarse = rng.normal(mean, 40, (size[0] // 6 + 2, size[1] // 6 + 2, 3)).clip(0, 255)
    return cv2.resize(coarse.astype(np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)


def ellipse_cutout(rng: np.random.Generator, height: int, width: int, mean: float) -> np.ndarray:
    """An RGBA ellipse that fills its box."""
    y, x = np.mgrid[:height, :width]
    inside = ((y + 0.5) / height * 2 - 1) ** 2 + ((x + 0.5) / width * 2 - 1) ** 2 <= 1
    return np.dstack([texture(rng, (height, width), mean), inside * np.uint8(255)])


def write_table(path: Path, images: list[Path]) -> Path:
    path.write_text("Image\n" + "".join(f"{image}\n" for image in images))
    return path


@dataclass(frozen=True)
class Material:
    """Tables on disk."""

    folder: Path
    cutouts: Path
    distractors: Path
    stills: Path
    video: Path

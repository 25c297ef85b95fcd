"""Pictures of a score: the frame, its truth and its prediction side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media.addressed import read_image_at, read_mask_at
from dvos.media.image import write_image
from dvos.media.mask import read_mask
from dvos.media.overlay import overlay
from dvos.media.video import VideoFile
from dvos.scoring.frames import video_of, videos_by_clip
from dvos.scoring.match import Pair

__all__ = ["write_pictures"]

#: Longer side of each panel; enough to judge by, small enough for a report.
_PANEL = 768
_GAP = 6


def write_pictures(chosen: Mapping[Path, Pair], images: Path | None) -> None:
    """Write a picture for each chosen pair: frame, truth and prediction, left to right.

    The frame is the pair's own image, else the frame of its name in a video,
    else black.

    Args:
        chosen: The pair by the picture's path.
        images: A video file, or a folder that may hold one for each clip.

    Raises:
        MediaError: If a file cannot be read or a frame has another size.
        OutputError: If a picture cannot be written.
    """
    videos = videos_by_clip(images)
    wanted: dict[Path, dict[str, list[tuple[Path, Pair]]]] = {}
    for path, pair in chosen.items():
        video = video_of(pair.clip, videos)
        if pair.image is not None:
            _write(path, pair, read_image_at(pair.image), where=pair.image)
        elif video is not None:
            wanted.setdefault(video, {}).setdefault(pair.name, []).append((path, pair))
        else:
            _write(path, pair, None, where=pair.truth)
    for video, names in wanted.items():
        for frame in VideoFile(video):
            for path, pair in names.pop(frame.name, []):
                _write(path, pair, frame.image, where=video)
            if not names:
                break
        for path, pair in (entry for entries in names.values() for entry in entries):
            _write(path, pair, None, where=video)


def _write(path: Path, pair: Pair, image: NDArray[np.uint8] | None, *, where: Path) -> None:
    true = read_mask_at(pair.truth) > 0
    found = read_mask(pair.prediction) > 0 if pair.prediction else np.zeros_like(true)
    frame = np.zeros((*true.shape, 3), np.uint8) if image is None else image
    if frame.shape[:2] != true.shape:
        raise MediaError.at(
            where,
            f"frame {pair.name} is {frame.shape[1]} x {frame.shape[0]} pixels",
            f"{true.shape[1]} x {true.shape[0]}, as its mask {pair.truth}",
            "the scores are complete; give the right frames for the pictures",
        )
    panels = [_shrunk(panel) for panel in (frame, overlay(frame, true), overlay(frame, found))]
    gap = np.full((panels[0].shape[0], _GAP, 3), 255, np.uint8)
    write_image(path, np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1))


def _shrunk(panel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = panel.shape[:2]
    factor = _PANEL / max(height, width)
    if factor >= 1:
        return panel
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(panel, size, interpolation=cv2.INTER_AREA), np.uint8)

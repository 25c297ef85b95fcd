"""Finds the frames that were scored, where the table of scores gives only their names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dvos.media.layout import IMAGE_SUFFIXES, VIDEO_SUFFIXES, list_files

__all__ = ["FrameIndex", "VideoPlace"]

#: Frames of a video are named by its stem and their index.
_FRAME_NAME = re.compile(r"(.+)_(\d{6,})")


@dataclass(frozen=True)
class VideoPlace:
    """A frame inside a video file; ``frame_index`` counts from 0."""

    video: Path
    frame_index: int


class FrameIndex:
    """Images and videos by the names of their frames.

    Args:
        place: A video, or a folder of videos and images; None or a place that
            does not exist knows no frames.
    """

    def __init__(self, place: Path | None) -> None:
        self._images: dict[str, Path] = {}
        self._videos: dict[str, Path] = {}
        if place is None or not place.exists():
            return
        suffixes = IMAGE_SUFFIXES | VIDEO_SUFFIXES
        for path in list_files(place, suffixes) if place.is_dir() else [place]:
            if path.suffix.lower() in IMAGE_SUFFIXES:
                self._images[path.stem] = path
            elif path.suffix.lower() in VIDEO_SUFFIXES:
                self._videos[path.stem] = path

    def find(self, name: str) -> Path | VideoPlace | None:
        """Where the frame of that name is; None where it is not known."""
        if name in self._images:
            return self._images[name]
        match = _FRAME_NAME.fullmatch(name)
        if match and match[1] in self._videos:
            return VideoPlace(self._videos[match[1]], int(match[2]))
        return None

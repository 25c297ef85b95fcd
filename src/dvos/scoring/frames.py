"""The videos that hold the frames of scored masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dvos.media.layout import VIDEO_SUFFIXES, list_files

__all__ = ["video_of", "videos_by_clip"]


def videos_by_clip(images: Path | None) -> dict[str, Path]:
    """Video files by the name of their clip, of a file or a folder; may be none."""
    if images is None:
        return {}
    if images.is_dir():
        return {path.stem: path for path in list_files(images, VIDEO_SUFFIXES)}
    return {images.stem: images} if images.suffix.lower() in VIDEO_SUFFIXES else {}


def video_of(clip: str, videos: Mapping[str, Path]) -> Path | None:
    """The video of a clip: the one of its name, or the only one there is."""
    only = next(iter(videos.values())) if len(videos) == 1 else None
    return videos.get(clip, only)

"""Which clips lie in a folder that is to be segmented, by the names in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dvos.errors import MediaError
from dvos.files import composed, real_path, stem_of
from dvos.media import layout
from dvos.media.layout import inner_folder, list_files, list_folders, list_images
from dvos.tables import STORE_SUFFIX


@dataclass(frozen=True)
class ClipPlace:
    """Where the frames of a clip lie."""

    name: str
    path: Path
    kind: Literal["folder", "video", "store"]


def find_clip_places(folder: Path) -> list[ClipPlace]:
    """Find the clips of a folder, in natural order.

    It holds frames; or clips of any kind side by side: videos, clip stores, and folders, each of
    frames (in itself or in its own ``Frames``) or of videos or clip stores; or, inside a folder
    ``frames``, clips each a folder of frames. Beside a video no folder is a clip that bears its
    name or is named after masks or frames: that is what was made of it. A MediaError if it holds
    nothing of that, or images and videos or clip stores.
    """
    images, files = list_images(folder), _lone_clips(folder)
    if images and files:
        counts = Counter("videos" if place.kind == "video" else "clip stores" for place in files)
        held = [f"{len(images)} images", *(f"{count} {kind}" for kind, count in counts.items())]
        found = f"holds {' and '.join(held)}"
        raise MediaError.at(folder, found, "one kind", "move the others elsewhere")
    if images:
        return [ClipPlace(clip_name(folder), folder, "folder")]
    inner = None if files else inner_folder(folder, "frames")
    if inner is not None and list_images(inner):
        return [ClipPlace(clip_name(inner), inner, "folder")]
    names = {place.name for place in files}
    clips = list(files)
    for sub in list_folders(inner or folder):
        place = sub if list_images(sub) else inner_folder(sub, "frames")
        made = composed(sub.name) in names or sub.name.lower() == "frames" or is_of_masks(sub)
        if place is not None and list_images(place):
            if not (files and made):
                clips.append(ClipPlace(composed(sub.name), place, "folder"))
        elif not made and inner is None and not (sub / ".progress").exists():
            clips += _lone_clips(sub)
    if not clips:
        found = "holds no frame, no video, no clip store and no folder of frames"
        raise MediaError.at(folder, found, "one of these", "point INPUT at them")
    top = inner or folder
    return sorted(clips, key=lambda clip: layout.natural_key(clip.path.relative_to(top).parts[0]))


def _lone_clips(folder: Path) -> list[ClipPlace]:
    """The clips of a folder that are one file each."""
    videos = list_files(folder, layout.VIDEO_SUFFIXES)
    stores = list_files(folder, {STORE_SUFFIX})
    found = [ClipPlace(stem_of(path), path, "video") for path in videos]
    return found + [ClipPlace(stem_of(path), path, "store") for path in stores]


def is_of_masks(folder: Path) -> bool:
    """Whether a folder's name says that it holds masks, not frames."""
    return "mask" in folder.name.lower()


def clip_name(folder: Path) -> str:
    """Name of the clip whose frames lie in a folder; of the one around it for ``frames``."""
    folder = real_path(folder)
    return composed(folder.parent.name if folder.name.lower() == "frames" else folder.name)

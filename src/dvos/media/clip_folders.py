"""Labelled clips that are folders: frames, and masks that find theirs by name."""

import logging
from dataclasses import dataclass
from pathlib import Path

from dvos.errors import FaultCollector, MediaError
from dvos.files import absent, composed, stem_of
from dvos.media.layout import (
    MASK_SUFFIXES,
    check_stems,
    frame_name,
    inner_folder,
    list_files,
    list_folders,
    list_images,
    tell_lone,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderClip:
    """A clip of a folder: its frames that are there, by their place in natural order, and masks."""

    name: str
    frames: dict[int, Path]
    masks: dict[int, Path]


def clips_of_folder(root: Path) -> list[FolderClip]:
    """Find the labelled clips under a folder, by name; each has a mask.

    Layouts: ``root/frames/CLIP/*`` with ``root/masks/CLIP/*`` (both also in ``root/training``, as
    the published training has it), ``root/CLIP/frames/*`` with ``root/CLIP/masks/*``, or one clip,
    ``root/frames/*`` with ``root/masks/*``; upper case will do, too. A MediaError if there is none
    of these, with a fault for each mask without frame, missing mask, clip without masks or frames.
    """
    if not root.is_dir():
        found = "is a file" if root.exists() else "no such folder"
        remedy = "give tables as data.clips.tables" if root.exists() else "check the path"
        raise MediaError.at(root, found, "a folder of clips", remedy)
    if list_folders(root / "training" / "frames"):
        root = root / "training"
    frames, masks = (inner_folder(root, name) or root / name for name in ("frames", "masks"))
    if frames.is_dir() and masks.is_dir():
        own = {composed(folder.name): folder for folder in list_folders(frames)}
        masked = {composed(folder.name): folder for folder in list_folders(masks)}
        # A folder of masks without one of frames is a clip that lost them.
        lone = [name for name, one in masked.items() if own and list_files(one, MASK_SUFFIXES)]
        places = [
            (name, own.get(name, frames / name), masked.get(name, masks / name))
            for name in sorted({*own, *lone})
        ] or [(root.name, frames, masks)]
    else:
        both = {
            x: [inner_folder(x, name) for name in ("frames", "masks")] for x in list_folders(root)
        }
        places = [
            (composed(one.name), own or one / "frames", masked or one / "masks")
            for one, (own, masked) in sorted(both.items())
            if own or masked
        ]
    if not places:
        layouts = "frames/CLIP and masks/CLIP, CLIP/frames and CLIP/masks, or frames and masks"
        table = root / "clips.csv"  # as beside clip stores
        remedy = f"give {table} as data.clips.tables" if table.is_file() else ""
        raise MediaError.at(root, "holds no clips", layouts, remedy)
    with FaultCollector(MediaError) as faults:
        return [_folder_clip(*place, faults) for place in places]


def _folder_clip(name: str, frames: Path, folder: Path, faults: FaultCollector) -> FolderClip:
    images = faults.collect(list_images, frames) or []
    ids: dict[str, int] = {}
    present: dict[int, Path] = {}
    for frame_id, image in enumerate(images):
        stem = stem_of(image)
        ids[stem] = ids[stem.replace("_frame-", "_mask-")] = frame_id
        if image.is_file():
            present[frame_id] = image
        else:
            _log.warning("%s: %s; the clip has a gap there", image, absent(image))
    masks = sorted(list_files(folder, MASK_SUFFIXES))
    if images:
        faults.collect(check_stems, images, {frame_name(stem_of(mask)) for mask in masks})
        tell_lone(masks, ids, "frame", frames, faults)
    labelled = {ids[stem_of(mask)]: mask for mask in masks if stem_of(mask) in ids}
    for frame_id, mask in labelled.items():
        if not mask.is_file():
            faults.add(mask, absent(mask), "a mask file")
        elif frame_id not in present:
            faults.add(mask, f"its frame {absent(images[frame_id])}")
    if not masks:
        faults.add(folder, f"no masks for the frames in {frames}", "at least one")
    return FolderClip(name, present, dict(sorted(labelled.items())))

"""Finding the labelled stills and clips that settings name, all faults at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from dvos.errors import FaultCollector, Gathered, MediaError
from dvos.media.image import image_size
from dvos.media.layout import MASK_SUFFIXES, list_images
from dvos.media.mask import mask_size
from dvos.tables import read_clips, read_images, read_stills
from dvos.training.clip_files import size_readers
from dvos.training.stills import LabelledStill
from dvos.training.tabled import FrameClip, clips_of_folder, clips_of_rows

__all__ = ["find_clips", "find_empty", "find_stills", "hold_back"]

_MASK_FOLDERS = ("masks", "head_mask")

T = TypeVar("T")


def find_stills(
    tables: Iterable[Path],
    folders: Iterable[Path],
    *,
    ignore_value: int | None = None,
    scale: float = 1.0,
) -> list[LabelledStill]:
    """List the labelled stills of tables and folders, in order.

    Args:
        tables: CSV tables with the columns Image and Mask; others are passed over.
        folders: Folders with ``images`` and ``masks`` (or ``head_mask``).
        ignore_value: The masks' value for "unknown".
        scale: Stills are resized by this when they are read.

    Raises:
        MediaError: One fault for each photo or mask that is missing, cannot
            be read or has another size than its partner.
        TableError: If tables, but no folders, are at fault.
    """
    with Gathered() as gathered:
        pairs: list[tuple[Path, Path]] = []
        for table in tables:
            with gathered:
                pairs += [(row.image, row.mask) for row in read_stills(table)]
        for folder in folders:
            with gathered:
                pairs += _pairs_of_folder(folder)
        for image, mask in pairs:
            with gathered:
                _check_sizes(image, mask)
    return [LabelledStill(image, mask, ignore_value, scale) for image, mask in pairs]


def find_clips(
    tables: Iterable[Path], folders: Iterable[Path], *, ignore_value: int | None = None
) -> list[FrameClip]:
    """List the labelled clips of tables and folders, in order.

    Raises:
        DvosError: One fault for each row, mask or folder at fault.
    """
    clips: list[FrameClip] = []
    with Gathered() as gathered:
        for table in tables:
            with gathered:
                rows = read_clips(table, *size_readers())
                found = clips_of_rows(rows, ignore_value)
                if not found:
                    raise MediaError.at(
                        table, "has no query", "a row with Label 1", "label a frame of each clip"
                    )
                clips += found
        for folder in folders:
            with gathered:
                clips += clips_of_folder(folder, ignore_value)
    return clips


def find_empty(tables: Iterable[Path], folders: Iterable[Path]) -> list[LabelledStill]:
    """List photos without objects.

    Raises:
        DvosError: One fault for each table or folder at fault.
    """
    images: list[Path] = []
    with Gathered() as gathered:
        for table in tables:
            with gathered:
                images += [row.image for row in read_images(table)]
        for folder in folders:
            with gathered:
                listed = list_images(folder)
                if not listed:
                    raise MediaError.at(folder, "holds no images", "photos without objects")
                images += listed
    return [LabelledStill(image, None) for image in images]


def hold_back(items: Sequence[T], names: Sequence[str], share: float) -> tuple[list[T], list[T]]:
    """Part items into those for training and those held back for validation.

    Which are held back depends on their names alone, not on their order, a
    seed or a path, so that runs on one set are judged by the same items.

    Args:
        items: What is parted.
        names: The name of each.
        share: Share held back; at least one is if it is positive. Fewer than
            four items are not parted: each is worth more in training.

    Returns:
        (training, held back), both in the order given.
    """
    if share <= 0 or len(items) < 4:
        return list(items), []
    count = min(len(items) - 1, max(1, round(share * len(items))))
    order = sorted(range(len(items)), key=lambda number: (_name_hash(names[number]), number))
    held = set(order[:count])
    parts: tuple[list[T], list[T]] = ([], [])
    for number, item in enumerate(items):
        parts[number in held].append(item)
    return parts


def _name_hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def _pairs_of_folder(folder: Path) -> list[tuple[Path, Path]]:
    masks_in = next((folder / name for name in _MASK_FOLDERS if (folder / name).is_dir()), None)
    if masks_in is None:
        raise MediaError.at(
            folder,
            "has no folder masks (or head_mask)" if folder.is_dir() else "no such folder",
            "a folder with images and masks",
        )
    masks: dict[str, Path] = {}
    with FaultCollector(MediaError) as faults:
        for path in sorted(masks_in.iterdir()):
            if path.suffix.lower() not in MASK_SUFFIXES or path.name.startswith("."):
                continue
            if path.stem in masks:
                faults.add(path, f"the still has a mask already, {masks[path.stem].name}")
            masks[path.stem] = path
        images = list_images(folder / "images")
        for image in images:
            if image.stem not in masks:
                faults.add(image, f"no mask of that name in {masks_in}", "", "add it or remove it")
        stems = {image.stem for image in images}
        for stem, mask in masks.items():
            if stem not in stems:
                faults.add(mask, f"no photo of that name in {folder / 'images'}")
        if not images:
            faults.add(folder / "images", "holds no images", "labelled photos")
    return [(image, masks[image.stem]) for image in images]


def _check_sizes(image: Path, mask: Path) -> None:
    size, of_mask = image_size(image), mask_size(mask)
    if size != of_mask:
        raise MediaError.at(
            mask,
            f"is {of_mask[1]} x {of_mask[0]} pixels",
            f"{size[1]} x {size[0]} as {image}",
            "give each photo the mask that was drawn on it",
        )

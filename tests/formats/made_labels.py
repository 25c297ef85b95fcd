"""Small labelled pictures in which everything lies that formats lose: shared by the tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from dvos.formats.known import open_source
from dvos.formats.labels import LabelledSource, Picture, label_objects
from dvos.formats.sheets import sheets
from dvos.media.image import write_image

SIZE = (40, 60)


def hard_labels() -> np.ndarray:
    """Ring with an object inside, touching objects, parts, 1 and 2 pixels, noise, a thin line."""
    labels = np.zeros(SIZE, np.int32)
    labels[5:20, 5:20] = 1
    labels[8:12, 8:12] = 0
    labels[9:11, 9:11] = 2
    labels[5:20, 20:30] = 3
    labels[30:35, 5:10] = labels[30:35, 20:25] = 4
    labels[38, 50] = 5
    labels[0, 58:60] = 6
    labels[25:30, 40:50] = np.where(np.random.default_rng(0).random((5, 10)) > 0.5, 7, 0)
    labels[39, :20] = 9
    return labels


def write_photo(path: Path, size: tuple[int, int] = SIZE) -> Path:
    pixels = np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8)
    write_image(path, pixels)
    return path


def made_source(
    folder: Path, labels: Mapping[str, np.ndarray], *, video: str = "", label: str = "wheat"
) -> LabelledSource:
    """Pictures with these label images by name; -1 is unknown."""
    pictures = []
    for number, (name, ids) in enumerate(labels.items()):
        path = folder / name
        if not path.exists():
            write_photo(path, ids.shape)

        def objects(ids: np.ndarray = ids) -> list:
            known = [replace(one, label=label) for one in label_objects(ids)]
            unknown = label_objects((ids < 0).astype(np.int32), unknown=1)
            return known + unknown

        pictures.append(
            Picture(name, ids.shape, objects, path, video=video, frame=number if video else 0)
        )
    return LabelledSource(folder, "coco", pictures)


def labels_of(source: LabelledSource) -> dict[str, np.ndarray]:
    """The label image of each picture by its name, -1 unknown."""
    return {sheet.picture.name: sheet.labels(-1) for sheet in sheets(source, 2**31 - 1)}


def read_labels(path: Path, **options: object) -> dict[str, np.ndarray]:
    return labels_of(open_source(path, **options))


def same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two label images show the same objects, whatever their numbers."""
    pairs = set(zip(first.ravel().tolist(), second.ravel().tolist(), strict=True))
    return len({a for a, _ in pairs}) == len(pairs) == len({b for _, b in pairs})

"""Label images as napari, ImageJ and Cellpose write them, beside the pictures they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.files import stem_of
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, label_objects
from dvos.formats.reading import Format, Reading
from dvos.formats.sheets import sheets
from dvos.media.label_image import LARGEST_32, read_label_image, write_label_image
from dvos.media.layout import MASK_SUFFIXES, inner_folder, list_files
from dvos.media.mask import mask_size

#: How names of label images end where they lie beside their pictures.
_ENDINGS = ("_cp_masks", "_masks", "_mask", "_labels", "_label", "-labels", "-label", "_seg")
_SUFFIXES = (*sorted(MASK_SUFFIXES), ".npy")


def _matches(path: Path, _: Any) -> bool:
    return bool(_files(path))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() in _SUFFIXES else []
    inner = inner_folder(path, "labels")
    if inner is not None and (files := list_files(inner, _SUFFIXES)):
        return files
    return [file for file in list_files(path, _SUFFIXES) if _stem(file) != stem_of(file)]


def _stem(path: Path) -> str:
    stem = stem_of(path)
    return next((stem.removesuffix(end) for end in _ENDINGS if stem.endswith(end)), stem)


def _read(path: Path, _: Any, reading: Reading) -> Iterator[Picture]:
    for file in _files(path):
        labels, stem = partial(_labels, file), _stem(file)
        height, width = mask_size(file) if file.suffix != ".npy" else labels().shape
        others = [one for one in reading.files.get(stem, []) if one != file]
        picture = reading.find(stem, file) if others else None
        size = reading.size(picture, (height, width), str(file))
        name = picture.name if picture else f"{stem}.png"
        yield Picture(name, size, partial(_objects, labels, reading), picture)


def _labels(file: Path) -> NDArray[np.int32]:
    if file.suffix != ".npy":
        return read_label_image(file)
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        found = f"cannot be read without running what is in it ({error})"
        remedy = "save the masks as PNG or TIFF from Cellpose (Ctrl+N), and give those"
        raise MediaError.at(file, found, "plain numbers", remedy) from error
    if array.ndim != 2 or array.dtype.kind not in "iu" or array.max(initial=0) > LARGEST_32:
        raise MediaError.at(file, f"samples {array.shape} of type {array.dtype}", "ids (H, W)")
    labels: NDArray[np.int32] = np.maximum(array, 0).astype(np.int32)
    return labels


def _objects(labels: Callable[[], NDArray[np.int32]], reading: Reading) -> list[LabelledObject]:
    array = labels()
    objects = label_objects(array)
    if len(objects) == 1 and cv2.connectedComponents((array > 0).view(np.uint8))[0] > 2:
        reading.notes.add("label images whose separate objects share one id", labels)
    return objects


def _write(source: LabelledSource, out: Path) -> None:
    for sheet in sheets(source, LARGEST_32):
        if sheet.picture.labelled:
            write_label_image(out / sheet.video / f"{sheet.name}_masks.tif", sheet.labels())


#: ``NAME_masks.tif`` is written, of a video ``VIDEO/NAME_masks.tif``; 32 bit where needed.
FORMAT = Format("labels", "label images", _matches, _read, write=_write)

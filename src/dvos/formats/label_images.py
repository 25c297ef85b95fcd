"""Images whose values are ids: label images (napari, Cellpose), Pascal VOC, DAVIS, YouTube-VOS."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dvos.errors import MediaError, check_size
from dvos.files import atomic_path, stem_of, write_text
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, label_objects
from dvos.formats.reading import Format, Reading, load_document, stem_without
from dvos.formats.sheets import labelled, sheets
from dvos.media.layout import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    check_stems,
    inner_folder,
    list_files,
    list_folders,
)
from dvos.media.mask import LARGEST_32, mask_size, read_label_image, write_label_image

#: How names of label images end where they lie beside their pictures.
_ENDINGS = ("_cp_masks", "_masks", "_mask", "_labels", "_label", "-labels", "-label", "_seg")
_SUFFIXES = (*sorted(MASK_SUFFIXES), ".npy")
#: In a palette, value of borders and of what is not judged, and the most objects beside it.
_VOID, _MOST = 255, 254
#: The classes of Pascal VOC by value, from 1.
_VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
_OBJECTS, _CLASSES, _PHOTOS = "SegmentationObject", "SegmentationClass", "JPEGImages"
_SEMI = "Annotations"


def _files(path: Path, _: Any = None) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() in _SUFFIXES else []
    inner = inner_folder(path, "labels")
    if inner is not None and (files := list_files(inner, _SUFFIXES)):
        return files
    for folders in ([path], list_folders(path)):
        files = [one for folder in folders for one in list_files(folder, _SUFFIXES)]
        if found := [one for one in files if stem_without(one, _ENDINGS) != stem_of(one)]:
            return found
    return []


def _read(path: Path, _: Any, reading: Reading) -> Iterator[Picture]:
    folders = set(list_folders(path))
    taken: dict[object, Callable[[], NDArray[np.int32]]] = {}
    for file in _files(path):
        labels, stem = partial(_labels, file), stem_without(file, _ENDINGS)
        # Such as the frames of videos are written, each in its folder.
        name = f"{file.parent.name}/{stem}" if file.parent in folders else stem
        height, width = mask_size(file) if file.suffix != ".npy" else labels().shape
        others = [one for one in reading.files.get(stem, []) if one != file]
        picture = reading.find(name, file) if others else None
        size = reading.size(picture, (height, width), file)
        known = picture or f"{path} {name}"
        first = taken.setdefault(known, labels)
        if first is not labels and np.array_equal(first(), labels()):
            reading.notes.add("label images of a picture that has an equal one, left out", file)
            continue
        reading.once(file, known)
        name += picture.suffix if picture else ".png"
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
    return np.asarray(np.maximum(array, 0), np.int32)


def _objects(labels: Callable[[], NDArray[np.int32]], reading: Reading) -> list[LabelledObject]:
    array = labels()
    objects = label_objects(array)
    if len(objects) == 1 and cv2.connectedComponents((array > 0).view(np.uint8))[0] > 2:
        reading.notes.add("label images whose separate objects share one id", labels)
    return objects


def _write(source: LabelledSource, out: Path) -> None:
    for sheet in labelled(sheets(source, LARGEST_32)):
        write_label_image(out / sheet.video / f"{sheet.name}_masks.tif", sheet.labels())


def _voc_folders(path: Path, _: Any) -> bool:
    return any((path / name).is_dir() for name in (_OBJECTS, _CLASSES))


def _by_stem(
    folder: Path, suffixes: Collection[str] = (".png",), masks: Collection[str] | None = None
) -> dict[str, Path]:
    """The files of a folder by stem; a MediaError if two have one, of which a mask may be."""
    files = list_files(folder, suffixes)
    found = {stem_of(one): one for one in files}
    check_stems(files, found if masks is None else masks)
    return found


def _read_voc(path: Path, _: Any, reading: Reading) -> Iterator[Picture]:
    names = ["background", *_VOC]
    table = path / "labelmap.txt"
    if table.is_file():  # as CVAT writes it
        lines = load_document(table).splitlines()
        names = [line.split(":")[0] for line in lines if line.strip() and line[0] != "#"]
    objects, classes = _by_stem(path / _OBJECTS), _by_stem(path / _CLASSES)
    photos = _by_stem(path / _PHOTOS, IMAGE_SUFFIXES, {*objects, *classes})
    for stem, file in {**classes, **objects}.items():
        if stem not in objects:
            reading.notes.add("pictures without SegmentationObject: each class is one object", stem)
        photo = photos.get(stem) or (reading.find(stem) if reading.root != path else None)
        size = reading.size(photo, mask_size(file), file)
        own = partial(_voc_objects, objects.get(stem), classes.get(stem), names)
        yield Picture(photo.name if photo else f"{stem}.jpg", size, own, photo)


def _voc_objects(
    mask: Path | None, kinds: Path | None, names: Sequence[str]
) -> Iterator[LabelledObject]:
    classes = None if kinds is None else read_label_image(kinds)
    labels = classes if mask is None else read_label_image(mask)
    assert labels is not None
    if classes is not None and kinds is not None:
        check_size(kinds, classes.shape, labels.shape, mask)
    for one in label_objects(labels, unknown=_VOID):
        label = ""
        if classes is not None and not one.unknown:
            region = one.draw()
            value = int(np.bincount(classes[region.window][region.mask]).argmax())
            label = names[value] if value < len(names) else f"class {value}"
        yield replace(one, label=label, id=one.id if mask else None)


def _write_voc(source: LabelledSource, out: Path) -> None:
    classes = sorted(source.classes())
    values = {name: number for number, name in enumerate(classes, 1)}
    for sheet in sheets(source, _MOST, "flat"):
        if sheet.picture.labelled:
            kinds = np.arange(_VOID + 1)
            for one, number in zip(sheet.objects(), sheet.numbers, strict=True):
                if not one.unknown:
                    kinds[number] = values[one.label]
            labels = sheet.labels(_VOID)
            _write_palette(out / _OBJECTS / f"{sheet.name}.png", labels)
            _write_palette(out / _CLASSES / f"{sheet.name}.png", kinds[labels])
        sheet.place_file(out / _PHOTOS)
    rows = zip(["background", *(name or "object" for name in classes)], _colours(), strict=False)
    table = "".join(f"{name}:{','.join(map(str, colour))}::\n" for name, colour in rows)
    write_text(out / "labelmap.txt", table)


def _colours() -> list[list[int]]:
    """The colours of Pascal VOC by value: its bits dealt out to red, green and blue."""
    bits = np.arange(256)[:, None, None] >> (3 * np.arange(8)[:, None] + np.arange(3)) & 1
    table: list[list[int]] = (bits << (7 - np.arange(8)[:, None])).sum(axis=1).tolist()
    return table


def _write_palette(path: Path, labels: NDArray[np.integer]) -> None:
    image = Image.frombytes("P", labels.shape[::-1], labels.astype(np.uint8).tobytes())
    image.putpalette([sample for colour in _colours() for sample in colour])
    with atomic_path(path) as temporary:
        image.save(temporary)


def _davis_videos(path: Path, _: Any = None) -> list[Path]:
    """The folders of masks of all videos, at one depth or two."""
    inner = [*list_folders(path / _SEMI), *list_folders(path / "Annotations_unsupervised")]
    deeper = [one for each in inner for one in list_folders(each)]
    return [one for one in (*inner, *deeper) if list_files(one, {".png"})]


def _read_davis(path: Path, _: Any, reading: Reading) -> Iterator[Picture]:
    table = path / "meta.json"
    kinds = _categories(load_document(table)) if table.is_file() else {}
    for folder in _davis_videos(path):
        below = folder.relative_to(path).parts[1:]
        masks = _by_stem(folder)
        places = (path / _PHOTOS, reading.root / _PHOTOS, reading.root)
        found = (_by_stem(place.joinpath(*below), IMAGE_SUFFIXES) for place in places)
        photos: dict[str, Path] = next(filter(None, found), {})
        if photos and (lone := [masks[stem] for stem in masks if stem not in photos]):
            where = next(iter(photos.values())).parent
            raise MediaError.at(lone[0], f"no frame of that name in {where}")
        first = next(iter(masks.values()))
        # Of a video that both kinds of annotations tell of, each is one of its own.
        video = "/".join(below if folder.is_relative_to(path / _SEMI) else ("unsupervised", *below))
        for number, stem in enumerate(photos or masks):
            mask, photo = masks.get(stem), photos.get(stem)
            name = f"{folder.name}/{photo.name if photo else f'{stem}.jpg'}"
            size = reading.size(photo, mask_size(mask or first), mask or photo)
            objects = partial(_davis_objects, mask, kinds.get(folder.name, {}))
            yield Picture(name, size, objects, photo, video, number, mask is not None)


def _categories(content: Any) -> dict[str, dict[int, str]]:
    """Classes of objects by video and id, as far as YouTube-VOS tells them."""

    def inner(value: Any, key: str) -> Mapping[str, Any]:
        found = value.get(key) if isinstance(value, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    return {
        video: {
            int(id_): str(one.get("category", ""))
            for id_, one in inner(told, "objects").items()
            if id_.isdecimal() and isinstance(one, Mapping)
        }
        for video, told in inner(content, "videos").items()
    }


def _davis_objects(mask: Path | None, kinds: Mapping[int, str]) -> list[LabelledObject]:
    objects = [] if mask is None else label_objects(read_label_image(mask), unknown=_VOID)
    return [replace(one, label=kinds.get(one.id or 0, "")) for one in objects]


def _write_davis(source: LabelledSource, out: Path) -> None:
    for sheet in sheets(source, _MOST, "videos"):
        if sheet.picture.labelled:
            path = out / "Annotations" / sheet.video / f"{sheet.name}.png"
            _write_palette(path, sheet.labels(_VOID))
        sheet.place_file(out / _PHOTOS / sheet.video)


#: ``NAME_masks.tif`` is written, of a video ``VIDEO/NAME_masks.tif``; 32 bit where needed.
LABELS = Format("labels", "label images", _files, _read, write=_write, classes=False)
VOC = Format("voc", "Pascal VOC", _voc_folders, _read_voc, write=_write_voc)
DAVIS = Format(
    "davis", "DAVIS palette folders", _davis_videos, _read_davis, write=_write_davis, classes=False
)

"""Palette PNGs whose values are ids: Pascal VOC, DAVIS and YouTube-VOS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.files import atomic_path, stem_of, write_text
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, label_objects
from dvos.formats.reading import Format, Reading, load_document
from dvos.formats.sheets import sheets
from dvos.media.label_image import read_label_image
from dvos.media.layout import IMAGE_SUFFIXES, list_files, list_folders
from dvos.media.mask import mask_size

#: Value of borders and of what is not judged, and the most objects beside it.
_VOID, _MOST = 255, 254
#: The classes of Pascal VOC by value, from 1.
_VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
_OBJECTS, _CLASSES = "SegmentationObject", "SegmentationClass"


def _matches_voc(path: Path, _: Any) -> bool:
    return any((path / name).is_dir() for name in (_OBJECTS, _CLASSES))


def _read_voc(path: Path, _: Any, reading: Reading) -> Iterator[Picture]:
    names = _voc_classes(path)
    objects = {stem_of(one): one for one in list_files(path / _OBJECTS, {".png"})}
    classes = {stem_of(one): one for one in list_files(path / _CLASSES, {".png"})}
    photos = {stem_of(one): one for one in list_files(path / "JPEGImages", IMAGE_SUFFIXES)}
    for stem, file in {**classes, **objects}.items():
        if stem not in objects:
            note = "pictures without SegmentationObject: each class is one object"
            reading.notes.add(note, stem)
        photo = photos.get(stem) or (reading.find(stem) if reading.root != path else None)
        size = reading.size(photo, mask_size(file), str(file))
        own = partial(_voc_objects, objects.get(stem), classes.get(stem), names)
        yield Picture(photo.name if photo else f"{stem}.jpg", size, own, photo)


def _voc_classes(path: Path) -> Sequence[str]:
    """Classes by value: of ``labelmap.txt``, as CVAT writes it, or those of Pascal VOC."""
    table = path / "labelmap.txt"
    if not table.is_file():
        return ["background", *_VOC]
    lines = load_document(table).splitlines()
    return [line.split(":")[0] for line in lines if line.strip() and line[0] != "#"]


def _voc_objects(
    mask: Path | None, kinds: Path | None, names: Sequence[str]
) -> list[LabelledObject]:
    classes = None if kinds is None else read_label_image(kinds)
    labels = classes if mask is None else read_label_image(mask)
    assert labels is not None
    found = []
    for one in label_objects(labels, unknown=_VOID):
        value = one.id or 0
        if mask is not None and classes is not None:
            region = one.draw()
            value = int(np.bincount(classes[region.window][region.mask]).argmax())
        label = names[value] if value < len(names) else f"class {value}"
        label = "" if classes is None or one.unknown else label
        found.append(LabelledObject(label, one.draw, one.id if mask else None, one.unknown))
    return found


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
        sheet.place_file(out / "JPEGImages")
    rows = zip(["background", *(name or "object" for name in classes)], _colours(), strict=False)
    table = "".join(f"{name}:{','.join(map(str, colour))}::\n" for name, colour in rows)
    write_text(out / "labelmap.txt", table)


def _colours() -> list[list[int]]:
    """The colours of Pascal VOC by value: its bits dealt out to red, green and blue."""
    values, colours = np.arange(256), np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((values >> (3 * bit + channel)) & 1) << (7 - bit)
    table: list[list[int]] = colours.tolist()
    return table


def _write_palette(path: Path, labels: NDArray[np.integer]) -> None:
    from PIL import Image

    image = Image.frombytes("P", labels.shape[::-1], labels.astype(np.uint8).tobytes())
    image.putpalette([sample for colour in _colours() for sample in colour])
    with atomic_path(path) as temporary:
        image.save(temporary)


def _matches_davis(path: Path, _: Any) -> bool:
    return bool(_davis_videos(path))


def _davis_videos(path: Path) -> list[Path]:
    """The folders of masks of all videos, at one depth or two."""
    inner = [*list_folders(path / "Annotations"), *list_folders(path / "Annotations_unsupervised")]
    deeper = [one for each in inner for one in list_folders(each)]
    return [one for one in (*inner, *deeper) if list_files(one, {".png"})]


def _read_davis(path: Path, _: Any, reading: Reading) -> Iterator[Picture]:
    kinds = _categories(path)
    for folder in _davis_videos(path):
        below = folder.relative_to(path).parts[1:]
        masks = {stem_of(one): one for one in list_files(folder, {".png"})}
        frames = list_files(path.joinpath("JPEGImages", *below), IMAGE_SUFFIXES)
        photos = {stem_of(one): one for one in frames}
        if photos and (lone := [masks[stem] for stem in masks if stem not in photos]):
            raise MediaError.at(lone[0], f"no frame of that name in {frames[0].parent}")
        first = next(iter(masks.values()))
        for number, stem in enumerate(photos or masks):
            mask, photo = masks.get(stem), photos.get(stem)
            yield Picture(
                f"{folder.name}/{photo.name if photo else f'{stem}.jpg'}",
                reading.size(photo, mask_size(mask or first), str(mask or photo)),
                partial(_davis_objects, mask, kinds.get(folder.name, {})),
                photo,
                video="/".join(below),
                frame=number,
                labelled=mask is not None,
            )


def _categories(path: Path) -> dict[str, dict[int, str]]:
    """Classes of objects by video and id, of the ``meta.json`` of YouTube-VOS."""
    table = path / "meta.json"
    content = load_document(table) if table.is_file() else {}
    videos = content.get("videos") if isinstance(content, Mapping) else None
    found: dict[str, dict[int, str]] = {}
    for video, told in videos.items() if isinstance(videos, Mapping) else ():
        objects = told.get("objects") if isinstance(told, Mapping) else None
        found[video] = {
            int(id_): str(one.get("category", ""))
            for id_, one in (objects.items() if isinstance(objects, Mapping) else ())
            if id_.isdecimal() and isinstance(one, Mapping)
        }
    return found


def _davis_objects(mask: Path | None, kinds: Mapping[int, str]) -> list[LabelledObject]:
    if mask is None:
        return []
    return [
        LabelledObject(kinds.get(one.id or 0, ""), one.draw, one.id, one.unknown)
        for one in label_objects(read_label_image(mask), unknown=_VOID)
    ]


def _write_davis(source: LabelledSource, out: Path) -> None:
    for sheet in sheets(source, _MOST, "videos"):
        if sheet.picture.labelled:
            path = out / "Annotations" / sheet.video / f"{sheet.name}.png"
            _write_palette(path, sheet.labels(_VOID))
        sheet.place_file(out / "JPEGImages" / sheet.video)
    for name in source.classes().keys() - {""}:
        source.notes.add("classes, which DAVIS does not tell", name)


VOC = Format("voc", "Pascal VOC", _matches_voc, _read_voc, write=_write_voc)
DAVIS = Format("davis", "DAVIS palette folders", _matches_davis, _read_davis, write=_write_davis)

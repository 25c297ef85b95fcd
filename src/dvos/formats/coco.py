"""COCO: one JSON of pictures, classes and annotations, polygons or run lengths.

See https://cocodataset.org/#format-data. Written are run lengths, which hold holes, parts and
single pixels as they are; ``object`` is the number of the object, ``video`` and ``frame`` of a
picture tell where it belongs. These keys are ours; other readers pass over them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dvos.errors import check_size
from dvos.files import atomic_path
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, Region, Size
from dvos.formats.raster import box, decode_region, encode_region, fill, fill_parts
from dvos.formats.reading import (
    Format,
    Reading,
    fields,
    items,
    naming,
    number,
    picture_size,
    text,
    whole,
)
from dvos.formats.sheets import sheets

#: Class of objects whose source tells none.
OBJECT = "object"
#: What a note says where annotations are boxes alone.
BOXES = "objects that are boxes, taken for filled rectangles"


def _matches(_: Path, content: Any) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get("images"), list)


def _read(path: Path, content: Any, reading: Reading) -> Iterator[Picture]:
    names = class_names(path, content)
    annotations: dict[Any, list[Mapping[str, Any]]] = {}
    with naming(path):
        for one in items(content.get("annotations", [])):
            annotations.setdefault(fields(one)["image_id"], []).append(one)
        images = [fields(image) for image in items(content["images"])]
        known = {image["id"] for image in images}
        if lost := [one for of in annotations.keys() - known for one in annotations[of]]:
            raise ValueError(f"annotation {lost[0].get('id')} is of a picture that is not there")
    crowds = _crowds(annotations, reading)
    for image in images:
        where = f"{path} image {image['id']}"
        with naming(where):
            name = text(image["file_name"])
            file = reading.find(name, path)
            stated = None
            if "height" in image and "width" in image:
                stated = picture_size(image["height"], image["width"])
            size = reading.size(file, stated, where)
            own = annotations.get(image["id"], [])
            yield Picture(
                name,
                size,
                partial(_objects, path, own, names, size, crowds, reading),
                file,
                video=str(image.get("video", "")),
                frame=whole(image.get("frame", 0)),
            )


def class_names(path: Path, content: Mapping[str, Any]) -> dict[Any, str]:
    """Classes by id."""
    with naming(f"{path} categories"):
        return {one["id"]: text(one["name"]) for one in items(content.get("categories", []))}


def _crowds(annotations: Mapping[Any, Sequence[Mapping[str, Any]]], reading: Reading) -> bool:
    """Whether ``iscrowd`` means a crowd: a picture has at most one of a class, and objects beside.

    CVAT, and others after it, mark each single mask so.
    """
    marked = [one for of in annotations.values() for one in of if one.get("iscrowd") == 1]
    each = Counter((str(one["image_id"]), str(one.get("category_id"))) for one in marked)
    total = sum(map(len, annotations.values()))
    if not marked or (len(marked) < total and max(each.values()) == 1):
        return True
    for one in marked:
        note = "objects marked iscrowd, as CVAT marks single masks, taken for objects"
        reading.notes.add(note, id(one))
    return False


def _objects(
    path: Path,
    annotations: Sequence[Mapping[str, Any]],
    names: Mapping[Any, str],
    size: Size,
    crowds: bool,
    reading: Reading,
) -> list[LabelledObject]:
    found = []
    for one in annotations:
        where = f"{path} annotation {one.get('id')}"
        with naming(where):
            category = one.get("category_id")
            if category is not None and category not in names:
                raise ValueError(f"its category {category!r} is not in the file")
            coded, boxed = one.get("segmentation"), one.get("bbox")
            if not coded and boxed is not None:
                reading.notes.add(BOXES, id(one))
            draw = partial(draw_segmentation, where, coded, boxed, size)
            given = one.get("track_id", one.get("object"))
            crowd = crowds and one.get("iscrowd") == 1
            id_ = None if given is None else whole(given, 1)
            found.append(LabelledObject(names.get(category, ""), draw, id_, crowd))
    return found


def draw_segmentation(where: str, coded: Any, boxed: Any, size: Size) -> Region:
    """The pixels of an annotation: polygons, run lengths of either kind, or else its box."""
    with naming(where):
        if isinstance(coded, Mapping):
            check_size(where, picture_size(*items(coded["size"])), size, "its picture")
            return decode_region(coded["counts"], size)
        if not coded:
            left, top, width, height = map(number, items(boxed))
            return fill([box(left, top, width, height)], size)
        parts = items(coded)
        return fill_parts(parts if isinstance(parts[0], list) else [parts], size)


def _write(source: LabelledSource, out: Path) -> None:
    write_annotations(out / "annotations.json", source, sorted(source.classes()))


def write_annotations(path: Path, source: LabelledSource, classes: Sequence[str]) -> None:
    """Write a source as one file; memory does not grow with its pictures.

    Args:
        path: The file.
        source: Pictures, whose ids count from 1, in order.
        classes: Of their objects; an empty one is called "object".

    Raises:
        MediaError: If an object cannot be drawn.
        OutputError: If the file cannot be written.
    """
    categories = {name: number for number, name in enumerate(classes or [""], 1)}
    told = [{"id": number, "name": name or OBJECT} for name, number in categories.items()]
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        stream.write(f'{{"categories": {json.dumps(told)},\n"images": [')
        images = enumerate(source.pictures, 1)
        stream.writelines(_lines(_image(place, picture) for place, picture in images))
        stream.write('],\n"annotations": [')
        places = {id(picture): place for place, picture in enumerate(source.pictures, 1)}
        annotations = (
            {
                "image_id": places[id(sheet.picture)],
                "category_id": categories.get(one.label, 1),
                "iscrowd": int(one.unknown),
                **({} if one.unknown else {"object": number}),
                **coded_shape(region, sheet.picture.size),
            }
            for sheet in sheets(source, 2**53)
            for one, number, region in sheet.shapes(unknown=True)
        )
        stream.writelines(_lines({"id": place, **one} for place, one in enumerate(annotations, 1)))
        stream.write("]}\n")


def _image(number: int, picture: Picture) -> dict[str, Any]:
    image = {"id": number, "file_name": picture.name}
    image |= {"height": picture.size[0], "width": picture.size[1]}
    return image | ({"video": picture.video, "frame": picture.frame} if picture.video else {})


def coded_shape(region: Region, size: Size) -> dict[str, Any]:
    """Area, box and run lengths of a region."""
    height, width = region.mask.shape
    return {
        "area": region.area,
        "bbox": [region.left, region.top, width, height],
        "segmentation": {"size": list(size), "counts": encode_region(region, size)},
    }


def _lines(values: Iterable[dict[str, Any]]) -> Iterator[str]:
    for place, value in enumerate(values):
        yield (",\n" if place else "\n") + json.dumps(value)


FORMAT = Format("coco", "COCO", _matches, _read, (".json",), _write)

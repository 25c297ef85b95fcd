"""labelme: a JSON beside each picture, of polygons, boxes, circles and masks.

See https://github.com/wkentaro/labelme. Shapes of one label and ``group_id`` are one object.
Written are polygons, and masks where an object has holes.
"""

import base64
import binascii
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dvos.files import write_json
from dvos.formats import checked
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, Region, Size, cropped
from dvos.formats.raster import box, ellipse, fill, outlines, ring
from dvos.formats.reading import Format, Reading, drawing, naming, together
from dvos.formats.sheets import sheets
from dvos.media.image import decode
from dvos.media.layout import IMAGE_SUFFIXES
from dvos.media.mask import LARGEST_32

#: Kinds of shapes whose points are an outline; X-AnyLabeling calls turned boxes rotation.
_OUTLINES = ("polygon", "rotation", "quadrilateral")
#: How many points others have: a rectangle two opposite corners, or all four.
_POINTS = {"rectangle": (2, 4), "circle": (2,), "mask": (2,)}


def _matches(_: Path, content: Any) -> bool:
    return isinstance(content, Mapping) and {"shapes", "imagePath"} <= content.keys()


def _read(path: Path, content: Any, reading: Reading) -> Iterator[Picture]:
    with naming(path):
        name = checked.text(content["imagePath"], "imagePath")
        # Its own picture bears its name, wherever the other one lies by now.
        beside = [path.with_suffix(suffix) for suffix in (Path(name).suffix, *IMAGE_SUFFIXES)]
        file = next((one for one in beside if one.is_file()), None) or reading.find(name, path)
        stated = None
        if content.get("imageHeight") and content.get("imageWidth"):
            sides = ("imageHeight", "imageWidth")
            stated = checked.size(content[sides[0]], content[sides[1]], sides)
        reading.once(path, file or f"{path.parent} {name}")
        shapes = []
        told = checked.items(content["shapes"], "shapes")
        for shape in (checked.fields(one, "shapes") for one in told):
            kind = checked.text(shape.get("shape_type") or "polygon", "shape_type")
            if kind in _OUTLINES or kind in _POINTS:
                shapes.append({**shape, "shape_type": kind})
            else:
                reading.notes.add(f"shapes that are no areas ({kind}), left out", path, len(shapes))
        size = reading.size(file, stated, path)
        objects = partial(_objects, path, shapes, size)
        yield Picture(reading.name_of(file, name), size, objects, file)


def _objects(path: Path, shapes: Sequence[Mapping[str, Any]], size: Size) -> list[LabelledObject]:
    groups: dict[tuple[str, int], list[Callable[[], Region]]] = defaultdict(list)
    for place, shape in enumerate(shapes):
        where = f"{path} shape {place}"
        with naming(where):
            group = shape.get("group_id")
            number = -1 - place if group is None else checked.whole(group, "group_id")
            draw = drawing(where, _draw, where, shape, size)
            groups[checked.text(shape.get("label"), "label"), number].append(draw)
    times = Counter(group for _, group in groups)
    return [
        LabelledObject(label, together(parts), group if group > 0 and times[group] == 1 else None)
        for (label, group), parts in groups.items()
    ]


def _draw(where: str, shape: Mapping[str, Any], size: Size) -> Region:
    kind, corners = shape["shape_type"], _corners(shape)
    if kind in _OUTLINES:
        return fill([ring(corners)], size)
    (x, y), (other_x, other_y) = corners[0], corners[1]
    if kind == "circle":
        radius = math.hypot(other_x - x, other_y - y)
        return fill([ellipse(x, y, radius, radius)], size)
    (left, right), (top, bottom) = ((min(one), max(one)) for one in zip(*corners, strict=True))
    if kind == "rectangle":
        return fill([box(left, top, right - left, bottom - top)], size)
    try:
        data = base64.b64decode(checked.text(shape["mask"], "mask"), validate=True)
    except binascii.Error:
        raise ValueError("mask: a text that is no base64 stands where an image should") from None
    pixels = decode(data, Path(where))
    row, column = round(top), round(left)
    if min(row, column) < 0 or pixels.ndim != 2:
        raise ValueError("a mask that begins outside its picture, or is coloured")
    inside = pixels[: max(0, size[0] - row), : max(0, size[1] - column)]
    return cropped(inside > 0, row, column)


def _corners(shape: Mapping[str, Any]) -> list[list[float]]:
    """The points of a shape, x and y; a ValueError if they are not as many as its kind has."""
    points, kind = checked.items(shape["points"], "points"), shape["shape_type"]
    corners = [
        [checked.number(value, "points") for value in checked.items(point, "points")]
        for point in points
    ]
    if len(corners) not in _POINTS.get(kind, (len(corners),)):
        wanted = " or ".join(map(str, _POINTS[kind]))
        raise ValueError(f"points: a {kind} of {len(corners)} points, {wanted} are needed")
    if any(len(corner) != 2 for corner in corners):
        raise ValueError("points: each is to be a pair of numbers, x and y")
    return corners


def _write(source: LabelledSource, out: Path) -> None:
    for sheet in sheets(source, LARGEST_32):
        folder = out / sheet.video
        name = sheet.place_file(folder)
        if sheet.picture.labelled:
            shapes = [
                shape
                for one, number, region in sheet.shapes()
                for shape in _shapes(region, one.label or "object", number)
            ]
            height, width = sheet.picture.size
            told = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": name}
            size = {"imageData": None, "imageHeight": height, "imageWidth": width}
            write_json(folder / f"{sheet.name}.json", told | size)


def _shapes(region: Region, label: str, id_: int) -> Iterator[dict[str, Any]]:
    parts = outlines(region)
    common: dict[str, Any] = {"label": label, "group_id": id_, "description": "", "flags": {}}
    if all(len(part) == 1 for part in parts):
        for (outer,) in parts:
            yield {**common, "shape_type": "polygon", "mask": None, "points": outer.tolist()}
        return
    (height, width), (left, top) = region.mask.shape, (region.left, region.top)
    corners = [[left, top], [left + width - 1, top + height - 1]]
    data = cv2.imencode(".png", region.mask.astype(np.uint8) * 255)[1].tobytes()
    coded = base64.b64encode(data).decode("ascii")
    yield {**common, "shape_type": "mask", "mask": coded, "points": corners}


FORMAT = Format("labelme", "labelme", _matches, _read, (".json",), _write)

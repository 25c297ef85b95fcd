"""Label Studio JSON: brush, polygons, boxes and ellipses of pictures, boxes of videos.

See https://labelstud.io/guide/export. Places are percent of the picture. A brush is bits of its own
(thi.ng's rle-pack): four equal bytes for each pixel, row by row.
"""

import json
import re
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from dvos.files import atomic_path
from dvos.formats import checked
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, Region, Size, cropped
from dvos.formats.raster import box, ellipse, fill, ring
from dvos.formats.reading import Format, Reading, drawing, naming
from dvos.formats.sheets import sheets
from dvos.media.layout import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from dvos.media.mask import LARGEST_32
from dvos.media.video import VideoFile

_KINDS = IMAGE_SUFFIXES | VIDEO_SUFFIXES
_BOX_OF_VIDEO = "videorectangle"
_AREAS = ("brush", "polygon", "rectangle", "ellipse", _BOX_OF_VIDEO)
_ANNOTATIONS = ("annotations", "completions")
#: What an upload is called: eight digits before the name.
_UPLOAD = re.compile(r"[0-9a-f]{8}-(.+)")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
#: Bits of the lengths of runs that a code chooses among; those written are of the last kind.
_LENGTHS = (4, 8, 12, 16)

Values = Mapping[str, Any]
#: Kind, class and result.
_Region = tuple[str, str, Values]


def _matches(_: Path, content: Any) -> bool:
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, Mapping) and "data" in first and bool({*_ANNOTATIONS} & first.keys())


def _read(path: Path, content: Any, reading: Reading) -> Iterator[Picture]:
    """A picture for each task, or the frames of its video; labelled if an annotation was made."""
    for place, task in enumerate(checked.items(content)):
        where = f"{path} task {checked.fields(task).get('id', place)}"
        with naming(where):
            name, file = _picture(checked.fields(task["data"], "data"), path, reading)
            reading.once(where, file or f"{path} {name}")
            made = next((_items(task, key) for key in _ANNOTATIONS if key in task), [])
            done = [one for one in made if not checked.fields(one).get("was_cancelled")]
            if len(done) > 1:
                reading.notes.add("tasks of several annotations, the first of which counts", where)
            regions = _regions(where, done[0] if done else {}, reading)
            boxes = [one for one in regions if one[0] == _BOX_OF_VIDEO]
            film = file if file is not None and file.suffix.lower() in VIDEO_SUFFIXES else None
            if boxes or film:
                frames = _read_video(where, name, film, boxes, reading)
                yield from (replace(frame, labelled=bool(done)) for frame in frames)
                continue
            told = regions[0][2] if regions else {}
            stated = None
            if "original_width" in told:
                sides = ("original_height", "original_width")
                stated = checked.size(told[sides[0]], told[sides[1]], sides)
            size = reading.size(file, stated, where)
            objects = partial(_objects, where, regions, size)
            yield Picture(name, size, objects, file, labelled=bool(done))


def _items(value: Values, key: str) -> list[Any]:
    return checked.items(value[key], key)


def _picture(data: Values, path: Path, reading: Reading) -> tuple[str, Path | None]:
    """Name and file of the picture of a task, wherever its address leads."""
    texts = (one for one in data.values() if isinstance(one, str))
    address = data.get("image") or data.get("video") or next(texts, None)
    address = checked.text(address, "data")
    name = unquote(address.partition("?d=")[2] or address.partition("?")[0])
    file = reading.find(name, path, _KINDS)
    upload = _UPLOAD.fullmatch(name.rpartition("/")[2])
    if file is None and upload:
        name = upload[1]
        file = reading.find(name, path, _KINDS)
    return reading.name_of(file, name), file


def _regions(where: str, annotation: Values, reading: Reading) -> list[_Region]:
    """The regions that are areas; a region's class may be a result of its own."""
    found: dict[object, _Region] = {}
    results = checked.items(annotation.get("result") or [], "result")
    for place, result in enumerate(checked.fields(one, "result") for one in results):
        kind = checked.text(result.get("type"), "type")
        id_ = checked.key(result.get("id", place), "id")
        value = checked.fields(result.get("value", {}), "value")
        key = next((key for key in value if key.endswith("labels")), "")
        labels = checked.items(value[key], key) if value.get(key) else [""]
        label = checked.text(labels[0], key) if key else ""
        if len(labels) > 1:
            note = "regions of several classes, the first of which counts"
            reading.notes.add(note, where, place)
        shape = kind.removesuffix("labels")
        before = found.get(id_, ("", "", {}))
        if shape in _AREAS:
            if before[0]:
                raise ValueError(f"two regions, a {before[0]} and a {shape}, have the one id {id_}")
            found[id_] = (shape, label or before[1], result)
        elif kind == "labels":
            found[id_] = (before[0], label or before[1], before[2])
        else:
            reading.notes.add(f"results that are no areas ({kind}), left out", where, place)
    return [one for one in found.values() if one[0]]


def _objects(where: str, regions: Sequence[_Region], size: Size) -> Iterator[LabelledObject]:
    for kind, label, one in regions:
        draw = drawing(f"{where} region {one.get('id')}", _draw, kind, one, size)
        id_ = one["id"] if kind == _BOX_OF_VIDEO else _number(one.get("id"))
        yield LabelledObject(label, draw, id_)


def _number(id_: Any) -> int | None:
    """The number that an object was written under; those of the program itself hold letters."""
    return int(id_) if isinstance(id_, str) and _NUMBER.fullmatch(id_) else None


def _draw(kind: str, result: Values, size: Size) -> Region:
    value = checked.fields(result["value"], "value")
    if kind == "brush":
        return cropped(_decode(_items(value, "rle"), size))
    if kind == "polygon":
        points = ring(_items(value, "points"))
        return fill([points * (size[1] / 100, size[0] / 100)], size)
    if kind == "ellipse":
        return fill([ellipse(*_places(value, "x", "y", "radiusX", "radiusY", size=size))], size)
    # A box, turned in pixels about its upper left corner.
    return fill([box(*_places(value, "x", "y", "width", "height", size=size))], size)


def _places(value: Values, *keys: str, size: Size) -> list[float]:
    """Percent across and down, by turns, as pixels; and the angle that a shape is turned by."""
    shares = np.array(checked.numbers(value, *keys)) / 100
    turn = checked.number(value.get("rotation", 0), "rotation")
    return [*(shares * (*size[::-1], *size[::-1])).tolist(), turn]


def _decode(codes: Sequence[Any], size: Size) -> NDArray[np.bool_]:
    """The mask, bool (H, W), of a brush: what is at least half opaque."""
    data = np.array(codes)
    if data.dtype.kind not in "iu" or data.min(initial=0) < 0 or data.max(initial=0) > 255:
        raise ValueError("a brush that is no list of bytes")
    bits = (np.unpackbits(data.astype(np.uint8)) + ord("0")).tobytes()
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        if at > len(bits):
            raise ValueError("a brush that ends early")
        return int(bits[at - count : at], 2)

    count = take(32)
    if count != 4 * size[0] * size[1]:
        raise ValueError(f"a brush of {count} bytes, {size[1]} x {size[0]} pixels have 4 each")
    word, lengths = take(5) + 1, [take(4) + 1 for _ in range(4)]
    samples = np.zeros(count, np.uint8)
    place = 0
    while place < count:
        repeated = take(1)
        end = place + 1 + take(lengths[take(2)])
        if end > count:
            raise ValueError("a brush with a run beyond its picture")
        values = take(word) if repeated else [take(word) for _ in range(end - place)]
        samples[place:end] = np.minimum(values, 255)
        place = end
    return samples[3::4].reshape(size) > 127


def _encode(mask: NDArray[np.bool_]) -> list[int]:
    flat = mask.ravel()
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    bits = f"{4 * flat.size:032b}{7:05b}" + "".join(f"{one - 1:04b}" for one in _LENGTHS)
    for start, end in pairwise(edges):
        rest, value = 4 * (end - start), 255 * int(flat[start])
        while rest:
            run = min(rest, 2 ** _LENGTHS[-1])
            bits += f"111{run - 1:016b}{value:08b}"
            rest -= run
    codes: list[int] = np.packbits(np.frombuffer(bits.encode(), np.uint8) - ord("0")).tolist()
    return codes


def _read_video(
    where: str, name: str, film: Path | None, regions: Sequence[_Region], reading: Reading
) -> Iterator[Picture]:
    """The frames of a video, whose file need not have the rate that it was labelled at."""
    if film is None:
        raise ValueError(f"the video {name} was not found, put it beside the annotations")
    video = VideoFile(film)
    count = video.count()
    tracks = []
    for id_, (_, label, result) in enumerate(regions, 1):
        value = checked.fields(result["value"], "value")
        steps = [checked.fields(one, "sequence") for one in _items(value, "sequence")]
        ordered = sorted(steps, key=lambda one: checked.number(one["frame"], "frame"))
        told = checked.number(value.get("framesCount") or count, "framesCount")
        if told != count:
            note = "videos labelled at another rate than their file's, matched by time"
            reading.notes.add(note, where)
        tracks.append((id_, label, ordered, told / max(1, count)))
    place = str(PurePosixPath(reading.name_of(film, "")).with_suffix(""))
    for frame in range(count):
        shapes = [
            (_BOX_OF_VIDEO, label, {"id": id_, "value": shape})
            # Frames count from 1 there.
            for id_, label, steps, rate in tracks
            if (shape := _at(steps, 1 + frame * rate)) is not None
        ]
        objects = partial(_objects, where, shapes, video.size)
        picture = f"{film.stem}/{film.stem}_{frame:06d}.png"  # as prediction names it
        yield Picture(picture, video.size, objects, None, place, frame, film=film)


def _at(steps: Sequence[Values], frame: float) -> Values | None:
    """The box at a place between keyframes; None before the first and after a last one."""
    frames = [checked.number(one["frame"], "frame") for one in steps]
    place = bisect(frames, frame)
    # The keyframe that is not enabled is the last one that the object is seen in.
    if not place or (not steps[place - 1].get("enabled", True) and frames[place - 1] < frame):
        return None
    first = steps[place - 1]
    if place == len(steps):
        return first
    share = (frame - frames[place - 1]) / (frames[place] - frames[place - 1])
    keys = ("x", "y", "width", "height", "rotation")
    ends = [[checked.number(one.get(key, 0), key) for key in keys] for one in (first, steps[place])]
    return {key: one + share * (other - one) for key, one, other in zip(keys, *ends, strict=True)}


def _write(source: LabelledSource, out: Path) -> None:
    # One after the other, as run lengths of whole pictures are long.
    with atomic_path(out / "tasks.json") as path, open(path, "w", encoding="utf-8") as stream:
        stream.write("[")
        for place, task in enumerate(_tasks(source, out), 1):
            stream.write(f"{',' * (place > 1)}\n{json.dumps({'id': place, **task})}")
        stream.write("\n]\n")


def _tasks(source: LabelledSource, out: Path) -> Iterator[dict[str, Any]]:
    for sheet in sheets(source, LARGEST_32, "flat"):
        height, width = size = sheet.picture.size
        results = [
            {
                "id": str(number),
                "type": "brushlabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "value": {
                    "format": "rle",
                    "rle": _encode(region.whole(size)),
                    "brushlabels": [one.label or "object"],
                },
            }
            for one, number, region in sheet.shapes()
        ]
        annotations = [{"result": results}] if sheet.picture.labelled else []
        # An address, in which names may have a percent sign.
        data = {"image": quote(sheet.place_file(out))}
        yield {"data": data, "annotations": annotations}


#: Brushes are written, which hold holes and parts; a video as its frames, without tracks.
FORMAT = Format("label-studio", "Label Studio", _matches, _read, (".json",), _write)

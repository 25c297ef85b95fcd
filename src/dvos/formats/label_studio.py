"""Label Studio JSON: brush, polygons, boxes and ellipses of pictures, boxes of videos.

See https://labelstud.io/guide/export. Places are percent of the picture as shown. A brush is a text
of bits of its own (thi.ng's rle-pack): four equal bytes for each pixel, row by row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from dvos.files import write_json
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, Region, Size, cropped
from dvos.formats.raster import box, ellipse, fill, ring
from dvos.formats.reading import Format, Reading, fields, items, naming, number, picture_size, text
from dvos.formats.sheets import sheets
from dvos.media.label_image import LARGEST_32
from dvos.media.video import VideoFile

_AREAS = ("brush", "polygon", "rectangle", "ellipse", "videorectangle")
#: What an upload is called: eight digits before the name.
_UPLOAD = re.compile(r"[0-9a-f]{8}-(.+)")
#: Bits of the lengths of runs that a code chooses among; those written are of the last kind.
_LENGTHS = (4, 8, 12, 16)


def _matches(_: Path, content: Any) -> bool:
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, Mapping) and "data" in first and bool(_annotations(first, plain=True))


def _annotations(task: Mapping[str, Any], *, plain: bool = False) -> Any:
    key = next((key for key in ("annotations", "completions") if key in task), None)
    return key if plain or key is None else items(task[key])


def _read(path: Path, content: Any, reading: Reading) -> Iterator[Picture]:
    for place, task in enumerate(items(content)):
        where = f"{path} task {fields(task).get('id', place)}"
        with naming(where):
            name, file = _picture(fields(task["data"]), path, reading)
            done = [one for one in _annotations(task) or [] if not fields(one).get("was_cancelled")]
            if len(done) > 1:
                reading.notes.add("tasks of several annotations, the first of which counts", where)
            regions = _regions(where, done[0] if done else {}, reading)
            film = [one for one in regions if one[0] == "videorectangle"]
            if film:
                yield from _read_video(where, name, reading.film(name, path), film, reading)
                continue
            stated = None
            if regions and "original_width" in regions[0][2]:
                told = regions[0][2]
                stated = picture_size(told["original_height"], told["original_width"])
            size = reading.size(file, stated, where)
            yield Picture(name, size, partial(_objects, where, regions, size), file)


def _picture(data: Mapping[str, Any], path: Path, reading: Reading) -> tuple[str, Path | None]:
    """Name and file of the picture of a task, wherever its address leads."""
    address = data.get("image") or data.get("video")
    address = address or next((one for one in data.values() if isinstance(one, str)), None)
    name = unquote(text(address).partition("?d=")[2] or text(address).partition("?")[0])
    file = reading.find(name, path)
    upload = _UPLOAD.fullmatch(name.rpartition("/")[2])
    if file is None and upload:
        name = upload[1]
        file = reading.find(name, path)
    return reading.name_of(file) or name, file


def _regions(
    where: str, annotation: Mapping[str, Any], reading: Reading
) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Kind, class and result of each region; a region's class may be a result of its own."""
    found: dict[object, tuple[str, str, Mapping[str, Any]]] = {}
    for place, result in enumerate(map(fields, annotation.get("result", []))):
        kind = text(result.get("type"))
        id_, value = result.get("id", place), fields(result.get("value", {}))
        labels = next((value[key] for key in value if key.endswith("labels")), None)
        label = text(items(labels)[0]) if labels else ""
        shape = kind.removesuffix("labels")
        known = found.get(id_)
        if shape in _AREAS:
            found[id_] = (shape, label or (known[1] if known else ""), result)
        elif kind == "labels":
            before = known or ("", "", {})
            found[id_] = (before[0], label or before[1], before[2])
        else:
            reading.notes.add(f"results that are no areas ({kind}), left out", where, place)
    return [one for one in found.values() if one[0]]


def _objects(
    where: str, regions: Sequence[tuple[str, str, Mapping[str, Any]]], size: Size
) -> list[LabelledObject]:
    return [
        LabelledObject(label, partial(_draw, f"{where} region {one.get('id')}", kind, one, size))
        for kind, label, one in regions
    ]


def _draw(where: str, kind: str, result: Mapping[str, Any], size: Size) -> Region:
    height, width = size
    with naming(where):
        value = fields(result["value"])
        if kind == "brush":
            return cropped(_decode(items(value["rle"]), size))
        if kind == "polygon":
            return fill([ring(items(value["points"])) * (width / 100, height / 100)], size)
        if kind == "rectangle":
            return fill([_rectangle(value, size)], size)
        x, y, across, down = (number(value[key]) / 100 for key in ("x", "y", "radiusX", "radiusY"))
        turn = number(value.get("rotation", 0))
        return fill([ellipse(x * width, y * height, across * width, down * height, turn)], size)


def _rectangle(value: Mapping[str, Any], size: Size) -> NDArray[np.float64]:
    """A box, turned in pixels about its upper left corner."""
    height, width = size
    x, y, across, down = (number(value[key]) / 100 for key in ("x", "y", "width", "height"))
    turn = number(value.get("rotation", 0))
    return box(x * width, y * height, across * width, down * height, turn)


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
    where: str,
    name: str,
    film: Path | None,
    regions: Sequence[tuple[str, str, Mapping[str, Any]]],
    reading: Reading,
) -> Iterator[Picture]:
    """The frames of a video, whose file need not have the rate that it was labelled at."""
    if film is None:
        raise ValueError(f"the video {name} was not found, put it beside the annotations")
    video = VideoFile(film)
    count = sum(1 for _ in video) if video.frame_count is None else video.frame_count
    tracks = []
    for place, (_, label, result) in enumerate(regions, 1):
        value = fields(result["value"])
        steps = sorted(map(fields, items(value["sequence"])), key=lambda one: number(one["frame"]))
        told = number(value.get("framesCount") or count)
        if told != count:
            note = "videos labelled at another rate than their file's, matched by time"
            reading.notes.add(note, where)
        tracks.append((place, label, steps, told / max(1, count)))
    for frame in range(count):
        shapes = [
            (place, label, shape)
            # Frames count from 1 there.
            for place, label, steps, rate in tracks
            if (shape := _at(steps, 1 + frame * rate)) is not None
        ]
        yield Picture(
            f"{film.stem}/frame_{frame:06d}.png",
            video.size,
            partial(_boxes, where, shapes, video.size),
            video=film.stem,
            frame=frame,
            film=film,
        )


def _at(steps: Sequence[Mapping[str, Any]], frame: float) -> Mapping[str, Any] | None:
    """The box at a place between keyframes; None before the first and after a last one."""
    before = [one for one in steps if number(one["frame"]) <= frame]
    if not before:
        return None
    # The keyframe that is not enabled is the last one that the object is seen in.
    if not before[-1].get("enabled", True) and number(before[-1]["frame"]) < frame:
        return None
    first, after = before[-1], steps[len(before) : len(before) + 1]
    if not after:
        return first
    start, end = number(first["frame"]), number(after[0]["frame"])
    share = (frame - start) / (end - start)
    keys = ("x", "y", "width", "height", "rotation")
    pairs = ((key, number(first.get(key, 0)), number(after[0].get(key, 0))) for key in keys)
    return {key: one + share * (other - one) for key, one, other in pairs}


def _boxes(
    where: str, shapes: Sequence[tuple[int, str, Mapping[str, Any]]], size: Size
) -> list[LabelledObject]:
    def draw(place: int, shape: Mapping[str, Any]) -> Region:
        with naming(f"{where} region {place}"):
            return fill([_rectangle(shape, size)], size)

    return [LabelledObject(label, partial(draw, id_, shape), id_) for id_, label, shape in shapes]


def _write(source: LabelledSource, out: Path) -> None:
    tasks: list[dict[str, Any]] = []
    for sheet in sheets(source, LARGEST_32, "flat"):
        height, width = size = sheet.picture.size
        results = [
            {
                "id": str(number_),
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
            for one, number_, region in sheet.shapes()
        ]
        annotations = [{"result": results}] if sheet.picture.labelled else []
        data = {"image": sheet.place_file(out)}
        tasks.append({"id": len(tasks) + 1, "data": data, "annotations": annotations})
    write_json(out / "tasks.json", tasks)


#: Brushes are written, which hold holes and parts; a video as its frames, without tracks.
FORMAT = Format("label-studio", "Label Studio", _matches, _read, (".json",), _write)

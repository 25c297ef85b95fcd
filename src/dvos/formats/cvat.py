"""CVAT XML 1.1, for images and for video: polygons, boxes, ellipses and masks.

See https://docs.cvat.ai/docs/manual/advanced/xml_format/. The runs of a mask count row by row
inside its own box, which is then placed in the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
from numpy.typing import NDArray

from dvos.files import atomic_path
from dvos.formats.labels import (
    LabelledObject,
    LabelledSource,
    Picture,
    Region,
    Size,
    cropped,
    joined,
)
from dvos.formats.raster import BRIDGED, box, bridged, ellipse, fill, ring
from dvos.formats.reading import Format, Reading, naming, number, picture_size, text, whole
from dvos.formats.sheets import Sheet, sheets
from dvos.media.label_image import LARGEST_32

_AREAS = ("polygon", "box", "ellipse", "mask")
_LINES = ("polyline", "points", "cuboid", "skeleton")


def _matches(_: Path, content: Any) -> bool:
    return isinstance(content, Element) and content.tag == "annotations"


def _read(path: Path, content: Any, reading: Reading) -> Iterator[Picture]:
    """The pictures of a task; of a task on a video the frames, from its tracks."""
    if content.find("track") is not None:
        yield from _read_video(path, content, reading)
    for image in content.iter("image"):
        where = f"{path} image {image.get('id')}"
        with naming(where):
            name = text(image.get("name"))
            file = reading.find(name, path)
            stated = picture_size(image.attrib["height"], image.attrib["width"])
            size = reading.size(file, stated, where)
            shapes = [one for one in image if _is_area(one, reading)]
            yield Picture(name, size, partial(_objects, where, shapes, size), file)


def _is_area(shape: Element, reading: Reading) -> bool:
    if shape.tag in _LINES:
        reading.notes.add(f"shapes that are no areas ({shape.tag}), left out", id(shape))
    return shape.tag in _AREAS


def _objects(where: str, shapes: Sequence[Element], size: Size) -> list[LabelledObject]:
    """The objects of a picture; shapes of one label and group are parts of one."""
    groups: dict[tuple[str, object], list[Element]] = {}
    with naming(where):
        for place, shape in enumerate(shapes):
            group = whole(shape.get("group_id", 0))
            key = (text(shape.get("label")), group or -1 - place)
            groups.setdefault(key, []).append(shape)
        return [
            LabelledObject(
                label,
                partial(_draw_all, where, parts, size),
                z=max(int(number(part.get("z_order", 0))) for part in parts),
            )
            for (label, _), parts in groups.items()
        ]


def _draw_all(where: str, shapes: Sequence[Element], size: Size) -> Region:
    return joined(
        _draw(f"{where} {shape.tag} {shape.get('label')}", shape, size) for shape in shapes
    )


def _draw(where: str, shape: Element, size: Size) -> Region:
    with naming(where):
        if shape.tag == "mask":
            return _mask(shape, size)
        return fill([_corners(shape)], size)


def _corners(shape: Element) -> NDArray[np.float64]:
    if shape.tag == "polygon":
        points = text(shape.get("points")).split(";")
        return ring([[number(value) for value in point.split(",")] for point in points])
    turn = number(shape.get("rotation", 0))
    if shape.tag == "ellipse":
        x, y, across, down = (number(shape.get(key)) for key in ("cx", "cy", "rx", "ry"))
        return ellipse(x, y, across, down, turn)
    left, top, right, bottom = (number(shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr"))
    corners = box(left, top, right - left, bottom - top)
    if turn:
        # About its middle, which is where the turned box has its own.
        middle = corners.mean(axis=0)
        turned = box(0, 0, right - left, bottom - top, turn)
        corners = turned - turned.mean(axis=0) + middle
    return corners


def _mask(shape: Element, size: Size) -> Region:
    left, top = whole(shape.get("left")), whole(shape.get("top"))
    height, width = picture_size(shape.get("height"), shape.get("width"))
    lengths = np.array([whole(one) for one in text(shape.get("rle")).split(",")], np.int64)
    if lengths.sum() != height * width:
        raise ValueError(f"its runs do not fill its box of {width} x {height} pixels")
    mask = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)
    return cropped(mask[: max(0, size[0] - top), : max(0, size[1] - left)], top, left)


@dataclass(frozen=True)
class _Track:
    """A track: its shapes by frame, rising, and the number of the object."""

    label: str
    id: int
    shapes: dict[int, Element]

    def at(self, frame: int, reading: Reading) -> Element | None:
        """Its shape in a frame: stated, between two that are, or as the last one was."""
        if frame in self.shapes:
            return None if self.shapes[frame].get("outside") == "1" else self.shapes[frame]
        before = max((one for one in self.shapes if one < frame), default=None)
        if before is None or self.shapes[before].get("outside") == "1":
            return None
        after = min((one for one in self.shapes if one > frame), default=None)
        if after is None or self.shapes[after].get("outside") == "1":
            return self.shapes[before]
        share = (frame - before) / (after - before)
        return _between(self.shapes[before], self.shapes[after], share, reading)


def _between(first: Element, second: Element, share: float, reading: Reading) -> Element:
    """The shape a share of the way from one to another, as a polygon."""
    if "mask" not in (first.tag, second.tag):
        one, other = _corners(first), _corners(second)
        if one.shape == other.shape:
            points = one + share * (other - one)
            told = ";".join(f"{x!r},{y!r}" for x, y in points.tolist())
            return Element("polygon", first.attrib | {"points": told})
    note = "keyframes whose next one is of another kind: they hold until then"
    reading.notes.add(note, id(first))
    return first


def _read_video(path: Path, content: Element, reading: Reading) -> Iterator[Picture]:
    with naming(f"{path} meta"):
        task = content.find("meta/task")
        task = content.find("meta/job") if task is None else task
        if task is None:
            raise KeyError("meta/task")
        size_ = task.find("original_size")
        if size_ is None:
            raise KeyError("original_size")
        stated = picture_size(size_.findtext("height"), size_.findtext("width"))
        count = whole(task.findtext("size"), 1)
        source = task.findtext("source") or content.findtext("meta/source") or ""
        start = whole(task.findtext("start_frame") or 0)
        step = whole((task.findtext("frame_filter") or "").partition("=")[2] or 1, 1)
        tracks = [_track(path, one, count, reading) for one in content.iter("track")]
    film = reading.film(source, path)
    video = Path(source).stem or task.findtext("name") or path.stem
    for frame in range(count):
        shapes = [(one, shape) for one in tracks if (shape := one.at(frame, reading)) is not None]
        where = f"{path} frame {frame}"
        file = None if film else reading.find(f"frame_{frame:06d}", path)
        size = reading.size(film or file, stated, where)
        yield Picture(
            f"{video}/frame_{frame:06d}.PNG",
            size,
            partial(_tracked, where, shapes, size),
            file,
            video=video,
            frame=start + step * frame if film else frame,
            film=film,
        )


def _track(path: Path, track: Element, count: int, reading: Reading) -> _Track:
    with naming(f"{path} track {track.get('id')}"):
        shapes = {
            frame: shape
            for shape in track
            # The end of a track that lasts to the last frame is told on the frame after it.
            if _is_area(shape, reading) and (frame := whole(shape.get("frame"))) < count
        }
        id_ = whole(track.get("id")) + 1
        return _Track(text(track.get("label")), id_, dict(sorted(shapes.items())))


def _tracked(
    where: str, shapes: Sequence[tuple[_Track, Element]], size: Size
) -> list[LabelledObject]:
    return [
        LabelledObject(
            track.label,
            partial(_draw, f"{where} track {track.id - 1}", shape, size),
            track.id,
            z=int(number(shape.get("z_order", 0))),
        )
        for track, shape in shapes
    ]


def _write(source: LabelledSource, out: Path) -> None:
    for video, own in groupby(sheets(source, LARGEST_32), lambda sheet: sheet.video):
        root = Element("annotations")
        SubElement(root, "version").text = "1.1"
        if video:
            _write_tracks(root, video, list(own))
        else:
            for sheet in own:
                height, width = map(str, sheet.picture.size)
                told = {"id": str(len(root) - 1), "name": sheet.picture.name}
                image = SubElement(root, "image", {**told, "width": width, "height": height})
                for one, _, region in sheet.shapes():
                    shape = {"label": one.label or "object", **_coded(region, one)}
                    SubElement(image, "mask", shape)
        indent(root)
        with atomic_path(out / f"{video or 'annotations'}.xml") as temporary:
            ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def _coded(region: Region, one: LabelledObject) -> dict[str, str]:
    """A mask as its attributes: runs row by row inside its box."""
    flat = region.mask.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    lengths = np.diff(edges, prepend=0, append=flat.size)
    height, width = region.mask.shape
    places = {"left": region.left, "top": region.top, "width": width, "height": height}
    told = {key: str(value) for key, value in places.items()}
    rle = ", ".join(map(str, lengths.tolist()))
    return {"source": "file", "occluded": "0", "rle": rle, **told, "z_order": str(one.z)}


def _write_tracks(root: Element, video: str, own: Sequence[Sheet]) -> None:
    """Each object as a track of polygons; bridges join parts and holes to one."""
    task = SubElement(SubElement(root, "meta"), "task")
    size = SubElement(task, "original_size")
    height, width = map(str, own[0].picture.size)
    count = str(max(sheet.picture.frame for sheet in own) + 1)
    for key, value in (("name", video), ("size", count), ("source", f"{video}.mp4")):
        SubElement(task, key).text = value
    SubElement(size, "width").text, SubElement(size, "height").text = width, height
    tracks: dict[int, Element] = {}
    last: dict[int, tuple[int, dict[str, str]]] = {}
    for sheet in own:
        for one, id_, region in sheet.shapes():
            frame = sheet.picture.frame
            if id_ not in tracks:
                head = {"id": str(id_ - 1), "label": one.label or "object", "source": "file"}
                tracks[id_] = SubElement(root, "track", head)
            elif last[id_][0] < frame - 1:
                _end(tracks[id_], *last[id_])
            path, joins = bridged(region)
            if joins:
                sheet.source.notes.add(BRIDGED, frame, id_)
            points = ";".join(f"{x},{y}" for x, y in path.tolist())
            told = {"points": points, "z_order": str(one.z), "occluded": "0", "keyframe": "1"}
            SubElement(tracks[id_], "polygon", {**told, "frame": str(frame), "outside": "0"})
            last[id_] = frame, told
    for id_, track in tracks.items():
        _end(track, *last[id_])


def _end(track: Element, frame: int, told: dict[str, str]) -> None:
    SubElement(track, "polygon", told | {"frame": str(frame + 1), "outside": "1"})


FORMAT = Format("cvat", "CVAT XML", _matches, _read, (".xml",), _write)

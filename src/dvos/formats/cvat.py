"""CVAT XML 1.1, for images and for video: polygons, boxes, ellipses and masks.

See https://docs.cvat.ai/docs/manual/advanced/xml_format/. A mask's runs are row by row in its box.
"""

import re
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np

from dvos.errors import FaultCollector, MediaError
from dvos.files import atomic_path
from dvos.formats import checked
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, Region, Size, cropped
from dvos.formats.raster import BRIDGED, Ring, box, bridged, ellipse, fill, ring
from dvos.formats.reading import Format, Reading, drawing, naming, together
from dvos.formats.sheets import Sheet, labelled, sheets
from dvos.media.mask import LARGEST_32

_AREAS = ("polygon", "box", "ellipse", "mask")
_LINES = ("polyline", "points", "cuboid", "skeleton")
#: A character that XML 1.0 cannot hold: most controls, and what is no Unicode.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Class and number of a track, and its shapes by frame, rising.
_Track = tuple[str, int, dict[int, Element]]
#: Class and number of a track, if it is of one, and a shape.
_Shape = tuple[str | None, int | None, Element]


def _matches(_: Path, content: Any) -> bool:
    return isinstance(content, Element) and content.tag == "annotations"


def _read(path: Path, content: Any, reading: Reading) -> Iterator[Picture]:
    """The pictures of a task; of a task on a video the frames, from its tracks."""
    if content.find("track") is not None:
        yield from _read_video(path, content, reading)
    for image in content.iter("image"):
        where = f"{path} image {image.get('id')}"
        with naming(where):
            name = checked.text(image.get("name"), "name")
            file = reading.find(name, path)
            reading.once(where, file or f"{path} {name}")
            stated = checked.size(image.attrib["height"], image.attrib["width"])
            size = reading.size(file, stated, where)
            shapes = [(one.get("label"), None, one) for one in image if _is_area(one, reading)]
            yield Picture(name, size, partial(_objects, where, shapes, size), file)


def _is_area(shape: Element, reading: Reading) -> bool:
    if shape.tag in _LINES:
        reading.notes.add(f"shapes that are no areas ({shape.tag}), left out", id(shape))
    return shape.tag in _AREAS


def _objects(where: str, shapes: Sequence[_Shape], size: Size) -> Iterator[LabelledObject]:
    """The objects of a picture; shapes of one label and group, or of one track, are one."""
    groups: dict[tuple[str, int | None, int], list[Element]] = defaultdict(list)
    with naming(where):
        for place, (label, id_, shape) in enumerate(shapes):
            group = 0 if id_ else checked.whole(shape.get("group_id", 0), "group_id")
            groups[checked.text(label, "label"), id_, group or -1 - place].append(shape)
        times = Counter(group for _, _, group in groups)
        for (label, id_, group), parts in groups.items():
            track = f" track {id_ - 1}" if id_ else ""
            draws = [
                drawing(f"{where}{track} {part.tag} {label}", _draw, part, size) for part in parts
            ]
            z = max(int(checked.number(part.get("z_order", 0), "z_order")) for part in parts)
            number = group if group > 0 and times[group] == 1 else None
            yield LabelledObject(label, together(draws), id_ or number, z=z)


def _draw(shape: Element, size: Size) -> Region:
    if shape.tag != "mask":
        return fill([_corners(shape)], size)
    left, top = (checked.whole(shape.get(side), side) for side in ("left", "top"))
    height, width = checked.size(shape.get("height"), shape.get("width"))
    runs = checked.text(shape.get("rle"), "rle").split(",")
    lengths = np.array([checked.whole(one, "rle") for one in runs], np.int64)
    if lengths.sum() != height * width:
        raise ValueError(f"its runs do not fill its box of {width} x {height} pixels")
    mask = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)
    return cropped(mask[: max(0, size[0] - top), : max(0, size[1] - left)], top, left)


def _corners(shape: Element) -> Ring:
    if shape.tag == "polygon":
        points = checked.text(shape.get("points"), "points").split(";")
        corners = [[checked.number(one, "points") for one in point.split(",")] for point in points]
        return ring(corners)
    turn = checked.number(shape.get("rotation", 0), "rotation")
    if shape.tag == "ellipse":
        x, y, across, down = checked.numbers(shape.attrib, "cx", "cy", "rx", "ry")
        return ellipse(x, y, across, down, turn)
    left, top, right, bottom = checked.numbers(shape.attrib, "xtl", "ytl", "xbr", "ybr")
    sides = box(left, top, right - left, bottom - top)
    if turn:  # about its middle
        turned = box(0, 0, right - left, bottom - top, turn)
        sides = turned - turned.mean(axis=0) + sides.mean(axis=0)
    return sides


def _shape_at(shapes: dict[int, Element], frame: int, reading: Reading) -> Element | None:
    """The shape of a track in a frame: stated, between two that are, or as the last one was."""
    frames = list(shapes)
    place = bisect(frames, frame)
    before = shapes[frames[place - 1]] if place else None
    if before is None or before.get("outside") == "1":
        return None
    after = shapes[frames[place]] if place < len(frames) else None
    start = frames[place - 1]
    if start == frame or after is None or after.get("outside") == "1":
        return before
    if "mask" not in (before.tag, after.tag):
        one, other = _corners(before), _corners(after)
        if one.shape == other.shape:
            points = one + (frame - start) / (frames[place] - start) * (other - one)
            told = ";".join(f"{x!r},{y!r}" for x, y in points.tolist())
            return Element("polygon", before.attrib | {"points": told})
    note = "keyframes whose next one is of another kind: they hold until then"
    reading.notes.add(note, id(before))
    return before


def _read_video(path: Path, content: Element, reading: Reading) -> Iterator[Picture]:
    with naming(f"{path} meta"):
        task = content.find("meta/task")
        task = content.find("meta/job") if task is None else task
        if task is None:
            raise KeyError("meta/task")
        sides = task.find("original_size")
        if sides is None:
            raise KeyError("original_size")
        stated = checked.size(sides.findtext("height"), sides.findtext("width"))
        count = checked.whole(task.findtext("size"), "size", least=1)
        source = task.findtext("source") or content.findtext("meta/source") or ""
        start = checked.whole(task.findtext("start_frame") or 0, "start_frame")
        told = (task.findtext("frame_filter") or "").partition("=")[2] or 1
        step = checked.whole(told, "frame_filter", least=1)
    # The numbers of frames are those of the video that the task is made of.
    numbers = range(start, start + step * count, step)
    tracks = _tracks(path, content, numbers, reading)
    film = reading.film(source, path)
    video = Path(source).stem or task.findtext("name") or path.stem
    for frame, number in enumerate(numbers):
        where = f"{path} frame {number}"
        shapes: list[_Shape] = [
            (label, id_, shape)
            for label, id_, of_frames in tracks
            if (shape := _shape_at(of_frames, number, reading)) is not None
        ]
        # As prediction names the frames of a video, unless they are images, as CVAT names them.
        own, file = f"{video}_{number:06d}", None
        if not film:
            file = reading.find(f"frame_{number:06d}", path) or reading.find(own, path)
        size = reading.size(film or file, stated, where)
        name = f"{video}/{file.name if file else f'{own}.png'}"
        objects = partial(_objects, where, shapes, size)
        yield Picture(name, size, objects, file, video, number if film else frame, film=film)


def _tracks(path: Path, content: Element, numbers: range, reading: Reading) -> list[_Track]:
    """The tracks of a task whose frames have these numbers; a fault for each that is not of it."""
    tracks: dict[int, _Track] = {}
    with FaultCollector(MediaError) as faults:
        for element in content.iter("track"):
            where = f"{path} track {element.get('id')} {element.get('label')}"
            track = faults.collect(_track, where, element, numbers, reading)
            if track is None:
                continue
            if (first := tracks.setdefault(track[1], track)) is not track:
                found = f"the track {first[0]} has the id {element.get('id')} already"
                faults.add(where, found, "an id of its own", "give it another")
    return list(tracks.values())


def _track(where: str, track: Element, numbers: range, reading: Reading) -> _Track:
    shapes: dict[int, Element] = {}
    with naming(where):
        for shape in filter(lambda one: _is_area(one, reading), track):
            number = checked.whole(shape.get("frame"), "frame")
            # The end of a track that lasts to the last frame is told on the frame after it.
            if number >= numbers.stop and shape.get("outside") == "1":
                continue
            if number not in numbers:
                every = f", each {numbers.step}th" if numbers.step > 1 else ""
                expected = f"a frame from {numbers[0]} to {numbers[-1]}{every}"
                remedy = "export the task again, whole"
                raise MediaError.at(where, f"has a shape on frame {number}", expected, remedy)
            if number in shapes:
                note = "frames of a track with several shapes, the last of which counts"
                reading.notes.add(note, where, number)
            shapes[number] = shape
        id_ = checked.whole(track.get("id"), "id") + 1
        return checked.text(track.get("label"), "label"), id_, dict(sorted(shapes.items()))


def _write(source: LabelledSource, out: Path) -> None:
    kept = labelled(sheets(source, LARGEST_32), gaps=False)
    for video, own in groupby(kept, lambda sheet: sheet.video):
        root = Element("annotations")
        SubElement(root, "version").text = "1.1"
        if video:
            _write_tracks(root, video, list(own))
        else:
            for sheet in own:
                height, width = map(str, sheet.picture.size)
                told = {"id": str(len(root) - 1), "name": _plain(sheet.picture.name, sheet)}
                image = SubElement(root, "image", {**told, "width": width, "height": height})
                for one, id_, region in sheet.shapes():
                    label = {"label": _plain(one.label, sheet) or "object", "group_id": str(id_)}
                    SubElement(image, "mask", label | _coded(region, one))
        indent(root)
        with atomic_path(out / f"{video or 'annotations'}.xml") as temporary:
            ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def _plain(text: str, sheet: Sheet) -> str:
    """A text in which a sign stands for each that XML cannot hold, which is noted."""
    plain = _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
    if plain != text:
        sheet.source.notes.add("names with characters that XML cannot hold, replaced", text)
    return plain


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
    name = _plain(video, own[0])
    for key, value in (("name", name), ("size", count), ("source", f"{name}.mp4")):
        SubElement(task, key).text = value
    SubElement(size, "width").text, SubElement(size, "height").text = width, height
    tracks: dict[int, tuple[str, dict[int, dict[str, str]]]] = {}
    for sheet in own:
        frame = sheet.picture.frame
        for one, id_, region in sheet.shapes():
            path, joins = bridged(region)
            if joins:
                sheet.source.notes.add(BRIDGED, frame, id_)
            points = ";".join(f"{x},{y}" for x, y in path.tolist())
            told = {"points": points, "z_order": str(one.z), "occluded": "0", "keyframe": "1"}
            label = _plain(one.label, sheet) or "object"
            tracks.setdefault(id_, (label, {}))[1][frame] = told
    for id_, (label, frames) in tracks.items():
        track = SubElement(root, "track", {"id": str(id_ - 1), "label": label, "source": "file"})
        for frame, told in frames.items():
            SubElement(track, "polygon", {**told, "frame": str(frame), "outside": "0"})
            if frame + 1 not in frames:
                SubElement(track, "polygon", {**told, "frame": str(frame + 1), "outside": "1"})


FORMAT = Format("cvat", "CVAT XML", _matches, _read, (".xml",), _write)

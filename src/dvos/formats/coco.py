"""COCO and, for videos, YouTube-VIS: one JSON of pictures, classes and annotations.

See https://cocodataset.org/#format-data and https://youtube-vos.org/dataset/vis/. Run lengths are
written, which hold holes, parts and single pixels; the keys ``object``, ``video`` and ``frame`` are
ours, and passed over by other readers.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from dvos.errors import check_size
from dvos.files import atomic_path, write_text
from dvos.formats import checked
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, Region, Size, joined
from dvos.formats.raster import box, decode_region, encode_region, fill, ring
from dvos.formats.reading import Format, Reading, drawing, naming
from dvos.formats.sheets import labelled, sheets, videos_of

#: Numbers that every reader of JSON tells apart.
_HIGHEST = 2**53
#: Class of objects whose source tells none.
_OBJECT = "object"
#: What YouTube-VIS calls, of all frames, what COCO has of one picture.
_OF_FRAMES = {"segmentations": "segmentation", "bboxes": "bbox", "areas": "area"}

Annotation = Mapping[str, Any]


def _read(path: Path, content: Any, reading: Reading) -> Iterator[Picture]:
    names, owned = _parsed(path, content, "images", "image_id")
    crowds = _crowds([one for _, own in owned for one in own], reading)
    for image, own in owned:
        where = f"{path} image {image['id']}"
        with naming(where):
            name, stated = checked.text(image["file_name"], "file_name"), None
            file = reading.find(name, path)
            reading.once(where, file or f"{path} {name}")
            if "height" in image and "width" in image:
                stated = checked.size(image["height"], image["width"])
            size = reading.size(file, stated, where)
            objects = partial(_objects, path, own, names, size, crowds, reading)
            video = str(image.get("video") or "")
            frame = checked.whole(image.get("frame", 0), "frame")
            if video:
                reading.once(where, f"{path} video {video} frame {frame}")
            yield Picture(name, size, objects, file, video, frame)


def _parsed(
    path: Path, content: Any, owners: str, key: str
) -> tuple[dict[Any, str], list[tuple[Annotation, list[Annotation]]]]:
    """Classes by id; and the pictures or videos of a file, each with its annotations."""
    with naming(f"{path} categories"):
        classes = _by_id(content.get("categories", []), "")
        names = {id_: checked.text(one["name"], "name") for id_, one in classes.items()}
    with naming(path):
        listed = _by_id(content[owners], owners)
        found: dict[Any, list[Annotation]] = {id_: [] for id_ in listed}
        annotations = checked.items(content.get("annotations") or [], "annotations")
        for one in (checked.fields(each, "annotations") for each in annotations):
            if checked.key(one[key], key) not in found:
                raise ValueError(f"annotation {one.get('id')} is of a picture that is not there")
            found[one[key]].append(one)
    return names, [(one, found[id_]) for id_, one in listed.items()]


def _by_id(value: Any, field: str) -> dict[Any, Mapping[str, Any]]:
    """The entries of a list by their ids; a ValueError if two have one."""
    found: dict[Any, Mapping[str, Any]] = {}
    for one in (checked.fields(each, field) for each in checked.items(value, field)):
        id_ = checked.key(one["id"], "id")
        if id_ in found and found[id_] != one:
            told = [each.get("file_name", each.get("name")) for each in (found[id_], one)]
            what = field and f"{field}: "
            text = f"{what}{told[0]!r} and {told[1]!r} have the one id {id_!r}"
            raise ValueError(f"{text}; expected an id of its own for each")
        found[id_] = one
    return found


def _crowds(annotations: Sequence[Annotation], reading: Reading) -> bool:
    """Whether ``iscrowd`` means a crowd: one of a class, with objects beside; CVAT means masks."""
    marked = [one for one in annotations if one.get("iscrowd") == 1]
    each = Counter((str(one["image_id"]), str(one.get("category_id"))) for one in marked)
    if not marked or (len(marked) < len(annotations) and max(each.values()) == 1):
        return True
    for one in marked:
        note = "objects marked iscrowd, as CVAT marks single masks, taken for objects"
        reading.notes.add(note, id(one))
    return False


def _objects(
    path: Path,
    annotations: Sequence[Annotation],
    names: Mapping[Any, str],
    size: Size,
    crowds: bool,
    reading: Reading,
) -> Iterator[LabelledObject]:
    owners: dict[int, Any] = {}
    for one in annotations:
        where = f"{path} annotation {one.get('id')}"
        with naming(where):
            category = one.get("category_id")
            if category is not None and checked.key(category, "category_id") not in names:
                raise ValueError(f"its category {category!r} is not in the file")
            coded, boxed = one.get("segmentation"), one.get("bbox")
            if not coded and boxed is not None:
                reading.notes.add("objects that are boxes, taken for filled rectangles", id(one))
            draw = drawing(where, _draw, where, coded, boxed, size)
            given = one.get("track_id", one.get("object"))
            id_ = None if given is None else checked.whole(given, "track_id", least=1)
            crowd = crowds and one.get("iscrowd") == 1
            if id_ is not None and not crowd and owners.setdefault(id_, one) is not one:
                other = f"annotation {owners[id_].get('id')} of the same picture"
                raise ValueError(f"has the track id {id_}, as {other} has; expected one of its own")
            yield LabelledObject(names.get(category, ""), draw, id_, crowd)


def _draw(where: str, coded: Any, boxed: Any, size: Size) -> Region:
    """The pixels of an annotation: polygons, run lengths of either kind, or else its box."""
    if isinstance(coded, Mapping):
        sides = checked.items(coded["size"], "size")
        if len(sides) != 2:
            raise ValueError(f"size: {sides!r} stands where height and width should")
        check_size(where, checked.size(*sides), size, "its picture")
        return decode_region(coded["counts"], size)
    if not coded:
        return fill([box(*checked.quadruple(boxed, "bbox"))], size)
    parts = checked.items(coded, "segmentation")
    parts = parts if isinstance(parts[0], list) else [parts]
    return joined(fill([ring(part)], size) for part in parts)


def _write(source: LabelledSource, out: Path) -> None:
    """Beside the document lie frames of video files, which are nowhere else as pictures."""
    pictures = source.pictures
    if any(one.is_in_film for one in pictures):
        names = {one: one.name for one in pictures}
        for sheet in labelled(sheets(source, _HIGHEST)):
            if sheet.picture.is_in_film:
                name = sheet.place_file(out / sheet.video)
                names[sheet.picture] = f"{sheet.video}/{name}"
        pictures = [replace(one, name=names[one]) for one in pictures]
    document = replace(source, pictures=pictures)
    write_annotations(out / "annotations.json", document, sorted(source.classes()))


def write_annotations(path: Path, source: LabelledSource, classes: Sequence[str]) -> None:
    """Write a source as one file, whose classes are given, an empty one as "object".

    Memory does not grow with its pictures. A MediaError if an object cannot be drawn.
    """
    categories, told = _categories(classes)
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        stream.write(f'{{"categories": {json.dumps(told)},\n"images": [')
        pictures = [one for one in source.pictures if one.labelled]
        images = (
            {"id": place, "file_name": one.name, "height": one.size[0], "width": one.size[1]}
            | ({"video": one.video, "frame": one.frame} if one.video else {})
            for place, one in enumerate(pictures, 1)
        )
        stream.writelines(_lines(images))
        stream.write('],\n"annotations": [')
        places = {id(picture): place for place, picture in enumerate(pictures, 1)}
        annotations = (
            {
                "image_id": places[id(sheet.picture)],
                "category_id": categories.get(one.label, 1),
                "iscrowd": int(one.unknown),
                **({} if one.unknown else {"object": number}),
                **_coded(region, sheet.picture.size),
            }
            for sheet in labelled(sheets(source, _HIGHEST))
            for one, number, region in sheet.shapes(unknown=True)
        )
        stream.writelines(_lines({"id": place, **one} for place, one in enumerate(annotations, 1)))
        stream.write("]}\n")


def _categories(classes: Sequence[str]) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Numbers of classes, and how a file tells them."""
    numbers = {name: number for number, name in enumerate(classes or [""], 1)}
    return numbers, [{"id": id_, "name": name or _OBJECT} for name, id_ in numbers.items()]


def _coded(region: Region, size: Size) -> dict[str, Any]:
    height, width = region.mask.shape
    return {
        "area": region.area,
        "bbox": [region.left, region.top, width, height],
        "segmentation": {"size": list(size), "counts": encode_region(region, size)},
    }


def _lines(values: Iterable[dict[str, Any]]) -> Iterator[str]:
    for place, value in enumerate(values):
        yield (",\n" if place else "\n") + json.dumps(value)


def _read_videos(path: Path, content: Any, reading: Reading) -> Iterator[Picture]:
    names, owned = _parsed(path, content, "videos", "video_id")
    folders = Counter(_folder(told) for told, _ in owned)
    for told, own in owned:
        where = f"{path} video {told['id']}"
        with naming(where):
            stated = checked.size(told["height"], told["width"])
            files = [checked.text(name, "file_names") for name in _items(told, "file_names")]
            # Its name is made of the last folders that differ from those of others.
            video = _folder(told)
            if folders[video] > 1 or not video:
                video = f"{video}/video {told['id']}".lstrip("/")
            for one in own:
                if len(_items(one, "segmentations")) != len(files):
                    raise ValueError(f"annotation {one.get('id')} does not tell of each frame")
            for frame, name in enumerate(files):
                file = reading.find(name, path)
                size = reading.size(file, stated, where)
                seen = [
                    {
                        **one,
                        "id": f"{one.get('id')} frame {frame}",
                        "segmentation": one["segmentations"][frame],
                        "track_id": one.get("object", place),
                    }
                    for place, one in enumerate(own, 1)
                    if one["segmentations"][frame]
                ]
                objects = partial(_objects, path, seen, names, size, True, reading)
                yield Picture(name, size, objects, file, video, frame)


def _items(value: Mapping[str, Any], key: str) -> list[Any]:
    return checked.items(value[key], key)


def _folder(video: Mapping[str, Any]) -> str:
    """The folder that the first of a video's frames is said to lie in; empty without one."""
    files = video.get("file_names")
    first = files[0] if isinstance(files, list) and files else None
    place = PurePosixPath(first.replace("\\", "/")).parent if isinstance(first, str) else ""
    return "" if str(place) == "." else str(place)


def _write_videos(source: LabelledSource, out: Path) -> None:
    classes, categories = _categories(sorted(source.classes()))
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for video, grouped in videos_of(source, 2**31):
        own = list(labelled(grouped))
        if not own:
            continue
        height, width = own[0].picture.size
        names = [f"{video}/{sheet.place_file(out / video)}" for sheet in own]
        told = {"id": len(videos) + 1, "height": height, "width": width, "length": len(own)}
        videos.append(told | {"file_names": names})
        tracks: dict[int, dict[str, Any]] = {}
        for place, sheet in enumerate(own):
            for one, number, region in sheet.shapes():
                if number not in tracks:
                    tracks[number] = {"video_id": told["id"], "iscrowd": 0}
                    tracks[number] |= {"category_id": classes[one.label], "object": number}
                    tracks[number] |= {key: [None] * len(own) for key in _OF_FRAMES}
                shape = _coded(region, sheet.picture.size)
                for key, of_one in _OF_FRAMES.items():
                    tracks[number][key][place] = shape[of_one]
        first = len(annotations) + 1
        annotations += [{"id": id_, **one} for id_, one in enumerate(tracks.values(), first)]
    content = {"videos": videos, "categories": categories, "annotations": annotations}
    write_text(out / "instances.json", json.dumps(content) + "\n")


def _holds(key: str, _: Path, content: Any) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get(key), list)


COCO = Format("coco", "COCO", partial(_holds, "images"), _read, (".json",), _write)
YOUTUBE_VIS = Format(
    "youtube-vis", "YouTube-VIS", partial(_holds, "videos"), _read_videos, (".json",), _write_videos
)

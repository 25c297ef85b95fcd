"""YouTube-VIS: COCO for videos, an annotation with a segmentation or null for each frame.

See https://youtube-vos.org/dataset/vis/. Written are run lengths; ``object`` is the number of the
object, which other readers pass over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from dvos.files import write_text
from dvos.formats.coco import OBJECT, class_names, coded_shape, draw_segmentation
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, Size
from dvos.formats.reading import Format, Reading, fields, items, naming, picture_size, text, whole
from dvos.formats.sheets import sheets


def _matches(_: Path, content: Any) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get("videos"), list)


def _read(path: Path, content: Any, reading: Reading) -> Iterator[Picture]:
    names = class_names(path, content)
    with naming(path):
        videos = [fields(one) for one in items(content["videos"])]
        annotations: dict[Any, list[Mapping[str, Any]]] = {one["id"]: [] for one in videos}
        for one in map(fields, items(content.get("annotations") or [])):
            annotations[one["video_id"]].append(one)
            if one.get("category_id") not in names:
                raise ValueError(f"annotation {one.get('id')} is of a class that is not there")
    for told in videos:
        where = f"{path} video {told['id']}"
        with naming(where):
            stated = picture_size(told["height"], told["width"])
            files = [text(name) for name in items(told["file_names"])]
            folder = PurePosixPath(files[0]).parent.name if files else ""
            own = annotations[told["id"]]
            for one in own:
                if len(items(one["segmentations"])) != len(files):
                    raise ValueError(f"annotation {one.get('id')} does not tell of each frame")
            for frame, name in enumerate(files):
                file = reading.find(name, path)
                size = reading.size(file, stated, where)
                objects = partial(_objects, path, own, frame, names, size)
                video = folder or f"video {told['id']}"
                yield Picture(name, size, objects, file, video=video, frame=frame)


def _objects(
    path: Path,
    annotations: Sequence[Mapping[str, Any]],
    frame: int,
    names: Mapping[Any, str],
    size: Size,
) -> list[LabelledObject]:
    found = []
    for place, one in enumerate(annotations, 1):
        coded = one["segmentations"][frame]
        where = f"{path} annotation {one.get('id')} frame {frame}"
        with naming(where):
            if coded:
                draw = partial(draw_segmentation, where, coded, None, size)
                number = whole(one.get("object", place), 1)
                crowd = one.get("iscrowd") == 1
                found.append(LabelledObject(names[one["category_id"]], draw, number, crowd))
    return found


def _write(source: LabelledSource, out: Path) -> None:
    classes = {name: number for number, name in enumerate(sorted(source.classes()) or [""], 1)}
    categories = [{"id": id_, "name": name or OBJECT} for name, id_ in classes.items()]
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for video, grouped in groupby(sheets(source, 2**31, "videos"), lambda sheet: sheet.video):
        own = list(grouped)
        height, width = own[0].picture.size
        names = [f"{video}/{sheet.place_file(out / video)}" for sheet in own]
        told = {"id": len(videos) + 1, "height": height, "width": width, "length": len(own)}
        videos.append(told | {"file_names": names})
        tracks: dict[int, dict[str, Any]] = {}
        for sheet in own:
            for one, number, region in sheet.shapes():
                track: dict[str, Any] = tracks.get(number) or {"video_id": told["id"], "iscrowd": 0}
                if number not in tracks:
                    tracks[number] = track
                    track |= {"category_id": classes[one.label], "object": number}
                    for key in ("segmentations", "bboxes", "areas"):
                        track[key] = [None] * len(own)
                shape = coded_shape(region, sheet.picture.size)
                track["segmentations"][sheet.place] = shape["segmentation"]
                track["bboxes"][sheet.place] = shape["bbox"]
                track["areas"][sheet.place] = shape["area"]
        annotations += [
            {"id": len(annotations) + n, **one} for n, one in enumerate(tracks.values(), 1)
        ]
    content = {"videos": videos, "categories": categories, "annotations": annotations}
    write_text(out / "instances.json", json.dumps(content) + "\n")


FORMAT = Format("youtube-vis", "YouTube-VIS", _matches, _read, (".json",), _write)

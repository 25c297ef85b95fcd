"""MOTS text, a row for each object of each frame, and MOT text of boxes, which is written only.

See https://www.vision.rwth-aachen.de/page/mots: ``frame id class height width runs``, id 10000 not
judged. Frames, and MOT's corners, are written from 1; a frame without objects has no row.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dvos.files import stem_of, write_text
from dvos.formats import checked
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, Size, label_objects
from dvos.formats.raster import decode_region, encode_region
from dvos.formats.reading import Format, Reading, drawing, naming
from dvos.formats.sheets import labelled, videos_of
from dvos.media.layout import IMAGE_SUFFIXES, list_files
from dvos.media.mask import LARGEST_32

_ROW = re.compile(r"\d+ \d+ \d+ \d+ \d+ \S+\s*")
_CLASSES = {1: "car", 2: "pedestrian"}
_IGNORED, _IGNORED_CLASS = 10_000, 10
_MOST_FRAMES = 1_000_000


#: By frame, the place and the cells of each row.
_Rows = dict[int, list[tuple[str, list[str]]]]


def _matches(_: Path, content: Any) -> bool:
    return isinstance(content, str) and bool(_ROW.fullmatch(content.partition("\n")[0]))


def _read(path: Path, content: str, reading: Reading) -> Iterator[Picture]:
    rows, size = _rows(path, content)
    every = [cells for own in rows.values() for _, cells in own if not _is_ignored(cells)]
    # Some trackers count from 0, which is no object in a label image.
    least = min((checked.whole(cells[1]) for cells in every), default=1)
    if least < 1:
        reading.notes.add("tracks whose ids begin at 0, numbered from 1", path)
    video, files = _frames(path, rows, reading)
    base = min(files) if files else min(1, *rows) if rows else 1
    last = max([*files, *rows], default=0)
    if last >= _MOST_FRAMES:
        raise ValueError(f"frame {last}, at most {_MOST_FRAMES} are read")
    for frame in range(base, last + 1):
        file = files.get(frame)
        shown = reading.size(file, size, f"{path} frame {frame}")
        objects = partial(_objects, rows.get(frame, []), shown, 1 - min(least, 1))
        name = f"{video}/{file.name if file else f'{frame:06d}.png'}"
        yield Picture(name, shown, objects, file, video, frame - base)


def _rows(path: Path, content: str) -> tuple[_Rows, Size | None]:
    """The rows of each frame, with their places and cells, and the size of all of them."""
    rows: _Rows = {}
    told: dict[tuple[int, int], int] = {}
    size: Size | None = None
    for place, line in enumerate(content.splitlines(), 1):
        where, cells = f"{path} row {place}", line.split()
        if not cells:
            continue
        with naming(where):
            if len(cells) != 6:
                raise ValueError(f"{len(cells)} words, frame id class height width runs are needed")
            if cells[5].startswith(("b'", 'b"')):
                raise ValueError("its runs are the Python text b'...', write them decoded")
            own = checked.size(cells[3], cells[4])
            if size not in (None, own):
                raise ValueError(f"is of {own[1]} x {own[0]} pixels, other rows are not")
            size = own
            frame, id_ = checked.whole(cells[0], "frame"), checked.whole(cells[1], "id")
            if not _is_ignored(cells) and (first := told.setdefault((frame, id_), place)) != place:
                raise ValueError(f"is of frame {frame} and id {id_}, as row {first} is")
            rows.setdefault(frame, []).append((where, cells))
    return rows, size


def _frames(path: Path, rows: _Rows, reading: Reading) -> tuple[str, dict[int, Path]]:
    """Name of a video, ``0002.txt`` or ``NAME/gt/gt.txt``, and its images by rows' numbers.

    Rows count from 1 in one challenge, from 0 in another, and so do files, mostly both alike.
    """
    inside = path.parent.name in ("gt", "det")
    video = path.parent.parent.name if inside else stem_of(path)
    folder = f"{video}/img1" if inside else video
    first = min(rows, default=1)
    names = [f"{folder}/{number:06d}" for number in (first, first - 1)] if reading.files else []
    found = next((file for name in names if (file := reading.find(name, path))), None)
    images = [] if found is None else list_files(found.parent, IMAGE_SUFFIXES)
    files = {int(one.stem): one for one in images if one.stem.isdecimal()}
    if files and rows and min(files) == 0 < first:
        note = "files numbered from 0 and no row of frame 0: rows are matched with them by number"
        if max(rows) == max(files) + 1:
            note = "files numbered from 0 and rows from 1: matched in order"
            files = {number + 1: file for number, file in files.items()}
        reading.notes.add(note, path)
    return video, files


def _objects(
    rows: Sequence[tuple[str, list[str]]], size: Size, added: int
) -> Iterator[LabelledObject]:
    """The objects of a frame, under their ids with some ``added``."""
    for where, cells in rows:
        _, id_, kind, _, _, runs = cells
        with naming(where):
            unknown = _is_ignored(cells)
            label = "" if unknown else _CLASSES.get(checked.whole(kind), f"class {kind}")
            draw = drawing(where, decode_region, runs, size)
            yield LabelledObject(label, draw, checked.whole(id_) + added, unknown)


def _is_ignored(cells: Sequence[str]) -> bool:
    """Whether a row is of a region that is not judged, of which a frame may have several."""
    id_, kind = checked.whole(cells[1], "id"), checked.whole(cells[2], "class")
    return id_ == _IGNORED or kind == _IGNORED_CLASS


def _write(source: LabelledSource, out: Path) -> None:
    kinds = {name: kind for kind, name in _CLASSES.items()}
    others = sorted(source.classes().keys() - kinds.keys())
    # Pedestrians are the class that evaluations know in any case.
    kinds |= {name: 2 if len(others) == 1 else 3 + place for place, name in enumerate(others)}
    for video, own in videos_of(source, _IGNORED - 1):
        rows = ""
        for sheet in labelled(own, gaps=False):
            height, width = sheet.picture.size
            frame = sheet.picture.frame + 1
            labels = {
                number: kinds[one.label]
                for one, number in zip(sheet.objects(), sheet.numbers, strict=True)
                if not one.unknown
            }
            # Drawn as one label image, as no two masks may share a pixel.
            for one in label_objects(sheet.labels(_IGNORED)):
                kind = labels.get(one.id or 0, _IGNORED_CLASS)
                runs = encode_region(one.draw(), sheet.picture.size)
                rows += f"{frame} {one.id} {kind} {height} {width} {runs}\n"
        if rows:
            write_text(out / f"{video}.txt", rows)
        else:
            source.notes.add("videos without objects, which MOTS does not tell", video)


def _write_boxes(source: LabelledSource, out: Path) -> None:
    for video, own in videos_of(source, LARGEST_32):
        rows = ""
        for sheet in labelled(own, gaps=False):
            for _, number, region in sheet.shapes():
                height, width = region.mask.shape
                corner = f"{region.left + 1},{region.top + 1},{width},{height}"
                rows += f"{sheet.picture.frame + 1},{number},{corner},1,-1,-1,-1\n"
        write_text(out / f"{video}.txt", rows)


MOTS = Format("mots", "MOTS text", _matches, _read, (".txt",), _write, classes=False)
MOT = Format("mot", "MOT text of boxes", write=_write_boxes, classes=False)

"""The Cell Tracking Challenge's folders as labelled videos, in and out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from dvos.files import composed
from dvos.formats.ctc import RESULT_TABLE, CtcWriter, read_track_table
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, label_objects
from dvos.formats.reading import Format, Reading
from dvos.formats.sheets import sheets
from dvos.media.ctc_folder import CtcSequence, ctc_sequences, numbered_files
from dvos.media.label_image import LARGEST_32, read_label_image
from dvos.media.layout import list_folders
from dvos.media.mask import mask_size


def _matches(path: Path, _: Any) -> bool:
    return path.is_dir() and bool(_sequences(path))


def _sequences(path: Path) -> list[CtcSequence]:
    """Those with truth, else those with results."""
    folders = [path.absolute(), *list_folders(path.absolute())]
    results = [one for one in folders if one.name.endswith("_RES")]
    return ctc_sequences(path) or [
        CtcSequence(
            name := composed(one.name).removesuffix("_RES"),
            numbered_files(one.with_name(name)),
            {},
            masks,
            one / RESULT_TABLE if (one / RESULT_TABLE).is_file() else None,
        )
        for one in results
        if (masks := numbered_files(one))
    ]


def _read(path: Path, _: Any, reading: Reading) -> Iterator[Picture]:
    """All frames; labelled are those whose masks show every object, with the ids of tracks."""
    for one in _sequences(path):
        # That of a sequence without objects is empty.
        told = one.table is not None and one.table.stat().st_size > 0
        tracks = read_track_table(one.table) if one.table and told else {}
        parents = {label: track.parent for label, track in tracks.items() if track.parent}
        reading.parents[one.name] = parents
        masks = one.whole_masks()
        if not masks:
            note = "sequences without SEG: the markers of TRA are taken for masks"
            reading.notes.add(note, one.name)
            masks = one.markers
        first = next(iter(masks.values()))
        for number in sorted({*one.frames, *masks}):
            image, mask = one.frames.get(number), masks.get(number)
            size = reading.size(image, mask_size(mask or first), str(mask or image))
            marker = one.markers.get(number) if mask != one.markers.get(number) else None
            yield Picture(
                f"{one.name}/{one.frame_name(number)}.tif",
                size,
                partial(_objects, mask, marker),
                image,
                video=one.name,
                frame=number,
                labelled=mask is not None,
            )


def _objects(mask: Path | None, marker: Path | None) -> list[LabelledObject]:
    """The objects of a mask, under the ids of the markers that lie in them, if there are any."""
    if mask is None:
        return []
    objects = label_objects(read_label_image(mask))
    if marker is None:
        return objects
    markers = read_label_image(marker)
    found = []
    for one in objects:
        region = one.draw()
        inside = np.unique(markers[region.window][region.mask], return_counts=True)
        of_track = {int(id_): int(n) for id_, n in zip(*inside, strict=True) if id_}
        id_ = max(of_track, key=lambda each: of_track[each], default=None)
        found.append(LabelledObject(one.label, one.draw, id_))
    return found


def _write(source: LabelledSource, out: Path) -> None:
    frames = max(one.frame for one in source.pictures) + 1
    of_video = groupby(sheets(source, LARGEST_32, "videos"), lambda sheet: sheet.video)
    for video, own in of_video:
        writer = CtcWriter(out / f"{video}_RES", frames)
        for sheet in own:
            parents = source.parents.get(sheet.picture.video, {})
            writer.add(sheet.labels(), parents, sheet.picture.frame)
        writer.finish()


#: ``VIDEO_RES/mask000.tif`` and on are written, with ``res_track.txt``; of a photo one frame.
FORMAT = Format("ctc", "Cell Tracking Challenge", _matches, _read, write=_write)

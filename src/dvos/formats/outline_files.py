"""Outlines for other programs, written only: GeoJSON, and a CSV table of corners.

Both count x and y in pixels from the upper left corner, and run along the edges of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dvos.files import write_json
from dvos.formats.labels import LabelledSource
from dvos.formats.raster import outlines
from dvos.formats.reading import Format
from dvos.formats.sheets import Sheet, sheets
from dvos.media.label_image import LARGEST_32
from dvos.tables import write_rows

#: A ring of a part is its outline (0) or a hole (1 and on).
_COLUMNS = ("picture", "video", "frame", "id", "label", "part", "ring", "x", "y")


def _write_geojson(source: LabelledSource, out: Path) -> None:
    for sheet in sheets(source, LARGEST_32):
        features = []
        for one, number, region in sheet.shapes():
            parts = [
                [np.append(ring, ring[:1], axis=0).tolist() for ring in part]
                for part in outlines(region)
            ]
            kind, places = ("Polygon", parts[0]) if len(parts) == 1 else ("MultiPolygon", parts)
            kinds = {"name": one.label or "object"}
            told = {"objectType": "annotation", "name": str(number), "classification": kinds}
            geometry = {"type": kind, "coordinates": places}
            features.append(
                {"type": "Feature", "id": number, "geometry": geometry, "properties": told}
            )
        content = {"type": "FeatureCollection", "features": features}
        write_json(out / sheet.video / f"{sheet.name}.geojson", content)


def _write_csv(source: LabelledSource, out: Path) -> None:
    write_rows(out / "outlines.csv", _COLUMNS, _corners(sheets(source, LARGEST_32)))


def _corners(every: Iterator[Sheet]) -> Iterator[tuple[object, ...]]:
    for sheet in every:
        frame = sheet.picture.frame if sheet.video else None
        for one, number, region in sheet.shapes():
            head = (sheet.picture.name, sheet.video, frame, number, one.label)
            for place, part in enumerate(outlines(region)):
                for which, ring in enumerate(part):
                    yield from ((*head, place, which, x, y) for x, y in ring.tolist())


GEOJSON = Format("geojson", "GeoJSON outlines", write=_write_geojson)
CSV = Format("csv", "CSV of outlines", write=_write_csv)

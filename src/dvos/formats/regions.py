"""Outlines of other programs: regions, as plots are, are read, and those of objects written.

All count x and y in pixels from the upper left corner.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import FaultCollector, MediaError
from dvos.files import parse_json, read_bytes, write_json
from dvos.formats.imagej import read_outlines
from dvos.formats.labels import LabelledSource, label_objects
from dvos.formats.raster import Ring, outlines, ring
from dvos.formats.reading import Format, naming
from dvos.formats.sheets import sheets
from dvos.media.layout import IMAGE_SUFFIXES
from dvos.media.mask import LARGEST_32, read_label_image
from dvos.tables import write_rows

_GEOJSON, _ROIS = {".json", ".geojson"}, {".roi", ".zip"}
#: A ring of a part is its outline (0) or a hole (1 and on).
_COLUMNS = ("picture", "video", "frame", "id", "label", "part", "ring", "x", "y")
#: Points times corners that are compared at once.
_AT_ONCE = 2**22


@dataclass(frozen=True, eq=False)
class NamedRegion:
    """A region: what lies inside its rings by the even-odd rule, so that a ring may be a hole."""

    name: str  # as tables call it
    rings: tuple[Ring, ...]  # outlines; (0, 0) is the outer corner of the upper left pixel

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the points (N, 2) lie inside, bool (N,)."""
        corners = np.concatenate(self.rings)
        near = (points >= corners.min(axis=0)) & (points < corners.max(axis=0))
        inside: NDArray[np.bool_] = near.all(axis=1)
        (x0, y0), (x1, y1) = corners.T, np.concatenate([np.roll(o, -1, 0) for o in self.rings]).T
        slope = (x1 - x0) / np.where(y1 == y0, 1.0, y1 - y0)
        places = np.flatnonzero(inside)
        for part in np.array_split(places, 1 + len(places) * len(corners) // _AT_ONCE):
            x, y = points[part].T[..., None]
            crossed = ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * slope)
            inside[part] = np.count_nonzero(crossed, axis=1) % 2 == 1
        return inside


def read_regions(path: Path) -> tuple[NamedRegion, ...]:
    """Regions of GeoJSON in pixels, of ImageJ's ROIs, or of a mask of ids; else a MediaError."""
    suffix = path.suffix.lower()
    if suffix in _GEOJSON:
        data = read_bytes(path, "GeoJSON, ImageJ's ROIs or a mask of ids")
        with naming(path):
            regions = tuple(_features(parse_json(data)))
    elif suffix in IMAGE_SUFFIXES:
        regions = tuple(
            _named(str(one.id), [each for part in outlines(one.draw()) for each in part])
            for one in label_objects(read_label_image(path))
        )
    elif suffix in _ROIS:
        with naming(path):
            regions = tuple(_named(name, rings) for name, rings in read_outlines(path))
    else:
        kinds = ".geojson, .json, .roi, .zip, or the image of a mask"
        raise MediaError.at(path, f"is no file of regions by its ending {suffix!r}", kinds)
    if not regions:
        raise MediaError.at(path, "holds no region", "at least one polygon or id")
    with FaultCollector(MediaError) as faults:
        names = [one.name for one in regions]
        for name in sorted({name for name in names if names.count(name) > 1}):
            faults.add(path, f"{names.count(name)} regions are named {name!r}", "one", "rename it")
    return regions


def _features(content: Any) -> Iterator[NamedRegion]:
    listed = content["features"] if content["type"] == "FeatureCollection" else [content]
    for number, feature in enumerate(listed, 1):
        is_feature = feature["type"] == "Feature"
        shape = feature["geometry"] if is_feature else feature
        told = (feature.get("properties") or {}) if is_feature else {}
        name = told.get("name", feature.get("id"))
        polygons = {"Polygon": [shape["coordinates"]], "MultiPolygon": shape["coordinates"]}
        if shape["type"] not in polygons:
            raise ValueError(f"its region {number} is a {shape['type']}, not a polygon")
        # A point may have a height, too.
        rings = [ring([p[:2] for p in r]) for part in polygons[shape["type"]] for r in part]
        yield _named(str(number if name is None else name), rings)


def _named(name: str, rings: Sequence[NDArray[Any]]) -> NamedRegion:
    if not rings or not name.strip():
        raise ValueError(f"a region {name!r} without a name or an outline")
    return NamedRegion(name, tuple(each.astype(float) for each in rings))


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
            feature = {"type": "Feature", "id": number, "geometry": geometry, "properties": told}
            features.append(feature)
        content = {"type": "FeatureCollection", "features": features}
        write_json(out / sheet.video / f"{sheet.name}.geojson", content)


def _write_csv(source: LabelledSource, out: Path) -> None:
    rows = (
        (sheet.picture.name, sheet.video, frame, number, one.label, part, which, x, y)
        for sheet in sheets(source, LARGEST_32)
        for one, number, region in sheet.shapes()
        for frame in [sheet.picture.frame if sheet.video else None]
        for part, rings in enumerate(outlines(region))
        for which, ring in enumerate(rings)
        for x, y in ring.tolist()
    )
    write_rows(out / "outlines.csv", _COLUMNS, rows)


GEOJSON = Format("geojson", "GeoJSON outlines", write=_write_geojson)
CSV = Format("csv", "CSV of outlines", write=_write_csv)

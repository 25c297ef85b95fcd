"""Outlines of other programs: regions, as plots are, are read, and those of objects written.

All count x and y in pixels from the upper left corner.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import FaultCollector, MediaError
from dvos.files import parse_json, read_bytes, write_json
from dvos.formats.imagej import read_outlines
from dvos.formats.labels import LabelledSource, Size, label_objects
from dvos.formats.raster import Ring, outlines, ring
from dvos.formats.reading import Format, naming
from dvos.formats.sheets import labelled, sheets
from dvos.media.layout import IMAGE_SUFFIXES
from dvos.media.mask import IGNORE, LARGEST_32, read_label_image
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
    picture: Size | None = None  # of the mask that it is drawn in, if it is

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
            regions = _of_geojson(path, parse_json(data))
    elif suffix in IMAGE_SUFFIXES:
        labels = read_label_image(path)
        regions = [
            _named(str(one.id), [each for part in outlines(one.draw()) for each in part], labels)
            for one in label_objects(labels, unknown=IGNORE)
            if not one.unknown
        ]
    elif suffix in _ROIS:
        with naming(path):
            regions = [_named(name, rings) for name, rings in read_outlines(path)]
    else:
        kinds = ".geojson, .json, .roi, .zip, or the image of a mask"
        raise MediaError.at(path, f"is no file of regions by its ending {suffix!r}", kinds)
    if not regions:
        raise MediaError.at(path, "holds no region", "at least one polygon or id")
    with FaultCollector(MediaError) as faults:
        names = [one.name for one in regions]
        for name in sorted({name for name in names if names.count(name) > 1}):
            faults.add(path, f"{names.count(name)} regions are named {name!r}", "one", "rename it")
        for one in regions:
            if np.ptp(np.concatenate(one.rings), axis=0).max() < 1:
                found = f"the region {one.name!r} is smaller than a pixel"
                faults.add(path, found, "corners in pixels of the picture, not degrees or metres")
    return tuple(regions)


def _of_geojson(path: Path, content: Any) -> list[NamedRegion]:
    listed = [content]
    if isinstance(content, Mapping) and content.get("type") == "FeatureCollection":
        listed = content["features"]
    if not isinstance(listed, list):
        raise ValueError("its features are no list")
    with FaultCollector(MediaError) as faults:
        found = [faults.collect(_feature, path, *one) for one in enumerate(listed, 1)]
    return [one for one in found if one is not None]


def _feature(path: Path, number: int, feature: Any) -> NamedRegion:
    with naming(f"{path} feature {number}"):
        is_feature = isinstance(feature, Mapping) and feature.get("type") == "Feature"
        shape = feature["geometry"] if is_feature else feature
        told = (feature.get("properties") or {}) if is_feature else {}
        if not (isinstance(shape, Mapping) and isinstance(told, Mapping)):
            what = "properties are" if isinstance(shape, Mapping) else "geometry is"
            raise ValueError(f"its {what} no mapping")
        kind = shape["type"]
        if kind not in ("Polygon", "MultiPolygon"):
            raise ValueError(f"is a {kind}, not a polygon")
        parts = [shape["coordinates"]] if kind == "Polygon" else shape["coordinates"]
        if not isinstance(parts, list) or not all(isinstance(part, list) for part in parts):
            raise ValueError("its coordinates are no lists of rings")
        name = told.get("name", feature.get("id"))
        # A point may have a height, too.
        rings = [ring(_flat(corners)) for part in parts for corners in part]
        return _named(str(number if name is None else name), rings)


def _flat(corners: Any) -> list[Any]:
    try:
        return [point[:2] for point in corners]
    except TypeError:
        raise ValueError("the corners of a polygon are no pairs of numbers") from None


def _named(
    name: str, rings: Sequence[NDArray[Any]], picture: NDArray[Any] | None = None
) -> NamedRegion:
    if not rings or not name.strip():
        raise ValueError(f"a region {name!r} without a name or an outline")
    outlined = tuple(each.astype(float) for each in rings)
    return NamedRegion(name, outlined, None if picture is None else picture.shape[:2])


def _write_geojson(source: LabelledSource, out: Path) -> None:
    for sheet in labelled(sheets(source, LARGEST_32)):
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
        for sheet in labelled(sheets(source, LARGEST_32))
        for one, number, region in sheet.shapes()
        for frame in [sheet.picture.frame if sheet.video else None]
        for part, rings in enumerate(outlines(region))
        for which, ring in enumerate(rings)
        for x, y in ring.tolist()
    )
    write_rows(out / "outlines.csv", _COLUMNS, rows)


GEOJSON = Format("geojson", "GeoJSON outlines", write=_write_geojson)
CSV = Format("csv", "CSV of outlines", write=_write_csv)

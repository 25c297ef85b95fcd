"""Regions of a picture: GeoJSON, masks of ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvos.errors import MediaError
from dvos.formats.regions import read_regions
from dvos.media.mask import IGNORE, write_label_image

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[4, 4], [6, 4], [6, 6], [4, 6], [4, 4]]
FAR = [[20, 0, 5], [30, 0, 5], [30, 10, 5]]


def _feature(kind: str, coordinates: Any, **properties: object) -> dict[str, Any]:
    shape = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": shape, "properties": properties}


def _geojson(folder: Path, *features: Any) -> Path:
    path = folder / "plots.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_polygons_with_holes_and_parts_are_read_by_name(tmp_path: Path) -> None:
    path = _geojson(
        tmp_path,
        _feature("Polygon", [SQUARE, HOLE], name="A"),
        _feature("MultiPolygon", [[SQUARE], [FAR]]),
    )
    one, other = read_regions(path)
    assert (one.name, other.name) == ("A", "2")
    points = np.array([[0.5, 0.5], [5, 5], [9.9, 9.9], [10, 5], [29, 1], [21, 9], [-1, 5]])
    assert one.contains(points).tolist() == [True, False, True, False, False, False, False]
    assert other.contains(points).tolist() == [True, True, True, False, True, False, False]


def test_each_id_of_a_mask_is_a_region_pixel_by_pixel(tmp_path: Path) -> None:
    labels = np.zeros((6, 8), np.uint16)
    labels[1:5, 1:4], labels[2, 2], labels[5, 7] = 7, 0, 300
    labels[0, 0] = IGNORE
    write_label_image(tmp_path / "plots.png", labels)
    one, other = read_regions(tmp_path / "plots.png")
    assert (one.name, other.name) == ("7", "300")
    y, x = np.mgrid[:6, :8]
    middles = np.column_stack([x.ravel(), y.ravel()]) + 0.5
    assert one.picture == other.picture == (6, 8)
    for region, number in ((one, 7), (other, 300)):
        assert (region.contains(middles) == (labels.ravel() == number)).all()


def test_outlines_of_imagej_are_read_wherever_they_lead(tmp_path: Path) -> None:
    from roifile import ROI_TYPE, ImagejRoi

    plots = {"left": [[0, 0], [10, 0], [10, 10], [0, 10]], "far": [[900, 0], [990, 0], [990, 90]]}
    for kind in ("plots.zip", "left.roi"):
        path = tmp_path / kind
        for name, corners in plots.items():
            roi = ImagejRoi.frompoints(corners, name=name)
            roi.roitype = ROI_TYPE.POLYGON
            if kind.endswith(".zip") or name == "left":
                roi.tofile(path, mode="a" if kind.endswith(".zip") else None)
        found = read_regions(path)
        assert [one.name for one in found] == ["left", "far"][: len(found)]
        assert found[0].contains(np.array([[0.5, 0.5], [9.9, 5], [10.5, 5]])).tolist() == [
            True,
            True,
            False,
        ]
    (tmp_path / "spoilt.zip").write_bytes(b"PK no zip")
    with pytest.raises(MediaError, match=r"spoilt\.zip"):
        read_regions(tmp_path / "spoilt.zip")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", r"is no JSON \(Expecting .*\); export it again"),
        ("[]", "feature 1: its geometry is no mapping"),
        ('{"type": "FeatureCollection", "features": {}}', "its features are no list"),
        (
            json.dumps({"type": "Feature", "geometry": None}),
            "feature 1: its geometry is no mapping",
        ),
        (
            json.dumps(_feature("Polygon", [SQUARE]) | {"properties": ["A"]}),
            "properties are no map",
        ),
        (
            json.dumps(_feature("Polygon", [[1, 2, 3]])),
            "feature 1: the corners .* no pairs of numbers",
        ),
        (json.dumps(_feature("Polygon", [7])), "feature 1: the corners .* no pairs of numbers"),
        (json.dumps(_feature("Polygon", 5)), "feature 1: its coordinates are no lists of rings"),
        (json.dumps(_feature("Polygon", [[[8.5, 47.3], [8.6, 47.3], [8.6, 47.4]]])), "degrees"),
        ('{"type": "FeatureCollection"}', "lacks 'features'"),
        (json.dumps(_feature("Point", [1, 2])), "is a Point"),
        (json.dumps(_feature("Polygon", [[[1, 2], [3, 4]]])), "polygon of 2 points"),
        (json.dumps(_feature("Polygon", [[[1, 2], [3, "x"], [5, 6]]])), "no pairs of numbers"),
        (json.dumps(_feature("Polygon", [])), "without a name or an outline"),
        (json.dumps({"type": "FeatureCollection", "features": []}), "holds no region"),
    ],
)
def test_what_is_no_file_of_regions_is_told_in_one_line(
    content: str, found: str, tmp_path: Path
) -> None:
    path = tmp_path / "plots.json"
    path.write_text(content)
    with pytest.raises(MediaError, match=found) as caught:
        read_regions(path)
    assert len(caught.value.faults) == 1
    assert str(path) in str(caught.value)


def test_regions_have_names_of_their_own(tmp_path: Path) -> None:
    twice = [_feature("Polygon", [SQUARE], name="A")] * 2
    with pytest.raises(MediaError, match="2 regions are named 'A'"):
        read_regions(_geojson(tmp_path, *twice))
    with pytest.raises(MediaError, match=r"ending '\.txt'"):
        read_regions(tmp_path / "plots.txt")

"""How much ground a pixel of a photo shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dvos.errors import MediaError
from dvos.media.image import ground_pixel

FOCAL, FOCAL_35, WIDTH, RESOLUTION, UNIT = 0x920A, 0xA405, 0xA002, 0xA20E, 0xA210
DRONE = '<rdf:Description drone-dji:RelativeAltitude="+10.00" drone-dji:GimbalPitchDegree="-89.9"/>'


def _photo(folder: Path, tags: dict[int, Any], xmp: str = DRONE, kind: str = "jpg") -> Path:
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(tags)
    path = folder / f"photo.{kind}"
    Image.new("RGB", (400, 300)).save(path, exif=exif, xmp=xmp.encode())
    return path


def test_the_focal_length_of_film_is_told_by_the_diagonal(tmp_path: Path) -> None:
    # 500 pixels stand for 43.27 mm: at 24 mm the focal length is 277.35 pixels.
    photo = _photo(tmp_path, {FOCAL_35: 24})
    assert ground_pixel(photo) == pytest.approx(10_000 / 277.35, rel=1e-4)
    assert ground_pixel(photo, 2.0) == pytest.approx(2_000 / 277.35, rel=1e-4)


@pytest.mark.parametrize(("unit", "resolution"), [(2, 2540.0), (3, 1000.0), (4, 100.0)])
def test_the_sensor_s_resolution_goes_first_and_a_smaller_copy_is_known_as_such(
    unit: int, resolution: float, tmp_path: Path
) -> None:
    tags = {FOCAL: 8.8, RESOLUTION: resolution, UNIT: unit, WIDTH: 800, FOCAL_35: 24}
    # 880 pixels of the whole photo, 440 of this one.
    assert ground_pixel(_photo(tmp_path, tags)) == pytest.approx(10_000 / 440)


def test_elements_of_xmp_are_read_too(tmp_path: Path) -> None:
    xmp = "<drone-dji:RelativeAltitude>+5.5</drone-dji:RelativeAltitude>"
    photo = _photo(tmp_path, {FOCAL_35: 24}, xmp, "webp")
    assert ground_pixel(photo) == pytest.approx(5_500 / 277.35, rel=1e-4)


@pytest.mark.parametrize(
    ("tags", "xmp", "found"),
    [
        ({FOCAL_35: 24}, "<x/>", "no height above the ground"),
        ({FOCAL_35: 24}, DRONE.replace("+10", "-10"), "no height above the ground, but -10 m"),
        # Another program's way of writing numbers, whose beginning would be another one.
        ({FOCAL_35: 24}, DRONE.replace("+10.00", "1234/100"), "no height above the ground"),
        ({FOCAL_35: 24}, DRONE.replace("+10.00", "+3.0e1"), "no height above the ground"),
        ({FOCAL_35: 24}, DRONE.replace("+10.00", "30,5"), "no height above the ground"),
        ({FOCAL: 8.8}, DRONE, "no focal length"),
        ({FOCAL_35: 24}, DRONE.replace("-89.9", "-45"), "45 degrees beside"),
    ],
)
def test_what_is_not_told_is_asked_for(
    tags: dict[int, Any], xmp: str, found: str, tmp_path: Path
) -> None:
    with pytest.raises(MediaError, match=found):
        ground_pixel(_photo(tmp_path, tags, xmp))

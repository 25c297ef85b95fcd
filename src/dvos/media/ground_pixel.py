"""How much ground a pixel of a photo shows, by what its EXIF and XMP tell of the camera."""

import math
import re
from pathlib import Path
from typing import Any

from dvos.errors import MediaError
from dvos.files import read_bytes
from dvos.media.image import open_header

#: Tags of EXIF.
_EXIF, _FOCAL, _FOCAL_35, _WIDTH = 0x8769, 0x920A, 0xA405, 0xA002
_RESOLUTION, _RESOLUTION_UNIT = 0xA20E, 0xA210
#: Millimetres of the units of a sensor's resolution.
_UNITS = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
#: Of the film that focal lengths are told for, millimetres.
_DIAGONAL_35 = math.hypot(36, 24)
#: What drones tell in XMP: metres above where they started, and degrees from the horizon.
_HEIGHT, _PITCH = "RelativeAltitude", "GimbalPitchDegree"
#: Degrees that a camera may look beside straight down: then a pixel shows 4 % more than is told.
_TILT = 15.0
_REMEDY = "give ground_sampling_distance in millimetres, or known_width"


def ground_pixel(path: Path, height: float | None = None) -> float:
    """Millimetres of ground that a pixel of a photo shows, taken straight down.

    It is the height in metres, else as drones tell it, over the focal length in pixels: of the
    sensor's resolution, or for 35 mm film, by the diagonal (CIPA DCG-001). A MediaError if the
    photo is damaged or does not tell it, or the camera did not look down.
    """
    data = read_bytes(path, "a photo")
    with open_header(data, path) as image:
        told = _exif(image) | _xmp(image)
        pixels = _focal_pixels(told, *image.size)
    height = told.get(_HEIGHT) if height is None else height
    tilt = abs(told.get(_PITCH, -90.0) + 90)
    if height is None or height <= 0:
        found = "tells no height above the ground (RelativeAltitude in XMP)"
        raise MediaError.at(path, found, "", f"give camera_height in metres, or {_REMEDY[5:]}")
    if pixels is None:
        found = "tells no focal length for 35 mm film, nor one with the sensor's resolution"
        raise MediaError.at(path, found, "both in EXIF", _REMEDY)
    if tilt > _TILT:
        found = f"its camera looked {tilt:.0f} degrees beside straight down"
        raise MediaError.at(path, found, f"at most {_TILT:.0f}: a pixel has no one size", _REMEDY)
    return 1000 * height / pixels


def _exif(image: Any) -> dict[Any, float]:
    tags = image.getexif().get_ifd(_EXIF)
    wanted = (_FOCAL, _FOCAL_35, _WIDTH, _RESOLUTION, _RESOLUTION_UNIT)
    values = {tag: float(tags.get(tag, 0)) for tag in wanted}
    return {tag: value for tag, value in values.items() if 0 < value < math.inf}


def _xmp(image: Any) -> dict[Any, float]:
    """Numbers of XMP, attributes as well as elements, without parsing foreign XML."""
    data = image.info.get("xmp") or b""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data)
    found = {}
    for name in (_HEIGHT, _PITCH):
        number = r"([+-]?[0-9]{1,9}(?:\.[0-9]{1,12})?)"
        match = re.search(rf"\b{name}\s*(?:=\s*[\"']|>)\s*{number}\b", text)
        if match:
            found[name] = float(match[1])
    return found


def _focal_pixels(told: dict[Any, float], width: int, height: int) -> float | None:
    unit = _UNITS.get(int(told.get(_RESOLUTION_UNIT, 2)))
    if {_FOCAL, _RESOLUTION} <= told.keys() and unit:
        # Of the photo as it was taken; this one may be smaller.
        scale = width / told.get(_WIDTH, width)
        return told[_FOCAL] * told[_RESOLUTION] / unit * scale
    if _FOCAL_35 in told:
        return told[_FOCAL_35] * math.hypot(width, height) / _DIAGONAL_35
    return None

"""ImageJ ROIs, alone or in a zip: outlines of the objects of a picture or of a stack's frames.

See https://imagej.net/ij/developer/source/ij/io/RoiDecoder.java.html. Positions count from 1.
"""

import io
import logging
import re
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from dvos.errors import MediaError
from dvos.files import read_bytes, write_bytes
from dvos.formats.labels import LabelledObject, LabelledSource, Picture, Region, Size
from dvos.formats.raster import Ring, box, ellipse, fill, outlines, ring
from dvos.formats.reading import Format, Reading, drawing, naming, stem_without
from dvos.formats.sheets import labelled, sheets
from dvos.media.image import image_size
from dvos.media.layout import IMAGE_SUFFIXES, list_files
from dvos.media.mask import LARGEST_32

_ENDINGS = ("_rois", "_RoiSet", "-RoiSet", "_ROIs", "_roi")
#: Most ROIs of a zip, and bytes of one.
_MOST, _MOST_BYTES = 200_000, 2**26
#: The names that are written.
_NAMED = re.compile(r"(?:t[0-9]+-)?([1-9][0-9]{0,8})")
#: The farthest that its whole numbers reach.
_FARTHEST = 2**15 - 1


def _matches(path: Path, _: Any) -> bool:
    if path.suffix.lower() == ".roi":
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            return not names or any(name.lower().endswith(".roi") for name in names)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        return False


def _read(path: Path, _: Any, reading: Reading) -> Iterator[Picture]:
    """The picture that the ROIs are of, or the frames where they have positions."""
    rois = []
    for name, roi in _rois(path):
        if _is_area(roi):
            rois.append((name, roi))
        else:
            kind = roi.roitype.name.lower()
            reading.notes.add(f"ROIs that are no areas ({kind}), left out", name)
    places = _positions(path, [roi for _, roi in rois])
    frames, video = _frames(path, reading, stack=any(places))
    if max(places, default=0) >= len(frames):
        found = f"has ROIs on slice {max(places) + 1}, {len(frames)} images were found"
        raise MediaError.at(path, found, "the frames in a folder named as the zip, beside it")
    for frame, file in enumerate(frames):
        own = [each for each, at in zip(rois, places, strict=True) if at == frame]
        size, name = image_size(file), f"{video}/{file.name}" if video else file.name
        reading.once(path, file)
        yield Picture(name, size, partial(_objects, path, own, size), file, video, frame)


def _positions(path: Path, rois: Sequence[Any]) -> list[int]:
    """The frame, from 0, that each ROI is of: by time or depth, in a plain stack by position.

    In a hyperstack both are set, the one that it has no more than one of to 1 throughout.
    """
    times, depths = [roi.t_position for roi in rois], [roi.z_position for roi in rois]
    if max(times, default=0) > 1 and max(depths, default=0) > 1:
        found = "has ROIs at several times and depths"
        raise MediaError.at(path, found, "frames of one depth, or one time", "export each apart")
    first, second = (depths, times) if max(depths, default=0) > 1 else (times, depths)
    every = zip(first, second, rois, strict=True)
    return [max(one or other or roi.position, 1) - 1 for one, other, roi in every]


def read_outlines(path: Path) -> Iterator[tuple[str, list[Ring]]]:
    """The name of each ROI and its outlines, wherever they lead; a MediaError if it is no area."""
    for name, roi in _rois(path):
        where = f"{path} ROI {name}"
        if not _is_area(roi):
            raise MediaError.at(where, "is no area", "outlines of areas", "remove it")
        with naming(where):
            yield name, _rings(roi)


def _rois(path: Path) -> Iterator[tuple[str, Any]]:
    # Our own error says what is wrong; the library's log would stand beside it.
    logging.getLogger("roifile").disabled = True
    with naming(path):
        if path.suffix.lower() == ".roi":
            yield path.stem, _parsed(read_bytes(path, "an ROI"), path)
            return
        with zipfile.ZipFile(path) as archive:
            entries = [one for one in archive.infolist() if one.filename.lower().endswith(".roi")]
            if len(entries) > _MOST or any(one.file_size > _MOST_BYTES for one in entries):
                raise ValueError("it holds too many ROIs, or too large ones")
            for entry in entries:
                where = f"{path} ROI {entry.filename}"
                with naming(where):
                    data = archive.open(entry).read(_MOST_BYTES)
                    yield entry.filename[:-4], _parsed(data, where)


def _parsed(data: bytes, where: str | Path) -> Any:
    from roifile import ImagejRoi

    try:
        return ImagejRoi.frombytes(data)
    except Exception as error:  # of whatever kind its parser stumbles over
        raise MediaError.damaged(where, "ROI", f"{len(data)} bytes") from error


def _is_area(roi: Any) -> bool:
    from roifile import ROI_SUBTYPE, ROI_TYPE

    areas = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED, ROI_TYPE.RECT, ROI_TYPE.OVAL)
    return roi.roitype in areas and roi.subtype not in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE)


def _frames(path: Path, reading: Reading, *, stack: bool) -> tuple[list[Path], str]:
    """The images that a file of ROIs is of, and the name of the video where they are frames."""
    stem = stem_without(path, _ENDINGS)
    for folder in (path.with_name(stem), reading.root / stem):
        if images := list_files(folder, IMAGE_SUFFIXES):
            return images, stem
    around = list_files(path.parent, IMAGE_SUFFIXES) or list_files(reading.root, IMAGE_SUFFIXES)
    if stack:
        return around, stem
    found = reading.find(stem, path) or (around[0] if len(around) == 1 else None)
    if found is None:
        expected = f"an image {stem}.*, or a single one, beside it"
        raise MediaError.at(path, "its picture was not found", expected, "name it as the image")
    return [found], ""


def _objects(path: Path, rois: Sequence[tuple[str, Any]], size: Size) -> Iterator[LabelledObject]:
    matched = [_NAMED.fullmatch(name) for name, _ in rois]
    numbers = [int(match[1]) if match else None for match in matched]
    if None in numbers or len(set(numbers)) < len(rois):
        numbers = [None] * len(rois)
    for (name, roi), id_ in zip(rois, numbers, strict=True):
        draw = drawing(f"{path} ROI {name}", lambda one: fill(_rings(one), size), roi)
        yield LabelledObject("", draw, id_)


def _rings(roi: Any) -> list[Ring]:
    from roifile import ROI_TYPE

    if roi.composite:
        return [ring(one) for one in roi.path2coords(roi.multi_coordinates) if len(one) > 2]
    if roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        left, top = float(roi.left), float(roi.top)
        width, height = float(roi.right) - left, float(roi.bottom) - top
        if roi.subpixelrect:
            left, top, width, height = roi.xd, roi.yd, roi.widthd, roi.heightd
        if roi.roitype == ROI_TYPE.RECT:
            return [box(left, top, width, height)]
        return [ellipse(left + width / 2, top + height / 2, width / 2, height / 2)]
    if roi.subpixel_coordinates is not None:
        return [ring(roi.subpixel_coordinates)]
    return [ring(roi.integer_coordinates + np.array([roi.left, roi.top]))]


def _write(source: LabelledSource, out: Path) -> None:
    told = labelled(sheets(source, LARGEST_32), gaps=False)
    for name, own in groupby(told, lambda sheet: sheet.video or sheet.name):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for sheet in own:
                size, frame = sheet.picture.size, sheet.picture.frame + 1
                if max(size) > _FARTHEST:
                    found = f"{size[1]} x {size[0]} pixels"
                    expected = f"at most {_FARTHEST} along a side"
                    raise MediaError.at(sheet.picture.name, found, expected, "part it")
                for _, number, region in sheet.shapes():
                    label = f"t{frame:04d}-{number}" if sheet.video else str(number)
                    roi = _roi(region, label, frame if sheet.video else 0)
                    # Without the time of writing: the same objects give the same bytes.
                    archive.writestr(zipfile.ZipInfo(f"{label}.roi"), roi)
        write_bytes(out / f"{name}.zip", stream.getvalue())


def _roi(region: Region, name: str, position: int) -> bytes:
    from roifile import ROI_TYPE, ImagejRoi

    roi = ImagejRoi()
    roi.name, roi.position = name, position
    roi.top, roi.left = region.top, region.left
    roi.bottom, roi.right = region.window[0].stop, region.window[1].stop
    rings = [one for part in outlines(region) for one in part]
    if len(rings) == 1:
        roi.roitype = ROI_TYPE.POLYGON
        roi.integer_coordinates = (rings[0] - (region.left, region.top)).astype(np.int32)
        roi.n_coordinates = len(rings[0])
    else:
        # Move to the first corner (0), lines to the others (1), close (4).
        path: list[float] = []
        for one in rings:
            for place, (x, y) in enumerate(one.tolist()):
                path += [min(place, 1), x, y]
            path.append(4)
        roi.roitype = ROI_TYPE.RECT
        roi.multi_coordinates = np.array(path, np.float32)
        roi.shape_roi_size = len(path)
    return bytes(roi.tobytes())


FORMAT = Format("imagej", "ImageJ ROIs", _matches, _read, (".zip", ".roi"), _write, classes=False)

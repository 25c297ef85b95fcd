"""Outlines to pixels and back, the only place where that is done; run lengths too.

A pixel belongs to a polygon if its centre lies inside; pixel (row, column) begins at the corner
(column, row). Outlines run along the edges of pixels, so that the very same pixels come back.
"""

import math
import re
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dvos.formats.labels import Region, Size, cropped

#: Corners of a polygon, float (N, 2), x before y.
Ring = NDArray[np.float64]

# What run lengths look like: groups of six bits, the highest telling that more follow. A run of
# a mask has at most eight groups: 2**35 pixels and a sign.
_RUNS = re.compile(rb"(?:[P-o]{0,7}[0-O])+")
#: Corners of an ellipse: its polygon leaves out less than a thousandth of a pixel's side of 200.
_ELLIPSE = 256
#: What a note says of polygons that hold several outlines.
BRIDGED = "objects of several parts or with holes, written as one polygon with bridges of no width"
#: No picture is as wide, and most places at which the edges of a polygon may cross rows.
_FARTHEST, _MOST_CROSSINGS = 1e7, 2**26


def ring(points: ArrayLike) -> Ring:
    """Corners as an array; a ValueError if they are no three pairs or more, or lead too far out."""
    try:
        corners = np.asarray(points, np.float64)
        corners = corners.reshape(-1, 2) if corners.ndim == 1 else corners
        if corners.shape[1:] != (2,):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError("the corners of a polygon are no pairs of numbers") from None
    if not (np.abs(corners) <= _FARTHEST).all():
        raise ValueError("a polygon leads far out of its picture")
    if len(corners) < 3:
        raise ValueError(f"a polygon of {len(corners)} points, three or more are needed")
    return corners


def fill(rings: Sequence[Ring], size: Size) -> Region:
    """The pixels inside rings, by the even-odd rule, within ``size``, (height, width).

    Of an outline so thin that it holds no pixel's centre, the pixels that its corners lie in.
    """
    corners, sides = np.concatenate(rings), np.array(size[::-1])
    left, top = np.clip(corners.min(axis=0), 0, sides).astype(np.int64).tolist()
    ends = np.floor(np.clip(corners.max(axis=0), -1, sides - 1)).astype(np.int64) + 1
    right, bottom = ends.tolist()
    if top >= bottom or left >= right:
        return cropped(np.zeros((0, 0), np.bool_))
    turns = np.zeros((bottom - top, right - left + 1), np.int32)
    starts = np.concatenate([np.roll(one, 1, axis=0) for one in rings])
    # From the upper end to the lower, so that an edge taken both ways crosses at equal places.
    swap = starts[:, 1:] > corners[:, 1:]
    upper, lower = np.where(swap, corners, starts), np.where(swap, starts, corners)
    # Rows whose centre lies in the half-open span of the edge.
    first, last = (
        np.clip(np.ceil(one[:, 1] - 0.5), top, bottom).astype(np.int64) for one in (upper, lower)
    )
    counts = last - first
    if counts.sum() > _MOST_CROSSINGS:
        raise ValueError("a polygon goes to and fro too often")
    edges = np.repeat(np.arange(len(counts)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    (x0, y0), (x1, y1) = upper[edges].T, lower[edges].T
    crossings = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
    columns = np.clip(np.ceil(crossings - 0.5), left, right).astype(np.int64)
    np.add.at(turns, (rows - top, columns - left), 1)
    mask = (np.cumsum(turns[:, :-1], axis=1) & 1).astype(np.bool_)
    if not mask.any():
        places = np.floor(corners).astype(np.int64) - (left, top)
        fits = ((places >= 0) & (places < (right - left, bottom - top))).all(axis=1)
        mask[places[fits, 1], places[fits, 0]] = True
    return cropped(mask, top, left)


def box(left: float, top: float, width: float, height: float, turn: float = 0.0) -> Ring:
    """A rectangle turned clockwise by some degrees about its upper left corner."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    return ring(_turned(corners, turn, (left, top)))


def ellipse(x: float, y: float, across: float, down: float, turn: float = 0.0) -> Ring:
    """An ellipse of two half axes about (x, y), turned clockwise by some degrees."""
    angles = np.linspace(0, 2 * math.pi, _ELLIPSE, endpoint=False)
    places = np.stack([across * np.cos(angles), down * np.sin(angles)], axis=1)
    return ring(_turned(places, turn, (x, y)))


def _turned(points: Ring, degrees: float, about: tuple[float, float]) -> Ring:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]) + np.array(about), np.float64)


def outlines(region: Region) -> list[list[NDArray[np.int64]]]:
    """The outlines of an object, along the edges of its pixels; filled, they give the very same.

    For each part (its pixels share sides) the outer ring, clockwise, then those of its holes, the
    other way: whole corners (N, 2), x before y; none touches itself.
    """
    parts = []
    found = cv2.connectedComponentsWithStats(region.mask.view(np.uint8), connectivity=4)
    for number, (left, top, width, height, _) in enumerate(found[2].tolist()[1:], 1):
        part = found[1][top : top + height, left : left + width] == number
        # Each pixel as four, so that those along the border name the corners they lie at.
        four = part.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
        traced, _ = cv2.findContours(four, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        place = region.left + left, region.top + top
        rings = sorted(
            (_corners(one[::-1, 0]) for one in traced), key=lambda one: one[0, ::-1].tolist()
        )
        parts.append([one + place for one in rings])
    return sorted(parts, key=lambda part: part[0][0, ::-1].tolist())


def _corners(border: NDArray[np.int32]) -> NDArray[np.int64]:
    """A walk along border pixels as the corners where it turns, from the first level side on."""
    points = (border.astype(np.int64) + 1) // 2
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    level = points[:, 1] == np.roll(points, -1, axis=0)[:, 1]
    turns = level != np.roll(level, 1)
    points, level = points[turns], level[turns]
    first = np.lexsort((points[:, 0], points[:, 1], ~level))[0]
    return np.roll(points, -first, axis=0)


def bridged(region: Region) -> tuple[NDArray[np.int64], bool]:
    """All outlines of an object as one ring, and whether bridges, without a pixel, join several."""
    rings = [one for part in outlines(region) for one in part]
    path = rings[0]
    for one in rings[1:]:
        # From the first corner there, and back to it.
        path = np.concatenate([path, path[:1], one, one[:1]])
    return path, len(rings) > 1


def encode_region(region: Region, size: Size) -> str:
    """A region as the compressed run lengths of COCO (``pycocotools.mask``) of its picture."""
    from pycocotools import mask as coco

    columns = np.zeros((region.mask.shape[1], size[0]), np.bool_)
    columns[:, region.window[0]] = region.mask.T
    edges = np.flatnonzero(np.diff(columns.ravel(), prepend=False, append=False))
    lengths = np.diff(edges + region.left * size[0], prepend=0, append=size[0] * size[1]).tolist()
    counts = lengths if lengths[-1] else lengths[:-1]
    text: bytes = coco.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"]
    return text.decode("ascii")


def decode_region(counts: object, size: Size) -> Region:
    """The region of COCO's run lengths, packed or plain; a ValueError if they are amiss."""
    if isinstance(counts, list):
        if not all(type(one) is int and 0 <= one < 2**32 for one in counts):
            raise ValueError("its runs are no whole numbers from 0 on")
        lengths = np.array(counts, np.int64)
    else:
        lengths = _unpacked(counts)
    height, width = size
    if lengths.min(initial=0) < 0 or lengths.sum() != height * width:
        raise ValueError(f"its runs do not fill {width} x {height} pixels")
    # Only the columns that it lies in are unpacked.
    edges = np.append(0, np.cumsum(lengths))
    first, last = edges[1] // height, -(-edges[len(lengths) // 2 * 2] // height)
    inside = np.arange(len(lengths)) % 2 == 1
    columns = np.repeat(inside, np.diff(np.clip(edges, first * height, last * height)))
    return cropped(columns.reshape(-1, height).T, 0, int(first))


def _unpacked(text: object) -> NDArray[np.int64]:
    """Lengths of compressed runs; see ``rleFrString`` in maskApi.c of COCO."""
    if isinstance(text, str):
        text = text.encode("ascii", "replace")
    if not isinstance(text, bytes) or not _RUNS.fullmatch(text):
        raise ValueError("it is no text of run lengths")
    groups = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    begins = np.append(0, np.flatnonzero(groups & 32 == 0)[:-1] + 1)
    places = np.arange(len(groups)) - np.repeat(begins, np.diff(begins, append=len(groups)))
    values = np.add.reduceat((groups & 31) << (5 * places), begins)
    lasts = np.append(begins[1:], len(groups)) - 1
    values -= np.where(groups[lasts] & 16, np.int64(1) << (5 * (places[lasts] + 1)), 0)
    # From the fourth on each is told as the difference from the one before the last.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values

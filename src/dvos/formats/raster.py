"""Outlines to pixels and back, the only place where that is done; run lengths too.

A pixel belongs to a polygon if its centre lies inside: pixel (row, column) covers the square from
(column, row) to (column + 1, row + 1), as CVAT, labelme, Label Studio, YOLO and ImageJ count.
Outlines run along the edges of pixels, so that they come back as the very same pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dvos.formats.labels import Region, Size, cropped, joined

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
    """Corners as an array.

    Raises:
        ValueError: If they are no three pairs of numbers or more, or lead too far out.
    """
    try:
        corners = np.asarray(points, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("the corners of a polygon are no pairs of numbers") from None
    if corners.ndim == 1 and corners.size % 2 == 0:
        corners = corners.reshape(-1, 2)
    if corners.ndim != 2 or corners.shape[1] != 2:
        raise ValueError("the corners of a polygon are no pairs of numbers")
    if not (np.abs(corners) <= _FARTHEST).all():
        raise ValueError("a polygon leads far out of its picture")
    if len(corners) < 3:
        raise ValueError(f"a polygon of {len(corners)} points, three or more are needed")
    return corners


def fill(rings: Sequence[Ring], size: Size) -> Region:
    """The pixels inside rings, by the even-odd rule: a ring within a ring is a hole.

    Args:
        rings: Outlines of one part with its holes, or of parts that do not overlap.
        size: (height, width) of the picture; what lies outside is left out.

    Returns:
        The region. Of an outline so thin that it holds no pixel's centre, the pixels that its
        corners lie in.
    """
    height, width = size
    corners = np.concatenate(rings)
    top, bottom = _span(corners[:, 1], height)
    left, right = _span(corners[:, 0], width)
    if top >= bottom or left >= right:
        return cropped(np.zeros((0, 0), np.bool_))
    turns = np.zeros((bottom - top, right - left + 1), np.int32)
    starts = np.concatenate([np.roll(one, 1, axis=0) for one in rings])
    # From the upper end to the lower, so that an edge taken both ways crosses at equal places.
    swap = starts[:, 1] > corners[:, 1]
    upper = np.where(swap[:, None], corners, starts)
    lower = np.where(swap[:, None], starts, corners)
    # Rows whose centre lies in the half-open span of the edge.
    first = np.clip(np.ceil(upper[:, 1] - 0.5), top, bottom).astype(np.int64)
    last = np.clip(np.ceil(lower[:, 1] - 0.5), top, bottom).astype(np.int64)
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


def fill_parts(parts: Iterable[ArrayLike], size: Size) -> Region:
    """The pixels of an object of several polygons, which may overlap."""
    return joined(fill([ring(part)], size) for part in parts)


def _span(values: NDArray[np.float64], most: int) -> tuple[int, int]:
    low = math.floor(min(max(float(values.min()), 0.0), float(most)))
    high = math.floor(min(max(float(values.max()), -1.0), float(most - 1))) + 1
    return low, high


def box(left: float, top: float, width: float, height: float, turn: float = 0.0) -> Ring:
    """A rectangle turned clockwise by some degrees about its upper left corner."""
    angle = math.radians(turn)
    along = np.array([math.cos(angle), math.sin(angle)])
    down = np.array([-math.sin(angle), math.cos(angle)])
    corner = np.array([left, top], np.float64)
    across, below = along * width, down * height
    return ring([corner, corner + across, corner + across + below, corner + below])


def ellipse(x: float, y: float, across: float, down: float, turn: float = 0.0) -> Ring:
    """An ellipse of two half axes about (x, y), turned clockwise by some degrees."""
    angles = np.linspace(0, 2 * math.pi, _ELLIPSE, endpoint=False)
    places = np.stack([across * np.cos(angles), down * np.sin(angles)], axis=1)
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    return ring(places @ np.array([[cos, sin], [-sin, cos]]) + (x, y))


def outlines(region: Region) -> list[list[NDArray[np.int64]]]:
    """The outlines of an object, along the edges of its pixels.

    Returns:
        For each part (pixels that share a side are of one part) the outer ring, then those of
        its holes: whole corners (N, 2), x before y; none touches itself. Filled, they give the
        very same pixels.
    """
    mask = np.pad(region.mask, 1)
    rings = _traced(mask)
    _, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)
    parts: dict[int, list[NDArray[np.int64]]] = {}
    for one in rings:
        (x, y), (other, _) = one[0], one[1]
        column = min(x, other)
        # The first side is level: the object lies above or below it.
        part = max(labels[y - 1, column], labels[y, column])
        twice = np.sum(one[:, 0] * np.roll(one[:, 1], -1) - one[:, 1] * np.roll(one[:, 0], -1))
        placed = one + np.array([region.left - 1, region.top - 1])
        found = parts.setdefault(int(part), [])
        found.insert(0 if twice > 0 else len(found), placed)
    return list(parts.values())


def _traced(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The rings of a padded mask: each corner is joined to the next of its row and its column.

    The object lies to the right, so that outer rings run clockwise and holes do not.
    """
    upper, lower = mask[:-1], mask[1:]
    a, b, c, d = upper[:, :-1], upper[:, 1:], lower[:, :-1], lower[:, 1:]
    odd = (a ^ b ^ c ^ d).astype(np.int64)
    falls, rises = a & d & ~b & ~c, b & c & ~a & ~d  # pixels that touch at this corner alone
    ys, xs = np.nonzero(odd + 2 * (falls | rises))
    times = np.where(odd[ys, xs] > 0, 1, 2)
    places = np.repeat(np.arange(len(ys)), times)
    y, x = ys[places], xs[places]
    second = np.zeros(len(y), np.int64)
    second[1:] = places[1:] == places[:-1]
    # Where pixels touch, the corner of the left one is met first, and of the upper one first.
    order = np.lexsort((np.where(rises[y, x], 1 - second, second), y, x))
    level, upright = np.arange(len(y)) ^ 1, np.empty(len(y), np.int64)
    upright[order] = order[np.arange(len(y)) ^ 1]
    across, down = level.tolist(), upright.tolist()
    # A level side is walked to the right where the object lies below it.
    starts = np.flatnonzero(mask[y + 1, np.minimum(x, x[level]) + 1] == (x < x[level]))
    left: set[int] = set(starts.tolist())
    rings = []
    for start in starts.tolist():
        if start not in left:
            continue
        here, corners = start, []
        while here in left:
            left.discard(here)
            corners += [here, across[here]]
            here = down[across[here]]
        walked = np.stack([x[corners], y[corners]], axis=1) + 1
        rings += _split(walked) if (times[places[corners]] == 2).any() else [walked]
    return rings


def _split(walked: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """A ring as several, none of which meets a corner twice, each begun by a level side."""
    rings: list[NDArray[np.int64]] = []
    path: list[tuple[int, int]] = []
    seen: dict[tuple[int, int], int] = {}
    for x, y in walked.tolist():
        if (x, y) in seen:
            begin = seen[x, y]
            rings.append(np.array(path[begin:], np.int64))
            for gone in path[begin:]:
                del seen[gone]
            del path[begin:]
        seen[x, y] = len(path)
        path.append((x, y))
    rings.append(np.array(path, np.int64))
    return [one if one[0, 1] == one[1, 1] else np.roll(one, -1, axis=0) for one in rings]


def bridged(region: Region) -> tuple[NDArray[np.int64], bool]:
    """All outlines of an object as one ring, and whether bridges join several.

    A bridge is walked there and back, so that it holds no pixel.
    """
    rings = [one for part in outlines(region) for one in part]
    path = rings[0]
    for one in rings[1:]:
        # From the first corner there, and back to it.
        path = np.concatenate([path, path[:1], one, one[:1]])
    return path, len(rings) > 1


def encode_region(region: Region, size: Size) -> str:
    """A region as the compressed run lengths of COCO (``pycocotools.mask``) of its picture."""
    from pycocotools import mask as coco

    coded = {"size": list(size), "counts": run_lengths(region, size)}
    text: bytes = coco.frPyObjects(coded, *size)["counts"]
    return text.decode("ascii")


def run_lengths(region: Region, size: Size) -> list[int]:
    """Lengths of the runs of background and object by turns, column by column, as COCO counts."""
    columns, rows = np.nonzero(region.mask.T)
    places = (columns + region.left) * size[0] + rows + region.top
    if not places.size:
        return [size[0] * size[1]]
    first = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    ends = places[np.append(first[1:] - 1, -1)] + 1
    edges = np.stack([places[first], ends], axis=1).ravel()
    lengths: list[int] = np.diff(edges, prepend=0).tolist()
    rest = size[0] * size[1] - int(ends[-1])
    return [*lengths, rest] if rest else lengths


def decode_region(counts: object, size: Size) -> Region:
    """The region of COCO's run lengths: compressed text or bytes, or plain numbers.

    Raises:
        ValueError: If they are none, or do not fill ``size`` (height, width).
    """
    if isinstance(counts, list):
        if not all(type(one) is int and 0 <= one < 2**32 for one in counts):
            raise ValueError("its runs are no whole numbers from 0 on")
        lengths = np.array(counts, np.int64)
    else:
        lengths = _unpacked(counts)
    height, width = size
    if lengths.min(initial=0) < 0 or lengths.sum() != height * width:
        raise ValueError(f"its runs do not fill {width} x {height} pixels")
    edges = np.cumsum(lengths)
    starts, ends = edges[0:-1:2], edges[1::2]
    seen = ends > starts
    if not seen.any():
        return cropped(np.zeros((0, 0), np.bool_))
    starts, ends = starts[seen], ends[seen]
    left, last = int(starts[0]) // height, int(ends[-1] - 1) // height
    steps = np.zeros((last + 1 - left) * height + 1, np.int8)
    np.add.at(steps, starts - left * height, 1)
    np.add.at(steps, ends - left * height, -1)
    inside = np.cumsum(steps[:-1], dtype=np.int8) > 0
    return cropped(inside.reshape(-1, height).T, 0, left)


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

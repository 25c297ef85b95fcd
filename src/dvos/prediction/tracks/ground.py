"""The ground that a camera has seen: its path by the tracks, and the union of its frames on it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.formats.raster import Ring, fill
from dvos.media.image import resized
from dvos.prediction.tracks.motion import REST, Motion, shifted, similarity

Doubles = NDArray[np.float64]
Ids = NDArray[np.int64]
Rings = Sequence[Ring]  # the outlines of an area; one within another is a hole

#: Cells of the map across the shorter side of what is measured, and most cells of the map.
_ACROSS, _MOST = 200, 4e7
_UNKNOWN = 0.1  # of the frames, how many may follow one another by an unknown motion
#: Of the tracks of a frame, how many must still be seen for others to be compared with it.
_SHARED = 0.5
_MOVED = 0.5  # of a cell: a frame that has moved less than this is passed over
#: Longest side of pictures that are compared, and how high a peak of theirs must be, of 1.
_SIDE, _PEAK = 512, 0.1
_LEFT = 0.25  # of a side, how far the camera goes until it is compared with a later picture
CORNER = 0.5  # from the middle of the upper left pixel to the corner that outlines count from


class CameraPath:
    """How each frame lies on the ground: on that of the first frame, in its pixels.

    Errors of steps from frame to frame would add up. So a frame is compared, by the tracks that
    both show, with an earlier one, until few of its tracks are left to be seen.
    """

    def __init__(self) -> None:
        #: Number of frames whose tracks do not tell how they lie; the step before goes on.
        self.unknown = 0
        #: Places of the frames before which the camera has moved in a way unknown.
        self.lost: list[int] = []
        self.poses: list[Motion] = []  # from each frame so far to the first
        self._step = REST
        self._key: tuple[Ids, Doubles, Motion] | None = None

    def add(self, ids: Ids, centre: Doubles, motion: Motion | None, lost: bool = False) -> Motion:
        """Add a frame by its tracks (0: none) and the motion since; what leads to the first."""
        self.lost += [len(self.poses)] * lost
        ids, centre = ids[ids > 0], centre[ids > 0]
        pose, shared = REST, 0
        if self._key is not None:
            known, places, key = self._key
            both, now, then = np.intersect1d(ids, known, return_indices=True)
            shared = len(both)
            found = similarity(centre[now], places[then])
            if found is None:
                self.unknown += motion is None
                self._step = motion or self._step
                pose = self.poses[-1].after(self._step.inverse)
            else:
                pose = key.after(found)
                self._step = pose.inverse.after(self.poses[-1])
            full = max(len(known), len(ids))
        if self._key is None or shared < _SHARED * full:
            self._key = (ids, centre, pose)
        self.poses.append(pose)
        return pose

    @property
    def known(self) -> bool:
        """Whether enough frames tell how they lie, though the path may be :attr:`lost`."""
        return self.unknown <= _UNKNOWN * max(1, len(self.poses) - 1)

    @property
    def sure(self) -> bool:
        """Whether areas of the ground and places on it can be told."""
        return self.known and not self.lost


def shown_path(images: Iterable[NDArray[np.uint8]]) -> list[Motion] | None:
    """How each frame lies on the first one's ground, by shifts of whole pictures, RGB (H, W, 3).

    For where objects are too few to tell. A shift is the peak of the phase correlation (Kuglin and
    Hines 1975) with an earlier frame, until little of that is seen. None where no peak stands out.
    """
    poses: list[Motion] = []
    key: _Shown | None = None
    last: _Shown | None = None
    for image in images:
        scale = min(1.0, _SIDE / max(image.shape[:2]))
        small = cv2.cvtColor(resized(image, scale), cv2.COLOR_RGB2GRAY).astype(np.float32)
        # In x and y, as both sides are of whole pixels.
        scales = np.array(image.shape[1::-1]) / small.shape[::-1]
        pose: Motion | None = REST
        if key is not None and last is not None:
            pose = key.leads(small, scales)
            if pose is None:
                key, pose = last, last.leads(small, scales)
        if pose is None:
            return None
        last = _Shown(small, pose)
        poses.append(pose)
        moved = np.inf if key is None else np.abs(pose.shift - key.pose.shift).max()
        if key is None or moved > _LEFT * min(image.shape[:2]):
            key = last
    return poses


class _Shown(NamedTuple):
    """A picture, small and grey, and how its frame lies."""

    small: NDArray[np.float32]
    pose: Motion

    def leads(self, later: NDArray[np.float32], scales: Doubles) -> Motion | None:
        """How the frame of a later picture lies, None where they agree in nothing."""
        window = cv2.createHanningWindow(later.shape[::-1], cv2.CV_32F)
        shift, peak = cv2.phaseCorrelate(self.small, later, window)
        return self.pose.after(shifted(-np.array(shift) * scales)) if peak >= _PEAK else None


def swept_area(
    poses: Sequence[Motion],
    size: tuple[int, int],
    regions: Sequence[Rings] | None = None,
    *,
    without: Sequence[Rings] = (),
    on_ground: bool = True,
) -> float:
    """Area of all frames, of this (height, width), together, in pixels squared of the first.

    It is counted in cells, at least 200 across what is measured. What counts are ``regions``, None
    for all, ``without`` others, ``on_ground`` in pixels of the first frame, else at the same place
    of each picture; (0, 0) is the outer corner of the upper left pixel.
    """
    height, width = size
    frame = [np.array([[0.0, 0], [width, 0], [width, height], [0, height]])]
    shown = [frame] if on_ground or regions is None else list(regions)
    if not poses or not shown:
        return 0.0
    corners = np.concatenate([ring for one in shown for ring in one])
    low, high = (np.full(2, sign * np.inf) for sign in (1, -1))
    for pose in poses:
        placed = _placed(corners, pose)
        low, high = np.minimum(low, placed.min(axis=0)), np.maximum(high, placed.max(axis=0))
    bounds = list(regions) if on_ground and regions is not None else []
    across = float(np.min(np.ptp(corners, axis=0)))
    if bounds:
        limits = np.concatenate([ring for one in bounds for ring in one])
        low, high = np.maximum(low, limits.min(axis=0)), np.minimum(high, limits.max(axis=0))
        across = min(across, *(float(np.ptp(np.concatenate(one), axis=0).min()) for one in bounds))
    if (high <= low).any() or across <= 0:
        return 0.0
    cell, size_of_map = _cells(low, high, across)
    seen = np.zeros(size_of_map, np.bool_)
    drawn: Doubles | None = None
    for number, pose in enumerate(poses):
        edge = _placed(frame[0], pose)
        last = number == len(poses) - 1
        if drawn is None or last or np.abs(edge - drawn).max() >= _MOVED * cell.max():
            drawn = edge
            here = _drawn(shown, pose, low, cell, seen.shape)
            if shown[0] is not frame:
                here &= _drawn([frame], pose, low, cell, seen.shape)
                here &= ~_drawn(without, pose, low, cell, seen.shape)
            seen |= here
    if bounds:
        seen &= _drawn(bounds, REST, low, cell, seen.shape)
        seen &= ~_drawn(without, REST, low, cell, seen.shape)
    return float(np.count_nonzero(seen) * cell.prod())


def seen_share(
    rings: Rings, pose: Motion, size: tuple[int, int], without: Sequence[Rings] = ()
) -> float:
    """How much of an area on the first frame's ground a frame of this size and pose shows, 0..1.

    What lies in areas ``without`` which it is to be counts for nothing.
    """
    placed = [_placed(ring, pose.inverse) for ring in rings]
    corners = np.concatenate(placed)
    low, high = corners.min(axis=0), corners.max(axis=0)
    if (high <= 0).any() or (low >= size[::-1]).any() or (high <= low).any():
        return 0.0
    cell, size_of_map = _cells(low, high, float((high - low).min()))
    own = _drawn([rings], pose.inverse, low, cell, size_of_map)
    own &= ~_drawn(without, pose.inverse, low, cell, size_of_map)
    y, x = np.nonzero(own)
    if not len(x):
        return 0.0
    middles = (np.column_stack([x, y]) + CORNER) * cell + low
    return float(((middles >= 0) & (middles < size[::-1])).all(axis=1).mean())


def _cells(low: Doubles, high: Doubles, across: float) -> tuple[Doubles, tuple[int, int]]:
    """Width and height of the cells of a map between two corners, and its rows and columns."""
    side = max(across / _ACROSS, float(np.sqrt(np.prod(high - low) / _MOST)))
    columns, rows = np.ceil((high - low) / side).astype(int).tolist()
    return (high - low) / (columns, rows), (rows, columns)


def _placed(corners: Doubles, pose: Motion) -> Doubles:
    """Corners of pixels in a frame as such in the first one."""
    return pose(corners - CORNER) + CORNER


def _drawn(
    shown: Sequence[Rings], pose: Motion, low: Doubles, cell: Doubles, size: tuple[int, ...]
) -> NDArray[np.bool_]:
    """The cells whose middle lies in one of some areas of a frame, bool (rows, columns)."""
    seen = np.zeros(size, np.bool_)
    for one in shown:
        region = fill([(_placed(ring, pose) - low) / cell for ring in one], (size[0], size[1]))
        seen[region.window] |= region.mask
    return seen

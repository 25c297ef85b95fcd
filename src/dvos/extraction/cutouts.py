"""Labelled objects of a mask, their cutouts, distractors, and the named spatial transforms.

The mask is turned into horizontal runs of one id: no step looks at the whole mask once per object.
Distractors are shapes of objects cut where none is. A transform is drawn once and then applied to
any number of images of one size; over the border lies the image mirrored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.config.extraction import TransformSettings

#: (top, left, height, width) in pixels.
Box = tuple[int, int, int, int]

Bytes = NDArray[np.uint8]
Ids = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int32]


@dataclass(frozen=True)
class LabelledObject:
    """One object of a mask: its value there, smallest box and pixels."""

    object_id: int
    box: Box
    area: int
    touching: int  # Other objects that it touches, diagonally included
    at_border: bool  # Whether it reaches the image's border, and so may be cut off


def find_objects(ids: Ids) -> list[LabelledObject]:
    """All objects, connected or not, of an instance mask (H, W) by rising id; 0 is background."""
    run_ids, rows, starts, ends = _runs(ids)
    if not len(run_ids):
        return []
    order = np.argsort(run_ids, kind="stable")
    run_ids, rows, starts, ends = run_ids[order], rows[order], starts[order], ends[order]
    first = np.flatnonzero(np.r_[True, run_ids[1:] != run_ids[:-1]])
    object_ids = run_ids[first]
    top, bottom = np.minimum.reduceat(rows, first), np.maximum.reduceat(rows, first) + 1
    left, right = np.minimum.reduceat(starts, first), np.maximum.reduceat(ends, first)
    areas = np.add.reduceat(ends - starts, first)
    neighbours = _neighbour_counts(ids, object_ids)
    height, width = ids.shape
    at_border = (top == 0) | (left == 0) | (bottom == height) | (right == width)
    boxes = np.stack([top, left, bottom - top, right - left], 1)
    columns = (object_ids, boxes, areas, neighbours, at_border)
    rows_of = zip(*(column.tolist() for column in columns), strict=True)
    return [LabelledObject(number, tuple(box), *rest) for number, box, *rest in rows_of]


def cut_out(image: Bytes, ids: Ids, found: LabelledObject) -> Bytes:
    """The object's box of the image as RGBA (h, w, 4): alpha 255 inside the object, else 0."""
    top, left, height, width = found.box
    window = np.s_[top : top + height, left : left + width]
    return _patch(image[window], ids[window] == found.object_id)


def _patch(pixels: Bytes, shape: NDArray[np.bool_]) -> Bytes:
    """RGBA of the pixels (h, w, 3), their own colours also where ``shape`` is not."""
    return np.dstack([pixels, shape * np.uint8(255)])


def _runs(ids: Ids) -> tuple[NDArray[Any], ...]:
    """Horizontal runs of one id, background left out: id, row, first column, end column."""
    width = ids.shape[1]
    begins = np.empty(ids.shape, dtype=np.bool_)
    begins[:, :1] = True
    np.not_equal(ids[:, 1:], ids[:, :-1], out=begins[:, 1:])
    places = np.flatnonzero(begins)
    # A row's first pixel always begins a run, so the next begin ends a run.
    ends = np.r_[places[1:], ids.size]
    values = ids.reshape(-1)[places]
    objects = values != 0
    places, ends, values = places[objects], ends[objects], values[objects]
    rows = places // width if width else places
    return values, rows, places - rows * width, ends - rows * width


def _neighbour_counts(ids: Ids, object_ids: NDArray[Any]) -> NDArray[np.int64]:
    """For each of the sorted ``object_ids``, how many other objects touch it."""
    # The mask against itself, moved by each of the four half-neighbourhood steps.
    moved = (
        (ids[:, :-1], ids[:, 1:]),
        (ids[:-1], ids[1:]),
        (ids[:-1, :-1], ids[1:, 1:]),
        (ids[:-1, 1:], ids[1:, :-1]),
    )
    pairs = []
    for one, other in moved:
        places = np.nonzero((one != other) & (one != 0) & (other != 0))
        a, b = one[places].astype(np.int64), other[places].astype(np.int64)
        pairs.append(np.unique(np.minimum(a, b) << 32 | np.maximum(a, b)))
    codes = np.unique(np.concatenate(pairs))
    counts = np.zeros(len(object_ids), dtype=np.int64)
    for side in (codes >> 32, codes & 0xFFFFFFFF):
        np.add.at(counts, np.searchsorted(object_ids, side), 1)
    return counts


class DistractorFinder:
    """Finds places of an image, uint8 RGB (H, W, 3), for shapes, away from its labelled objects.

    Of so many places tried for each patch, the first is taken where the IoU of the shape with the
    labelled pixels of its box, of which an integral image tells the number, is below ``max_iou``.
    """

    def __init__(
        self, image: Bytes, labelled: NDArray[np.bool_], *, max_iou: float, tries: int
    ) -> None:
        self._image = image
        self._labelled = labelled
        self._max_iou = max_iou
        self._tries = tries
        # One row and column of zeros on top and at the left.
        self._sums = cv2.integral(labelled.view(np.uint8), sdepth=cv2.CV_32S).ravel()

    def find(self, shape: NDArray[np.bool_], count: int, rng: np.random.Generator) -> list[Bytes]:
        """Up to ``count`` patches of one shape, bool (h, w), no larger than the image.

        They are uint8 RGBA (h, w, 4), alpha 255 on the shape; fewer where the tries ran out.
        """
        height, width = shape.shape
        area = int(np.count_nonzero(shape))
        room = [x - y + 1 for x, y in zip(self._image.shape, shape.shape, strict=False)]
        drawn = [[rng.integers(0, free, self._tries) for free in room] for _ in range(count)]
        tops, lefts = np.moveaxis(np.reshape(drawn, (count, 2, self._tries)), 1, 0)
        line = self._image.shape[1] + 1
        corner, below = tops * line + lefts, (tops + height) * line + lefts
        sums = self._sums
        inside = sums[below + width] - sums[below] - sums[corner + width] + sums[corner]
        # What of the shape must lie on labelled pixels for lack of others.
        maybe = self._is_open(np.maximum(0, inside + area - height * width), inside, area)
        patches = []
        for patch in range(count):
            for k in maybe[patch].nonzero()[0].tolist():
                top, left, labelled = tops[patch, k], lefts[patch, k], inside[patch, k]
                window = np.s_[top : top + height, left : left + width]
                overlap = np.count_nonzero(self._labelled[window] & shape) if labelled else 0
                if self._is_open(overlap, labelled, area):
                    patches.append(_patch(self._image[window], shape))
                    break
        return patches

    def _is_open(self, overlap: Any, labelled: Any, area: int) -> Any:
        """Whether the IoU of a shape with the labelled pixels of its box is low enough."""
        return overlap < self._max_iou * (area + labelled - overlap)


Size = tuple[int, int]
#: Changes an image, uint8 (H, W, C).
Step = Callable[[Bytes], Bytes]

_ALL_PARTS = ("horizontal_flip", "vertical_flip", "rotate", "elastic")


def fits(settings: TransformSettings, size: Size) -> bool:
    """Whether an image of ``size`` (height, width) is large enough for the crop asked for."""
    crops = settings.name in ("center_crop", "random_crop")
    return not crops or (size[0] >= settings.height and size[1] >= settings.width)


def draw_transform(settings: TransformSettings, size: Size, rng: np.random.Generator) -> Step:
    """Make the random choices of a transform for images of ``size`` (height, width).

    A crop larger than the image keeps the whole of that side, see :func:`fits`. What is given
    raises a ValueError for an image of another size.
    """
    name, target = settings.name, (settings.height, settings.width)
    crop = (min(target[0], size[0]), min(target[1], size[1]))
    room = (size[0] - crop[0], size[1] - crop[1])
    steps: list[Step] = []
    if name == "center_crop":
        steps.append(_crop(room[0] // 2, room[1] // 2, crop))
    elif name == "random_crop":
        top, left = (int(rng.integers(0, free + 1)) for free in room)
        steps.append(_crop(top, left, crop))
    elif name == "resize":
        steps.append(lambda image: resize(image, target))
    elif name == "smallest_side_center_crop":
        scale = max(target[0] / size[0], target[1] / size[1])
        # Rounding may fall one pixel short of the side that decides the scale.
        cover = (max(round(size[0] * scale), target[0]), max(round(size[1] * scale), target[1]))
        steps.append(lambda image: resize(image, cover))
        steps.append(_crop((cover[0] - target[0]) // 2, (cover[1] - target[1]) // 2, target))
    for part in _ALL_PARTS if name == "flip_rotate_elastic" else (name,):
        chance = settings.elastic_p if part == "elastic" else settings.p
        if part in (*_ALL_PARTS, "flip") and rng.random() < chance:
            steps.append(_drawn_part(part, settings, size, rng))

    def transform(image: Bytes) -> Bytes:
        if image.shape[:2] != size:
            raise ValueError(f"drawn for {size}, not for {image.shape[:2]}")
        for step in steps:
            image = step(image)
        return np.ascontiguousarray(image)

    return transform


def _drawn_part(
    part: str, settings: TransformSettings, size: Size, rng: np.random.Generator
) -> Step:
    """A flip, rotation or deformation."""
    border = cv2.BORDER_REFLECT_101
    if part == "rotate":
        centre = ((size[1] - 1) / 2, (size[0] - 1) / 2)
        angle = float(rng.uniform(-settings.angle, settings.angle))
        matrix = cv2.getRotationMatrix2D(centre, angle, 1.0)
        return lambda image: np.asarray(
            cv2.warpAffine(np.ascontiguousarray(image), matrix, size[::-1], borderMode=border)
        )
    if part == "elastic":
        # Independent displacements on a coarse grid, joined by a smooth surface:
        # as smooth as a blurred dense field and far cheaper for large frames.
        cell = max(2.0, settings.elastic_scale * min(size))
        grid = [int(np.ceil(length / cell)) + 1 for length in size]
        knots = np.clip(rng.standard_normal((2, *grid)), -3, 3).astype(np.float32)
        knots *= np.float32(settings.elastic_amount * min(size))
        rise, shift = (cv2.resize(k, size[::-1], interpolation=cv2.INTER_CUBIC) for k in knots)
        rows, columns = np.indices(size, dtype=np.float32)
        # Column and row that each pixel of a deformed image is taken from.
        maps = columns + shift, rows + rise
        return lambda image: np.asarray(
            cv2.remap(np.ascontiguousarray(image), *maps, cv2.INTER_LINEAR, borderMode=border)
        )
    flips = {"horizontal_flip": (1,), "vertical_flip": (0,)}
    axes = flips.get(part) or ((0,), (1,), (0, 1))[int(rng.integers(3))]
    return lambda image: np.flip(image, axes)


def resize(image: Bytes, size: Size) -> Bytes:
    """Resize to (height, width): bicubic when larger, by area when smaller."""
    if image.shape[:2] == size:
        return image
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size[::-1], interpolation=method))


def transform_patch(patch: Bytes, transform: TransformSettings, rng: np.random.Generator) -> Bytes:
    """Transform a patch, uint8 RGBA, alpha 0 or 255: nothing of the object is lost at its border.

    The result is cropped to the box of the alpha; it is the patch as it came if a crop missed it.
    """
    if transform.name == "none":
        return patch
    height, width = patch.shape[:2]
    margin = 0
    if transform.name in ("rotate", "elastic", "flip_rotate_elastic"):
        # Room for the corners of the box turned by any angle, and for the
        # deformation, whose displacement stays below 4 standard deviations.
        diagonal = float(np.hypot(height, width))
        reach = 4 * transform.elastic_amount * 2 * diagonal
        margin = int(np.ceil((diagonal - min(height, width)) / 2 + reach)) + 1
    padded = cv2.copyMakeBorder(patch, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    padded[..., 3] = np.pad(patch[..., 3], margin)
    moved = draw_transform(transform, (padded.shape[0], padded.shape[1]), rng)(padded)
    alpha = moved[..., 3] >= 128
    if not alpha.any():
        return patch
    moved[..., 3] = np.where(alpha, np.uint8(255), np.uint8(0))
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    return np.ascontiguousarray(moved[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _crop(top: int, left: int, size: Size) -> Step:
    return lambda image: image[top : top + size[0], left : left + size[1]]

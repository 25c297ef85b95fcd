"""Single objects: counted, and found and missed by IoU: errors of counts, average precision, F1."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dvos.errors import FaultCollector, TableError
from dvos.files import composed
from dvos.media.mask import Mask, is_binary
from dvos.scoring.overlap import PixelCounts, iou
from dvos.tables import CountRow
from dvos.tables import read_counts as read_count_rows
from dvos.tables.cells import read_cells, read_records

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

#: IoU from which an object counts as found: 0.5 to 0.95, as COCO averages over.
THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))

_RECALLS = np.linspace(0.0, 1.0, 101)  # recalls at which COCO reads precision off
_SEMANTIC = 255  # what a semantic mask holds where there is object


@dataclass(frozen=True)
class ObjectMatches:
    """The predicted objects of one frame, (N,), and what of the truth each of them is."""

    true: int  # number of true objects
    ids: Ints  # of the predicted objects, ascending
    areas: Ints  # their pixels
    overlaps: Doubles  # IoU of each with the true object matched to it; 0 where none is matched

    @property
    def predicted(self) -> int:
        """Number of predicted objects."""
        return len(self.ids)

    @property
    def hits(self) -> int:
        """Number of predicted objects that are a true one, at IoU 0.5."""
        return int(np.count_nonzero(self.overlaps))


@dataclass(frozen=True)
class InstanceFigures:
    """How well single objects are found, at IoU 0.5; see docs/reference/scores.md.

    Average precision is None where there is no true object; without a number it is the mean over
    ``THRESHOLDS``. ``frames`` were compared, with ``predicted`` and ``true`` objects.
    """

    average_precision: float | None
    average_precision_50: float | None
    average_precision_75: float | None
    precision: float
    recall: float
    f1: float
    frames: int
    predicted: int
    true: int


@dataclass(frozen=True)
class CountErrors:
    """Agreement of predicted with true counts over frames, in objects."""

    frames: int
    mean_absolute_error: float
    relative_error: float | None  # over the mean true count; None where that is 0
    bias: float  # mean of predicted minus true
    r2: float | None  # 1 at best, below 0 if worse than the mean; None where counts do not vary


def object_count(mask: Mask) -> int | None:
    """Number of ids in a mask, 0 background; None if it is semantic beyond doubt (0 and 255)."""
    if is_binary(mask):
        largest = int(mask.max()) if mask.size else 0
        return None if largest == _SEMANTIC else int(largest > 0)
    pixels = mask.ravel()
    # Ids come in runs, of which there are far fewer than pixels.
    first = pixels[:-1][pixels[1:] != pixels[:-1]]
    return int(np.count_nonzero(np.unique(np.append(first, pixels[-1:]))))


def count_errors(predicted: ArrayLike, true: ArrayLike) -> CountErrors:
    """Compare counts frame by frame, of one frame or more."""
    t = np.asarray(true, np.float64)
    error = np.asarray(predicted, np.float64) - t
    spread = float(((t - t.mean()) ** 2).sum())
    mean_absolute = float(np.abs(error).mean())
    return CountErrors(
        frames=len(t),
        mean_absolute_error=mean_absolute,
        relative_error=mean_absolute / float(t.mean()) if t.mean() > 0 else None,
        bias=float(error.mean()),
        r2=1.0 - float((error**2).sum()) / spread if spread > 0 else None,
    )


def match_objects(prediction: Mask, truth: Mask) -> ObjectMatches:
    """Match predicted and true objects of one frame, uint8 or uint16 (H, W), one to one, by IoU.

    Objects of one mask do not overlap. Above an IoU of 0.5 a predicted object thus has at most one
    true object and the reverse, whatever the order, and the matching is that of COCO at every
    threshold. Of objects that tie at exactly 0.5 the first is taken.
    """
    true, own, shared = shared_pixels(truth, prediction)
    ids, row, areas = unique_areas(own, shared)
    true_ids, column, true_areas = unique_areas(true, shared)
    overlap = shared / (areas[row] + true_areas[column] - shared)
    likely = np.flatnonzero((own > 0) & (true > 0) & (overlap >= THRESHOLDS[0]))
    overlaps, taken = np.zeros(len(ids)), set[int]()
    for pair in likely[np.argsort(-overlap[likely], kind="stable")]:
        if overlaps[row[pair]] == 0 and int(column[pair]) not in taken:
            overlaps[row[pair]] = overlap[pair]
            taken.add(int(column[pair]))
    there = ids > 0
    return ObjectMatches(int(np.count_nonzero(true_ids)), ids[there], areas[there], overlaps[there])


def shared_pixels(first: NDArray[Any], second: NDArray[Any]) -> tuple[Ints, Ints, Ints]:
    """Pairs of ids, from -1 and from 0, of label images that meet, background too; their pixels."""
    width = int(second.max(initial=0)) + 1
    narrow = max(first.itemsize, second.itemsize) <= 2
    codes = (first.astype(np.uint32 if narrow else np.int64) * width + second).ravel()
    # Ids come in runs: sorting the runs is some hundred times less than sorting the pixels.
    starts = np.append(0, np.flatnonzero(codes[1:] != codes[:-1]) + 1)
    pairs, place = np.unique(codes[starts], return_inverse=True)
    shared = np.bincount(place, weights=np.diff(starts, append=codes.size)).astype(np.int64)
    return *np.divmod(pairs.astype(np.int64), width), shared


def unique_areas(ids: Ints, pixels: Ints) -> tuple[Ints, NDArray[np.intp], Ints]:
    """The ids that occur, ascending; of each one given its place among them; and their pixels."""
    names, place = np.unique(ids, return_inverse=True)
    return names, place, np.bincount(place, weights=pixels).astype(np.int64)


def match_whole(counts: PixelCounts) -> ObjectMatches:
    """Match masks of at most one object each, by their pixels."""
    count = int(counts.predicted > 0)
    overlap = iou(counts) if count and counts.truth else 0.0
    ids, areas = np.ones(count, np.int64), np.full(count, counts.predicted, np.int64)
    overlaps = np.full(count, overlap if overlap >= THRESHOLDS[0] else 0.0)
    return ObjectMatches(int(counts.truth > 0), ids, areas, overlaps)


def average_precision(ranks: Doubles, overlaps: Doubles, true: int, threshold: float) -> float:
    """Average precision at one IoU threshold as COCO computes it, of one true object or more.

    Predictions of all frames are taken by falling rank (equal ones keep their order); precision at
    each recall is the highest at that recall or a larger one, and is averaged over 101 recalls from
    0 to 1 (Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, and its evaluation
    code). COCO looks at the 100 highest ranked objects of a frame only; here all count, as dense
    frames hold more.
    """
    right = overlaps[np.argsort(-ranks, kind="stable")] >= threshold
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / true, _RECALLS, side="left")
    return float(np.append(best, 0.0)[np.minimum(places, len(best))].mean())


def instance_figures(matches: Sequence[ObjectMatches], ranks: Sequence[Doubles]) -> InstanceFigures:
    """Figures of the objects of many frames; ``ranks`` tell how sure each predicted one is."""
    overlaps = np.concatenate([np.empty(0), *(one.overlaps for one in matches)])
    order = np.concatenate([np.empty(0), *ranks])
    true, predicted = sum(one.true for one in matches), len(overlaps)
    hits = int(np.count_nonzero(overlaps))
    precise: dict[float, float] = {}
    if true:
        precise = {one: average_precision(order, overlaps, true, one) for one in THRESHOLDS}
    return InstanceFigures(
        average_precision=sum(precise.values()) / len(precise) if precise else None,
        average_precision_50=precise.get(0.5),
        average_precision_75=precise.get(0.75),
        precision=hits / predicted if predicted else float(true == 0),
        recall=hits / true if true else float(predicted == 0),
        f1=2 * hits / (predicted + true) if predicted + true else 1.0,
        frames=len(matches),
        predicted=predicted,
        true=true,
    )


def read_counts(path: Path) -> dict[tuple[str, str], CountRow]:
    """Rows of a prediction's ``counts.csv``, each with a count, by clip and frame name."""
    try:
        rows = read_count_rows(path, ("clip", "frame", "count"))
        for row in rows:
            if row.count is None:
                found = f"the count of {row.clip}/{row.frame} is empty"
                raise TableError.at(path, found, "a number")
    except TableError as error:
        found = f"is no table of counts ({error.faults[0]})"
        expected = "the columns clip, frame and count"
        remedy = "predict again, or remove it to score the masks alone"
        raise TableError.at(path, found, expected, remedy) from error
    return {(row.clip, row.frame): row for row in rows}


def read_totals(table: Path) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Distinct objects of clips and their regions, "" for all, and the ends of their intervals.

    They stand in a ``totals.csv``; none without it.
    """
    if not table.is_file():
        return {}
    found: dict[tuple[str, str], tuple[int, int, int]] = {}
    columns = ("clip", "region", "distinct", "low", "high")
    with FaultCollector(TableError) as faults:
        for row in read_cells(table, columns, faults, allow_empty=True, whole=True):
            distinct, low, high = (row.integer(name, minimum=0) for name in columns[2:])
            found[composed(row.raw("clip")), composed(row.raw("region"))] = distinct, low, high
    return found


def read_probabilities(table: Path) -> dict[str, dict[int, float]] | None:
    """Mean probability by frame and id from a clip's ``objects.csv``; None where it has none."""
    if not table.is_file():
        return None
    found: dict[str, dict[int, float]] = {}
    try:
        header, *rows = read_records(table) or [[]]
        if "mean_probability" not in header:
            return None
        for row in (dict(zip(header, values, strict=True)) for values in rows if values):
            sure = float(row["mean_probability"])
            found.setdefault(composed(row["frame"]), {})[int(row["object"])] = sure
    except (KeyError, ValueError) as error:
        told = f"is no table of objects ({type(error).__name__}: {error})"
        expected = "the columns frame, object and mean_probability"
        remedy = "predict again, or remove it to rank objects by area"
        raise TableError.at(table, told, expected, remedy) from error
    return found

"""The measures of py-ctcmetrics, asked for in parts so that many tracks cost no more than few.

CHOTA, HOTA and IDF1 compare each true track with each predicted one, in time and memory that grow
with the product of their numbers. Each is a sum over groups of tracks that meet, or are parent and
daughter, and over the objects in no such group; so each group is measured by itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = NDArray[np.int64]

_TOLERANCES = range(4)  # frames by which a predicted division may be early or late, at most
MEASURES = ("SEG", "DET", "LNK", "TRA", "CHOTA", "HOTA", "IDF1")

#: A part of a track: label, first and last frame, place of the part that it comes from or -1.
Part = tuple[int, int, int, int]


class FrameMatch(NamedTuple):
    """The objects of a frame by their labels, and which of them are found."""

    #: (N, 2): of each true object its label and that of what it is found by, or 0; then 0 and the
    #: label of each predicted object that finds none.
    objects: Ints
    overlaps: list[float]  # IoU of each pair


Matches = Sequence[FrameMatch]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Clips one after another, whose labels are those of tracks' parts, from 1, never shared."""

    frames: int
    objects: Ints  # (N, 3): frame and the pair of labels of :class:`FrameMatch`
    #: Of truth and prediction (K, 4): label, first and last frame, label of the parent or 0.
    tracks: tuple[Ints, Ints]
    seg: Matches = ()  # the frames in which masks are known

    @classmethod
    def of(
        cls, matches: Matches, seg: Matches, true: Sequence[Part], predicted: Sequence[Part]
    ) -> "Sequences":
        """One clip, with labels of its own replaced by those of the parts of tracks."""
        own, other = (
            {
                (place, label): number
                for number, (label, first, last, _) in enumerate(parts, 1)
                for place in range(first, last + 1)
            }
            for parts in (true, predicted)
        )
        rows = [
            (place, own.get((place, a), 0), other.get((place, b), 0))
            for place, match in enumerate(matches)
            for a, b in match.objects.tolist()
        ]
        lines = (
            [(k, first, last, parent + 1) for k, (_, first, last, parent) in enumerate(parts, 1)]
            for parts in (true, predicted)
        )
        tracks = tuple(np.array(one, np.int64).reshape(-1, 4) for one in lines)
        objects = np.array(rows, np.int64).reshape(-1, 3)
        return cls(len(matches), objects, (tracks[0], tracks[1]), seg)

    def __add__(self, other: "Sequences") -> "Sequences":
        """Another clip after these."""
        objects, tracks = np.add(other.objects, [self.frames, 0, 0]), []
        for side, (own, lines) in enumerate(zip(self.tracks, other.tracks, strict=True), 1):
            objects[:, side] += len(own) * (objects[:, side] > 0)
            moved = np.add(lines, [len(own), self.frames, self.frames, 0])
            moved[:, 3] += len(own) * (lines[:, 3] > 0)
            tracks.append(np.concatenate([own, moved]))
        frames, objects = self.frames + other.frames, np.concatenate([self.objects, objects])
        return Sequences(frames, objects, (tracks[0], tracks[1]), [*self.seg, *other.seg])

    def of_group(self, rows: Ints) -> "Sequences":
        """The objects of a group of tracks alone, with frames and labels of its own."""
        frames, place = np.unique(rows[:, 0], return_inverse=True)
        columns, tracks = [place], []
        for lines, labels in zip(self.tracks, rows[:, 1:].T, strict=True):
            own = np.unique(labels[labels > 0])
            number = np.zeros(len(lines) + 1, np.int64)
            number[own] = np.arange(1, len(own) + 1)
            columns.append(number[labels])
            chosen = lines[own - 1]
            tracks.append(np.column_stack([number[own], chosen[:, 1:3], number[chosen[:, 3]]]))
        return Sequences(len(frames), np.column_stack(columns), (tracks[0], tracks[1]))


def measure(clips: Sequences) -> dict[str, Any]:
    """All figures; None where one is not defined.

    ``SEG`` ... ``IDF1``; ``BC``, by the frames that a division may be early or late;
    ``id_switches`` and ``links``, of which they are a part.
    """
    _, first, last, parent = clips.tracks[0].T
    links = int((last - first).sum())
    # Without a link or a parent in the truth there is nothing that LNK could be a share of,
    linked = ["LNK"] if links or parent.any() else []
    true, predicted = (clips.objects[:, 1:] > 0).T
    if not (true & predicted).any():
        # and likewise of the others without an object there, or in both.
        of_truth = dict.fromkeys(("SEG", "DET", *linked, "TRA"), 0.0 if true.any() else None)
        of_both = dict.fromkeys(("CHOTA", "HOTA", "IDF1"), 0.0 if len(clips.objects) else None)
        none = dict.fromkeys(MEASURES) | of_truth | of_both
        return {**none, "BC": _tolerances({}), "id_switches": 0, "links": links}
    whole = _calculated(clips, ["SEG", "DET", *linked, "TRA", "BC", "MOTA"])
    by_groups = _by_groups(clips)
    found = {name: _number({**whole, **by_groups}.get(name)) for name in MEASURES}
    switches = int(whole["IDSW"])
    return {**found, "BC": _tolerances(whole), "id_switches": switches, "links": links}


def _calculated(clips: Sequences, metrics: list[str]) -> dict[str, Any]:
    from ctc_metrics.scripts.evaluate import calculate_metrics

    # CHOTA and HOTA need a label in frames without true objects: 0, which they do not look at.
    absent = [0] if "HOTA" in metrics else []
    matches: dict[str, list[list[int]]] = {
        name: [] for name in ("labels_ref", "labels_comp", "mapped_ref", "mapped_comp")
    }
    objects = clips.objects[np.argsort(clips.objects[:, 0], kind="stable")]
    ends = np.searchsorted(objects[:, 0], np.arange(1, clips.frames))
    for here in np.split(objects[:, 1:], ends):
        # The library looks labels up by halving and takes them to be in order.
        true, predicted = (np.unique(side[side > 0]).tolist() for side in here.T)
        mapped = here[(here > 0).all(axis=1)].T.tolist()
        for name, labels in zip(matches, (true or absent, predicted, *mapped), strict=True):
            matches[name].append(labels)
    masks = {
        "labels_ref": [range(np.count_nonzero(one.objects[:, 0])) for one in clips.seg],
        "ious": [one.overlaps for one in clips.seg],
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        figures: dict[str, Any] = calculate_metrics(
            *clips.tracks[::-1], matches, masks, metrics, is_valid=1
        )
    return figures


def _by_groups(clips: Sequences) -> dict[str, float]:
    """CHOTA, HOTA and IDF1, as sums over groups of tracks that have to do with one another."""
    groups = _groups(clips)
    _, true, predicted = clips.objects.T
    # Labels of 0 look up any group, which is not used.
    of = np.where(true > 0, groups[0][true - 1], groups[1][predicted - 1])
    both = np.isin(of, np.intersect1d(*groups))
    grouped = clips.objects[both][np.argsort(of[both], kind="stable")]
    sizes = np.unique(of[both], return_counts=True)[1]
    sums = dict.fromkeys(("CHOTA", "HOTA", "IDTP", "IDFP", "IDFN"), 0.0)
    for rows in np.split(grouped, np.cumsum(sizes)[:-1]):
        figures = _calculated(clips.of_group(rows), ["CHOTA", "HOTA", "IDF1"])
        for name in ("CHOTA", "HOTA"):
            sums[name] += figures[name] ** 2 * len(rows)
        for name in ("IDTP", "IDFP", "IDFN"):
            sums[name] += figures[name]
    wrong = sums["IDFP"] + sums["IDFN"] + int(np.count_nonzero(~both))
    return {
        "CHOTA": math.sqrt(sums["CHOTA"] / len(of)),
        "HOTA": math.sqrt(sums["HOTA"] / len(of)),
        "IDF1": 2 * sums["IDTP"] / (2 * sums["IDTP"] + wrong),
    }


def _groups(clips: Sequences) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The group of each true and of each predicted track."""
    count, others = (len(tracks) for tracks in clips.tracks)
    pairs = clips.objects[(clips.objects[:, 1:] > 0).all(axis=1), 1:]
    edges = [np.add(pairs, [-1, count - 1]).T]
    for offset, tracks in zip((0, count), clips.tracks, strict=True):
        children = tracks[tracks[:, 3] > 0]
        edges.append(offset + children[:, [0, 3]].T - 1)
    first, second = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(count + others,) * 2)
    groups = connected_components(graph, directed=False)[1]
    return groups[:count], groups[count:]


def _tolerances(found: dict[str, Any]) -> dict[str, float | None]:
    return {str(frames): _number(found.get(f"BC({frames})")) for frames in _TOLERANCES}


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)

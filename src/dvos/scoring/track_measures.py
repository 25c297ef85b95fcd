"""The measures of py-ctcmetrics, asked for in parts so that many tracks cost no more than few.

CHOTA, HOTA and IDF1 compare each true track with each predicted one, in time and memory that grow
with the product of their numbers. Each is a sum over groups of tracks that meet, or are parent and
daughter, and over the objects in no such group; so each group is measured by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

#: Frames by which a predicted division may be early or late, at most.
_TOLERANCES = range(4)
_MEASURES = ("SEG", "DET", "LNK", "TRA", "CHOTA", "HOTA", "IDF1")

#: A part of a track: label, first and last frame, place of the part that it comes from or -1.
Part = tuple[int, int, int, int]


@dataclass(frozen=True)
class FrameMatch:
    """The objects of a frame by their labels, and which of them are found.

    Attributes:
        true: Labels of the true objects.
        predicted: Of the predicted ones.
        matched_true: Of the true objects that are found, each once.
        matched_predicted: What each of these is found by.
        overlaps: IoU of each such pair.
    """

    true: list[int]
    predicted: list[int]
    matched_true: list[int]
    matched_predicted: list[int]
    overlaps: list[float]


@dataclass(eq=False)
class Sequences:
    """Clips one after another, whose labels are those of tracks' parts, from 1, never shared.

    Attributes:
        true: Labels of the true objects of each frame.
        predicted: Of the predicted ones.
        matched_true: Of the true ones that are found.
        matched_predicted: What they are found by.
        seg_true: Number of objects in each frame whose masks are known.
        seg_overlaps: IoU of those that are found.
        true_tracks: int64 (K, 4): label, first and last frame, label of the parent or 0.
        predicted_tracks: Likewise.
    """

    true: list[list[int]] = field(default_factory=list)
    predicted: list[list[int]] = field(default_factory=list)
    matched_true: list[list[int]] = field(default_factory=list)
    matched_predicted: list[list[int]] = field(default_factory=list)
    seg_true: list[int] = field(default_factory=list)
    seg_overlaps: list[list[float]] = field(default_factory=list)
    true_tracks: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 4), np.int64))
    predicted_tracks: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 4), np.int64))

    @classmethod
    def of(
        cls,
        matches: Sequence[FrameMatch],
        seg: Sequence[FrameMatch],
        true: Sequence[Part],
        predicted: Sequence[Part],
    ) -> Sequences:
        """One clip, with labels of its own replaced by those of the parts of tracks."""
        own, other = (_part_labels(parts, len(matches)) for parts in (true, predicted))
        pairs = [(own[k], other[k], match) for k, match in enumerate(matches)]
        return cls(
            # The library looks labels up by halving and takes them to be in order.
            true=[sorted(a[label] for label in one.true) for a, _, one in pairs],
            predicted=[sorted(b[label] for label in one.predicted) for _, b, one in pairs],
            matched_true=[[a[label] for label in one.matched_true] for a, _, one in pairs],
            matched_predicted=[
                [b[label] for label in one.matched_predicted] for _, b, one in pairs
            ],
            seg_true=[len(one.true) for one in seg],
            seg_overlaps=[one.overlaps for one in seg],
            true_tracks=_track_lines(true),
            predicted_tracks=_track_lines(predicted),
        )

    def append(self, other: Sequences) -> None:
        """Put another clip after these."""
        frames = len(self.true)
        a, b = len(self.true_tracks), len(self.predicted_tracks)
        for name, offset in (
            *(("true", a), ("matched_true", a)),
            *(("predicted", b), ("matched_predicted", b)),
        ):
            moved = [[label + offset for label in one] for one in getattr(other, name)]
            getattr(self, name).extend(moved)
        self.seg_true += other.seg_true
        self.seg_overlaps += other.seg_overlaps
        for name, offset in (("true_tracks", a), ("predicted_tracks", b)):
            lines = getattr(other, name) + np.array([offset, frames, frames, 0])
            lines[:, 3] += np.where(lines[:, 3] > 0, offset, 0)
            setattr(self, name, np.concatenate([getattr(self, name), lines]))


def measure(clips: Sequences) -> dict[str, Any]:
    """All figures; None where one is not defined.

    Returns:
        ``SEG`` ... ``IDF1``; ``BC``, by the frames that a division may be early or late;
        ``id_switches`` and ``links``, of which they are a part.
    """
    links = sum(len({*a} & {*b}) for a, b in zip(clips.true, clips.true[1:], strict=False))
    if not any(clips.matched_true):
        none = dict.fromkeys(_MEASURES, 0.0)
        return {**none, "BC": _tolerances({}), "id_switches": 0, "links": links}
    whole = _calculated(clips, ["SEG", "DET", "LNK", "TRA", "BC", "MOTA"])
    by_groups = _by_groups(clips)
    found = {name: _number({**whole, **by_groups}.get(name)) for name in _MEASURES}
    return {
        **found,
        "BC": _tolerances(whole),
        "id_switches": int(whole["IDSW"]),
        "links": links,
    }


def _calculated(clips: Sequences, metrics: list[str]) -> dict[str, Any]:
    from ctc_metrics.scripts.evaluate import calculate_metrics

    matches = {
        "labels_ref": clips.true,
        "labels_comp": clips.predicted,
        "mapped_ref": clips.matched_true,
        "mapped_comp": clips.matched_predicted,
    }
    masks = {"labels_ref": [range(n) for n in clips.seg_true], "ious": clips.seg_overlaps}
    with np.errstate(invalid="ignore", divide="ignore"):
        found: dict[str, Any] = calculate_metrics(
            clips.predicted_tracks, clips.true_tracks, matches, masks, metrics, is_valid=1
        )
    return found


def _by_groups(clips: Sequences) -> dict[str, float]:
    """CHOTA, HOTA and IDF1, as sums over groups of tracks that have to do with one another."""
    group_of_true, group_of_predicted = _groups(clips)
    parts: dict[int, list[tuple[int, int, int, bool]]] = {}
    total = alone_true = alone_predicted = 0
    both = {*group_of_true.tolist()} & {*group_of_predicted.tolist()}
    for place, (true, predicted) in enumerate(zip(clips.true, clips.predicted, strict=True)):
        found_by = dict(zip(clips.matched_true[place], clips.matched_predicted[place], strict=True))
        free = {*predicted} - {*found_by.values()}
        total += len(true) + len(free)
        for label in true:
            group = int(group_of_true[label - 1])
            if group in both:
                parts.setdefault(group, []).append((place, label, found_by.get(label, 0), True))
            else:
                alone_true += 1
        for label in predicted:
            group = int(group_of_predicted[label - 1])
            if group in both:
                parts.setdefault(group, []).append((place, 0, label, label in free))
            else:
                alone_predicted += 1
    sums = dict.fromkeys(("CHOTA", "HOTA", "IDTP", "IDFP", "IDFN"), 0.0)
    for members in parts.values():
        figures = _calculated(_sub(clips, members), ["CHOTA", "HOTA", "IDF1"])
        size = sum(counted for *_, counted in members)
        for name in ("CHOTA", "HOTA"):
            sums[name] += figures[name] ** 2 * size
        for name in ("IDTP", "IDFP", "IDFN"):
            sums[name] += figures[name]
    wrong = sums["IDFP"] + alone_predicted + sums["IDFN"] + alone_true
    return {
        "CHOTA": math.sqrt(sums["CHOTA"] / total),
        "HOTA": math.sqrt(sums["HOTA"] / total),
        "IDF1": 2 * sums["IDTP"] / (2 * sums["IDTP"] + wrong),
    }


def _groups(clips: Sequences) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The group of each true and of each predicted track."""
    count, others = len(clips.true_tracks), len(clips.predicted_tracks)
    ends = [
        np.array([label for one in frames for label in one], np.int64)
        for frames in (clips.matched_true, clips.matched_predicted)
    ]
    edges = [np.stack([ends[0] - 1, count + ends[1] - 1])]
    for offset, tracks in ((0, clips.true_tracks), (count, clips.predicted_tracks)):
        children = tracks[tracks[:, 3] > 0]
        edges.append(offset + children[:, [0, 3]].T - 1)
    joined = np.concatenate(edges, axis=1)
    graph = coo_array(
        (np.ones(joined.shape[1]), (joined[0], joined[1])), shape=(count + others, count + others)
    )
    groups = connected_components(graph, directed=False)[1]
    return groups[:count], groups[count:]


def _sub(clips: Sequences, group: Iterable[tuple[int, int, int, bool]]) -> Sequences:
    """A group alone, with labels of its own.

    Args:
        clips: Where its tracks are.
        group: Frame, true label, and what it is found by or 0; or frame, 0 and predicted label.
    """
    names: tuple[dict[int, int], dict[int, int]] = ({}, {})
    frames: dict[int, tuple[list[int], list[int], list[int], list[int]]] = {}
    for place, true, predicted, _ in group:
        here = frames.setdefault(place, ([], [], [], []))
        a = names[0].setdefault(true, len(names[0]) + 1) if true else 0
        b = names[1].setdefault(predicted, len(names[1]) + 1) if predicted else 0
        if a:
            here[0].append(a)
            if b:
                here[2].append(a)
                here[3].append(b)
        else:
            here[1].append(b)
    ordered = [frames[place] for place in sorted(frames)]
    tracks = []
    for lines, own in ((clips.true_tracks, names[0]), (clips.predicted_tracks, names[1])):
        chosen = lines[[label - 1 for label in own]]
        renamed = [(own[k], first, last, own.get(p, 0)) for k, first, last, p in chosen.tolist()]
        tracks.append(np.array(renamed, np.int64).reshape(-1, 4))
    return Sequences(
        # The label 0, which no figure looks at, stands in frames without true objects.
        true=[one[0] or [0] for one in ordered],
        predicted=[one[1] for one in ordered],
        matched_true=[one[2] for one in ordered],
        matched_predicted=[one[3] for one in ordered],
        true_tracks=tracks[0],
        predicted_tracks=tracks[1],
    )


def _part_labels(parts: Sequence[Part], frames: int) -> list[dict[int, int]]:
    """For each frame the label of a track's part by that of its track."""
    labels: list[dict[int, int]] = [{} for _ in range(frames)]
    for number, (label, first, last, _) in enumerate(parts, 1):
        for place in range(first, last + 1):
            labels[place][label] = number
    return labels


def _track_lines(parts: Sequence[Part]) -> NDArray[np.int64]:
    lines = [(k, first, last, parent + 1) for k, (_, first, last, parent) in enumerate(parts, 1)]
    return np.array(lines, np.int64).reshape(-1, 4)


def _tolerances(found: dict[str, Any]) -> dict[str, float | None]:
    return {str(frames): _number(found.get(f"BC({frames})")) for frames in _TOLERANCES}


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)

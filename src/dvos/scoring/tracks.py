"""Tracks against truth: SEG, DET, LNK, TRA, CHOTA, HOTA, IDF1 and ID switches, by py-ctcmetrics.

A true object is found where a predicted one covers more than half of it, as the Cell Tracking
Challenge has it. docs/reference/tracks.md says what each figure means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.config.scoring import ScoringSettings
from dvos.errors import MediaError, UsageError, check_size
from dvos.media.label_image import read_label_image
from dvos.scoring.instances import read_totals
from dvos.scoring.track_files import (
    UNKNOWN,
    Labels,
    TrackClip,
    check_table,
    predicted_tracks,
    true_tracks,
)
from dvos.scoring.track_measures import FrameMatch, Sequences, measure

#: Of a true object, how much a predicted one must cover; and of a predicted one, how much may lie
#: where nothing is known.
_HALF = 0.5


@dataclass(eq=False)
class _Track:
    """A label's frames, by their places, and the label that it comes from."""

    frames: list[int] = field(default_factory=list)
    parent: int = 0


def score_tracks(settings: ScoringSettings, truth: Path) -> dict[str, Any]:
    """Score predicted tracks.

    Args:
        settings: What is scored against what.
        truth: Folder or table of the truth.

    Returns:
        The content of ``tracks.json``: ``SEG``, ``DET``, ``LNK``, ``TRA``, ``CHOTA``, ``HOTA``,
        ``IDF1``, ``BC`` by tolerance, ``id_switches``, ``links``, ``distinct``,
        ``distinct_truth`` of all clips together, and ``clips``, the same of each.

    Raises:
        UsageError: If py-ctcmetrics is not installed.
        DvosError: If tracks cannot be read, or do not belong together.
    """
    try:
        import ctc_metrics  # noqa: F401
    except ImportError as error:
        missing, remedy = "py-ctcmetrics is not installed", "pip install 'dvos[tracks]'"
        raise UsageError.at("--tracks", missing, remedy=remedy) from error
    clips = true_tracks(truth, "all", settings.void)
    totals = {
        clip: {"distinct": distinct, "distinct_interval": {"low": low, "high": high}}
        for clip, (distinct, low, high) in read_totals(settings.predictions / "totals.csv").items()
    }
    found: dict[str, dict[str, Any]] = {}
    everything = Sequences()
    for clip in clips:
        predicted = predicted_tracks(settings.predictions, clip, alone=len(clips) == 1)
        compared, counts = _compared(clip, predicted)
        everything.append(compared)
        figures = measure(compared)
        found[clip.name] = {**figures, **counts, **totals.get(clip.name, {})}
    together = {
        name: sum(one[name] for one in found.values()) for name in ("distinct", "distinct_truth")
    }
    return {**measure(everything), **together, "clips": found}


def _compared(truth: TrackClip, predicted: TrackClip) -> tuple[Sequences, dict[str, int]]:
    """A clip's frames compared, labels parted where tracks have gaps, and numbers of tracks."""
    files = {one.name: one for one in predicted.frames}
    if len(truth.frames) < 2:
        raise MediaError.at(truth.name, "has one frame with truth", "two, as tracks link frames")
    matches, seg = [], []
    for frame in truth.frames:
        true = frame.read()
        other = files.get(frame.name)
        labels = np.zeros_like(true) if other is None else other.read()
        if other is not None:
            check_size(other.where, labels.shape, true.shape, frame.where)
        match = match_frame(true, labels)
        matches.append(match)
        if truth.masks is None:
            seg.append(match)
        elif frame.name in truth.masks:
            seg.append(match_frame(read_label_image(truth.masks[frame.name]), labels))
    tracks = []
    for clip, side in ((truth, "true"), (predicted, "predicted")):
        seen: dict[int, list[int]] = {}
        for place, match in enumerate(matches):
            for label in getattr(match, side):
                seen.setdefault(label, []).append(place)
        check_table(clip, seen, whole=clip is truth or len(files) == len(truth.frames))
        tracks.append(_segments(clip, seen))
    distinct = {
        name: _distinct(one)
        for name, one in zip(("distinct_truth", "distinct"), tracks, strict=True)
    }
    return Sequences.of(matches, seg, *tracks), distinct


def match_frame(true: Labels, predicted: Labels) -> FrameMatch:
    """Which true objects of a frame are found, and by which predicted ones.

    Args:
        true: int32 (H, W): 0 background, below 0 unknown.
        predicted: int32 (H, W), 0 background.
    """
    width = int(predicted.max(initial=0)) + 2
    codes = (true.astype(np.int64) + 1) * width + predicted + 1
    flat = codes.ravel()
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    pairs, place = np.unique(flat[starts], return_inverse=True)
    shared = np.bincount(place, weights=np.diff(starts, append=flat.size)).astype(np.float64)
    first, second = pairs // width - 1, np.maximum(pairs % width - 1, 0)
    of_true, true_areas = _areas(first, shared)
    of_predicted, areas = _areas(second, shared)
    unknown = first == UNKNOWN
    hidden = np.zeros(len(of_predicted))
    np.add.at(hidden, np.searchsorted(of_predicted, second[unknown]), shared[unknown])
    judged = (of_predicted > 0) & (hidden <= _HALF * areas)
    both = (first > 0) & np.isin(second, of_predicted[judged])
    a, b = np.searchsorted(of_true, first[both]), np.searchsorted(of_predicted, second[both])
    covered = shared[both] > _HALF * true_areas[a]
    union = true_areas[a] + areas[b] - shared[both]
    return FrameMatch(
        true=of_true[of_true > 0].tolist(),
        predicted=of_predicted[judged].tolist(),
        matched_true=first[both][covered].tolist(),
        matched_predicted=second[both][covered].tolist(),
        overlaps=(shared[both] / union)[covered].tolist(),
    )


def _areas(
    ids: NDArray[np.int64], pixels: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    names, place = np.unique(ids, return_inverse=True)
    return names, np.bincount(place, weights=pixels).astype(np.float64)


def _segments(
    clip: TrackClip, seen: Mapping[int, Sequence[int]]
) -> list[tuple[int, int, int, int]]:
    """Label, first and last place and index of the parent (-1: none) of each part without a gap."""
    parts: list[tuple[int, int, int, int]] = []
    last_of: dict[int, int] = {}
    parents = dict(clip.parents)
    if clip.table is not None:
        parents = {label: one.parent for label, one in clip.table.items() if one.parent}
    for label, frames in sorted(seen.items(), key=lambda one: (one[1][0], one[0])):
        breaks = [k for k in range(1, len(frames)) if frames[k] != frames[k - 1] + 1]
        for start, stop in zip([0, *breaks], [*breaks, len(frames)], strict=True):
            parent = last_of.get(label, -1) if start else last_of.get(parents.get(label, 0), -1)
            # A parent that is seen later, too, is none.
            if parent >= 0 and parts[parent][2] >= frames[start]:
                parent = -1
            parts.append((label, frames[start], frames[stop - 1], parent))
            last_of[label] = len(parts) - 1
    return parts


def _distinct(parts: Sequence[tuple[int, int, int, int]]) -> int:
    """Number of tracks: a part that alone goes on with another one is the same object."""
    children = Counter(parent for *_, parent in parts)
    return sum(parent < 0 or children[parent] > 1 for *_, parent in parts)

"""Tracks against truth: SEG, DET, LNK, TRA, CHOTA, HOTA, IDF1 and ID switches, by py-ctcmetrics.

A true object is found where a predicted one covers more than half of it, as the Cell Tracking
Challenge has it. docs/reference/tracks.md says what each figure means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from dvos.config.scoring import ScoringSettings
from dvos.errors import MediaError, UsageError, check_size
from dvos.media.label_image import read_label_image
from dvos.scoring.instances import read_totals, shared_pixels, unique_areas
from dvos.scoring.track_files import UNKNOWN, Labels, TrackClip, predicted_tracks, true_tracks
from dvos.scoring.track_measures import FrameMatch, Part, Sequences, measure

#: Of a true object, how much a predicted one must cover; and of a predicted one, how much may lie
#: where nothing is known.
_HALF = 0.5


def score_tracks(settings: ScoringSettings, truth: Path) -> dict[str, Any]:
    """Score predicted tracks against a folder or table of the truth.

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
    everything: list[Sequences] = []
    for clip in clips:
        predicted = predicted_tracks(settings.predictions, clip, alone=len(clips) == 1)
        compared, counts = _compared(clip, predicted)
        everything.append(compared)
        found[clip.name] = {**measure(compared), **counts, **totals.get(clip.name, {})}
    together = {
        name: sum(one[name] for one in found.values()) for name in ("distinct", "distinct_truth")
    }
    return {**measure(reduce(add, everything)), **together, "clips": found}


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
    for side, clip in enumerate((truth, predicted)):
        seen: dict[int, list[int]] = {}
        for place, match in enumerate(matches):
            for label in np.unique(match.objects[:, side]).tolist():
                seen.setdefault(label, []).append(place)
        seen.pop(0, None)
        clip.check_table(seen, whole=clip is truth or len(files) == len(truth.frames))
        tracks.append(_segments(clip, seen))
    distinct = {"distinct_truth": _distinct(tracks[0]), "distinct": _distinct(tracks[1])}
    return Sequences.of(matches, seg, *tracks), distinct


def match_frame(true: Labels, predicted: Labels) -> FrameMatch:
    """Which true objects of a frame are found, and by which predicted ones.

    Args:
        true: int32 (H, W): 0 background, below 0 unknown.
        predicted: int32 (H, W), 0 background.
    """
    first, second, shared = shared_pixels(true, predicted)
    # Ids below 0, of which nothing is known, are no objects; nor is what lies there mostly.
    true_ids, of_true, true_areas = unique_areas(first, shared)
    ids, of_predicted, areas = unique_areas(second, shared)
    hidden = np.bincount(of_predicted, weights=shared * (first == UNKNOWN))
    judged = (ids > 0) & (hidden <= _HALF * areas)
    found = (first > 0) & judged[of_predicted] & (shared > _HALF * true_areas[of_true])
    union = (true_areas[of_true] + areas[of_predicted] - shared)[found]
    finder = np.zeros_like(true_ids)
    finder[of_true[found]] = second[found]
    free = np.setdiff1d(ids[judged], finder)
    pairs = np.column_stack([true_ids, finder])[true_ids > 0]
    objects = np.concatenate([pairs, np.column_stack([np.zeros_like(free), free])])
    return FrameMatch(objects, (shared[found] / union).tolist())


def _segments(clip: TrackClip, seen: Mapping[int, Sequence[int]]) -> list[Part]:
    """The parts without a gap of all tracks."""
    parts: list[Part] = []
    last_of: dict[int, int] = {}
    for label, frames in sorted(seen.items(), key=lambda one: (one[1][0], one[0])):
        breaks = [k for k in range(1, len(frames)) if frames[k] != frames[k - 1] + 1]
        for start, stop in zip([0, *breaks], [*breaks, len(frames)], strict=True):
            earlier = label if start else clip.parents.get(label, 0)
            parent = last_of.get(earlier, -1)
            # A parent that is seen later, too, is none.
            if parent >= 0 and parts[parent][2] >= frames[start]:
                parent = -1
            parts.append((label, frames[start], frames[stop - 1], parent))
            last_of[label] = len(parts) - 1
    return parts


def _distinct(parts: Sequence[Part]) -> int:
    """Number of tracks: a part that alone goes on with another one is the same object."""
    children = Counter(parent for *_, parent in parts)
    return sum(parent < 0 or children[parent] > 1 for *_, parent in parts)

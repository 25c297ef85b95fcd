"""Tracks against truth: SEG, DET, LNK, TRA, CHOTA, HOTA, IDF1 and ID switches, by py-ctcmetrics.

A true object is found where a predicted one covers more than half of it (docs/reference/tracks.md).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import islice
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.config.scoring import ScoringSettings
from dvos.errors import MediaError, UsageError, check_size
from dvos.files import find_path, stem_of
from dvos.formats.ctc import RESULT_TABLE, CtcTrack, check_presence, read_track_table
from dvos.formats.own import read_parents
from dvos.media.clip_store import read_mask_at
from dvos.media.ctc_folder import ctc_sequences, numbered_files
from dvos.media.layout import MASK_SUFFIXES, FileIndex, list_files
from dvos.media.mask import IGNORE, mask_ids, read_label_image
from dvos.scoring.instances import object_count, read_totals, shared_pixels, unique_areas
from dvos.scoring.match import NO_CLIPS, true_masks
from dvos.scoring.track_measures import FrameMatch, Part, Sequences, measure

Labels = NDArray[np.int32]
UNKNOWN = -1  # what a frame's pixels are where nothing is known of them
#: Of a true object, how much a predicted one must cover; and of a predicted one, how much may lie
#: where nothing is known.
_HALF = 0.5
_LOOKED_AT = 8  # masks of a clip that tell whether it has ids


@dataclass(frozen=True, eq=False)
class TrackClip:
    """True or predicted tracks of a clip."""

    name: str
    frames: Mapping[str, Path]  # label images by the frames' names, in order
    parents: Mapping[int, int]  # of ids the one they come from
    #: The tracks as the Cell Tracking Challenge's table tells them, by label, if there is one.
    table: dict[int, CtcTrack] | None = None
    table_path: Path | None = None
    numbers: Sequence[int] = ()  # of the frames, as the table counts them
    #: By frame name, label images of the objects' own pixels, where the frames' own show markers.
    masks: Mapping[str, Path] | None = None
    read: Callable[[Path], Labels] = read_label_image  # reads a frame's, int32 (H, W)

    def parts(self, seen: Mapping[int, Sequence[int]]) -> list[Part]:
        """The parts without a gap of all tracks, of which ``seen`` tells the frames."""
        parts: list[Part] = []
        last_of: dict[int, int] = {}
        for label, frames in sorted(seen.items(), key=lambda one: (one[1][0], one[0])):
            breaks = [k for k in range(1, len(frames)) if frames[k] != frames[k - 1] + 1]
            for start, stop in zip([0, *breaks], [*breaks, len(frames)], strict=True):
                earlier = label if start else self.parents.get(label, 0)
                parent = last_of.get(earlier, -1)
                # A parent that is seen later, too, is none.
                if parent >= 0 and parts[parent][2] >= frames[start]:
                    parent = -1
                parts.append((label, frames[start], frames[stop - 1], parent))
                last_of[label] = len(parts) - 1
        return parts


def score_tracks(settings: ScoringSettings, truth: Path) -> dict[str, Any]:
    """Score predicted tracks against a folder or table of the truth: what ``tracks.json`` holds.

    That is what :func:`measure` tells, ``distinct`` and ``distinct_truth``, of all clips together
    and, in ``clips``, of each; there the frames without predicted tracks are ``missing``, too.
    """
    try:
        import ctc_metrics  # noqa: F401
    except ImportError as error:
        missing, remedy = "py-ctcmetrics is not installed", "pip install 'dvos[tracks]'"
        raise UsageError.at("--tracks", missing, remedy=remedy) from error
    clips = true_tracks(truth, settings.void)
    told = read_totals(settings.predictions / "totals.csv")
    totals = {
        clip: {"distinct": distinct, "distinct_interval": {"low": low, "high": high}}
        for (clip, region), (distinct, low, high) in told.items()
        if not region
    }
    found: dict[str, dict[str, Any]] = {}
    everything: list[Sequences] = []
    for clip in clips:
        predicted = predicted_tracks(settings.predictions, clip, alone=len(clips) == 1)
        compared, counts = _compared(clip, predicted, settings.border)
        everything.append(compared)
        found[clip.name] = {**measure(compared), **counts, **totals.get(clip.name, {})}
    names = ("distinct", "distinct_truth")
    together = {name: sum(one[name] for one in found.values()) for name in names}
    return {**measure(reduce(add, everything)), **together, "clips": found}


def _compared(
    truth: TrackClip, predicted: TrackClip, border: int
) -> tuple[Sequences, dict[str, Any]]:
    """A clip's frames compared, labels parted where tracks have gaps, and numbers of tracks.

    With these come the names of the frames without predicted tracks.
    """
    if len(truth.frames) < 2:
        raise MediaError.at(truth.name, "has one frame with truth", "two, as tracks link frames")
    matches, seg = [], []
    for name, path in truth.frames.items():
        true, other = truth.read(path), predicted.frames.get(name)
        labels = np.zeros_like(true) if other is None else predicted.read(other)
        if other is not None:
            check_size(other, labels.shape, true.shape, path)
        labels = within(labels, border, path)
        match = match_frame(within(true, border, path), labels)
        matches.append(match)
        if truth.masks is None:
            seg.append(match)
        elif name in truth.masks:
            shown = within(read_label_image(truth.masks[name]), border, path)
            seg.append(match_frame(shown, labels))
    tracks = []
    for side, clip in enumerate((truth, predicted)):
        seen: dict[int, list[int]] = {}
        for place, match in enumerate(matches):
            for label in np.unique(match.objects[:, side]).tolist():
                seen.setdefault(label, []).append(place)
        seen.pop(0, None)
        # Where all objects there are were read, the table must tell what labels show.
        if clip.table is not None and clip.table_path is not None and not border:
            of_frame = dict(zip(clip.frames, clip.numbers, strict=True))
            number = [of_frame.get(name, -1) for name in truth.frames]
            numbered = {label: [number[x] for x in places] for label, places in seen.items()}
            check_presence(clip.table_path, clip.table, numbered, [*of_frame.values()])
        tracks.append(clip.parts(seen))
    distinct = {"distinct_truth": _distinct(tracks[0]), "distinct": _distinct(tracks[1])}
    missing = [name for name in truth.frames if name not in predicted.frames]
    return Sequences.of(matches, seg, *tracks), {**distinct, "missing": missing}


def within(labels: Labels, border: int, path: Path) -> Labels:
    """Labels without objects that lie wholly within ``border`` pixels of the frame's edge.

    So does the Cell Tracking Challenge with what lies outside its field of interest (Ulman et al.
    2017). Labels below 0 stay. A MediaError, of a frame's ``path``, if all of it is border.
    """
    if not border:
        return labels
    if 2 * border >= min(labels.shape):
        raise MediaError.at(path, f"is all border: {border} pixels at each edge")
    inner = np.unique(labels[border:-border, border:-border])
    return np.where((labels < 0) | np.isin(labels, inner), labels, 0)


def match_frame(true: Labels, predicted: Labels) -> FrameMatch:
    """Which objects of a frame are found, and by which; true labels below 0 are unknown."""
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


def _distinct(parts: Sequence[Part]) -> int:
    """Number of tracks: a part that alone goes on with another one is the same object."""
    children = Counter(parent for *_, parent in parts)
    return sum(parent < 0 or children[parent] > 1 for *_, parent in parts)


def true_tracks(truth: Path, void: str) -> list[TrackClip]:
    """The true tracks of a folder or a table; see docs/reference/tracks.md."""
    found = []
    for one in ctc_sequences(truth) if truth.is_dir() else []:
        if not (labels := one.markers or one.masks):
            told, expected = "holds no label images", "TRA/man_track000.tif and on"
            raise MediaError.at(f"{one.name}_GT", told, expected)
        markers, masks = (
            {one.frame_name(number): path for number, path in images.items()}
            for images in (labels, one.masks)
        )
        table = read_track_table(one.table) if one.table else {}
        # Of a truth an empty table tells as little as none.
        tables = (_parents(table), table or None, one.table, [*labels])
        found.append(TrackClip(one.name, markers, *tables, masks or None))
    if found:
        return found
    clips: dict[str, dict[str, Path]] = {}
    for pair in true_masks(truth, frames="all", images=None):
        clips.setdefault(pair.clip, {})[pair.name] = pair.truth
    for name, frames in clips.items():
        if _is_semantic(read_mask_at(path, void) for path in frames.values()):
            told = "tells no objects apart (0 and 255)"
            raise MediaError.at(truth / name, told, "masks of permanent ids, as tracks need")
    read = partial(_read_ids, void=void)
    return [TrackClip(name or stem_of(truth), x, {}, read=read) for name, x in clips.items()]


def predicted_tracks(predictions: Path, truth: TrackClip, *, alone: bool) -> TrackClip:
    """The predicted tracks of a clip; a MediaError if there are none.

    Looked for are ``<clip>/tracks`` with ``<clip>.tracks.csv``, then ``<clip>_RES`` in the layout
    of the Cell Tracking Challenge (or its very folder), then masks with ids, ``<clip>/<frame>.png``
    or flat: of a clip ``alone`` masks need not name it.
    """

    def of_clip(ending: str) -> Path:
        name = f"{truth.name}{ending}"
        return find_path(predictions, name) or predictions / name

    names, folder = [*truth.frames], of_clip("") / "tracks"
    if folder.is_dir():
        files = {stem_of(path): path for path in list_files(folder, {".png", ".tif"})}
        frames = {name: files[name] for name in names if name in files}
        return TrackClip(
            truth.name, frames, read_parents(of_clip(".tracks.csv")), read=_read_tracks
        )
    for folder in (of_clip("_RES"), predictions):
        if (folder / RESULT_TABLE).is_file():
            return _of_result(folder, truth.name, names)
    index = FileIndex(predictions, MASK_SUFFIXES, inner="masks", beside=NO_CLIPS)
    found = {
        name: path
        for name in names
        if (path := index.exact(truth.name, name) or (index.exact(None, name) if alone else None))
    }
    if not found or _is_semantic(read_mask_at(path) for path in found.values()):
        told = f"holds no tracks of the clip {truth.name}"
        expected = f"{truth.name}/tracks, {truth.name}_RES or masks with permanent ids"
        raise MediaError.at(predictions, told, expected, "predict with tracks=true")
    return TrackClip(truth.name, found, {}, read=lambda path: np.maximum(_read_ids(path), 0))


def _is_semantic(masks: Iterable[NDArray[Any]]) -> bool:
    """Whether the first masks that hold anything tell no objects apart; not so if none does."""
    first = islice((mask for mask in masks if mask.any()), _LOOKED_AT)
    counts = [object_count(mask) for mask in first]
    return bool(counts) and all(count is None for count in counts)


def _read_tracks(path: Path) -> Labels:
    """Predicted ids; what somebody has painted as unknown is no object."""
    ids = read_label_image(path)
    return np.where(ids == IGNORE, 0, ids) if path.suffix == ".png" else ids


def _read_ids(path: Path, void: str = "auto") -> Labels:
    ids = mask_ids(read_mask_at(path, void), where=path).astype(np.int32)
    ids[ids == IGNORE] = UNKNOWN
    return ids


def _of_result(folder: Path, clip: str, names: list[str]) -> TrackClip:
    files = numbered_files(folder)
    numbers = [int(match[0]) for name in names if (match := re.search(r"[0-9]+$", name))]
    # Frames whose names do not tell their numbers are counted.
    known = len(numbers) == len(names) and all(number in files for number in numbers)
    places = numbers if known else range(len(names))
    numbered = zip(names, places, strict=True)
    of_name = {name: place for name, place in numbered if place in files}
    found = {name: files[place] for name, place in of_name.items()}
    table = read_track_table(folder / RESULT_TABLE)
    # What it tells of frames that are not compared cannot be seen.
    told = (table, folder / RESULT_TABLE, [*of_name.values()])
    return TrackClip(clip, found, _parents(table), *(told if len(found) == len(files) else ()))


def _parents(table: Mapping[int, CtcTrack]) -> dict[int, int]:
    return {label: one.parent for label, one in table.items() if one.parent}

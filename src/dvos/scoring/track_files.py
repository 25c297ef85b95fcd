"""Where true and predicted tracks lie: label images of permanent ids, clip by clip."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.files import find_path, stem_of
from dvos.formats.ctc import RESULT_TABLE, CtcTrack, check_presence, read_track_table
from dvos.formats.own import read_parents
from dvos.media.addressed import read_mask_at
from dvos.media.ctc_folder import CtcSequence, ctc_sequences, numbered_files
from dvos.media.label_image import read_label_image
from dvos.media.layout import MASK_SUFFIXES, FileIndex, list_files
from dvos.media.mask import IGNORE, is_binary, mask_ids
from dvos.scoring.match import NO_CLIPS, true_masks

Labels = NDArray[np.int32]
#: What a frame's pixels are where nothing is known of them.
UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class TrackFrame:
    """A frame of a clip: its name and what reads its label image, int32 (H, W)."""

    name: str
    read: Callable[[], Labels]
    where: Path


@dataclass(frozen=True, eq=False)
class TrackClip:
    """True or predicted tracks of a clip, its frames in order."""

    name: str
    frames: list[TrackFrame]
    parents: Mapping[int, int]  # of ids the one they come from
    #: The tracks as the Cell Tracking Challenge's table tells them, by label, if there is one.
    table: dict[int, CtcTrack] | None = None
    table_path: Path | None = None
    #: By frame name, label images of the objects' own pixels, where the frames' own show markers.
    masks: Mapping[str, Path] | None = None

    def check_table(self, seen: Mapping[int, list[int]], *, whole: bool) -> None:
        """See that the table, if there is one, tells what the label images show.

        Args:
            seen: Places of the frames in which each label is seen.
            whole: Whether the frames are all there are, from the first on.

        Raises:
            TableError: If it does not.
        """
        if self.table is not None and self.table_path is not None and whole:
            check_presence(self.table_path, self.table, seen)


def true_tracks(truth: Path, frames: str, void: str = "auto") -> list[TrackClip]:
    """The true tracks of a folder or a table; see docs/reference/tracks.md.

    What ``void`` is, :func:`~dvos.media.mask.read_mask` tells.

    Raises:
        DvosError: If there are none, or they cannot be read.
    """
    sequences = ctc_sequences(truth) if truth.is_dir() else []
    if sequences:
        return [_of_sequence(one) for one in sequences]
    clips: dict[str, dict[str, Path | None]] = {}
    for pair in true_masks(truth, frames=frames, images=None):
        clips.setdefault(pair.clip, {})[pair.name] = pair.truth
    return [TrackClip(name or stem_of(truth), _masks(one, void), {}) for name, one in clips.items()]


def predicted_tracks(predictions: Path, truth: TrackClip, *, alone: bool) -> TrackClip:
    """The predicted tracks of a clip.

    Looked for are ``<clip>/tracks`` with ``<clip>.tracks.csv``, then ``<clip>_RES`` in the layout
    of the Cell Tracking Challenge, then masks with ids, ``<clip>/<frame>.png`` or flat.

    Args:
        predictions: Folder of predictions, or ``01_RES`` itself.
        truth: The true tracks.
        alone: Whether there is no other clip, so that masks need not name it.

    Raises:
        MediaError: If there are none.
        TableError: If a table of tracks is at fault.
    """

    def of_clip(ending: str) -> Path:
        name = f"{truth.name}{ending}"
        return find_path(predictions, name) or predictions / name

    names = [one.name for one in truth.frames]
    folder = of_clip("") / "tracks"
    if folder.is_dir():
        files = {stem_of(path): path for path in list_files(folder, {".png", ".tif"})}
        frames = _label_images({name: files.get(name) for name in names})
        return TrackClip(truth.name, frames, read_parents(of_clip(".tracks.csv")))
    for folder in (of_clip("_RES"), predictions):
        if (folder / RESULT_TABLE).is_file():
            return _of_result(folder, truth.name, names)
    index = FileIndex(predictions, MASK_SUFFIXES, inner="masks", beside=NO_CLIPS)
    found = _masks(
        {
            name: index.exact(truth.name, name) or (index.exact(None, name) if alone else None)
            for name in names
        }
    )
    if not found or all(is_binary(read_mask_at(one.where)) for one in found[:8]):
        raise MediaError.at(
            predictions,
            f"holds no tracks of the clip {truth.name}",
            f"{truth.name}/tracks, {truth.name}_RES or masks with permanent ids",
            "predict with tracks=true",
        )
    return TrackClip(truth.name, found, {})


def _label_images(files: Mapping[str, Path | None]) -> list[TrackFrame]:
    there = ((name, path) for name, path in files.items() if path is not None)
    return [TrackFrame(name, partial(read_label_image, path), path) for name, path in there]


def _masks(files: Mapping[str, Path | None], void: str = "auto") -> list[TrackFrame]:
    there = ((name, path) for name, path in files.items() if path is not None)
    return [TrackFrame(name, partial(_read_ids, path, void), path) for name, path in there]


def _read_ids(path: Path, void: str) -> Labels:
    ids = mask_ids(read_mask_at(path, void), where=path).astype(np.int32)
    ids[ids == IGNORE] = UNKNOWN
    return ids


def _of_sequence(sequence: CtcSequence) -> TrackClip:
    labels = sequence.markers or sequence.masks
    if not labels:
        found, expected = "holds no label images", "TRA/man_track000.tif and on"
        raise MediaError.at(f"{sequence.name}_GT", found, expected)
    markers, masks = (
        {sequence.frame_name(number): path for number, path in images.items()}
        for images in (labels, sequence.masks)
    )
    table = read_track_table(sequence.table) if sequence.table else {}
    frames = _label_images(markers)
    # Of a truth an empty table tells as little as none.
    tables = (_parents(table), table or None, sequence.table)
    return TrackClip(sequence.name, frames, *tables, masks or None)


def _of_result(folder: Path, clip: str, names: list[str]) -> TrackClip:
    files = numbered_files(folder)
    numbers = [int(match[0]) for name in names if (match := re.search(r"[0-9]+$", name))]
    # Frames whose names do not tell their numbers are counted.
    known = len(numbers) == len(names) and all(number in files for number in numbers)
    places = numbers if known else range(len(names))
    found = {name: files.get(place) for name, place in zip(names, places, strict=True)}
    table = read_track_table(folder / RESULT_TABLE)
    return TrackClip(clip, _label_images(found), _parents(table), table, folder / RESULT_TABLE)


def _parents(table: Mapping[int, CtcTrack]) -> dict[int, int]:
    return {label: one.parent for label, one in table.items() if one.parent}

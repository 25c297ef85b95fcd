"""Where true and predicted tracks lie: label images of permanent ids, clip by clip."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
from dvos.scoring.match import NO_CLIPS, Pair, true_masks

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
    """True or predicted tracks of a clip.

    Attributes:
        name: Of the clip.
        frames: In order.
        table: The tracks as the Cell Tracking Challenge's table tells them, by label; None where
            there is none.
        parents: Where there is no such table: of ids the one that they come from.
        table_path: Of that table.
        masks: By frame name, label images of the objects' own pixels, where the frames' own show
            markers of them.
    """

    name: str
    frames: list[TrackFrame]
    table: dict[int, CtcTrack] | None = None
    parents: Mapping[int, int] = field(default_factory=dict)
    table_path: Path | None = None
    masks: Mapping[str, Path] | None = None


def true_tracks(truth: Path, frames: str, void: str = "auto") -> list[TrackClip]:
    """The true tracks of a folder or a table; see docs/reference/tracks.md.

    What ``void`` is, :func:`~dvos.media.mask.read_mask` tells.

    Raises:
        DvosError: If there are none, or they cannot be read.
    """
    sequences = ctc_sequences(truth) if truth.is_dir() else []
    if sequences:
        return [_of_sequence(one) for one in sequences]
    clips: dict[str, list[Pair]] = {}
    for pair in true_masks(truth, frames=frames, images=None):
        clips.setdefault(pair.clip, []).append(pair)
    return [
        TrackClip(
            name or stem_of(truth),
            [TrackFrame(one.name, _reader(one.truth, void), one.truth) for one in members],
        )
        for name, members in clips.items()
    ]


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

    folder = of_clip("") / "tracks"
    if folder.is_dir():
        files = {stem_of(path): path for path in list_files(folder, {".png", ".tif"})}
        found = [_label_frame(one.name, files.get(one.name)) for one in truth.frames]
        parents = read_parents(of_clip(".tracks.csv"))
        return TrackClip(truth.name, _present(found), parents=parents)
    for folder in (of_clip("_RES"), predictions):
        table = folder / RESULT_TABLE
        if table.is_file():
            return _of_result(folder, table, truth)
    index = FileIndex(predictions, MASK_SUFFIXES, inner="masks", beside=NO_CLIPS)
    paths = [
        index.exact(truth.name, one.name) or (index.exact(None, one.name) if alone else None)
        for one in truth.frames
    ]
    masks = [TrackFrame(stem_of(path), _reader(path), path) for path in paths if path is not None]
    if not masks or all(is_binary(read_mask_at(one.where)) for one in masks[:8]):
        raise MediaError.at(
            predictions,
            f"holds no tracks of the clip {truth.name}",
            f"{truth.name}/tracks, {truth.name}_RES or masks with permanent ids",
            "predict with tracks=true",
        )
    return TrackClip(
        truth.name, [TrackFrame(one, _reader(path), path) for one, path in _named(truth, paths)]
    )


def _named(truth: TrackClip, paths: list[Path | None]) -> list[tuple[str, Path]]:
    both = zip(truth.frames, paths, strict=True)
    return [(frame.name, path) for frame, path in both if path is not None]


def _label_frame(name: str, path: Path | None) -> TrackFrame | None:
    return None if path is None else TrackFrame(name, lambda: read_label_image(path), path)


def _present(frames: list[TrackFrame | None]) -> list[TrackFrame]:
    return [one for one in frames if one is not None]


def _reader(path: Path, void: str = "auto") -> Callable[[], Labels]:
    def read() -> Labels:
        ids = mask_ids(read_mask_at(path, void), where=path).astype(np.int32)
        ids[ids == IGNORE] = UNKNOWN
        return ids

    return read


def _of_sequence(sequence: CtcSequence) -> TrackClip:
    labels = sequence.markers or sequence.masks
    if not labels:
        found, expected = "holds no label images", "TRA/man_track000.tif and on"
        raise MediaError.at(f"{sequence.name}_GT", found, expected)
    frames = [_label_frame(sequence.frame_name(number), path) for number, path in labels.items()]
    masks = {sequence.frame_name(number): path for number, path in sequence.masks.items()}
    table = sequence.table and read_track_table(sequence.table)
    return TrackClip(
        sequence.name,
        _present(frames),
        table=table or None,
        table_path=sequence.table,
        masks=masks or None,
    )


def _of_result(folder: Path, table: Path, truth: TrackClip) -> TrackClip:
    files = numbered_files(folder)
    numbers = [re.search(r"[0-9]+$", one.name) for one in truth.frames]
    known = all(numbers) and all(int(match[0]) in files for match in numbers if match)
    places = [int(match[0]) for match in numbers if match] if known else range(len(truth.frames))
    found = [
        _label_frame(one.name, files.get(place))
        for one, place in zip(truth.frames, places, strict=True)
    ]
    return TrackClip(truth.name, _present(found), table=read_track_table(table), table_path=table)


def check_table(clip: TrackClip, seen: Mapping[int, list[int]], *, whole: bool) -> None:
    """See that the table of a clip tells what its label images show.

    Args:
        clip: With or without a table.
        seen: Places of the frames in which each label is seen.
        whole: Whether the frames are all there are, from the first on.

    Raises:
        TableError: If it does not.
    """
    if clip.table is not None and clip.table_path is not None and whole:
        check_presence(clip.table_path, clip.table, seen)

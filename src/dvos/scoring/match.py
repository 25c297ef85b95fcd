"""Which prediction belongs to which true mask, where their frames lie, and their domains.

A mask is known by its clip and its name (the file name without suffix). Truth may be a folder of
masks (their clip is unknown); a folder with a sub-folder for each clip, the masks in it or in its
own ``Masks`` folder, as ``dvos synthesize`` writes them; a folder ``masks`` of such sub-folders
beside ``frames``, as XMem expects; a folder of the Cell Tracking Challenge; or a CSV of clips.
Predictions lie in a folder of any of the first three forms.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from dvos.errors import FaultCollector, MediaError, UsageError
from dvos.files import composed, stem_of
from dvos.media.ctc_folder import ctc_sequences, result_mask
from dvos.media.layout import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    VIDEO_SUFFIXES,
    FileIndex,
    list_files,
    path_kind,
)
from dvos.tables import frame_stem, read_clips

#: What prediction writes into a clip's folder beside its masks.
NO_CLIPS = frozenset({"instances", "probabilities", "tracks"})


@dataclass(frozen=True)
class Pair:
    """A true mask with its prediction, their files."""

    clip: str  # the prediction's where the truth has none; empty until a flat one is paired up
    name: str  # of the frame
    truth: Path
    prediction: Path | None = None  # None where it is missing
    image: Path | None = None  # the frame's file, if known
    before: Path | None = None  # that of the frame before it in its clip, if known
    domain: str = ""  # such as a field, a year or a camera; empty where there is none

    @property
    def in_clip(self) -> bool:
        """Whether its clip is known; a still bears its own name as its clip's."""
        return self.clip != self.name

    def follows(self, before: Self) -> bool:
        """Whether it is of the same clip as the pair before it."""
        return self.in_clip and before.clip == self.clip


def true_masks(truth: Path, *, frames: str, images: Path | None) -> list[Pair]:
    """List the true masks to score, clip by clip, in order, as pairs without prediction.

    ``images`` is the folder of the frames, if the truth does not name them.
    """
    if truth.is_dir():
        # A folder of the Cell Tracking Challenge counts by the masks that show all objects.
        found = [
            Pair(one.name, one.frame_name(n), path, None, one.frames.get(n), one.frames.get(n - 1))
            for one in ctc_sequences(truth)
            for n, path in one.whole_masks().items()
        ] or _from_folder(truth, images)
    else:
        if path_kind(truth) not in ("table", "missing"):
            expected = "a folder of true masks, or a CSV of clips"
            raise MediaError.at(truth, "is no table", expected, "give one with --truth")
        rows = read_clips(truth)
        by_clip: dict[str, list[Pair]] = {row.vid: [] for row in rows}
        last: dict[str, Path] = {}
        for row in sorted(rows, key=lambda row: row.fid):
            if row.mask is not None and (row.label == 1 or frames != "labelled"):
                own = (row.mask, None, row.image, last.get(row.vid), row.domain)
                by_clip[row.vid].append(Pair(row.vid, frame_stem(row.image), *own))
            last[row.vid] = row.image
        found = [one for clip in by_clip.values() for one in clip]
    if not found:
        kind = "row with Label 1 and a mask" if frames == "labelled" else "mask"
        told = ("holds no true mask", f"at least one {kind}", "point --truth at the masks")
        raise MediaError.at(truth, *told)
    if frames == "last":
        # Of a flat folder each mask counts as a clip of its own: nothing tells
        # stills from the frames of one video there.
        found = list({(one.clip or f"\0{one.name}"): one for one in found}.values())
    return found


def pair_up(truths: Sequence[Pair], predictions: Path) -> list[Pair]:
    """Find the prediction of each true mask.

    Looked for are the same clip and name. For a flat truth folder: the name among flat predictions,
    then in a clip named like the frame (a still that was predicted as a clip of its own), then in a
    clip named like the truth folder, then wherever it occurs once. For flat predictions, and for
    stills that were predicted as clips of their own: a name that occurs once in the truth.
    """
    index = FileIndex(predictions, MASK_SUFFIXES, inner="masks", beside=NO_CLIPS)
    times = Counter(truth.name for truth in truths)
    found: list[tuple[str | None, Path | None]] = []
    with FaultCollector(MediaError) as faults:
        for truth in truths:
            if not truth.clip:
                found.append(_find_for_flat(truth, index, faults))
                continue
            path = index.exact(truth.clip, truth.name)
            if path is None and times[truth.name] == 1:
                path = index.exact(None, truth.name) or index.exact(truth.name, truth.name)
            path = path or result_mask(predictions, truth.clip, truth.name)
            found.append((truth.clip, path))
    clips = {clip for clip, path in found if path is not None and clip is not None}
    # A frame whose prediction is missing belongs with the rest of its clip.
    only_clip = clips.pop() if len(clips) == 1 else None
    return [
        replace(truth, clip=clip or only_clip or truth.name, prediction=path)
        for truth, (clip, path) in zip(truths, found, strict=True)
    ]


def name_domains(pairs: Sequence[Pair], pattern: str | None) -> list[Pair]:
    """Give each pair its domain; none has one where there is neither pattern nor column.

    It is the first group, or all, of what the pattern finds in ``<clip>/<frame>``, or the table's.
    """
    if pattern is None and not any(pair.domain for pair in pairs):
        return list(pairs)
    named = []
    with FaultCollector(UsageError) as faults:
        for pair in pairs:
            name, domain = f"{pair.clip}/{pair.name}", pair.domain
            wrong = ("its row has no Domain", "a name", "fill the column for all")
            if pattern is not None:
                match = re.search(pattern, name)
                domain = match[min(1, match.re.groups)] or "" if match else ""
                remedy = "widen the regular expression of the setting domain"
                wrong = (f"{name} has no domain", f"a match of {pattern}", remedy)
            if not domain:
                faults.add(pair.truth, *wrong)
            named.append(replace(pair, domain=domain))
    return named


def videos_by_clip(images: Path | None) -> dict[str, Path]:
    """Video files by the name of their clip, of a file or a folder; may be none."""
    if images is None:
        return {}
    if images.is_dir():
        return {stem_of(path): path for path in list_files(images, VIDEO_SUFFIXES)}
    return {stem_of(images): images} if images.suffix.lower() in VIDEO_SUFFIXES else {}


def video_of(clip: str, videos: Mapping[str, Path]) -> Path | None:
    """The video of a clip: the one of its name, or the only one there is."""
    only = next(iter(videos.values())) if len(videos) == 1 else None
    return videos.get(clip, only)


def _find_for_flat(
    truth: Pair, index: FileIndex, faults: FaultCollector
) -> tuple[str | None, Path | None]:
    """Clip and file of the prediction for a true mask whose clip is unknown."""
    for clip in (None, truth.name, composed(truth.truth.parent.name)):
        if path := index.exact(clip, truth.name):
            return clip, path
    fitting = index.named(truth.name)
    if len(fitting) > 1:
        found = f"fits {len(fitting)} predictions, {fitting[0][1]} and {fitting[1][1]} among them"
        remedy = "put the true masks into a sub-folder named like their clip"
        faults.add(truth.truth, found, "one", remedy)
    return fitting[0] if len(fitting) == 1 else (None, None)


def _from_folder(truth: Path, images: Path | None) -> list[Pair]:
    masks = FileIndex(truth, MASK_SUFFIXES, inner="masks")
    frames = None
    before: dict[Path, Path | None] = {}
    if images is not None and not images.is_file():
        frames = FileIndex(images, IMAGE_SUFFIXES, inner="frames")
        last: dict[str | None, Path] = {}
        for (clip, _), path in frames.files.items():
            before[path], last[clip] = last.get(clip), path
    found = []
    for (clip, name), path in masks.files.items():
        image = None
        if frames is not None:
            fitting = frames.named(name)
            image = frames.exact(clip, name) or frames.exact(None, name)
            image = image or (fitting[0][1] if len(fitting) == 1 else None)
        earlier = before.get(image) if image else None
        found.append(Pair(clip or "", name, path, None, image, earlier))
    return found

"""Which prediction belongs to which true mask.

A mask is known by its clip and its name (the file name without suffix). Truth
may be

* a folder of masks (their clip is unknown),
* a folder with a sub-folder for each clip, the masks in it or in its own
  ``Masks`` folder, as ``dvos synthesize`` writes them,
* a folder ``masks`` of such sub-folders beside ``frames``, as XMem expects,
* a CSV of clips, whose frames and masks may be those of clip stores.

Predictions lie in a folder of any of the first three forms. A mask written
``..._mask-00007`` belongs to the frame ``..._frame-00007``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvos.errors import FaultCollector, MediaError, UsageError
from dvos.media.layout import IMAGE_SUFFIXES, MASK_SUFFIXES, FileIndex
from dvos.scoring.domains import read_domains
from dvos.tables import ClipRow, frame_stem, read_clips

__all__ = ["Pair", "TrueMask", "pair_up", "true_masks"]

#: What prediction writes into a clip's folder beside its masks.
_NO_CLIPS = frozenset({"instances", "probabilities"})


@dataclass(frozen=True)
class TrueMask:
    """A true mask and the frame it labels.

    Attributes:
        clip: Name of its clip; None in a flat folder, where it is unknown.
        name: Name of its frame.
        mask: The mask file.
        image: The frame's file, if known.
        before: File of the frame before it in its clip, if known.
        domain: As the table of clips names it; empty where it does not.
    """

    clip: str | None
    name: str
    mask: Path
    image: Path | None = None
    before: Path | None = None
    domain: str = ""


@dataclass(frozen=True)
class Pair:
    """A true mask with its prediction.

    Attributes:
        clip: Name of the clip; of the prediction's where the truth has none.
        name: Name of the frame.
        truth: The true mask's file.
        prediction: The predicted mask's file; None where it is missing.
        image: The frame's file, if known.
        before: File of the frame before it in its clip, if known.
        domain: As the table of clips names it; empty where it does not.
    """

    clip: str
    name: str
    truth: Path
    prediction: Path | None
    image: Path | None = None
    before: Path | None = None
    domain: str = ""

    @property
    def in_clip(self) -> bool:
        """Whether its clip is known; a still bears its own name as its clip's."""
        return self.clip != self.name


def true_masks(truth: Path, *, frames: str, images: Path | None) -> list[TrueMask]:
    """List the true masks to score, clip by clip, in order.

    Args:
        truth: Folder or CSV.
        frames: ``last``, ``all`` or ``labelled``.
        images: Folder of the frames, if the truth does not name them; a video
            file is passed over, its frames have no files.

    Raises:
        UsageError: If ``truth`` or ``images`` does not exist.
        TableError: If the CSV has faults.
        MediaError: If there is no true mask to score.
    """
    if truth.is_dir():
        found = _from_folder(truth, images)
    elif truth.is_file():
        found = _from_rows(
            read_clips(truth),
            labelled_only=frames == "labelled",
            domains=read_domains(truth),
        )
    else:
        raise UsageError.at(truth, "no such file or folder", remedy="check the path of --truth")
    if not found:
        kind = "row with Label 1 and a mask" if frames == "labelled" else "mask"
        raise MediaError.at(
            truth, "holds no true mask", f"at least one {kind}", "point --truth at the masks"
        )
    return _last_of_each_clip(found) if frames == "last" else found


def pair_up(truths: Sequence[TrueMask], predictions: Path) -> list[Pair]:
    """Find the prediction of each true mask.

    Looked for are the same clip and name. For a flat truth folder: the name
    among flat predictions, then in a clip named like the frame (a still that
    was predicted as a clip of its own), then in a clip named like the truth
    folder, then wherever it occurs once. For flat predictions, and for stills
    that were predicted as clips of their own: a name that occurs once in the
    truth.

    Raises:
        UsageError: If there is no such folder.
        MediaError: If a true mask of a flat folder fits several predictions.
    """
    index = FileIndex(predictions, MASK_SUFFIXES, inner="masks", beside=_NO_CLIPS)
    times = Counter(truth.name for truth in truths)
    found: list[tuple[str | None, Path | None]] = []
    with FaultCollector(MediaError) as faults:
        for truth in truths:
            if truth.clip is None:
                found.append(_find_for_flat(truth, index, faults))
                continue
            path = index.exact(truth.clip, truth.name)
            if path is None and times[truth.name] == 1:
                path = index.exact(None, truth.name) or index.exact(truth.name, truth.name)
            found.append((truth.clip, path))
    clips = {clip for clip, path in found if path is not None and clip is not None}
    # A frame whose prediction is missing belongs with the rest of its clip.
    only_clip = clips.pop() if len(clips) == 1 else None
    return [
        Pair(
            clip=clip or only_clip or truth.name,
            name=truth.name,
            truth=truth.mask,
            prediction=path,
            image=truth.image,
            before=truth.before,
            domain=truth.domain,
        )
        for truth, (clip, path) in zip(truths, found, strict=True)
    ]


def _find_for_flat(
    truth: TrueMask, index: FileIndex, faults: FaultCollector
) -> tuple[str | None, Path | None]:
    """Clip and file of the prediction for a true mask whose clip is unknown."""
    for clip in (None, truth.name, truth.mask.parent.name):
        path = index.exact(clip, truth.name)
        if path is not None:
            return clip, path
    fitting = index.named(truth.name)
    if len(fitting) > 1:
        faults.add(
            truth.mask,
            f"fits {len(fitting)} predictions, {fitting[0][1]} and {fitting[1][1]} among them",
            "one",
            "put the true masks into a sub-folder named like their clip",
        )
    return fitting[0] if len(fitting) == 1 else (None, None)


def _from_folder(truth: Path, images: Path | None) -> list[TrueMask]:
    masks = FileIndex(truth, MASK_SUFFIXES, inner="masks")
    frames = None
    if images is not None and not images.is_file():
        frames = FileIndex(images, IMAGE_SUFFIXES, inner="frames")

    before = _befores(frames.files) if frames is not None else {}

    def image_of(clip: str | None, name: str) -> Path | None:
        if frames is None:
            return None
        exact = frames.exact(clip, name) or frames.exact(None, name)
        fitting = frames.named(name)
        return exact or (fitting[0][1] if len(fitting) == 1 else None)

    found = []
    for (clip, name), path in masks.files.items():
        image = image_of(clip, name)
        found.append(TrueMask(clip, name, path, image, before.get(image) if image else None))
    return found


def _befores(files: Mapping[tuple[str | None, str], Path]) -> dict[Path, Path]:
    """The frame before each, of files in the order of their clips."""
    last: dict[str | None, Path] = {}
    before = {}
    for (clip, _), path in files.items():
        if clip in last:
            before[path] = last[clip]
        last[clip] = path
    return before


def _from_rows(
    rows: Sequence[ClipRow], *, labelled_only: bool, domains: Mapping[tuple[str, int], str]
) -> list[TrueMask]:
    ordered = sorted(rows, key=lambda row: row.fid)
    by_clip: dict[str, list[TrueMask]] = {row.vid: [] for row in rows}
    last: dict[str, Path] = {}
    for row in ordered:
        if row.mask is not None and (row.label == 1 or not labelled_only):
            name, domain = frame_stem(row.image), domains.get((row.vid, row.fid), "")
            before = last.get(row.vid)
            one = TrueMask(row.vid, name, row.mask, row.image, before, domain)
            by_clip[row.vid].append(one)
        last[row.vid] = row.image
    return [one for clip in by_clip.values() for one in clip]


def _last_of_each_clip(truths: Sequence[TrueMask]) -> list[TrueMask]:
    # Of a flat folder each mask counts as a clip of its own: nothing tells
    # stills from the frames of one video there.
    last = {(one.clip or f"\0{one.name}"): one for one in truths}
    return list(last.values())

"""Clips that lie on the disk: tables of frames, files or in stores, and folders of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.errors import Fault, MediaError
from dvos.media.layout import MASK_SUFFIXES, list_images
from dvos.tables import ClipRow
from dvos.training.clip_files import ClipFiles
from dvos.training.clips import ClipSample
from dvos.training.geometry import Box, place, resize_frame, resize_target
from dvos.training.store import DecodedFiles

__all__ = ["FrameClip", "TabledClips", "clips_of_folder", "clips_of_rows", "read_clip"]


@dataclass(frozen=True)
class FrameClip:
    """A clip of frames on the disk.

    Attributes:
        name: Of the clip.
        frames: Image of each frame, by frame id, in order of the ids; a file
            or the address of a clip store's frame.
        masks: Mask of each query frame, by frame id; never empty. As frames.
        ignore_value: The masks' value for "unknown", if they have one.
    """

    name: str
    frames: dict[int, Path]
    masks: dict[int, Path]
    ignore_value: int | None = None

    def references(self, query: int, *, count: int, interval: int) -> list[int]:
        """Frame ids of the references of a query, in order of time.

        They lie ``interval`` apart before the query; one that is missing is
        replaced by the clip's first frame.
        """
        first = self._first
        wanted = (query - step * interval for step in range(count, 0, -1))
        return [frame_id if frame_id in self.frames else first for frame_id in wanted]

    def random_references(
        self, rng: np.random.Generator, query: int, *, count: int, reach: int
    ) -> list[int]:
        """Frame ids of references drawn at random, in order of time.

        Args:
            rng: Source of the draw.
            query: Frame id of the query.
            count: Number of references; where there are fewer earlier frames
                the clip's first frame fills in.
            reach: The frames drawn from are those less than this before the
                query, or as much, in frame ids.
        """
        earlier = [frame_id for frame_id in range(query - reach, query) if frame_id in self.frames]
        drawn = rng.choice(len(earlier), min(count, len(earlier)), replace=False)
        chosen = [earlier[number] for number in sorted(drawn.tolist())]
        return [self._first] * (count - len(chosen)) + chosen

    @property
    def _first(self) -> int:
        return next(iter(self.frames))


def clips_of_rows(rows: Sequence[ClipRow], ignore_value: int | None = None) -> list[FrameClip]:
    """Gather the rows of a clip table by clip; clips without a query are left out."""
    grouped: dict[tuple[str, str], list[ClipRow]] = {}
    for row in rows:
        grouped.setdefault((row.bid, row.vid), []).append(row)
    clips = []
    for (_, name), members in grouped.items():
        members.sort(key=lambda row: row.fid)
        masks = {row.fid: row.mask for row in members if row.label == 1 and row.mask}
        if masks:
            frames = {row.fid: row.image for row in members}
            clips.append(FrameClip(name, frames, masks, ignore_value))
    return clips


def clips_of_folder(root: Path, ignore_value: int | None = None) -> list[FrameClip]:
    """Find the clips under a folder.

    Layouts: ``root/frames/CLIP/*`` with ``root/masks/CLIP/*``,
    ``root/CLIP/frames/*`` with ``root/CLIP/masks/*``, or one clip,
    ``root/frames/*`` with ``root/masks/*``. Of ``root/training`` with the first
    of these, as the published training has it, ``root`` will do. A mask bears its frame's name, or
    that name with ``_frame-`` replaced by ``_mask-``. Frame ids count the
    frames in natural order, from 0.

    Raises:
        MediaError: If there is none of these, or a mask belongs to no frame.
    """
    if not root.is_dir():
        raise MediaError.at(root, "no such folder", "a folder of clips", "check the path")
    published = root / "training" / "frames"
    if published.is_dir() and any(folder.is_dir() for folder in published.iterdir()):
        root = root / "training"
    frames, masks = root / "frames", root / "masks"
    pairs: list[tuple[str, Path, Path]]
    if frames.is_dir() and masks.is_dir():
        inner = sorted(folder for folder in frames.iterdir() if folder.is_dir())
        pairs = [(folder.name, folder, masks / folder.name) for folder in inner]
        pairs = pairs or [(root.name, frames, masks)]
    else:
        outer = sorted(folder for folder in root.iterdir() if (folder / "frames").is_dir())
        pairs = [(folder.name, folder / "frames", folder / "masks") for folder in outer]
    if not pairs:
        raise MediaError.at(
            root,
            "holds no clips",
            "frames/CLIP and masks/CLIP, CLIP/frames and CLIP/masks, or frames and masks",
        )
    faults: list[Fault] = []
    clips = [_folder_clip(*pair, ignore_value, faults) for pair in pairs]
    if faults:
        raise MediaError(faults)
    return [clip for clip in clips if clip.masks]


def _folder_clip(
    name: str, frames: Path, masks: Path, ignore_value: int | None, faults: list[Fault]
) -> FrameClip:
    images = list_images(frames)
    ids: dict[str, int] = {}
    for frame_id, image in enumerate(images):
        ids[image.stem] = ids[image.stem.replace("_frame-", "_mask-")] = frame_id
    found: dict[int, Path] = {}
    listed = sorted(masks.iterdir()) if masks.is_dir() else []
    for mask in listed:
        if mask.suffix.lower() not in MASK_SUFFIXES or mask.name.startswith("."):
            continue
        if mask.stem in ids:
            found[ids[mask.stem]] = mask
        else:
            faults.append(
                Fault(str(mask), f"no frame of that name in {frames}", "", "rename or remove it")
            )
    if not listed:
        faults.append(Fault(str(masks), f"no masks for the frames in {frames}", "at least one"))
    return FrameClip(name, dict(enumerate(images)), dict(sorted(found.items())), ignore_value)


def read_clip(
    clip: FrameClip, query: int, references: Sequence[int], files: ClipFiles, box: Box
) -> tuple[list[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Read the same part of a query and of its references.

    Args:
        clip: The clip.
        query: Frame id of the query.
        references: Frame ids of the references.
        files: Reads frames and masks.
        box: The part; mirrored where it reaches beyond the frames.

    Returns:
        The frames, uint8 (height, width, 3) each, the query last; its target,
        uint8 (height, width).

    Raises:
        MediaError: If a file cannot be read or the sizes differ.
    """
    mask = clip.masks[query]
    size = files.size(mask, clip.ignore_value)
    target = files.target(mask, box, clip.ignore_value)
    wanted = [*references, query]
    # One frame may stand in for several that are missing.
    parts = {
        frame_id: files.frame(clip.frames[frame_id], box, size=size)
        for frame_id in dict.fromkeys(wanted)
    }
    return [parts[frame_id] for frame_id in wanted], target


class TabledClips:
    """Labelled clips on the disk, a :class:`~dvos.training.clips.ClipSource`.

    Args:
        clips: The clips; every query is drawn as often as any other.
        decoded: Where decoded files are kept.
        intervals: Steps between references, in frame ids; one is drawn for
            each sample.
        at_random: Whether references are drawn from the earlier frames, as far
            back as the largest of the intervals would reach.
        object_share: Share of the samples whose window is laid so that it
            holds an object, if the query has one.
    """

    def __init__(
        self,
        clips: Sequence[FrameClip],
        decoded: DecodedFiles,
        *,
        intervals: Sequence[int] = (1,),
        at_random: bool = False,
        object_share: float = 0.7,
    ) -> None:
        self._queries = [(clip, query) for clip in clips for query in clip.masks]
        if not self._queries:
            raise ValueError("there are no queries")
        self._files = ClipFiles(decoded)
        self._intervals = tuple(intervals)
        self._at_random = at_random
        self._object_share = object_share

    def sample(
        self, rng: np.random.Generator, *, frames: int, size: tuple[int, int], scale: float
    ) -> ClipSample:
        """Draw a query, references and a window that is the same in all frames."""
        clip, query = self._queries[int(rng.integers(len(self._queries)))]
        references = self._references(rng, clip, query, frames - 1)
        mask = clip.masks[query]
        aims = self._files.aims(mask, clip.ignore_value)
        aim = None
        if len(aims) and rng.random() < self._object_share:
            row, column = aims[int(rng.integers(len(aims)))]
            aim = int(row), int(column)
        native = (max(1, round(size[0] / scale)), max(1, round(size[1] / scale)))
        box = place(rng, native, self._files.size(mask, clip.ignore_value), aim=aim)
        images, target = read_clip(clip, query, references, self._files, box)
        return ClipSample(
            np.stack([resize_frame(image, size) for image in images]),
            np.ascontiguousarray(resize_target(target, size)),
        )

    def _references(
        self, rng: np.random.Generator, clip: FrameClip, query: int, count: int
    ) -> list[int]:
        if self._at_random:
            reach = max(self._intervals) * count
            return clip.random_references(rng, query, count=count, reach=reach)
        interval = self._intervals[int(rng.integers(len(self._intervals)))]
        return clip.references(query, count=count, interval=interval)

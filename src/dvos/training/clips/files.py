"""Clips that lie on the disk: tables of frames, files or in stores, and folders of frames.

What was decoded of them is kept in memory up to a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dvos.config.data import ClipsSettings
from dvos.errors import FaultCollector, MediaError, check_size
from dvos.media.clip_store import ClipStore, OpenStores
from dvos.media.image import read_image
from dvos.media.limits import ImageCache
from dvos.media.mask import is_binary, mask_ids, read_mask, unknown_value
from dvos.media.png import read_png_window
from dvos.tables import ClipRow
from dvos.training.augment.spatial import Box, cut, looked_at, place, resize_frame, resize_ids
from dvos.training.clips import clip as clips_of
from dvos.training.clips.clip import Clip, ClipRequest

_OTHERS = ("another mask of its clip", "give all frames of a clip one size")


@dataclass(frozen=True)
class FrameClip:
    """A clip of frames on the disk."""

    name: str  # Of the clip.
    frames: dict[int, Path]  # A file or the address of a clip store's frame, by frame id, in order.
    masks: dict[int, Path]  # Likewise of each labelled frame; never empty.
    void: str = "auto"  # Their values for "unknown"; see :func:`~dvos.media.mask.read_mask`.
    intensity: str = "full"  # What becomes of the frames' samples of more than 8 bit.

    def references(self, query: int, *, count: int, interval: int) -> list[int]:
        """Ids of frames ``interval`` apart before a query, in order; the first for missing ones."""
        first = next(iter(self.frames))
        wanted = (query - step * interval for step in range(count, 0, -1))
        return [frame_id if frame_id in self.frames else first for frame_id in wanted]

    def random_references(
        self, rng: np.random.Generator, query: int, *, count: int, reach: int
    ) -> list[int]:
        """Likewise, drawn from the ``reach`` frame ids before the query."""
        earlier = [frame_id for frame_id in range(query - reach, query) if frame_id in self.frames]
        drawn = rng.choice(len(earlier), min(count, len(earlier)), replace=False)
        chosen = [earlier[number] for number in sorted(drawn.tolist())]
        return [next(iter(self.frames))] * (count - len(chosen)) + chosen


def clips_of_rows(
    rows: Sequence[ClipRow], void: str = "auto", intensity: str = "full"
) -> list[FrameClip]:
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
            clips.append(FrameClip(name, frames, masks, void, intensity))
    return clips


def check_lengths(clips: Iterable[FrameClip], *, frames: int) -> None:
    """Raise a MediaError with a fault for each clip that has too few masks to draw from."""
    with FaultCollector(MediaError) as faults:
        for clip in clips:
            count = len(clip.masks.keys() & clip.frames.keys())
            if count < frames:
                where = f"{clip.name} ({next(iter(clip.frames.values())).parent})"
                found = f"has masks of {count} of its {len(clip.frames)} frames"
                remedy = "lower xmem.frames, add masks or leave the clip out"
                faults.add(where, found, f"masks of at least {frames} frames", remedy)


class DecodedMask:
    """A mask in memory: uint8 or uint16 (H, W), as stored, ``IGNORE`` where unknown."""

    def __init__(self, ids: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        self.ids = ids
        #: int64 (N, 2), (row, column) of pixels spread evenly over the objects.
        self.seed_points = clips_of.seed_points(ids)
        #: Id of all objects; 0 where there are none, None where there are several ids.
        self.only: int | None = None
        if is_binary(ids):
            self.only = int(ids[tuple(self.seed_points[0])]) if len(self.seed_points) else 0

    @classmethod
    def read(cls, path: Path, void: str = "auto") -> DecodedMask:
        """Read a mask file; ``void`` and errors as of :func:`~dvos.media.mask.read_mask`."""
        mask = read_mask(path, void)
        # Most masks are of 8 bit and wholly known: they stay as they are, at half the memory.
        if mask.dtype == np.uint8 and unknown_value(mask) is None:
            return cls(mask)
        return cls(mask_ids(mask, where=path))

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return self.ids.nbytes + self.seed_points.nbytes

    def part(self, box: Box) -> NDArray[np.uint16]:
        """Ids in a box, uint16 (height, width); mirrored where it reaches beyond the mask."""
        return cut(cast("NDArray[np.uint16]", self.ids), box).astype(np.uint16)


class ClipFiles:
    """Reads parts of frames and masks, by their paths in a table of clips.

    Frames in files are decoded whole and kept while there is room; those met later are read anew
    each time, of a PNG only what the part needs, as one frame is worth as much as another. Of a
    clip store only the tiles that a part meets are decoded; of its masks the seed points are kept.
    """

    def __init__(self, cache: ImageCache) -> None:
        self._cache = cache
        self._stores = OpenStores(16)

    def look_at(self, mask: Path, void: str) -> tuple[tuple[int, int], NDArray[np.int64]]:
        """(height, width) of a mask, and (row, column) of seed points of its objects, (N, 2)."""
        found = self._stores.find(mask)
        if not found:
            decoded = self._mask(mask, void)
            height, width = decoded.ids.shape
            return (height, width), decoded.seed_points
        store, index = found
        points = self._cache.get(
            ("seed points", mask), lambda: clips_of.seed_points(store.read_instances([index])[0])
        )
        return store.size, points

    def read(
        self,
        clip: FrameClip,
        frame_ids: Sequence[int],
        box: Box,
        request: ClipRequest,
        *,
        size: tuple[int, int],
    ) -> Clip:
        """Read the same box of frames and their masks; a MediaError if one is not of ``size``."""
        # One frame may stand in for several that are missing.
        wanted = dict.fromkeys(request.labelled(frame_ids))
        masks, only = {}, []
        for i in wanted:
            if i in clip.masks:
                part, one = self._part(clip.masks[i], box, clip.void, size)
                masks[i] = resize_ids(part, request.size, as_one=request.as_one)
                only.append(one)
        images = {
            i: resize_frame(self._frame(clip, i, box, size), request.size)
            for i in dict.fromkeys(frame_ids)
        }
        frames = np.stack([images[i] for i in frame_ids])
        return clips_of.labelled_clip(request, frames, [masks.get(i) for i in frame_ids], only)

    def _part(
        self, mask: Path, box: Box, void: str, size: tuple[int, int]
    ) -> tuple[NDArray[np.uint16], int | None]:
        """Part of a mask, and its only id, as of :class:`DecodedMask`."""
        if found := self._stores.find(mask):
            return _stored(mask, found, box, size, ids=True), None
        decoded = self._mask(mask, void)
        check_size(mask, decoded.ids.shape, size, *_OTHERS)
        return decoded.part(box), decoded.only

    def _frame(
        self, clip: FrameClip, frame_id: int, box: Box, size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        image = clip.frames[frame_id]
        if found := self._stores.find(image):
            return _stored(image, found, box, size, ids=False)
        if self._cache.keeps(image, size[0] * size[1] * 3):
            whole = self._cache.get(image, partial(read_image, image, clip.intensity))
        else:
            near = looked_at(box, size)
            part = read_png_window(image, near, size=size)
            if part is not None:
                return cut(part, box.relative_to(near))
            whole = read_image(image, clip.intensity)
        check_size(image, whole.shape[:2], size, *_OTHERS)
        return cut(whole, box)

    def _mask(self, path: Path, void: str) -> DecodedMask:
        return self._cache.get(("mask", path, void), partial(DecodedMask.read, path, void))


def _stored(
    path: Path, found: tuple[ClipStore, int], box: Box, size: tuple[int, int], *, ids: bool
) -> NDArray[Any]:
    """Part of a frame of a clip store, or of its ids."""
    store, index = found
    check_size(path, store.size, size, *_OTHERS)
    near = looked_at(box, size)
    read: Callable[..., NDArray[Any]] = store.read_instances if ids else store.read_frames
    return cut(read([index], near)[0], box.relative_to(near))


@dataclass(eq=False)
class FileClips:
    """Labelled clips on the disk.

    Without ``jump`` a query is drawn, every labelled frame as often as any other, with references
    as the settings say; with it a clip, every one as often as any other, and some of its labelled
    frames, of which it needs enough, see :func:`check_lengths`. ``object_share`` of the windows are
    laid to hold an object of the query (with ``jump``, of the first frame), if that has one.
    """

    clips: Sequence[FrameClip]
    cache: ImageCache
    settings: ClipsSettings
    object_share: float = 0.7

    def __post_init__(self) -> None:
        self._queries = [(clip, query) for clip in self.clips for query in clip.masks]
        self._files = ClipFiles(self.cache)

    def sample(self, rng: np.random.Generator, request: ClipRequest) -> Clip:
        """Draw frames of a clip and a window that is the same in all of them."""
        if request.jump is None:
            clip, query = self._queries[int(rng.integers(len(self._queries)))]
            frame_ids = [*self._references(rng, clip, query, request.frames - 1), query]
            held = clip.masks[query]
        else:
            clip = self.clips[int(rng.integers(len(self.clips)))]
            labelled = [frame_id for frame_id in clip.frames if frame_id in clip.masks]
            draw = partial(clips_of.draw_moments, count=request.frames, jump=request.jump)
            frame_ids = [labelled[moment] for moment in draw(rng, len(labelled))]
            held = clip.masks[frame_ids[0]]
        size, points = self._files.look_at(held, clip.void)
        point = clips_of.draw_seed_point(rng, points, self.object_share)
        height, width = (max(1, round(side / request.scale)) for side in request.size)
        box = place(rng, (height, width), size, seed_point=point)
        return self._files.read(clip, frame_ids, box, request, size=size)

    def _references(
        self, rng: np.random.Generator, clip: FrameClip, query: int, count: int
    ) -> list[int]:
        intervals = self.settings.intervals
        if self.settings.references == "random":
            return clip.random_references(rng, query, count=count, reach=max(intervals) * count)
        interval = intervals[int(rng.integers(len(intervals)))]
        return clip.references(query, count=count, interval=interval)

"""Clips that lie on the disk: tables of frames, files or in stores, and folders of frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.config.data import ClipsSettings
from dvos.errors import FaultCollector, MediaError, check_size
from dvos.media.addressed import OpenStores
from dvos.media.image import read_image
from dvos.media.png import read_png_window
from dvos.tables import ClipRow
from dvos.training.augment.spatial import Box, cut, looked_at, place, resize_frame, resize_ids
from dvos.training.clips.cache import DecodedMask, ImageCache
from dvos.training.clips.clip import (
    Clip,
    ClipRequest,
    draw_moments,
    draw_seed_point,
    query_clip,
    seed_points,
    track_clip,
)

_OTHERS = ("another mask of its clip", "give all frames of a clip one size")


@dataclass(frozen=True)
class FrameClip:
    """A clip of frames on the disk.

    Attributes:
        name: Of the clip.
        frames: Image of each frame, by frame id, in order of the ids; a file
            or the address of a clip store's frame.
        masks: Mask of each labelled frame, by frame id; never empty. As frames.
        void: Their values for "unknown"; see :func:`~dvos.media.mask.read_mask`.
        intensity: What becomes of the frames' samples of more than 8 bit.
    """

    name: str
    frames: dict[int, Path]
    masks: dict[int, Path]
    void: str = "auto"
    intensity: str = "full"

    def references(self, query: int, *, count: int, interval: int) -> list[int]:
        """Frame ids of the references of a query, in order of time.

        They lie ``interval`` apart before the query; one that is missing is
        replaced by the clip's first frame.
        """
        first = next(iter(self.frames))
        wanted = (query - step * interval for step in range(count, 0, -1))
        return [frame_id if frame_id in self.frames else first for frame_id in wanted]

    def random_references(
        self, rng: np.random.Generator, query: int, *, count: int, reach: int
    ) -> list[int]:
        """Frame ids of references drawn at random, in order of time.

        They are drawn from the ``reach`` frame ids before the query; where these hold fewer
        frames than ``count``, the clip's first frame fills in.
        """
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
    """See that each clip has masks of as many frames as are drawn from it.

    Raises:
        MediaError: With a fault for each clip that is too short.
    """
    with FaultCollector(MediaError) as faults:
        for clip in clips:
            count = len(clip.masks.keys() & clip.frames.keys())
            if count < frames:
                faults.add(
                    f"{clip.name} ({next(iter(clip.frames.values())).parent})",
                    f"has masks of {count} of its {len(clip.frames)} frames",
                    f"masks of at least {frames} frames",
                    "lower xmem.frames, add masks or leave the clip out",
                )


class ClipFiles:
    """Reads parts of frames and masks, by their paths in a table of clips.

    Frames in files are decoded whole and kept while there is room; those met
    later are read anew each time, of a PNG only what the part needs. They do
    not take the place of others: frames are drawn at random, so that one is
    worth as much as another. Of a clip store only the tiles that a part meets
    are decoded, each time anew; of its masks the seed points are kept,
    for which a whole mask is read.

    Args:
        cache: Where decoded files are kept.
        open_stores: Most clip stores open at a time.
    """

    def __init__(self, cache: ImageCache, *, open_stores: int = 16) -> None:
        self._cache = cache
        self._stores = OpenStores(open_stores)

    def size(self, mask: Path, void: str = "auto") -> tuple[int, int]:
        """(height, width) of a mask; a file is decoded for it."""
        found = self._stores.find(mask)
        if found:
            return found[0].size
        height, width = self._mask(mask, void).ids.shape
        return height, width

    def seed_points(self, mask: Path, void: str = "auto") -> NDArray[np.int64]:
        """(row, column) of pixels spread over a mask's objects, int64 (N, 2)."""
        found = self._stores.find(mask)
        if not found:
            return self._mask(mask, void).seed_points
        store, index = found
        return self._cache.get(
            ("seed points", mask), lambda: seed_points(store.read_instances([index])[0])
        )

    def read(
        self,
        clip: FrameClip,
        frame_ids: Sequence[int],
        box: Box,
        request: ClipRequest,
        *,
        size: tuple[int, int],
    ) -> Clip:
        """Read the same part of frames of a clip and of their masks.

        Args:
            clip: The clip.
            frame_ids: The frames, in the order wanted; without ``every_frame`` the last one has
                a mask.
            box: The part; mirrored where it reaches beyond the frames.
            request: Size of the result, and which ids are wanted.
            size: (height, width) that whole frames and masks must have.

        Raises:
            MediaError: If a file cannot be read or has another size.
        """
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
        if request.as_one:
            return query_clip(frames, masks[frame_ids[-1]])
        return track_clip(frames, [masks.get(i) for i in frame_ids], only)

    def _part(
        self, mask: Path, box: Box, void: str, size: tuple[int, int]
    ) -> tuple[NDArray[np.uint16], int | None]:
        """Part of a mask, and its only id, as of :class:`DecodedMask`."""
        found = self._stores.find(mask)
        if not found:
            decoded = self._mask(mask, void)
            check_size(mask, decoded.ids.shape, size, *_OTHERS)
            return decoded.part(box), decoded.only
        store, index = found
        check_size(mask, store.size, size, *_OTHERS)
        near = looked_at(box, store.size)
        ids: NDArray[np.uint16] = store.read_instances([index], near)[0]
        return cut(ids, box.relative_to(near)), None

    def _frame(
        self, clip: FrameClip, frame_id: int, box: Box, size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        image = clip.frames[frame_id]
        found = self._stores.find(image)
        if found:
            store, index = found
            check_size(image, store.size, size, *_OTHERS)
            near = looked_at(box, store.size)
            return cut(store.read_frames([index], near)[0], box.relative_to(near))
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


class FileClips:
    """Labelled clips on the disk, a :class:`~dvos.training.clips.clip.ClipSource`.

    Without ``jump`` a query is drawn, every labelled frame as often as any other, with references
    as the settings say; with it a clip, every one as often as any other, and some of its labelled
    frames, of which it needs enough, see :func:`check_lengths`.

    Args:
        clips: The clips.
        cache: Where decoded files are kept.
        settings: Which references a query has.
        object_share: Share of the samples whose window is laid so that it holds an object of the
            query (with ``jump``, of the first frame), if that has one.
    """

    def __init__(
        self,
        clips: Sequence[FrameClip],
        cache: ImageCache,
        settings: ClipsSettings,
        *,
        object_share: float = 0.7,
    ) -> None:
        self._clips = tuple(clips)
        self._queries = [(clip, query) for clip in clips for query in clip.masks]
        if not self._queries:
            raise ValueError("there are no queries")
        self._files = ClipFiles(cache)
        self._settings = settings
        self._object_share = object_share

    def sample(self, rng: np.random.Generator, request: ClipRequest) -> Clip:
        """Draw frames of a clip and a window that is the same in all of them."""
        if request.jump is None:
            clip, query = self._queries[int(rng.integers(len(self._queries)))]
            frame_ids = [*self._references(rng, clip, query, request.frames - 1), query]
            held = clip.masks[query]
        else:
            clip = self._clips[int(rng.integers(len(self._clips)))]
            labelled = [frame_id for frame_id in clip.frames if frame_id in clip.masks]
            moments = draw_moments(rng, len(labelled), count=request.frames, jump=request.jump)
            frame_ids = [labelled[moment] for moment in moments]
            held = clip.masks[frame_ids[0]]
        points = self._files.seed_points(held, clip.void)
        point = draw_seed_point(rng, points, self._object_share)
        height, width = (max(1, round(side / request.scale)) for side in request.size)
        size = self._files.size(held, clip.void)
        box = place(rng, (height, width), size, seed_point=point)
        return self._files.read(clip, frame_ids, box, request, size=size)

    def _references(
        self, rng: np.random.Generator, clip: FrameClip, query: int, count: int
    ) -> list[int]:
        intervals = self._settings.intervals
        if self._settings.references == "random":
            return clip.random_references(rng, query, count=count, reach=max(intervals) * count)
        interval = intervals[int(rng.integers(len(intervals)))]
        return clip.references(query, count=count, interval=interval)

"""Temporal stability: how much of a mask's change from frame to frame is not motion.

The mask of the frame before is moved along the optical flow of the frames and compared with the
mask that was predicted: the metric of Varghese et al., "Unsupervised Temporal Consistency Metric
for Video Segmentation in Highly-Automated Driving", CVPR Workshops 2020.
"""

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.config.scoring import ScoringSettings
from dvos.errors import FaultCollector, MediaError
from dvos.files import find_path
from dvos.media.clip_store import read_image_at, read_mask_at
from dvos.media.frames import behind
from dvos.media.image import resized
from dvos.media.layout import frame_name
from dvos.media.limits import memory_shared
from dvos.media.mask import object_pixels
from dvos.media.video import VideoFile, VideoFrame
from dvos.runner.display import progress
from dvos.runner.tasks import worker_count
from dvos.scoring.match import Pair, video_of, videos_by_clip
from dvos.scoring.overlap import PackedMask, count_pixels, iou
from dvos.tables import frame_stem

_LONGEST = 1280  # flow is looked for in frames of at most this many pixels a side
#: Two patches of the search, below which OpenCV 5.0 refuses an image or reads beyond it.
_SHORTEST = 16

_Frame = NDArray[np.uint8] | Path  # its pixels, or its file
_NUMBERED = re.compile(r"(.*_)(\d+)")


class Followed(NamedTuple):
    """How steady a mask is against the one before it, moved along: IoU in 0..1."""

    prediction: float
    truth: float | None  # None where the frame before has no true mask


class _Step(NamedTuple):
    """A mask that has one before it, and where their frames are."""

    place: int  # of the pair among all
    pair: Pair
    name_before: str  # of the frame before
    masks: tuple[Path, ...]  # prediction and the one before it, then those of the truth, if both
    video: Path | None  # holds the frames; None where ``pair`` names their files


def backward_flow(image: NDArray[np.uint8], before: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Where each pixel of a frame, uint8 RGB (H, W, 3), was in the one before.

    By dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV
    2016), OpenCV's preset "medium": float32 (H, W, 2), x and y to add to a pixel's place.
    """
    height, width = image.shape[:2]
    factor = min(1.0, _LONGEST / max(height, width))
    greys = (np.asarray(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY)) for one in (image, before))
    grey = [resized(one, factor) for one in greys]
    rows, columns = grey[0].shape
    below, beside = (max(0, _SHORTEST - side) for side in (rows, columns))
    padded = [cv2.copyMakeBorder(one, 0, below, 0, beside, cv2.BORDER_REPLICATE) for one in grey]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = search.calc(padded[0], padded[1], None)[:rows, :columns]
    flow = cv2.resize(found, (width, height))
    scale = np.array([width / columns, height / rows], np.float32)
    return np.asarray(flow * scale, np.float32)


def follow(mask: NDArray[np.bool_], before: NDArray[np.bool_], flow: NDArray[np.float32]) -> float:
    """IoU of a mask with the one before it, bool (H, W), moved along :func:`backward_flow`.

    Pixels that were outside the frame before are left out: what enters the picture is no flicker.
    """
    height, width = mask.shape
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    moved = cv2.remap(before.view(np.uint8), x, y, cv2.INTER_NEAREST).view(np.bool_)
    return iou(count_pixels(*(PackedMask.of(one & inside) for one in (moved, mask))))


def measure_stability(pairs: Sequence[Pair], settings: ScoringSettings) -> dict[int, Followed]:
    """How steady predictions are where frames and a mask before them exist, by place in ``pairs``.

    At most ``flow_frames`` are measured, spread evenly over pairs, clip by clip and in order.
    """
    found: dict[int, Followed] = {}
    frames, workers = settings.flow_frames, worker_count(settings.workers)
    steps = _steps(pairs, settings.images) if settings.temporal else []
    if len(steps) > frames:
        steps = [steps[index * len(steps) // frames] for index in range(frames)]
    if not steps:
        return found
    shown = progress(_frames(steps), description="stability", total=len(steps), unit="frame")
    with (
        FaultCollector(MediaError) as faults,
        memory_shared(workers),
        ThreadPoolExecutor(workers) as pool,
    ):
        begun = ((one[0].place, pool.submit(_measure, *one, settings.void)) for one in shown)
        # Frames in memory stay few, however long the video.
        for place, future in behind(begun, 2 * workers):
            if (result := faults.collect(future.result)) is not None:
                found[place] = result
    return found


def _steps(pairs: Sequence[Pair], images: Path | None) -> list[_Step]:
    videos = videos_by_clip(images)
    truths = {(pair.clip, pair.name): pair.truth for pair in pairs}
    steps = []
    for place, pair in enumerate(pairs):
        if pair.prediction is None or not pair.in_clip:
            continue
        # Name of the frame before, where its frames are at hand.
        before, video = None, None
        if pair.image is not None:
            before = None if pair.before is None else frame_name(frame_stem(pair.before))
        elif (video := video_of(pair.clip, videos)) and (parts := _NUMBERED.fullmatch(pair.name)):
            before = f"{parts[1]}{int(parts[2]) - 1:0{len(parts[2])}d}" if int(parts[2]) else None
        if before is None:
            continue
        # Most are pairs themselves, which need not be looked for.
        name = f"{before}{pair.prediction.suffix}"
        prediction = None if place == 0 else pairs[place - 1].prediction
        if prediction != pair.prediction.with_name(name):
            prediction = find_path(pair.prediction.parent, name, os.path.isfile)
        if prediction is not None:
            truth = truths.get((pair.clip, before))
            masks = (pair.prediction, prediction, *((pair.truth, truth) if truth else ()))
            steps.append(_Step(place, pair, before, masks, video))
    return steps


def _frames(steps: Sequence[_Step]) -> Iterator[tuple[_Step, _Frame, _Frame]]:
    """Each step with its frame and the one before: files first, then each video read once."""
    of_videos: dict[Path, dict[str, _Step]] = {}
    for step in steps:
        if step.video is not None:
            of_videos.setdefault(step.video, {})[step.pair.name] = step
        elif step.pair.image is not None and step.pair.before is not None:
            yield step, step.pair.image, step.pair.before
    for video, names in of_videos.items():
        last: VideoFrame | None = None
        for frame in VideoFile(video):
            wanted = names.pop(frame.name, None)
            # A damaged frame may be missing between the two.
            if wanted is not None and last is not None and last.name == wanted.name_before:
                yield wanted, frame.image, last.image
            if not names:
                break
            last = frame


def _measure(step: _Step, image: _Frame, before: _Frame, void: str) -> Followed:
    image, before = (read_image_at(x) if isinstance(x, Path) else x for x in (image, before))
    voids = ("auto", "auto", void, void)
    masks = [object_pixels(read_mask_at(*one)) for one in zip(step.masks, voids, strict=False)]
    sizes = {one.shape[:2] for one in (image, before, *masks)}
    if len(sizes) > 1:
        found = ", ".join(f"{width} x {height}" for height, width in sorted(sizes))
        where = step.video or step.pair.image or step.pair.truth
        told = f"frame {step.pair.name}, the one before it and their masks are {found} pixels"
        remedy = "give the frames that were predicted, or set temporal=false"
        raise MediaError.at(where, told, "one size", remedy)
    flow = backward_flow(image, before)
    truth = follow(masks[2], masks[3], flow) if len(masks) == 4 else None
    return Followed(follow(masks[0], masks[1], flow), truth)

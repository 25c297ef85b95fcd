"""Temporal stability: how much of a mask's change from frame to frame is not motion.

The mask of the frame before is moved along the optical flow of the frames and
compared with the mask that was predicted: the metric of Varghese et al.,
"Unsupervised Temporal Consistency Metric for Video Segmentation in
Highly-Automated Driving", CVPR Workshops 2020.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.errors import DvosError, FaultCollector, MediaError
from dvos.media.addressed import read_image_at, read_mask_at
from dvos.media.layout import frame_name
from dvos.media.video import VideoFile, VideoFrame
from dvos.runner import progress
from dvos.scoring.frames import video_of, videos_by_clip
from dvos.scoring.match import Pair
from dvos.scoring.overlap import count_pixels, iou
from dvos.tables import frame_stem

__all__ = ["Followed", "backward_flow", "follow", "measure_stability"]

#: Flow is looked for in frames of at most this many pixels a side.
_LONGEST = 1280
#: Two patches of the search, below which OpenCV 5.0 refuses an image or reads beyond it.
_SHORTEST = 16

_NUMBERED = re.compile(r"(.*_)(\d+)")


@dataclass(frozen=True)
class Followed:
    """How steady a mask is against the one before it, moved along.

    Attributes:
        prediction: IoU of the predicted masks, 0..1.
        truth: IoU of the true ones; None where the frame before has none.
    """

    prediction: float
    truth: float | None


@dataclass(frozen=True)
class _Wanted:
    """A mask that has one before it; ``video`` holds the frames, or ``pair`` names them."""

    place: int
    pair: Pair
    before: str
    prediction_before: Path
    truth_before: Path | None
    video: Path | None


@dataclass(frozen=True)
class _Step:
    """Two frames that follow each other; images or their files."""

    wanted: _Wanted
    image: NDArray[np.uint8] | Path
    before: NDArray[np.uint8] | Path


def backward_flow(image: NDArray[np.uint8], before: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Where each pixel was in the frame before, by dense inverse search.

    Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016;
    OpenCV's preset "medium".

    Args:
        image: A frame, uint8 RGB (H, W, 3).
        before: The frame before it, likewise.

    Returns:
        float32 (H, W, 2), x and y to add to a pixel's place, in pixels.
    """
    height, width = image.shape[:2]
    factor = min(1.0, _LONGEST / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    grey = [
        cv2.resize(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
        for one in (image, before)
    ]
    below, beside = (max(0, _SHORTEST - side) for side in (size[1], size[0]))
    padded = [cv2.copyMakeBorder(one, 0, below, 0, beside, cv2.BORDER_REPLICATE) for one in grey]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = search.calc(padded[0], padded[1], None)[: size[1], : size[0]]
    flow = cv2.resize(found, (width, height))
    scale = np.array([width / size[0], height / size[1]], np.float32)
    return np.asarray(flow * scale, np.float32)


def follow(mask: NDArray[np.bool_], before: NDArray[np.bool_], flow: NDArray[np.float32]) -> float:
    """IoU of a mask with the one before it, moved along the flow.

    Pixels that were outside the frame before are left out: what enters the
    picture is no flicker.

    Args:
        mask: bool (H, W).
        before: Of the frame before, bool (H, W).
        flow: As :func:`backward_flow` gives it.

    Returns:
        0..1; 1 where both are empty.
    """
    height, width = mask.shape
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    moved = cv2.remap(before.view(np.uint8), x, y, cv2.INTER_NEAREST).view(np.bool_)
    return iou(count_pixels(moved & inside, mask & inside))


def measure_stability(
    pairs: Sequence[Pair], *, images: Path | None, frames: int, workers: int
) -> dict[int, Followed]:
    """Measure how steady predictions are where frames and a mask before them exist.

    Args:
        pairs: Truth and prediction, clip by clip, in order.
        images: A video file, or a folder that may hold one for each clip.
        frames: Measure at most this many pairs, spread evenly.
        workers: Threads.

    Returns:
        By place in ``pairs``; places where it cannot be measured are absent.

    Raises:
        MediaError: If frames or masks cannot be read or differ in size.
    """
    found: dict[int, Followed] = {}
    chosen = _spread(_wanted(pairs, images), frames)
    if not chosen:
        return found
    steps = progress(_steps(chosen), description="stability", total=len(chosen), unit="frame")
    with FaultCollector(MediaError) as faults, ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[int, Future[Followed | DvosError]]] = deque()

        def take() -> None:
            place, future = waiting.popleft()
            result = future.result()
            if isinstance(result, Followed):
                found[place] = result
            else:
                faults.extend(result.faults)

        for step in steps:
            waiting.append((step.wanted.place, pool.submit(_measure, step)))
            # Frames in memory stay few, however long the video.
            while len(waiting) > 2 * workers:
                take()
        while waiting:
            take()
    return found


def _wanted(pairs: Sequence[Pair], images: Path | None) -> list[_Wanted]:
    videos = videos_by_clip(images)
    truths = {(pair.clip, pair.name): pair.truth for pair in pairs}
    result = []
    for place, pair in enumerate(pairs):
        if pair.prediction is None or not pair.in_clip:
            continue
        video = None if pair.image else video_of(pair.clip, videos)
        before = _name_before(pair, video)
        if before is None:
            continue
        prediction = pair.prediction.with_name(f"{before}{pair.prediction.suffix}")
        if prediction.is_file():
            truth = truths.get((pair.clip, before))
            result.append(_Wanted(place, pair, before, prediction, truth, video))
    return result


def _name_before(pair: Pair, video: Path | None) -> str | None:
    """Name of the frame before that of a pair, where its frames are at hand."""
    if pair.image is not None:
        return None if pair.before is None else frame_name(frame_stem(pair.before))
    parts = _NUMBERED.fullmatch(pair.name)
    if video is None or parts is None or int(parts[2]) == 0:
        return None
    return f"{parts[1]}{int(parts[2]) - 1:0{len(parts[2])}d}"


def _spread(wanted: Sequence[_Wanted], number: int) -> list[_Wanted]:
    if len(wanted) <= number:
        return list(wanted)
    return [wanted[index * len(wanted) // number] for index in range(number)]


def _steps(chosen: Sequence[_Wanted]) -> Iterator[_Step]:
    of_videos: dict[Path, dict[str, _Wanted]] = {}
    for one in chosen:
        if one.video is not None:
            of_videos.setdefault(one.video, {})[one.pair.name] = one
        elif one.pair.image is not None and one.pair.before is not None:
            yield _Step(one, one.pair.image, one.pair.before)
    for video, names in of_videos.items():
        yield from _steps_of_video(VideoFile(video), names)


def _steps_of_video(video: VideoFile, names: dict[str, _Wanted]) -> Iterator[_Step]:
    last: VideoFrame | None = None
    for frame in video:
        one = names.pop(frame.name, None)
        # A damaged frame may be missing between the two.
        if one is not None and last is not None and last.name == one.before:
            yield _Step(one, frame.image, last.image)
        if not names:
            return
        last = frame


def _measure(step: _Step) -> Followed | DvosError:
    """Measure one step; a foreseen error is handed back so that all are reported."""
    wanted = step.wanted
    try:
        image, before = _pixels(step.image), _pixels(step.before)
        masks = [read_mask_at(path) > 0 for path in _masks(wanted)]
    except DvosError as error:
        return error
    sizes = {one.shape[:2] for one in (image, before, *masks)}
    if len(sizes) > 1:
        found = ", ".join(f"{width} x {height}" for height, width in sorted(sizes))
        return MediaError.at(
            wanted.video or wanted.pair.image or wanted.pair.truth,
            f"frame {wanted.pair.name}, the one before it and their masks are {found} pixels",
            "one size",
            "give the frames that were predicted, or set temporal=false",
        )
    flow = backward_flow(image, before)
    truth = follow(masks[2], masks[3], flow) if len(masks) == 4 else None
    return Followed(follow(masks[0], masks[1], flow), truth)


def _pixels(image: NDArray[np.uint8] | Path) -> NDArray[np.uint8]:
    return read_image_at(image) if isinstance(image, Path) else image


def _masks(wanted: _Wanted) -> list[Path]:
    """Prediction and the one before it, then the same of the truth if it has both."""
    truths = [wanted.pair.truth, wanted.truth_before]
    found = [wanted.pair.prediction, wanted.prediction_before]
    every = found if wanted.truth_before is None else [*found, *truths]
    return [path for path in every if path is not None]

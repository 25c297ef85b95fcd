"""Writing what a clip's prediction gives, in threads beside the network."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import DvosError
from dvos.media.image import write_image
from dvos.media.mask import read_mask, write_mask
from dvos.media.overlay import overlay
from dvos.media.video import FrameSource, VideoFrame, VideoWriter
from dvos.prediction.instances import count_objects
from dvos.prediction.predictor import FramePrediction
from dvos.prediction.prefetch import read_ahead

__all__ = [
    "COUNT_COLUMNS",
    "FrameWriter",
    "write_all",
    "write_overlay_picture",
    "write_overlay_video",
]

#: Columns of ``counts.csv``; ``clip`` is put in front of each frame's row.
COUNT_COLUMNS = (
    "clip",
    "frame_index",
    "time_s",
    "coverage",
    "count",
    "frame",
    "mean_area",
    "median_area",
    "mean_probability",
    "soft_coverage",
)

#: Of an overlay video where the frames tell no rate.
_FRAME_RATE = 25.0
_THREADS = 2


@dataclass(frozen=True)
class FrameWriter:
    """Writes one frame's files and measures it.

    Attributes:
        folder: For ``<frame>.png`` and ``probabilities/<frame>.png``.
        probabilities: Whether the latter are written.
        minimum_area: Smaller objects are not counted.
        first_index: Frame index that the rows count from.
    """

    folder: Path
    probabilities: bool
    minimum_area: int
    first_index: int = 0

    def __call__(self, prediction: FramePrediction) -> dict[str, Any]:
        """Write the files; give the row of ``counts.csv`` without its clip."""
        mask, probability = prediction.mask, prediction.probability
        if self.probabilities:
            soft = np.rint(probability * 65535.0).astype(np.uint16)
            write_image(self.folder / "probabilities" / f"{prediction.name}.png", soft)
        objects = count_objects(mask, minimum_area=self.minimum_area)
        # Last, as the mask is what shows that the frame is complete.
        write_mask(self.folder / f"{prediction.name}.png", mask)
        return {
            "frame_index": prediction.frame_index - self.first_index,
            "time_s": None if math.isnan(prediction.time_s) else round(prediction.time_s, 6),
            "coverage": float(mask.mean()),
            "count": objects.count,
            "frame": prediction.name,
            "mean_area": round(objects.mean_area, 2),
            "median_area": objects.median_area,
            "mean_probability": float(probability[mask].mean()) if mask.any() else 0.0,
            "soft_coverage": float(probability.mean()),
        }


def write_all(
    predictions: Iterable[FramePrediction], write: FrameWriter
) -> Iterator[dict[str, Any]]:
    """Write predictions in threads while the next are made; give the rows in order.

    At most a few frames wait, so memory stays flat. Where the predictions
    fail, the frames before the fault are written and given first; a failed
    write is raised in its turn.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="dvos-writer") as pool:
        waiting: deque[Future[dict[str, Any]]] = deque()
        failure: DvosError | None = None
        coming = iter(predictions)
        while True:
            try:
                prediction = next(coming, None)
            except DvosError as error:
                failure = error
                break
            if prediction is None:
                break
            waiting.append(pool.submit(write, prediction))
            while len(waiting) > 2 * _THREADS or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if failure is not None:
            raise failure


def write_overlay_video(path: Path, source: FrameSource, masks: Path) -> None:
    """Write a clip with its masks drawn over it as H.264 video.

    It is made from the finished masks, so that a continued run gives the very
    same video as an unbroken one.

    Args:
        path: Ending ``.mp4``.
        source: The clip's frames.
        masks: Folder of its masks.

    Raises:
        MediaError: If a frame or mask cannot be read.
        OutputError: If the video cannot be written.
    """
    drawn = (_drawn(frame, masks) for frame in source.frames())
    rate = source.frame_rate or _FRAME_RATE
    with (
        VideoWriter(path, frame_rate=rate, size=source.size) as video,
        closing(read_ahead(drawn, depth=4)) as images,
    ):
        for image in images:
            video.write(image)


def write_overlay_picture(path: Path, photo: VideoFrame, masks: Path) -> None:
    """Write a photo with its mask drawn over it; see :func:`write_overlay_video`."""
    write_image(path, _drawn(photo, masks))


def _drawn(frame: VideoFrame, masks: Path) -> NDArray[np.uint8]:
    return overlay(frame.image, read_mask(masks / f"{frame.name}.png") > 0)

"""Writing what a clip's prediction gives, in threads beside the network."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.errors import DvosError
from dvos.media.image import write_image
from dvos.media.mask import write_mask
from dvos.prediction.counting import Border, count_frame
from dvos.prediction.instances import FrameObjects
from dvos.prediction.object_table import object_files, write_frame_objects
from dvos.prediction.objects import ObjectKnowledge
from dvos.prediction.predictor import FramePrediction

__all__ = ["FrameWriter", "write_all"]

#: Enough that writing and counting, 30 ms a frame, keep up with a GPU.
_THREADS = min(4, os.cpu_count() or 1)
_MOST_NUMBERS = 2**16 - 1
_NOTHING = ObjectKnowledge()


@dataclass(frozen=True)
class FrameWriter:
    """Writes one frame's files and measures it.

    Attributes:
        folder: For ``<frame>.png``, ``probabilities/<frame>.png``, and
            ``instances/<frame>.png`` and ``.csv``.
        probabilities: Whether ``probabilities`` is written.
        minimum_area: Smaller objects are not counted.
        instances: Whether ``instances`` is written.
        object_width: Usual width of an object, pixels; None = as known.
        knowledge: What was learnt about objects, in pixels of these frames.
        border: What an object counts that the frame's edge cuts.
        ground_sampling_distance: Millimetres of ground per pixel, if known.
        first_index: Frame index that the rows count from.
    """

    folder: Path
    probabilities: bool
    minimum_area: int
    instances: bool = False
    object_width: float | None = None
    knowledge: ObjectKnowledge = _NOTHING
    border: Border = "count"
    ground_sampling_distance: float | None = None
    first_index: int = 0

    def __call__(self, prediction: FramePrediction) -> dict[str, Any]:
        """Write the files; give the frame's row, without what needs the whole clip."""
        mask, probability = prediction.mask, prediction.probability
        if self.probabilities:
            soft = np.rint(probability * 65535.0).astype(np.uint16)
            write_image(self.folder / "probabilities" / f"{prediction.name}.png", soft)
        counted = count_frame(
            mask,
            probability,
            knowledge=self.knowledge,
            minimum_area=self.minimum_area,
            width=self.object_width,
            ids=prediction.instances,
            border=self.border,
        )
        objects = counted.objects
        if self.instances:
            picture, table = object_files(self.folder, prediction.name)
            write_frame_objects(table, objects.rows())
            write_mask(picture, _numbered(objects))
        # Last, as the mask is what shows that the frame is complete.
        write_mask(self.folder / f"{prediction.name}.png", mask)
        return {
            "frame_index": prediction.frame_index - self.first_index,
            "time_s": None if math.isnan(prediction.time_s) else round(prediction.time_s, 6),
            "coverage": float(mask.mean()),
            # A whole number is written as one, as the column always was.
            "count": int(counted.count) if counted.count % 1 == 0 else counted.count,
            "frame": prediction.name,
            "mean_area": round(_mean(objects.area), 2),
            "median_area": float(np.median(objects.area)) if objects.count else 0.0,
            "mean_probability": round(float(probability[mask].mean()), 6) if mask.any() else 0.0,
            "soft_coverage": round(float(probability.mean()), 6),
            "mean_length": round(_mean(objects.length), 2),
            "mean_width": round(_mean(objects.width), 2),
            "expected_count": round(counted.expected, 4),
            "count_sd": round(counted.deviation, 4),
            "ground_area": self._ground_area(mask.size),
        }

    def _ground_area(self, pixels: int) -> float | None:
        """Square metres that a frame shows, if the size of a pixel on the ground is known."""
        if self.ground_sampling_distance is None:
            return None
        return pixels * (self.ground_sampling_distance / 1000) ** 2


def _numbered(objects: FrameObjects) -> NDArray[np.uint16]:
    # 16 bits hold 65,535 objects; of a frame with more the last are left out.
    numbers = np.where(objects.numbers <= _MOST_NUMBERS, objects.numbers, 0)
    return np.append(0, numbers)[objects.labels].astype(np.uint16)


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else 0.0


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

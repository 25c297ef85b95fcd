"""The files of each frame, written beside the network; the table and the overlay of a clip."""

import csv
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvos.config.prediction import PredictionOptions
from dvos.errors import MediaError
from dvos.files import atomic_path, write_text
from dvos.media.frames import FrameSource, behind, read_ahead
from dvos.media.image import write_image
from dvos.media.mask import read_label_image, read_mask, write_mask
from dvos.media.overlay import caption, overlay
from dvos.media.video import VideoFrame
from dvos.media.video_write import VideoWriter
from dvos.prediction.calibration import CountCalibration
from dvos.prediction.counting import count_frame
from dvos.prediction.objects import read_object_table
from dvos.prediction.predictor import FramePrediction, thinned
from dvos.runner.manifest import Row

#: Columns of ``<clip>.objects.csv``; the first three are of the frame.
OBJECT_COLUMNS = (
    *("frame_index", "time_s", "frame"),
    *("object", "area", "length", "width", "orientation", "centre_x", "centre_y"),
    *("mean_probability", "touches_border"),
)
_OF_FRAME = 3
_MOTION = ("motion_x", "motion_y")  # columns that follow where the network tells motion

#: Writing and counting take a core 30 ms a frame of 1920 x 1080: all of 16 keep up with a GPU.
_THREADS = min(16, os.cpu_count() or 1)
_WAITING = max(2 * min(4, _THREADS), _THREADS + 2)  # frames that wait for them at most
_MOST_NUMBERS = 2**16 - 1
_FRAME_RATE = 25.0  # frames a second of an overlay video where the frames tell no rate


class _Files(NamedTuple):
    mask: Path
    probability: Path
    instances: Path
    table: Path  # of the objects numbered in ``instances``


def _files(folder: Path, frame: str) -> _Files:
    numbered, picture = folder / "instances", f"{frame}.png"
    places = (folder / picture, folder / "probabilities" / picture, numbered / picture)
    return _Files(*places, numbered / f"{frame}.csv")


@dataclass(frozen=True)
class FrameWriter:
    """Writes one frame's files into ``folder``, as ``options`` ask for them, and measures it."""

    folder: Path
    options: PredictionOptions
    calibration: CountCalibration
    first_index: int = 0

    @property
    def folders(self) -> list[Path]:
        """Where its files go, that of the masks first."""
        return [path.parent for path in _files(self.folder, "")[:3]]

    def __call__(self, prediction: FramePrediction) -> Row:
        """Write the files; give the frame's row, without what needs the whole clip."""
        mask, probability = prediction.mask, prediction.probability
        files = _files(self.folder, prediction.name)
        if self.options.probabilities:
            write_image(files.probability, np.rint(probability * 65535.0).astype(np.uint16))
        counted = count_frame(prediction, self.calibration, self.options)
        objects = counted.objects
        if self.options.instances:
            lines = [OBJECT_COLUMNS[_OF_FRAME:], *objects.rows()]
            if objects.motion is not None:
                told = zip(lines, [_MOTION, *objects.motion.round(2).tolist()], strict=True)
                lines = [[*line, *moved] for line, moved in told]
            write_text(files.table, "".join(",".join(map(str, cells)) + "\n" for cells in lines))
        if self.options.instances or self.options.run_lengths:
            # 16 bits hold 65,535 objects; of a frame with more the last are left out.
            numbers = np.where(objects.numbers <= _MOST_NUMBERS, objects.numbers, 0)
            write_mask(files.instances, np.append(0, numbers)[objects.labels].astype(np.uint16))
        write_mask(files.mask, mask)  # last, as the mask is what shows that the frame is complete
        distance = self.options.ground_sampling_distance
        assert distance != "metadata"  # whoever makes the writer has looked into them
        return {
            "frame_index": prediction.frame_index - self.first_index,
            "time_s": None if math.isnan(prediction.time_s) else round(prediction.time_s, 6),
            "coverage": float(mask.mean()),
            # A whole number is written as one, as the column always was.
            "count": int(counted.count) if counted.count % 1 == 0 else counted.count,
            "frame": prediction.name,
            "mean_area": round(_mean(objects.area), 2),
            "median_area": float(np.median(objects.area)) if objects.count else 0.0,
            "mean_probability": round(_mean(probability[mask]), 6),
            "soft_coverage": round(float(probability.mean()), 6),
            "mean_length": round(_mean(objects.length), 2),
            "mean_width": round(_mean(objects.width), 2),
            "expected_count": round(counted.expected, 4),
            "count_sd": round(counted.deviation, 4),
            "ground_area": None if distance is None else mask.size * (distance / 1000) ** 2,
        }

    def is_complete(self, frame: str) -> bool:
        """Whether all files asked for of a frame are there."""
        options, files = self.options, _files(self.folder, frame)
        numbered = options.instances or options.run_lengths
        needed = (True, options.probabilities, numbered, options.instances)
        return all(path.is_file() for path, asked in zip(files, needed, strict=True) if asked)

    def remove(self, frame: str) -> None:
        """Remove the files of a frame, whichever there are."""
        for path in _files(self.folder, frame):
            path.unlink(missing_ok=True)


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else 0.0


def write_all(predictions: Iterable[FramePrediction], write: FrameWriter) -> Iterator[Row]:
    """Write predictions in threads while the next, a few at most, are made; give the rows in order.

    Where the predictions fail, the frames before the fault are written and given first.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="dvos-writer") as pool:
        begun = (pool.submit(write, prediction) for prediction in predictions)
        for future in behind(begun, _WAITING, Future.done):
            yield future.result()


def write_objects_table(
    path: Path,
    rows: Iterable[tuple[Mapping[str, Any], Mapping[str, Sequence[object]]]],
    masks_folder: Path,
) -> None:
    """Write ``<clip>.objects.csv`` from the tables beside the instance masks, object by object.

    With the row of each frame, in order, come further columns by name, the same of every frame.
    """
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        header: Sequence[str] = ()
        for row, columns in rows:
            table = _files(masks_folder, row["frame"]).table
            own, records, _ = read_object_table(table)
            if not header:
                header = own
                writer.writerow([*OBJECT_COLUMNS[:_OF_FRAME], *header, *columns])
            if own != header:
                found = f"has the columns {','.join(own)}"
                expected = f"{','.join(header)}, as the clip's first frame"
                raise MediaError.at(table, found, expected, "remove it, and predict again")
            of_frame = [row[name] for name in OBJECT_COLUMNS[:_OF_FRAME]]
            further = zip(*columns.values(), strict=True) if columns else [()] * len(records)
            for cells, more in zip(records, further, strict=True):
                writer.writerow([*of_frame, *cells, *more])


def write_overlay_video(
    path: Path,
    source: FrameSource,
    masks: Path,
    counts: Mapping[str, float],
    tracks: Path | None = None,
    *,
    every: int = 1,
) -> None:
    """Write a clip, or of ``every`` frames the first, with its masks over it as H.264 ``.mp4``.

    The count of each frame, by its name, is written in its upper left corner. Objects that were
    followed, as the label images in ``tracks`` say, keep a colour of their own. Frames keep their
    own times, which may lie unevenly; without times they follow each other at the source's rate, or
    25 a second. Raises a MediaError if a frame or mask cannot be read.
    """
    rate = source.frame_rate / every if source.frame_rate else _FRAME_RATE
    frames = thinned(source.frames(), every)
    first = next(frames, None)
    if first is None:
        raise MediaError.at(source.name, "has no frames", "at least one")
    timed = not math.isnan(first.time_s)
    drawn = (
        (frame.time_s, overlaid(frame, masks, counts[frame.name], tracks))
        for frame in chain([first], frames)
    )
    with (
        VideoWriter(path, frame_rate=rate, size=first.image.shape[:2], timed=timed) as video,
        closing(read_ahead(drawn, depth=4)) as images,
    ):
        latest = -1.0 / rate
        for time_s, image in images:
            # A time stamp that is missing amid others is made up by the rate.
            latest = latest + 1.0 / rate if math.isnan(time_s) else time_s
            video.write(image, latest if timed else None)


def overlaid(
    frame: VideoFrame, masks: Path, count: float, tracks: Path | None = None
) -> NDArray[np.uint8]:
    """A frame with its mask, from the folder ``masks``, drawn over it, and its count."""
    drawn = overlay(frame.image, read_mask(masks / f"{frame.name}.png") > 0)
    if tracks is not None:
        path = tracks / f"{frame.name}.png"
        ids = read_label_image(path if path.is_file() else path.with_suffix(".tif"))  # if many
        # What is in no track stays as any mask is drawn; the others are drawn over the plain frame.
        drawn = np.where((ids > 0)[..., None], overlay(frame.image, ids), drawn)
    caption(drawn, f"{count:g}", max(8, min(drawn.shape[:2]) // 24))
    return drawn

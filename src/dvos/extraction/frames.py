"""Videos to frames.

Every ``Interval``-th frame of a video is written to its ``FramesDir`` as
``{video stem}_{n:06d}{extension}``, n counting the saved frames from 0.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dvos.config.base import values_affecting
from dvos.config.extraction import FramesSettings
from dvos.errors import MediaError
from dvos.extraction import check_outputs, manifest_path, named_rng
from dvos.extraction.transforms import DrawnTransform, draw_transform, fits, resize
from dvos.files import digest, file_stamp, make_folder
from dvos.media.colour import hue_swap
from dvos.media.image import write_image
from dvos.media.video import VideoFile
from dvos.runner import Task, run_tasks, worker_count
from dvos.tables import ImageRow, VideoRow, read_videos, write_images

logger = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FrameJob:
    """One video to take apart.

    Attributes:
        video: The file.
        frames_dir: Folder the frames go to.
        interval: Every how manieth frame is saved, from frame 0.
        settings: How; the draw of the transform holds for the whole video.
        fingerprint: Digest of all that the frames depend on.
        threads: Decoder threads; 0 for one per core.
    """

    video: Path
    frames_dir: Path
    interval: int
    settings: FramesSettings
    fingerprint: str
    threads: int = 0


def extract_frames(settings: FramesSettings) -> Path:
    """Extract the frames of all videos of a table and list them in a CSV.

    Finished videos are not done again; of a video that was left half-done,
    the frames already written are kept.

    Returns:
        The CSV with ``Image``, in video order.

    Raises:
        TableError: If the table has faults, or two videos would write the
            same files.
        MediaError: If a video gives no frame; the others are done first.
        OutputError: If something cannot be written.
    """
    rows = read_videos(settings.videos)
    outputs = ((row.video, f"{row.frames_dir.resolve() / row.video.stem}_000000") for row in rows)
    check_outputs(settings.videos, outputs, "FramesDir")
    manifest = manifest_path(settings.out)
    make_folder(settings.out.parent)
    # Several processes share the cores: each decodes with one thread.
    alone = min(worker_count(settings.workers), len(rows)) == 1
    tasks = [_task(settings, row, manifest.parent, threads=0 if alone else 1) for row in rows]
    results = run_tasks(
        extract_video,
        tasks,
        manifest=manifest,
        description="extract frames",
        workers=settings.workers,
        unit="video",
    )
    for row, result in zip(rows, results, strict=True):
        for damage in result["damage"]:
            logger.warning("%s: %s", row.video, damage)
    write_images(
        settings.out, [ImageRow(Path(name)) for result in results for name in result["files"]]
    )
    return settings.out


def extract_video(job: FrameJob) -> dict[str, Any]:
    """Extract the frames of one video.

    A damaged video gives the frames that decode.

    Returns:
        ``files``, the frames in order, and ``damage``, a line for each thing
        that could not be decoded.

    Raises:
        MediaError: If no frame decodes, or frames are smaller than the crop.
    """
    settings = job.settings
    source = VideoFile(job.video, threads=job.threads)
    paths: list[Path] = []
    drawn: DrawnTransform | None = None
    with _notes(job) as (known, note):
        for frame in source.frames():
            if frame.frame_index % job.interval:
                continue
            path = job.frames_dir / f"{job.video.stem}_{len(paths):06d}{settings.extension}"
            paths.append(path)
            if path.name in known and path.is_file():
                continue
            image = frame.image
            if settings.hue_swap is not None:
                image = hue_swap(image, settings.hue_swap.source, settings.hue_swap.destin)
            image = _enlarged(image, settings.min_side)
            size = (image.shape[0], image.shape[1])
            if drawn is None or drawn.size != size:
                drawn = _draw(job, size)
            write_image(path, drawn(image), quality=settings.quality)
            note(path.name)
    return {"files": [str(path) for path in paths], "damage": list(source.damage)}


def _task(settings: FramesSettings, row: VideoRow, base: Path, *, threads: int) -> Task[FrameJob]:
    # Relative, so that a folder moved as a whole stays finished.
    frames_dir = os.path.relpath(row.frames_dir, base)
    video = [row.video.name, *file_stamp(row.video)]
    fingerprint = digest([values_affecting(settings), video, frames_dir, row.interval])
    job = FrameJob(row.video, row.frames_dir, row.interval, settings, fingerprint, threads)
    return Task(f"{frames_dir}/{row.video.stem}", job, fingerprint)


def _enlarged(image: Image, min_side: int) -> Image:
    height, width = image.shape[:2]
    if min(height, width) >= min_side:
        return image
    scale = min_side / min(height, width)
    return resize(
        image, (max(round(height * scale), min_side), max(round(width * scale), min_side))
    )


def _draw(job: FrameJob, size: tuple[int, int]) -> DrawnTransform:
    transform = job.settings.transform
    if not fits(transform, size):
        raise MediaError.at(
            job.video,
            f"its frames are {size[1]} x {size[0]} pixels, smaller than the crop",
            f"at least {transform.width} x {transform.height}",
            "set a larger min_side, a smaller crop, or transform.name: smallest_side_center_crop",
        )
    return draw_transform(transform, size, named_rng(job.settings.seed, job.video.stem))


@contextmanager
def _notes(job: FrameJob) -> Iterator[tuple[set[str], Callable[[str], None]]]:
    """Names of the frames that an interrupted extraction finished, and a way to note more.

    The notes stand in a hidden file in the frames' folder, which goes when
    the video is done. Notes made under another fingerprint do not count.
    """
    path = job.frames_dir / f".{job.video.stem}.unfinished"
    make_folder(job.frames_dir)
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    # A last line without its line break was torn by a kill.
    known = set(lines[1:-1]) if lines and lines[0] == job.fingerprint else set()
    with open(path, "w", encoding="utf-8", buffering=1) as stream:

        def note(name: str) -> None:
            stream.write(f"{name}\n")

        for line in (job.fingerprint, *sorted(known)):
            note(line)
        yield known, note
    path.unlink()

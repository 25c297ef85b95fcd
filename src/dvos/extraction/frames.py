"""Videos to frames: every ``Interval``-th to ``FramesDir`` as ``{stem}_{n:06d}{extension}``.

n is the frame of the video, or, as published, counts the saved frames from 0.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvos import files
from dvos.config.base import values_affecting
from dvos.config.extraction import FramesSettings
from dvos.errors import FaultCollector, MediaError
from dvos.extraction import Job, Work, named_rng, run_extraction
from dvos.extraction.cutouts import Step, draw_transform, fits, resize
from dvos.files import composed, stem_of
from dvos.media.colour import hue_swap
from dvos.media.image import write_image
from dvos.media.intensity import ASKED, MEASURED, STATED, tell
from dvos.media.layout import VIDEO_SUFFIXES, list_files
from dvos.media.video import VideoFile
from dvos.runner.manifest import Row, Task
from dvos.runner.shards import shard_table
from dvos.tables import VideoRow, read_videos, write_rows

logger = logging.getLogger(__name__)

FrameJob = Job[VideoRow, FramesSettings]


@dataclass(frozen=True)
class _VideoResult:
    """What is noted of a finished video."""

    damage: list[str]  # A line for each thing that could not be decoded
    intensity: str = "full"  # Or :data:`STATED`


def extract_frames(settings: FramesSettings) -> Path:
    """Extract the frames of all videos of a table, or of a shard, and list them in a CSV.

    Finished videos are not done again; of a video that was left half-done, the frames already
    written are kept. The CSV, in video order, is a shard's own, unless that one completes the set.
    A TableError if the table has faults, a MediaError if a video gives no frame, after the others
    are done; else as :func:`run_extraction`.
    """
    rows, source = _rows(settings), settings.videos or settings.out
    own, whole = run_extraction(extract_video, _work, rows, source, settings, [settings.out])
    table = shard_table(settings.out, settings.shard)
    _tell(own, MEASURED if settings.intensity == "auto" else ASKED)
    _list_frames(table, own)
    if any(result is None for _, result in whole):
        return table
    _list_frames(settings.out, whole)
    return settings.out


def _rows(settings: FramesSettings) -> list[VideoRow]:
    """The videos of the table, or those given by themselves."""
    if settings.videos is not None:
        return read_videos(settings.videos)
    files.check_given(("INPUTS", given) for given in settings.inputs)
    videos: list[Path] = []
    with FaultCollector(MediaError) as faults:
        for given in settings.inputs:
            found = list_files(given, VIDEO_SUFFIXES) if given.is_dir() else [given]
            if not found:
                faults.add(given, "holds no video", "a video file, or a folder of videos")
            videos += found
    folder = settings.out.with_suffix("")
    return [VideoRow(video, folder, settings.interval) for video in videos]


def _tell(results: Sequence[tuple[VideoRow, Row]], why: str) -> None:
    """Tell what could not be decoded, and which samples became black and white."""
    told: dict[str, dict[str, str]] = {why: {}, STATED: {}}
    for row, result in results:
        for damage in result["damage"]:
            logger.warning("%s: %s", row.video, damage)
        # Earlier releases did not note it.
        intensity = result.get("intensity", "full")
        if intensity != "full":
            told[STATED if intensity == STATED else why][row.video.name] = intensity
    for reason, videos in told.items():
        tell(videos, reason)


def _list_frames(table: Path, results: Sequence[tuple[VideoRow, Row | None]]) -> None:
    """Write the table: each image, and which frame of which video it shows."""
    rows = (
        (Path(name), video.video, number * video.interval)
        for video, result in results
        if result is not None
        for number, name in enumerate(result["files"])
    )
    write_rows(table, ("Image", "Video", "Frame"), rows)


def extract_video(job: FrameJob) -> dict[str, Any]:
    """Extract the frames of one video that decode: a :class:`_VideoResult`, and its ``files``.

    A MediaError if no frame decodes, or frames are smaller than the crop.
    """
    settings, row = job.settings, job.row
    source = VideoFile(row.video, threads=job.threads, intensity=settings.intensity, is_told=False)
    # Notes of frames done stand beside them until the video is; those of other settings are void.
    notes = _notes(row)
    files.make_folder(row.frames_dir)
    lines = notes.read_text("utf-8", "replace").split("\n") if notes.is_file() else []
    # A last line without its line break was torn by a kill.
    known = set(lines[1:-1]) if lines and lines[0] == job.fingerprint else set()
    files.write_text(notes, "".join(f"{line}\n" for line in (job.fingerprint, *sorted(known))))
    paths: list[Path] = []
    transform: Step | None = None
    for frame in source.frames():
        if frame.frame_index % row.interval:
            continue
        number = frame.frame_index if settings.names == "frame" else len(paths)
        path = row.frames_dir / f"{stem_of(row.video)}_{number:06d}{settings.extension}"
        paths.append(path)
        if path.name in known and path.is_file():
            continue
        image = frame.image
        if settings.hue_swap is not None:
            image = hue_swap(image, settings.hue_swap.source, settings.hue_swap.destin)
        least = settings.min_side
        scale = max(least / min(image.shape[:2]), 1.0)
        height, width = (max(round(side * scale), least) for side in image.shape[:2])
        image = resize(image, (height, width))
        transform = transform or _draw(job, (height, width))
        write_image(path, transform(image), quality=settings.quality)
        files.append_text(notes, f"{path.name}\n")
    notes.unlink()
    return {
        "files": [str(path) for path in paths],
        "damage": list(source.damage),
        "intensity": STATED if source.states_limits else source.intensity,
    }


def _notes(row: VideoRow) -> Path:
    """Where the frames of a video that are done are noted until all are."""
    return row.frames_dir / f".{stem_of(row.video)}.unfinished"


def _work(settings: FramesSettings, row: VideoRow, threads: int) -> Work[FrameJob]:
    # Relative, so that a folder moved as a whole stays finished.
    frames_dir = composed(os.path.relpath(row.frames_dir, settings.out.parent))
    video = [composed(row.video.name), *files.file_stamp(row.video)]
    limits = [] if settings.intensity == "auto" else [settings.intensity]
    known = [values_affecting(settings), video, frames_dir, row.interval, *limits]
    fingerprint = files.digest(known)
    job = FrameJob(row, settings, fingerprint, threads)
    task = Task(f"{frames_dir}/{stem_of(row.video)}", job, fingerprint, _VideoResult, row.video)
    names = f"_[0-9][0-9][0-9][0-9][0-9][0-9]{settings.extension}"
    return Work(row.video, (row.frames_dir,), "_000000", names, task, _notes(row).exists())


def _draw(job: FrameJob, size: tuple[int, int]) -> Step:
    transform = job.settings.transform
    if not fits(transform, size):
        found = f"its frames are {size[1]} x {size[0]} pixels, smaller than the crop"
        expected = f"at least {transform.width} x {transform.height}"
        remedy = (
            "set a larger min_side, a smaller crop, or transform.name: smallest_side_center_crop"
        )
        raise MediaError.at(job.row.video, found, expected, remedy)
    return draw_transform(transform, size, named_rng(job.settings.seed, stem_of(job.row.video)))

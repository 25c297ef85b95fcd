"""What a run left behind, as plain data: no files are read beyond this point but pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvos.reporting.frames import VideoPlace

__all__ = [
    "ClipFrame",
    "CountRow",
    "Figures",
    "History",
    "Interval",
    "OutputFile",
    "RunContents",
    "ScoredMask",
    "Scores",
    "Stage",
    "Still",
]


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        name: Its name.
        seconds: Wall time over all starts; None if it was not noted.
        note: What it made and whether it was interrupted, one line.
    """

    name: str
    seconds: float | None
    note: str


@dataclass(frozen=True)
class History:
    """``stages.json``: what was run, when and how; texts are empty where not noted."""

    stages: tuple[Stage, ...]
    started: str
    finished: str
    command: str
    seed: int | None


@dataclass(frozen=True)
class Interval:
    """An interval of a figure.

    Attributes:
        low: Lower end.
        high: Upper end.
        level: Confidence level, as 0.95; None where it was not noted.
        unit: What was drawn again to get it (``clip``, ``image``); may be empty.
        units: How many of them there were; None where it was not noted.
    """

    low: float
    high: float
    level: float | None = None
    unit: str = ""
    units: int | None = None


@dataclass(frozen=True)
class Figures:
    """Figures of some masks: their values and intervals by name."""

    values: dict[str, float]
    intervals: dict[str, Interval]


@dataclass(frozen=True)
class Scores(Figures):
    """``scores.json``.

    Attributes:
        clips: Figures of each clip, by clip and name.
        counts: Figures of object counts against the truth, by name.
        instances: Figures of single objects, by name.
        domains: Figures of each domain.
        domain_mean: Their mean over domains; None without domains.
    """

    clips: dict[str, dict[str, float]]
    counts: dict[str, float]
    instances: dict[str, float]
    domains: dict[str, Figures]
    domain_mean: Figures | None


@dataclass(frozen=True)
class ScoredMask:
    """A row of ``scores.csv``; None: the frame is not known, no prediction was there."""

    image: Path | VideoPlace | None
    mask: Path
    prediction: Path | None
    iou: float | None
    dice: float | None


@dataclass(frozen=True)
class CountRow:
    """A row of ``counts.csv``; None where a cell is empty or the column is not there.

    Attributes:
        clip: Its clip.
        frame_index: The frame, from 0.
        time_s: Seconds from the clip's start.
        coverage: Share of the frame that is object, 0 to 1.
        count: Objects found in the frame.
        smooth: Count evened out over time.
        low: Lower end of its interval.
        high: Upper end.
        density: Objects per square metre.
    """

    clip: str
    frame_index: int
    time_s: float | None
    coverage: float | None
    count: float | None
    smooth: float | None = None
    low: float | None = None
    high: float | None = None
    density: float | None = None


@dataclass(frozen=True)
class Still:
    """A labelled photo and its mask."""

    image: Path
    mask: Path


@dataclass(frozen=True)
class ClipFrame:
    """A frame of a synthetic clip; ``clip`` names the clip, background included."""

    clip: str
    fid: int
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class OutputFile:
    """A result worth knowing of; ``size`` is in bytes, None for a folder."""

    path: Path
    purpose: str
    size: int | None


@dataclass(frozen=True)
class RunContents:
    """Everything found in a run's folder; what was not there is None or empty.

    Attributes:
        folder: The folder reported on.
        history: Stages and command.
        scores: Overall figures.
        scored: One entry a scored mask, in file order.
        facts: ``run.json`` of the training: seed, versions, hardware, hashes.
        records: ``records.csv`` by column; NaN where a cell is empty.
        counts: Counts over the predicted videos, by clip in file order.
        held_out: Whether these are the held-out clips, as there is no target.
        videos: Overlay video of a clip, by clip name.
        frame_masks: Predicted masks of a clip in order, where it has no overlay video.
        overlays: Overlay pictures of predicted photos.
        stills: Labelled stills.
        cutouts: RGBA crops of objects.
        distractors: RGBA crops that are no objects.
        clip_frames: Frames of the synthetic clips that were stored.
        settings: Text of each resolved settings file, by its name relative to ``folder``.
        files: The results and what they are.
    """

    folder: Path
    history: History | None
    scores: Scores | None
    scored: tuple[ScoredMask, ...]
    facts: dict[str, Any]
    records: dict[str, list[float]]
    counts: dict[str, list[CountRow]]
    held_out: bool
    videos: dict[str, Path]
    frame_masks: dict[str, list[Path]]
    overlays: tuple[Path, ...]
    stills: tuple[Still, ...]
    cutouts: tuple[Path, ...]
    distractors: tuple[Path, ...]
    clip_frames: tuple[ClipFrame, ...]
    settings: dict[str, str]
    files: tuple[OutputFile, ...]

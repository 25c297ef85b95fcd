"""Settings of ``dvos score`` and ``dvos report``."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dvos.config.base import Natural, Settings, Void, setting
from dvos.config.labelling import Classes


def _check_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from error
    return value


ScoredFrames = Annotated[
    Literal["last", "all", "labelled"],
    Field(
        description="which frames count: the last of each clip (as published), all that have a"
        " mask, or those with Label 1 (in a folder: all)"
    ),
]
Domain = Annotated[
    Annotated[str, AfterValidator(_check_pattern)] | None,
    Field(
        description="regular expression that finds the domain in <clip>/<frame>: its first group,"
        " or all it matches; null = the column Domain of a CSV, if it has one"
    ),
]


class ScoringSettings(Settings):
    """What is scored against what, and where the scores go."""

    truth: Path | None = setting(None, "folder or CSV of true masks, or labels of another program")
    classes: Classes = None
    predictions: Path = Field(description="folder of predicted masks, <clip>/<frame>.png or flat")
    out: Path = setting(Path("scores"), "folder for scores.csv, scores.json and pictures")
    frames: ScoredFrames = "labelled"
    void: Void = "auto"
    images: Path | None = setting(None, "frames or videos, for overlays and stability")
    overlay_interval: Natural = setting(0, "overlay of every n-th mask; 0 = best, median, worst")
    tracks: bool = setting(False, "also score tracks into tracks.json, by permanent ids")
    border: Natural = setting(
        0, "with tracks: objects wholly within so many pixels of a frame's edge do not count"
    )
    counts: Path | None = setting(None, "CSV of counts by hand (Image or clip, count) to compare")
    boundary_tolerance: float = setting(
        0.008, "tolerance of boundary F as a share of the diagonal", gt=0, lt=0.5
    )
    domain: Domain = None
    temporal: bool = setting(True, "measure steadiness between frames; not for loose photos")
    flow_frames: Natural = setting(300, "frames followed by optical flow, which is slow; 0 = none")
    confidence: float = setting(0.95, "level of the bootstrap intervals", gt=0, lt=1)
    seed: Natural = setting(123, "seed of the bootstrap draws")
    workers: Natural = setting(0, "threads, or processes of many masks; 0 = one per core")

    def _faults(self) -> Iterator[str]:
        if self.truth is None and self.counts is None:
            yield "give true masks as truth, or counts by hand as counts"
        if self.truth is None and self.tracks:
            yield "tracks need true masks; give them as truth"
        if self.border and not self.tracks:
            yield "border is for tracks; set tracks, too"


class ReportSettings(Settings):
    """What to report on, and how large its pictures are."""

    run: Path = Field(description="folder that demo, train, predict, evaluate or score wrote")
    compare: list[Path] = setting([], "further runs, at most 5, set side by side with run")
    out: Path | None = setting(None, "HTML file, or a folder for report.html; none = in run")
    frames: Path | None = setting(None, "video or folder with the scored frames; none = in run")
    title: str = setting("", "heading of the page; empty = made from the folder's name")
    picture_width: int = setting(1200, "longer side of large pictures, pixels", ge=120, le=1600)
    compared_frames: Natural = setting(6, "most different frames shown of several runs", le=40)
    stills: Natural = setting(6, "labelled stills shown at most", le=40)
    clips: Natural = setting(2, "synthetic clips shown at most", le=20)
    sprites: Natural = setting(36, "cutouts, and distractors, shown at most", le=400)
    film_frames: Natural = setting(8, "frames of the target video shown at most", le=60)

    def _faults(self) -> Iterator[str]:
        if len(self.compare) > 5:
            runs = f"{1 + len(self.compare)} runs are given"
            yield f"{runs}; give at most six (run, and at most 5 more to compare it with)"

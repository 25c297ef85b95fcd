"""Settings of ``dvos report``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from dvos.config.base import Settings


class ReportSettings(Settings):
    """What to report on, and how large its pictures are."""

    run: Path = Field(
        description="folder to report on: written by dvos demo, train, predict, evaluate or score"
    )
    compare: list[Path] = Field(
        [],
        max_length=5,
        description="further runs, set side by side with run on one page",
    )
    out: Path | None = Field(
        None,
        description="HTML file, or a folder for report.html (comparison.html of several runs);"
        " none = in run",
    )
    frames: Path | None = Field(
        None,
        description="video, or folder of videos or images, that holds the scored frames where"
        " scores.csv gives only their names; none = RUN/sample/validation",
    )
    title: str = Field("", description="heading of the page; empty = made from the folder's name")
    picture_width: int = Field(
        480, ge=120, le=1600, description="pixels across a large picture; small ones follow it"
    )
    compared_frames: int = Field(
        6, ge=0, le=40, description="frames shown of several runs, the greatest differences first"
    )
    stills: int = Field(6, ge=0, le=40, description="labelled stills shown at most")
    clips: int = Field(2, ge=0, le=20, description="synthetic clips shown at most")
    sprites: int = Field(36, ge=0, le=400, description="cutouts, and distractors, shown at most")
    film_frames: int = Field(8, ge=0, le=60, description="frames of the target video shown at most")

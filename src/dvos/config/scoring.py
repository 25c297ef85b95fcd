"""Settings of ``dvos score``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dvos.config.base import Settings


def _compiles(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from error
    return value


#: A regular expression.
Pattern = Annotated[str, AfterValidator(_compiles)]


class ScoringSettings(Settings):
    """What is scored against what, and where the scores go."""

    truth: Path = Field(
        description="folder of true masks (flat or one sub-folder a clip) or CSV with"
        " VID,FID,Image,Mask,Label"
    )
    predictions: Path = Field(description="folder of predicted masks, <clip>/<frame>.png or flat")
    out: Path = Field(Path("scores"), description="folder for scores.csv, scores.json and pictures")
    frames: Literal["last", "all", "labelled"] = Field(
        "labelled",
        description="which frames count: the last of each clip (as published), all that have a"
        " mask, or those with Label 1 (in a folder: all)",
    )
    images: Path | None = Field(
        None,
        description="folder of the frames, or video file, or folder of videos, for overlays and"
        " temporal stability; a CSV names its frames itself; without any, overlays are drawn on"
        " black",
    )
    overlay_interval: int = Field(
        0, ge=0, description="an overlay picture of every n-th mask; 0 = best, median, worst only"
    )
    boundary_tolerance: float = Field(
        0.008, gt=0, lt=0.5, description="tolerance of boundary F as a share of the diagonal"
    )
    domain: Pattern | None = Field(
        None,
        description="regular expression that finds the domain in <clip>/<frame>: its first group,"
        " or all it matches; null = the column Domain of a CSV, if it has one",
    )
    temporal: bool = Field(
        True,
        description="measure how steady masks are from frame to frame; false where the masks of a"
        " folder are photos in no order",
    )
    flow_frames: int = Field(
        300,
        ge=0,
        description="frames, spread evenly, at which temporal stability follows the motion by"
        " optical flow; each takes about as long as scoring 10 masks; 0 = none",
    )
    confidence: float = Field(0.95, gt=0, lt=1, description="level of the bootstrap intervals")
    seed: int = Field(123, ge=0, description="seed of the bootstrap draws")
    workers: int = Field(0, ge=0, description="threads; 0 = one per core")

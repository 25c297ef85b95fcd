"""Settings of ``dvos evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from dvos.config.prediction import PredictionOptions
from dvos.config.scoring import Pattern

__all__ = ["EvaluationSettings"]


class EvaluationSettings(PredictionOptions):
    """Which labelled clips a checkpoint is tried on, and where the scores go."""

    truth: Path = Field(
        description="CSV with VID,FID,Image,Mask,Label, or folder of true masks (then give input)"
    )
    input: Path | None = Field(
        None, description="the frames, as for predict; null = those that the CSV names"
    )
    out: Path = Field(
        Path("evaluation"), description="folder for predictions/, scores.csv, scores.json, pictures"
    )
    frames: Literal["last", "all", "labelled"] = Field(
        "labelled",
        description="which frames count: the last of each clip (as published), all that have a"
        " mask, or those with Label 1 (in a folder: all)",
    )
    domain: Pattern | None = Field(
        None,
        description="regular expression that finds the domain in <clip>/<frame>: its first group,"
        " or all it matches; null = the column Domain of a CSV, if it has one",
    )
    overlay_interval: int = Field(
        10, ge=0, description="an overlay picture of every n-th mask; 0 = best, median, worst only"
    )

"""Settings of ``dvos rounds``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from dvos.config.base import AFFECTS_NOTHING, Settings
from dvos.config.pseudo import PseudoLabelOptions

__all__ = ["RoundsSettings", "UnlabelledSettings"]


class UnlabelledSettings(Settings):
    """Unlabelled video or photos."""

    input: Path = Field(
        description="video file, folder of frames, of videos or of clips, or CSV, as for predict"
    )
    stills: bool = Field(False, description="the images are photos, each a pan clip of its own")


class RoundsSettings(Settings):
    """Train, then predict, accept and train again, while validation gains."""

    out: Path = Field(
        Path("rounds"),
        description="folder for everything the rounds make",
        json_schema_extra=AFFECTS_NOTHING,
    )
    unlabelled: list[UnlabelledSettings] = Field(
        min_length=1, description="what is predicted, e.g. [{input: field.mp4}]"
    )
    train: dict[str, Any] = Field(
        description="settings of dvos train, without out and resume, e.g. "
        "{data: {stills: {folders: [labelled]}}}"
    )
    retrain: dict[str, Any] = Field(
        {}, description="what differs from train in rounds after the first training"
    )
    pseudo_label: PseudoLabelOptions = Field(
        PseudoLabelOptions(), description="how frames are predicted and judged"
    )
    rounds: int = Field(
        3,
        ge=1,
        description="rounds of predicting, accepting and training again",
        # More of them go on from the last.
        json_schema_extra=AFFECTS_NOTHING,
    )
    start: Path | None = Field(
        None, description="trained network that predicts first; null: round 0 trains it"
    )
    start_from: Literal["previous", "scratch"] = Field(
        "previous",
        description="what each round's training starts from: the weights of the round before, or "
        "those that train names",
    )
    pseudo_share: float = Field(
        0.5, gt=0, lt=1, description="share of pseudo-labelled clips in a round's training"
    )
    tolerance: float = Field(
        0.01,
        ge=0,
        le=1,
        description="the rounds end when the validation Dice falls by more than this below the "
        "highest so far; the latest round that has not is kept as best",
    )

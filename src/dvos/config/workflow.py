"""Settings of ``dvos demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import AFFECTS_NOTHING, Settings
from dvos.config.sample import SampleSettings
from dvos.config.scene import SceneSettings


class DemoSettings(Settings):
    """The whole method in one command."""

    out: Path = Field(
        Path("demo-run"),
        description="folder for everything the demo makes",
        json_schema_extra=AFFECTS_NOTHING,
    )
    data: Path | None = Field(
        None,
        description="folder with annotated/, backgrounds/ and validation/; null renders the sample "
        "field",
    )
    sample: SampleSettings = Field(
        SampleSettings(), description="the sample field, where data is null"
    )
    scene: SceneSettings = Field(SceneSettings(), description="what the synthetic clips show")
    clips: int | None = Field(
        None, ge=1, description="training clips in all; null: a number that suits the data"
    )
    epochs: int = Field(12, ge=1, description="epochs they are parted into")
    synthetic_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of synthetic clips in training, made on the fly: cutouts pasted among "
        "the stills' own objects, some over bare background; null: 1/n with n stills, at most 1/2, "
        "and 0 from 10 stills on",
    )
    background_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of clips of bare background with empty masks, null: the share that "
        "measured best; what is left of 1 are pan clips of the labelled stills",
    )
    preview_clips: int = Field(3, ge=0, description="synthetic clips also written to disk")
    min_object_size: int = Field(
        64, ge=1, description="smallest object in pixels that is cut out of the stills"
    )
    train: dict[str, Any] = Field(
        {}, description="further settings of dvos train, e.g. {batch: 4, data: {crop: 192}}"
    )
    augment: Literal["none", "flips"] = Field(
        "flips",
        description="flips averages each prediction over the four mirror images, at four times the "
        "cost",
    )
    seed: int = Field(123, ge=0, description="of everything that is drawn")
    workers: int = Field(
        0, ge=0, description="processes; 0 = one per core", json_schema_extra=AFFECTS_NOTHING
    )
    device: str = Field("auto", description="auto, cpu, cuda or mps")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.synthetic_share or 0) + (self.background_share or 0) > 1:
            raise ValueError(
                "synthetic_share and background_share add up to more than 1; lower one of them"
            )
        return self

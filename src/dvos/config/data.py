"""Settings of the clips a network is trained and validated on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from dvos.config.augmentation import (
    ColourSettings,
    DegradationSettings,
    DiffusionSettings,
    MotionSettings,
    SpatialSettings,
)
from dvos.config.base import AFFECTS_NOTHING, Settings
from dvos.config.scene import SceneSettings

Share = float | Literal["auto"]


_UNKNOWN: Any = Field(
    None,
    ge=1,
    description="mask value that means unknown, beside 65535 in masks of ids and 128 in masks that "
    "hold only 0, 128 and 255",
)


class LabelledStillsSettings(Settings):
    """Where labelled stills are."""

    tables: list[Path] = Field([], description="CSV tables Image,Mask of labelled stills")
    folders: list[Path] = Field(
        [],
        description="folders with images/ and masks/ (or head_mask/), files of the same stem",
    )
    ignore_value: int | None = _UNKNOWN
    scale: float = Field(1.0, gt=0, le=4, description="stills are resized by this when read")


class StillsSettings(LabelledStillsSettings):
    """Labelled stills as simulated pans."""

    motion: MotionSettings = Field(MotionSettings(), description="how the window moves (a preset)")


class SyntheticSettings(Settings):
    """Synthetic clips made on the fly."""

    scene: SceneSettings = Field(SceneSettings(), description="what the clips show")
    backgrounds: list[Path] = Field(
        [],
        description="CSV tables Image of background frames, or Image,Mask of labelled stills: "
        "cutouts are then pasted among the stills' own objects",
    )
    cutouts: list[Path] = Field([], description="CSV tables Image of cutouts")
    distractors: list[Path] = Field([], description="CSV tables Image of distractors; may be empty")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if bool(self.backgrounds) != bool(self.cutouts) or (
            self.distractors and not self.backgrounds
        ):
            raise ValueError("synthetic clips need backgrounds and cutouts; give both, or neither")
        return self


class ClipsSettings(Settings):
    """Labelled clips on the disk."""

    tables: list[Path] = Field([], description="CSV tables VID,FID,Image,Mask,Label")
    folders: list[Path] = Field(
        [],
        description="folders with frames/CLIP and masks/CLIP, CLIP/frames and CLIP/masks, "
        "or frames and masks",
    )
    ignore_value: int | None = _UNKNOWN
    references: Literal["interval", "random"] = Field(
        "interval",
        description="interval: references lie one of the intervals apart; random: drawn from as "
        "far back as the largest interval reaches (validation goes by interval)",
    )
    intervals: list[int] = Field(
        [1],
        min_length=1,
        description="steps between references, in frame ids; one is drawn for each sample, in "
        "validation the first is used",
    )

    @model_validator(mode="after")
    def _intervals_positive(self) -> Self:
        if min(self.intervals) < 1:
            raise ValueError(f"intervals holds {min(self.intervals)}; give steps of at least 1")
        return self


class EmptySettings(Settings):
    """Photos without objects as simulated pans with empty masks."""

    tables: list[Path] = Field([], description="CSV tables Image of photos without objects")
    folders: list[Path] = Field([], description="folders of photos without objects")


class PseudoSettings(Settings):
    """Frames that a network has labelled, in tables as dvos pseudo-label writes them.

    They are never used in validation.
    """

    stills: list[Path] = Field([], description="CSV tables Image,Mask, used as simulated pans")
    clips: list[Path] = Field(
        [], description="CSV tables VID,FID,Image,Mask,Label; references as under clips"
    )
    ignore_value: int = Field(128, ge=1, description="mask value that means unknown")
    weight: float = Field(
        1.0, gt=0, le=10, description="multiplies the weight of the pixels of such clips"
    )

    @field_validator("stills", "clips", mode="before")
    @classmethod
    def _earlier_form(cls, given: Any) -> Any:
        # Version 0.1.0 wrote {tables: [...]}.
        return given["tables"] if isinstance(given, dict) and set(given) == {"tables"} else given


class ShareSettings(Settings):
    """How often each source is used; only the proportions count."""

    stills: Share = Field("auto", description="pans over stills; auto: 1 if there are any")
    synthetic: Share = Field("auto", description="synthetic clips; auto: 1 if there are any")
    clips: Share = Field("auto", description="clips on the disk; auto: 1 if there are any")
    empty: Share = Field(0.0, description="clips without objects; auto: 1 if there are any")
    pseudo: Share = Field("auto", description="pseudo-labels; auto: 1 if there are any")

    @model_validator(mode="after")
    def _not_negative(self) -> Self:
        for name, share in self:
            if share != "auto" and not 0 <= share < float("inf"):
                raise ValueError(f"{name} is {share}; give 0 or more, or auto")
        return self


class LabelledVideoSettings(Settings):
    """A video file and masks of some of its frames."""

    video: Path = Field(description="video file, or folder of frames")
    masks: Path = Field(
        description="folder of masks named as frames: {video stem}_{frame index of 6 digits}"
    )
    ignore_value: int | None = _UNKNOWN


class ValidationSettings(Settings):
    """What validation is measured on: whole frames, nothing augmented.

    If no source is named here, a share of the labelled stills and clips is
    held back from training.
    """

    stills: LabelledStillsSettings = Field(
        LabelledStillsSettings(), description="labelled stills, as pans over the whole photo"
    )
    clips: ClipsSettings = Field(ClipsSettings(), description="labelled clips")
    videos: list[LabelledVideoSettings] = Field([], description="videos with masks of some frames")
    synthetic: int = Field(0, ge=0, description="number of synthetic clips, made as for training")
    share: float = Field(
        0.2,
        ge=0,
        le=0.9,
        description="share of stills and clips held back if nothing is named above; fewer than "
        "four are not parted",
    )
    speed: float = Field(3.0, ge=0, description="speed of the pans, pixels per frame")
    largest_side: int = Field(
        1024, ge=32, description="larger frames are cut to this many pixels about the middle"
    )
    limit: int = Field(
        64, ge=1, description="most queries of clips and videos, spread evenly over them"
    )


class DataSettings(Settings):
    """Clips for training and validation, and how they are changed."""

    stills: StillsSettings = Field(
        StillsSettings(), description="labelled stills as simulated pans"
    )
    synthetic: SyntheticSettings = Field(SyntheticSettings(), description="synthetic clips")
    clips: ClipsSettings = Field(ClipsSettings(), description="labelled clips on the disk")
    empty: EmptySettings = Field(EmptySettings(), description="photos without objects")
    pseudo: PseudoSettings = Field(PseudoSettings(), description="pseudo-labelled photos and clips")
    shares: ShareSettings = Field(ShareSettings(), description="how often each source is used")
    crop: int = Field(160, ge=32, le=2048, description="side of the training clips, pixels")
    object_share: float = Field(
        0.7, ge=0, le=1, description="share of windows laid so that they hold an object"
    )
    spatial: SpatialSettings = Field(
        SpatialSettings(), description="changes of geometry (a preset)"
    )
    colour: ColourSettings = Field(ColourSettings(), description="changes of colour (a preset)")
    degradation: DegradationSettings = Field(
        DegradationSettings(), description="blur, noise, compression, low resolution (a preset)"
    )
    diffusion: DiffusionSettings = Field(
        DiffusionSettings(), description="noised patches of the references (a preset)"
    )
    memory_mb: int = Field(
        1024,
        ge=1,
        description="decoded stills and frames kept in memory, MiB per process",
        json_schema_extra=AFFECTS_NOTHING,
    )
    validation: ValidationSettings = Field(
        ValidationSettings(), description="what validation is measured on"
    )

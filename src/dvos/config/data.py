"""Settings of the clips a network is trained and validated on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import Settings
from dvos.config.scene import SceneSettings

__all__ = [
    "ClipsSettings",
    "ColourSettings",
    "DataSettings",
    "DegradationSettings",
    "DiffusionSettings",
    "EmptySettings",
    "LabelledStillsSettings",
    "LabelledVideoSettings",
    "MotionSettings",
    "PseudoSettings",
    "PseudoTablesSettings",
    "ShareSettings",
    "SpatialSettings",
    "StillsSettings",
    "SyntheticSettings",
    "ValidationSettings",
    "WindSettings",
]

Share = float | Literal["auto"]


class MotionSettings(Settings):
    """How the window of a pan clip moves over its photo."""

    speed: float = Field(6.0, ge=0, description="highest usual speed, pixels of the crop per frame")
    fast_speed: float = Field(
        16.0, ge=0, description="highest speed of a fast clip, pixels of the crop per frame"
    )
    fast_share: float = Field(0.15, ge=0, le=1, description="share of fast clips")
    still_share: float = Field(0.1, ge=0, le=1, description="share of clips in which nothing moves")
    acceleration: float = Field(
        0.4, ge=0, description="spread of the change of speed, pixels per frame per frame"
    )
    zoom: float = Field(
        0.004, ge=0, le=0.1, description="spread of the change of size per frame, a fraction"
    )
    turn: float = Field(0.3, ge=0, le=10, description="spread of the rotation per frame, degrees")
    shake: float = Field(0.3, ge=0, description="spread of each frame's own offset, pixels")

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.fast_share + self.still_share > 1:
            raise ValueError("fast_share and still_share add up to more than 1; lower one of them")
        return self


class WindSettings(Settings):
    """How the references of a pan clip sway against its query."""

    share: float = Field(0.4, ge=0, le=1, description="share of pan clips with wind; 0 for none")
    amplitude: float = Field(2.5, ge=0, description="largest swing, pixels of the crop")


class LabelledStillsSettings(Settings):
    """Where labelled stills are."""

    tables: list[Path] = Field([], description="CSV tables Image,Mask of labelled stills")
    folders: list[Path] = Field(
        [],
        description="folders with images/ and masks/ (or head_mask/), files of the same stem",
    )
    ignore_value: int | None = Field(
        None, ge=1, description="mask value that means unknown; null if there is none"
    )
    scale: float = Field(1.0, gt=0, le=4, description="stills are resized by this when read")


class StillsSettings(LabelledStillsSettings):
    """Labelled stills as pan clips."""

    motion: MotionSettings = Field(MotionSettings(), description="how the window moves")
    wind: WindSettings = Field(WindSettings(), description="how the references sway")


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
    ignore_value: int | None = Field(
        None, ge=1, description="mask value that means unknown; null if there is none"
    )
    references: Literal["interval", "random"] = Field(
        "interval",
        description="interval: references lie one of the intervals apart; random: drawn from as "
        "far back as the largest interval reaches (in training; validation goes by interval)",
    )
    intervals: list[int] = Field(
        [1],
        min_length=1,
        description="steps between references, in frame ids; one is drawn for each sample",
    )

    @model_validator(mode="after")
    def _intervals_positive(self) -> Self:
        if min(self.intervals) < 1:
            raise ValueError(f"intervals holds {min(self.intervals)}; give steps of at least 1")
        return self


class EmptySettings(Settings):
    """Photos without objects as pan clips with empty masks."""

    tables: list[Path] = Field([], description="CSV tables Image of photos without objects")
    folders: list[Path] = Field([], description="folders of photos without objects")


class PseudoTablesSettings(Settings):
    """Tables of pseudo-labels."""

    tables: list[Path] = Field([], description="CSV tables, as dvos pseudo-label writes them")


class PseudoSettings(Settings):
    """Frames that a network has labelled; never used in validation."""

    stills: PseudoTablesSettings = Field(
        PseudoTablesSettings(), description="tables Image,Mask of photos, used as pan clips"
    )
    clips: PseudoTablesSettings = Field(
        PseudoTablesSettings(),
        description="tables VID,FID,Image,Mask,Label; references as under clips",
    )
    ignore_value: int = Field(128, ge=1, description="mask value that means unknown")
    weight: float = Field(
        1.0, gt=0, le=10, description="multiplies the weight of the pixels of such clips"
    )


class ShareSettings(Settings):
    """How often each source is used; only the proportions count."""

    stills: Share = Field("auto", description="pan clips of stills; auto: 1 if there are any")
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


class SpatialSettings(Settings):
    """Changes of geometry, one draw for all frames of a clip and its mask."""

    scale: tuple[float, float] = Field(
        (0.4, 1.6), description="lowest and highest size of objects relative to their own"
    )
    flip: bool = Field(True, description="mirror left-right and up-down, half the time each")
    quarter_turn: float = Field(0.5, ge=0, le=1, description="share of clips turned by 90 degrees")
    rotation: float = Field(30.0, ge=0, le=180, description="largest rotation, degrees")
    rotation_share: float = Field(0.3, ge=0, le=1, description="share of rotated, stretched clips")
    stretch: float = Field(0.15, ge=0, le=1, description="largest change of aspect, a fraction")
    elastic: float = Field(4.0, ge=0, le=16, description="largest elastic displacement, pixels")
    elastic_share: float = Field(0.2, ge=0, le=1, description="share of deformed clips")

    @model_validator(mode="after")
    def _scale_in_order(self) -> Self:
        low, high = self.scale
        if not 0.05 <= low <= high <= 10:
            raise ValueError(
                f"scale is [{low}, {high}]; give the lower end first, both from 0.05 to 10"
            )
        return self


class ColourSettings(Settings):
    """Changes of colour: one draw per clip and a small one more per reference, or one each."""

    strength: float = Field(0.5, ge=0, le=3, description="multiplies all below; 0 for none")
    brightness: float = Field(0.35, ge=0, le=2, description="spread of the logarithm of exposure")
    contrast: float = Field(0.25, ge=0, le=1, description="spread of the logarithm of contrast")
    saturation: float = Field(0.35, ge=0, le=2, description="spread of its logarithm")
    gain: float = Field(0.12, ge=0, le=1, description="spread of the logarithm of channel gains")
    hue: float = Field(25.0, ge=0, le=180, description="largest rotation of the hue, degrees")
    gamma: float = Field(0.3, ge=0, le=1, description="spread of the logarithm of gamma")
    grey_share: float = Field(0.05, ge=0, le=1, description="share of clips without colour")
    shade_share: float = Field(0.3, ge=0, le=1, description="share of clips in uneven light")
    shade: float = Field(0.25, ge=0, le=1, description="spread of the logarithm of that light")
    per_frame: float = Field(
        0.1, ge=0, le=1, description="draw of each reference of its own, relative to the clip's"
    )
    shared: bool = Field(
        True,
        description="one draw for the clip, per_frame more for each reference; false: a full draw "
        "for each frame (published)",
    )
    query: bool = Field(True, description="change the query too (published: only references)")


class DegradationSettings(Settings):
    """What a camera takes away: sharpness, resolution, clean pixels."""

    strength: float = Field(0.5, ge=0, le=3, description="multiplies all shares; 0 for none")
    blur_share: float = Field(0.3, ge=0, le=1, description="share of clips out of focus")
    blur: float = Field(1.6, ge=0, le=10, description="largest Gaussian deviation, pixels")
    motion_share: float = Field(0.15, ge=0, le=1, description="share of clips with motion blur")
    motion: float = Field(7.0, ge=0, le=50, description="longest motion blur, pixels")
    resolution_share: float = Field(
        0.15, ge=0, le=1, description="share of clips shrunk and enlarged again"
    )
    resolution: float = Field(0.4, gt=0, le=1, description="strongest shrinking, a fraction")
    noise_share: float = Field(0.3, ge=0, le=1, description="share of noisy clips")
    noise: float = Field(12.0, ge=0, le=100, description="largest noise deviation, grey levels")
    jpeg_share: float = Field(0.2, ge=0, le=1, description="share of clips sent through JPEG")
    jpeg_quality: int = Field(30, ge=1, le=95, description="lowest JPEG quality")
    shared: bool = Field(
        True, description="one draw for the clip; false: one for each frame (published)"
    )
    query: bool = Field(True, description="change the query too (published: only references)")


class DiffusionSettings(Settings):
    """Input diffusion: patches of the references are noised in training, never the query's."""

    share: float = Field(
        0.0, ge=0, le=1, description="share of the patches that are noised (published: 0.5)"
    )
    patch: int = Field(32, ge=4, le=2048, description="side of a patch, pixels")
    steps: int = Field(
        750, ge=1, le=1000, description="noised up to a step below this, of 1000; 1000 is noise"
    )
    blank: float = Field(0.0, ge=0, le=1, description="share of the patches that are blanked")


class LabelledVideoSettings(Settings):
    """A video file and masks of some of its frames."""

    video: Path = Field(description="video file, or folder of frames")
    masks: Path = Field(
        description="folder of masks named as frames: {video stem}_{frame index of 6 digits}"
    )
    ignore_value: int | None = Field(None, ge=1, description="mask value that means unknown")


class ValidationSettings(Settings):
    """What validation is measured on: whole frames, nothing augmented.

    If no source is named here, a share of the labelled stills and clips is
    held back from training.
    """

    stills: LabelledStillsSettings = Field(
        LabelledStillsSettings(), description="labelled stills, as pan clips over the whole photo"
    )
    clips: ClipsSettings = Field(
        ClipsSettings(), description="labelled clips; the first of the intervals is used"
    )
    videos: list[LabelledVideoSettings] = Field([], description="videos with masks of some frames")
    synthetic: int = Field(0, ge=0, description="number of synthetic clips, made as for training")
    share: float = Field(
        0.2,
        ge=0,
        le=0.9,
        description="share of stills and clips held back if nothing is named above; fewer than "
        "four are not parted",
    )
    speed: float = Field(3.0, ge=0, description="speed of the pan clips, pixels per frame")
    largest_side: int = Field(
        1024, ge=32, description="larger frames are cut to this many pixels about the middle"
    )
    limit: int = Field(
        64, ge=1, description="most queries of clips and videos, spread evenly over them"
    )


class DataSettings(Settings):
    """Clips for training and validation, and how they are changed."""

    stills: StillsSettings = Field(StillsSettings(), description="labelled stills as pan clips")
    synthetic: SyntheticSettings = Field(SyntheticSettings(), description="synthetic clips")
    clips: ClipsSettings = Field(ClipsSettings(), description="labelled clips on the disk")
    empty: EmptySettings = Field(EmptySettings(), description="photos without objects")
    pseudo: PseudoSettings = Field(PseudoSettings(), description="pseudo-labelled photos and clips")
    shares: ShareSettings = Field(ShareSettings(), description="how often each source is used")
    crop: int = Field(160, ge=32, le=2048, description="side of the training clips, pixels")
    object_share: float = Field(
        0.7, ge=0, le=1, description="share of windows laid so that they hold an object"
    )
    spatial: SpatialSettings = Field(SpatialSettings(), description="changes of geometry")
    colour: ColourSettings = Field(ColourSettings(), description="changes of colour")
    degradation: DegradationSettings = Field(
        DegradationSettings(), description="blur, noise, compression, low resolution"
    )
    diffusion: DiffusionSettings = Field(
        DiffusionSettings(), description="noised patches of the references"
    )
    memory_mb: int = Field(
        1024, ge=1, description="decoded stills and frames kept in memory, MiB per process"
    )
    validation: ValidationSettings = Field(
        ValidationSettings(), description="what validation is measured on"
    )

"""Settings of the clips a network is trained and validated on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from dvos.config.augmentation import (
    ColourSettings,
    DegradationSettings,
    DiffusionSettings,
    MotionSettings,
    SpatialSettings,
)
from dvos.config.base import Count, Fraction, Intensity, Natural, Settings, Void, free, setting
from dvos.config.labelling import Classes
from dvos.config.scene import SceneSettings

Share = float | Literal["auto"]


class LabelledStillsSettings(Settings):
    """Where labelled stills are."""

    tables: list[Path] = setting([], "CSV tables Image,Mask of labelled stills")
    folders: list[Path] = setting([], "folders with images/ and masks/ or head_mask/, same stems")
    void: Void = "auto"
    scale: float = setting(1.0, "stills are resized by this when read", gt=0, le=4)


class StillsSettings(LabelledStillsSettings):
    """Labelled stills as simulated pans."""

    motion: MotionSettings = setting(MotionSettings(), "how the window moves (a preset)")


class SyntheticSettings(Settings):
    """Synthetic clips made on the fly."""

    scene: SceneSettings = setting(SceneSettings(), "what the clips show")
    backgrounds: list[Path] = setting([], "CSVs Image of bare ground, or Image,Mask of stills")
    cutouts: list[Path] = setting([], "CSV tables Image of cutouts")
    distractors: list[Path] = setting([], "CSV tables Image of distractors; may be empty")
    void: Void = "auto"

    def _faults(self) -> Iterator[str]:
        if bool(self.backgrounds) != bool(self.cutouts) or (
            self.distractors and not self.backgrounds
        ):
            yield "synthetic clips need backgrounds and cutouts; give both, or neither"


class ClipsSettings(Settings):
    """Labelled clips on the disk."""

    tables: list[Path] = setting([], "CSV tables VID,FID,Image,Mask,Label")
    folders: list[Path] = setting([], "frames/CLIP and masks/CLIP, CLIP/frames and CLIP/masks")
    void: Void = "auto"
    references: Literal["interval", "random"] = setting(
        "interval",
        "interval: one of the intervals apart; random: as far back as the largest reaches",
    )
    intervals: list[int] = setting([1], "frame ids between references, one is drawn", min_length=1)

    def _faults(self) -> Iterator[str]:
        if min(self.intervals) < 1:
            yield f"intervals holds {min(self.intervals)}; give steps of at least 1"


class EmptySettings(Settings):
    """Photos without objects as simulated pans with empty masks."""

    tables: list[Path] = setting([], "CSV tables Image of photos without objects")
    folders: list[Path] = setting([], "folders of photos without objects")


class PseudoSettings(Settings):
    """Frames that a network has labelled, as dvos pseudo-label lists them; not for validation."""

    stills: list[Path] = setting([], "CSV tables Image,Mask, used as simulated pans")
    clips: list[Path] = setting([], "CSV tables VID,FID,Image,Mask,Label; references as in clips")
    void: Void = "128"
    weight: float = setting(1.0, "factor on the weight of such clips' pixels", gt=0, le=10)

    @field_validator("stills", "clips", mode="before")
    @classmethod
    def _read_earlier_form(cls, given: Any) -> Any:
        # Version 0.1.0 wrote {tables: [...]}.
        return given["tables"] if isinstance(given, dict) and set(given) == {"tables"} else given


class ShareSettings(Settings):
    """How often each source is used; only the proportions count."""

    stills: Share = setting("auto", "pans over stills; auto: 1 if there are any")
    synthetic: Share = setting("auto", "synthetic clips; auto: 1 if there are any")
    clips: Share = setting("auto", "clips on the disk; auto: 1 if there are any")
    empty: Share = setting(0.0, "clips without objects; auto: 1 if there are any")
    pseudo: Share = setting("auto", "pseudo-labels; auto: 1 if there are any")

    def _faults(self) -> Iterator[str]:
        for name, share in self:
            if share != "auto" and not 0 <= share < float("inf"):
                yield f"{name} is {share}; give 0 or more, or auto"


class LabelledVideoSettings(Settings):
    """A video file and masks of some of its frames."""

    video: Path = Field(description="video file, or folder of frames")
    masks: Path = Field(description="folder of masks named {video stem}_{frame index of 6 digits}")
    void: Void = "auto"


class ValidationSettings(Settings):
    """What validation is measured on: whole frames, nothing augmented.

    If no source is named, a share of the labelled stills and clips is held back from training.
    """

    stills: LabelledStillsSettings = setting(LabelledStillsSettings(), "stills, as pans over them")
    clips: ClipsSettings = setting(ClipsSettings(), "labelled clips")
    videos: list[LabelledVideoSettings] = setting([], "videos with masks of some frames")
    synthetic: Natural = setting(0, "number of synthetic clips, made as for training")
    share: float = setting(0.2, "share of stills and clips held back if none named", ge=0, le=0.9)
    speed: float = setting(3.0, "speed of the pans, pixels per frame", ge=0)
    largest_side: int = setting(1024, "larger frames are cut to these pixels in the middle", ge=32)
    limit: Count = setting(64, "most queries of clips and videos, spread evenly over them")


class DataSettings(Settings):
    """Clips for training and validation, and how they are changed."""

    stills: StillsSettings = setting(StillsSettings(), "labelled stills as simulated pans")
    sources: list[Path] = setting([], "labels of other programs, read as dvos import reads them")
    classes: Classes = None
    synthetic: SyntheticSettings = setting(SyntheticSettings(), "synthetic clips")
    clips: ClipsSettings = setting(ClipsSettings(), "labelled clips on the disk")
    empty: EmptySettings = setting(EmptySettings(), "photos without objects")
    pseudo: PseudoSettings = setting(PseudoSettings(), "pseudo-labelled photos and clips")
    shares: ShareSettings = setting(ShareSettings(), "how often each source is used")
    intensity: Intensity = "auto"
    scale: float = setting(1.0, "size at which the network sees pictures, later too", gt=0, le=8)
    crop: int = setting(160, "side of the training clips, pixels", ge=32, le=2048)
    object_share: Fraction = setting(0.7, "share of windows laid so that they hold an object")
    spatial: SpatialSettings = setting(SpatialSettings(), "changes of geometry (a preset)")
    colour: ColourSettings = setting(ColourSettings(), "changes of colour (a preset)")
    degradation: DegradationSettings = setting(DegradationSettings(), "blur, noise, JPEG (preset)")
    diffusion: DiffusionSettings = setting(DiffusionSettings(), "noised patches of references")
    memory_mb: Count = free(1024, "decoded stills and frames kept in memory, MiB per process")
    validation: ValidationSettings = setting(ValidationSettings(), "what validation is done on")

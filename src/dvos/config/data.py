"""Settings of the clips a network is trained and validated on, and of how they are changed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from dvos.config import base
from dvos.config.base import Count, Fraction, Natural, PresetSettings, Settings, free, setting
from dvos.config.labelling import Classes
from dvos.config.scene import SceneSettings

Share = float | Literal["auto"]
Preset = Literal["standard", "none", "published"]


def _zeros(names: str) -> dict[str, float]:
    return dict.fromkeys(names.split(), 0.0)


class MotionSettings(PresetSettings):
    """How the window of a simulated pan moves over its photo, and how what it shows sways."""

    presets: ClassVar = {
        "none": _zeros(
            "speed fast_speed fast_share still_share acceleration zoom turn shake sway_share sway"
        )
    }

    preset: Literal["standard", "none"] = base.PRESET
    speed: float = setting(6.0, "highest usual speed, pixels of the crop per frame", ge=0)
    fast_speed: float = setting(16.0, "highest speed of a fast clip, pixels per frame", ge=0)
    fast_share: Fraction = setting(0.15, "share of fast clips")
    still_share: Fraction = setting(0.1, "share of clips in which nothing moves")
    acceleration: float = setting(0.4, "spread of changes of speed, pixels per frame twice", ge=0)
    zoom: float = setting(0.004, "spread of the change of size per frame", ge=0, le=0.1)
    turn: float = setting(0.3, "spread of the rotation per frame, degrees", ge=0, le=10)
    shake: float = setting(0.3, "spread of each frame's own offset, pixels", ge=0)
    sway_share: Fraction = setting(0.4, "share of clips that sway, as in the wind")
    sway: float = setting(2.5, "largest sway, pixels", ge=0)

    def _faults(self) -> Iterator[str]:
        if self.fast_share + self.still_share > 1:
            yield "fast_share and still_share add up to more than 1; lower one of them"


class SpatialSettings(PresetSettings):
    """Changes of geometry, one draw for all frames of a clip and their masks."""

    presets: ClassVar = {
        "none": {"scale": (1.0, 1.0), "flip": False}
        | _zeros("quarter_turn rotation_share elastic_share rotation stretch elastic"),
        # Crops of 256 to 768 pixels are shrunk, and nothing is stretched.
        "published": {"scale": (0.33, 1.0), "quarter_turn": 0.0, "stretch": 0.0},
    }

    preset: Preset = base.PRESET
    scale: tuple[float, float] = setting((0.4, 1.6), "sizes of objects relative to their own")
    flip: bool = setting(True, "mirror left-right and up-down, half the time each")
    quarter_turn: Fraction = setting(0.5, "share of clips turned by 90 degrees")
    rotation: float = setting(30.0, "largest rotation, degrees", ge=0, le=180)
    rotation_share: Fraction = setting(0.3, "share of rotated, stretched clips")
    stretch: Fraction = setting(0.15, "largest change of aspect, a fraction")
    elastic: float = setting(4.0, "largest elastic displacement, pixels", ge=0, le=16)
    elastic_share: Fraction = setting(0.2, "share of deformed clips")

    def _faults(self) -> Iterator[str]:
        low, high = self.scale
        if not 0.05 <= low <= high <= 10:
            yield f"scale is [{low}, {high}]; give the lower end first, both from 0.05 to 10"


class ColourSettings(PresetSettings):
    """Changes of colour: one draw per clip and a small one more per reference, or one each."""

    presets: ClassVar = {
        "none": {"strength": 1.0}
        | _zeros("brightness contrast saturation gain hue gamma")
        | _zeros("grey_share shade_share shade per_frame"),
        "published": {"strength": 1.0, "shared": False, "query": False},
    }

    preset: Preset = base.PRESET
    strength: float = setting(0.5, "multiplies all below; 0 for none", ge=0, le=3)
    brightness: float = setting(0.35, "spread of the logarithm of exposure", ge=0, le=2)
    contrast: Fraction = setting(0.25, "spread of the logarithm of contrast")
    saturation: float = setting(0.35, "spread of its logarithm", ge=0, le=2)
    gain: Fraction = setting(0.12, "spread of the logarithm of channel gains")
    hue: float = setting(25.0, "largest rotation of the hue, degrees", ge=0, le=180)
    gamma: Fraction = setting(0.3, "spread of the logarithm of gamma")
    grey_share: Fraction = setting(0.05, "share of clips without colour")
    shade_share: Fraction = setting(0.3, "share of clips in uneven light")
    shade: Fraction = setting(0.25, "spread of the logarithm of that light")
    per_frame: Fraction = setting(0.1, "each reference's own draw, relative to the clip's")
    shared: bool = setting(True, "one draw for the clip, else (published) one for each frame")
    query: bool = setting(True, "change the query too (published: only references)")


class DegradationSettings(PresetSettings):
    """What a camera takes away: sharpness, resolution, clean pixels."""

    presets: ClassVar = {
        "none": {"strength": 1.0}
        | _zeros("blur_share motion_share resolution_share noise_share jpeg_share"),
        "published": {"strength": 1.0, "shared": False, "query": False},
    }

    preset: Preset = base.PRESET
    strength: float = setting(0.5, "multiplies all shares; 0 for none", ge=0, le=3)
    blur_share: Fraction = setting(0.3, "share of clips out of focus")
    blur: float = setting(1.6, "largest Gaussian deviation, pixels", ge=0, le=10)
    motion_share: Fraction = setting(0.15, "share of clips with motion blur")
    motion: float = setting(7.0, "longest motion blur, pixels", ge=0, le=50)
    resolution_share: Fraction = setting(0.15, "share of clips shrunk and enlarged again")
    resolution: float = setting(0.4, "strongest shrinking, a fraction", gt=0, le=1)
    noise_share: Fraction = setting(0.3, "share of noisy clips")
    noise: float = setting(12.0, "largest noise deviation, grey levels", ge=0, le=100)
    jpeg_share: Fraction = setting(0.2, "share of clips sent through JPEG")
    jpeg_quality: int = setting(30, "lowest JPEG quality", ge=1, le=95)
    shared: bool = setting(True, "one draw for the clip; false: one for each frame (published)")
    query: bool = setting(True, "change the query too (published: only references)")


class DiffusionSettings(PresetSettings):
    """Input diffusion: patches of the references are noised in training, never the query's."""

    presets: ClassVar = {"published": {"share": 0.5}}

    preset: Literal["none", "published"] = setting("none", "values for all keys not given")
    share: Fraction = setting(0.0, "share of the patches that are noised")
    patch: int = setting(32, "side of a patch, pixels", ge=4, le=2048)
    steps: int = setting(750, "noised up to a step below this, of 1000", ge=1, le=1000)
    blank: Fraction = setting(0.0, "share of the patches that are blanked")


class LabelledStillsSettings(Settings):
    """Where labelled stills are."""

    tables: list[Path] = setting([], "CSV tables Image,Mask of labelled stills")
    folders: list[Path] = setting([], "folders with images/ and masks/ or head_mask/, same stems")
    void: base.Void = "auto"
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
    void: base.Void = "auto"

    def _faults(self) -> Iterator[str]:
        if bool(self.backgrounds) != bool(self.cutouts) or (
            self.distractors and not self.backgrounds
        ):
            yield "synthetic clips need backgrounds and cutouts; give both, or neither"


class ClipsSettings(Settings):
    """Labelled clips on the disk."""

    tables: list[Path] = setting([], "CSV tables VID,FID,Image,Mask,Label")
    folders: list[Path] = setting([], "frames/CLIP and masks/CLIP, CLIP/frames and CLIP/masks")
    void: base.Void = "auto"
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
    void: base.Void = "128"
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
    void: base.Void = "auto"


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
    intensity: base.Intensity = "auto"
    scale: float = setting(1.0, "size at which the network sees pictures, later too", gt=0, le=8)
    crop: int = setting(160, "side of the training clips, pixels", ge=32, le=2048)
    object_share: Fraction = setting(0.7, "share of windows laid so that they hold an object")
    spatial: SpatialSettings = setting(SpatialSettings(), "changes of geometry (a preset)")
    colour: ColourSettings = setting(ColourSettings(), "changes of colour (a preset)")
    degradation: DegradationSettings = setting(DegradationSettings(), "blur, noise, JPEG (preset)")
    diffusion: DiffusionSettings = setting(DiffusionSettings(), "noised patches of references")
    memory_mb: Count = free(1024, "decoded stills and frames kept in memory, MiB per process")
    validation: ValidationSettings = setting(ValidationSettings(), "what validation is done on")

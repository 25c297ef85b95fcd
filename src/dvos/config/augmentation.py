"""Settings of how clips are changed in training, each section with presets."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import PresetSettings

Preset = Literal["standard", "none", "published"]

_PRESET: Any = Field("standard", description="values for all keys that are not given")


def _zeros(*names: str) -> dict[str, float]:
    return dict.fromkeys(names, 0.0)


class MotionSettings(PresetSettings):
    """How the window of a simulated pan moves over its photo, and how what it shows sways."""

    presets: ClassVar = {
        "standard": {},
        "none": _zeros(
            *("speed", "fast_speed", "fast_share", "still_share", "acceleration"),
            *("zoom", "turn", "shake", "sway_share", "sway"),
        ),
    }

    preset: Literal["standard", "none"] = Field(
        "standard", description="values for all keys that are not given"
    )
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
    sway_share: float = Field(
        0.4,
        ge=0,
        le=1,
        description="share of clips in which the earlier frames sway against the last, as in wind",
        json_schema_extra={"was": "data.stills.wind.share"},
    )
    sway: float = Field(
        2.5,
        ge=0,
        description="largest sway, pixels of the crop",
        json_schema_extra={"was": "data.stills.wind.amplitude"},
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fast_share + self.still_share > 1:
            raise ValueError("fast_share and still_share add up to more than 1; lower one of them")
        return self


class SpatialSettings(PresetSettings):
    """Changes of geometry, one draw for all frames of a clip and their masks."""

    presets: ClassVar = {
        "standard": {},
        "none": {
            "scale": (1.0, 1.0),
            "flip": False,
            **_zeros("quarter_turn", "rotation_share", "elastic_share"),
            **_zeros("rotation", "stretch", "elastic"),
        },
        # Crops of 256 to 768 pixels are shrunk, and nothing is stretched.
        "published": {"scale": (0.33, 1.0), "quarter_turn": 0.0, "stretch": 0.0},
    }

    preset: Preset = _PRESET
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


class ColourSettings(PresetSettings):
    """Changes of colour: one draw per clip and a small one more per reference, or one each."""

    presets: ClassVar = {
        "standard": {},
        "none": {
            "strength": 1.0,
            **_zeros("brightness", "contrast", "saturation", "gain", "hue", "gamma"),
            **_zeros("grey_share", "shade_share", "shade", "per_frame"),
        },
        "published": {"strength": 1.0, "shared": False, "query": False},
    }

    preset: Preset = _PRESET
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


class DegradationSettings(PresetSettings):
    """What a camera takes away: sharpness, resolution, clean pixels."""

    presets: ClassVar = {
        "standard": {},
        "none": {
            "strength": 1.0,
            **_zeros("blur_share", "motion_share", "resolution_share", "noise_share", "jpeg_share"),
        },
        "published": {"strength": 1.0, "shared": False, "query": False},
    }

    preset: Preset = _PRESET
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


class DiffusionSettings(PresetSettings):
    """Input diffusion: patches of the references are noised in training, never the query's."""

    presets: ClassVar = {"none": {}, "published": {"share": 0.5}}

    preset: Literal["none", "published"] = Field(
        "none", description="values for all keys that are not given"
    )
    share: float = Field(0.0, ge=0, le=1, description="share of the patches that are noised")
    patch: int = Field(32, ge=4, le=2048, description="side of a patch, pixels")
    steps: int = Field(
        750, ge=1, le=1000, description="noised up to a step below this, of 1000; 1000 is noise"
    )
    blank: float = Field(0.0, ge=0, le=1, description="share of the patches that are blanked")

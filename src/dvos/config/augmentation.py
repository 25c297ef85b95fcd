"""Settings of how clips are changed in training, each section with presets."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from dvos.config.base import PRESET, Fraction, PresetSettings, setting

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

    preset: Literal["standard", "none"] = PRESET
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

    preset: Preset = PRESET
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

    preset: Preset = PRESET
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

    preset: Preset = PRESET
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

"""Settings of ``dvos synthesize``: what a scene may look like, every effect, its range, its switch.

Each clip draws its own values from the ranges, once, so that a sprite keeps its looks over the
clip. An effect with ``enabled: false`` draws nothing and costs nothing.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator, types

from dvos.config import base
from dvos.config.base import Count, Fraction, Natural, PresetSettings, Settings, free, setting
from dvos.config.strict_yaml import parse_yaml, read_yaml
from dvos.errors import ConfigError
from dvos.files import is_plain_name

ScenePreset = Literal["generic", "wheat_green", "wheat_ripe", "cells", "published"]
#: Names of the shipped scene presets.
PRESETS: tuple[ScenePreset, ...] = get_args(ScenePreset)


def _check_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the first number ({bounds[0]}) is above the second ({bounds[1]})")
    return bounds


_ORDERED = AfterValidator(_check_order)
Span = Annotated[tuple[float, float], _ORDERED]
Amount = Annotated[tuple[types.NonNegativeFloat, types.NonNegativeFloat], _ORDERED]
Factor = Annotated[tuple[types.PositiveFloat, types.PositiveFloat], _ORDERED]
Numbers = Annotated[tuple[Natural, Natural], _ORDERED]
Share = Annotated[tuple[Fraction, Fraction], _ORDERED]
Quality = Annotated[int, Field(ge=1, le=100)]
Qualities = Annotated[tuple[Quality, Quality], _ORDERED]


class EffectSettings(Settings):
    """An effect that can be switched off."""

    enabled: bool = setting(True, "switch")


class PopulationSettings(Settings):
    """How many sprites, where, and in which order they are drawn."""

    objects: Amount = setting((0.05, 0.45), "objects, in the unit of 'per'")
    distractors: Amount = setting((0.05, 0.3), "distractors, in the unit of 'per'")
    foreground: Amount = setting((0.0, 0.08), "leaves over everything, of distractors, in 'per'")
    foreground_scale: Factor = setting((0.8, 1.6), "size factor of the leaves")
    foreground_stretch: Factor = setting((1.5, 4.0), "lengthening of the leaves")
    per: Literal["coverage", "megapixel", "frame"] = setting(
        "coverage", "unit of the amounts: share of the area, number per million px or per frame"
    )
    sources: Numbers = setting((1, 3), "stills whose cutouts one clip mixes; [0, 0] = all")
    order: Literal["mixed", "distractors_first"] = setting(
        "mixed", "who lies over whom: no rule, or every object over the distractors"
    )
    avoid: Literal["all", "objects"] = setting("all", "what a new sprite must not cover much of")
    tries: Count = setting(50, "places tried for one sprite", le=1000)
    overlap: Fraction = setting(0.4, "a place less covered than this is taken at once")
    clump: Share = setting((0.0, 0.4), "share of sprites placed beside an earlier one")
    clump_radius: Factor = setting((0.7, 2.0), "how near, in sprite lengths")
    refill: Literal["field", "replace"] = setting("field", "fill what is seen, or replace the lost")
    recovery_variance: Natural = setting(3, "'replace': at most so many fewer enter than left")
    recovery_expansion: float = setting(3.0, "'replace': depth of the entry, camera steps", gt=0)


class AppearanceSettings(Settings):
    """Size, turn and colour of a sprite; drawn once per sprite, the same for all roles."""

    size: Factor | None = setting((24.0, 110.0), "length in px of the median cutout; null = as is")
    enlarge: float = setting(2.0, "cutouts are enlarged by at most this for 'size'", gt=0)
    clip_scale: Factor = setting((1.0, 1.0), "size factor of all sprites of a clip")
    scale: Factor = setting((0.8, 1.25), "size factor of a sprite")
    rotation: Span = setting((-180.0, 180.0), "turn at the start, degrees")
    flip_horizontal: Fraction = setting(0.5, "chance of mirroring left-right")
    flip_vertical: Fraction = setting(0.0, "chance of mirroring top-bottom")
    hue: Span = setting((-6.0, 6.0), "hue shift, degrees of the colour circle")
    saturation: Factor = setting((0.85, 1.15), "saturation factor")
    gain: Factor = setting((0.8, 1.2), "brightness factor")
    harmonise: Share = setting((0.0, 0.5), "how far colours move to the background's mean")
    feather: Factor = setting((0.8, 2.0), "width of the soft edge, px")
    shrink: Span = setting((0.0, 0.6), "how far the edge is drawn inward, px")

    def _faults(self) -> Iterator[str]:
        if self.feather[1] > 6 or abs(self.shrink[0]) > 3 or abs(self.shrink[1]) > 3:
            yield "feather goes up to 6 px and shrink from -3 to 3 px"


class WalkSettings(EffectSettings):
    """Published motion of a sprite: own steps in its own direction, ever turning on."""

    enabled: bool = setting(False, "switch")
    step: Amount = setting((0, 5), "whole px per frame and axis")
    turn: Amount = setting((1, 5), "whole degrees per frame, one way for each sprite")
    change_direction: Fraction = setting(0.05, "chance per frame that a sprite turns back")
    may_leave: bool = setting(True, "whether its steps may take it over the border")


class WindSettings(EffectSettings):
    """Sway of stalks in one wind field with gusts."""

    sway: Amount = setting((0.01, 0.12), "sway in sprite lengths at full wind, per clip")
    variation: Factor = setting((0.7, 1.4), "factor on the sway, per sprite")
    stalk: Factor = setting((2.0, 5.0), "length of the stalk in sprite lengths")
    wavelength: Factor = setting((4.0, 20.0), "length of the waves in sprite lengths")
    period: Factor = setting((12.0, 45.0), "frames per sway")
    gusts: Amount = setting((0.0, 4.0), "gusts per 100 frames")
    gust_strength: Amount = setting((0.5, 2.0), "sway of a gust against the waves'")
    flutter: Amount = setting((0.0, 0.25), "share of sway that is a sprite's own")


class ElasticSettings(EffectSettings):
    """Slow bending of a sprite, continuous in time."""

    probability: Fraction = setting(0.3, "share of sprites that bend")
    amplitude: Share = setting((0.0, 0.02), "local bending, share of the longer side")
    shear: Share = setting((0.0, 0.06), "shear and stretch, share of the longer side")
    period: Factor = setting((10.0, 60.0), "frames per bending")


class CameraSettings(EffectSettings):
    """Motion of the camera; the parts add up."""

    step: Amount = setting((0, 0), "jerky steps, whole px per frame and axis (published)")
    change_direction: Fraction = setting(0.05, "chance per frame that steps turn back")
    drift: Amount = setting((0.0, 4.0), "smooth travel, px per frame")
    turn: Amount = setting((0.0, 3.0), "bend of the smooth travel, degrees per frame")
    shake: Amount = setting((0.0, 1.0), "hand-held shake, px")
    zoom: Amount = setting((0.0, 0.004), "zoom, share per frame")
    roll: Amount = setting((0.0, 0.25), "rotation, degrees per frame")
    parallax: Share = setting((0.0, 0.15), "spread of the sprites' own travel about the camera's")
    plate_follows: Share = setting((0.6, 1.0), "share of the camera's motion the background makes")


class BackgroundSettings(Settings):
    """Backgrounds."""

    frames: Literal["numbered", "video", "stills"] = setting(
        "numbered", "one video's frames: numbered as by extract, all, or none"
    )
    labelled: Fraction = setting(0.85, "share of clips over labelled stills, if others are there")
    scale: Factor = setting((0.8, 1.25), "size factor; enlarged further if too small")
    flip: bool = setting(True, "mirror a background left-right at random")
    pan: Amount = setting((0.0, 2.0), "travel of a still, px per frame")
    zoom: Amount = setting((0.0, 0.002), "zoom of a still, share per frame")
    cache_mb: int = setting(512, "memory for decoded backgrounds per process", ge=16)
    reuse: Count = setting(32, "clips from one run of frames when memory is short")


class ShadowSettings(EffectSettings):
    """Soft shadow that each sprite casts on what lies under it."""

    strength: Share = setting((0.0, 0.5), "darkening at its core")
    offset: Amount = setting((0.0, 0.15), "distance in sprite lengths, one way per clip")
    softness: Factor = setting((1.0, 3.0), "width of its edge, in steps of 4 px")


class LightSettings(EffectSettings):
    """Light that drifts over the clip."""

    drift: Share = setting((0.0, 0.08), "slow change of brightness of the whole frame")
    clouds: Share = setting((0.0, 0.3), "darkening by cloud shadows that move across")
    cloud_size: Factor = setting((0.4, 2.0), "their size, share of the longer side")
    tint: Share = setting((0.0, 0.03), "colour cast of each channel")
    period: Factor = setting((30.0, 120.0), "frames per change")


class MotionBlurSettings(EffectSettings):
    """Blur along each sprite's and the background's own motion."""

    shutter: Share = setting((0.0, 0.6), "open share of the time between two frames")


class DefocusSettings(EffectSettings):
    """Blur of the whole frame."""

    probability: Fraction = setting(0.4, "chance that a clip has it")
    sigma: Factor = setting((0.4, 1.2), "px")


class NoiseSettings(EffectSettings):
    """Sensor noise, new in each frame."""

    read: Amount = setting((0.0, 3.0), "noise in the dark, grey levels")
    shot: Amount = setting((0.0, 4.0), "added noise at full brightness, grey levels")


class CompressionSettings(EffectSettings):
    """JPEG marks on each frame."""

    probability: Fraction = setting(0.25, "chance that a clip has them")
    quality: Qualities = setting((60, 95), "JPEG quality, 1 to 100")


class SceneSettings(PresetSettings):
    """A scene: what it holds, how it moves, how it was photographed.

    ``preset`` may also be the path of a YAML file that holds a scene.
    """

    preset: ScenePreset = setting("generic", "values for keys not given, or a YAML file")
    population: PopulationSettings = setting(PopulationSettings(), "how many, where")
    appearance: AppearanceSettings = setting(AppearanceSettings(), "looks of a sprite")
    walk: WalkSettings = setting(WalkSettings(), "published motion of a sprite")
    wind: WindSettings = setting(WindSettings(), "sway in the wind")
    elastic: ElasticSettings = setting(ElasticSettings(), "slow bending")
    camera: CameraSettings = setting(CameraSettings(), "motion of the camera")
    plates: BackgroundSettings = setting(BackgroundSettings(), "backgrounds")
    shadow: ShadowSettings = setting(ShadowSettings(), "soft shadows")
    light: LightSettings = setting(LightSettings(), "drifting light")
    motion_blur: MotionBlurSettings = setting(MotionBlurSettings(), "motion blur")
    defocus: DefocusSettings = setting(DefocusSettings(), "blur of the whole frame")
    noise: NoiseSettings = setting(NoiseSettings(), "sensor noise")
    compression: CompressionSettings = setting(CompressionSettings(), "JPEG marks")

    @classmethod
    @cache
    def preset_values(cls, name: str) -> Mapping[str, Any]:
        """Values of a shipped preset."""
        if name not in PRESETS:
            return {}
        text = files("dvos").joinpath("presets", f"{name}.yaml").read_text(encoding="utf-8")
        return dict(parse_yaml(text) or {})

    @model_validator(mode="before")
    @classmethod
    def _read_file(cls, given: Any) -> Any:
        own = given if isinstance(given, dict) else {"preset": given}
        path = own.get("preset")
        if not isinstance(path, (str, Path)) or Path(path).suffix not in (".yaml", ".yml"):
            return given
        try:
            values = read_yaml(Path(path))
        except ConfigError as error:
            fault = error.faults[0]
            raise ValueError(f"{fault.where}: {fault.found}") from error
        return base.merged(values, {key: value for key, value in own.items() if key != "preset"})

    def _faults(self) -> Iterator[str]:
        if self.population.refill == "field" and self.walk.enabled and not self.walk.may_leave:
            needed = "population.refill: replace"
            yield f"walk.may_leave: false holds sprites in the frame and needs {needed}"


class SynthesisSettings(Settings):
    """Cutouts and backgrounds to exactly labelled clips on the disk."""

    scene: SceneSettings = setting(SceneSettings(), "what the clips show")
    backgrounds: list[Path] = Field(description="CSVs with Image or Image,Mask; a background each")
    cutouts: list[Path] = Field(description="CSVs with Image: cut-out objects")
    distractors: list[Path] = setting([], "CSVs with Image: look-alikes; may be none")
    intensity: base.Intensity = "auto"
    void: Annotated[base.Void, base.FREE] = "auto"
    out: Path = Field(description="folder for the clips and their table")
    clips: Count | None = setting(None, "clips in all; null = by clips_per_background", le=99_999)
    clips_per_background: Count = setting(20, "clips for each background table")
    frames: Count = setting(60, "frames of a clip", le=99_999)
    height: int = setting(1024, "height of a frame, px", ge=8, le=16384)
    width: int = setting(1024, "width of a frame, px", ge=8, le=16384)
    prefix: str = setting("", "begins the clips' names (VID) in the table")
    layout: Literal["tree", "store"] = setting("tree", "folders of PNGs, or .dvclip files (fast)")
    instances: bool = setting(False, "write instance masks and a table of all instances too")
    flow: bool = setting(False, "write the flow to the frame before as well")
    overlay_video: bool = setting(False, "write an MP4 with the masks drawn over")
    frame_rate: float = setting(10, "frames a second of that MP4", gt=0, le=240)
    preview: bool = free(False, "write only a contact sheet of some clips")
    seed: Natural = setting(123, "seed of all clips")
    workers: base.Workers = 0
    shard: base.Shard = None
    scheduler: base.Scheduler = None

    @property
    def clip_count(self) -> int:
        """Clips in all, over all shards."""
        return self.clips or self.clips_per_background * len(self.backgrounds)

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, prefix: str) -> str:
        if not prefix.isprintable() or prefix != prefix.strip():
            raise ValueError("printable text that neither begins nor ends with a space")
        # Later commands name folders after clips.
        if not is_plain_name(f"{prefix}VID"):
            raise ValueError("a name that neither begins with a dot nor holds a slash")
        return prefix

    def _faults(self) -> Iterator[str]:
        if self.flow and self.layout == "store":
            yield "flow is written to the tree only: set layout: tree, or flow: false"

"""What a synthetic scene may look like: every effect, its range, its switch.

A scene's settings are ranges. Each clip draws its own values from them, once,
so that a sprite keeps its looks over the clip. An effect with ``enabled:
false`` draws nothing and costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from dvos.config.base import PresetSettings, Settings, merged
from dvos.config.strict_yaml import read_yaml
from dvos.errors import ConfigError

#: Names of the shipped scene presets.
PRESETS = ("generic", "wheat_green", "wheat_ripe", "cells", "published")


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the first number ({bounds[0]}) is above the second ({bounds[1]})")
    return bounds


def _not_negative(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] < 0:
        raise ValueError(f"must not be below 0, got {bounds[0]}")
    return _ordered(bounds)


def _positive(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] <= 0:
        raise ValueError(f"must be above 0, got {bounds[0]}")
    return _ordered(bounds)


def _share(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[1] > 1:
        raise ValueError(f"is a share and must not be above 1, got {bounds[1]}")
    return _not_negative(bounds)


Span = Annotated[tuple[float, float], AfterValidator(_ordered)]
Amount = Annotated[tuple[float, float], AfterValidator(_not_negative)]
Factor = Annotated[tuple[float, float], AfterValidator(_positive)]
Share = Annotated[tuple[float, float], AfterValidator(_share)]


class PopulationSettings(Settings):
    """How many sprites, where, and in which order they are drawn."""

    objects: Amount = Field((0.05, 0.45), description="objects, in the unit of 'per'")
    distractors: Amount = Field((0.05, 0.3), description="distractors, in the unit of 'per'")
    foreground: Amount = Field(
        (0.0, 0.08), description="leaves drawn over everything, made of distractors, unit of 'per'"
    )
    foreground_scale: Factor = Field((0.8, 1.6), description="size factor of the leaves")
    foreground_stretch: Factor = Field(
        (1.5, 4.0), description="lengthening of the leaves along their longer side"
    )
    per: Literal["coverage", "megapixel", "frame"] = Field(
        "coverage",
        description="unit of the amounts: share of the area, number per million px or per frame",
    )
    sources: tuple[int, int] = Field(
        (1, 3), description="labelled stills whose cutouts one clip mixes; [0, 0] = all of them"
    )
    order: Literal["mixed", "distractors_first"] = Field(
        "mixed", description="who lies over whom: no rule, or every object over the distractors"
    )
    avoid: Literal["all", "objects"] = Field(
        "all", description="what a new sprite must not cover too much of"
    )
    tries: int = Field(50, ge=1, le=1000, description="places tried for one sprite")
    overlap: float = Field(
        0.4, ge=0, le=1, description="a place is taken at once if less than this share is covered"
    )
    clump: Share = Field((0.0, 0.4), description="share of sprites placed beside an earlier one")
    clump_radius: Factor = Field((0.7, 2.0), description="how near, in sprite lengths")
    refill: Literal["field", "replace"] = Field(
        "field",
        description="sprites fill all that the camera will see, or those lost are replaced",
    )
    recovery_variance: int = Field(
        3, ge=0, description="'replace': up to this many fewer enter than were lost"
    )
    recovery_expansion: float = Field(
        3.0, gt=0, description="'replace': depth of the strip of entry, in camera steps"
    )

    @model_validator(mode="after")
    def _check(self) -> PopulationSettings:
        _not_negative(self.sources)
        return self


class AppearanceSettings(Settings):
    """Size, turn and colour of a sprite; drawn once per sprite, the same for all roles."""

    size: Factor | None = Field(
        (24.0, 110.0),
        description="length in px of a still's median cutout, drawn per clip; null = as it is",
    )
    enlarge: float = Field(
        2.0, gt=0, description="cutouts are enlarged by at most this to reach 'size'"
    )
    clip_scale: Factor = Field((1.0, 1.0), description="size factor of all sprites of a clip")
    scale: Factor = Field((0.8, 1.25), description="size factor of a sprite")
    rotation: Span = Field((-180.0, 180.0), description="turn at the start, degrees")
    flip_horizontal: float = Field(0.5, ge=0, le=1, description="chance of mirroring left-right")
    flip_vertical: float = Field(0.0, ge=0, le=1, description="chance of mirroring top-bottom")
    hue: Span = Field((-6.0, 6.0), description="hue shift, degrees of the colour circle")
    saturation: Factor = Field((0.85, 1.15), description="saturation factor")
    gain: Factor = Field((0.8, 1.2), description="brightness factor")
    harmonise: Share = Field(
        (0.0, 0.5),
        description="how far sprite colours move to the background's mean colour; 1 = wholly",
    )
    feather: Factor = Field((0.8, 2.0), description="width of the soft edge, px")
    shrink: Span = Field((0.0, 0.6), description="how far the edge is drawn inward, px")

    @model_validator(mode="after")
    def _check(self) -> AppearanceSettings:
        if self.feather[1] > 6 or abs(self.shrink[0]) > 3 or abs(self.shrink[1]) > 3:
            raise ValueError("feather goes up to 6 px and shrink from -3 to 3 px")
        return self


class WalkSettings(Settings):
    """Published motion of a sprite: own steps in its own direction, ever turning on."""

    enabled: bool = Field(False, description="switch")
    step: Amount = Field((0, 5), description="whole px per frame and axis")
    turn: Amount = Field((1, 5), description="whole degrees per frame, one way for each sprite")
    change_direction: float = Field(
        0.05, ge=0, le=1, description="chance per frame that a sprite turns back"
    )
    may_leave: bool = Field(True, description="whether its steps may take it over the border")


class WindSettings(Settings):
    """Sway of stalks in one wind field with gusts."""

    enabled: bool = Field(True, description="switch")
    sway: Amount = Field((0.01, 0.12), description="sway in sprite lengths at full wind, per clip")
    variation: Factor = Field((0.7, 1.4), description="factor on the sway, per sprite")
    stalk: Factor = Field((2.0, 5.0), description="length of the stalk in sprite lengths")
    wavelength: Factor = Field((4.0, 20.0), description="length of the waves in sprite lengths")
    period: Factor = Field((12.0, 45.0), description="frames per sway")
    gusts: Amount = Field((0.0, 4.0), description="gusts per 100 frames")
    gust_strength: Amount = Field((0.5, 2.0), description="sway of a gust against the waves'")
    flutter: Amount = Field((0.0, 0.25), description="share of sway that is a sprite's own")


class ElasticSettings(Settings):
    """Slow bending of a sprite, continuous in time."""

    enabled: bool = Field(True, description="switch")
    probability: float = Field(0.3, ge=0, le=1, description="share of sprites that bend")
    amplitude: Share = Field((0.0, 0.02), description="local bending, share of the longer side")
    shear: Share = Field((0.0, 0.06), description="shear and stretch, share of the longer side")
    period: Factor = Field((10.0, 60.0), description="frames per bending")


class CameraSettings(Settings):
    """Motion of the camera; the parts add up."""

    enabled: bool = Field(True, description="switch")
    step: Amount = Field((0, 0), description="jerky steps, whole px per frame and axis (published)")
    change_direction: float = Field(
        0.05, ge=0, le=1, description="chance per frame that the jerky steps turn back"
    )
    drift: Amount = Field((0.0, 4.0), description="smooth travel, px per frame")
    turn: Amount = Field((0.0, 3.0), description="bend of the smooth travel, degrees per frame")
    shake: Amount = Field((0.0, 1.0), description="hand-held shake, px")
    zoom: Amount = Field((0.0, 0.004), description="zoom, share per frame")
    roll: Amount = Field((0.0, 0.25), description="rotation, degrees per frame")
    parallax: Share = Field(
        (0.0, 0.15), description="spread of the sprites' own travel about the camera's, per clip"
    )
    plate_follows: Share = Field(
        (0.6, 1.0), description="share of the camera's motion that the background makes"
    )


class BackgroundSettings(Settings):
    """Backgrounds."""

    frames: Literal["numbered", "video", "stills"] = Field(
        "numbered",
        description="which images are frames of one video: numbered as by 'extract frames', "
        "all with a number at the end, or none",
    )
    labelled: float = Field(
        0.85,
        ge=0,
        le=1,
        description="share of clips over stills with objects of their own, where there are both "
        "these and bare backgrounds",
    )
    scale: Factor = Field((0.8, 1.25), description="size factor; enlarged further if too small")
    flip: bool = Field(True, description="mirror a background left-right at random")
    pan: Amount = Field((0.0, 2.0), description="travel of a still, px per frame")
    zoom: Amount = Field((0.0, 0.002), description="zoom of a still, share per frame")
    cache_mb: int = Field(512, ge=16, description="memory for decoded backgrounds per process")
    reuse: int = Field(
        32, ge=1, description="clips from one run of frames when the backgrounds exceed the memory"
    )


class ShadowSettings(Settings):
    """Soft shadow that each sprite casts on what lies under it."""

    enabled: bool = Field(True, description="switch")
    strength: Share = Field((0.0, 0.5), description="darkening at its core")
    offset: Amount = Field((0.0, 0.15), description="distance in sprite lengths, one way per clip")
    softness: Factor = Field((1.0, 3.0), description="width of its edge, in steps of 4 px")


class LightSettings(Settings):
    """Light that drifts over the clip."""

    enabled: bool = Field(True, description="switch")
    drift: Share = Field((0.0, 0.08), description="slow change of brightness of the whole frame")
    clouds: Share = Field((0.0, 0.3), description="darkening by cloud shadows that move across")
    cloud_size: Factor = Field((0.4, 2.0), description="their size, share of the longer side")
    tint: Share = Field((0.0, 0.03), description="colour cast of each channel")
    period: Factor = Field((30.0, 120.0), description="frames per change")


class MotionBlurSettings(Settings):
    """Blur along each sprite's and the background's own motion."""

    enabled: bool = Field(True, description="switch")
    shutter: Share = Field((0.0, 0.6), description="open share of the time between two frames")


class DefocusSettings(Settings):
    """Blur of the whole frame."""

    enabled: bool = Field(True, description="switch")
    probability: float = Field(0.4, ge=0, le=1, description="chance that a clip has it")
    sigma: Factor = Field((0.4, 1.2), description="px")


class NoiseSettings(Settings):
    """Sensor noise, new in each frame."""

    enabled: bool = Field(True, description="switch")
    read: Amount = Field((0.0, 3.0), description="noise in the dark, grey levels")
    shot: Amount = Field((0.0, 4.0), description="added noise at full brightness, grey levels")


class CompressionSettings(Settings):
    """JPEG marks on each frame."""

    enabled: bool = Field(True, description="switch")
    probability: float = Field(0.25, ge=0, le=1, description="chance that a clip has them")
    quality: tuple[int, int] = Field((60, 95), description="JPEG quality, 1 to 100")

    @model_validator(mode="after")
    def _check(self) -> CompressionSettings:
        if not 1 <= self.quality[0] <= self.quality[1] <= 100:
            raise ValueError(f"quality must rise from 1 to 100, got {list(self.quality)}")
        return self


class SceneSettings(PresetSettings):
    """A scene: what it holds, how it moves, how it was photographed.

    The values of ``preset`` stand wherever a key is not given; its name alone may stand for them.
    In place of a preset's name, the path of a YAML file that holds a scene may be given.
    """

    preset: Literal["generic", "wheat_green", "wheat_ripe", "cells", "published"] = Field(
        "generic",
        description="values for all keys that are not given; instead, the path of a YAML file",
    )
    population: PopulationSettings = Field(PopulationSettings(), description="how many, where")
    appearance: AppearanceSettings = Field(AppearanceSettings(), description="looks of a sprite")
    walk: WalkSettings = Field(WalkSettings(), description="published motion of a sprite")
    wind: WindSettings = Field(WindSettings(), description="sway in the wind")
    elastic: ElasticSettings = Field(ElasticSettings(), description="slow bending")
    camera: CameraSettings = Field(CameraSettings(), description="motion of the camera")
    plates: BackgroundSettings = Field(BackgroundSettings(), description="backgrounds")
    shadow: ShadowSettings = Field(ShadowSettings(), description="soft shadows")
    light: LightSettings = Field(LightSettings(), description="drifting light")
    motion_blur: MotionBlurSettings = Field(MotionBlurSettings(), description="motion blur")
    defocus: DefocusSettings = Field(DefocusSettings(), description="blur of the whole frame")
    noise: NoiseSettings = Field(NoiseSettings(), description="sensor noise")
    compression: CompressionSettings = Field(CompressionSettings(), description="JPEG marks")

    @classmethod
    @cache
    def preset_values(cls, name: str) -> Mapping[str, Any]:
        """Values of a shipped preset."""
        from importlib.resources import files

        import yaml

        if name not in PRESETS:
            raise KeyError(name)
        text = files("dvos").joinpath("presets", f"{name}.yaml").read_text(encoding="utf-8")
        values: dict[str, Any] = yaml.safe_load(text) or {}
        return values

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
        return merged(values, {key: value for key, value in own.items() if key != "preset"})

    @model_validator(mode="after")
    def _check(self) -> SceneSettings:
        if self.population.refill == "field" and self.walk.enabled and not self.walk.may_leave:
            raise ValueError(
                "walk.may_leave: false holds sprites in the frame and needs "
                "population.refill: replace"
            )
        return self

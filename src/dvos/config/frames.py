"""Settings of ``dvos extract frames``, with the hue swap and transform that objects share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dvos.config.base import Settings

__all__ = ["TRANSFORM_NAMES", "FramesSettings", "HueSwapSettings", "TransformSettings"]

Hue = Annotated[int, Field(ge=0, le=179)]
TransformName = Literal[
    "none",
    "center_crop",
    "random_crop",
    "resize",
    "horizontal_flip",
    "vertical_flip",
    "flip",
    "rotate",
    "elastic",
    "flip_rotate_elastic",
    "smallest_side_center_crop",
]

#: In the order of the published ``trfm_index``, 0 to 10.
TRANSFORM_NAMES: tuple[TransformName, ...] = (
    "none",
    "center_crop",
    "random_crop",
    "resize",
    "horizontal_flip",
    "vertical_flip",
    "flip",
    "rotate",
    "elastic",
    "flip_rotate_elastic",
    "smallest_side_center_crop",
)


class HueSwapSettings(Settings):
    """Turn one range of hues into another, as green into yellow."""

    source: tuple[Hue, Hue] = Field(
        description="hues to change, [from, to] in OpenCV hue 0..179; from > to wraps over 179"
    )
    destin: tuple[Hue, Hue] = Field(
        description="hues they become; the shift is between the middles of the two ranges"
    )


class TransformSettings(Settings):
    """One spatial transform; which of the other fields matter depends on the name."""

    name: TransformName = Field("none", description="the transform: " + ", ".join(TRANSFORM_NAMES))
    height: int = Field(1024, ge=1, description="height in pixels, for crops and resize")
    width: int = Field(1024, ge=1, description="width in pixels, for crops and resize")
    angle: float = Field(45.0, ge=0, le=180, description="largest rotation either way, degrees")
    p: float = Field(0.5, ge=0, le=1, description="probability of each flip and of the rotation")
    elastic_p: float = Field(0.5, ge=0, le=1, description="probability of the elastic deformation")
    elastic_amount: float = Field(
        0.01, ge=0, le=0.2, description="elastic displacement (RMS), as a part of the smaller side"
    )
    elastic_scale: float = Field(
        0.1, gt=0, le=1, description="distance over which it changes, as a part of the smaller side"
    )


class FramesSettings(Settings):
    """Videos to frames."""

    videos: Path = Field(description="CSV with Video,FramesDir,Interval")
    out: Path = Field(description="CSV with Image to write, in video order")
    extension: Literal[".png", ".jpg", ".jpeg", ".tif", ".tiff"] = Field(
        ".png", description="file type of the frames"
    )
    quality: int = Field(95, ge=1, le=100, description="JPEG quality")
    min_side: int = Field(
        1024, ge=0, description="a smaller frame is enlarged until both sides reach it; 0 = never"
    )
    hue_swap: HueSwapSettings | None = Field(None, description="change of hue; none if not given")
    transform: TransformSettings = Field(
        TransformSettings(), description="spatial transform, drawn once for each video"
    )
    seed: int = Field(123, ge=0, description="seed of the random draws")
    workers: int = Field(0, ge=0, description="processes; 0 = one per core")

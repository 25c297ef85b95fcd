"""Settings of ``dvos extract frames`` and ``dvos extract objects``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from dvos.config.base import AFFECTS_NOTHING, Settings

Hue = Annotated[int, Field(ge=0, le=179)]
# In the order of the published ``trfm_index``, 0 to 10.
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
TRANSFORM_NAMES: tuple[TransformName, ...] = get_args(TransformName)


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

    videos: Path = Field(
        description="CSV with Video,FramesDir,Interval", json_schema_extra=AFFECTS_NOTHING
    )
    out: Path = Field(
        description="CSV with Image to write, in video order", json_schema_extra=AFFECTS_NOTHING
    )
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
    workers: int = Field(
        0, ge=0, description="processes; 0 = one per core", json_schema_extra=AFFECTS_NOTHING
    )


class ObjectsSettings(Settings):
    """Labelled stills to cutouts and distractors."""

    annotated: Path = Field(
        description="CSV with Image,Mask,OutDir", json_schema_extra=AFFECTS_NOTHING
    )
    cutouts: Path = Field(
        description="CSV with Image to write: the objects", json_schema_extra=AFFECTS_NOTHING
    )
    distractors: Path = Field(
        description="CSV with Image to write: look-alike patches", json_schema_extra=AFFECTS_NOTHING
    )
    objects: Path | None = Field(
        None,
        description="CSV to write with box, area and neighbours of every labelled object; "
        "objects.csv beside the cutouts CSV if not given",
        json_schema_extra=AFFECTS_NOTHING,
    )
    extension: Literal[".png", ".tif", ".tiff"] = Field(
        ".png", description="file type of the patches; it must hold transparency"
    )
    instances: Literal["ids", "components", "auto"] = Field(
        "ids",
        description="what makes an object: each id of the mask; each connected component of its "
        "foreground (semantic masks); or components only where a mask holds a single value",
    )
    min_object_size: int = Field(400, ge=1, description="smaller objects give no cutout, pixels")
    cut_at_border: bool = Field(
        True,
        description="whether objects that reach the photo's border give a cutout (as published); "
        "these are often cut off, with a straight edge",
    )
    distractors_per_object: int = Field(10, ge=0, description="distractors for each cutout")
    max_iou: float = Field(
        0.1, gt=0, le=1, description="a distractor's IoU with labelled objects is below this"
    )
    tries: int = Field(200, ge=1, description="places tried for each distractor")
    hue_swap: HueSwapSettings | None = Field(None, description="change of hue; none if not given")
    transform: TransformSettings = Field(
        TransformSettings(), description="spatial transform, drawn for each patch"
    )
    seed: int = Field(123, ge=0, description="seed of the random draws")
    workers: int = Field(
        0, ge=0, description="processes; 0 = one per core", json_schema_extra=AFFECTS_NOTHING
    )

    @property
    def objects_table(self) -> Path:
        """Where the table of all objects goes."""
        return self.objects or self.cutouts.parent / "objects.csv"

    @model_validator(mode="after")
    def _check(self) -> Self:
        tables = [self.annotated, self.cutouts, self.distractors, self.objects_table]
        if len({table.absolute() for table in tables}) < len(tables):
            raise ValueError(
                "annotated, cutouts, distractors and objects (objects.csv if not given) "
                "must be four different files: give another name to one of them"
            )
        return self

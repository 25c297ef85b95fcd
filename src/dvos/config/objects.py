"""Settings of ``dvos extract objects``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from dvos.config.base import Settings
from dvos.config.frames import HueSwapSettings, TransformSettings

__all__ = ["ObjectsSettings"]


class ObjectsSettings(Settings):
    """Labelled stills to cutouts and distractors."""

    annotated: Path = Field(description="CSV with Image,Mask,OutDir")
    cutouts: Path = Field(description="CSV with Image to write: the objects")
    distractors: Path = Field(description="CSV with Image to write: look-alike patches")
    objects: Path | None = Field(
        None,
        description="CSV to write with box, area and neighbours of every labelled object; "
        "objects.csv beside the cutouts CSV if not given",
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
    workers: int = Field(0, ge=0, description="processes; 0 = one per core")

    @property
    def objects_table(self) -> Path:
        """Where the table of all objects goes."""
        return self.objects or self.cutouts.parent / "objects.csv"

    @model_validator(mode="after")
    def _tables_differ(self) -> Self:
        tables = [self.annotated, self.cutouts, self.distractors, self.objects_table]
        if len({table.absolute() for table in tables}) < len(tables):
            raise ValueError(
                "annotated, cutouts, distractors and objects (objects.csv if not given) "
                "must be four different files: give another name to one of them"
            )
        return self

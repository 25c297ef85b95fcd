"""Settings of ``dvos extract frames`` and ``dvos extract objects``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field

from dvos.config import base
from dvos.config.base import Count, Fraction, Natural, Settings, Workers, free, setting

Hue = Annotated[int, Field(ge=0, le=179)]
# In the order of the published ``trfm_index``, 0 to 10.
TransformName = Literal[
    "none", "center_crop", "random_crop", "resize", "horizontal_flip", "vertical_flip", "flip",
    "rotate", "elastic", "flip_rotate_elastic", "smallest_side_center_crop",
]  # fmt: skip
TRANSFORM_NAMES: tuple[TransformName, ...] = get_args(TransformName)


class HueSwapSettings(Settings):
    """Turn one range of hues into another, as green into yellow."""

    source: tuple[Hue, Hue] = Field(description="hues to change, [from, to] of 0..179; may wrap")
    destin: tuple[Hue, Hue] = Field(description="their new hues; both ranges' middles coincide")


class TransformSettings(Settings):
    """One spatial transform; which of the other fields matter depends on the name."""

    name: TransformName = setting("none", "the transform: " + ", ".join(TRANSFORM_NAMES))
    height: Count = setting(1024, "height in pixels, for crops and resize")
    width: Count = setting(1024, "width in pixels, for crops and resize")
    angle: float = setting(45.0, "largest rotation either way, degrees", ge=0, le=180)
    p: Fraction = setting(0.5, "probability of each flip and of the rotation")
    elastic_p: Fraction = setting(0.5, "probability of the elastic deformation")
    elastic_amount: float = setting(0.01, "elastic displacement, RMS / smaller side", ge=0, le=0.2)
    elastic_scale: float = setting(0.1, "distance over which it changes, likewise", gt=0, le=1)


class FramesSettings(Settings):
    """Videos to frames."""

    inputs: list[Path] = free([], "videos, or folders of them; frames go to a folder named as out")
    videos: Path | None = free(None, "CSV with Video,FramesDir,Interval, in place of inputs")
    interval: Count = free(1, "every how manieth frame of the inputs is written")
    out: Path = free(Path("frames.csv"), "CSV with Image,Video,Frame to write, in video order")
    names: Literal["frame", "published"] = setting(
        "frame", "n in {video stem}_{n}: the frame's number, or (published) that of the saved one"
    )
    extension: Literal[".png", ".jpg", ".jpeg", ".tif", ".tiff"] = setting(".png", "file type")
    quality: int = setting(95, "JPEG quality", ge=1, le=100)
    min_side: Natural = setting(
        0, "smaller frames are enlarged to it, unlike predictions; 0: none", le=16384
    )
    intensity: base.FreeIntensity = "auto"
    hue_swap: HueSwapSettings | None = setting(None, "change of hue; none if not given")
    transform: TransformSettings = setting(TransformSettings(), "spatial transform, one a video")
    seed: Natural = setting(123, "seed of the random draws")
    workers: Workers = 0
    shard: base.Shard = None
    scheduler: base.Scheduler = None

    def _faults(self) -> Iterator[str]:
        if bool(self.inputs) == (self.videos is not None):
            wanted = "give video files (or folders of them) as inputs, or a CSV of them as videos"
            yield f"{wanted}; {'not both' if self.inputs else 'neither is there'}"
        if self.videos and self.videos.absolute() == self.out.absolute():
            yield "videos and out must be different files: give another name to out"


class ObjectsSettings(Settings):
    """Labelled stills to cutouts and distractors."""

    folder: Path | None = free(None, "folder with images/ and masks/ (or head_mask/) of same stems")
    annotated: Path | None = free(None, "CSV with Image,Mask,OutDir, in place of folder")
    cutouts: Path = free(Path("cutouts.csv"), "CSV with Image to write: the objects")
    distractors: Path = free(Path("distractors.csv"), "CSV with Image to write: look-alike patches")
    objects: Path | None = free(None, "CSV of all labelled objects to write; none: objects.csv")
    extension: Literal[".png", ".tif", ".tiff"] = setting(".png", "file type, with transparency")
    intensity: base.FreeIntensity = "auto"
    void: Annotated[base.Void, base.FREE] = "auto"
    instances: Literal["ids", "components", "auto"] = setting(
        "ids", "an object is each id; each connected component; or components in masks of one value"
    )
    min_object_size: Count = setting(400, "smaller objects give no cutout, pixels")
    cut_at_border: bool = setting(True, "cutouts of objects that the photo's border cuts, too")
    distractors_per_object: Natural = setting(10, "distractors for each cutout")
    max_distractors: Natural = setting(10_000, "most distractors of a still, shared among cutouts")
    max_iou: float = setting(0.1, "most IoU of a distractor with labelled objects", gt=0, le=1)
    tries: Count = setting(200, "places tried for each distractor")
    hue_swap: HueSwapSettings | None = setting(None, "change of hue; none if not given")
    transform: TransformSettings = setting(TransformSettings(), "spatial transform, one a patch")
    seed: Natural = setting(123, "seed of the random draws")
    workers: Workers = 0
    shard: base.Shard = None
    scheduler: base.Scheduler = None

    @property
    def objects_table(self) -> Path:
        """Where the table of all objects goes."""
        return self.objects or self.cutouts.parent / "objects.csv"

    def _faults(self) -> Iterator[str]:
        if (self.folder is None) == (self.annotated is None):
            wanted = "give a folder of labelled stills, or a CSV of them as annotated"
            yield f"{wanted}; {'not both' if self.folder else 'neither is there'}"
        source = self.annotated or self.folder or Path()
        tables = [source, self.cutouts, self.distractors, self.objects_table]
        if len({table.absolute() for table in tables}) < len(tables):
            files = "annotated, cutouts, distractors and objects (objects.csv if not given)"
            yield f"{files} must be four different files: give another name to one of them"

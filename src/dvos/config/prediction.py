"""Settings of ``dvos predict`` and ``dvos evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from dvos.config.base import AFFECTS_NOTHING, Settings
from dvos.config.scoring import Pattern

#: What the scores of an evaluation depend on, and the masks do not.
_AFFECTS_SCORES: dict[str, Any] = {"affects": "scores"}


class XMemPredictionSettings(Settings):
    """How XMem follows objects; the published values. Other networks look at none of it."""

    size: int = Field(
        384,
        ge=0,
        description="larger frames are reduced to this shorter side for the network; 0 = never;"
        " a scale other than 1 takes its place",
    )
    objects: Literal["given", "union", "instances"] = Field(
        "given",
        description="what of a first mask is one object: each id as given (0/255 is one object),"
        " everything together, or each object that a mask without ids is split into",
    )
    frames: Literal["first", "new", "all"] = Field(
        "first",
        description="where a clip has masks for several frames: use the first, let later ones"
        " start objects that appear later, or let all of them correct the objects too",
    )
    objects_max: int = Field(
        2000, ge=1, le=65535, description="a first mask with more objects is refused"
    )
    minimum_area: int = Field(
        30,
        ge=1,
        description="of a mask that is split into objects, or found by a network, smaller pieces"
        " are no objects; pixels of the frame",
    )
    objects_at_once: int = Field(
        8, ge=1, description="objects the network takes at once; fewer need less memory"
    )
    memory_limit: float = Field(
        8.0,
        gt=0,
        description="gigabytes for what is remembered of the objects; with very many objects less"
        " is remembered of each, so as to stay below",
    )
    mem_every: int = Field(
        5,
        ge=1,
        description="a frame is remembered every so many frames",
        json_schema_extra={"was": "xmem.every"},
    )
    min_mid_term_frames: int = Field(
        5,
        ge=1,
        description="frames that a consolidation leaves in working memory",
        json_schema_extra={"was": "xmem.working_min"},
    )
    max_mid_term_frames: int = Field(
        10,
        ge=2,
        description="frames in working memory that set off a consolidation",
        json_schema_extra={"was": "xmem.working_max"},
    )
    prototypes: int = Field(
        128, ge=1, description="elements of long-term memory made by a consolidation"
    )
    long_term: bool = Field(
        True,
        description="whether there is a long-term memory; without it all remembered frames stay in"
        " working memory, which grows with the video",
    )
    long_term_max: int = Field(10_000, ge=1, description="most elements of long-term memory")
    top_k: int = Field(30, ge=1, description="elements of memory read for each place of a frame")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.max_mid_term_frames <= self.min_mid_term_frames:
            raise ValueError("max_mid_term_frames must be more than min_mid_term_frames; raise it")
        if self.long_term_max < self.prototypes:
            raise ValueError("long_term_max must be at least prototypes; raise it")
        if self.objects == "instances" and self.frames != "first":
            raise ValueError(
                "objects=instances numbers each mask anew, so later masks cannot tell which object"
                " is which; leave frames at first, or give masks with ids"
            )
        return self


class PredictorOptions(Settings):
    """How a network segments frames: what ``dvos.load_predictor`` takes."""

    device: str = Field(
        "auto",
        description="auto, cpu, cuda, cuda:N or mps",
        json_schema_extra=AFFECTS_NOTHING,
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto is float32 on a CPU and bfloat16 on a GPU"
    )
    batch: int = Field(
        0,
        ge=0,
        description="frames the network takes at once; 0 = one on a CPU, four on a GPU",
        json_schema_extra=AFFECTS_NOTHING,
    )
    scale: float = Field(
        1.0, gt=0, le=8, description="frames are resized by this factor for the network"
    )
    tile: int = Field(
        0,
        ge=0,
        description="side in pixels of the tiles that larger frames are cut into;"
        " 0 = whole frames; rounded up to a multiple of 32, at least 64",
    )
    threshold: float = Field(
        0.5, gt=0, lt=1, description="probability from which a pixel is object"
    )
    augment: Literal["none", "flips", "scales", "flips_and_scales"] = Field(
        "none",
        description="flips averages over the four mirror images, scales over the sizes of"
        " augment_scales, flips_and_scales over both; each view costs as much as a plain run",
    )
    augment_scales: list[float] = Field(
        [0.75, 1.0, 1.25], min_length=1, description="size factors that scales averages over"
    )
    reference_interval: int | None = Field(
        None, ge=1, description="frames between reference frames; null = as trained"
    )
    xmem: XMemPredictionSettings = Field(
        XMemPredictionSettings(), description="what XMem remembers, and how it reads first masks"
    )

    @field_validator("augment_scales")
    @classmethod
    def _are_positive(cls, value: list[float]) -> list[float]:
        if min(value) <= 0:
            raise ValueError("positive factors")
        return value


class FirstMaskOptions(Settings):
    """What XMem starts from. Of masks and networks the content counts, not where they lie."""

    first_mask: Literal["auto"] | Path | None = Field(
        None,
        description="of XMem, the mask that a clip starts from: a file, a folder with <clip>.png or"
        " <clip>/<frame>.png, or auto = what the network of first_mask_checkpoint finds",
        json_schema_extra=AFFECTS_NOTHING,
    )
    first_mask_checkpoint: Path | None = Field(
        None,
        description="trained network (not XMem) that finds the first mask, where that is auto",
        json_schema_extra=AFFECTS_NOTHING,
    )

    @field_validator("first_mask", mode="before")
    @classmethod
    def _auto_is_a_word(cls, value: Any) -> Any:
        return "auto" if value is not None and str(value) == "auto" else value

    @model_validator(mode="after")
    def _auto_has_a_network(self) -> Self:
        if self.first_mask == "auto" and self.first_mask_checkpoint is None:
            raise ValueError(
                "first_mask is auto; give the network that finds it as first_mask_checkpoint"
            )
        if self.first_mask_checkpoint is not None and self.first_mask != "auto":
            raise ValueError("first_mask_checkpoint is for first_mask=auto; leave it out")
        return self


class PredictionOptions(FirstMaskOptions, PredictorOptions):
    """How clips are predicted; shared by ``predict`` and ``evaluate``."""

    checkpoint: Path = Field(
        description="trained network, as best.safetensors of a run folder",
        json_schema_extra=AFFECTS_NOTHING,
    )
    stills: bool = Field(
        False, description="the images are photos, each predicted as a pan clip of its own"
    )
    pan_step: int = Field(
        4, ge=0, description="pixels a pan clip moves per frame, where stills is true"
    )
    frame_rate: float | None = Field(
        None, gt=0, description="frames a second of folders and tables of frames, if known"
    )
    probabilities: bool = Field(
        False, description="also write <clip>/probabilities/<frame>.png, 16 bit, 65535 = certain"
    )
    overlay: bool = Field(
        False,
        description="also write <clip>.mp4 (of a still overlays/<name>.jpg)",
        json_schema_extra=AFFECTS_NOTHING,
    )
    run_lengths: bool = Field(
        False,
        description="also write <clip>.json, the masks as COCO run lengths",
        json_schema_extra=AFFECTS_NOTHING,
    )
    instances: bool = Field(
        False,
        description="also write <clip>/instances/<frame>.png, numbered objects in 16 bit, and"
        " <clip>.objects.csv, a row for each object of each frame",
    )
    minimum_object_area: int = Field(
        30, ge=0, description="smaller objects, in pixels, are not counted; masks keep them"
    )
    object_width: float | None = Field(
        None,
        gt=0,
        description="usual width of an object in pixels of the frame, which tells where touching"
        " ones part; null = as learnt in training, or else from the masks themselves",
    )
    border_objects: Literal["count", "half", "exclude"] = Field(
        "count",
        description="objects that the frame's edge cuts: count, half (which makes a density"
        " right), or exclude",
    )
    smoothing: int = Field(
        5,
        ge=1,
        description="frames over which count_smooth evens out the counts; 1 = none",
        json_schema_extra=AFFECTS_NOTHING,
    )
    ground_sampling_distance: float | None = Field(
        None, gt=0, description="millimetres of ground per pixel, for counts per square metre"
    )
    seed: int = Field(123, ge=0, description="seed of the pan clips' directions")


class PredictionSettings(PredictionOptions):
    """What is segmented, and where the masks go."""

    input: Path = Field(
        description="video file, clip store, folder of frames, of videos or of clips, or CSV with"
        " VID,FID,Image,Mask,Label or Image",
        json_schema_extra=AFFECTS_NOTHING,
    )
    out: Path = Field(
        Path("predictions"),
        description="folder for masks, videos and counts.csv",
        json_schema_extra=AFFECTS_NOTHING,
    )


class EvaluationSettings(PredictionOptions):
    """Which labelled clips a checkpoint is tried on, and where the scores go."""

    truth: Path = Field(
        description="CSV with VID,FID,Image,Mask,Label, or folder of true masks (then give input)",
        json_schema_extra=_AFFECTS_SCORES,
    )
    input: Path | None = Field(
        None,
        description="the frames, as for predict; null = those that the CSV names",
        json_schema_extra=AFFECTS_NOTHING,
    )
    out: Path = Field(
        Path("evaluation"),
        description="folder for predictions/, scores.csv, scores.json, pictures",
        json_schema_extra=AFFECTS_NOTHING,
    )
    frames: Literal["last", "all", "labelled"] = Field(
        "labelled",
        description="which frames count: the last of each clip (as published), all that have a"
        " mask, or those with Label 1 (in a folder: all)",
        json_schema_extra=_AFFECTS_SCORES,
    )
    domain: Pattern | None = Field(
        None,
        description="regular expression that finds the domain in <clip>/<frame>: its first group,"
        " or all it matches; null = the column Domain of a CSV, if it has one",
        json_schema_extra=_AFFECTS_SCORES,
    )
    overlay_interval: int = Field(
        10,
        ge=0,
        description="an overlay picture of every n-th mask; 0 = best, median, worst only",
        json_schema_extra=_AFFECTS_SCORES,
    )

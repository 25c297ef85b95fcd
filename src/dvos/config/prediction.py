"""Settings of ``dvos predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from dvos.config.xmem_prediction import FirstMaskOptions, XMemPredictionSettings

__all__ = ["PredictionOptions", "PredictionSettings"]


class PredictionOptions(FirstMaskOptions):
    """How frames are segmented; shared by ``predict`` and ``evaluate``."""

    checkpoint: Path = Field(description="trained network, as best.safetensors of a run folder")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto is float32 on a CPU and bfloat16 on a GPU"
    )
    batch: int = Field(
        0, ge=0, description="frames the network takes at once; 0 = one on a CPU, four on a GPU"
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
        False, description="also write <clip>.mp4 (of a still overlays/<name>.jpg)"
    )
    run_lengths: bool = Field(
        False, description="also write <clip>.json, the masks as COCO run lengths"
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
        5, ge=1, description="frames over which count_smooth evens out the counts; 1 = none"
    )
    ground_sampling_distance: float | None = Field(
        None, gt=0, description="millimetres of ground per pixel, for counts per square metre"
    )
    xmem: XMemPredictionSettings = Field(
        XMemPredictionSettings(), description="what XMem remembers, and how it reads first masks"
    )
    seed: int = Field(123, ge=0, description="seed of the pan clips' directions")


class PredictionSettings(PredictionOptions):
    """What is segmented, and where the masks go."""

    input: Path = Field(
        description="video file, clip store, folder of frames, of videos or of clips, or CSV with"
        " VID,FID,Image,Mask,Label or Image"
    )
    out: Path = Field(Path("predictions"), description="folder for masks, videos and counts.csv")

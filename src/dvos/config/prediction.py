"""Settings of ``dvos predict``, ``dvos evaluate`` and ``dvos convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from dvos.config.base import (
    AFFECTS_NOTHING,
    Count,
    Intensity,
    Natural,
    Scheduler,
    Settings,
    Shard,
    Void,
    Weights,
    free,
    setting,
)
from dvos.config.scoring import Domain, ScoredFrames
from dvos.files import real_path

#: What the scores of an evaluation depend on, and the masks do not.
_AFFECTS_SCORES: dict[str, Any] = {"affects": "scores"}

Device = Annotated[
    str, Field(description="auto, cpu, cuda, cuda:N or mps", json_schema_extra=AFFECTS_NOTHING)
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    Field(
        description="auto is float32 on a CPU, and on a GPU float16, of paper bfloat16; keys,"
        " affinities and probabilities of XMem are float32"
    ),
]
NetworkBatch = Annotated[
    Natural,
    Field(
        description="frames the network takes at once; 0 = one on a CPU, on a GPU by their size:"
        " four of 1920 x 1080",
        json_schema_extra=AFFECTS_NOTHING,
    ),
]
Compile = Annotated[
    Literal["auto", "on", "off"],
    Field(
        description="whether the network dvos is compiled for frames of each size, which takes half"
        " a minute: auto = on a GPU, where enough frames are left for that to be worth it",
        json_schema_extra=AFFECTS_NOTHING,
    ),
]
Tile = Annotated[
    Natural,
    Field(
        description="side in pixels of the tiles that larger frames are cut into; 0 = whole frames;"
        " rounded up to a multiple of 32, at least 64"
    ),
]
ReferenceInterval = Annotated[
    Count | None, Field(description="frames between reference frames; null = as trained")
]
Checkpoint = Annotated[
    Weights,
    Field(
        description="trained network, as best.safetensors of a run folder; wheat: the starter"
        " weights, taught by rendered fields alone"
    ),
]
Input = Annotated[
    Path,
    Field(
        description="video file, clip store, folder of frames, of videos or of clips, or CSV with"
        " VID,FID,Image,Mask,Label or Image"
    ),
]


class XMemPredictionSettings(Settings):
    """How XMem follows objects; the published values. Other networks look at none of it."""

    size: Natural = setting(
        384,
        "larger frames are reduced to this shorter side for the network; 0 = never; a scale other"
        " than 1 takes its place",
    )
    objects: Literal["given", "union", "instances"] = setting(
        "given",
        "what of a first mask is one object: each id as given (0/255 is one object), everything"
        " together, or each object that a mask without ids is split into",
    )
    frames: Literal["first", "new", "all"] = setting(
        "first",
        "where a clip has masks for several frames: use the first, let later ones start objects"
        " that appear later, or let all of them correct the objects too",
    )
    objects_max: Count = setting(2000, "a first mask with more objects is refused", le=65535)
    minimum_area: Count = setting(
        30, "of a mask that is split, or found by a network, the least object in pixels"
    )
    objects_at_once: Natural = setting(
        0,
        "objects the network takes at once; fewer need less memory; 0 = eight on a CPU, sixteen on"
        " a GPU, fewer where its memory runs out",
    )
    memory_limit: float = setting(
        8.0,
        "gigabytes for what is remembered of the objects; of very many less is remembered each",
        gt=0,
    )
    mem_every: Count = setting(5, "a frame is remembered every so many frames", was="xmem.every")
    min_mid_term_frames: Count = setting(
        5, "frames that a consolidation leaves in working memory", was="xmem.working_min"
    )
    max_mid_term_frames: int = setting(
        10, "frames in working memory that set off a consolidation", was="xmem.working_max", ge=2
    )
    prototypes: Count = setting(128, "elements of long-term memory made by a consolidation")
    long_term: bool = setting(
        True, "whether there is a long-term memory; else the working memory grows with the video"
    )
    long_term_max: Count = setting(10_000, "most elements of long-term memory")
    top_k: Count = setting(30, "elements of memory read for each place of a frame")

    @model_validator(mode="after")
    def _check_memory(self) -> Self:
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


class LinkingSettings(Settings):
    """How objects are linked over the frames of a clip; ``docs/reference/tracks.md`` says more."""

    gap: Natural = setting(
        10, "frames that an object may be missed or hidden and keep its track", affects="tracks"
    )
    sightings: Count = setting(
        3,
        "frames that an object must be seen in to be a track; others count as chance finds",
        affects="tracks",
        le=10,
    )
    divisions: bool = setting(
        False,
        "whether objects divide in two, as cells do; daughters then name their parent",
        affects="tracks",
    )
    reach: float | None = setting(
        None,
        "pixels that an object may lie from where its track was foreseen; null = as the clip's own"
        " objects depart from it",
        affects="tracks",
        gt=0,
    )


class PredictorOptions(Settings):
    """How a network segments frames: what ``dvos.load_predictor`` takes."""

    device: Device = "auto"
    precision: Precision = "auto"
    batch: NetworkBatch = 0
    compile: Compile = "auto"
    scale: float = setting(
        1.0, "frames are resized by this for the network, on top of its data.scale", gt=0, le=8
    )
    every: Count = setting(
        1, "frames 0, N, 2N, ... of a clip are segmented, and refer to each other; others left out"
    )
    tile: Tile = 0
    threshold: float = setting(0.5, "probability from which a pixel is object", gt=0, lt=1)
    intensity: Annotated[Intensity, Field(json_schema_extra=AFFECTS_NOTHING)] = "auto"
    augment: Literal["none", "flips", "scales", "flips_and_scales"] = setting(
        "none",
        "flips averages over the four mirror images, scales over the sizes of augment_scales,"
        " flips_and_scales over both; each view costs as much as a plain run",
    )
    augment_scales: list[float] = setting(
        [0.75, 1.0, 1.25], "size factors that scales averages over", min_length=1
    )
    reference_interval: ReferenceInterval = None
    flow_frames: Literal["auto"] | Annotated[int, Field(ge=0, le=16)] = setting(
        "auto",
        "frames before and after each of a video whose predictions are averaged with its own along"
        " the optical flow; auto = 4 for networks that see one frame alone, else 0",
    )
    xmem: XMemPredictionSettings = setting(
        XMemPredictionSettings(), "what XMem remembers, and how it reads first masks"
    )

    @field_validator("augment_scales")
    @classmethod
    def _check_scales(cls, value: list[float]) -> list[float]:
        if min(value) <= 0:
            raise ValueError("positive factors")
        return value


class FirstMaskOptions(Settings):
    """What XMem starts from. Of masks and networks the content counts, not where they lie."""

    first_mask: Literal["auto"] | Path | None = free(
        None,
        "of XMem, the mask that a clip starts from: a file, a folder with <clip>.png or"
        " <clip>/<frame>.png, or auto = what the network of first_mask_checkpoint finds",
    )
    first_mask_checkpoint: Weights | None = free(
        None, "trained network (not XMem) that finds the first mask, where that is auto"
    )

    @field_validator("first_mask", mode="before")
    @classmethod
    def _read_auto(cls, value: Any) -> Any:
        return "auto" if value is not None and str(value) == "auto" else value

    @model_validator(mode="after")
    def _check_first_mask(self) -> Self:
        if self.first_mask == "auto" and self.first_mask_checkpoint is None:
            raise ValueError(
                "first_mask is auto; give the network that finds it as first_mask_checkpoint"
            )
        if self.first_mask_checkpoint is not None and self.first_mask != "auto":
            raise ValueError("first_mask_checkpoint is for first_mask=auto; leave it out")
        return self


class PredictionOptions(FirstMaskOptions, PredictorOptions):
    """How clips are predicted; shared by ``predict`` and ``evaluate``."""

    checkpoint: Checkpoint
    scale: Annotated[float, Field(gt=0, le=8)] | Literal["auto"] = setting(  # type: ignore[assignment]
        1.0,
        "frames are resized by this for the network, on top of its data.scale; auto = for each clip"
        " as objects in some of its frames have the size that they had in training",
    )
    stills: bool = setting(False, "the images are photos, each predicted as a simulated pan")
    pan_step: Natural = setting(4, "pixels a simulated pan moves per frame, of stills")
    frame_rate: float | None = setting(
        None, "frames a second of folders and tables of frames, if known", gt=0
    )
    probabilities: bool = setting(
        False, "also write <clip>/probabilities/<frame>.png, 16 bit, 65535 = certain"
    )
    overlay: bool = free(False, "also write <clip>.mp4 (of a still overlays/<name>.jpg)")
    run_lengths: bool = free(False, "also write <clip>.json, the masks as COCO run lengths")
    instances: bool = setting(
        False,
        "also write <clip>/instances/<frame>.png, numbered objects in 16 bit, and"
        " <clip>.objects.csv, a row for each object of each frame",
    )
    tracks: Literal["auto"] | bool = setting(
        "auto",
        "follow each object over the clip: <clip>/tracks/<frame>.png with permanent ids,"
        " <clip>.tracks.csv and totals.csv, and what instances writes; auto = where the network"
        " tells objects apart",
        affects="tracks",
    )
    linking: LinkingSettings = setting(
        LinkingSettings(), "how the objects of a frame are linked to those before"
    )
    format: Literal["dvos", "ctc"] = free(
        "dvos",
        "ctc: also write <clip>_RES/mask<frame>.tif and res_track.txt, the tracks in the layout of"
        " the Cell Tracking Challenge",
    )
    regions: Path | None = setting(
        None,
        "counts and totals of each region: GeoJSON in pixels of the clip's first frame, ImageJ's"
        " ROIs, or a mask of ids; what lies outside is left out",
        affects="tracks",
    )
    regions_on: Literal["ground", "picture"] = setting(
        "ground",
        "whether regions lie on the ground of the first frame, and move through the picture with"
        " it, or stay where they are in the picture",
        affects="tracks",
    )
    minimum_object_area: Natural = setting(
        30, "smaller objects, in pixels, are not counted; masks keep them"
    )
    object_width: float | None = setting(
        None,
        "usual width of an object in pixels of the frame, which tells where touching ones part;"
        " null = as learnt in training, or else from the masks themselves",
        gt=0,
    )
    border_objects: Literal["count", "half", "exclude"] = setting(
        "count", "objects cut by the frame's edge: count, half (for a right density), or exclude"
    )
    smoothing: Count = free(5, "frames over which count_smooth evens out the counts; 1 = none")
    ground_sampling_distance: Annotated[float, Field(gt=0)] | Literal["metadata"] | None = setting(
        None,
        "millimetres of ground per pixel of a clip's first frame, for counts per square metre;"
        " metadata = by height, focal length and sensor in EXIF and XMP of its first photo",
    )
    camera_height: float | None = setting(
        None,
        "metres from the camera down to what is counted, for ground_sampling_distance=metadata;"
        " null = as XMP tells",
        gt=0,
    )
    known_width: tuple[float, float] | None = setting(
        None,
        "[pixels, millimetres] of something on the ground of the first frame, such as a rod, in"
        " place of ground_sampling_distance",
    )
    seed: Natural = setting(123, "seed of the simulated pans' directions")

    @model_validator(mode="after")
    def _check_ground(self) -> Self:
        if self.known_width is not None and min(self.known_width) <= 0:
            raise ValueError("known_width holds a number that is not positive; give pixels, mm")
        if self.known_width is not None and self.ground_sampling_distance is not None:
            raise ValueError("known_width tells ground_sampling_distance; leave one of them out")
        if self.camera_height is not None and self.ground_sampling_distance != "metadata":
            raise ValueError("camera_height is for ground_sampling_distance=metadata; leave it out")
        return self

    @model_validator(mode="after")
    def _check_every(self) -> Self:
        if self.every > 1 and (self.stills or self.format == "ctc"):
            what = "stills are single frames" if self.stills else "format=ctc holds every frame"
            raise ValueError(f"every is {self.every}, and {what}; leave out one")
        return self

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        if self.format != "dvos" and self.tracks is False:
            raise ValueError(f"format is {self.format}, which needs tracks; leave out tracks=false")
        on_ground = self.regions is not None and self.regions_on == "ground"
        if on_ground and self.tracks is False and not self.stills:
            raise ValueError(
                "regions on the ground are followed by tracks; leave out tracks=false, or give"
                " regions_on=picture"
            )
        return self


class PredictionSettings(PredictionOptions):
    """What is segmented, and where the masks go."""

    checkpoint: Checkpoint = Path("wheat")
    input: Annotated[Input, Field(json_schema_extra=AFFECTS_NOTHING)]
    out: Path = free(Path("predictions"), "folder for masks, videos and counts.csv")
    shard: Shard = None
    scheduler: Scheduler = None


class EvaluationSettings(PredictionOptions):
    """Which labelled clips a checkpoint is tried on, and where the scores go."""

    truth: Path = Field(
        description="CSV with VID,FID,Image,Mask,Label, or folder of true masks (then give input);"
        " what input names where it is not given",
        json_schema_extra=_AFFECTS_SCORES,
    )
    input: Path | None = free(
        None, "the frames, as for predict; a CSV of labelled clips, or a folder of them, tells both"
    )
    out: Path = free(
        Path("evaluation"), "folder for predictions/, scores.csv, scores.json, pictures"
    )
    frames: ScoredFrames = Field("labelled", json_schema_extra=_AFFECTS_SCORES)
    domain: Domain = Field(None, json_schema_extra=_AFFECTS_SCORES)
    void: Void = Field("auto", json_schema_extra=_AFFECTS_SCORES)
    overlay_interval: Natural = setting(
        10, "an overlay of every n-th mask; 0 = best, median, worst only", affects="scores"
    )

    @model_validator(mode="before")
    @classmethod
    def _read_input_alone(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("truth") is None and given.get("input"):
            return {**given, "truth": given["input"], "input": None}
        return given


class ConvertSettings(Settings):
    """A checkpoint, the file it is to become, and what it does not say about its network."""

    checkpoint: Weights = Field(
        description="weights of the published training (.tar, .pth), or a weights file of ours"
    )
    out: Path = Field(description="file to write: .safetensors, or .onnx for onnxruntime")
    sees_query: bool = setting(
        False, "whether the last of the frames the network takes is the query"
    )
    mean: tuple[float, float, float] | None = setting(
        None, "channel means of the input, 0..1; null: the published, or those stored"
    )
    std: tuple[float, float, float] | None = setting(
        None, "channel deviations of the input; null: the published, or those stored"
    )
    reference_interval: Count | None = setting(
        None, "frames between references; null: 1, or what is stored"
    )

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        if self.out.suffix not in (".safetensors", ".onnx"):
            raise ValueError(f"out is {self.out}; give a name that ends in .safetensors or .onnx")
        if real_path(self.out) == real_path(self.checkpoint):
            raise ValueError(f"out is the checkpoint itself, {self.out}; give another name")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std holds a value that is not positive; give positive numbers")
        return self

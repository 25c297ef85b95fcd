"""Settings of ``dvos predict``, ``dvos evaluate`` and ``dvos convert``."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from dvos.config import base
from dvos.config.base import FREE, Count, Natural, Settings, Void, Weights, free, setting
from dvos.config.scoring import Domain, ScoredFrames
from dvos.files import real_path

#: What the scores of an evaluation depend on, and the masks do not.
_AFFECTS_SCORES: dict[str, Any] = {"affects": "scores"}
#: A setting that tracks depend on, and the masks do not.
_tracks = partial(setting, affects="tracks")

Device = Annotated[str, Field(description="auto, cpu, cuda, cuda:N or mps"), FREE]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    Field(description="auto is float32 on a CPU, and on a GPU float16, of paper bfloat16"),
]
#: Views of a frame whose predictions are averaged; each of them costs a run of the network.
Augment = Literal["none", "flips", "scales", "flips_and_scales"]
#: Photos of the kind that was learnt are best averaged over these (docs/research/experiments.md).
AUGMENT_SCALES = (1.0, 0.45, 0.6, 0.75, 1.33)
NetworkBatch = Annotated[
    Natural, Field(description="frames at once; 0 = one on a CPU, on a GPU by their size"), FREE
]
#: A word that YAML reads as true or false, where it stands without quotes.
Switch = Annotated[
    Literal["auto", "on", "off"],
    BeforeValidator(lambda given: ("off", "on")[given] if isinstance(given, bool) else given),
]
Compile = Annotated[
    Switch,
    Field(description="compile dvos for each size of frames; auto = on a GPU for many"),
    FREE,
]
Tile = Annotated[
    Natural,
    Field(description="side in pixels of tiles, raised to a multiple of 32, of 64 on; 0 = none"),
]
ReferenceInterval = Annotated[
    Count | None, Field(description="frames between reference frames; null = as trained")
]
Checkpoint = Annotated[
    Weights, Field(description="best.safetensors of a run, or wheat, the starter weights")
]
Input = Annotated[
    Path,
    Field(
        description="video, clip store, folder of frames, videos or clips, or CSV with"
        " VID,FID,Image,Mask,Label or Image"
    ),
]


class XMemPredictionSettings(Settings):
    """How XMem follows objects; the published values. Other networks look at none of it."""

    size: Natural = setting(384, "larger frames are reduced to this shorter side; 0 = never")
    objects: Literal["given", "union", "instances"] = setting(
        "given", "an object of a first mask is each id, all of it, or each part without ids"
    )
    frames: Literal["first", "new", "all"] = setting(
        "first", "of several masks use the first, start new objects by others, or correct by all"
    )
    objects_max: Count = setting(2000, "a first mask with more objects is refused", le=65535)
    minimum_area: Count = setting(30, "least object in pixels where a mask is split or found")
    objects_at_once: Natural = setting(0, "objects computed together; 0 = 8 on a CPU, 16 on a GPU")
    memory_limit: float = setting(8.0, "GB to remember objects in; of many less is kept each", gt=0)
    mem_every: Count = setting(5, "a frame is remembered every so many frames")
    min_mid_term_frames: Count = setting(5, "frames that a consolidation leaves in working memory")
    max_mid_term_frames: int = setting(10, "frames there that start a consolidation", ge=2)
    prototypes: Count = setting(128, "elements of long-term memory made by a consolidation")
    long_term: bool = setting(True, "long-term memory; else working memory grows with the video")
    long_term_max: Count = setting(10_000, "most elements of long-term memory")
    top_k: Count = setting(30, "elements of memory read for each place of a frame")

    def _faults(self) -> Iterator[str]:
        if self.max_mid_term_frames <= self.min_mid_term_frames:
            yield "max_mid_term_frames must be more than min_mid_term_frames; raise it"
        if self.long_term_max < self.prototypes:
            yield "long_term_max must be at least prototypes; raise it"
        if self.objects == "instances" and self.frames != "first":
            found = "objects=instances numbers each mask anew, so later masks cannot tell which"
            yield f"{found} object is which; leave frames at first, or give masks with ids"


class LinkingSettings(Settings):
    """How objects are linked over the frames of a clip; ``docs/reference/tracks.md`` says more."""

    gap: Natural = setting(10, "frames that an object may be missed and keep its track")
    sightings: Count = setting(3, "frames that make an object a track, not a chance find", le=10)
    divisions: bool = setting(False, "objects divide in two, as cells do, and name their parent")
    reach: float | None = setting(None, "pixels to a foreseen object; null = by the clip", gt=0)


class PredictorOptions(Settings):
    """How a network segments frames: what ``dvos.load_predictor`` takes."""

    device: Device = "auto"
    precision: Precision = "auto"
    batch: NetworkBatch = 0
    compile: Compile = "auto"
    scale: float = setting(1.0, "frames are resized by this, on top of data.scale", ge=0.001, le=8)
    every: Count = setting(1, "frames 0, N, 2N, ... are segmented, and refer to each other")
    tile: Tile = 0
    threshold: float = setting(0.5, "probability from which a pixel is object", gt=0, lt=1)
    intensity: base.FreeIntensity = "auto"
    augment: Augment = setting("none", "views averaged: mirror images, sizes or both")
    augment_scales: list[float] = setting(
        [*AUGMENT_SCALES], "sizes averaged over; the first one tells objects apart", min_length=1
    )
    reference_interval: ReferenceInterval = None
    flow_frames: Literal["auto"] | Annotated[int, Field(ge=0, le=16)] = setting(
        "auto", "frames each side averaged along the flow; auto = 4, of cells 2, with references 0"
    )
    xmem: XMemPredictionSettings = setting(XMemPredictionSettings(), "how XMem follows objects")
    void: Annotated[Void, FREE] = "auto"

    @field_validator("augment_scales")
    @classmethod
    def _check_scales(cls, value: list[float]) -> list[float]:
        if not all(0.01 <= scale <= 8 for scale in value):
            raise ValueError("positive factors from 0.01 to 8")
        return value


class FirstMaskOptions(Settings):
    """What XMem starts from. Of masks and networks the content counts, not where they lie."""

    first_mask: Literal["auto"] | Path | None = free(
        None, "xmem: file, folder with <clip>.png or <clip>/<frame>.png, or auto = found"
    )
    first_mask_checkpoint: Weights | None = free(
        None, "network (not XMem) that finds the first mask, where that is auto"
    )

    @field_validator("first_mask", mode="before")
    @classmethod
    def _read_auto(cls, value: Any) -> Any:
        return "auto" if value is not None and str(value) == "auto" else value

    def _faults(self) -> Iterator[str]:
        if self.first_mask == "auto" and self.first_mask_checkpoint is None:
            yield "first_mask is auto; give the network that finds it as first_mask_checkpoint"
        if self.first_mask_checkpoint is not None and self.first_mask != "auto":
            yield "first_mask_checkpoint is for first_mask=auto; leave it out"


class PredictionOptions(FirstMaskOptions, PredictorOptions):
    """How clips are predicted; shared by ``predict`` and ``evaluate``."""

    checkpoint: Checkpoint
    scale: Annotated[float, Field(ge=0.001, le=8)] | Literal["auto"] = setting(  # type: ignore[assignment]
        1.0, "frames are resized by this, on top of data.scale; auto = to objects as in training"
    )
    stills: bool = setting(False, "the images are photos, each predicted as a simulated pan")
    pan_step: Natural = setting(4, "pixels a simulated pan moves per frame, of stills")
    frame_rate: float | None = setting(None, "rate of folders and tables, if known", gt=0)
    probabilities: bool = setting(False, "also write <clip>/probabilities/<frame>.png, 16 bit")
    overlay: bool = free(False, "also write <clip>.mp4 (of a still overlays/<name>.jpg)")
    run_lengths: bool = free(False, "also write <clip>.json, the masks as COCO run lengths")
    instances: bool = setting(False, "also <clip>/instances/<frame>.png and <clip>.objects.csv")
    tracks: Literal["auto"] | bool = _tracks(
        "auto",
        "also <clip>/tracks/<frame>.png, <clip>.tracks.csv, totals.csv; auto = where dvos can",
    )
    linking: LinkingSettings = _tracks(LinkingSettings(), "how objects are linked to those before")
    format: Literal["dvos", "ctc"] = free(
        "dvos", "ctc: also <clip>_RES, the tracks as in the Cell Tracking Challenge"
    )
    regions: Path | None = _tracks(
        None, "counts by region: GeoJSON in pixels of the first frame, ImageJ ROIs or mask of ids"
    )
    regions_on: Literal["ground", "picture"] = _tracks(
        "ground", "regions lie on the ground of the first frame, or stay in the picture"
    )
    minimum_object_area: Natural = setting(30, "smaller objects, in pixels, are not counted")
    object_width: float | None = setting(
        None, "usual width of an object in pixels, where touching ones part; null = as learnt", gt=0
    )
    border_objects: Literal["count", "half", "exclude"] = setting(
        "count", "objects cut by the frame's edge: count, half (for a right density), or exclude"
    )
    smoothing: Count = free(5, "frames over which count_smooth evens out the counts; 1 = none")
    ground_sampling_distance: Annotated[float, Field(ge=1e-9)] | Literal["metadata"] | None = (
        setting(
            None, "mm of ground per pixel of the first frame; metadata = by EXIF and XMP of a photo"
        )
    )
    camera_height: float | None = setting(
        None, "metres from the camera down to what is counted; null = as XMP tells", gt=0
    )
    known_width: tuple[float, float] | None = setting(
        None, "[pixels, mm] of a thing on the ground, in place of ground_sampling_distance"
    )
    seed: Natural = setting(123, "seed of the simulated pans' directions")

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if self.known_width is not None and min(self.known_width) < 1e-9:
            yield "known_width holds a number that is no length above 0; give pixels, mm"
        if self.known_width is not None and self.ground_sampling_distance is not None:
            yield "known_width tells ground_sampling_distance; leave one of them out"
        if self.camera_height is not None and self.ground_sampling_distance != "metadata":
            yield "camera_height is for ground_sampling_distance=metadata; leave it out"
        if self.every > 1 and (self.stills or self.format == "ctc"):
            what = "stills are single frames" if self.stills else "format=ctc holds every frame"
            yield f"every is {self.every}, and {what}; leave out one"
        if self.format != "dvos" and self.stills:
            yield f"format is {self.format}, which holds tracks, and stills are single frames"
        if self.format != "dvos" and self.tracks is False:
            yield f"format is {self.format}, which needs tracks; leave out tracks=false"
        on_ground = self.regions is not None and self.regions_on == "ground"
        if on_ground and self.tracks is False and not self.stills:
            found = "regions on the ground are followed by tracks"
            yield f"{found}; leave out tracks=false, or give regions_on=picture"


class PredictionSettings(PredictionOptions):
    """What is segmented, and where the masks go."""

    checkpoint: Checkpoint = Path("wheat")
    input: Annotated[Input, FREE]
    out: Path = free(Path("predictions"), "folder for masks, videos and counts.csv")
    shard: base.Shard = None
    scheduler: base.Scheduler = None


class EvaluationSettings(PredictionOptions):
    """Which labelled clips a checkpoint is tried on, and where the scores go."""

    truth: Path = Field(
        description="CSV with VID,FID,Image,Mask,Label, or folder of masks (then give input)",
        json_schema_extra=_AFFECTS_SCORES,
    )
    input: Path | None = free(None, "frames, as for predict; CSV or folder of labelled clips")
    out: Path = free(Path("evaluation"), "folder for predictions/, scores.csv, scores.json")
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

    checkpoint: Weights = Field(description="published weights (.tar, .pth), or a file of ours")
    out: Path = Field(description="file to write: .safetensors, or .onnx for onnxruntime")
    sees_query: bool = setting(False, "whether the last frame the network takes is the query")
    mean: tuple[float, float, float] | None = setting(
        None, "channel means of the input, 0..1; null: the published, or those stored"
    )
    std: tuple[float, float, float] | None = setting(None, "channel deviations; null: as mean")
    reference_interval: Count | None = setting(None, "between references; null: 1, or as stored")

    def _faults(self) -> Iterator[str]:
        if self.out.suffix not in (".safetensors", ".onnx"):
            yield f"out is {self.out}; give a name that ends in .safetensors or .onnx"
        if real_path(self.out) == real_path(self.checkpoint):
            yield f"out is the checkpoint itself, {self.out}; give another name"
        if self.std is not None and min(self.std) <= 0:
            yield "std holds a value that is not positive; give positive numbers"

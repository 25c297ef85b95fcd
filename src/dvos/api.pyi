"""Signatures of :mod:`dvos.api`; made from the settings by ``make stubs``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dvos.config.data import DataSettings
from dvos.config.extraction import (
    FramesSettings,
    HueSwapSettings,
    ObjectsSettings,
    TransformSettings,
)
from dvos.config.labelling import ExportSettings, ImportSettings, LabelSettings, SuggestSettings
from dvos.config.network import NetworkSettings
from dvos.config.prediction import (
    ConvertSettings,
    EvaluationSettings,
    LinkingSettings,
    PredictionSettings,
    XMemPredictionSettings,
)
from dvos.config.scene import SceneSettings, SynthesisSettings
from dvos.config.scoring import ReportSettings, ScoringSettings
from dvos.config.selftraining import (
    FilterSettings,
    PseudoLabelOptions,
    PseudoLabelSettings,
    RoundsSettings,
    UnlabelledSettings,
)
from dvos.config.training import (
    LossSettings,
    OptimiserSettings,
    ScheduleSettings,
    TrainingSettings,
    XMemSettings,
)
from dvos.config.workflow import DemoSettings, FitSettings, SampleSettings
from dvos.extraction.objects import ObjectsResult
from dvos.formats.importing import ExportResult, ImportResult
from dvos.labelling.suggest import SuggestResult
from dvos.prediction.convert import ConvertResult
from dvos.prediction.predict import EvaluationResult, PredictResult
from dvos.prediction.predictor import FirstMask, Predictor
from dvos.scoring.score import ScoreResult
from dvos.selftraining.label import PseudoLabelResult
from dvos.selftraining.rounds import RoundsResult
from dvos.synthesis.write import SynthesisResult
from dvos.training.records import TrainResult
from dvos.workflow.demo import DemoResult
from dvos.workflow.fit import FitResult

StrPath = str | Path

def run(command: str, values: dict[str, Any]) -> Any: ...
def stub_text() -> str: ...
def extract_frames(
    inputs: Sequence[StrPath] | FramesSettings = ...,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    videos: StrPath | None = None,
    interval: int = 1,
    out: StrPath = "frames.csv",
    names: Literal["frame", "published"] = "frame",
    extension: Literal[".png", ".jpg", ".jpeg", ".tif", ".tiff"] = ".png",
    quality: int = 95,
    min_side: int = 0,
    intensity: str = "auto",
    hue_swap: HueSwapSettings | Mapping[str, Any] | None = None,
    transform: TransformSettings | Mapping[str, Any] = ...,
    seed: int = 123,
    workers: int = 0,
    shard: str | None = None,
    scheduler: str | None = None,
) -> Path:
    """Write every n-th frame of each video; list them in a CSV.

    Args:
        inputs: videos, or folders of them; frames go to a folder named as out; or a whole
            :class:`FramesSettings`, which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        videos: CSV with Video,FramesDir,Interval, in place of inputs (default: none)
        interval: every how manieth frame of the inputs is written (default: 1)
        out: CSV with Image,Video,Frame to write, in video order (default: frames.csv)
        names: n in {video stem}_{n}: the frame's number, or (published) that of the saved one
            (default: frame)
        extension: file type (default: .png)
        quality: JPEG quality (default: 95)
        min_side: smaller frames are enlarged to it, unlike predictions; 0: none (default: 0)
        intensity: of more than 8 bit, LOW,HIGH: samples that become black and white; full: divided
            by 257; auto: percentiles where a small part of the range is used (default: auto)
        hue_swap: change of hue; none if not given (default: none)
        transform: spatial transform, one a video
        seed: seed of the random draws (default: 123)
        workers: processes; 0 = one per core (default: 0)
        shard: I/N: do only the I-th of N parts, I from 1 (default: none)
        scheduler: address of a dask.distributed scheduler to run on (default: none)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def extract_objects(
    folder: StrPath | ObjectsSettings | None = ...,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    annotated: StrPath | None = None,
    cutouts: StrPath = "cutouts.csv",
    distractors: StrPath = "distractors.csv",
    objects: StrPath | None = None,
    extension: Literal[".png", ".tif", ".tiff"] = ".png",
    intensity: str = "auto",
    void: str = "auto",
    instances: Literal["ids", "components", "auto"] = "ids",
    min_object_size: int = 400,
    cut_at_border: bool = True,
    distractors_per_object: int = 10,
    max_distractors: int = 10000,
    max_iou: float = 0.1,
    tries: int = 200,
    hue_swap: HueSwapSettings | Mapping[str, Any] | None = None,
    transform: TransformSettings | Mapping[str, Any] = ...,
    seed: int = 123,
    workers: int = 0,
    shard: str | None = None,
    scheduler: str | None = None,
) -> ObjectsResult:
    """Cut labelled objects, and look-alike patches that are none, out of stills.

    Args:
        folder: folder with images/ and masks/ (or head_mask/) of same stems; or a whole
            :class:`ObjectsSettings`, which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        annotated: CSV with Image,Mask,OutDir, in place of folder (default: none)
        cutouts: CSV with Image to write: the objects (default: cutouts.csv)
        distractors: CSV with Image to write: look-alike patches (default: distractors.csv)
        objects: CSV of all labelled objects to write; none: objects.csv (default: none)
        extension: file type, with transparency (default: .png)
        intensity: of more than 8 bit, LOW,HIGH: samples that become black and white; full: divided
            by 257; auto: percentiles where a small part of the range is used (default: auto)
        void: values of masks that mean unknown, as 254,255; none; auto: by void.txt beside the
            masks, else by what they look like (default: auto)
        instances: an object is each id; each connected component; or components in masks of one
            value (default: ids)
        min_object_size: smaller objects give no cutout, pixels (default: 400)
        cut_at_border: cutouts of objects that the photo's border cuts, too (default: True)
        distractors_per_object: distractors for each cutout (default: 10)
        max_distractors: most distractors of a still, shared among cutouts (default: 10000)
        max_iou: most IoU of a distractor with labelled objects (default: 0.1)
        tries: places tried for each distractor (default: 200)
        hue_swap: change of hue; none if not given (default: none)
        transform: spatial transform, one a patch
        seed: seed of the random draws (default: 123)
        workers: processes; 0 = one per core (default: 0)
        shard: I/N: do only the I-th of N parts, I from 1 (default: none)
        scheduler: address of a dask.distributed scheduler to run on (default: none)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def synthesize(
    settings: SynthesisSettings | None = None,
    /,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    scene: SceneSettings | Mapping[str, Any] = ...,
    backgrounds: Sequence[StrPath] = ...,
    cutouts: Sequence[StrPath] = ...,
    distractors: Sequence[StrPath] = ...,
    intensity: str = "auto",
    void: str = "auto",
    out: StrPath = ...,
    clips: int | None = None,
    clips_per_background: int = 20,
    frames: int = 60,
    height: int = 1024,
    width: int = 1024,
    prefix: str = "",
    layout: Literal["tree", "store"] = "tree",
    instances: bool = False,
    flow: bool = False,
    overlay_video: bool = False,
    frame_rate: float = 10,
    preview: bool = False,
    seed: int = 123,
    workers: int = 0,
    shard: str | None = None,
    scheduler: str | None = None,
) -> SynthesisResult:
    """Composite cutouts over backgrounds into exactly labelled clips.

    Args:
        settings: a whole :class:`SynthesisSettings`, which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        scene: what the clips show
        backgrounds: CSVs with Image or Image,Mask; a background each (required)
        cutouts: CSVs with Image: cut-out objects (required)
        distractors: CSVs with Image: look-alikes; may be none (default: [])
        intensity: of more than 8 bit, LOW,HIGH: samples that become black and white; full: divided
            by 257; auto: percentiles where a small part of the range is used (default: auto)
        void: values of masks that mean unknown, as 254,255; none; auto: by void.txt beside the
            masks, else by what they look like (default: auto)
        out: folder for the clips and their table (required)
        clips: clips in all; null = by clips_per_background (default: none)
        clips_per_background: clips for each background table (default: 20)
        frames: frames of a clip (default: 60)
        height: height of a frame, px (default: 1024)
        width: width of a frame, px (default: 1024)
        prefix: begins the clips' names (VID) in the table (default: )
        layout: folders of PNGs, or .dvclip files (fast) (default: tree)
        instances: write instance masks and a table of all instances too (default: False)
        flow: write the flow to the frame before as well (default: False)
        overlay_video: write an MP4 with the masks drawn over (default: False)
        frame_rate: frames a second of that MP4 (default: 10)
        preview: write only a contact sheet of some clips (default: False)
        seed: seed of all clips (default: 123)
        workers: processes; 0 = one per core (default: 0)
        shard: I/N: do only the I-th of N parts, I from 1 (default: none)
        scheduler: address of a dask.distributed scheduler to run on (default: none)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def train(
    settings: TrainingSettings | None = None,
    /,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    out: StrPath = ...,
    network: NetworkSettings | Mapping[str, Any] = ...,
    data: DataSettings | Mapping[str, Any] = ...,
    epochs: int = 15,
    clips_per_epoch: int = 512,
    minutes: float | None = None,
    batch: int = 8,
    accumulate: int = 1,
    optimiser: OptimiserSettings | Mapping[str, Any] = ...,
    schedule: ScheduleSettings | Mapping[str, Any] = ...,
    losses: LossSettings | Mapping[str, Any] = ...,
    xmem: XMemSettings | Mapping[str, Any] = ...,
    ema_decay: float = 0.99,
    start_share: float = 0.0,
    patience: int = 0,
    pictures: int = 4,
    keep_epochs: int = 0,
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ...,
    seed: int = 123,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    devices: int = 0,
    nodes: int = 1,
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto",
    compile: Literal["auto", "on", "off"] = "auto",
    deterministic: bool = False,
    threads: int = 0,
    workers: int = 0,
    save_steps: int = 0,
    resume: bool = True,
    stills: Sequence[StrPath] = ...,
    clips: Sequence[StrPath] = ...,
    validation: Sequence[StrPath] = ...,
    crop: int = 160,
    weights: StrPath | None = None,
    lr: float = 0.001,
) -> TrainResult:
    """Train a network from stills, clips, or clips synthesised on the fly.

    Args:
        settings: a whole :class:`TrainingSettings`, which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        out: run folder to write (required)
        network: the network
        data: training and validation clips
        epochs: epochs; validation follows each (default: 15)
        clips_per_epoch: clips of an epoch, rounded up to whole batches (default: 512)
        minutes: time for all; clips_per_epoch and epochs end in it (default: none)
        batch: clips of one step, over all devices together (default: 8)
        accumulate: parts that each batch is run in, one after another (default: 1)
        optimiser: AdamW
        schedule: learning rate over time
        losses: of dvos and paper; xmem has its own loss
        xmem: xmem: how it is trained, as published or others
        ema_decay: decay of the average kept as best; 0: the last (default: 0.99)
        start_share: share of network.weights in the best; 3 / (3 + stills) did well (default: 0.0)
        patience: stop after these epochs without a better Dice; 0 for never (default: 0)
        pictures: validation clips drawn into predictions/ (default: 4)
        keep_epochs: keep weights of every so many epochs in weights/; 0: only best (default: 0)
        trackers: experiment trackers (default: [])
        seed: of weights, clips and all draws (default: 123)
        device: where to train (default: auto)
        devices: devices, or processes of a CPU; 0: one, or up to four processes (default: 0)
        nodes: nodes (default: 1)
        precision: auto: bf16-mixed on a CUDA device that has it, else 32-true (default: auto)
        compile: auto: on a GPU, in long runs; on: wherever it trains; off: never (default: auto)
        deterministic: on a GPU, the same bits each time; slower (default: False)
        threads: CPU threads of the network; 0: OMP_NUM_THREADS, or the cores (default: 0)
        workers: processes that make clips, per device; 0: one, on a GPU all cores (default: 0)
        save_steps: write last.ckpt every so many steps too; 0: after epochs only (default: 0)
        resume: go on with an unfinished run of these settings; false: start over (default: True)
        stills: folders with images/ and masks/ or head_mask/, same stems (default: [])
        clips: frames/CLIP and masks/CLIP, CLIP/frames and CLIP/masks (default: [])
        validation: folders with images/ and masks/ or head_mask/, same stems (default: [])
        crop: side of the training clips, pixels (default: 160)
        weights: best.safetensors, wheat, or a published .tar or .pth (default: none)
        lr: highest learning rate (default: 0.001)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def evaluate(
    input: StrPath | EvaluationSettings | None = ...,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    batch: int = 0,
    compile: Literal["auto", "on", "off"] = "auto",
    scale: float | Literal["auto"] = 1.0,
    every: int = 1,
    tile: int = 0,
    threshold: float = 0.5,
    intensity: str = "auto",
    augment: Literal["none", "flips", "scales", "flips_and_scales"] = "none",
    augment_scales: Sequence[float] = ...,
    reference_interval: int | None = None,
    flow_frames: Literal["auto"] | int = "auto",
    xmem: XMemPredictionSettings | Mapping[str, Any] = ...,
    void: str = "auto",
    first_mask: Literal["auto"] | StrPath | None = None,
    first_mask_checkpoint: StrPath | None = None,
    checkpoint: StrPath = ...,
    stills: bool = False,
    pan_step: int = 4,
    frame_rate: float | None = None,
    probabilities: bool = False,
    overlay: bool = False,
    run_lengths: bool = False,
    instances: bool = False,
    tracks: Literal["auto"] | bool = "auto",
    linking: LinkingSettings | Mapping[str, Any] = ...,
    format: Literal["dvos", "ctc"] = "dvos",
    regions: StrPath | None = None,
    regions_on: Literal["ground", "picture"] = "ground",
    minimum_object_area: int = 30,
    object_width: float | None = None,
    border_objects: Literal["count", "half", "exclude"] = "count",
    smoothing: int = 5,
    ground_sampling_distance: float | Literal["metadata"] | None = None,
    camera_height: float | None = None,
    known_width: tuple[float, float] | None = None,
    seed: int = 123,
    truth: StrPath = ...,
    out: StrPath = "evaluation",
    frames: Literal["last", "all", "labelled"] = "labelled",
    domain: str | None = None,
    overlay_interval: int = 10,
) -> EvaluationResult:
    """Predict labelled clips with a checkpoint and score them.

    Args:
        input: frames, as for predict; CSV or folder of labelled clips; or a whole
            :class:`EvaluationSettings`, which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        device: auto, cpu, cuda, cuda:N or mps (default: auto)
        precision: auto is float32 on a CPU, and on a GPU float16, of paper bfloat16 (default: auto)
        batch: frames at once; 0 = one on a CPU, on a GPU by their size (default: 0)
        compile: compile dvos for each size of frames; auto = on a GPU for many (default: auto)
        scale: frames are resized by this, on top of data.scale; auto = to objects as in training
            (default: 1.0)
        every: frames 0, N, 2N, ... are segmented, and refer to each other (default: 1)
        tile: side in pixels of tiles, raised to a multiple of 32, of 64 on; 0 = none (default: 0)
        threshold: probability from which a pixel is object (default: 0.5)
        intensity: of more than 8 bit, LOW,HIGH: samples that become black and white; full: divided
            by 257; auto: percentiles where a small part of the range is used (default: auto)
        augment: views averaged: mirror images, sizes or both (default: none)
        augment_scales: sizes averaged over; the first one tells objects apart (default: [1.0, 0.45,
            0.6, 0.75, 1.33])
        reference_interval: frames between reference frames; null = as trained (default: none)
        flow_frames: frames each side averaged along the flow; auto = 4, of cells 2, with references
            0 (default: auto)
        xmem: how XMem follows objects
        void: values of masks that mean unknown, as 254,255; none; auto: by void.txt beside the
            masks, else by what they look like (default: auto)
        first_mask: xmem: file, folder with <clip>.png or <clip>/<frame>.png, or auto = found
            (default: none)
        first_mask_checkpoint: network (not XMem) that finds the first mask, where that is auto
            (default: none)
        checkpoint: best.safetensors of a run, or wheat, the starter weights (required)
        stills: the images are photos, each predicted as a simulated pan (default: False)
        pan_step: pixels a simulated pan moves per frame, of stills (default: 4)
        frame_rate: rate of folders and tables, if known (default: none)
        probabilities: also write <clip>/probabilities/<frame>.png, 16 bit (default: False)
        overlay: also write <clip>.mp4 (of a still overlays/<name>.jpg) (default: False)
        run_lengths: also write <clip>.json, the masks as COCO run lengths (default: False)
        instances: also <clip>/instances/<frame>.png and <clip>.objects.csv (default: False)
        tracks: also <clip>/tracks/<frame>.png, <clip>.tracks.csv, totals.csv; auto = where dvos can
            (default: auto)
        linking: how objects are linked to those before
        format: ctc: also <clip>_RES, the tracks as in the Cell Tracking Challenge (default: dvos)
        regions: counts by region: GeoJSON in pixels of the first frame, ImageJ ROIs or mask of ids
            (default: none)
        regions_on: regions lie on the ground of the first frame, or stay in the picture (default:
            ground)
        minimum_object_area: smaller objects, in pixels, are not counted (default: 30)
        object_width: usual width of an object in pixels, where touching ones part; null = as learnt
            (default: none)
        border_objects: objects cut by the frame's edge: count, half (for a right density), or
            exclude (default: count)
        smoothing: frames over which count_smooth evens out the counts; 1 = none (default: 5)
        ground_sampling_distance: mm of ground per pixel of the first frame; metadata = by EXIF and
            XMP of a photo (default: none)
        camera_height: metres from the camera down to what is counted; null = as XMP tells (default:
            none)
        known_width: [pixels, mm] of a thing on the ground, in place of ground_sampling_distance
            (default: none)
        seed: seed of the simulated pans' directions (default: 123)
        truth: CSV with VID,FID,Image,Mask,Label, or folder of masks (then give input) (required)
        out: folder for predictions/, scores.csv, scores.json (default: evaluation)
        frames: which frames count: the last of each clip (as published), all that have a mask, or
            those with Label 1 (in a folder: all) (default: labelled)
        domain: regular expression that finds the domain in <clip>/<frame>: its first group, or all
            it matches; null = the column Domain of a CSV, if it has one (default: none)
        overlay_interval: an overlay of every n-th mask; 0 = best, median, worst only (default: 10)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def predict(
    input: StrPath | PredictionSettings = ...,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    batch: int = 0,
    compile: Literal["auto", "on", "off"] = "auto",
    scale: float | Literal["auto"] = 1.0,
    every: int = 1,
    tile: int = 0,
    threshold: float = 0.5,
    intensity: str = "auto",
    augment: Literal["none", "flips", "scales", "flips_and_scales"] = "none",
    augment_scales: Sequence[float] = ...,
    reference_interval: int | None = None,
    flow_frames: Literal["auto"] | int = "auto",
    xmem: XMemPredictionSettings | Mapping[str, Any] = ...,
    void: str = "auto",
    first_mask: Literal["auto"] | StrPath | None = None,
    first_mask_checkpoint: StrPath | None = None,
    checkpoint: StrPath = "wheat",
    stills: bool = False,
    pan_step: int = 4,
    frame_rate: float | None = None,
    probabilities: bool = False,
    overlay: bool = False,
    run_lengths: bool = False,
    instances: bool = False,
    tracks: Literal["auto"] | bool = "auto",
    linking: LinkingSettings | Mapping[str, Any] = ...,
    format: Literal["dvos", "ctc"] = "dvos",
    regions: StrPath | None = None,
    regions_on: Literal["ground", "picture"] = "ground",
    minimum_object_area: int = 30,
    object_width: float | None = None,
    border_objects: Literal["count", "half", "exclude"] = "count",
    smoothing: int = 5,
    ground_sampling_distance: float | Literal["metadata"] | None = None,
    camera_height: float | None = None,
    known_width: tuple[float, float] | None = None,
    seed: int = 123,
    out: StrPath = "predictions",
    shard: str | None = None,
    scheduler: str | None = None,
) -> PredictResult:
    """Segment every frame; write masks, counts and overlay videos.

    Args:
        input: video, clip store, folder of frames, videos or clips, or CSV with
            VID,FID,Image,Mask,Label or Image; or a whole :class:`PredictionSettings`, which takes
            the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        device: auto, cpu, cuda, cuda:N or mps (default: auto)
        precision: auto is float32 on a CPU, and on a GPU float16, of paper bfloat16 (default: auto)
        batch: frames at once; 0 = one on a CPU, on a GPU by their size (default: 0)
        compile: compile dvos for each size of frames; auto = on a GPU for many (default: auto)
        scale: frames are resized by this, on top of data.scale; auto = to objects as in training
            (default: 1.0)
        every: frames 0, N, 2N, ... are segmented, and refer to each other (default: 1)
        tile: side in pixels of tiles, raised to a multiple of 32, of 64 on; 0 = none (default: 0)
        threshold: probability from which a pixel is object (default: 0.5)
        intensity: of more than 8 bit, LOW,HIGH: samples that become black and white; full: divided
            by 257; auto: percentiles where a small part of the range is used (default: auto)
        augment: views averaged: mirror images, sizes or both (default: none)
        augment_scales: sizes averaged over; the first one tells objects apart (default: [1.0, 0.45,
            0.6, 0.75, 1.33])
        reference_interval: frames between reference frames; null = as trained (default: none)
        flow_frames: frames each side averaged along the flow; auto = 4, of cells 2, with references
            0 (default: auto)
        xmem: how XMem follows objects
        void: values of masks that mean unknown, as 254,255; none; auto: by void.txt beside the
            masks, else by what they look like (default: auto)
        first_mask: xmem: file, folder with <clip>.png or <clip>/<frame>.png, or auto = found
            (default: none)
        first_mask_checkpoint: network (not XMem) that finds the first mask, where that is auto
            (default: none)
        checkpoint: best.safetensors of a run, or wheat, the starter weights (default: wheat)
        stills: the images are photos, each predicted as a simulated pan (default: False)
        pan_step: pixels a simulated pan moves per frame, of stills (default: 4)
        frame_rate: rate of folders and tables, if known (default: none)
        probabilities: also write <clip>/probabilities/<frame>.png, 16 bit (default: False)
        overlay: also write <clip>.mp4 (of a still overlays/<name>.jpg) (default: False)
        run_lengths: also write <clip>.json, the masks as COCO run lengths (default: False)
        instances: also <clip>/instances/<frame>.png and <clip>.objects.csv (default: False)
        tracks: also <clip>/tracks/<frame>.png, <clip>.tracks.csv, totals.csv; auto = where dvos can
            (default: auto)
        linking: how objects are linked to those before
        format: ctc: also <clip>_RES, the tracks as in the Cell Tracking Challenge (default: dvos)
        regions: counts by region: GeoJSON in pixels of the first frame, ImageJ ROIs or mask of ids
            (default: none)
        regions_on: regions lie on the ground of the first frame, or stay in the picture (default:
            ground)
        minimum_object_area: smaller objects, in pixels, are not counted (default: 30)
        object_width: usual width of an object in pixels, where touching ones part; null = as learnt
            (default: none)
        border_objects: objects cut by the frame's edge: count, half (for a right density), or
            exclude (default: count)
        smoothing: frames over which count_smooth evens out the counts; 1 = none (default: 5)
        ground_sampling_distance: mm of ground per pixel of the first frame; metadata = by EXIF and
            XMP of a photo (default: none)
        camera_height: metres from the camera down to what is counted; null = as XMP tells (default:
            none)
        known_width: [pixels, mm] of a thing on the ground, in place of ground_sampling_distance
            (default: none)
        seed: seed of the simulated pans' directions (default: 123)
        out: folder for masks, videos and counts.csv (default: predictions)
        shard: I/N: do only the I-th of N parts, I from 1 (default: none)
        scheduler: address of a dask.distributed scheduler to run on (default: none)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def pseudo_label(
    input: StrPath | PseudoLabelSettings = ...,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    scales: Sequence[float] = ...,
    flips: Literal["none", "horizontal", "all"] = "horizontal",
    neighbours: Sequence[int] = ...,
    interval: int = 1,
    probe: bool = True,
    probe_frames: int = 64,
    filter: FilterSettings | Mapping[str, Any] = ...,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    batch: int = 0,
    tile: int = 0,
    reference_interval: int | None = None,
    intensity: str = "auto",
    pan_step: int = 4,
    frame_format: Literal["jpg", "png"] = "jpg",
    pictures: int = 0,
    seed: int = 123,
    checkpoint: StrPath = ...,
    out: StrPath = "pseudo",
    stills: bool = False,
    round: int = 1,
    shard: str | None = None,
    scheduler: str | None = None,
) -> PseudoLabelResult:
    """Accept predictions on unlabelled video or photos as labels for training.

    Args:
        input: video, clip store, folder of frames, videos or clips, or CSV with
            VID,FID,Image,Mask,Label or Image; or a whole :class:`PseudoLabelSettings`, which takes
            the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        scales: sizes of a frame that the network sees, of its own (default: [0.5, 0.71, 1.0, 1.41])
        flips: mirror images at each scale: none, left-right (twice the cost), or all four (default:
            horizontal)
        neighbours: frames to compare with along the flow; [] for none (default: [-1, 1])
        interval: every so many frames one is looked at (default: 1)
        probe: ask a linear classifier of the network's own features, too (default: True)
        probe_frames: frames, spread evenly, that the feature probe is fitted on (default: 64)
        filter: when a prediction is a label
        device: auto, cpu, cuda, cuda:N or mps (default: auto)
        precision: auto is float32 on a CPU, and on a GPU float16, of paper bfloat16 (default: auto)
        batch: frames at once; 0 = one on a CPU, on a GPU by their size (default: 0)
        tile: side in pixels of tiles, raised to a multiple of 32, of 64 on; 0 = none (default: 0)
        reference_interval: frames between reference frames; null = as trained (default: none)
        intensity: of more than 8 bit, LOW,HIGH: samples that become black and white; full: divided
            by 257; auto: percentiles where a small part of the range is used (default: auto)
        pan_step: pixels the simulated pan over a photo moves per frame (default: 4)
        frame_format: how the frames of videos are stored (default: jpg)
        pictures: accepted frames drawn into overlays/, spread evenly over all (default: 0)
        seed: seed of the pans' directions and of the probe's samples (default: 123)
        checkpoint: best.safetensors of a run, or wheat, the starter weights (required)
        out: folder for masks, tables and pseudo_labels.json (default: pseudo)
        stills: photos, each a simulated pan (default: False)
        round: number of the round, noted in pseudo_labels.json (default: 1)
        shard: I/N: do only the I-th of N parts, I from 1 (default: none)
        scheduler: address of a dask.distributed scheduler to run on (default: none)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def rounds(
    settings: RoundsSettings | None = None,
    /,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    out: StrPath = "rounds",
    unlabelled: Sequence[UnlabelledSettings | Mapping[str, Any]] = ...,
    train: dict[str, Any] = ...,
    retrain: dict[str, Any] = ...,
    intensity: str = "auto",
    pseudo_label: PseudoLabelOptions | Mapping[str, Any] = ...,
    rounds: int = 3,
    start: StrPath | None = None,
    start_from: Literal["previous", "scratch"] = "previous",
    pseudo_share: float = 0.5,
    tolerance: float = 0.01,
) -> RoundsResult:
    """Train, then predict unlabelled video, accept labels and train again.

    Args:
        settings: a whole :class:`RoundsSettings`, which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        out: folder for everything the rounds make (default: rounds)
        unlabelled: what is predicted, e.g. [{input: field.mp4}] (required)
        train: settings of train: {data: {stills: {folders: [a]}}} (required)
        retrain: what differs from train after the first training (default: {})
        intensity: of more than 8 bit, LOW,HIGH: samples that become black and white; full: divided
            by 257; auto: percentiles where a small part of the range is used (default: auto)
        pseudo_label: how frames are labelled
        rounds: rounds of predicting, filtering and training again (default: 3)
        start: network that predicts first; null: round 0 trains it (default: none)
        start_from: weights that each round starts from: the round before's, or those of train
            (default: previous)
        pseudo_share: share of pseudo-labelled clips in training (default: 0.5)
        tolerance: they end when validation Dice falls so far below its best (default: 0.01)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def score(
    settings: ScoringSettings | None = None,
    /,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    truth: StrPath | None = None,
    classes: str | None = None,
    predictions: StrPath = ...,
    out: StrPath = "scores",
    frames: Literal["last", "all", "labelled"] = "labelled",
    void: str = "auto",
    images: StrPath | None = None,
    overlay_interval: int = 0,
    tracks: bool = False,
    border: int = 0,
    counts: StrPath | None = None,
    boundary_tolerance: float = 0.008,
    domain: str | None = None,
    temporal: bool = True,
    flow_frames: int = 300,
    confidence: float = 0.95,
    seed: int = 123,
    workers: int = 0,
) -> ScoreResult:
    """Score predicted masks against true ones.

    Args:
        settings: a whole :class:`ScoringSettings`, which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        truth: folder or CSV of true masks, or labels of another program (default: none)
        classes: of labels of other programs, classes that are taken, a,b; none: the only (default:
            none)
        predictions: folder of predicted masks, <clip>/<frame>.png or flat (required)
        out: folder for scores.csv, scores.json and pictures (default: scores)
        frames: which frames count: the last of each clip (as published), all that have a mask, or
            those with Label 1 (in a folder: all) (default: labelled)
        void: values of masks that mean unknown, as 254,255; none; auto: by void.txt beside the
            masks, else by what they look like (default: auto)
        images: frames or videos, for overlays and stability (default: none)
        overlay_interval: overlay of every n-th mask; 0 = best, median, worst (default: 0)
        tracks: also score tracks into tracks.json, by permanent ids (default: False)
        border: with tracks: objects wholly within so many pixels of a frame's edge do not count
            (default: 0)
        counts: CSV of counts by hand (Image or clip, count) to compare (default: none)
        boundary_tolerance: tolerance of boundary F as a share of the diagonal (default: 0.008)
        domain: regular expression that finds the domain in <clip>/<frame>: its first group, or all
            it matches; null = the column Domain of a CSV, if it has one (default: none)
        temporal: measure steadiness between frames; not for loose photos (default: True)
        flow_frames: frames followed by optical flow, which is slow; 0 = none (default: 300)
        confidence: level of the bootstrap intervals (default: 0.95)
        seed: seed of the bootstrap draws (default: 123)
        workers: threads, or processes of many masks; 0 = one per core (default: 0)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def report(
    run: StrPath | ReportSettings = ...,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    compare: Sequence[StrPath] = ...,
    out: StrPath | None = None,
    frames: StrPath | None = None,
    title: str = "",
    picture_width: int = 1200,
    compared_frames: int = 6,
    stills: int = 6,
    clips: int = 2,
    sprites: int = 36,
    film_frames: int = 8,
) -> Path:
    """Write figures, plots and pictures of a run, or of several, as one HTML file.

    Args:
        run: folder that demo, train, predict, evaluate or score wrote; or a whole
            :class:`ReportSettings`, which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        compare: further runs, at most 5, set side by side with run (default: [])
        out: HTML file, or a folder for report.html; none = in run (default: none)
        frames: video or folder with the scored frames; none = in run (default: none)
        title: heading of the page; empty = made from the folder's name (default: )
        picture_width: longer side of large pictures, pixels (default: 1200)
        compared_frames: most different frames shown of several runs (default: 6)
        stills: labelled stills shown at most (default: 6)
        clips: synthetic clips shown at most (default: 2)
        sprites: cutouts, and distractors, shown at most (default: 36)
        film_frames: frames of the target video shown at most (default: 8)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def import_labels(
    source: StrPath | ImportSettings = ...,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    out: StrPath = "imported",
    format: Literal[
        "dvos",
        "ctc",
        "voc",
        "davis",
        "yolo",
        "coco",
        "cvat",
        "labelme",
        "imagej",
        "label-studio",
        "youtube-vis",
        "mots",
        "mot",
        "geojson",
        "csv",
        "labels",
    ]
    | None = None,
    classes: str | None = None,
    images: StrPath | None = None,
    dry_run: bool = False,
) -> ImportResult:
    """Turn labels of another program (COCO, CVAT, labelme ...) into a data folder.

    Args:
        source: file or folder of another program's labels; or a whole :class:`ImportSettings`,
            which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        out: data folder to write (default: imported)
        format: its format; none: recognised (default: none)
        classes: of labels of other programs, classes that are taken, a,b; none: the only (default:
            none)
        images: folder that holds the pictures, at any depth; none: they lie with the source
            (default: none)
        dry_run: only say what would be read (default: False)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def export(
    predictions: StrPath | ExportSettings = ...,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    format: Literal[
        "dvos",
        "ctc",
        "voc",
        "davis",
        "yolo",
        "coco",
        "cvat",
        "labelme",
        "imagej",
        "label-studio",
        "youtube-vis",
        "mots",
        "mot",
        "geojson",
        "csv",
        "labels",
    ] = ...,
    out: StrPath = ...,
    classes: str | None = None,
    images: StrPath | None = None,
) -> ExportResult:
    """Write predictions, or any labels, in another program's format.

    Args:
        predictions: folder of predict, data folder, table, or any labels; or a whole
            :class:`ExportSettings`, which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        format: format to write (required)
        out: new folder for its files (required)
        classes: of labels of other programs, classes that are taken, a,b; none: the only (default:
            none)
        images: folder that holds the pictures, at any depth; none: they lie with the source
            (default: none)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def convert(
    checkpoint: StrPath | ConvertSettings = ...,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    out: StrPath = ...,
    sees_query: bool = False,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    reference_interval: int | None = None,
) -> ConvertResult:
    """Write published weights as a file of ours, or any weights as ONNX (--out model.onnx).

    Args:
        checkpoint: published weights (.tar, .pth), or a file of ours; or a whole
            :class:`ConvertSettings`, which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        out: file to write: .safetensors, or .onnx for onnxruntime (required)
        sees_query: whether the last frame the network takes is the query (default: False)
        mean: channel means of the input, 0..1; null: the published, or those stored (default: none)
        std: channel deviations; null: as mean (default: none)
        reference_interval: between references; null: 1, or as stored (default: none)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def label(
    input: StrPath | LabelSettings = ...,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    out: StrPath | None = None,
    checkpoint: StrPath | None = None,
    device: str = "auto",
    intensity: str = "auto",
    host: str = "127.0.0.1",
    port: int = 8470,
    browser: bool = True,
) -> Path:
    """Open a page in the browser to label, correct and train again.

    Args:
        input: folder of photos or videos, video, or run of predict; or a whole
            :class:`LabelSettings`, which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        out: data folder for labels; null: the folder, or NAME-labels beside (default: none)
        checkpoint: network that helps, or wheat; null: only your clicks (default: none)
        device: auto, cpu, cuda or mps (default: auto)
        intensity: of more than 8 bit, LOW,HIGH: samples that become black and white; full: divided
            by 257; auto: percentiles where a small part of the range is used (default: auto)
        host: address to listen on; any but this lets other machines in (default: 127.0.0.1)
        port: port; 0 = any that is free (default: 8470)
        browser: open the page in the browser (default: True)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def suggest(
    input: StrPath | SuggestSettings = ...,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    out: StrPath = "suggest.csv",
    checkpoint: StrPath | None = None,
    count: int = 10,
    every: int = 1,
    intensity: str = "auto",
    device: str = "auto",
) -> SuggestResult:
    """List the frames to label next: unlike those labelled, and uncertain.

    Args:
        input: folder of photos or videos, video, or run of predict; or a whole
            :class:`SuggestSettings`, which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        out: table of the frames, the first to label first (default: suggest.csv)
        checkpoint: network whose uncertainty counts; null: only looks (default: none)
        count: frames to suggest (default: 10)
        every: look at every n-th frame only (default: 1)
        intensity: of more than 8 bit, LOW,HIGH: samples that become black and white; full: divided
            by 257; auto: percentiles where a small part of the range is used (default: auto)
        device: auto, cpu, cuda or mps (default: auto)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def fit(
    folder: StrPath | FitSettings = ...,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    intensity: str = "auto",
    void: str = "auto",
    scene: SceneSettings | Mapping[str, Any] = ...,
    start: Literal["imagenet"] | StrPath | None = None,
    clips: int | None = None,
    epochs: int = 12,
    synthetic_share: float | None = None,
    background_share: float | None = None,
    preview_clips: int = 3,
    min_object_size: int = 64,
    train: dict[str, Any] = ...,
    augment: Literal["none", "flips", "scales", "flips_and_scales"] | None = None,
    seed: int = 123,
    workers: int = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    out: StrPath = ...,
    classes: str | None = None,
    minutes: float = 20.0,
    folds: int | None = None,
    rounds: int | None = None,
) -> FitResult:
    """Plan, train, validate and report on your own data, in the minutes given.

    Args:
        folder: data folder, or videos or photos; see docs/how-to/fit.md; or a whole
            :class:`FitSettings`, which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        intensity: of more than 8 bit, LOW,HIGH: samples that become black and white; full: divided
            by 257; auto: percentiles where a small part of the range is used (default: auto)
        void: values of masks that mean unknown, as 254,255; none; auto: by void.txt beside the
            masks, else by what they look like (default: auto)
        scene: what the synthetic clips show
        start: network to start from, wheat or imagenet; null: wheat where it knows the objects
            (default: none)
        clips: training clips in all; null: what suits data and time (default: none)
        epochs: epochs they are parted into; in little time dvos fit takes fewer (default: 12)
        synthetic_share: of clips with pasted cutouts; null: 1/n with n < 10 stills, at most 1/2
            (default: none)
        background_share: share of clips of bare background; null: the share that measured best
            (default: none)
        preview_clips: synthetic clips also written to disk (default: 3)
        min_object_size: smallest object in pixels cut out; of small ones less (default: 64)
        train: further settings of train, as {data: {crop: 192}} (default: {})
        augment: views averaged; null: mirror images, of photos in sizes, as far as there is time
            (default: none)
        seed: of everything that is drawn (default: 123)
        workers: processes; 0 = one per core (default: 0)
        device: auto, cpu, cuda or mps (default: auto)
        out: folder for everything that is made (required)
        classes: of labels of other programs, classes that are taken, a,b; none: the only (default:
            none)
        minutes: time for all of it, validation and report included (default: 20.0)
        folds: parts in cross-validation; 0: none; null: by time (default: none)
        rounds: rounds of pseudo-labels; null: 1 with unlabelled/ (default: none)

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def demo(
    settings: DemoSettings | None = None,
    /,
    *,
    config: StrPath | None = None,
    overrides: Sequence[str] = ...,
    intensity: str = "auto",
    void: str = "auto",
    scene: SceneSettings | Mapping[str, Any] = ...,
    start: Literal["imagenet"] | StrPath | None = None,
    clips: int | None = None,
    epochs: int = 12,
    synthetic_share: float | None = None,
    background_share: float | None = None,
    preview_clips: int = 3,
    min_object_size: int = 64,
    train: dict[str, Any] = ...,
    augment: Literal["none", "flips", "scales", "flips_and_scales"] | None = None,
    seed: int = 123,
    workers: int = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    out: StrPath = "demo-run",
    data: StrPath | None = None,
    sample: SampleSettings | Mapping[str, Any] = ...,
) -> DemoResult:
    """Run the whole method: cut, synthesise, train, predict, score, report.

    Args:
        settings: a whole :class:`DemoSettings`, which takes the place of all else
        config: YAML file of settings, as the command line takes it
        overrides: ``a.b=value`` texts, each of which changes one setting
        intensity: of more than 8 bit, LOW,HIGH: samples that become black and white; full: divided
            by 257; auto: percentiles where a small part of the range is used (default: auto)
        void: values of masks that mean unknown, as 254,255; none; auto: by void.txt beside the
            masks, else by what they look like (default: auto)
        scene: what the synthetic clips show
        start: network to start from, wheat or imagenet; null: wheat where it knows the objects
            (default: none)
        clips: training clips in all; null: what suits data and time (default: none)
        epochs: epochs they are parted into; in little time dvos fit takes fewer (default: 12)
        synthetic_share: of clips with pasted cutouts; null: 1/n with n < 10 stills, at most 1/2
            (default: none)
        background_share: share of clips of bare background; null: the share that measured best
            (default: none)
        preview_clips: synthetic clips also written to disk (default: 3)
        min_object_size: smallest object in pixels cut out; of small ones less (default: 64)
        train: further settings of train, as {data: {crop: 192}} (default: {})
        augment: views averaged; null: mirror images, of photos in sizes, as far as there is time
            (default: none)
        seed: of everything that is drawn (default: 123)
        workers: processes; 0 = one per core (default: 0)
        device: auto, cpu, cuda or mps (default: auto)
        out: folder for everything the demo makes (default: demo-run)
        data: data folder of your own; null: the sample field (default: none)
        sample: the sample field, where data is null

    Raises:
        DvosError: with a fault for each thing that is wrong. A keyword whose value is None counts
            as not given; nested settings are given as mappings.
    """

def load_predictor(
    checkpoint: StrPath,
    device: str = "auto",
    *,
    first_mask: FirstMask | None = None,
    first_mask_checkpoint: StrPath | None = None,
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    batch: int = 0,
    compile: Literal["auto", "on", "off"] = "auto",
    scale: float = 1.0,
    every: int = 1,
    tile: int = 0,
    threshold: float = 0.5,
    intensity: str = "auto",
    augment: Literal["none", "flips", "scales", "flips_and_scales"] = "none",
    augment_scales: Sequence[float] = ...,
    reference_interval: int | None = None,
    flow_frames: Literal["auto"] | int = "auto",
    xmem: XMemPredictionSettings | Mapping[str, Any] = ...,
    void: str = "auto",
) -> Predictor:
    """Load a trained network, ready to segment.

    Args:
        checkpoint: ``best.safetensors`` of a training run, ``wheat`` for the starter weights, a
            checkpoint of the published training, or an ``.onnx`` file of ``dvos convert``, which
            is run by onnxruntime.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``; an
            ``.onnx`` file is run on the CPU.
        first_mask: Of XMem, what it starts from: a mask (H, W) of the first frame, masks by frame
            index, a file, a folder with ``<clip>.png`` or ``<clip>/<frame>.png``, or ``auto``.
        first_mask_checkpoint: Network that finds the first mask, where it is ``auto``.
        precision: auto is float32 on a CPU, and on a GPU float16, of paper bfloat16 (default: auto)
        batch: frames at once; 0 = one on a CPU, on a GPU by their size (default: 0)
        compile: compile dvos for each size of frames; auto = on a GPU for many (default: auto)
        scale: frames are resized by this, on top of data.scale (default: 1.0)
        every: frames 0, N, 2N, ... are segmented, and refer to each other (default: 1)
        tile: side in pixels of tiles, raised to a multiple of 32, of 64 on; 0 = none (default: 0)
        threshold: probability from which a pixel is object (default: 0.5)
        intensity: of more than 8 bit, LOW,HIGH: samples that become black and white; full: divided
            by 257; auto: percentiles where a small part of the range is used (default: auto)
        augment: views averaged: mirror images, sizes or both (default: none)
        augment_scales: sizes averaged over; the first one tells objects apart (default: [1.0, 0.45,
            0.6, 0.75, 1.33])
        reference_interval: frames between reference frames; null = as trained (default: none)
        flow_frames: frames each side averaged along the flow; auto = 4, of cells 2, with references
            0 (default: auto)
        xmem: how XMem follows objects
        void: values of masks that mean unknown, as 254,255; none; auto: by void.txt beside the
            masks, else by what they look like (default: auto)

    Returns:
        The predictor. Its masks do not depend on ``batch``.

    Raises:
        CheckpointError: If the file is missing, damaged or holds a network that does not segment
            videos this way, as with a first mask only XMem does.
        UsageError: If the device does not exist, an option has no such value, XMem gets no first
            mask, or what an ``.onnx`` file needs is not installed.
    """

"""The places in a demo's output folder, and the settings of each stage that fills them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvos.config.base import merged
from dvos.config.extraction import FramesSettings, ObjectsSettings
from dvos.config.load import load_settings
from dvos.config.prediction import PredictionSettings
from dvos.config.scoring import ScoringSettings
from dvos.config.synthesis import SynthesisSettings
from dvos.config.training import TrainingSettings
from dvos.config.workflow import DemoSettings
from dvos.files import stem_of
from dvos.tables import (
    AnnotatedRow,
    ImageRow,
    VideoRow,
    write_annotated,
    write_images,
    write_videos,
)
from dvos.workflow.data_folder import DataFolder

# Training clips where the user names no number: what fits into the promised
# time on two cores, for the sample field and for real photos.
_SAMPLE_CLIPS = 5_000
_DATA_CLIPS = 16_000

# Of synthetic clips, where the user names no share, 1/n with n stills and at most
# this: the fewer there are, the more they gain by being recombined. Two gain much,
# eleven lose a little (docs/research/experiments.md).
_MOST_SYNTHETIC = 0.5
_SAMPLE_SYNTHETIC = 0.05  # one field, filmed alike: nothing unseen to gain on
_FEW_STILLS = 10
# Of those over labelled stills rather than bare backgrounds: a single still has too few
# looks of an object to make up for clips that hardly show any.
_ONE_STILL = {"plates": {"labelled": 1.0}}
# Of bare backgrounds with empty masks: five stills of the sample field show
# little of the soil that its background videos are full of. Photos show theirs.
_SAMPLE_BACKGROUND, _DATA_BACKGROUND = 0.15, 0.0

# The sample field is one camera at one height: objects seen at other sizes and
# in other colours than the stills show would only take time.
_SAMPLE_VIEW = {
    "spatial": {"scale": (0.8, 1.25)},
    "colour": {"strength": 0.25},
    "degradation": {"strength": 0.25},
}

# Validation inside training on clips of the cutouts, where no photo is labelled for it.
_SYNTHETIC_VALIDATION = 8


class DemoFolder:
    """Where the stages of a demo put what they make.

    Args:
        root: The output folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = root / "demo.yaml"  # that the folder was begun with
        self.stages = root / "stages.json"  # times of the stages
        self.sample = root / "sample"  # the sample field, laid out as a user's data folder
        self.videos = root / "videos.csv"  # background videos
        self.frames = root / "frames.csv"  # their frames
        self.stills = root / "backgrounds.csv"  # background stills
        self.annotated = root / "annotated.csv"  # labelled stills
        self.cutouts = root / "cutouts.csv"
        self.distractors = root / "distractors.csv"
        self.clips = root / "clips"  # synthetic clips, to look at
        self.train = root / "train"  # run folder of the training
        self.checkpoint = self.train / "best.safetensors"
        self.predictions = root / "predict"  # of the targets
        self.heldout = root / "heldout"  # predictions of what is scored

    def makes(self) -> list[Path]:
        """Every file and folder that a demo makes, but that of its settings."""
        names = ["objects", "frames", "objects.csv", "report.html"]
        names += ["scores.json", "scores.csv", "scores_by_mask.csv"]
        names += ["best.png", "median.png", "worst.png"]
        own = (path for name, path in vars(self).items() if name not in ("root", "settings"))
        return [*own, *(self.root / name for name in names)]


def write_input_tables(folder: DemoFolder, data: DataFolder) -> list[Path]:
    """Write the tables that the first stages read.

    Returns:
        The tables of backgrounds, of which that of the video frames does
        not exist before they are extracted.
    """
    objects, frames = folder.root / "objects", folder.root / "frames"
    annotated = [AnnotatedRow(still.image, still.mask, objects) for still in data.annotated]
    write_annotated(folder.annotated, annotated)
    backgrounds = []
    if data.background_videos:
        videos = [VideoRow(video, frames / stem_of(video), 1) for video in data.background_videos]
        write_videos(folder.videos, videos)
        backgrounds.append(folder.frames)
    if data.background_stills:
        write_images(folder.stills, [ImageRow(path) for path in data.background_stills])
        backgrounds.append(folder.stills)
    return backgrounds


def build_frames(demo: DemoSettings, folder: DemoFolder) -> FramesSettings:
    """Background videos to frames, at their own size."""
    return FramesSettings(
        videos=folder.videos,
        out=folder.frames,
        min_side=0,
        intensity=demo.intensity,
        seed=demo.seed,
        workers=demo.workers,
    )


def build_objects(demo: DemoSettings, folder: DemoFolder) -> ObjectsSettings:
    """Labelled stills to cutouts; semantic masks by their connected parts."""
    return ObjectsSettings(
        annotated=folder.annotated,
        cutouts=folder.cutouts,
        distractors=folder.distractors,
        intensity=demo.intensity,
        instances="auto",
        min_object_size=demo.min_object_size,
        cut_at_border=False,
        distractors_per_object=3,
        seed=demo.seed,
        workers=demo.workers,
    )


def build_synthesis(
    demo: DemoSettings, folder: DemoFolder, backgrounds: Sequence[Path]
) -> SynthesisSettings:
    """A few clips to disk, to look at; training makes its own on the fly."""
    return SynthesisSettings(
        scene=demo.scene,
        backgrounds=[folder.annotated, *backgrounds],
        cutouts=[folder.cutouts],
        distractors=[folder.distractors],
        intensity=demo.intensity,
        out=folder.clips,
        clips=demo.preview_clips,
        frames=20,
        height=360,
        width=480,
        seed=demo.seed,
        workers=demo.workers,
    )


def build_training(
    demo: DemoSettings, folder: DemoFolder, data: DataFolder, backgrounds: Sequence[Path]
) -> TrainingSettings:
    """The network, the mix of its data, and its length.

    Raises:
        ConfigError: If ``demo.train`` holds what ``dvos train`` does not take.
    """
    sample = demo.data is None
    clips = demo.clips or (_SAMPLE_CLIPS if sample else _DATA_CLIPS)
    synthetic, background = demo.synthetic_share, demo.background_share
    if synthetic is None:
        few = len(data.annotated) < _FEW_STILLS
        share = min(_MOST_SYNTHETIC, 1 / len(data.annotated)) if few else 0.0
        share = _SAMPLE_SYNTHETIC if sample else share
        synthetic = min(share, 1 - (background or 0))
    if background is None:
        background = _SAMPLE_BACKGROUND if sample else _DATA_BACKGROUND
        background = min(background, 1 - synthetic)
    scene = demo.scene.model_dump(exclude_unset=True)
    if len(data.annotated) == 1:
        scene = merged(_ONE_STILL, scene)
    base: dict[str, Any] = {
        "out": folder.train,
        "epochs": demo.epochs,
        "clips_per_epoch": -(-clips // demo.epochs),
        "seed": demo.seed,
        "device": demo.device,
        "data": {
            "intensity": demo.intensity,
            "stills": {"tables": [folder.annotated]},
            "synthetic": {
                "scene": scene,
                # Pasted among the stills' own objects cutouts add to what is real;
                # over bare background alone they teach what cutouts look like.
                "backgrounds": [folder.annotated, *backgrounds],
                "cutouts": [folder.cutouts],
            },
            "empty": {"tables": list(backgrounds)},
            "shares": {
                "stills": 1 - synthetic - background,
                "synthetic": synthetic,
                "empty": background,
            },
            "validation": _validation(data),
            **(_SAMPLE_VIEW if sample else {}),
        },
    }
    return load_settings(TrainingSettings, options=merged(base, demo.train))


def build_target(demo: DemoSettings, folder: DemoFolder, data: DataFolder) -> PredictionSettings:
    """Masks, counts and overlay videos of the unlabelled videos."""
    return PredictionSettings(
        input=data.targets[0].parent if len(data.targets) > 1 else data.targets[0],
        checkpoint=folder.checkpoint,
        out=folder.predictions,
        overlay=True,
        intensity=demo.intensity,
        augment=demo.augment,
        device=demo.device,
    )


def build_heldout(demo: DemoSettings, folder: DemoFolder, data: DataFolder) -> PredictionSettings:
    """Predictions of what is labelled for validation."""
    stills, videos = data.validation_stills, data.validation_videos
    if stills:
        source = stills[0].image.parent
    else:
        source = videos[0].video if len(videos) == 1 else videos[0].video.parent
    return PredictionSettings(
        input=source,
        checkpoint=folder.checkpoint,
        out=folder.heldout,
        overlay=True,
        stills=bool(stills),
        intensity=demo.intensity,
        augment=demo.augment,
        device=demo.device,
    )


def build_scoring(demo: DemoSettings, folder: DemoFolder, data: DataFolder) -> ScoringSettings:
    """Figures, and pictures of the best, median and worst, into the demo's own folder."""
    stills, videos = data.validation_stills, data.validation_videos
    return ScoringSettings(
        truth=stills[0].mask.parent if stills else videos[0].masks.parent,
        predictions=folder.heldout,
        images=stills[0].image.parent if stills else videos[0].video.parent,
        out=folder.root,
        frames="all",
        temporal=not stills,
        overlay_interval=0,
        workers=demo.workers,
    )


def _validation(data: DataFolder) -> dict[str, Any]:
    if data.validation_stills:
        return {"stills": {"folders": [data.validation_stills[0].image.parent.parent]}}
    # A labelled video is there to be scored and must not choose the weights;
    # synthetic clips of unseen seeds do.
    return {"synthetic": _SYNTHETIC_VALIDATION}

"""The places in a run's output folder, and the settings of each stage that fills them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dvos import tables
from dvos.config.base import merged
from dvos.config.data import EmptySettings, ShareSettings, ValidationSettings
from dvos.config.extraction import FramesSettings, ObjectsSettings
from dvos.config.prediction import Augment
from dvos.config.scene import SynthesisSettings
from dvos.config.scoring import ScoringSettings
from dvos.config.training import TrainingSettings, load_training
from dvos.config.workflow import MethodSettings
from dvos.files import stem_of
from dvos.media.clip_store import read_image_at
from dvos.media.frames import open_frames
from dvos.media.image import write_image
from dvos.scoring.score import FILES
from dvos.workflow.data_folder import DataFolder

M = TypeVar("M", bound=MethodSettings)

# Of synthetic clips, where the user names no share: 1/n with n stills, at most this. Two gain much
# by being recombined, eleven lose a little (docs/research/experiments.md).
_MOST_SYNTHETIC = 0.5
_FEW_STILLS = 10
# Of those over labelled stills rather than bare backgrounds: a single still has too few
# looks of an object to make up for clips that hardly show any.
_ONE_STILL = {"plates": {"labelled": 1.0}}
_SYNTHETIC_VALIDATION = 8  # clips, in training, where no photo is labelled for it


class MethodFolder:
    """Where the stages of a run put what they make."""

    def __init__(self, root: Path, command: str) -> None:
        self.root = root  # the output folder
        self.settings = root / f"{command}.yaml"  # that the folder was begun with
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
        self.start = root / "start.json"  # what a fit starts from
        self.data = root / "data.json"  # fingerprints of what it learns from
        self.plan = root / "plan.json"  # of a fit
        self.timing = root / "timing"  # training of a few steps
        self.folds = root / "folds"  # trainings of cross-validation
        self.truth = root / "truth.csv"  # what these are scored on
        self.parts = root / "parts"  # of a single still
        self.photos = root / "photos.csv"  # unlabelled ones
        self.rounds = root / "rounds"  # of pseudo-labels
        self.best = root / "best.safetensors"  # the network that a fit ends with

    def makes(self) -> list[Path]:
        """Every file and folder that a run makes, but that of its settings."""
        names = ["objects", "frames", "objects.csv", "report.html", *FILES]
        own = (path for name, path in vars(self).items() if name not in ("root", "settings"))
        return [*own, *(self.root / name for name in names)]


def write_input_tables(folder: MethodFolder, data: DataFolder) -> list[Path]:
    """Write the tables that the first stages read; gives those of backgrounds, also to be made."""
    objects, frames = folder.root / "objects", folder.root / "frames"
    annotated = [tables.AnnotatedRow(still.image, still.mask, objects) for still in data.annotated]
    tables.write_annotated(folder.annotated, annotated)
    backgrounds = []
    if data.background_videos:
        videos = ((video, frames / stem_of(video)) for video in data.background_videos)
        tables.write_videos(folder.videos, [tables.VideoRow(*each, 1) for each in videos])
        backgrounds.append(folder.frames)
    if data.background_stills:
        stills = [tables.ImageRow(path) for path in data.background_stills]
        tables.write_images(folder.stills, stills)
        backgrounds.append(folder.stills)
    return backgrounds


def build_frames(settings: MethodSettings, folder: MethodFolder) -> FramesSettings:
    """Background videos to frames, at their own size."""
    shared = settings.model_dump(include={"intensity", "seed", "workers"})
    return FramesSettings(videos=folder.videos, out=folder.frames, **shared)


def build_objects(settings: MethodSettings, folder: MethodFolder) -> ObjectsSettings:
    """Labelled stills to cutouts; semantic masks by their connected parts."""
    return ObjectsSettings(
        annotated=folder.annotated,
        cutouts=folder.cutouts,
        distractors=folder.distractors,
        instances="auto",
        cut_at_border=False,
        distractors_per_object=3,
        **settings.model_dump(include={"intensity", "void", "min_object_size", "seed", "workers"}),
    )


def build_synthesis(
    settings: MethodSettings, folder: MethodFolder, backgrounds: Sequence[Path]
) -> SynthesisSettings:
    """A few clips to disk, to look at; training makes its own on the fly."""
    return SynthesisSettings(
        scene=settings.scene,
        backgrounds=[folder.annotated, *backgrounds],
        cutouts=[folder.cutouts],
        distractors=[folder.distractors],
        out=folder.clips,
        clips=settings.preview_clips,
        frames=20,
        height=360,
        width=480,
        **settings.model_dump(include={"intensity", "void", "seed", "workers"}),
    )


def with_data_mix(
    settings: M,
    data: DataFolder,
    *,
    clips: int | None = None,
    shares: Mapping[str, float] | None = None,
) -> M:
    """The settings with number and shares of training clips, where the user names none.

    Without ``clips`` their number stays open; without ``shares`` the number of stills decides.
    """
    count = len(data.annotated)
    if shares is None:
        share = min(_MOST_SYNTHETIC, 1 / count) if 0 < count < _FEW_STILLS else 0.0
        shares = {"synthetic": share, "background": 0.0}
    synthetic, background = settings.synthetic_share, settings.background_share
    if synthetic is None:
        synthetic = min(shares["synthetic"], 1 - (background or 0))
    if background is None:
        background = min(shares["background"], 1 - synthetic)
    chosen = {"synthetic_share": synthetic, "background_share": background}
    return settings.model_copy(update=chosen | {"clips": settings.clips or clips})


def build_training(
    settings: MethodSettings, folder: MethodFolder, data: DataFolder, backgrounds: Sequence[Path]
) -> TrainingSettings:
    """The network, the mix of its data, and its length."""
    options = training_options(settings, folder, data, backgrounds)
    return load_training({"out": folder.train, **options}, "train")


def training_options(
    settings: MethodSettings, folder: MethodFolder, data: DataFolder, backgrounds: Sequence[Path]
) -> dict[str, Any]:
    """The settings of ``dvos train``, as they are given to it, but ``out``."""
    assert settings.clips is not None
    synthetic, background = settings.synthetic_share or 0.0, settings.background_share or 0.0
    shares = {"stills": 1 - synthetic - background, "synthetic": synthetic, "empty": background}
    sources: dict[str, Any] = {"empty": {"tables": list(backgrounds)}}
    scene = settings.scene.model_dump(exclude_unset=True)
    if data.annotated:
        sources["stills"] = {"tables": [folder.annotated], "void": settings.void}
        sources["synthetic"] = {
            "scene": merged(_ONE_STILL, scene) if len(data.annotated) == 1 else scene,
            # Among a still's objects cutouts add to it; alone they teach what cutouts look like.
            "backgrounds": [folder.annotated, *backgrounds],
            "cutouts": [folder.cutouts],
            "void": settings.void,
        }
    elif scene:
        # Without cutouts, too, it tells what kind of pictures the network is for.
        sources["synthetic"] = {"scene": scene}
    if data.clips is not None:
        sources["clips"] = {"tables": [data.clips], "void": settings.void}
        # Every labelled picture is drawn as often as any other.
        part = len(data.clip_frames) / (len(data.clip_frames) + len(data.annotated))
        shares["clips"], shares["stills"] = shares["stills"] * part, shares["stills"] * (1 - part)
    if data.labelled:
        sources["shares"] = shares
    validation: dict[str, Any] = {}
    if data.validation_stills:
        place = data.validation_stills[0].image.parent.parent
        validation["stills"] = {"folders": [place], "void": settings.void}
    elif data.annotated:
        # A labelled video is there to be scored and must not choose the weights; synthetic clips
        # of unseen seeds do. Clips alone have no cutouts: some are held back.
        validation["synthetic"] = _SYNTHETIC_VALIDATION
    base: dict[str, Any] = {
        "epochs": settings.epochs,
        "clips_per_epoch": -(-settings.clips // settings.epochs),
        "seed": settings.seed,
        "device": settings.device,
        "data": {"intensity": settings.intensity, "validation": validation, **sources},
    }
    options: dict[str, Any] = merged(base, settings.train)
    return options


def build_timing(
    settings: MethodSettings, folder: MethodFolder, data: DataFolder, backgrounds: Sequence[Path]
) -> tuple[TrainingSettings, float]:
    """The training by which a fit is timed, and the megapixels of its validation clip's frame.

    These are 0 without one, or where it is a synthetic one of twice the crop.
    """
    some = settings.model_copy(update={"clips": settings.epochs})
    training = build_training(some, folder, data, backgrounds)
    chosen: dict[str, Any] = {"synthetic": 1}
    frame = None
    if data.validation_stills:
        frame = data.validation_stills[0]
        tables.write_rows(folder.truth, ("Image", "Mask"), [(frame.image, frame.mask)])
        chosen = {"stills": {"tables": [folder.truth], "void": settings.void}}
    elif data.clip_frames and not data.annotated:
        frame, chosen = data.clip_frames[0], {"limit": 1}
    found: dict[str, Any] = {"validation": ValidationSettings.model_validate(chosen)}
    if not data.labelled:
        photo = folder.parts / "photo.png"  # what is learnt does not matter, only what it takes
        photos, videos = data.photos, data.unlabelled
        first = read_image_at(photos[0]) if photos else next(iter(open_frames(videos[0]))).image
        write_image(photo, first)
        tables.write_images(folder.photos, [tables.ImageRow(photo)])
        empty, shares = EmptySettings(tables=[folder.photos]), ShareSettings(empty=1.0)
        found = {"empty": empty, "shares": shares}
    update = {"out": folder.timing, "data": training.data.model_copy(update=found)}
    size = read_image_at(frame.image).shape if frame else (0, 0)
    sides = (min(side, training.data.validation.largest_side) for side in size[:2])
    return training.model_copy(update=update), math.prod(sides) * training.data.scale**2 / 1e6


def views_of(settings: MethodSettings, *, stills: bool) -> tuple[Augment, ...]:
    """Views that predictions may be the mean of, the best first."""
    if settings.augment:
        return (settings.augment,)
    return ("flips_and_scales", "flips", "none") if stills else ("flips", "none")


def build_scoring(
    settings: MethodSettings, folder: MethodFolder, data: DataFolder
) -> ScoringSettings:
    """Figures, and pictures of the best, median and worst, into the run's own folder.

    Of what is labelled for validation, or else of cross-validation, which has no such pictures.
    """
    truth, images, temporal = folder.truth, None, False
    if stills := data.validation_stills:
        truth, images = stills[0].mask.parent, stills[0].image.parent
    elif videos := data.validation_videos:
        truth, images, temporal = videos[0].masks.parent, videos[0].video.parent, True
    return ScoringSettings(
        truth=truth,
        predictions=folder.heldout,
        images=images,
        out=folder.root,
        frames="all",
        temporal=temporal,
        **settings.model_dump(include={"void", "workers"}),
    )

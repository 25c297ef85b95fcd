"""The plan of a fit: what the labels show, and how the minutes are spent, by timing a few steps.

The plan is kept in the run's folder, so that a fit that was stopped goes on to the same result.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dvos.config.base import merged
from dvos.config.prediction import AUGMENT_SCALES, Augment
from dvos.config.scene import SceneSettings
from dvos.config.training import TrainingSettings
from dvos.config.workflow import FitSettings
from dvos.errors import MediaError
from dvos.media.clip_store import read_image_at, read_mask_at
from dvos.media.frames import open_frames
from dvos.media.image import image_size
from dvos.media.mask import IGNORE, label_components, mask_ids
from dvos.media.splitting import split_mask
from dvos.tables import StillRow
from dvos.workflow.data_folder import DataFolder
from dvos.workflow.folds import most_folds, taking_part
from dvos.workflow.starting import Start
from dvos.workflow.steps import M, views_of

#: Lengths of objects, pixels, that are seen as they are; others are brought to the nearer below.
_SEEN = (12.0, 110.0)
_WANTED = (20.0, 64.0)
_LARGEST_SCALE = 4.0
#: Smallest cutout, as a share of the median object's area, and in pixels.
_SMALLEST_SHARE, _SMALLEST = 0.15, 9
#: Pictures whose colours are looked at, and the most that the channels of a grey one differ by.
_LOOKED_AT, _GREY = 5, 8
_GLOWING = 1.5  # strength of the changes of colour where objects glow


@dataclass(frozen=True)
class Survey:
    """What the labelled pictures show, medians over some of them."""

    pictures: int  # Labelled pictures there are.
    size: tuple[int, int]  # (height, width), pixels.
    objects: int  # In a picture, up to its middle 2,048 pixels.
    length: float  # Of an object, pixels; 0 where there is none to measure.
    area: float  # Likewise, pixels.
    density: float  # Objects a megapixel.
    touching: float  # Share of the objects that touch another.
    apart: bool  # Whether the masks number their objects.
    glowing: bool  # Whether they are bright on the dark ground of pictures without colour.

    @property
    def scale(self) -> float:
        """Size at which the network had better see the pictures, of their own."""
        if not self.length or _SEEN[0] <= self.length <= _SEEN[1]:
            return 1.0
        wanted = _WANTED[0] if self.length < _SEEN[0] else _WANTED[1]
        return round(min(_LARGEST_SCALE, wanted / self.length), 2)

    def __str__(self) -> str:
        text = f"{self.pictures} labelled pictures of {self.size[1]} x {self.size[0]} pixels"
        if not self.length:
            return f"{text}, objects of no measurable size"
        return (
            f"{text}, {self.objects} objects in one, {self.length:.0f} pixels long, "
            f"{self.density:.0f} a megapixel, {self.touching:.0%} of them touching another"
        )


def look_at(rows: Sequence[StillRow], void: str = "auto") -> Survey:
    """Measure labelled pictures, at most 24 of them, evenly spread; ``void`` as of the settings."""
    from dvos.training.clips.stills import LabelledStill
    from dvos.training.data import labelled_masks, learn_objects, numbers_objects

    stills = [LabelledStill(row.image, row.mask, void) for row in rows]
    learnt = learn_objects(labelled_masks(stills, [])) or {"width": 0.0, "area": 0.0}
    width, area = learnt["width"], learnt["area"]
    counts, densities, parts, apart = [], [], 0, False
    for mask in labelled_masks(stills, []):
        components = int(label_components(mask).max(initial=0))
        if numbers_objects(mask, components):
            apart, count = True, len(np.unique(mask[mask != 0]))
        elif width:
            count = int(split_mask(mask != 0, width=width, area=area).max(initial=0))
        else:
            count = components
        counts.append(count)
        densities.append(count / mask.size * 1e6)
        parts += min(components, count)
    length = 4 * area / (np.pi * width) if width else 0.0  # an ellipse's: width is its shorter axis
    height, across, _ = read_image_at(rows[0].image).shape
    return Survey(
        pictures=len(rows),
        size=(height, across),
        objects=round(float(np.median(counts))),
        length=float(max(length, width)),
        area=area,
        density=float(np.median(densities)),
        touching=1 - parts / sum(counts) if sum(counts) else 0.0,
        apart=apart,
        glowing=all(_glows(row, void) for row in rows[:_LOOKED_AT]),
    )


def _glows(row: StillRow, void: str) -> bool:
    pixels, ids = read_image_at(row.image), mask_ids(read_mask_at(row.mask, void), where=row.mask)
    darkest, brightest = pixels.min(axis=2), pixels.max(axis=2)
    objects, ground = (ids > 0) & (ids < IGNORE), ids == 0
    if (brightest - darkest).max(initial=0) > _GREY or not objects.any() or not ground.any():
        return False
    return bool(brightest[objects].mean() > brightest[ground].mean())


def fitted(settings: M, survey: Survey) -> M:
    """The settings with what suits the data, where the user gave nothing.

    What glows is taken for cells in a microscope, which have neither shadows nor wind, and which
    are brighter and darker in other frames than in those that are labelled.
    """
    chosen: dict[str, Any] = {}
    data: dict[str, Any] = {} if survey.scale == 1 else {"scale": survey.scale}
    if survey.glowing and "scene" not in settings.model_fields_set:
        chosen["scene"] = SceneSettings(preset="cells")
    if survey.glowing and "colour" not in settings.train.get("data", {}):
        data["colour"] = {"strength": _GLOWING}
    if data:
        chosen["train"] = merged({"data": data}, settings.train)
    if "min_object_size" not in settings.model_fields_set and survey.area:
        least = max(_SMALLEST, round(_SMALLEST_SHARE * survey.area))
        chosen["min_object_size"] = min(settings.min_object_size, least)
    return settings.model_copy(update=chosen)


_USED = 0.9  # of the time given: the rest is for what goes slower than it was timed
#: Of the time for training: cross-validation, and rounds; of a round, labelling.
_FOLDS, _ROUNDS, _LABELLING = 0.35, 0.35, 0.4
#: Of the time left: the targets in several views and in one, and what is held out in several.
_TARGETS, _PLAIN_TARGETS, _HELD_OUT = 0.15, 0.3, 0.1
#: Runs over a frame as it is that views take.
_SIZES = sum(scale**2 for scale in AUGMENT_SCALES)
_RUNS: dict[Augment, float] = {
    "none": 1,
    "flips": 4,
    "scales": _SIZES,
    "flips_and_scales": 4 * _SIZES,
}
_VALIDATION = 0.08  # of the training, validation between epochs
_MOST_FOLDS, _FOLD_CLIPS = 5, 400
_MOST_CLIPS, _FEWEST_STEPS = 100_000, 4
#: So many clips teach no more than fewer, larger ones of this side in the same time.
_MANY_CLIPS, _LARGE_CROP = 8_000, 224
_REPORT_SECONDS = 10.0
#: In validation photos are cut to this side; of frames of clips so many are looked at.
_LARGEST_SIDE, _VALIDATED_FRAMES, _SYNTHETIC_CLIPS = 1024, 64, 8
_STREAMED = 1.5  # what a frame of a video, which is decoded itself, takes beside one of a clip
#: Sizes and mirror images that a frame is seen in when it is labelled, in frames of its size.
_LABEL_VIEWS = 7.5


@dataclass(frozen=True)
class Speed:
    """What things take here, seconds."""

    clip: float  # A training clip.
    megapixel: float  # A million pixels of frames that are segmented.
    start: float  # Starting and ending a training.
    frames: int  # Frames of a clip.
    batch: int  # Clips of a step.
    crop: int  # Side of a training clip, pixels.
    device: str  # ``cpu`` or another.
    fold_clip: float | None = None  # A training clip in cross-validation, if that is another one.


@dataclass(frozen=True)
class Plan:
    """How a fit spends its time."""

    clips: int  # Training clips.
    crop: int  # Their side, pixels.
    epochs: int  # Epochs they are parted into.
    folds: int  # Parts of the stills in cross-validation; 0 for none.
    fold_clips: int  # Training clips of each.
    rounds: int  # Rounds of pseudo-labels.
    round_clips: int  # Training clips of each.
    interval: int  # Every so many unlabelled frames one is labelled.
    targets: Augment | Literal["later"]  # Views that the targets are predicted in, if they are.
    lines: tuple[str, ...]  # What was chosen, and why.
    held_out: Augment = "flips"  # Views that what is held out is predicted in.


def time_training(settings: TrainingSettings, megapixels: float) -> Speed:
    """Train a few steps into a folder, which is removed, and validate a clip of ``megapixels``."""
    from dvos.registry import training_spec
    from dvos.training import run

    rates = run.time_training(settings, training_spec(settings.network))
    frames, square = settings.network.references + 1, 1e-6 * rates.crop**2
    # Without validation: a step goes forwards and, twice as long, backwards.
    forwards = rates.validation / (megapixels or 4 * square) or rates.clip / 3 / square
    known = {name: value for name, value in rates._asdict().items() if name != "validation"}
    return Speed(megapixel=forwards / frames, frames=frames, **known)


def make_plan(
    settings: FitSettings,
    data: DataFolder,
    survey: Survey | None,
    speed: Speed,
    start: Start,
    *,
    spent: float,
) -> Plan:
    """Part the time given, of which so many seconds are ``spent``."""
    costs = _Costs(settings, data, speed)
    left = max(0.0, 60 * settings.minutes * _USED - spent)
    targets, held_out = costs.target_views(left), costs.held_out_views(left)
    left -= 0.0 if targets == "later" else _RUNS[targets] * costs.targets
    left -= speed.start + costs.validation + _RUNS[held_out] * costs.held_out + _REPORT_SECONDS
    folds, fold_clips, of_folds = costs.folds(left, held_out)
    can_learn = bool(data.unlabelled or data.photos)
    rounds = int(can_learn) if settings.rounds is None else settings.rounds
    of_rounds = left * (_ROUNDS if data.labelled else 1) if rounds else 0.0
    of_round = of_rounds / rounds if rounds else 0.0
    training = max(0.0, left - of_folds - of_rounds)
    # As many as validation, one after each, leaves time for.
    most = int(_VALIDATION * training / max(costs.validation, 0.01))
    epochs = min(settings.epochs, max(2, most))
    clips = _clips(training - epochs * costs.validation, speed) if data.labelled else 0
    plan = Plan(
        clips=settings.clips or clips,
        crop=speed.crop,
        epochs=epochs,
        folds=folds,
        fold_clips=fold_clips,
        rounds=rounds,
        round_clips=_clips(of_round * (1 - _LABELLING) - speed.start, speed) if rounds else 0,
        interval=costs.label_interval(of_round * _LABELLING, start.larger) if rounds else 1,
        targets=targets,
        lines=(),
        held_out=held_out,
    )
    return replace(plan, lines=tuple(_lines(costs, survey, start, plan)))


def with_larger_clips(settings: FitSettings, survey: Survey | None, plan: Plan) -> FitSettings:
    """The settings with larger training clips, where a plan has many; else as they are.

    Pictures are to hold such clips, and what the user gives stands.
    """
    given = settings.clips or settings.train.get("data", {}).get("crop")
    if given or survey is None or plan.clips < _MANY_CLIPS:
        return settings
    if min(survey.size) * survey.scale < _LARGE_CROP:
        return settings
    larger = merged(settings.train, {"data": {"crop": _LARGE_CROP}})
    return settings.model_copy(update={"train": larger})


@dataclass(frozen=True)
class _Costs:
    """What is to be segmented, in seconds; frames that cannot be read are told of later."""

    settings: FitSettings
    data: DataFolder
    speed: Speed

    def stills(self, images: Iterable[Path], largest: int = 2**16) -> float:
        """Of some stills, each a simulated pan."""
        sizes = [image_size(image) for image in images]
        pixels = sum(min(height, largest) * min(width, largest) for height, width in sizes)
        return self._pixels(pixels) * self.speed.frames

    def _pixels(self, pixels: float) -> float:
        scale = float(self.settings.train.get("data", {}).get("scale", 1.0))
        return pixels / 1e6 * scale**2 * self.speed.megapixel

    def videos(self, videos: Iterable[Path]) -> float:
        """Of videos and folders of frames, as far as their size is stated."""
        seconds = 0.0
        for video in videos:
            with suppress(MediaError):  # told of when its turn comes
                source = open_frames(video)
                pixels = math.prod(source.size) * (source.frame_count or 0)
                seconds += _STREAMED * self._pixels(pixels)
        return seconds

    @property
    def targets(self) -> float:
        """Of predicting the targets in one view."""
        return self.videos(self.data.targets)

    @property
    def held_out(self) -> float:
        """Of predicting what is labelled for validation in one view."""
        stills = self.stills(row.image for row in self.data.validation_stills)
        return stills + self.videos(x.video for x in self.data.validation_videos)

    @property
    def labelled(self) -> float:
        """Of predicting what takes part in cross-validation in one view."""
        return self.stills(row.image for row in taking_part(self.data))

    @property
    def validation(self) -> float:
        """Of one validation."""
        if stills := self.data.validation_stills:
            return self.stills((row.image for row in stills), _LARGEST_SIDE)
        if self.data.annotated:
            side = 2 * self.speed.crop
            return _SYNTHETIC_CLIPS * self.speed.frames * side**2 / 1e6 * self.speed.megapixel
        frames = self.data.clip_frames[:_VALIDATED_FRAMES]
        return self.stills((row.image for row in frames), _LARGEST_SIDE)

    def label_interval(self, seconds: float, larger: float) -> int:
        """Every so many unlabelled frames one can be labelled, seen larger, in this time."""
        whole = self.videos(self.data.unlabelled) + self.stills(self.data.photos)
        whole *= larger**2
        if whole * _LABEL_VIEWS <= seconds:
            return 1
        # One alone takes its neighbours and the references of these.
        return max(1, math.ceil(whole * _LABEL_VIEWS * (self.speed.frames + 1) / max(seconds, 1.0)))

    def target_views(self, left: float) -> Augment | Literal["later"]:
        """The views that the targets are predicted in, if there is time for them."""
        for views in views_of(self.settings, stills=False):
            if _RUNS[views] * self.targets <= _TARGETS * left:
                return views
        return "none" if self.targets <= _PLAIN_TARGETS * left else "later"

    def held_out_views(self, left: float) -> Augment:
        """The views that what is held out is predicted in, by folds or by the user."""
        plain = self.held_out if self.data.validates else self.labelled
        *more, fewest = views_of(self.settings, stills=not self.data.validation_videos)
        return next((views for views in more if _RUNS[views] * plain <= _HELD_OUT * left), fewest)

    def folds(self, left: float, views: Augment) -> tuple[int, int, float]:
        """Parts of the stills, training clips of each, and the seconds it takes."""
        given, most = self.settings.folds, most_folds(self.data, self.settings.void)
        if given == 0 or most < 2 or (given is None and self.data.validates):
            return 0, 0, 0.0
        seconds, start = _FOLDS * left, self.speed.start
        training = seconds - _RUNS[views] * self.labelled
        clip = self.speed.fold_clip or self.speed.clip
        fit = int(training / (start + _FOLD_CLIPS * clip))
        folds = min(given or min(_MOST_FOLDS, max(2, fit)), most)
        speed = replace(self.speed, clip=clip)
        return folds, _clips(training / folds - start, speed), seconds


def _clips(seconds: float, speed: Speed) -> int:
    """Training clips in this time, at least a few."""
    return int(min(_MOST_CLIPS, max(_FEWEST_STEPS * speed.batch, seconds / speed.clip)))


def _lines(costs: _Costs, survey: Survey | None, start: Start, plan: Plan) -> Iterator[str]:
    """What was chosen, and why, in five lines."""
    settings, data, speed = costs.settings, costs.data, costs.speed
    if survey is None:
        count = len(data.unlabelled)
        yield f"data: nothing labelled; {count} videos and {len(data.photos)} photos to learn from"
        larger = f"; labelled {start.larger:g} times as large, as what is found is small"
        yield "size: as the network to start from saw them" + (larger if start.larger > 1 else "")
    else:
        yield f"data: {survey}"
        why = "such objects are seen well" if survey.scale == 1 else "so they are seen well"
        yield f"size: seen at {survey.scale:g} of their size, crops of {speed.crop} pixels: {why}"
    share = settings.synthetic_share or 0.0
    few = f"synthetic clips {share:.0%}, as few stills gain by recombining their objects"
    many = "no synthetic clips: they gain nothing from ten stills on, or without stills"
    glows = survey is not None and survey.glowing and settings.scene.preset == "cells"
    mix = (few if share else many) + (", scene cells, as what is labelled glows" if glows else "")
    rounds = f"{plan.rounds} round(s) of pseudo-labels, of one frame in {plan.interval}"
    yield f"mix: {mix}; {rounds if plan.rounds else 'no pseudo-labels'}"
    yield f"start: {start}"
    length = [f"{plan.clips} clips in {plan.epochs} epochs"] * bool(plan.clips)
    length += [f"{plan.round_clips} clips in a round"] * bool(plan.rounds)
    judge = _judge(settings, data, plan, smaller=bool(speed.fold_clip))
    told = f"time: {', then '.join(length)}, at {1 / speed.clip:.3g} a second on {speed.device}, to"
    yield f"{told} end within {settings.minutes:g} minutes; judged by {judge}"


def _judge(settings: FitSettings, data: DataFolder, plan: Plan, *, smaller: bool) -> str:
    """What the network of a fit is judged by."""
    if plan.folds:
        beside = "" if data.validates else ", as validation/ holds nothing"
        return f"{plan.folds} folds of {plan.fold_clips} {'smaller ' * smaller}clips{beside}"
    if data.validates:
        return "validation/"
    if not data.labelled:
        return "nothing, as nothing is labelled: label validation/"
    kind = "synthetic clips" if data.annotated else "frames held back from training"
    corner = " in one corner only" if len(data.labelled) == 1 else ""
    lone = "" if settings.folds == 0 else f", as a single picture has objects{corner}"
    return f"{kind} alone{lone}: label validation/"

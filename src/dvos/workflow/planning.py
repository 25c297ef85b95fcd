"""The plan of a fit: how its minutes are spent, decided once by timing a few steps.

The plan is kept in the run's folder, so that a fit that was stopped goes on to the same result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dvos.config.training import TrainingSettings
from dvos.config.workflow import FitSettings
from dvos.errors import MediaError
from dvos.media.frames import open_frames
from dvos.media.image import image_size
from dvos.tables import StillRow
from dvos.workflow.data_folder import DataFolder
from dvos.workflow.survey import Survey

#: Parts that a single still is cut into for cross-validation, and most pictures that take part.
PARTS = 4
MOST_UNITS = 40
#: Of the time given: the rest is for what goes slower than it was timed.
_USED = 0.9
#: Of the time for training: cross-validation, and rounds; of a round, labelling.
_FOLDS, _ROUNDS, _LABELLING = 0.35, 0.35, 0.4
#: Of the time left: prediction of the targets, with and without mirror images.
_TARGETS, _PLAIN_TARGETS = 0.15, 0.3
#: Of the training, validation between epochs.
_VALIDATION = 0.08
_MOST_FOLDS, _FOLD_CLIPS, _FOLD_EPOCHS, _ROUND_EPOCHS = 5, 400, 3, 4
_MOST_CLIPS, _FEWEST_STEPS = 100_000, 4
_REPORT_SECONDS = 10.0
#: In validation photos are cut to this side; of frames of clips so many are looked at.
_LARGEST_SIDE, _VALIDATED_FRAMES, _SYNTHETIC_CLIPS = 1024, 64, 8
#: What a frame of a video, which is decoded itself, takes beside one of a clip.
_STREAMED = 1.5
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


@dataclass(frozen=True)
class Plan:
    """How a fit spends its time."""

    clips: int  # Training clips.
    epochs: int  # Epochs they are parted into.
    folds: int  # Parts of the stills in cross-validation; 0 for none.
    fold_clips: int  # Training clips of each.
    rounds: int  # Rounds of pseudo-labels.
    round_clips: int  # Training clips of each.
    interval: int  # Every so many unlabelled frames one is labelled.
    # Whether the targets are predicted in four mirror images, in one, or not at all.
    targets: Literal["flips", "none", "later"]
    lines: tuple[str, ...]  # What was chosen, and why.

    @property
    def fold_epochs(self) -> int:
        """Epochs of the training of a fold."""
        return min(_FOLD_EPOCHS, self.epochs)

    @property
    def round_epochs(self) -> int:
        """Epochs of the training of a round."""
        return min(_ROUND_EPOCHS, self.epochs)


def time_training(settings: TrainingSettings, megapixels: float) -> Speed:
    """Train a few steps of a run into its folder, which is removed, and validate.

    Args:
        settings: Of the run, with at most one validation clip.
        megapixels: Of a frame of that clip; 0 for twice the crop.

    Raises:
        DvosError: Whatever is wrong with the data.
    """
    from dvos.registry import training_spec
    from dvos.training import timing
    from dvos.training.run import train

    rates = timing.time_training(settings, training_spec(settings.network), train)
    frames, square = settings.network.references + 1, 1e-6 * rates.crop**2
    # Without validation: a step goes forwards and, twice as long, backwards.
    forwards = rates.validation / (megapixels or 4 * square) or rates.clip / 3 / square
    return Speed(
        clip=rates.clip,
        megapixel=forwards / frames,
        start=rates.start,
        frames=frames,
        batch=rates.batch,
        crop=rates.crop,
        device=rates.device,
    )


def make_plan(
    settings: FitSettings, data: DataFolder, survey: Survey | None, speed: Speed, *, spent: float
) -> Plan:
    """Part the time given.

    Args:
        settings: Of the fit.
        data: What it works on.
        survey: Of its labels; None where nothing is labelled.
        speed: Of the machine.
        spent: Seconds that are gone.
    """
    costs = _Costs(settings, data, speed)
    left = 60 * settings.minutes * _USED - spent
    targets, cost = _choose_targets(settings, costs, left)
    left -= cost + speed.start + costs.validation + costs.held_out + _REPORT_SECONDS
    folds, fold_clips, of_folds = _part_folds(settings, data, costs, left)
    rounds = settings.rounds
    if rounds is None:
        rounds = int(data.learns_unlabelled)
    of_rounds = left * (_ROUNDS if data.labelled else 1) if rounds else 0.0
    of_round = of_rounds / rounds if rounds else 0.0
    training = max(0.0, left - of_folds - of_rounds)
    epochs = _epochs(training, costs.validation, settings.epochs)
    clips = _clips(training - epochs * costs.validation, speed) if data.labelled else 0
    plan = Plan(
        clips=settings.clips or clips,
        epochs=epochs,
        folds=folds,
        fold_clips=fold_clips,
        rounds=rounds,
        round_clips=_clips(of_round * (1 - _LABELLING) - speed.start, speed) if rounds else 0,
        interval=costs.label_interval(of_round * _LABELLING) if rounds else 1,
        targets=targets,
        lines=(),
    )
    return replace(plan, lines=tuple(_lines(settings, data, survey, speed, plan)))


@dataclass(frozen=True)
class _Costs:
    """What is to be segmented, in seconds; frames that cannot be read are told of later."""

    settings: FitSettings
    data: DataFolder
    speed: Speed

    @property
    def scale(self) -> float:
        """Size at which the network sees pictures, of their own."""
        return float(self.settings.train.get("data", {}).get("scale", 1.0))

    @property
    def views(self) -> int:
        """Mirror images of which predictions are the mean."""
        return 4 if self.settings.augment == "flips" else 1

    def _stills(self, rows: Sequence[StillRow], largest: int = 2**16) -> float:
        """Of some stills, each a simulated pan."""
        sizes = [image_size(row.image) for row in rows]
        pixels = sum(min(height, largest) * min(width, largest) for height, width in sizes)
        return self._pixels(pixels) * self.speed.frames

    def _pixels(self, pixels: float) -> float:
        return pixels / 1e6 * self.scale**2 * self.speed.megapixel

    def _videos(self, videos: Sequence[Path]) -> float:
        return sum(_STREAMED * self._pixels(h * w * frames) for h, w, frames in _videos(videos))

    @property
    def validation(self) -> float:
        """Of one validation."""
        if self.data.validation_stills:
            return self._stills(self.data.validation_stills, _LARGEST_SIDE)
        if self.data.annotated:
            side = 2 * self.speed.crop
            pixels = _SYNTHETIC_CLIPS * self.speed.frames * side**2
            return pixels / 1e6 * self.speed.megapixel
        return self._stills(self.data.clip_frames[:_VALIDATED_FRAMES], _LARGEST_SIDE)

    @property
    def held_out(self) -> float:
        """Of predicting what is labelled for validation."""
        videos = [one.video for one in self.data.validation_videos]
        return self.views * (self._stills(self.data.validation_stills) + self._videos(videos))

    @property
    def folds(self) -> float:
        """Of predicting each labelled picture."""
        return self.views * self._stills(self.data.labelled[:MOST_UNITS])

    @property
    def targets(self) -> float:
        """Of predicting the targets, in one view."""
        return self._videos(self.data.targets)

    def label_interval(self, seconds: float) -> int:
        """Every so many unlabelled frames one can be labelled in this time."""
        photos = [StillRow(photo, photo) for photo in self.data.photos]
        whole = self._videos(self.data.unlabelled) + self._stills(photos)
        if whole * _LABEL_VIEWS <= seconds:
            return 1
        # One alone takes its neighbours and the references of these.
        return max(1, math.ceil(whole * _LABEL_VIEWS * (self.speed.frames + 1) / max(seconds, 1.0)))


def _videos(videos: Sequence[Path]) -> Iterator[tuple[int, int, int]]:
    """Height, width and number of frames of videos and folders of frames, as far as stated."""
    for video in videos:
        # What cannot be read is told of when its turn comes.
        with suppress(MediaError):
            source = open_frames(video)
            yield *source.size, source.frame_count or 0


def _choose_targets(
    settings: FitSettings, costs: _Costs, left: float
) -> tuple[Literal["flips", "none", "later"], float]:
    """How the targets are predicted, and the seconds it takes."""
    plain = costs.targets
    if not plain:
        return settings.augment, 0.0
    if settings.augment == "flips" and 4 * plain <= _TARGETS * left:
        return "flips", 4 * plain
    return ("none", plain) if plain <= _PLAIN_TARGETS * left else ("later", 0.0)


def _part_folds(
    settings: FitSettings, data: DataFolder, costs: _Costs, left: float
) -> tuple[int, int, float]:
    """Parts of the stills, training clips of each, and the seconds it takes."""
    count = min(len(data.labelled), MOST_UNITS)
    if settings.folds == 0 or not count or (settings.folds is None and data.validates):
        return 0, 0, 0.0
    # A single still is cut into parts.
    most = count if count > 1 else PARTS
    seconds, start = _FOLDS * left, costs.speed.start
    each = start + _FOLD_CLIPS * costs.speed.clip
    fit = int((seconds - costs.folds) / each)
    folds = settings.folds or min(_MOST_FOLDS, max(2, fit))
    clips = _clips((seconds - costs.folds) / min(folds, most) - start, costs.speed)
    return min(folds, most), clips, seconds


def _epochs(training: float, validation: float, most: int) -> int:
    """As many as validation, one after each, leaves time for."""
    return max(2, min(most, int(_VALIDATION * training / max(validation, 0.01))))


def _clips(seconds: float, speed: Speed) -> int:
    """Training clips in this time, at least a few."""
    return int(min(_MOST_CLIPS, max(_FEWEST_STEPS * speed.batch, seconds / speed.clip)))


def _lines(
    settings: FitSettings, data: DataFolder, survey: Survey | None, speed: Speed, plan: Plan
) -> Iterator[str]:
    """What was chosen, and why, in five lines."""
    if survey is None:
        count = len(data.unlabelled)
        yield f"data: nothing labelled; {count} videos and {len(data.photos)} photos to learn from"
        yield "size: as the network to start from saw them"
    else:
        yield f"data: {survey}"
        why = "such objects are seen well" if survey.scale == 1 else "so they are seen well"
        yield f"size: seen at {survey.scale:g} of their size, crops of {speed.crop} pixels: {why}"
    share = settings.synthetic_share or 0.0
    few = f"synthetic clips {share:.0%}, as few stills gain by recombining their objects"
    many = "no synthetic clips: they gain nothing from ten stills on, or without stills"
    yield f"mix: {few if share else many}; " + (
        f"{plan.rounds} round(s) of pseudo-labels, every {plan.interval}. frame"
        if plan.rounds
        else "no pseudo-labels"
    )
    known = settings.start is not None
    given = "it is given, and knows more than its encoder alone"
    yield (
        f"start: {settings.start}: {given}"
        if known
        else ("start: ImageNet weights in the encoder, as no trained network is given (start)")
    )
    judged = "validation/" if data.validates else "synthetic clips alone: label validation/"
    if plan.folds:
        judged = f"{plan.folds} folds of {plan.fold_clips} clips, as validation/ holds nothing"
    yield (
        f"time: {plan.clips} clips in {plan.epochs} epochs at {1 / speed.clip:.0f} a second on "
        f"{speed.device}, to end within {settings.minutes:g} minutes; judged by {judged}"
    )

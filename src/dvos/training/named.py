"""What settings of data name, found and made once for whichever network is trained on it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvos.config.data import (
    ClipsSettings,
    ColourSettings,
    DataSettings,
    DegradationSettings,
    LabelledStillsSettings,
    SyntheticSettings,
)
from dvos.errors import ConfigError, Fault, FaultCollector, Gathered, MediaError
from dvos.training.colour_jitter import ColourJitter
from dvos.training.degradation import Degradation
from dvos.training.labelled import find_clips, find_empty, find_stills, hold_back
from dvos.training.stills import LabelledStill, load_still
from dvos.training.tabled import FrameClip

if TYPE_CHECKING:
    from dvos.synthesis.clip import ClipMaker

__all__ = [
    "Labelled",
    "build_colour",
    "build_degradation",
    "build_maker",
    "build_validation_maker",
    "clips_of",
    "find_labelled",
    "shares_of",
    "stills_of",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labelled:
    """What the settings name, parted into training and held back."""

    stills: list[LabelledStill]
    held_stills: list[LabelledStill]
    clips: list[FrameClip]
    held_clips: list[FrameClip]
    empty: list[LabelledStill]
    pseudo_stills: list[LabelledStill]
    pseudo_clips: list[FrameClip]

    def judged(self) -> tuple[list[LabelledStill], list[FrameClip]]:
        """Stills and clips to validate on, where the settings name none.

        What was held back from training; if nothing was, the training data
        themselves, with a warning. Pseudo-labels are never used: a network
        would be judged by what it was taught, mistakes included.
        """
        if self.held_stills or self.held_clips:
            return self.held_stills, self.held_clips
        if self.stills or self.clips:
            _log.warning(
                "validation is measured on the training stills and clips themselves, so it "
                "will look better than it is: name others under validation"
            )
        return self.stills, self.clips


def find_labelled(settings: DataSettings) -> Labelled:
    """The labelled stills and clips of settings.

    Raises:
        DvosError: One fault for each file or table that is wrong.
    """
    chosen = settings.validation
    named = chosen.stills.tables or chosen.stills.folders or chosen.videos or chosen.synthetic
    named = named or chosen.clips.tables or chosen.clips.folders
    share = 0.0 if named else chosen.share
    with Gathered() as gathered:
        stills: list[LabelledStill] = []
        clips: list[FrameClip] = []
        empty: list[LabelledStill] = []
        pseudo_stills: list[LabelledStill] = []
        pseudo_clips: list[FrameClip] = []
        with gathered:
            stills = stills_of(settings.stills)
        with gathered:
            clips = clips_of(settings.clips)
        with gathered:
            empty = find_empty(settings.empty.tables, settings.empty.folders)
        pseudo = settings.pseudo
        unknown = pseudo.ignore_value
        with gathered:
            pseudo_stills = find_stills(pseudo.stills.tables, [], ignore_value=unknown)
        with gathered:
            pseudo_clips = find_clips(pseudo.clips.tables, [], ignore_value=unknown)
    training, held = hold_back(stills, [still.image.stem for still in stills], share)
    training_clips, held_clips = hold_back(clips, [clip.name for clip in clips], share)
    return Labelled(training, held, training_clips, held_clips, empty, pseudo_stills, pseudo_clips)


def stills_of(settings: LabelledStillsSettings) -> list[LabelledStill]:
    """The stills that settings name; at least one has an object, if there are any."""
    stills = find_stills(
        settings.tables,
        settings.folders,
        ignore_value=settings.ignore_value,
        scale=settings.scale,
    )
    # Masks are read until one has an object; usually that is the first.
    if stills and not any(len(load_still(still).aims) for still in stills):
        raise MediaError(
            [
                Fault(str(still.mask), "has no object", "a mask with labelled objects")
                for still in stills
            ]
        )
    return stills


def clips_of(settings: ClipsSettings) -> list[FrameClip]:
    """The clips that settings name."""
    return find_clips(settings.tables, settings.folders, ignore_value=settings.ignore_value)


def shares_of(settings: DataSettings, labelled: Labelled) -> dict[str, float]:
    """The share of each source that is used.

    Raises:
        ConfigError: If a source without data has a share, or nothing has one.
    """
    there = {
        "stills": bool(labelled.stills),
        "synthetic": bool(settings.synthetic.backgrounds),
        "clips": bool(labelled.clips),
        "empty": bool(labelled.empty),
        "pseudo": bool(labelled.pseudo_stills or labelled.pseudo_clips),
    }
    shares: dict[str, float] = {}
    with FaultCollector(ConfigError) as faults:
        for name, share in settings.shares:
            if share == "auto":
                share = float(there[name])
            elif share > 0 and not there[name]:
                faults.add(
                    f"shares.{name}",
                    f"is {share:g}, but there is no data for it",
                    "",
                    f"fill {name}, or set the share to 0 or auto",
                )
            if share > 0:
                shares[name] = share
        if not shares:
            faults.add(
                "shares",
                "leave no source of training clips",
                "labelled stills, clips, or backgrounds and cutouts",
                "name some under stills, clips or synthetic",
            )
    return shares


def build_maker(settings: SyntheticSettings, seed: int) -> ClipMaker:
    """What makes the synthetic clips of settings."""
    # Its compiler takes seconds to load: only those who need it pay.
    from dvos.synthesis.build import build_clip_maker

    return build_clip_maker(
        settings.scene,
        backgrounds=settings.backgrounds,
        cutouts=settings.cutouts,
        distractors=settings.distractors,
        seed=seed,
    )


def build_validation_maker(settings: DataSettings, seed: int) -> ClipMaker:
    """What makes the synthetic clips that are validated on.

    Raises:
        ConfigError: If there is nothing to make them of.
    """
    if not settings.synthetic.backgrounds:
        wanted = settings.validation.synthetic
        found = (
            f"asks for {wanted} synthetic clips, but there is nothing to make them of"
            if wanted
            else "is 0, and there are no labelled stills, clips or videos to judge by"
        )
        raise ConfigError.at(
            "validation.synthetic",
            found,
            "synthetic.backgrounds and synthetic.cutouts",
            "give both, or name other validation data",
        )
    return build_maker(settings.synthetic, seed)


def build_colour(settings: ColourSettings) -> ColourJitter:
    """What colours are drawn from."""
    return ColourJitter(**settings.model_dump(exclude={"strength"})).scaled(settings.strength)


def build_degradation(settings: DegradationSettings) -> Degradation:
    """What the quality is drawn from."""
    return Degradation(**settings.model_dump(exclude={"strength"})).scaled(settings.strength)

"""Finding the labelled stills and clips that settings name, all faults at once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dvos.config.data import ClipsSettings, DataSettings, LabelledStillsSettings
from dvos.errors import Fault, FaultCollector, MediaError, check_size
from dvos.files import stem_of
from dvos.formats.importing import take_sources
from dvos.formats.known import open_source
from dvos.media.clip_store import OpenStores
from dvos.media.ctc_folder import labelled_clips
from dvos.media.image import image_size
from dvos.media.intensity import measure_intensity
from dvos.media.layout import list_images, pair_stills
from dvos.media.mask import mask_size
from dvos.tables import read_clips, read_images, read_stills
from dvos.training.clips.files import FrameClip, clips_of_rows
from dvos.training.clips.stills import DRAWN_ON_IT, LabelledStill, load_still

_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Labels:
    """The labelled stills and clips that settings name, parted into training and held back."""

    stills: list[LabelledStill]
    held_stills: list[LabelledStill]
    clips: list[FrameClip]
    held_clips: list[FrameClip]
    empty: list[LabelledStill]
    pseudo_stills: list[LabelledStill]
    pseudo_clips: list[FrameClip]

    @property
    def pictures(self) -> int:
        """Different pictures to train on; of a video all frames are alike, and count as one."""
        stills = (*self.stills, *self.pseudo_stills)
        return len({*(still.image for still in stills)}) + len(self.clips) + len(self.pseudo_clips)

    def judged(self) -> tuple[list[LabelledStill], list[FrameClip]]:
        """What was held back to validate on; else the training data themselves, with a warning."""
        if self.held_stills or self.held_clips:
            return self.held_stills, self.held_clips
        if self.stills or self.clips:
            told = "validation is measured on the training stills and clips themselves, so it"
            _log.warning(f"{told} will look better than it is: name others under validation")
        return self.stills, self.clips


def find_labels(settings: DataSettings) -> Labels:
    """Find the labelled stills and clips of settings; a DvosError has all that is wrong."""
    pseudo, intensity = settings.pseudo, settings.intensity
    of_stills = LabelledStillsSettings(tables=pseudo.stills, void=pseudo.void)
    of_clips = ClipsSettings(tables=pseudo.clips, void=pseudo.void)
    bare: list[Path] = []
    with FaultCollector() as faults:
        stills = faults.collect(find_stills_with_objects, settings.stills, intensity) or []
        clips = faults.collect(find_clips, settings.clips, intensity) or []
        for table in settings.empty.tables:
            bare += [row.image for row in faults.collect(read_images, table) or []]
        for folder in settings.empty.folders:
            bare += faults.collect(_photos, folder) or []
        pseudo_stills = faults.collect(find_stills, of_stills, intensity) or []
        pseudo_clips = faults.collect(find_clips, of_clips, intensity) or []
    chosen = settings.validation
    named = [chosen.stills.tables, chosen.stills.folders, chosen.clips.tables, chosen.clips.folders]
    share = 0.0 if any([*named, chosen.videos, chosen.synthetic]) else chosen.share
    training, held = hold_back(stills, [stem_of(still.image) for still in stills], share)
    training_clips, held_clips = hold_back(clips, [clip.name for clip in clips], share)
    empty = [LabelledStill(image, None, intensity=intensity) for image in bare]
    return Labels(training, held, training_clips, held_clips, empty, pseudo_stills, pseudo_clips)


def take_labels(settings: DataSettings, place: Path) -> DataSettings:
    """Settings with what other programs labelled as folders and tables, written into ``place``."""
    if not settings.sources:
        return settings
    folders, tables = take_sources(settings.sources, settings.classes, place)
    stills = settings.stills.model_copy(update={"folders": [*settings.stills.folders, *folders]})
    clips = settings.clips.model_copy(update={"tables": [*settings.clips.tables, *tables]})
    return settings.model_copy(update={"sources": [], "stills": stills, "clips": clips})


def source_kinds(settings: DataSettings) -> tuple[bool, bool]:
    """Whether what other programs labelled holds photos, and whether it holds videos."""
    with FaultCollector() as faults:
        found = [faults.collect(open_source, source) for source in settings.sources]
    videos = {bool(picture.video) for one in found if one for picture in one.pictures}
    return False in videos, True in videos


def settle_intensity(
    settings: DataSettings, kept: str | None = None
) -> tuple[DataSettings, str | None]:
    """What becomes of samples of more than 8 bit, one choice for all photos and frames of a run.

    ``kept`` is what an earlier run, or the network that is started from, was trained with. The
    settings returned have no ``auto``; beside them is the choice, if an image has more than 8 bit.
    """
    if settings.intensity != "auto":
        return settings, settings.intensity
    chosen = kept or measure_intensity(_images(settings))
    if chosen and not kept and chosen != "full":
        told = "training: samples from %s to %s are spread over 0 to 255 (see intensity)"
        _log.warning(told, *chosen.split(","))
    return settings.model_copy(update={"intensity": chosen or "full"}), chosen


def _images(settings: DataSettings) -> list[Path]:
    """The photos and frames of a run; what is at fault is passed over and told later."""
    faults = FaultCollector()
    stills, clips, empty, pseudo = settings.stills, settings.clips, settings.empty, settings.pseudo
    tables = [*stills.tables, *clips.tables, *empty.tables, *pseudo.stills, *pseudo.clips]
    images: list[Path] = []
    for table in [*tables, *settings.synthetic.backgrounds]:
        images += [row.image for row in faults.collect(read_images, table) or []]
    for folder in stills.folders:
        images += [image for image, _ in faults.collect(pair_stills, folder, faults) or []]
    for folder in clips.folders:
        for clip in faults.collect(labelled_clips, folder) or []:
            images += clip.frames.values()
    for folder in empty.folders:
        images += faults.collect(list_images, folder) or []
    return images


def find_stills(settings: LabelledStillsSettings, intensity: str = "full") -> list[LabelledStill]:
    """List labelled stills, in order; a MediaError has a fault for each photo or mask at fault."""
    pairs: list[tuple[Path, Path]] = []
    with FaultCollector(MediaError if settings.folders else None) as faults:
        for table in settings.tables:
            pairs += [(row.image, row.mask) for row in faults.collect(read_stills, table) or []]
        for folder in settings.folders:
            pairs += pair_stills(folder, faults)
        for image, mask in pairs:
            faults.collect(_check_sizes, image, mask)
    void, scale = settings.void, settings.scale
    return [LabelledStill(image, mask, void, scale, intensity) for image, mask in pairs]


def find_stills_with_objects(
    settings: LabelledStillsSettings, intensity: str = "full"
) -> list[LabelledStill]:
    """As :func:`find_stills`; a MediaError too if there are some, and none has an object."""
    stills = find_stills(settings, intensity)
    # Masks are read until one has an object; usually that is the first.
    if stills and all(load_still(still, as_one=True).mask.only == 0 for still in stills):
        at = "" if settings.scale == 1 else f" at data.stills.scale {settings.scale:g}"
        told = (f"has no object{at}", "a mask with labelled objects")
        raise MediaError(Fault(str(still.mask), *told) for still in stills)
    return stills


def _check_sizes(image: Path, mask: Path) -> None:
    size = image_size(image)
    check_size(mask, mask_size(mask), size, image, DRAWN_ON_IT)


def find_clips(settings: ClipsSettings, intensity: str = "full") -> list[FrameClip]:
    """List the labelled clips of tables and folders, in order."""
    clips: list[FrameClip] = []
    with FaultCollector() as faults:
        for table in settings.tables:
            clips += faults.collect(_clips_of_table, table, settings.void, intensity) or []
        for folder in settings.folders:
            clips += [
                FrameClip(found.name, found.frames, found.masks, settings.void, intensity)
                for found in faults.collect(labelled_clips, folder) or []
            ]
    return clips


def _clips_of_table(table: Path, void: str, intensity: str) -> list[FrameClip]:
    with OpenStores() as stores:
        # A store's frame is known to be there by its size too.
        rows = read_clips(table, stores.image_size, stores.mask_size)
    clips = clips_of_rows(rows, void, intensity)
    if not clips:
        wanted, remedy = "a row with Label 1", "label a frame of each clip"
        raise MediaError.at(table, "has no query", wanted, remedy)
    return clips


def _photos(folder: Path) -> list[Path]:
    """The photos of a folder, at least one."""
    images = list_images(folder)
    if not images:
        raise MediaError.at(folder, "holds no images", "photos without objects")
    return images


def hold_back(items: Sequence[T], names: Sequence[str], share: float) -> tuple[list[T], list[T]]:
    """Part named items into (those for training, those held back for validation), in order.

    Which are held back depends on their names alone, so that runs on one set are judged by the
    same items. A positive share holds back at least one; fewer than four items are not parted.
    """
    if share <= 0 or len(items) < 4:
        return list(items), []
    count = min(len(items) - 1, max(1, round(share * len(items))))
    texts = [name.encode("utf-8", "surrogateescape") for name in names]
    hashes = [hashlib.blake2b(text, digest_size=8).digest() for text in texts]
    held = set(sorted(range(len(items)), key=hashes.__getitem__)[:count])
    training = [item for number, item in enumerate(items) if number not in held]
    return training, [item for number, item in enumerate(items) if number in held]

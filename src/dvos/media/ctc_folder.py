"""What lies in a folder of the Cell Tracking Challenge: frames, masks, markers of tracks.

``01`` holds the frames ``t000.tif``; ``01_GT/TRA`` a marker or mask of every object of each frame,
``man_track000.tif``, with the table ``man_track.txt``; ``01_GT/SEG`` masks, ``man_seg000.tif``, of
some frames, and in these of all objects or of some.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from dvos.errors import MediaError
from dvos.files import composed, stem_of
from dvos.media.clip_folders import FolderClip, clips_of_folder
from dvos.media.layout import IMAGE_SUFFIXES, list_files, list_folders
from dvos.media.mask import read_label_image

_log = logging.getLogger(__name__)

_TRUTH, _RESULT = "_GT", "_RES"
_NUMBERED = re.compile(r"(man_seg|man_track|mask|t)_?([0-9]{3,})")


@dataclass(frozen=True)
class CtcSequence:
    """A sequence, such as ``01``, with its truth: files by frame number, rising.

    The ids of markers are permanent, those of masks of one frame; the table is ``man_track.txt``.
    """

    name: str
    frames: dict[int, Path]
    markers: dict[int, Path]
    masks: dict[int, Path]
    table: Path | None

    @classmethod
    def of(
        cls, folder: Path, markers: dict[int, Path], masks: dict[int, Path], table: Path
    ) -> Self:
        """The sequence whose truth or results lie in a folder, such as ``01_GT`` or ``01_RES``."""
        name = composed(folder.absolute().name).rpartition("_")[0]
        frames = numbered_files(folder.absolute().with_name(name))
        return cls(name, frames, markers, masks, table if table.is_file() else None)

    def frame_name(self, number: int) -> str:
        """Name of a frame: of its image, or as the challenge names it."""
        image = self.frames.get(number)
        return f"t{number:03d}" if image is None else stem_of(image)

    def whole_masks(self) -> dict[int, Path]:
        """The masks that show every object: as many as the frame has markers."""
        whole = {}
        for number, path in self.masks.items():
            marker = self.markers.get(number)
            if marker is None or _objects(path) >= _objects(marker):
                whole[number] = path
        if left := len(self.masks) - len(whole):
            told = "%s: %d of %d masks show some of their frame's objects only, and are left out"
            _log.warning(told, self.name, left, len(self.masks))
        return whole


def ctc_sequences(folder: Path) -> list[CtcSequence]:
    """The sequences with truth in a folder: a data set's, or ``01_GT``; none if it is neither."""
    found = [folder] if _is_truth(folder) else list(filter(_is_truth, list_folders(folder)))
    return [
        CtcSequence.of(one, markers, numbered_files(one / "SEG"), one / "TRA" / "man_track.txt")
        for one in found
        for markers in [numbered_files(one / "TRA")]
    ]


def labelled_clips(root: Path) -> list[FolderClip]:
    """The labelled clips under a folder, of the challenge or as :func:`clips_of_folder` does it."""
    sequences = ctc_sequences(root) if root.is_dir() else []
    if not sequences:
        return clips_of_folder(root)
    clips = []
    for one in sequences:
        numbers = {number: place for place, number in enumerate(one.frames)}
        masks = {numbers[n]: path for n, path in one.whole_masks().items() if n in numbers}
        if not masks:
            expected = "images t000.tif ... beside it, and a mask that shows every object"
            raise MediaError.at(root, f"the sequence {one.name} has no labelled frame", expected)
        clips.append(FolderClip(one.name, dict(enumerate(one.frames.values())), masks))
    return clips


def numbered_files(folder: Path) -> dict[int, Path]:
    """Images of a folder that are named as the challenge does, by frame number, rising."""
    files = list_files(folder, IMAGE_SUFFIXES)
    matches = ((_NUMBERED.fullmatch(stem_of(path)), path) for path in files)
    return dict(sorted((int(match[2]), path) for match, path in matches if match))


def result_mask(folder: Path, clip: str, frame: str) -> Path | None:
    """The result mask of a frame (``t007``) in ``folder/<clip>_RES``, or in the folder itself."""
    number = re.search(r"[0-9]+$", frame)
    for place in (folder / f"{clip}{_RESULT}", folder):
        if number and place.absolute().name.endswith(_RESULT) and place.is_dir():
            return next(iter(place.glob(f"mask{number[0]}.tif")), None)
    return None


def _is_truth(folder: Path) -> bool:
    is_named = composed(folder.absolute().name).endswith(_TRUTH)
    return is_named and any((folder / part).is_dir() for part in ("TRA", "SEG"))


def _objects(path: Path) -> int:
    return int(np.count_nonzero(np.bincount(read_label_image(path).ravel())[1:]))

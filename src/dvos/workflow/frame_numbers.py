"""Whether picture and mask of a pair show the same frame, as tables of ``extract frames`` tell.

A picture named by its order may be of another frame, of the same size, without any error.
"""

import csv
import logging
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from dvos.errors import FaultCollector, shortened
from dvos.files import absolute, stem_of

_log = logging.getLogger(__name__)

_NUMBER = re.compile(r"(?:.*\D)?(\d{4,})")
_REMEDY = "extract both alike, with names=frame, or rename the masks by the frames they show"


class ExtractedFrames:
    """Frames of videos by the tables that lie beside pictures, each read once."""

    def __init__(self) -> None:
        self._listed = cache(_listed)
        self._near: dict[str, list[dict[str, int]]] = {}  # by folder, the nearest table first

    def check_pairs(
        self, pairs: Iterable[tuple[Path | None, Path]], faults: FaultCollector
    ) -> None:
        """A fault for each mask that a table tells to be of another frame than its picture.

        Without a picture its name counts. A line tells of names alone that have another number.
        """
        doubtful = []
        for image, mask in pairs:
            of_mask = self.frame_of(mask)
            of_image = _number(mask) if image is None else self.frame_of(image)
            if of_mask is None or of_image == of_mask:
                continue
            if of_image is not None:
                other = "its name says" if image is None else f"{image.name} shows"
                found = f"shows frame {of_mask} of a video, and {other} frame {of_image}"
                faults.add(mask, found, "picture and mask of one frame", _REMEDY)
            elif image is not None and _number(image) not in (None, of_mask):
                doubtful.append(f"{mask} (frame {of_mask})")
        if doubtful:
            text = "%s: by their table masks of other frames than their pictures' names tell; %s"
            _log.warning(text, shortened(doubtful), _REMEDY)

    def frame_of(self, path: Path) -> int | None:
        """The frame of a video that a file shows, if a table in a folder about it tells."""
        place = absolute(str(path))
        folder = os.path.dirname(place)  # noqa: PTH120 (text: tables have some ten thousand rows)
        if folder not in self._near:
            above = [*Path(place).parents][:3]
            self._near[folder] = [found for one in above if (found := self._listed(one))]
        return next((found[place] for found in self._near[folder] if place in found), None)


def _listed(folder: Path) -> dict[str, int]:
    """Frames by the files that tables of ``extract frames`` in a folder list."""
    found: dict[str, int] = {}
    for table in sorted(folder.glob("*.csv")):
        # What cannot be read is told of by whoever needs it.
        with (
            suppress(OSError, ValueError, TypeError, csv.Error),
            table.open(encoding="utf-8-sig", newline="") as stream,
        ):
            rows = csv.DictReader(stream)
            if {"Image", "Video", "Frame"} <= set(rows.fieldnames or ()):
                for row in rows:
                    found[absolute(str(folder / row["Image"]))] = int(row["Frame"])
    return found


def _number(path: Path) -> int | None:
    match = _NUMBER.fullmatch(stem_of(path))
    return None if match is None else int(match[1])

"""The tracks of a clip: made from the finished files of its frames.

Made from files alone they are the same after a continued run as after an unbroken one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat, NonNegativeInt

from dvos.config.prediction import PredictionOptions
from dvos.files import write_json
from dvos.formats.ctc import RESULT_TABLE, CtcWriter
from dvos.media.label_image import LARGEST_16, read_label_image, write_label_image
from dvos.prediction.calibration import DistinctCount, TrackCalibration
from dvos.prediction.objects import FrameObjects
from dvos.prediction.tracks.files import read_objects, read_tracks
from dvos.prediction.tracks.ground import SweptGround
from dvos.prediction.tracks.linking import Linker
from dvos.prediction.tracks.stream import GivenIds, Links
from dvos.prediction.tracks.table import TRACK_COLUMNS, TrackTable
from dvos.prediction.tracks.totals import TotalRow
from dvos.runner.manifest import read_record
from dvos.tables import write_rows

_log = logging.getLogger(__name__)

#: Raised whenever the same objects and settings give other tracks than before.
_VERSION = 1

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Record:
    """What is noted of finished tracks; ``fingerprint`` is of all that they depend on."""

    fingerprint: str
    frames: NonNegativeInt
    tracks: NonNegativeInt
    inside: NonNegativeInt
    swept: FiniteFloat | None


class ClipTracks:
    """The tracks of one clip in an output folder: what is finished, and making them.

    Args:
        out: The output folder.
        name: Of the clip.
        options: What is written, and how objects are linked.
        given: Whether the numbers of objects are permanent ids already.
    """

    def __init__(self, out: Path, name: str, options: PredictionOptions, given: bool) -> None:
        self._out, self._name, self._options, self._given = out, name, options, given
        self._masks = out / name
        self.folder = self._masks / "tracks"
        self._table = out / f"{name}.tracks.csv"
        self._record = out / ".progress" / f"{name}.tracks.json"
        self._ctc = out / f"{name}_RES" if options.format == "ctc" else None
        self._suffix = ".png"
        self.tracks = TrackTable()
        self._ground = SweptGround()

    @property
    def files(self) -> list[Path]:
        """The files of the whole clip."""
        return [self._table, *([self._ctc / RESULT_TABLE] if self._ctc else [])]

    def is_finished(self, fingerprint: str, rows: Sequence[Row]) -> bool:
        """Whether they are there, made of the same objects in the same way.

        Args:
            fingerprint: Of all that the objects depend on.
            rows: Of the clip's frames.
        """
        known = read_record(self._record, _Record)
        if known is None or known.fingerprint != self._mark(fingerprint):
            return False
        images = (self.folder / row["frame"] for row in rows)
        return all(path.is_file() for path in self.files) and all(
            Path(f"{image}.png").is_file() or Path(f"{image}.tif").is_file() for image in images
        )

    def remove(self, frames: Iterable[str]) -> None:
        """Remove what an earlier run has made of these frames and of the clip."""
        for path in (self._record, *self.files):
            path.unlink(missing_ok=True)
        for frame in frames:
            for suffix in (".png", ".tif"):
                (self.folder / f"{frame}{suffix}").unlink(missing_ok=True)

    def follow(self, rows: Sequence[Row]) -> Iterator[tuple[Row, NDArray[np.int64]]]:
        """Link the objects of a clip's frames and write the label images of their tracks.

        Args:
            rows: Of its frames, in order, with ``frame_index``, ``time_s`` and ``frame``.

        Yields:
            The row of each frame, and the track of each of its objects; 0 for none.

        Raises:
            MediaError: If the files of a frame cannot be read, or a format cannot hold the tracks.
            OutputError: If something cannot be written.
        """
        links: Links = GivenIds() if self._given else Linker(self._options.linking)
        frames = rows[-1]["frame_index"] + 1 if rows else 0
        writer = CtcWriter(self._ctc, frames) if self._ctc else None
        waiting: deque[tuple[Row, FrameObjects]] = deque()
        self.tracks, self._ground, self._suffix = TrackTable(), SweptGround(), ".png"
        for row in [*rows, None]:
            if row is None:
                settled = links.finish()
            else:
                objects = read_objects(self._masks / "instances", row["frame"])
                waiting.append((row, objects))
                settled = links.push(objects, row["frame_index"])
            for linked in settled:
                done, objects = waiting.popleft()
                labels = np.append(0, linked.ids)[objects.labels]
                self.tracks.add(linked.frame, done["time_s"], objects, linked.ids, linked.parents)
                height, width = labels.shape
                self._ground.add(linked.motion, (height, width))
                self._write(labels, done["frame"], rows)
                if writer:
                    writer.add(labels, linked.parents, linked.frame)
                yield done, linked.ids
        if writer:
            writer.finish()

    def again(self, rows: Sequence[Row]) -> Iterator[tuple[Row, NDArray[np.int64]]]:
        """Rows and tracks as :meth:`follow` gives them, read from the finished label images."""
        for row in rows:
            objects = read_objects(self._masks / "instances", row["frame"])
            ids = np.zeros(objects.count + 1, np.int64)
            ids[objects.labels] = read_tracks(self.folder, row["frame"])
            yield row, ids[1:]

    def finish(self, rows: Sequence[Row], fingerprint: str) -> None:
        """Write the table of tracks, after :meth:`follow`, and note that all is done."""
        write_rows(self._table, TRACK_COLUMNS, self.tracks.rows())
        counts = len(rows), self.tracks.count, self.tracks.inside
        write_json(
            self._record, asdict(_Record(self._mark(fingerprint), *counts, self._ground.area()))
        )

    def totals(self, calibration: TrackCalibration | None) -> TotalRow | None:
        """The finished clip's row of ``totals.csv``; None if it is not finished.

        Args:
            calibration: How the number of tracks leads to that of distinct objects.
        """
        known = read_record(self._record, _Record)
        if known is None:
            return None
        # Objects that were given are the same and all there are.
        count = DistinctCount(known.tracks, known.tracks, known.tracks)
        if not self._given:
            count = (calibration or TrackCalibration()).estimate(known.tracks, known.inside)
        distance = self._options.ground_sampling_distance
        area = None
        if distance is not None and known.swept is not None:
            area = round(known.swept * (distance / 1000) ** 2, 4)
        return TotalRow(
            clip=self._name,
            region="",
            distinct=round(count.distinct),
            low=round(count.low),
            high=round(count.high),
            area_m2=area,
            per_m2=round(count.distinct / area, 4) if area else None,
            frames=known.frames,
        )

    def _mark(self, fingerprint: str) -> str:
        linking = self._options.linking.model_dump_json()
        return f"{_VERSION} {fingerprint} {self._given} {linking}"

    def _write(self, labels: NDArray[np.int64], frame: str, rows: Sequence[Row]) -> None:
        if self._suffix == ".png" and labels.max(initial=0) > LARGEST_16:
            _log.warning(
                "%s: has more than %d tracks: tracks are written as TIFF of 32 bit, not PNG",
                *(self._name, LARGEST_16),
            )
            self._suffix = ".tif"
            for row in rows:
                earlier = self.folder / f"{row['frame']}.png"
                if row["frame"] == frame:
                    break
                write_label_image(
                    earlier.with_name(f"{row['frame']}.tif"), read_label_image(earlier)
                )
                earlier.unlink()
        write_label_image(self.folder / f"{frame}{self._suffix}", labels)

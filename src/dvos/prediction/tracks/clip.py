"""Objects followed as frames come in: while a video is segmented, or from its finished files.

Of these, and of nothing else, the tracks and regions of a clip are made.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, takewhile
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat, NonNegativeFloat, NonNegativeInt

from dvos.config.prediction import LinkingSettings, PredictionOptions
from dvos.errors import MediaError, check_size
from dvos.files import file_digest, write_json
from dvos.formats.ctc import RESULT_TABLE, CtcWriter
from dvos.formats.labels import Size
from dvos.formats.regions import read_regions
from dvos.media.frames import FrameSource
from dvos.media.mask import LARGEST_16, read_label_image, write_label_image
from dvos.prediction.calibration import CountCalibration, DistinctCount, TrackCalibration
from dvos.prediction.objects import FrameObjects, read_objects
from dvos.prediction.predictor import FramePrediction
from dvos.prediction.tracks.ground import CameraPath, Rings, shown_path, swept_area
from dvos.prediction.tracks.linking import Linker
from dvos.prediction.tracks.merging import part_earlier
from dvos.prediction.tracks.motion import Motion
from dvos.prediction.tracks.state import LinkedFrame
from dvos.prediction.tracks.table import (
    REGION_COLUMNS,
    TRACK_COLUMNS,
    RegionTally,
    TotalRow,
    TrackTable,
)
from dvos.runner.display import waiting
from dvos.runner.manifest import ClipManifest, read_record
from dvos.tables import write_rows

_log = logging.getLogger(__name__)

_VERSION = 9  # raised whenever the same objects and settings give other tracks than before
_LOOKED_BACK = 8  # frames in which objects are parted by what they become
_NAMED = 5  # frames that a warning names
_DIGITS = 6  # of areas and densities

T = TypeVar("T")
Row = Mapping[str, Any]
#: Objects are linked; or their numbers are permanent ids already; or they are not followed.
Ids = Literal["linked", "given", "none"]


def follow(
    frames: Iterable[tuple[T, FrameObjects, int]],
    ids: Ids,
    settings: LinkingSettings | None = None,
    *,
    every: int = 1,
) -> Iterator[tuple[T, FrameObjects, LinkedFrame]]:
    """Link the objects of frames, each with whatever belongs to it and its number, which rises.

    Of a video of which one in ``every`` frames is looked at these are numbered, and linked by what
    they show of motion and reach; ``settings.gap`` counts the video's.

    Each comes out again once its links are settled, up to :attr:`Linker.delay` frames later, and
    what its objects become can part them no more, 8 frames later still.
    """
    if ids != "linked":
        for what, objects, frame in frames:
            own = objects.numbers if ids == "given" else np.zeros(objects.count, np.int64)
            yield what, objects, LinkedFrame(frame, own, {}, None, objects)
        return
    settings = settings or LinkingSettings()
    settings = settings.model_copy(update={"gap": -(-settings.gap // every)})
    linker, given = Linker(settings), deque[tuple[T, FrameObjects]]()
    known = deque[LinkedFrame]()

    def settled() -> Iterator[LinkedFrame]:
        for what, objects, frame in frames:
            given.append((what, objects))
            yield from linker.push(objects, frame)
        yield from linker.finish()

    for linked in settled():
        if known:
            part_earlier(known, linked)
        known.append(linked)
        if len(known) > _LOOKED_BACK:
            yield *given.popleft(), known.popleft()
    for linked in known:
        yield *given.popleft(), linked


def followed(
    predictions: Iterable[FramePrediction],
    *,
    linking: LinkingSettings | None = None,
    minimum_area: int = 30,
    width: float | None = None,
    every: int = 1,
) -> Iterator[FramePrediction]:
    """Follow each object over the predictions of a video, as they come.

    Objects of less than ``minimum_area`` pixels are left out; their usual ``width`` is what
    ``predictor.calibration.width`` tells. Given is each prediction with ``objects``, whose
    ``tracks`` are permanent ids, from 1; 0 of objects in no track. They come late by
    :attr:`dvos.prediction.tracks.linking.Linker.delay` frames and 8 more.
    """

    def placed(prediction: FramePrediction) -> tuple[FramePrediction, FrameObjects, int]:
        objects = prediction.measured(CountCalibration(width=width), minimum_area)
        objects = objects if every == 1 else replace(objects, motion=None)
        return prediction, objects, prediction.frame_index // every

    for first in (predictions := iter(predictions)):
        frames = map(placed, chain([first], predictions))
        ids: Ids = "linked" if first.instances is None else "given"
        for prediction, _, linked in follow(frames, ids, linking, every=every):
            yield replace(prediction, followed=replace(linked.objects, tracks=linked.ids))


@dataclass(frozen=True)
class _Part:
    """What is noted of a clip, or of a region of it: its tracks, and the ground seen of it."""

    region: str
    tracks: NonNegativeInt
    again: NonNegativeInt  # those of objects that the camera came back to
    loose: NonNegativeFloat  # see TrackTable.loose
    swept: FiniteFloat | None


@dataclass(frozen=True)
class _Record:
    """What is noted of a finished clip; ``fingerprint`` is of all that it depends on."""

    fingerprint: str
    frames: NonNegativeInt
    parts: list[_Part]


class ClipTracks:
    """The tracks, if objects are followed, and regions of a clip: what is finished; making them."""

    def __init__(self, out: Path, name: str, options: PredictionOptions, ids: Ids) -> None:
        self._out, self._name, self._options, self._ids = out, name, options, ids
        self._masks, self._record = out / name, out / ".progress" / f"{name}.tracks.json"
        self.folder, self._table, self._of_regions, ctc = _places(out, name)
        self._ctc = ctc if options.format == "ctc" else None
        self._regions = read_regions(options.regions) if options.regions else None
        self._begin()

    def _begin(self) -> None:
        self._tracks, self._path, self._size = TrackTable(), CameraPath(), (0, 0)
        on_ground = self._options.regions_on == "ground"
        self._tally = RegionTally(self._regions or (), on_ground=on_ground)
        self._suffix = ".png"

    @property
    def followed(self) -> bool:
        """Whether objects are followed."""
        return self._ids != "none"

    @property
    def places(self) -> list[Path]:
        """The folders and files of all that is made of it."""
        folders = [self.folder] if self.followed else []
        return [*folders, *([self._ctc] if self._ctc else []), *self.files]

    @property
    def files(self) -> list[Path]:
        """The files of the whole clip."""
        files = [self._out / f"{self._name}.objects.csv"]
        if self._regions:
            files.append(self._of_regions)
        if self.followed:
            files += [self._table, *([self._ctc / RESULT_TABLE] if self._ctc else [])]
        return files

    def is_finished(self, fingerprint: str, rows: Sequence[Row]) -> bool:
        """Whether all is there for a clip's frames, made of the same objects in the same way."""
        known = read_record(self._record, _Record)
        if known is None or known.fingerprint != self._mark(fingerprint):
            return False
        images = [self.folder / row["frame"] for row in rows] if self.followed else []
        writer = self._writer(rows)
        return (
            all(path.is_file() for path in self.files)
            and (writer is None or writer.is_finished())
            and all(Path(f"{x}.png").is_file() or Path(f"{x}.tif").is_file() for x in images)
        )

    def check_size(self, size: Size) -> None:
        """A MediaError if regions are of a mask of another size than the clip's frames."""
        path = self._options.regions
        if path and self._regions and (own := self._regions[0].picture) is not None:
            check_size(path, own, size, f"the frames of {self._name}")

    def remove(self, frames: Iterable[str]) -> None:
        """Remove what an earlier run has made of these frames and of the clip."""
        for path in (self._record, *self.files):
            path.unlink(missing_ok=True)
        remove_tracks(self._out, self._name, frames, self.places.__contains__)

    def follow(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Mapping[str, Sequence[object]]]]:
        """Link the objects of a clip's frames and write the label images of their tracks.

        Gives the row of each frame, and of its objects the columns ``track`` and ``region``, where
        they are followed and where there are regions. Raises a MediaError if the files of a frame
        cannot be read, or a format cannot hold the tracks.
        """
        writer = self._writer(rows)
        self._begin()
        every, linking = self._options.every, self._options.linking
        found = ((row, self._objects(row["frame"]), row["frame_index"] // every) for row in rows)
        for row, objects, step in follow(found, self._ids, linking, every=every):
            linked = replace(step, frame=row["frame_index"])
            columns: dict[str, Sequence[object]] = {}
            # Parts of an object that several tracks share have no row of their own.
            of_tracks, own_ids = linked.objects, linked.ids[: objects.count]
            pose = self._path.add(linked.ids, of_tracks.centre, linked.motion, linked.lost)
            height, width = objects.labels.shape
            self._size = (height, width)
            if self.followed:
                labels = np.append(0, linked.ids)[of_tracks.labels]
                self._tracks.add(row, linked, pose)
                self._write(labels, row["frame"], rows)
                if writer:
                    writer.add(labels, linked.parents, linked.frame)
                columns["track"] = [one or "" for one in own_ids.tolist()]
            if self._regions:
                columns["region"] = self._tally.add(row, objects, own_ids, pose)
            yield row, columns
        if writer:
            writer.finish()

    def _writer(self, rows: Sequence[Row]) -> CtcWriter | None:
        """Of the layout of the Cell Tracking Challenge, if that is asked for."""
        frames = rows[-1]["frame_index"] + 1 if rows else 0
        return CtcWriter(self._ctc, frames) if self._ctc else None

    def _objects(self, frame: str) -> FrameObjects:
        objects = read_objects(self._masks / "instances", frame)
        # Networks learn to tell the motion of one frame, not of many.
        return objects if self._options.every == 1 else replace(objects, motion=None)

    def finish(self, rows: Sequence[Row], fingerprint: str, source: FrameSource) -> None:
        """Write the tables, after :meth:`follow`, and note that all is done.

        ``source`` gives the clip's frames anew, which are looked at where objects are too few.
        """
        known = not self.followed or self._path.known
        if self._regions and self._tally.on_ground and not known:
            file = self._options.regions
            found = f"its frames show too few common objects to tell where {file} lies in them"
            expected = "six of the same in most frames and the next"
            remedy = "if the camera stood still, give --regions-on picture"
            raise MediaError.at(self._name, found, expected, remedy)
        if self._regions:
            write_rows(self._of_regions, REGION_COLUMNS, self._tally.rows)
            for line in self._tally.empty():
                _log.warning("%s: %s", self._name, line)
        if self._path.lost and self.followed:
            frames = [str(rows[place]["frame"]) for place in self._path.lost[:_NAMED]]
            _log.warning(
                "%s: the camera's path is lost at %d of %d frames (%s%s), where no shift or turn"
                " explains where objects went: areas are left empty, and places on the ground are"
                " wrong from there on; give more frames a second, or each part as its own clip",
                *(self._name, len(self._path.lost), len(rows), ", ".join(frames)),
                ", ..." if len(self._path.lost) > _NAMED else "",
            )
        if self.followed:
            write_rows(self._table, TRACK_COLUMNS, self._tracks.rows())
        parts = self._parts(rows, source) if self.followed else []
        write_json(self._record, asdict(_Record(self._mark(fingerprint), len(rows), parts)))

    def _poses(self, rows: Sequence[Row], source: FrameSource) -> Sequence[Motion] | None:
        """How the frames lie on the ground, by tracks, else pictures; None if neither tells."""
        if self._path.sure:
            return self._path.poses
        names = {row["frame"] for row in rows}
        with waiting("looks in the pictures where the camera went"):
            shown = shown_path(one.image for one in source.frames() if one.name in names)
        return shown if shown and len(shown) == len(rows) else None

    def _parts(self, rows: Sequence[Row], source: FrameSource) -> list[_Part]:
        """The tracks and the ground of the whole clip, which is all of its regions, and of each."""
        tally, tracks = self._tally, self._tracks
        again = np.zeros(0, np.int64)
        if self._ids == "linked" and tracks.entered.any():
            poses, sightings = self._poses(rows, source), self._options.linking.sightings
            again = again if poses is None else tracks.came_back(poses, self._size, sightings)
        if len(again):
            _log.warning(
                "%s: the camera came back over ground that it had left: %d of %d tracks are of"
                " objects that were counted before",
                *(self._name, len(again), tracks.count),
            )
        if not tally.regions:
            return [_Part("", tracks.count, len(again), tracks.loose(), self._swept(None))]
        own = tally.tracks()
        every = [one.rings for one in tally.regions]
        named = [("", np.unique(np.concatenate(own)), self._swept(every))]
        for (region, earlier), ids in zip(tally.areas(), own, strict=True):
            named.append((region.name, ids, self._swept([region.rings], earlier)))
        return [
            _Part(name, len(ids), len(np.intersect1d(ids, again)), tracks.loose(ids), area)
            for name, ids, area in named
        ]

    def _swept(
        self, regions: Sequence[Rings] | None, without: Sequence[Rings] = ()
    ) -> float | None:
        if not self._path.sure:
            return None
        poses, on_ground = self._path.poses, self._tally.on_ground
        return swept_area(poses, self._size, regions, without=without, on_ground=on_ground)

    def totals(self, calibration: TrackCalibration | None) -> list[TotalRow]:
        """The finished clip's rows of ``totals.csv``; none if it is not finished."""
        known = read_record(self._record, _Record)
        if known is None:
            return []
        return [self._total(one, known.frames, calibration) for one in known.parts]

    def _total(self, part: _Part, frames: int, calibration: TrackCalibration | None) -> TotalRow:
        # Objects that were given are the same and all there are.
        count = DistinctCount(part.tracks, part.tracks, part.tracks)
        if self._ids == "linked":
            calibration = calibration or TrackCalibration()
            count = calibration.estimate(part.tracks - part.again, part.loose)
        distance, area = self._options.ground_sampling_distance, None
        assert distance != "metadata"  # whoever makes this has looked into them
        if distance is not None and part.swept is not None:
            area = part.swept * (distance / 1000) ** 2
        # From the whole area: of a picture under a microscope it is far below a square metre.
        density = float(f"{count.distinct / area:.{_DIGITS}g}") if area else None
        area = None if area is None else float(f"{area:.{_DIGITS}g}")
        distinct, low, high = map(round, count)
        return TotalRow(self._name, part.region, distinct, low, high, area, density, frames)

    def _mark(self, fingerprint: str) -> str:
        options = self._options
        linking = options.linking.model_dump_json()
        regions = f" {file_digest(options.regions)} {options.regions_on}" if options.regions else ""
        return f"{_VERSION} {fingerprint} {self._ids} {linking}{regions}"

    def _write(self, labels: NDArray[np.int64], frame: str, rows: Sequence[Row]) -> None:
        # The highest is "unknown" there, where somebody corrects them.
        if self._suffix == ".png" and labels.max(initial=0) >= LARGEST_16:
            _log.warning(
                "%s: has more than %d tracks: tracks are written as TIFF of 32 bit, not PNG",
                *(self._name, LARGEST_16 - 1),
            )
            self._suffix = ".tif"
            earlier = takewhile(lambda name: name != frame, (row["frame"] for row in rows))
            for png in (self.folder / f"{name}.png" for name in earlier):
                write_label_image(png.with_suffix(".tif"), read_label_image(png))
                png.unlink()
        write_label_image(self.folder / f"{frame}{self._suffix}", labels)


def _places(out: Path, name: str) -> tuple[Path, Path, Path, Path]:
    """The folder of a clip's tracks, their table and that of regions; the Challenge's folder."""
    tables = out / f"{name}.tracks.csv", out / f"{name}.regions.csv"
    return out / name / "tracks", *tables, out / f"{name}_RES"


def may_replace(manifest: ClipManifest, place: Path) -> bool:
    """Whether what stands at a place of a clip's results may be an earlier run's, of that clip."""
    if manifest.tells_made:
        return manifest.has_made(place)
    # An earlier release told nothing; where it has finished tracks, their table is there.
    return not place.name.endswith("_RES") or (place / RESULT_TABLE).is_file()


def remove_tracks(
    out: Path, name: str, frames: Iterable[str], is_own: Callable[[Path], bool]
) -> None:
    """Remove what earlier runs have made of a clip's tracks and regions, where it ``is_own``."""
    folder, *tables, ctc = _places(out, name)
    for table in filter(is_own, tables):
        table.unlink(missing_ok=True)
    if is_own(ctc):
        CtcWriter(ctc, 0).remove()
    for frame in frames if is_own(folder) else ():
        for suffix in (".png", ".tif"):
            (folder / f"{frame}{suffix}").unlink(missing_ok=True)

"""One clip on its way from frames to files, and what of it is finished."""

import logging
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from dvos import files
from dvos.config.prediction import PredictionOptions
from dvos.errors import FaultCollector, MediaError, UsageError
from dvos.formats.coco import write_annotations
from dvos.formats.own import predicted
from dvos.media.frames import FrameSource
from dvos.media.image import write_image
from dvos.media.layout import IMAGE_SUFFIXES, before_editing
from dvos.media.mask_values import declared_void
from dvos.prediction.counting import FrameRow
from dvos.prediction.inputs import ClipInput, with_ground_pixel
from dvos.prediction.places import ClipWork
from dvos.prediction.predictor import KnowsItsData, Predictor, StartsFromMasks
from dvos.prediction.scale import ClipScale, measure_scale
from dvos.prediction.tracks.clip import ClipTracks, Ids, remove_tracks
from dvos.prediction.tracks.table import TotalRow
from dvos.prediction.write import (
    FrameWriter,
    overlaid,
    write_all,
    write_objects_table,
    write_overlay_video,
)
from dvos.runner.display import progress
from dvos.runner.manifest import ClipManifest, Row, read_record
from dvos.runner.shards import taken_folder
from dvos.runner.tasks import run_on_cluster
from dvos.tables import frame_stem

_log = logging.getLogger(__name__)
T = TypeVar("T")


def run_clips(work: Sequence[ClipWork], *, description: str) -> None:
    """Do the work on all clips; what cannot be read is raised, as one error, after the others."""

    def frames() -> Iterator[None]:
        for one in work:
            try:
                yield from run_alone(one)
            except MediaError as error:
                faults.extend(error.faults)

    with FaultCollector(MediaError) as faults:
        left = [_frames_left(one) for one in work]
        total = None if None in left else sum(filter(None, left))
        for _ in progress(frames(), description=description, total=total, unit="frame"):
            pass


def run_alone(work: ClipWork) -> Iterator[None]:
    """Do what is left of a clip while no other run does (a RunError); a step for each frame."""
    files.check_file_name(work.clip.files[0], work.clip.name)
    with taken_folder(work.places()[0]):
        yield from work.run()


def run_for_others(work: ClipWork) -> Row:
    """Do what is left of a clip on a worker: its outcome, and ``error`` where it is unreadable."""
    error = None
    try:
        for _ in run_alone(work):
            pass
    except MediaError as unreadable:
        error = unreadable
    return {name: getattr(work, name) for name in work.outcome} | {"error": error}


def run_by_others(
    address: str,
    function: Callable[[T], dict[str, Any]],
    work: Sequence[ClipWork],
    tasks: Iterable[T],
    *,
    description: str,
) -> None:
    """As :func:`run_clips`, on a cluster: ``function`` is :func:`run_for_others` of each task."""
    by_name = {one.clip.name: one for one in work}
    items = zip(by_name, tasks, strict=True)
    with (
        FaultCollector(MediaError) as faults,
        closing(run_on_cluster(address, function, items, description=description)) as outcomes,
    ):
        for name, outcome in outcomes:
            for told in by_name[name].outcome:
                setattr(by_name[name], told, outcome[told])
            if outcome["error"] is not None:
                faults.extend(outcome["error"].faults)


_latest: dict[Hashable, Any] = {}  # of this process: what it held last
_at_work = threading.Lock()


@contextmanager
def held(key: Hashable, make: Callable[[], T]) -> Iterator[T]:
    """What ``make`` gives, which a worker keeps until something of another key is asked for.

    One thread at a time has it: a worker may have several, and its device room for one clip.
    """
    with _at_work:
        if key not in _latest:
            _latest.clear()
            _latest[key] = make()
        yield _latest[key]


def _frames_left(work: ClipWork) -> int | None:
    """Frames of a clip that are not finished; None where their number is not stated."""
    try:
        manifest = work.manifest()
        if manifest.finished:
            return 0
        count = 1 if work.clip.still else work.clip.frame_count()
    except MediaError:
        return None  # reported when the clip's turn comes
    return None if count is None else max(0, count - len(manifest.rows))


def note_rows(manifest: ClipManifest, rows: Iterable[Row], source: FrameSource) -> Iterator[None]:
    """Note the rows of a clip's frames as they are made, then that it is finished; one at least."""
    manifest.begin()
    for row in rows:
        # Read ahead by a thread: a copy of what it has met so far.
        manifest.note_damage(list(source.damage))
        manifest.append(row)
        yield
    if not manifest.rows:
        raise MediaError.at(source.name, "has no frames", "at least one")
    manifest.finish(list(source.damage), getattr(source, "intensity", "full"))


@dataclass(frozen=True)
class ClipResult:
    """What was made of a clip."""

    name: str
    masks: Path  # their folder
    frames: int  # number of masks
    overlay: Path | None  # overlay video, or overlay picture of a still, if asked for
    damage: tuple[str, ...]  # what of its frames could not be decoded
    continued_at: int  # frames that an earlier run had finished


class ClipJob:
    """Predicts what is left of a clip and makes what was asked for.

    ``fingerprint`` is of all that the frames' files depend on beside the clip's own files and its
    first masks. Raises a MediaError if regions, or metadata that are asked for, cannot be read.
    """

    outcome: ClassVar[tuple[str, ...]] = (
        *("begun", "rows", "damage", "continued_at", "totals", "scale"),
    )

    def __init__(
        self,
        clip: ClipInput,
        predictor: Predictor,
        options: PredictionOptions,
        out: Path,
        fingerprint: str,
    ) -> None:
        self.clip, self._predictor = clip, predictor
        self.begun = False  # whether ``rows``, of the frames finished so far, replace older ones
        self.rows: list[Row] = []
        self.damage: list[str] = []
        self.totals: list[TotalRow] = []  # none where its objects are not followed to its end
        self.continued_at = 0
        self.scale: ClipScale | None = None  # where ``scale`` is ``auto``, once it has begun
        options = with_ground_pixel(options, clip)
        self._tracks: ClipTracks | None = None
        followed = not clip.still and wants_tracks(options, predictor)
        if followed or options.regions:
            ids: Ids = "given" if isinstance(predictor, StartsFromMasks) else "linked"
            self._tracks = ClipTracks(out, clip.name, options, ids if followed else "none")
            options = options.model_copy(update={"instances": True})
        self._writer = FrameWriter(out / clip.name, options, predictor.calibration, clip.first)
        self._plain_sizes = predictor.calibration.sizes
        picture = f"overlays/{clip.name}.jpg" if clip.still else f"{clip.name}.mp4"
        endings = (picture, f"{clip.name}.json", f"{clip.name}.objects.csv")
        self._out, self._all_of_clip = out, [out / ending for ending in endings]
        asked = (options.overlay, options.run_lengths, options.instances)
        wanted = [path if one else None for path, one in zip(self._all_of_clip, asked, strict=True)]
        self._overlay, self._run_lengths, self._objects = wanted
        self._of_whole_clip = [path for path in wanted if path]
        self._record = out / ".progress" / f"{clip.name}.jsonl"
        self._fingerprint, self._auto = fingerprint, options.scale == "auto"
        self._scale_record = self._record.with_name(f"{clip.name}.scale.json")

    def run(self) -> Iterator[None]:
        """Predict what is left of the clip, a step for each frame; what is done is kept."""
        if self._auto:
            self._take_scale()
        manifest, tracks = self.manifest(), self._tracks
        self.rows, self.begun = manifest.rows, True
        self.continued_at = len(manifest.rows)
        self._remove_void(manifest)
        if manifest.stale or not all(map(manifest.has_made, self.places())):
            manifest.begin(self.places())
        if not manifest.finished or not all(path.is_file() for path in self._of_whole_clip):
            source = self.clip.open()
            if tracks:
                tracks.check_size(source.size)
            if not manifest.finished:
                yield from self._predict(manifest, source)
            self._finish(source)
        self.damage = manifest.damage
        if tracks:
            self.totals = tracks.totals(self._predictor.calibration.tracks)

    def _remove_void(self, manifest: ClipManifest) -> None:
        """Remove what was made of other files or settings, or of the clip before it was whole."""
        tracks, void = self._tracks, [row["frame"] for row in manifest.stale]
        for frame in void:
            self._writer.remove(frame)
        if not manifest.finished:
            files.remove_leftovers(self._writer.folder, below=True)
        tracked = not tracks or tracks.is_finished(self._fingerprint_of_clip(), manifest.rows)
        known = [*void, *(row["frame"] for row in manifest.rows)]
        if not manifest.finished or not tracked:
            for path in self._of_whole_clip:
                path.unlink(missing_ok=True)
            if tracks:
                tracks.remove(known)
        # Not all of it may be asked for this time.
        if void:
            for path in filter(manifest.has_made, self._all_of_clip):
                path.unlink(missing_ok=True)
        if void or not tracked:
            remove_tracks(self._out, self.clip.name, known, manifest.has_made)

    def _predict(self, manifest: ClipManifest, source: FrameSource) -> Iterator[None]:
        """Write the files of the frames that are left."""
        start = self.clip.first
        if manifest.rows:
            start += manifest.rows[-1]["frame_index"] + 1
        predictions = self._predictor.segment(source, start=start)
        yield from note_rows(manifest, write_all(predictions, self._writer), source)
        for note in manifest.damage:
            _log.warning("%s: %s", self.clip.name, note)

    def _take_scale(self) -> None:
        """Predict at the scale that this clip was begun with, or else one that is measured now."""
        fingerprint = self._fingerprint_of_clip()
        self.scale = read_record(self._scale_record, ClipScale)
        if self.scale is None or self.scale.fingerprint != fingerprint:
            self.scale = measure_scale(self.clip, self._predictor, fingerprint)
            files.write_json(self._scale_record, asdict(self.scale))
        if self.scale.scale != 1 and isinstance(self._predictor, KnowsItsData):
            self._predictor = self._predictor.at_scale(self.scale.scale)
            self._writer = replace(self._writer, calibration=self._predictor.calibration)

    @property
    def usual_sizes(self) -> tuple[float, float] | None:
        """Areas that are usual, pixels of these frames; None where training tells none of them."""
        scale = self.scale.scale if self.scale else 1.0
        known = None if self._writer.options.object_width else self._plain_sizes
        return known and (known[0] / scale**2, known[1] / scale**2)

    def check_corrected(self) -> None:
        """Refuse, by a UsageError, to make or remove tracks anew that somebody has corrected."""
        tracks = self._out / self.clip.name / "tracks"
        kept = before_editing(tracks)
        if not kept.is_dir() or not any(kept.iterdir()):
            return
        try:
            manifest = self.manifest()
        except MediaError:
            return  # reported when the clip's turn comes
        own = self._tracks
        done = own is None or own.is_finished(self._fingerprint_of_clip(), manifest.rows)
        if manifest.stale or not done:
            found = "was corrected by hand, and would be made anew"
            remedy = f"choose another --out; or remove {kept}, and the corrections are lost"
            raise UsageError.at(tracks, found, remedy=remedy)

    def result(self) -> ClipResult:
        """What was made, after :meth:`run`."""
        made = (self.clip.name, self._writer.folder, len(self.rows), self._overlay)
        return ClipResult(*made, tuple(self.damage), self.continued_at)

    def _finish(self, source: FrameSource) -> None:
        """Make what is not there of a clip's files, from the finished files of its frames alone."""
        masks = self._writer.folder
        tracks, fingerprint = self._tracks, self._fingerprint_of_clip()
        # First, as the overlay is drawn in the tracks' colours.
        if tracks and self._objects and not tracks.is_finished(fingerprint, self.rows):
            write_objects_table(self._objects, tracks.follow(self.rows), masks)
            tracks.finish(self.rows, fingerprint, source)
        elif self._objects and not self._objects.is_file():
            write_objects_table(self._objects, ((row, {}) for row in self.rows), masks)
        if self._overlay and not self._overlay.is_file():
            counts = {row["frame"]: row["count"] for row in self.rows}
            if self.clip.still:
                photo = next(iter(source.frames(self.clip.first)))
                write_image(self._overlay, overlaid(photo, masks, counts[photo.name]))
            else:
                folder = tracks.folder if tracks and tracks.followed else None
                every = self.clip.every
                write_overlay_video(self._overlay, source, masks, counts, folder, every=every)
        if self._run_lengths and not self._run_lengths.is_file():
            named = {frame_stem(path): path for path in self.clip.files}
            pictures = {name: x for name, x in named.items() if x.suffix.lower() in IMAGE_SUFFIXES}
            frames = [row["frame"] for row in self.rows]
            names = {x: pictures[x].name if x in pictures else f"{x}.png" for x in frames}
            write_annotations(self._run_lengths, predicted(masks, names, source.size), [""])

    def places(self) -> list[Path]:
        """The folder of its masks, and whatever else is asked for."""
        tracked = self._tracks.places if self._tracks else []
        return [*self._writer.folders, *self._of_whole_clip, *tracked]

    def manifest(self) -> ClipManifest:
        """What of the clip is finished; see :class:`ClipWork`."""
        return ClipManifest(
            self._record,
            source=self.clip.source,
            fingerprint=self._fingerprint_of_clip(),
            files=files.digest(self.clip.stamps()),
            row=FrameRow,
            complete=lambda row: self._writer.is_complete(row["frame"]),
        )

    def _fingerprint_of_clip(self) -> str:
        mask_files: list[tuple[Any, ...]] = []
        if isinstance(self._predictor, StartsFromMasks):
            for path in self._predictor.mask_files:
                mask_files.append((path.name, *files.file_stamp(path)))
                void = declared_void(path.parent, self._writer.options.void)
                mask_files += [("void", value, 0) for value in void or ()]
        return _digest(self._fingerprint, self.clip, mask_files)


def _digest(fingerprint: str, clip: ClipInput, masks: Sequence[tuple[Any, ...]] = ()) -> str:
    return files.digest([fingerprint, masks, clip.fingerprint()])


def is_made_otherwise(clip: ClipInput, out: Path, fingerprint: str) -> bool:
    """Whether a clip without first masks was begun in a folder by other settings, or of others.

    Only the beginning of its record is read.
    """
    record = out / ".progress" / f"{clip.name}.jsonl"
    with suppress(OSError, ValueError, AttributeError), record.open("rb") as stream:
        known = files.parse_json(stream.readline()).get("fingerprint")
        return isinstance(known, str) and known != _digest(fingerprint, clip)
    return False


def wants_tracks(options: PredictionOptions, predictor: Predictor) -> bool:
    """Whether objects are followed: as asked for, or where the network tells them apart."""
    if options.tracks != "auto":
        return options.tracks
    on_ground = options.regions is not None and options.regions_on == "ground"
    return on_ground or options.format != "dvos" or predictor.tells_apart

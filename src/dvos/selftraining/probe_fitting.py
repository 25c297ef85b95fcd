"""Fitting the feature probe: a first pass over the unlabelled data, for samples of features."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvos.config.selftraining import PseudoLabelSettings
from dvos.errors import MediaError
from dvos.files import digest, file_digest, write_json
from dvos.media.layout import evenly
from dvos.media.video import VideoFile, VideoFrame
from dvos.prediction.features import FeatureReader
from dvos.prediction.inputs import ClipInput
from dvos.prediction.predictor import FramePrediction
from dvos.runner.display import open_display
from dvos.runner.manifest import read_record
from dvos.selftraining.probe import FeatureProbe, Floats, ProbeFit, fit_probe, probability_grid

_log = logging.getLogger(__name__)

PROBE = "probe.safetensors"  # in the output folder
_VERSION = 1  # raised whenever the same data give another probe than before

#: Predicts frames in every view, from ``start`` on: mean and standard deviation of the views.
View = Callable[..., Generator[FramePrediction, None, None]]

_SAMPLES = 2**18  # all together: 400 MB with the 352 channels of the usual network
# Probabilities that part pixels for sampling: objects are few, and what is half seen, too.
_STRATA = (0.02, 0.6)
_LEAST_STD = 1e-5  # keeps a channel that never changes from being divided by 0


@dataclass(frozen=True)
class ProbeRecord:
    """What a fit led to, as kept for the next start."""

    fingerprint: str  # Of all that it depends on.
    digest: str | None  # Of the probe's file; None where none was fitted.
    reason: str  # Why none was fitted; empty where one was.
    frames: int  # Frames that were looked at.
    samples: int  # Pixels that were kept of them.
    objects: int  # Of these, samples of objects in the last fit.
    backgrounds: int  # Likewise of background.

    def provenance(self) -> dict[str, Any]:
        """What ``pseudo_labels.json`` tells of it."""
        if self.digest is None:
            return {"probe": None, "probe_reason": self.reason}
        names = ("digest", "frames", "samples", "objects", "backgrounds")
        return {"probe": {"file": PROBE} | {name: getattr(self, name) for name in names}}


NO_PROBE = ProbeRecord("", None, "switched off by probe: false", 0, 0, 0, 0)


def probe_for(
    clips: Sequence[ClipInput],
    settings: PseudoLabelSettings,
    fingerprint: str,
    *,
    view: View,
    reader: FeatureReader,
    context: int,
) -> tuple[FeatureProbe | None, ProbeRecord]:
    """Fit the probe on frames of all clips, or take up the one of an earlier start.

    Writes ``probe.safetensors``, if one can be fitted. ``fingerprint`` is that of all that it
    depends on besides settings and clips' files, ``context`` how many frames before a frame count.
    """
    record_path, probe_path = settings.out / ".progress" / "probe.json", settings.out / PROBE
    files: list[object] = []
    for clip in clips:
        try:
            files.append([clip.name, clip.fingerprint()])
        except MediaError:
            files.append([clip.name, None])  # reported when the clip is labelled
    chosen: list[float] = [settings.probe_frames, settings.seed]
    if reader.scale != 1:  # earlier versions saw frames at their own size
        chosen.append(reader.scale)
    fingerprint = digest([_VERSION, fingerprint, *chosen, files])
    record = read_record(record_path, ProbeRecord)
    kept = file_digest(probe_path) if probe_path.is_file() else None
    if record is None or (record.fingerprint, record.digest or kept) != (fingerprint, kept):
        store = _collect(clips, settings, view, reader, context)
        probe, fit = store.fit()
        probe_path.unlink(missing_ok=True)
        if probe is not None:
            probe.save(probe_path)
        saved = None if probe is None else file_digest(probe_path)
        counts = store.frames, store.samples, fit.objects, fit.backgrounds
        record = ProbeRecord(fingerprint, saved, fit.reason, *counts)
        write_json(record_path, asdict(record))
    if record.digest is None:
        text = "no feature probe could be fitted on %d frames (%s): the network labels alone"
        _log.warning(text, record.frames, record.reason)
        return None, record
    return FeatureProbe.load(probe_path), record  # read back: a later start sees the same


def spread_evenly(counts: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """At most ``limit`` frames spread evenly over clips of these counts: of each clip and place."""
    every = [(clip, place) for clip, count in enumerate(counts) for place in range(count)]
    return evenly(every, limit)


def choose_pixels(
    probability: Floats, limit: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Floats]:
    """At most ``limit`` pixels of a frame, of sure, possible and missing objects (h, w) alike.

    Gives their places in the flat array, ascending, and of how many pixels each stands.
    """
    kinds = np.digitize(probability.ravel(), _STRATA, right=True)
    groups = sorted((np.flatnonzero(kinds == kind) for kind in range(len(_STRATA) + 1)), key=len)
    places: list[NDArray[np.int64]] = []
    counts: list[Floats] = []
    left = limit
    for number, group in enumerate(groups):
        # What a small group leaves is shared by the larger ones after it.
        taken = min(left // (len(groups) - number), len(group))
        left -= taken
        if taken:
            places.append(rng.choice(group, taken, replace=False))
            counts.append(np.full(taken, len(group) / taken, np.float32))
    joined, weights = np.concatenate(places), np.concatenate(counts)
    order = np.argsort(joined)
    return joined[order], weights[order]


class SampleStore:
    """Keeps at most ``limit`` samples of each frame, and the moments of all its features."""

    def __init__(self, limit: int) -> None:
        self.frames = self.samples = 0
        self._limit = limit
        self._features: list[Floats] = []
        self._probability: list[Floats] = []
        self._counts: list[Floats] = []
        self._pixels = 0
        self._mean: NDArray[np.float64] | float = 0.0
        self._squares: NDArray[np.float64] | float = 0.0

    def add(
        self,
        image: NDArray[np.uint8],
        mean: Floats,
        reader: FeatureReader,
        rng: np.random.Generator,
    ) -> None:
        """Take samples of a frame, uint8 RGB (H, W, 3), with its probability (H, W)."""
        grid = probability_grid(mean)
        places, counts = choose_pixels(grid, self._limit, rng)
        rows, columns = np.divmod(places, grid.shape[1])
        features: Floats | None = None
        for piece in reader.pieces(image):
            if features is None:
                features = np.empty((len(places), len(piece.values)), np.float32)
            inside = (rows >= piece.rows.start) & (rows < piece.rows.stop)
            inside &= (columns >= piece.columns.start) & (columns < piece.columns.stop)
            row, column = rows[inside] - piece.rows.start, columns[inside] - piece.columns.start
            features[inside] = piece.values[:, row, column].T
            # Mean and squared deviations over all pixels so far (Chan et al. 1979).
            flat = piece.values.reshape(len(piece.values), -1)
            count = flat.shape[1]
            total = self._pixels + count
            gap = flat.mean(1, dtype=np.float64) - self._mean
            self._mean = self._mean + gap * (count / total)
            squares = flat.var(1, dtype=np.float64) * count
            self._squares = self._squares + squares + gap**2 * (self._pixels * count / total)
            self._pixels = total
        assert features is not None
        self._features.append(features)
        self._probability.append(grid.ravel()[places])
        self._counts.append(counts)
        self.frames += 1
        self.samples += len(places)

    def fit(self) -> tuple[FeatureProbe | None, ProbeFit]:
        """Fit the probe; the samples are given up to it."""
        if not self.frames:
            return None, ProbeFit(None, 0.0, 0, 0, "no frame could be read")
        mean = np.asarray(self._mean, np.float32)
        std = np.asarray(np.sqrt(self._squares / self._pixels) + _LEAST_STD, np.float32)
        # Frame after frame, so that the samples never lie in memory twice.
        features = np.empty((self.samples, len(mean)), np.float32)
        start = 0
        self._features.reverse()
        while self._features:
            part = self._features.pop()
            features[start : start + len(part)] = (part - mean) / std
            start += len(part)
        fit = fit_probe(features, np.concatenate(self._probability), np.concatenate(self._counts))
        probe = None if fit.weights is None else FeatureProbe(fit.weights, fit.bias, mean, std)
        return probe, fit


def _collect(
    clips: Sequence[ClipInput],
    settings: PseudoLabelSettings,
    view: View,
    reader: FeatureReader,
    context: int,
) -> SampleStore:
    """Samples of frames of all clips."""
    chosen = spread_evenly([_count(clip) for clip in clips], settings.probe_frames)
    store = SampleStore(_SAMPLES // max(1, len(chosen)))
    with open_display("fit probe", len(chosen), "frame") as advance:
        for number, clip in enumerate(clips):
            wanted = [clip.first + index for other, index in chosen if other == number]
            with suppress(MediaError):  # reported when the clip is labelled
                for frame in _predicted(clip, wanted, view, context):
                    rng = np.random.default_rng([settings.seed, number, frame.frame_index])
                    store.add(frame.image, frame.probability, reader, rng)
                    advance()
    return store


def _predicted(
    clip: ClipInput, wanted: Sequence[int], view: View, context: int
) -> Iterator[FramePrediction]:
    """Predict some frames of a clip in one pass; the next stands in for one that is unreadable."""
    waiting = deque(wanted)
    if not waiting:
        return
    recent: deque[VideoFrame] = deque(maxlen=context + 1)
    for frame in clip.open().frames(max(0, waiting[0] - context)):
        recent.append(frame)
        if frame.frame_index < waiting[0]:
            continue
        with closing(view(tuple(recent), start=frame.frame_index)) as predicted:
            yield next(predicted)
        while waiting and waiting[0] <= frame.frame_index:
            waiting.popleft()
        if not waiting:
            return


def _count(clip: ClipInput) -> int:
    """Frames of a clip that may get labels; 0 where it cannot be read."""
    if clip.still:
        return 1
    if len(clip.files) > 1:
        return len(clip.files)
    try:
        # Read through: where frames lie must not depend on how far an earlier pass has come.
        source = clip.open()
        return source.count() if isinstance(source, VideoFile) else source.frame_count or 0
    except MediaError:
        return 0  # reported when the clip is labelled

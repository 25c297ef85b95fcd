"""The first pass over unlabelled data: samples for the second opinion, and its fit."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from dvos.errors import MediaError
from dvos.files import digest, file_digest, write_json
from dvos.media.frames import FrameSource
from dvos.media.video import VideoFrame
from dvos.prediction.features import FeatureReader
from dvos.prediction.inputs import ClipInput
from dvos.runner import progress
from dvos.selftraining.clip_job import View
from dvos.selftraining.opinion import Opinion, load_opinion, save_opinion
from dvos.selftraining.samples import SampleStore
from dvos.selftraining.views import ViewedFrame, close_iterator

__all__ = ["OPINION", "Survey", "spread_evenly", "survey"]

_log = logging.getLogger(__name__)

#: The file of the opinion in the output folder.
OPINION = "opinion.safetensors"

#: Raised whenever the same data give another opinion than before.
_VERSION = 1

# All samples together: 400 MB with the 352 channels of the usual network.
_SAMPLES = 2**18


@dataclass(frozen=True)
class Survey:
    """What a survey led to, as kept for the next start.

    Attributes:
        fingerprint: Of all that it depends on.
        digest: Of the opinion's file; None where none was fitted.
        reason: Why none was fitted; empty where one was.
        frames: Frames that were looked at.
        samples: Pixels that were kept of them.
        objects: Of these, samples of objects in the last fit.
        backgrounds: Likewise of background.
    """

    fingerprint: str
    digest: str | None
    reason: str
    frames: int
    samples: int
    objects: int
    backgrounds: int


def survey(
    clips: Sequence[ClipInput],
    *,
    out: Path,
    fingerprint: str,
    view: View,
    reader: FeatureReader,
    context: int,
    frames: int,
    seed: int,
) -> tuple[Opinion | None, Survey]:
    """Fit the second opinion on frames of all clips, or take up the one of an earlier start.

    Writes ``opinion.safetensors``, if one can be fitted. A survey that was
    interrupted begins anew.

    Args:
        clips: All that is to be labelled.
        out: The output folder.
        fingerprint: Of all that the opinion depends on besides the clips' files.
        view: Predicts a clip in every view.
        reader: Reads the frames' features.
        context: How many frames before a frame its prediction depends on.
        frames: Frames to look at, at most.
        seed: Of the choice of pixels.

    Raises:
        OutputError: If something cannot be written.
        RunError: If memory runs out.
    """
    record_path, opinion_path = out / ".progress" / "survey.json", out / OPINION
    fingerprint = digest([_VERSION, fingerprint, frames, seed, [_files_of(clip) for clip in clips]])
    record = _earlier(record_path)
    if record is None or record.fingerprint != fingerprint or not _holds(record, opinion_path):
        store = _collect(clips, view, reader, context=context, limit=frames, seed=seed)
        opinion, fit = store.fit()
        if opinion is None:
            opinion_path.unlink(missing_ok=True)
        else:
            save_opinion(opinion_path, opinion)
        record = Survey(
            fingerprint,
            None if opinion is None else file_digest(opinion_path),
            fit.reason,
            store.frames,
            store.samples,
            fit.objects,
            fit.backgrounds,
        )
        write_json(record_path, asdict(record))
    if record.digest is None:
        _log.warning(
            "no second opinion could be fitted on %d frames (%s): the network labels alone",
            record.frames,
            record.reason,
        )
        return None, record
    # Read back also where it was just fitted: a later start sees the same.
    return load_opinion(opinion_path), record


def spread_evenly(counts: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """Choose frames spread evenly over all clips together.

    Args:
        counts: Frames of each clip.
        limit: How many to choose at most.

    Returns:
        Number of the clip and of its frame, in order, none twice.
    """
    ends = list(accumulate(counts, initial=0))
    total = ends[-1]
    chosen = min(limit, total)
    places = ((2 * k + 1) * total // (2 * chosen) for k in range(chosen))
    found = []
    for place in places:
        clip = int(np.searchsorted(ends, place, side="right")) - 1
        found.append((clip, place - ends[clip]))
    return found


def _collect(
    clips: Sequence[ClipInput],
    view: View,
    reader: FeatureReader,
    *,
    context: int,
    limit: int,
    seed: int,
) -> SampleStore:
    """Samples of frames of all clips."""
    chosen = spread_evenly([_count(clip) for clip in clips], limit)
    store = SampleStore(_SAMPLES // max(1, len(chosen)))

    def frames() -> Iterator[None]:
        for number, clip in enumerate(clips):
            wanted = [clip.first + index for other, index in chosen if other == number]
            try:
                for frame in _viewed(clip, wanted, view, context):
                    rng = np.random.default_rng([seed, number, frame.frame_index])
                    store.add(frame.image, frame.mean, reader, rng)
                    yield
            except MediaError:
                continue  # reported when the clip is labelled

    for _ in progress(frames(), description="survey", total=len(chosen), unit="frame"):
        pass
    return store


def _viewed(
    clip: ClipInput, wanted: Sequence[int], view: View, context: int
) -> Iterator[ViewedFrame]:
    """Predict some frames of a clip, which is read once: a video cannot be entered anywhere.

    For a frame that cannot be read the next one stands in, if it is not wanted itself.
    """
    waiting = deque(wanted)
    if not waiting:
        return
    source = clip.open()
    recent: deque[VideoFrame] = deque(maxlen=context + 1)
    frames = source.frames(max(0, waiting[0] - context))
    with ExitStack() as stack:
        stack.callback(close_iterator, frames)
        for frame in frames:
            recent.append(frame)
            if frame.frame_index < waiting[0]:
                continue
            with closing(view(_Window(source, recent), start=frame.frame_index)) as viewed:
                yield next(viewed)
            while waiting and waiting[0] <= frame.frame_index:
                waiting.popleft()
            if not waiting:
                return


class _Window:
    """Some frames of a clip in a row; keeps to :class:`dvos.media.frames.FrameSource`.

    Args:
        source: The clip.
        frames: Of it, in order.
    """

    def __init__(self, source: FrameSource, frames: Iterable[VideoFrame]) -> None:
        self.name = source.name
        self.frame_rate = source.frame_rate
        self.size = source.size
        self.damage: list[str] = []
        self._frames = tuple(frames)
        self.frame_count = len(self._frames)

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.frames()

    def frames(self, start: int = 0) -> Iterator[VideoFrame]:
        """Those from ``start`` on."""
        return (frame for frame in self._frames if frame.frame_index >= start)


def _count(clip: ClipInput) -> int:
    """Frames of a clip that may get labels; 0 where it cannot be read."""
    if clip.still:
        return 1
    try:
        stated = clip.frame_count()
        # A video that does not state it is read through: where the frames lie
        # must not depend on how far an earlier pass has come.
        return sum(1 for _ in clip.open().frames()) if stated is None else stated
    except MediaError:
        return 0  # reported when the clip is labelled


def _files_of(clip: ClipInput) -> object:
    try:
        return [clip.name, clip.fingerprint()]
    except MediaError:
        return [clip.name, None]  # reported when the clip is labelled


def _earlier(path: Path) -> Survey | None:
    if not path.is_file():
        return None
    try:
        return Survey(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return None  # of another version


def _holds(record: Survey, path: Path) -> bool:
    """Whether the opinion's file is the one that was noted."""
    if record.digest is None:
        return True
    return path.is_file() and file_digest(path) == record.digest

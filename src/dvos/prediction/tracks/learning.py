"""What clips whose objects are known say of the number of tracks that a network's objects make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.config.prediction import LinkingSettings, PredictionOptions
from dvos.media.addressed import read_mask_at
from dvos.media.frames import ImageList
from dvos.media.mask import IGNORE, mask_ids
from dvos.prediction.calibration import TrackCalibration
from dvos.prediction.counting import count_frame
from dvos.prediction.objects import FrameObjects
from dvos.prediction.predictor import Predictor
from dvos.prediction.tracks.linking import LinkedFrame, Linker
from dvos.prediction.tracks.motion import REST
from dvos.prediction.tracks.table import TrackTable
from dvos.training.calibration import widened
from dvos.training.clips.files import FrameClip

#: Clips from which a model with two parts is fitted, and the least error that is believed.
_FEWEST_CLIPS, _LEAST_ERROR = 4, 0.01
#: Frames of a part of a clip that stands for a clip, at least and at most, and of all parts.
_FEWEST, _FRAMES, _MOST = 12, 32, 128
#: Of the side of an object: how far it may be from where it was, to be the same under its id.
_NEAR = 2.0


def learn_tracks(
    predictor: Predictor, clips: Sequence[FrameClip], linking: LinkingSettings | None = None
) -> dict[str, float] | None:
    """Follow the objects of clips whose masks have permanent ids, and fit the calibration to them.

    Args:
        predictor: Of the network, which needs no first mask.
        clips: Only those count whose frames have masks with the same ids for the same objects, 12
            frames or more without a gap; longer ones stand for several.
        linking: How objects are linked.

    Returns:
        Fields of :class:`~dvos.prediction.calibration.TrackCalibration`, as checkpoints keep them;
        None where no clip tells them.
    """
    found = [_followed(predictor, part, linking) for part in _parts(clips)]
    found = [one for one in found if one[2] > 0]
    if not found:
        return None
    tracks, inside, true = zip(*found, strict=True)
    fitted = fit_track_calibration(tracks, inside, true)
    return {name: round(value, 4) for name, value in asdict(fitted).items()}


def _parts(clips: Sequence[FrameClip]) -> list[FrameClip]:
    """Parts of clips that are labelled frame by frame, some of each clip by turns."""
    of_clips = []
    for clip in clips:
        runs: list[list[int]] = [[]]
        for frame in clip.frames:
            if frame not in clip.masks or len(runs[-1]) == _FRAMES:
                runs.append([])
            if frame in clip.masks:
                runs[-1].append(frame)
        whole = [run for run in runs if len(run) >= _FEWEST]
        of_clips.append([_part(clip, run) for run in whole if _is_permanent(clip, run)])
    turns = max((len(parts) for parts in of_clips), default=0)
    by_turns = [parts[turn] for turn in range(turns) for parts in of_clips if turn < len(parts)]
    return by_turns[: _MOST // _FRAMES]


def _part(clip: FrameClip, run: Sequence[int]) -> FrameClip:
    frames, masks = ({one: where[one] for one in run} for where in (clip.frames, clip.masks))
    return FrameClip(clip.name, frames, masks, clip.void, clip.intensity)


def _ids(clip: FrameClip, frame: int) -> NDArray[np.uint16]:
    path = clip.masks[frame]
    ids = mask_ids(read_mask_at(path, clip.void), where=path)
    return np.where(ids == IGNORE, np.uint16(0), ids)


def _is_permanent(clip: FrameClip, run: Sequence[int]) -> bool:
    """Whether the ids of two frames are of the same objects, by where these lie."""
    before, now = (_places(_ids(clip, frame)) for frame in run[:2])
    both = [*(before.keys() & now.keys())]
    if len(both) < 2:
        return False
    side = np.sqrt([before[one][2] for one in both])
    away = np.array([np.subtract(before[one][:2], now[one][:2]) for one in both])
    return bool(np.median(np.hypot(*away.T) / side) < _NEAR)


def _places(ids: NDArray[np.uint16]) -> dict[int, tuple[float, float, int]]:
    """Centre and area of the objects of a mask."""
    y, x = np.nonzero(ids)
    numbers, place, areas = np.unique(ids[y, x], return_inverse=True, return_counts=True)
    at = (np.bincount(place, each) / areas for each in (x, y))
    return dict(zip(numbers.tolist(), zip(*at, areas, strict=True), strict=True))


def _followed(
    predictor: Predictor, clip: FrameClip, linking: LinkingSettings | None
) -> tuple[int, int, int]:
    """Tracks of a clip, those of them that begin inside, and distinct true objects."""
    linker, table = Linker(linking), TrackTable()
    waiting: list[FrameObjects] = []
    options = PredictionOptions(checkpoint=Path())
    source = ImageList(clip.name, [*clip.frames.values()], intensity=clip.intensity)

    def settled() -> Iterator[LinkedFrame]:
        for prediction in predictor.segment(source):
            waiting.append(count_frame(prediction, predictor.calibration, options).objects)
            yield from linker.push(waiting[-1])
        yield from linker.finish()

    for linked in settled():
        table.add({"time_s": None}, waiting.pop(0), linked, REST)
    true = set().union(*(np.unique(_ids(clip, frame)).tolist() for frame in clip.frames)) - {0}
    return table.count, table.inside(), len(true)


def fit_track_calibration(
    tracks: Sequence[int], inside: Sequence[int], true: Sequence[int]
) -> TrackCalibration:
    """Fit the model to clips whose distinct objects are known, by least squares of relative errors.

    Args:
        tracks: Number of tracks of each clip.
        inside: Number of those that begin inside the picture after its first frame.
        true: Number of objects that it shows, above 0.

    Returns:
        The calibration; of fewer than four clips only the error is fitted. It is widened for few.

    Raises:
        ValueError: If there is no clip.
    """
    n, i, d = (np.asarray(values, np.float64) for values in (tracks, inside, true))
    if not len(d):
        raise ValueError("at least one clip")
    fragments, missed, freedom = TrackCalibration().fragments, 0.0, len(d)
    if len(d) >= _FEWEST_CLIPS and i.any():
        # d = a * n - b * i, with a = 1 + missed and b = a * fragments; each clip counts by share.
        design = np.stack([n, -i], axis=1) / d[:, None]
        a, b = np.linalg.lstsq(design, np.ones(len(d)), rcond=None)[0]
        fragments = float(np.clip(b / a, 0, 1)) if a > 0 else fragments
        kept = (n - fragments * i) / d
        missed = float(kept.sum() / (kept**2).sum()) - 1
        freedom = max(1, len(d) - 2)
    fitted = TrackCalibration(fragments, missed)
    errors = [
        fitted.estimate(int(a), int(b)).distinct / c - 1 for a, b, c in zip(n, i, d, strict=True)
    ]
    # Clips of the same kind never tell the error of others exactly.
    error = max(_LEAST_ERROR, float(np.sqrt(np.sum(np.square(errors)) / freedom)))
    return TrackCalibration(fragments, missed, widened(error, len(d)))

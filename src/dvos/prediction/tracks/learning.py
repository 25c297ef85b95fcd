"""What clips whose objects are known say of the number of tracks that a network's objects make."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvos.config.prediction import LinkingSettings, PredictionOptions
from dvos.media.clip_store import read_mask_at
from dvos.media.frames import ImageList
from dvos.media.mask import IGNORE, mask_ids
from dvos.prediction.calibration import TrackCalibration
from dvos.prediction.counting import count_frame
from dvos.prediction.predictor import Predictor
from dvos.prediction.tracks.clip import follow
from dvos.prediction.tracks.motion import REST
from dvos.prediction.tracks.table import TrackTable
from dvos.training.calibration import widened
from dvos.training.clips.files import FrameClip
from dvos.training.targets import ObjectPlaces

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

    Only clips count whose frames have masks with the same ids for the same objects, 12 frames or
    more without a gap; longer ones stand for several. The network needs no first mask. Gives the
    fields of a :class:`TrackCalibration`, as checkpoints keep them, or None if no clip tells them.
    """
    counts = (_counted(predictor, part, linking) for part in _parts(clips))
    found = [one for one in counts if one[2] > 0]
    if not found:
        return None
    fitted = fit_track_calibration(*zip(*found, strict=True))
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
        kept = [run for run in runs if len(run) >= _FEWEST and _is_permanent(clip, run)]
        chosen = (({k: of[k] for k in run} for of in (clip.frames, clip.masks)) for run in kept)
        of_clips.append([replace(clip, frames=frames, masks=masks) for frames, masks in chosen])
    by_turns = chain.from_iterable(zip_longest(*of_clips))
    return [part for part in by_turns if part is not None][: _MOST // _FRAMES]


def _ids(clip: FrameClip, frame: int) -> NDArray[np.uint16]:
    path = clip.masks[frame]
    ids = mask_ids(read_mask_at(path, clip.void), where=path)
    return np.where(ids == IGNORE, np.uint16(0), ids)


def _is_permanent(clip: FrameClip, run: Sequence[int]) -> bool:
    """Whether the ids of two frames are of the same objects, by where these lie."""
    before, now = (ObjectPlaces.of(_ids(clip, frame)) for frame in run[:2])
    both = (before.area > 0) & (now.area > 0)
    if np.count_nonzero(both) < 2:
        return False
    away = np.hypot(before.x - now.x, before.y - now.y)[both]
    return bool(np.median(away / np.sqrt(before.area[both])) < _NEAR)


def _counted(
    predictor: Predictor, clip: FrameClip, linking: LinkingSettings | None
) -> tuple[int, float, int]:
    """Tracks of a clip, its loose ends, and distinct true objects."""
    table, options = TrackTable(), PredictionOptions(checkpoint=Path())
    source = ImageList(clip.name, [*clip.frames.values()], intensity=clip.intensity)
    frames = (
        (None, count_frame(one, predictor.calibration, options).objects, number)
        for number, one in enumerate(predictor.segment(source))
    )
    for _, _, linked in follow(frames, "linked", linking):
        table.add({"time_s": None}, linked, REST)
    true = set().union(*(np.unique(_ids(clip, frame)).tolist() for frame in clip.frames)) - {0}
    return table.count, table.loose(), len(true)


def fit_track_calibration(
    tracks: Sequence[int], loose: Sequence[float], true: Sequence[int]
) -> TrackCalibration:
    """Fit the model to clips whose distinct objects are known, by least squares of relative errors.

    Known are the tracks of each clip, its ``loose`` ends, as :meth:`TrackTable.loose` gives them,
    and the objects that it shows, above 0. Of fewer than four clips only the error is fitted; it is
    widened for few.
    """
    n, i, d = (np.asarray(values, np.float64) for values in (tracks, loose, true))
    broken, missed, freedom = TrackCalibration().broken, 0.0, len(d)
    if len(d) >= _FEWEST_CLIPS and i.any():
        # d = a * n - b * i, with a = 1 + missed and b = a * broken; each clip counts by share.
        design = np.stack([n, -i], axis=1) / d[:, None]
        a, b = np.linalg.lstsq(design, np.ones(len(d)), rcond=None)[0]
        broken = float(np.clip(b / a, 0, 1)) if a > 0 else broken
        kept = (n - broken * i) / d
        missed = float(kept.sum() / (kept**2).sum()) - 1
        freedom = max(1, len(d) - 2)
    fitted = TrackCalibration(broken, missed)
    both = zip(n, i, d, strict=True)
    errors = [fitted.estimate(int(a), float(b)).distinct / c - 1 for a, b, c in both]
    # Clips of the same kind never tell the error of others exactly.
    error = max(_LEAST_ERROR, float(np.sqrt(np.sum(np.square(errors)) / freedom)))
    return TrackCalibration(broken, missed, widened(error, len(d)))

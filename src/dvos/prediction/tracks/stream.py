"""Objects followed while a video is segmented, from Python."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from dvos.config.prediction import LinkingSettings
from dvos.prediction.calibration import PlattScaling
from dvos.prediction.objects import FrameObjects, find_objects
from dvos.prediction.predictor import FramePrediction
from dvos.prediction.tracks.linking import LinkedFrame, Linker


class Links(Protocol):
    """What :class:`~dvos.prediction.tracks.linking.Linker` does."""

    def push(self, objects: FrameObjects, frame: int | None = None) -> list[LinkedFrame]:
        """Link the next frame; give the frames that are settled by now."""

    def finish(self) -> list[LinkedFrame]:
        """Settle the frames that are left."""


class GivenIds:
    """Takes the numbers of objects, which a network has given them for the whole clip, for ids."""

    def push(self, objects: FrameObjects, frame: int | None = None) -> list[LinkedFrame]:
        """The frame itself, settled."""
        return [LinkedFrame(frame or 0, objects.numbers, {}, None)]

    def finish(self) -> list[LinkedFrame]:
        """Nothing is left."""
        return []


class NoIds:
    """Follows nothing."""

    def push(self, objects: FrameObjects, frame: int | None = None) -> list[LinkedFrame]:
        """The frame itself, settled, without a track."""
        return [LinkedFrame(frame or 0, np.zeros(objects.count, np.int64), {}, None)]

    def finish(self) -> list[LinkedFrame]:
        """Nothing is left."""
        return []


def followed(
    predictions: Iterable[FramePrediction],
    *,
    linking: LinkingSettings | None = None,
    minimum_area: int = 30,
    width: float | None = None,
) -> Iterator[FramePrediction]:
    """Follow each object over the predictions of a video, as they come.

    Args:
        predictions: Of :meth:`dvos.prediction.predictor.Predictor.segment`.
        linking: How objects are linked.
        minimum_area: Smaller objects, in pixels, are left out.
        width: Usual width of an object, pixels, as ``predictor.calibration.width`` tells it.

    Yields:
        Each prediction with ``objects``, whose ``tracks`` are permanent ids, from 1; 0 of objects
        in no track. They come late by :attr:`dvos.prediction.tracks.linking.Linker.delay` frames.
    """
    links: Links | None = None
    waiting: deque[FramePrediction] = deque()
    for prediction in predictions:
        if links is None:
            links = Linker(linking) if prediction.instances is None else GivenIds()
        objects = find_objects(
            prediction.mask,
            prediction.probability,
            PlattScaling(1.0, 0.0),
            minimum_area=minimum_area,
            width=width,
            ids=prediction.instances,
            maps=prediction.maps,
        )
        waiting.append(replace(prediction, followed=objects))
        yield from _with_ids(waiting, links.push(objects, prediction.frame_index))
    if links is not None:
        yield from _with_ids(waiting, links.finish())


def _with_ids(
    waiting: deque[FramePrediction], settled: Sequence[LinkedFrame]
) -> Iterator[FramePrediction]:
    for linked in settled:
        prediction = waiting.popleft()
        yield replace(prediction, followed=replace(prediction.objects, tracks=linked.ids))

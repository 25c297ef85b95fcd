"""Objects followed as frames come in: from files, or while a video is segmented."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Literal, TypeVar

import numpy as np

from dvos.config.prediction import LinkingSettings
from dvos.prediction.calibration import CountCalibration
from dvos.prediction.objects import FrameObjects
from dvos.prediction.predictor import FramePrediction
from dvos.prediction.tracks.linking import LinkedFrame, Linker

T = TypeVar("T")
#: Objects are linked; or their numbers are permanent ids already; or they are not followed.
Ids = Literal["linked", "given", "none"]


def follow(
    frames: Iterable[tuple[T, FrameObjects, int]], ids: Ids, settings: LinkingSettings | None = None
) -> Iterator[tuple[T, FrameObjects, LinkedFrame]]:
    """Link the objects of frames, each with whatever belongs to it and its number, which rises.

    Each comes out again once its links are settled, up to
    :attr:`~dvos.prediction.tracks.linking.Linker.delay` frames later.
    """
    if ids != "linked":
        for what, objects, frame in frames:
            own = objects.numbers if ids == "given" else np.zeros(objects.count, np.int64)
            yield what, objects, LinkedFrame(frame, own, {}, None)
        return
    linker, waiting = Linker(settings), deque[tuple[T, FrameObjects]]()
    for what, objects, frame in frames:
        waiting.append((what, objects))
        for linked in linker.push(objects, frame):
            yield *waiting.popleft(), linked
    for linked in linker.finish():
        yield *waiting.popleft(), linked


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
    ``predictor.calibration.width`` tells.

    Yields:
        Each prediction with ``objects``, whose ``tracks`` are permanent ids, from 1; 0 of objects
        in no track. They come late by :attr:`dvos.prediction.tracks.linking.Linker.delay` frames.
    """

    def placed(prediction: FramePrediction) -> tuple[FramePrediction, FrameObjects, int]:
        objects = prediction.measured(CountCalibration(width=width), minimum_area)
        objects = objects if every == 1 else replace(objects, motion=None)
        return prediction, objects, prediction.frame_index // every

    for first in (predictions := iter(predictions)):
        frames = map(placed, chain([first], predictions))
        ids: Ids = "linked" if first.instances is None else "given"
        for prediction, objects, linked in follow(frames, ids, linking):
            yield replace(prediction, followed=replace(objects, tracks=linked.ids))

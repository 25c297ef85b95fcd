"""Predictions averaged with those of the frames before and after, brought to each by optical flow.

A network that sees one frame alone errs anew in each: a head is whole in one frame, in halves in
the next and missed in the third. Probabilities, and the offsets to objects' centres, are therefore
carried along the optical flow (Kroeger et al., ECCV 2016, arXiv 1603.03590) from up to n frames on
either side and averaged, weighted by how well the flow explains what is seen. With M the map of
frame k + 1 at where the flow leads to, and t the trust in it,

    later[k] = t (M[k + 1] + later[k + 1]) after n frames at most, earlier[k] likewise,
    average[k] = own[k] + later[k] + earlier[k], over the same sum of weights.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.errors import MediaError
from dvos.media.grouping import ObjectMaps
from dvos.prediction.predictor import FramePrediction

Singles = NDArray[np.float32]

#: Pixels of a place of the maps, along a side, at least; larger frames have at most so many places.
_STRIDE, _MOST_PLACES = 2, 2**17
#: Of the contrast about a place, how far what the flow leads to may differ from what is there to
#: keep 1/e of the trust; and in grey levels, at least.
_DIFFERENCE, _LEAST_DIFFERENCE = 0.7, 4.0
#: Places: deviations of the windows in which differences, and contrasts, are taken.
_BLUR, _ABOUT = 2.0, 8.0
#: A mean trust below this is another scene.
_SAME_SCENE = 0.5


@dataclass(frozen=True, eq=False)
class _Flow:
    """Where each place of a frame lies in a neighbour, and how far that is to be trusted."""

    columns: Singles  # (h, w), in places, as the rows
    rows: Singles
    trust: Singles  # (h, w, 1) in 0..1

    def bring(self, maps: Singles) -> Singles:
        """What lies there of the neighbour's maps (h, w, C), weighted by the trust."""
        there = cv2.remap(maps, self.columns, self.rows, cv2.INTER_LINEAR)
        return np.asarray(there * self.trust, np.float32)


@dataclass(eq=False)
class _Seen:
    """A frame on its way."""

    index: int
    prediction: FramePrediction | None  # None once its average was taken
    grey: NDArray[np.uint8]  # (h, w)
    maps: Singles  # (h, w, 4): the probability, 1, and the offset times the probability
    later: _Flow | None = None  # to the next frame; None of the last
    earlier: _Flow | None = None  # to the one before; None of the first


def averaged_along_flow(
    predictions: Generator[FramePrediction, None, None], count: int, *, start: int
) -> Iterator[FramePrediction]:
    """Average each frame's prediction with those of ``count`` neighbours before and after it.

    ``predictions`` are of a video from frame ``start - count`` on, or its beginning, and come late
    by ``count`` frames from ``start`` on; what they raise comes after the frames before the fault.
    """
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    # Else the result would hang on the stripes that threads part the frame into.
    finder.setUseSpatialPropagation(False)
    window: deque[_Seen] = deque(maxlen=2 * count + 1)
    waiting, failure = 0, None

    def oldest() -> Iterator[FramePrediction]:
        place = len(window) - waiting
        made = _averaged(list(window), place, count)
        window[place].prediction = None
        if made.frame_index >= start:
            yield made

    with closing(predictions):
        try:
            for prediction in predictions:
                seen = _seen(prediction)
                if window:
                    window[-1].later = _flow(finder, window[-1].grey, seen.grey)
                    seen.earlier = _flow(finder, seen.grey, window[-1].grey)
                window.append(seen)
                waiting += 1
                if waiting > count:
                    yield from oldest()
                    waiting -= 1
        except MediaError as error:
            failure = error
        while waiting:
            yield from oldest()
            waiting -= 1
    if failure is not None:
        raise failure


def _seen(prediction: FramePrediction) -> _Seen:
    image = prediction.image
    height, width = image.shape[:2]
    stride = max(_STRIDE, int(np.ceil(np.sqrt(height * width / _MOST_PLACES))))
    size = (max(1, width // stride), max(1, height // stride))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    probability = cv2.resize(prediction.probability, size, interpolation=cv2.INTER_AREA)
    layers = [probability, np.ones_like(probability)]
    if prediction.maps is not None:
        layers += [probability * _sized(layer, size) for layer in prediction.maps.offset]
    return _Seen(
        prediction.frame_index,
        prediction,
        cv2.cvtColor(small, cv2.COLOR_RGB2GRAY),
        np.dstack(layers),
    )


def _flow(
    finder: cv2.DISOpticalFlow, here: NDArray[np.uint8], there: NDArray[np.uint8]
) -> _Flow | None:
    """The flow between two frames; None between two scenes, or where frames are too small."""
    height, width = here.shape
    if min(height, width) < 2 * finder.getPatchSize():
        return None
    columns, rows = np.moveaxis(finder.calc(here, there, None), -1, 0)
    columns = columns + np.arange(width, dtype=np.float32)
    rows = rows + np.arange(height, dtype=np.float32)[:, None]
    # What lies outside is as far from any grey as can be.
    led_to = cv2.remap(
        there.astype(np.float32),
        columns,
        rows,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=-1000,
    )
    grey = here.astype(np.float32)
    off = cv2.GaussianBlur(cv2.absdiff(led_to, grey), (0, 0), _BLUR)
    mean = cv2.GaussianBlur(grey, (0, 0), _ABOUT)
    variance = cv2.GaussianBlur((grey - mean) ** 2, (0, 0), _ABOUT)
    trust = np.exp(-((off / np.maximum(_DIFFERENCE * np.sqrt(variance), _LEAST_DIFFERENCE)) ** 2))
    if trust.mean() < _SAME_SCENE:
        return None
    return _Flow(columns, rows, trust[..., None])


def _averaged(window: list[_Seen], place: int, count: int) -> FramePrediction:
    own = window[place]
    total = own.maps

    def near(other: _Seen) -> bool:
        # By index: a run that begins in the middle must find the same neighbours.
        return abs(other.index - own.index) <= count

    for after in (True, False):
        brought: Singles | None = None
        nearest = [place + step if after else place - step for step in range(1, count + 1)]
        for k in reversed([k for k in nearest if 0 <= k < len(window) and near(window[k])]):
            flow = window[k - 1].later if after else window[k + 1].earlier
            known = window[k].maps if brought is None else window[k].maps + brought
            brought = None if flow is None else flow.bring(known)
        if brought is not None:
            total = total + brought
    assert own.prediction is not None
    return own.prediction if total is own.maps else _moved(own.prediction, own.maps, total)


def _moved(prediction: FramePrediction, own: Singles, total: Singles) -> FramePrediction:
    """The frame's prediction, changed by what the average of its maps departs from them."""
    height, width = prediction.probability.shape
    change = total[..., 0] / total[..., 1] - own[..., 0]
    probability = np.clip(prediction.probability + _sized(change, (width, height)), 0, 1)
    maps = prediction.maps
    if maps is not None:
        offset = maps.offset.copy()
        weight, own_weight = (np.maximum(layers[..., 0], 1e-3) for layers in (total, own))
        for axis, layer in enumerate(offset, 2):
            step = total[..., axis] / weight - own[..., axis] / own_weight
            layer += _sized(step, (layer.shape[1], layer.shape[0]))
        maps = ObjectMaps(offset, maps.motion)
    mask = probability >= prediction.threshold
    return replace(prediction, probability=probability, mask=mask, maps=maps)


def _sized(layer: NDArray[np.floating], size: tuple[int, int]) -> Singles:
    """A map at this (width, height)."""
    if layer.shape == size[::-1]:
        return layer
    smaller = size[0] < layer.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(layer, size, interpolation=how), np.float32)

"""What becomes of frames before the network and of probabilities behind it, on host or device.

On the host OpenCV resizes frames, in the thread that reads them, and probabilities. On a
CUDA device frames go up as they are, a batch ahead of the network, and all else is
done there: what comes back is 16 bits for each pixel, while the next batch runs.

Tensor letters: B frames of a batch, H and W of a frame, h and w of what the network sees.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvos.config.prediction import PredictorOptions
from dvos.errors import RunError
from dvos.media.frames import read_ahead
from dvos.media.grouping import ObjectMaps
from dvos.media.image import resized
from dvos.media.video import VideoFrame
from dvos.networks.spec import OBJECTS
from dvos.prediction.link import Link, Sent
from dvos.prediction.network import LoadedNetwork
from dvos.prediction.predictor import FramePrediction, LevelPrediction
from dvos.prediction.resizing import enlarged, resized_planes, scaled_size, to_levels
from dvos.prediction.views import Found

#: Predictions of the frames of a batch, in order; waited for when they are asked for.
Predictions = Iterator[FramePrediction]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A batch of frames, and what its flow has made of them.

    Attributes:
        frames: The frames.
        pixels: For each scale that of each frame, uint8 (h, w, 3); on a device the
            frames as they are.
    """

    frames: list[VideoFrame]
    pixels: list[list[NDArray[np.uint8]]] | Sent


class Flow(Protocol):
    """How frames come to the network, and predictions from it.

    Attributes:
        behind: Batches whose predictions are fetched while further ones run.
    """

    behind: int

    def prepared(self, batches: Iterator[list[VideoFrame]]) -> Iterator[Prepared]:
        """Make batches ready; runs in a thread of its own, ahead of the network."""

    def inputs(self, batch: Prepared) -> Iterator[Tensor]:
        """What the network sees of a batch at each scale, (B, 3, h, w), normalised."""

    def mean(self, frames: list[VideoFrame], found: Sequence[Found]) -> Predictions:
        """The mean of several views, of which the first says where objects are."""

    def spread(self, frames: list[VideoFrame], found: Sequence[Found]) -> Predictions:
        """Mean and standard deviation over views, compared at the frame's own size."""


def flow_for(loaded: LoadedNetwork, options: PredictorOptions, scales: Sequence[float]) -> Flow:
    """The flow for where the network runs; ``scales`` are those of its views."""
    kind = DeviceFlow if loaded.device.type == "cuda" else HostFlow
    return kind(loaded, options, scales)


class HostFlow:
    """A :class:`Flow` that leaves to the device the network alone.

    Args:
        loaded: The network.
        options: How it segments.
        scales: Of the views, beside the options' own scale.
    """

    behind = 0

    def __init__(
        self, loaded: LoadedNetwork, options: PredictorOptions, scales: Sequence[float]
    ) -> None:
        self._loaded = loaded
        self._options = options
        self._factors = [options.scale * scale for scale in scales]

    def prepared(self, batches: Iterator[list[VideoFrame]]) -> Iterator[Prepared]:
        """Resize for each scale."""
        for frames in batches:
            pixels = [[resized(x.image, factor) for x in frames] for factor in self._factors]
            yield Prepared(frames, pixels)

    def inputs(self, batch: Prepared) -> Iterator[Tensor]:
        """Send and normalise."""
        assert not isinstance(batch.pixels, Sent)
        for pixels in batch.pixels:
            yield self._loaded.normalised(np.stack(pixels))

    def mean(self, frames: list[VideoFrame], found: Sequence[Found]) -> Predictions:
        """The mean at the network's size, then brought to the frame's."""
        mean = _mean(found, scaled_size(frames[0].image.shape[:2], self._options.scale))
        objects = found[0].others.get(OBJECTS) if self._loaded.tells_apart else None
        told = [None] * len(frames) if objects is None else objects.float().cpu().numpy()
        for frame, small, own in zip(frames, mean.cpu().numpy(), told, strict=True):
            yield self._prediction(frame, _at_full_size(small, frame), own)

    def spread(self, frames: list[VideoFrame], found: Sequence[Found]) -> Predictions:
        """Over the views, one after another (Welford 1962)."""
        maps = [each.probability.cpu().numpy() for each in found]
        for place, frame in enumerate(frames):
            mean = np.zeros(frame.image.shape[:2], np.float32)
            squares = np.zeros_like(mean)
            for count, each in enumerate(maps, 1):
                probability = _at_full_size(each[place], frame)
                difference = probability - mean
                mean += difference / count
                squares += difference * (probability - mean)
            std = np.sqrt(np.maximum(squares, 0) / len(maps))
            yield replace(self._prediction(frame, mean), std=std)

    def _prediction(
        self,
        frame: VideoFrame,
        probability: NDArray[np.float32],
        told: NDArray[np.float32] | None = None,
    ) -> FramePrediction:
        return FramePrediction(
            frame_index=frame.frame_index,
            time_s=frame.time_s,
            name=frame.name,
            image=frame.image,
            probability=probability,
            mask=probability >= self._options.threshold,
            maps=None if told is None else ObjectMaps.of(told),
        )


class DeviceFlow(HostFlow):
    """A :class:`Flow` that does all it can on the device.

    Its results are those of :class:`HostFlow` but for rounding: frames differ by one
    grey level at most where they are resized, probabilities by half a 65,535th.
    """

    behind = 1

    def __init__(
        self, loaded: LoadedNetwork, options: PredictorOptions, scales: Sequence[float]
    ) -> None:
        super().__init__(loaded, options, scales)
        self._link = Link(loaded.device)

    def prepared(self, batches: Iterator[list[VideoFrame]]) -> Iterator[Prepared]:
        """Send the frames; reading goes on in a further thread, as copying takes time too."""
        with closing(read_ahead(batches, depth=1)) as ready:
            for frames in ready:
                yield Prepared(frames, self._link.send([frame.image for frame in frames]))

    def inputs(self, batch: Prepared) -> Iterator[Tensor]:
        """Resize and normalise on the device."""
        assert isinstance(batch.pixels, Sent)
        # (B, H, W, 3) to (B, 3, H, W), whose channels stay together.
        planes = batch.pixels.arrived().movedim(-1, -3)
        height, width = planes.shape[-2:]
        for factor in self._factors:
            size = scaled_size((height, width), factor)
            small = planes if factor == 1 else resized_planes(planes.float(), size)
            yield self._loaded.normalise(small)

    @torch.inference_mode()
    def mean(self, frames: list[VideoFrame], found: Sequence[Found]) -> Predictions:
        """Queue all that is to be done, and the copies; the host waits when it is asked."""
        size = frames[0].image.shape[:2]
        mean = _mean(found, scaled_size(size, self._options.scale))
        levels = self._link.fetch(to_levels(enlarged(mean, size)))
        objects = found[0].others.get(OBJECTS) if self._loaded.tells_apart else None
        told = None if objects is None else self._link.fetch(objects.float())
        sound = self._link.fetch(mean.isfinite().all())
        return self._checked(sound, self._fetched(frames, levels, told))

    @torch.inference_mode()
    def spread(self, frames: list[VideoFrame], found: Sequence[Found]) -> Predictions:
        """As :meth:`HostFlow.spread`, on the device; in float32, as deviations are small."""
        size = frames[0].image.shape[:2]
        first = found[0].probability
        mean = torch.zeros((len(frames), *size), device=first.device)
        squares = torch.zeros_like(mean)
        for count, each in enumerate(found, 1):
            probability = enlarged(each.probability, size)
            difference = probability - mean
            mean += difference / count
            squares += difference * (probability - mean)
        std = self._link.fetch((squares.clamp_min(0) / len(found)).sqrt())
        sound = self._link.fetch(mean.isfinite().all())
        return self._checked(sound, self._with_spread(frames, self._link.fetch(mean), std))

    def _checked(self, sound: Callable[[], NDArray[np.bool_]], made: Predictions) -> Predictions:
        if not sound():
            found = "the network gives values that are no numbers, as beyond the range of float16"
            raise RunError.at("precision", found, remedy="set precision=bfloat16")
        yield from made

    def _fetched(
        self,
        frames: list[VideoFrame],
        levels: Callable[[], NDArray[np.int16]],
        objects: Callable[[], NDArray[np.float32]] | None,
    ) -> Predictions:
        told = [None] * len(frames) if objects is None else objects()
        for frame, bits, own in zip(frames, levels().view(np.uint16), told, strict=True):
            yield LevelPrediction.of(frame, bits, self._options.threshold, own)

    def _with_spread(
        self,
        frames: list[VideoFrame],
        mean: Callable[[], NDArray[np.float32]],
        std: Callable[[], NDArray[np.float32]],
    ) -> Predictions:
        for frame, own_mean, own_std in zip(frames, mean(), std(), strict=True):
            yield replace(self._prediction(frame, own_mean), std=own_std)


def behind(batches: Iterator[Predictions], count: int) -> Generator[FramePrediction, None, None]:
    """Predictions in order, of each batch when ``count`` further ones have been begun.

    A fault of a later batch comes after the predictions before it.
    """
    waiting: list[Predictions] = []
    failure: Exception | None = None
    while True:
        try:
            batch = next(batches, None)
        except Exception as error:
            failure, batch = error, None
        if batch is None:
            break
        waiting.append(batch)
        if len(waiting) > count:
            yield from waiting.pop(0)
    for batch in waiting:
        yield from batch
    if failure is not None:
        raise failure


def _mean(found: Sequence[Found], size: tuple[int, int]) -> Tensor:
    """The mean (B, h, w) of views, of which those of another scale have another size."""
    maps = [each.probability for each in found]
    same = [
        each
        if tuple(each.shape[1:]) == size
        else torch.nn.functional.interpolate(each[:, None], size, mode="bilinear")[:, 0]
        for each in maps
    ]
    return same[0] if len(same) == 1 else torch.stack(same).mean(0)


def _at_full_size(small: NDArray[np.float32], frame: VideoFrame) -> NDArray[np.float32]:
    height, width = frame.image.shape[:2]
    if small.shape == (height, width):
        return small
    enlarged = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.float32)

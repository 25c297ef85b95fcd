"""What becomes of frames before the network and of probabilities behind it, on host or device.

On the host OpenCV resizes both. On a CUDA device frames go up as they are, a batch ahead of the
network, and all else is done there: 16 bits a pixel come back, while the next batch runs.
Tensor letters: B frames of a batch, H and W of a frame, h and w of what the network sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dvos.config.prediction import PredictorOptions
from dvos.errors import RunError
from dvos.media.frames import read_ahead
from dvos.media.grouping import ObjectMaps
from dvos.media.image import resized
from dvos.media.video import VideoFrame
from dvos.networks.spec import OBJECTS
from dvos.prediction.calibration import read_calibration
from dvos.prediction.network import LoadedNetwork
from dvos.prediction.predictor import FramePrediction, LevelPrediction
from dvos.prediction.views import Found

#: Levels of a probability that is kept in 16 bits.
LEVELS = 2**16 - 1
#: Predictions of the frames of a batch, in order; waited for when they are asked for.
Predictions = Iterator[FramePrediction]
#: Waits for what is on its way to the host, and gives it.
_Fetch = Callable[[], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A batch of frames, and what gives their pixels at each scale, (B, 3, h, w), normalised."""

    frames: list[VideoFrame]
    inputs: Callable[[], Iterator[Tensor]]


def flow_for(loaded: LoadedNetwork, options: PredictorOptions, scales: Sequence[float]) -> HostFlow:
    """The flow for where the network runs; ``scales`` are those of its views."""
    kind = DeviceFlow if loaded.device.type == "cuda" else HostFlow
    return kind(loaded, options, scales)


class HostFlow:
    """Brings frames to the network, and predictions from it; leaves to the device that alone.

    ``scales`` are those of the views, beside the options' own. Of ``behind`` batches the
    predictions are fetched while further ones run.
    """

    behind = 0

    def __init__(
        self, loaded: LoadedNetwork, options: PredictorOptions, scales: Sequence[float]
    ) -> None:
        self._loaded, self._options = loaded, options
        self._factors = [options.scale * scale for scale in scales]
        self._calibration = read_calibration(loaded.extra).at_scale(options.scale)

    def prepared(self, batches: Iterator[list[VideoFrame]]) -> Iterator[Prepared]:
        """Make batches ready; runs in a thread of its own, ahead of the network."""
        for frames in batches:
            pixels = [np.stack([resized(x.image, f) for x in frames]) for f in self._factors]
            yield Prepared(frames, partial(map, self._loaded.normalised, pixels))

    def mean(self, frames: list[VideoFrame], found: Sequence[Found]) -> Predictions:
        """The mean of several views at the network's size, the first of which tells objects."""
        means = self._fetch(self._enlarged(self._small_mean(frames, found), _size(frames)))
        for frame, mean, told in zip(frames, means(), self._told(frames, found)(), strict=True):
            yield self._prediction(frame, mean, maps=None if told is None else ObjectMaps.of(told))

    @torch.inference_mode()
    def spread(self, frames: list[VideoFrame], found: Sequence[Found]) -> Predictions:
        """Mean and standard deviation over views at the frame's own size (Welford 1962)."""
        mean = self._enlarged(found[0].probability, _size(frames)).clone()
        squares = torch.zeros_like(mean)
        for count, each in enumerate(found[1:], 2):
            probability = self._enlarged(each.probability, _size(frames))
            difference = probability - mean
            mean += difference / count
            squares += difference * (probability - mean)
        std = self._fetch((squares.clamp_min(0) / len(found)).sqrt())
        return self._checked(mean, self._with_spread(frames, self._fetch(mean), std))

    def _with_spread(self, frames: list[VideoFrame], means: _Fetch, stds: _Fetch) -> Predictions:
        for frame, mean, std in zip(frames, means(), stds(), strict=True):
            yield self._prediction(frame, mean, std=std)

    def _prediction(
        self, frame: VideoFrame, probability: NDArray[np.float32], **others: Any
    ) -> FramePrediction:
        threshold = self._options.threshold
        others |= {"mask": probability >= threshold, "threshold": threshold}
        known = {**vars(frame), "probability": probability, "calibration": self._calibration}
        return FramePrediction(**known, **others)

    def _small_mean(self, frames: list[VideoFrame], found: Sequence[Found]) -> Tensor:
        """The mean (B, h, w) of views, of which those of another scale have another size."""
        size = scaled_size(_size(frames), self._options.scale)
        same = [
            maps
            if tuple(maps.shape[1:]) == size
            else F.interpolate(maps[:, None], size, mode="bilinear")[:, 0]
            for maps in (each.probability for each in found)
        ]
        return same[0] if len(same) == 1 else torch.stack(same).mean(0)

    def _told(
        self, frames: list[VideoFrame], found: Sequence[Found]
    ) -> Callable[[], Sequence[NDArray[np.float32] | None]]:
        """What the network says of where objects are in each frame; None where it does not."""
        objects = found[0].others.get(OBJECTS) if self._loaded.tells_apart else None
        if objects is None:
            return lambda: [None] * len(frames)
        fetch = self._fetch(objects.float())
        return lambda: list(fetch())

    def _enlarged(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        if tuple(maps.shape[-2:]) == size:
            return maps.cpu()
        small, way = maps.cpu().numpy(), cv2.INTER_LINEAR
        large = [cv2.resize(each, size[::-1], interpolation=way) for each in small]
        return torch.from_numpy(np.stack(large))

    def _fetch(self, values: Tensor) -> _Fetch:
        return values.cpu().numpy

    def _checked(self, mean: Tensor, made: Predictions) -> Predictions:  # noqa: ARG002
        return made


class DeviceFlow(HostFlow):
    """A flow that does all it can on the device.

    It differs by one grey level at most in resized frames, by half a 65,535th in probabilities.
    """

    behind = 1

    def __init__(
        self, loaded: LoadedNetwork, options: PredictorOptions, scales: Sequence[float]
    ) -> None:
        super().__init__(loaded, options, scales)
        self._link = Link(loaded.device)
        self._fetch, self._enlarged = self._link.fetch, enlarged  # type: ignore[method-assign]

    def prepared(self, batches: Iterator[list[VideoFrame]]) -> Iterator[Prepared]:
        """Send the frames; reading goes on in a further thread, as copying takes time too."""
        with closing(read_ahead(batches, depth=1)) as ready:
            for frames in ready:
                arrived = self._link.send([frame.image for frame in frames])
                yield Prepared(frames, partial(self._inputs, arrived))

    def _inputs(self, arrived: Callable[[], Tensor]) -> Iterator[Tensor]:
        """Resize and normalise on the device."""
        # (B, H, W, 3) to (B, 3, H, W), whose channels stay together.
        planes = arrived().movedim(-1, -3)
        height, width = planes.shape[-2:]
        for factor in self._factors:
            size = scaled_size((height, width), factor)
            small = planes if factor == 1 else resized_planes(planes.float(), size)
            yield self._loaded.normalise(small)

    @torch.inference_mode()
    def mean(self, frames: list[VideoFrame], found: Sequence[Found]) -> Predictions:
        """Queue all that is to be done, and the copies; the host waits when it is asked."""
        mean = self._small_mean(frames, found)
        levels = self._fetch(to_levels(enlarged(mean, _size(frames))))
        return self._checked(mean, self._of_levels(frames, levels, self._told(frames, found)))

    def _of_levels(
        self,
        frames: list[VideoFrame],
        levels: _Fetch,
        told: Callable[[], Sequence[NDArray[np.float32] | None]],
    ) -> Predictions:
        for frame, bits, own in zip(frames, levels().view(np.uint16), told(), strict=True):
            threshold = self._options.threshold
            yield LevelPrediction.of(frame, bits, threshold, own, self._calibration)

    def _checked(self, mean: Tensor, made: Predictions) -> Predictions:
        """The predictions, after a look whether the mean that they are made of holds numbers."""
        sound = self._fetch(mean.isfinite().all())

        def checked() -> Predictions:
            if not sound():
                raise RunError.at(
                    "precision",
                    "the network gives values that are no numbers, as beyond the range of float16",
                    remedy="set precision=bfloat16",
                )
            yield from made

        return checked()


class Link:
    """Sends frames to the device a network runs on and fetches what was made of them.

    On CUDA copies in both directions run beside the network: from and to page-locked memory, which
    PyTorch's allocator gives out again, on a stream of their own. Elsewhere they are made when
    asked for.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._cuda = device, device.type == "cuda"
        cuda: Any = torch.cuda
        self._up: Any = cuda.Stream(device) if self._cuda else None
        self._down: Any = cuda.Stream(device) if self._cuda else None
        self._event = cuda.Event

    def send(self, images: Sequence[NDArray[np.uint8]]) -> Callable[[], Tensor]:
        """Begin to send images, uint8 (H, W, 3) of one size, from any thread.

        What is given returns them, uint8 (B, H, W, 3), for work that is queued from then on.
        """
        shape = (len(images), *images[0].shape)
        staged = torch.empty(shape, dtype=torch.uint8, pin_memory=self._cuda)
        np.stack(images, out=staged.numpy())
        if not self._cuda:
            return lambda: staged.to(self._device)
        with torch.cuda.stream(self._up):
            frames = staged.to(self._device, non_blocking=True)
            copied = self._event()
            copied.record(self._up)

        def arrived() -> Tensor:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(copied)
            frames.record_stream(current)
            return frames

        return arrived

    def fetch(self, values: Tensor) -> Callable[[], NDArray[Any]]:
        """Begin to fetch a tensor; what is given waits for it and returns it as an array."""
        if not self._cuda:
            return values.cpu().numpy
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._down):
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            values.record_stream(self._down)
            copied = self._event()
            copied.record(self._down)

        def fetched() -> NDArray[Any]:
            copied.synchronize()
            return host.numpy()

        return fetched


def _size(frames: list[VideoFrame]) -> tuple[int, int]:
    """(height, width)."""
    height, width = frames[0].image.shape[:2]
    return height, width


def scaled_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """(height, width) times a factor, in whole pixels, at least one; as ``media.image.resized``."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def resized_planes(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames at another size, as OpenCV and :func:`dvos.media.image.resized` make them on the host.

    By areas to shrink, bilinearly to grow. Values (B, C, H, W), whole levels 0..255, are rounded
    again, and differ from OpenCV's by one level at most, where that rounds otherwise. Averages over
    areas are two products of matrices, for rows and columns: exact, and quicker than any gathering.
    """
    height, width = planes.shape[-2:]
    if (height, width) == size:
        return planes
    if height > size[0] or width > size[1]:
        rows = _shares(height, size[0], planes.device)
        columns = _shares(width, size[1], planes.device)
        # In full float32, also inside autocast.
        with torch.autocast(planes.device.type, enabled=False):
            found = rows @ (planes @ columns.T)
        if (height, width) == (2 * size[0], 2 * size[1]):
            # Of four pixels OpenCV takes (sum + 2) >> 2, which rounds a half up.
            found = (found + 0.5).floor()
    else:
        found = F.interpolate(planes, size, mode="bilinear", align_corners=False)
    return found.round().clamp(0, 255)


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps float32 (B, h, w) at another size, bilinearly, as ``cv2.INTER_LINEAR`` does."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def to_levels(probability: Tensor) -> Tensor:
    """Probabilities in 0..1 as one of 65,536 levels: int16 whose bits are those of the uint16."""
    return (probability * LEVELS).round().to(torch.int32).to(torch.int16)


@lru_cache(maxsize=16)
def _shares(old: int, new: int, device: torch.device) -> Tensor:
    """Share of each old pixel in each new one along an axis, float32 (new, old); rows add to 1."""
    step = old / new
    edges = torch.arange(new, dtype=torch.float64)[:, None] * step
    pixels = torch.arange(old, dtype=torch.float64)
    covered = torch.minimum(edges + step, pixels + 1) - torch.maximum(edges, pixels)
    shares = covered.clamp_min(0)
    return (shares / shares.sum(1, keepdim=True)).float().to(device)

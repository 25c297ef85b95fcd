"""Segmenting a stream of frames with a network that looks back at references.

Each frame is encoded once; its features wait in memory until no later frame
refers to them. Memory does not grow with the length of the video.

Tensor letters: B frames of a batch, T frames of a window (references, then the
query), C channels, H height, W width, h and w of a map.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dvos.config.prediction import PredictorOptions
from dvos.errors import CheckpointError
from dvos.media.frames import Frames, checked_frames, open_frames, read_ahead
from dvos.media.image import resized
from dvos.media.video import VideoFrame
from dvos.networks.dvos.tiled import TiledDvosNetwork
from dvos.networks.spec import Outputs
from dvos.prediction.network import LoadedNetwork
from dvos.prediction.objects import read_calibration
from dvos.prediction.predictor import FramePrediction, Views
from dvos.prediction.tiles import Tile, tile_grid, tile_sides, tile_weight

#: Mirror images, as the dimensions of (B, C, H, W) that are turned round.
_Flips = tuple[tuple[int, ...], ...]
_FLIPS: dict[str, _Flips] = {
    "none": ((),),
    "horizontal": ((), (3,)),
    "all": ((), (3,), (2,), (2, 3)),
}
_GPU_BATCH = 4


class StreamingNetwork(Protocol):
    """A network whose frames are encoded one by one and decoded in windows.

    Attributes:
        references: Reference frames of each query.
    """

    references: int

    def encode(self, frames: Tensor) -> list[Tensor]:
        """(B, 3, H, W), normalised, to maps (B, C, h, w)."""

    def decode(
        self,
        features: Sequence[Sequence[Tensor]],
        size: tuple[int, int],
        *,
        reconstruct: bool = True,
    ) -> Outputs:
        """For each scale T maps (B, C, h, w), the query last, to the query's logits."""


def dvos_predictor(loaded: LoadedNetwork, options: PredictorOptions) -> StreamingPredictor:
    """Predict with a :class:`~dvos.networks.dvos.network.DvosNetwork`, a little faster.

    In tiles it gives the same as over the whole frame.
    """
    network = loaded.network.for_inference()
    if options.tile:
        network = TiledDvosNetwork(network, tile_sides(options.tile)[0])
        options = options.model_copy(update={"tile": 0})
    return StreamingPredictor(replace(loaded, network=network), options)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A frame and what of it the network sees, uint8 (H, W, 3) for each scale."""

    frame: VideoFrame
    pixels: list[NDArray[np.uint8]]


class StreamingPredictor:
    """A :class:`~dvos.prediction.predictor.Predictor` of a :class:`StreamingNetwork`.

    References that would lie before the first frame are replaced by the first
    frame, as in training; the very first frame is its own reference. Tiles
    overlap and fade into each other.

    Args:
        loaded: The network.
        options: How it segments.

    Raises:
        CheckpointError: If the network is no such one.
    """

    def __init__(self, loaded: LoadedNetwork, options: PredictorOptions) -> None:
        network = loaded.network
        if not all(hasattr(network, name) for name in ("encode", "decode", "references")):
            raise CheckpointError.at(
                loaded.path,
                f"holds a network of the kind {type(network).__name__}",
                "one that encodes frames one by one, as 'dvos' and 'paper' do",
                "give a checkpoint written by dvos train, or of the published training",
            )
        if isinstance(network, nn.Module):
            # Convolutions are up to twice as fast with the channels of a pixel together.
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: StreamingNetwork = network
        self._loaded = loaded
        self._options = options
        stored = loaded.extra.get("reference_interval", 1)
        if not isinstance(stored, int) or stored < 1:
            found = f"has the reference_interval {stored!r}"
            raise CheckpointError.at(loaded.path, found, "a whole number from 1")
        self._interval = options.reference_interval or stored
        self._tile, self._overlap = tile_sides(options.tile)
        self._batch = options.batch or (_GPU_BATCH if loaded.device.type == "cuda" else 1)
        self._autocast = loaded.mixed_precision(options)
        self.intensity = loaded.intensity(options)
        self.calibration = read_calibration(loaded.extra).at_scale(options.scale)

    @property
    def context(self) -> int:
        """How many frames before a frame its mask depends on."""
        return self._network.references * self._interval

    def segment(self, video_or_frames: Frames, *, start: int = 0) -> Iterator[FramePrediction]:
        """Segment frame after frame; see :class:`~dvos.prediction.predictor.Predictor`."""
        augment = self._options.augment
        flips = _FLIPS["all" if "flips" in augment else "none"]
        scales = self._options.augment_scales if "scales" in augment else [1.0]
        stream = self._stream(video_or_frames, start, scales, [flips])
        with closing(stream) as batches:
            for frames, found in batches:
                size = self._network_size(frames[0])
                # Views of another scale have another size.
                same = [
                    each
                    if tuple(each.shape[1:]) == size
                    else F.interpolate(each[:, None], size, mode="bilinear")[:, 0]
                    for each in found
                ]
                mean = same[0] if len(same) == 1 else torch.stack(same).mean(0)
                for frame, small in zip(frames, mean.cpu().numpy(), strict=True):
                    yield self._prediction(frame, _at_full_size(small, frame))

    def segment_views(
        self, video_or_frames: Frames, views: Views, *, start: int = 0
    ) -> Iterator[FramePrediction]:
        """Segment in several views; see :class:`~dvos.prediction.predictor.Predictor`."""
        flips = [(flip,) for flip in _FLIPS[views.flips]]
        stream = self._stream(video_or_frames, start, views.scales, flips)
        with closing(stream) as batches:
            for frames, found in batches:
                maps = [each.cpu().numpy() for each in found]
                for place, frame in enumerate(frames):
                    mean = np.zeros(frame.image.shape[:2], np.float32)
                    squares = np.zeros_like(mean)
                    # Over the views, one after another (Welford 1962).
                    for count, each in enumerate(maps, 1):
                        probability = _at_full_size(each[place], frame)
                        difference = probability - mean
                        mean += difference / count
                        squares += difference * (probability - mean)
                    std = np.sqrt(np.maximum(squares, 0) / len(maps))
                    yield replace(self._prediction(frame, mean), std=std)

    def _stream(
        self, video_or_frames: Frames, start: int, scales: Sequence[float], flips: Sequence[_Flips]
    ) -> Generator[tuple[list[VideoFrame], list[Tensor]], None, None]:
        """Batches of frames from ``start`` on, each with probabilities (B, h, w) of its views.

        There is a view for each scale and each group of mirror images, over
        which it is the mean; it has its own size.
        """
        # Batches lie at fixed places in the video, so that a run that begins
        # in the middle feeds the network the very same batches.
        decoded_from = start - start % self._batch
        first = max(0, decoded_from - self.context)
        first -= first % self._batch
        frames = checked_frames(open_frames(video_or_frames, self.intensity), start=first)
        views: list[list[_View]] = []
        # Closed here, not by chance: the reader's thread ends with this generator.
        with closing(read_ahead(self._prepare(frames, scales), depth=self._batch + 2)) as prepared:
            for batch in self._batches(prepared):
                views = views or [
                    [self._open_view(pixels.shape[:2], each) for each in flips]
                    for pixels in batch[0].pixels
                ]
                height, width = self._network_size(batch[0].frame)
                with self._loaded.out_of_memory(
                    f"frames of {width} x {height} pixels",
                    "predict with --tile 512, a smaller --batch or a --scale below 1",
                ):
                    found = self._run(views, batch, decoded_from)
                queries = [one.frame for one in batch if one.frame.frame_index >= start]
                if queries:
                    # All of a batch is computed, however few of its frames are wanted.
                    yield queries, [each[-len(queries) :] for each in found]

    def _batches(self, prepared: Iterator[_Prepared]) -> Iterator[list[_Prepared]]:
        """Each as soon as its last frame is there: a fault in the next must not cost it."""
        batch: list[_Prepared] = []
        for one in prepared:
            place, rest = divmod(one.frame.frame_index, self._batch)
            if batch and batch[0].frame.frame_index // self._batch != place:
                yield batch
                batch = []
            batch.append(one)
            if rest == self._batch - 1:
                yield batch
                batch = []
        if batch:
            yield batch

    def _prepare(
        self, frames: Iterator[VideoFrame], scales: Sequence[float]
    ) -> Iterator[_Prepared]:
        """Resize for each view; runs in the reader's thread."""
        factors = [self._options.scale * scale for scale in scales]
        for frame in frames:
            yield _Prepared(frame, [resized(frame.image, factor) for factor in factors])

    def _open_view(self, size: tuple[int, int], flips: _Flips) -> _View:
        tiles = tile_grid(size, self._tile, self._overlap)
        weights = [
            torch.from_numpy(tile_weight(tile, size, self._overlap)).to(self._loaded.device)
            for tile in tiles
        ]
        caches = [FeatureCache() for _ in range(len(tiles) * len(flips))]
        return _View(size, flips, tiles, weights, caches)

    @torch.inference_mode()
    def _run(
        self, views: Sequence[Sequence[_View]], batch: Sequence[_Prepared], start: int
    ) -> list[Tensor]:
        """Probabilities (B, h, w), in each view, of the batch's frames from ``start`` on."""
        indices = [one.frame.frame_index for one in batch]
        queries = [index for index in indices if index >= start]
        found = []
        for place, of_scale in enumerate(views):
            frames = self._loaded.normalised(np.stack([one.pixels[place] for one in batch]))
            found += [self._average(view, frames, indices, queries) for view in of_scale]
        return found

    def _average(
        self, view: _View, frames: Tensor, indices: list[int], queries: list[int]
    ) -> Tensor:
        """Probabilities (B, h, w) of the queries in a view, over its tiles and mirror images."""
        total = torch.zeros((len(queries), *view.size), device=frames.device)
        weight = torch.zeros(view.size, device=frames.device)
        caches = iter(view.caches)
        for tile, tile_weights in zip(view.tiles, view.weights, strict=True):
            rows = slice(tile.top, tile.top + tile.height)
            columns = slice(tile.left, tile.left + tile.width)
            weight[rows, columns] += tile_weights * len(view.flips)
            part = frames[..., rows, columns]
            for flip in view.flips:
                mirrored = part.flip(flip) if flip else part
                found = self._segment_part(next(caches), mirrored, indices, queries)
                if queries:
                    upright = found.flip(flip) if flip else found
                    total[:, rows, columns] += upright[:, 0] * tile_weights
        return total / weight

    def _segment_part(
        self, cache: FeatureCache, part: Tensor, indices: list[int], queries: list[int]
    ) -> Tensor:
        """Probabilities (B, 1, H, W) of the queries among a batch of tiles (B, 3, H, W)."""
        with torch.autocast(
            part.device.type, dtype=self._autocast, enabled=self._autocast is not None
        ):
            cache.add(indices, self._network.encode(part))
            if not queries:
                return part[:0, :1]
            # Frame indices of the references, oldest first, and the query.
            steps = range(self._network.references, -1, -1)
            windows = [[query - step * self._interval for step in steps] for query in queries]
            size = (part.shape[-2], part.shape[-1])
            logits = self._network.decode(cache.windows(windows), size, reconstruct=False)
        cache.drop_before(indices[-1] + 1 - self.context)
        return logits.mask_logits.float().sigmoid()

    def _network_size(self, frame: VideoFrame) -> tuple[int, int]:
        """Height and width of what the network sees, other scales apart."""
        height, width = frame.image.shape[:2]
        scale = self._options.scale
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _prediction(self, frame: VideoFrame, probability: NDArray[np.float32]) -> FramePrediction:
        return FramePrediction(
            frame_index=frame.frame_index,
            time_s=frame.time_s,
            name=frame.name,
            image=frame.image,
            probability=probability,
            mask=probability >= self._options.threshold,
        )


@dataclass(frozen=True, eq=False)
class _View:
    """One size of a video in some mirror images, with features for each tile and image."""

    size: tuple[int, int]
    flips: _Flips
    tiles: list[Tile]
    weights: list[Tensor]
    caches: list[FeatureCache]


class FeatureCache:
    """Features of the latest frames of one view."""

    def __init__(self) -> None:
        self._features: dict[int, list[Tensor]] = {}

    def add(self, indices: list[int], features: list[Tensor]) -> None:
        """Keep the maps (B, C, h, w) of the frames ``indices``."""
        for place, index in enumerate(indices):
            self._features[index] = [maps[place : place + 1] for maps in features]

    def windows(self, windows: list[list[int]]) -> list[list[Tensor]]:
        """For each scale T maps (B, C, h, w) of several windows."""
        chosen = [[self._features[self._nearest(i)] for i in window] for window in windows]
        # T times the maps of the B windows' frames at that step; a single one is not copied.
        steps = list(zip(*chosen, strict=True))
        return [
            [
                step[0][scale] if len(step) == 1 else torch.cat([maps[scale] for maps in step])
                for step in steps
            ]
            for scale in range(len(chosen[0][0]))
        ]

    def drop_before(self, index: int) -> None:
        """Forget what no window from now on, which begin at ``index`` or later, needs."""
        oldest = self._nearest(index)
        for key in [key for key in self._features if key < oldest]:
            del self._features[key]

    def _nearest(self, index: int) -> int:
        # The frame itself, or, where it could not be read, the one before it;
        # the first frame stands in for those before the beginning.
        earlier = [key for key in self._features if key <= index]
        return max(earlier) if earlier else min(self._features)


def _at_full_size(small: NDArray[np.float32], frame: VideoFrame) -> NDArray[np.float32]:
    height, width = frame.image.shape[:2]
    if small.shape == (height, width):
        return small
    enlarged = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.float32)

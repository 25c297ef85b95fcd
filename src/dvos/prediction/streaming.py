"""Segmenting a stream of frames with a network that looks back at references.

Each frame is encoded once; its features wait in memory until no later frame
refers to them. Memory does not grow with the length of the video.

Tensor letters: B frames of a batch, T frames of a window (references, then the
query), C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dvos.errors import RunError
from dvos.media.frames import Frames, checked_frames, open_frames, read_ahead
from dvos.media.image import resized
from dvos.media.video import VideoFrame
from dvos.networks.dvos.network import DvosNetwork
from dvos.networks.dvos.tiled import TiledDvosNetwork
from dvos.prediction.exhaustion import is_out_of_memory
from dvos.prediction.predictor import FramePrediction
from dvos.prediction.ring import FeatureRing
from dvos.prediction.tiles import Tile, tile_grid, tile_weight

__all__ = ["StreamingNetwork", "StreamingPredictor"]

#: The mirror images averaged by ``flips``, as the dimensions of (B, C, H, W) turned round.
_FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))


class HasMaskLogits(Protocol):
    """Outputs of a network."""

    @property
    def mask_logits(self) -> Tensor:
        """(B, 1, H, W)."""


class StreamingNetwork(Protocol):
    """A network whose frames are encoded one by one and decoded in windows."""

    def encode(self, frames: Tensor) -> list[Tensor]:
        """(B, 3, H, W), normalised, to maps (B, C, h, w)."""

    def decode(
        self,
        features: Sequence[Sequence[Tensor]],
        size: tuple[int, int],
        *,
        reconstruct: bool = True,
    ) -> HasMaskLogits:
        """For each scale T maps (B, C, h, w), the query last, to the query's logits."""


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A frame and what of it the network sees, uint8 (H, W, 3) for each view scale."""

    frame: VideoFrame
    pixels: list[NDArray[np.uint8]]


class StreamingPredictor:
    """Keeps to :class:`~dvos.prediction.predictor.Predictor`.

    References that would lie before the first frame are replaced by the first
    frame, as in training; the very first frame is its own reference.

    Args:
        network: In evaluation mode, on ``device``.
        references: Reference frames of each query.
        interval: Frames between them.
        mean: Of each colour channel, 0..1, as the network was trained.
        std: As ``mean``.
        device: Where the network is.
        scale: Frames are resized by this factor for the network.
        tile: Side of tiles, a multiple of 32; 0 = whole frames. A
            ``DvosNetwork`` gives the same in tiles as over the whole.
        overlap: By how much the tiles of other networks overlap and fade into
            each other, a multiple of 32.
        threshold: Probability from which a pixel is object.
        flips: Whether to average over the four mirror images.
        view_scales: Factors, beside ``scale``, of the sizes averaged over.
        batch: Frames the network takes at once.
        autocast: Type of mixed precision; None = float32.
    """

    def __init__(
        self,
        network: StreamingNetwork,
        *,
        references: int,
        interval: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        scale: float = 1.0,
        tile: int = 0,
        overlap: int = 0,
        threshold: float = 0.5,
        flips: bool = False,
        view_scales: Sequence[float] = (1.0,),
        batch: int = 1,
        autocast: torch.dtype | None = None,
    ) -> None:
        if references < 0 or interval < 1 or batch < 1:
            raise ValueError("references must be at least 0, interval and batch at least 1")
        if not view_scales or min(view_scales) <= 0:
            raise ValueError("there must be a view scale, and each above 0")
        if tile and isinstance(network, DvosNetwork):
            network, tile = TiledDvosNetwork(network, tile), 0
        self._network = network
        self._references = references
        self._interval = interval
        self._mean = torch.tensor(mean, dtype=torch.float32, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32, device=device).view(1, 3, 1, 1)
        self._device = device
        self._scale = scale
        self._view_scales = tuple(view_scales)
        self._tile = tile
        self._overlap = overlap
        self._threshold = threshold
        self._flips = _FLIPS if flips else _FLIPS[:1]
        self._batch = batch
        self._autocast = autocast

    @property
    def context(self) -> int:
        """How many frames before a frame its mask depends on."""
        return self._references * self._interval

    def segment(self, video_or_frames: Frames, *, start: int = 0) -> Iterator[FramePrediction]:
        """See :meth:`Predictor.segment`."""
        # Batches lie at fixed places in the video, so that a run that begins
        # in the middle feeds the network the very same batches.
        decoded_from = start - start % self._batch
        first = max(0, decoded_from - self.context)
        first -= first % self._batch
        frames = self._prepare(checked_frames(open_frames(video_or_frames), start=first))
        stream: _Stream | None = None
        # Closed here, not by chance: the reader's thread ends with this generator.
        with closing(read_ahead(frames, depth=self._batch + 2)) as prepared:
            for batch in self._batches(prepared):
                if stream is None:
                    stream = self._open_stream(batch[0])
                for one, small in self._probabilities(stream, batch, decoded_from):
                    if one.frame.frame_index >= start:
                        yield self._prediction(one.frame, small)

    def _prepare(self, frames: Iterator[VideoFrame]) -> Iterator[_Prepared]:
        """Resize for each view; runs in the reader's thread."""
        for frame in frames:
            scales = (self._scale * factor for factor in self._view_scales)
            yield _Prepared(frame, [resized(frame.image, scale) for scale in scales])

    def _batches(self, prepared: Iterator[_Prepared]) -> Iterator[list[_Prepared]]:
        batch: list[_Prepared] = []
        for one in prepared:
            place = one.frame.frame_index // self._batch
            if batch and batch[0].frame.frame_index // self._batch != place:
                yield batch
                batch = []
            batch.append(one)
            if one.frame.frame_index % self._batch == self._batch - 1:
                yield batch
                batch = []
        if batch:
            yield batch

    def _open_stream(self, first: _Prepared) -> _Stream:
        height, width = first.frame.image.shape[:2]
        views = []
        for pixels in first.pixels:
            view = (pixels.shape[0], pixels.shape[1])
            tiles = tile_grid(view, self._tile, self._overlap)
            weights = [
                torch.from_numpy(tile_weight(tile, view, self._overlap)).to(self._device)
                for tile in tiles
            ]
            rings = [FeatureRing() for _ in range(len(tiles) * len(self._flips))]
            views.append(_View(view, tiles, weights, rings))
        return _Stream(_scaled_size(height, width, self._scale), views)

    def _probabilities(
        self, stream: _Stream, batch: list[_Prepared], start: int
    ) -> list[tuple[_Prepared, NDArray[np.float32]]]:
        """Probabilities (H, W), at the network's size, of the batch's frames from ``start`` on."""
        try:
            found = self._run(stream, batch, start)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            height, width = stream.size
            raise RunError.at(
                f"frames of {width} x {height} pixels",
                f"memory ran out on {self._device}",
                remedy="predict with --tile 512, a smaller --batch or a --scale below 1",
            ) from error
        queries = (one for one in batch if one.frame.frame_index >= start)
        return list(zip(queries, found, strict=True))

    @torch.inference_mode()
    def _run(self, stream: _Stream, batch: list[_Prepared], start: int) -> NDArray[np.float32]:
        indices = [one.frame.frame_index for one in batch]
        queries = [index for index in indices if index >= start]
        found = []
        for place, view in enumerate(stream.views):
            pixels = np.stack([one.pixels[place] for one in batch])
            mean = self._average(view, pixels, indices, queries)
            if queries and view.size != stream.size:
                mean = F.interpolate(mean[:, None], stream.size, mode="bilinear")[:, 0]
            found.append(mean)
        if len(found) == 1:
            return np.asarray(found[0].cpu().numpy())
        if not queries:
            return np.zeros((0, *stream.size), np.float32)
        return np.asarray(torch.stack(found).mean(0).cpu().numpy())

    def _average(
        self, view: _View, pixels: NDArray[np.uint8], indices: list[int], queries: list[int]
    ) -> Tensor:
        """Probabilities (B, H, W) of the queries in a view, over its tiles and mirror images."""
        # (B, H, W, 3) bytes to (B, 3, H, W) as the network was trained on.
        moved = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2)
        frames = (moved.float() / 255.0 - self._mean) / self._std
        total = torch.zeros((len(queries), *view.size), device=self._device)
        weight = torch.zeros(view.size, device=self._device)
        rings = iter(view.rings)
        for tile, tile_weights in zip(view.tiles, view.weights, strict=True):
            rows = slice(tile.top, tile.top + tile.height)
            columns = slice(tile.left, tile.left + tile.width)
            weight[rows, columns] += tile_weights * len(self._flips)
            part = frames[..., rows, columns]
            for flip in self._flips:
                mirrored = part.flip(flip) if flip else part
                found = self._segment_view(next(rings), mirrored, indices, queries)
                if queries:
                    upright = found.flip(flip) if flip else found
                    total[:, rows, columns] += upright[:, 0] * tile_weights
        return total / weight

    def _segment_view(
        self, ring: FeatureRing, view: Tensor, indices: list[int], queries: list[int]
    ) -> Tensor:
        """Probabilities (B, 1, H, W) of the queries among a batch of tiles (B, 3, H, W)."""
        with torch.autocast(
            self._device.type, dtype=self._autocast, enabled=self._autocast is not None
        ):
            ring.add(indices, self._network.encode(view))
            if not queries:
                return view[:0, :1]
            windows = [self._window(query) for query in queries]
            size = (view.shape[-2], view.shape[-1])
            logits = self._network.decode(ring.windows(windows), size, reconstruct=False)
        ring.drop_before(indices[-1] + 1 - self.context)
        return logits.mask_logits.float().sigmoid()

    def _window(self, query: int) -> list[int]:
        """Frame indices of the references, oldest first, and the query."""
        return [query - step * self._interval for step in range(self._references, -1, -1)]

    def _prediction(self, frame: VideoFrame, small: NDArray[np.float32]) -> FramePrediction:
        height, width = frame.image.shape[:2]
        probability = small
        if small.shape != (height, width):
            resized = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
            probability = np.asarray(resized, np.float32)
        return FramePrediction(
            frame_index=frame.frame_index,
            time_s=frame.time_s,
            name=frame.name,
            image=frame.image,
            probability=probability,
            mask=probability >= self._threshold,
        )


@dataclass(frozen=True, eq=False)
class _View:
    """One size of a video: its tiles, and features for each tile and mirror image."""

    size: tuple[int, int]
    tiles: list[Tile]
    weights: list[Tensor]
    rings: list[FeatureRing]


@dataclass(frozen=True, eq=False)
class _Stream:
    """What is kept for one video: the size its views are averaged at, and the views."""

    size: tuple[int, int]
    views: list[_View]


def _scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    return max(1, round(height * scale)), max(1, round(width * scale))

"""Segmenting a stream of frames with a network that looks back at references.

Each frame is encoded once; its features wait in memory until no later frame
refers to them. Memory does not grow with the length of the video.

Tensor letters: B frames of a batch, T frames of a window (references, then the
query), C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvos.errors import MediaError, RunError
from dvos.media.video import FrameSource, VideoFrame, open_frames
from dvos.prediction.predictor import FramePrediction, Frames
from dvos.prediction.prefetch import read_ahead
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
    """A frame and what of it the network sees, uint8 (H, W, 3)."""

    frame: VideoFrame
    pixels: NDArray[np.uint8]


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
        tile: Side of tiles, a multiple of 32; 0 = whole frames.
        overlap: By how much tiles overlap, a multiple of 32.
        threshold: Probability from which a pixel is object.
        flips: Whether to average over the four mirror images.
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
        batch: int = 1,
        autocast: torch.dtype | None = None,
    ) -> None:
        if references < 0 or interval < 1 or batch < 1:
            raise ValueError("references must be at least 0, interval and batch at least 1")
        self._network = network
        self._references = references
        self._interval = interval
        self._mean = torch.tensor(mean, dtype=torch.float32, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32, device=device).view(1, 3, 1, 1)
        self._device = device
        self._scale = scale
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
        frames = self._prepare(_frames_from(video_or_frames, first))
        stream: _Stream | None = None
        # Closed here, not by chance: the reader's thread ends with this generator.
        with closing(read_ahead(frames, depth=self._batch + 2)) as prepared:
            for batch in self._batches(prepared):
                if stream is None:
                    stream = self._open_stream(batch[0].pixels.shape)
                for one, small in self._probabilities(stream, batch, decoded_from):
                    if one.frame.frame_index >= start:
                        yield self._prediction(one.frame, small)

    def _prepare(self, frames: Iterator[VideoFrame]) -> Iterator[_Prepared]:
        """Check and resize; runs in the reader's thread."""
        shape: tuple[int, ...] | None = None
        for frame in frames:
            image = frame.image
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise MediaError.at(
                    f"frame {frame.frame_index}",
                    f"has shape {image.shape} and type {image.dtype}",
                    "uint8 RGB (height, width, 3)",
                )
            shape = shape or image.shape
            if image.shape != shape:
                raise MediaError.at(
                    f"frame {frame.name}",
                    f"is {image.shape[1]} x {image.shape[0]} pixels",
                    f"{shape[1]} x {shape[0]}, as the clip begins",
                    "predict frames of different sizes as clips of their own",
                )
            yield _Prepared(frame, _resized(image, self._scale))

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

    def _open_stream(self, shape: tuple[int, ...]) -> _Stream:
        size = (shape[0], shape[1])
        tiles = tile_grid(size, self._tile, self._overlap)
        return _Stream(
            size=size,
            tiles=tiles,
            weights=[
                torch.from_numpy(tile_weight(tile, size, self._overlap)).to(self._device)
                for tile in tiles
            ],
            rings=[_Ring() for _ in range(len(tiles) * len(self._flips))],
        )

    def _probabilities(
        self, stream: _Stream, batch: list[_Prepared], start: int
    ) -> list[tuple[_Prepared, NDArray[np.float32]]]:
        """Probabilities (H, W), at the network's size, of the batch's frames from ``start`` on."""
        try:
            found = self._run(stream, batch, start)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
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
        pixels = torch.from_numpy(np.stack([one.pixels for one in batch])).to(self._device)
        # (B, H, W, 3) bytes to (B, 3, H, W) as the network was trained on.
        frames = (pixels.permute(0, 3, 1, 2).float() / 255.0 - self._mean) / self._std
        indices = [one.frame.frame_index for one in batch]
        queries = [index for index in indices if index >= start]
        total = torch.zeros((len(queries), *stream.size), device=self._device)
        weight = torch.zeros(stream.size, device=self._device)
        rings = iter(stream.rings)
        for tile, tile_weights in zip(stream.tiles, stream.weights, strict=True):
            rows = slice(tile.top, tile.top + tile.height)
            columns = slice(tile.left, tile.left + tile.width)
            weight[rows, columns] += tile_weights * len(self._flips)
            for flip in self._flips:
                view = frames[..., rows, columns].flip(flip) if flip else frames[..., rows, columns]
                found = self._segment_view(next(rings), view, indices, queries)
                if queries:
                    upright = found.flip(flip) if flip else found
                    total[:, rows, columns] += upright[:, 0] * tile_weights
        return (total / weight).cpu().numpy()

    def _segment_view(
        self, ring: _Ring, view: Tensor, indices: list[int], queries: list[int]
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


class _Ring:
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
        # T times the maps of the B windows' frames at that step.
        steps = list(zip(*chosen, strict=True))
        return [
            [_batched([maps[scale] for maps in step]) for step in steps]
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


@dataclass(frozen=True, eq=False)
class _Stream:
    """What is kept for one video: its tiles, and features for each tile and mirror image."""

    size: tuple[int, int]
    tiles: list[Tile]
    weights: list[Tensor]
    rings: list[_Ring]


def _batched(maps: list[Tensor]) -> Tensor:
    """Maps (1, C, h, w) as one; a single one is not copied."""
    return maps[0] if len(maps) == 1 else torch.cat(maps)


def _frames_from(video_or_frames: Frames, first: int) -> Iterator[VideoFrame]:
    if isinstance(video_or_frames, str | Path):
        return open_frames(Path(video_or_frames)).frames(first)
    if isinstance(video_or_frames, FrameSource):
        return video_or_frames.frames(first)
    return _numbered(video_or_frames, first)


def _numbered(images: Iterable[NDArray[np.uint8]], first: int) -> Iterator[VideoFrame]:
    for index, image in islice(enumerate(images), first, None):
        yield VideoFrame(index, math.nan, f"{index:06d}", np.asarray(image))


def _resized(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale == 1.0:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def _is_out_of_memory(error: BaseException) -> bool:
    # On a CPU torch raises a plain RuntimeError that only its text tells apart.
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in text

"""Following the objects of a first mask through a video, behind the common protocol.

Tensor letters: N objects, H and W of a frame, h and w of what the network sees.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dvos.errors import RunError
from dvos.media.frames import Frames, FrameSource, checked_frames, open_frames, read_ahead
from dvos.media.image import resized
from dvos.media.video import VideoFrame
from dvos.networks.xmem.engine import XMemEngine
from dvos.networks.xmem.memory import MemorySettings
from dvos.networks.xmem.network import XMem
from dvos.prediction.exhaustion import is_out_of_memory
from dvos.prediction.objects import ObjectKnowledge
from dvos.prediction.predictor import FramePrediction
from dvos.prediction.xmem.first_masks import FirstMasks, MaskTree
from dvos.prediction.xmem.fitting import fit_memory, memory_bytes

__all__ = ["XMemPredictor"]

_log = logging.getLogger(__name__)

_STRIDE = 16
#: Planes brought to the size of the frame at once.
_PLANES_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A frame, what of it the network sees (h, w, 3), and ids (h, w) given with it."""

    frame: VideoFrame
    pixels: NDArray[np.uint8]
    given: NDArray[np.uint16] | None


class XMemPredictor:
    """Keeps to :class:`~dvos.prediction.predictor.Predictor`.

    Frames before the first mask have an empty one. ``probability`` is that of
    any object, so that ``mask`` is the union of all.

    Args:
        network: In evaluation mode, on ``device``.
        first_masks: Where the masks that a clip starts from come from.
        mean: Of each colour channel, 0..1, as the network was trained.
        std: As ``mean``.
        device: Where the network is.
        memory: How much is remembered.
        memory_limit: Bytes for the memories.
        size: Shorter side that larger frames are reduced to; 0 = none.
        scale: Factor by which frames are resized for the network, instead of
            ``size``; None = by ``size``.
        threshold: Probability from which a pixel is object.
        corrects: Whether later masks correct known objects, too; else they
            start new ones only.
        objects_at_once: Objects the network takes at once.
        autocast: Type of mixed precision; None = float32.
        knowledge: See the protocol.
    """

    def __init__(
        self,
        network: XMem,
        *,
        first_masks: FirstMasks | MaskTree,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        memory: MemorySettings,
        memory_limit: int,
        size: int = 384,
        scale: float | None = None,
        threshold: float = 0.5,
        corrects: bool = False,
        objects_at_once: int = 8,
        autocast: torch.dtype | None = None,
        knowledge: ObjectKnowledge | None = None,
    ) -> None:
        self.first_masks = first_masks
        self.knowledge = knowledge or ObjectKnowledge()
        self._network = network
        self._mean = torch.tensor(mean, dtype=torch.float32, device=device).view(3, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32, device=device).view(3, 1, 1)
        self._device = device
        self._memory = memory
        self._memory_limit = memory_limit
        self._size = size
        self._scale = scale
        self._threshold = threshold
        self._corrects = corrects
        self._objects_at_once = objects_at_once
        self._autocast = autocast

    @property
    def context(self) -> int:
        """All frames before a frame: its mask depends on everything since the first mask."""
        return sys.maxsize

    def segment(self, video_or_frames: Frames, *, start: int = 0) -> Iterator[FramePrediction]:
        """See the protocol.

        With ``start`` above 0 the frames before it are followed again, as
        what is remembered of them decides about those after it: the masks
        are the very same, for the time of an unbroken run.

        Raises:
            MediaError: Also if a first mask is missing, empty, or does not fit.
        """
        source = open_frames(video_or_frames)
        masks = self._masks_of(source)
        stream = _Stream(self._new_engine(), self._memory_limit)
        with closing(read_ahead(self._prepare(checked_frames(source), masks), depth=3)) as frames:
            for one in frames:
                small = self._step(stream, one)
                if one.frame.frame_index >= start:
                    yield self._prediction(one.frame, small, stream.engine.object_ids)

    def _masks_of(self, source: FrameSource | Iterable[NDArray[np.uint8]]) -> FirstMasks:
        if not isinstance(self.first_masks, MaskTree):
            return self.first_masks
        if not isinstance(source, FrameSource):
            return self.first_masks.of_clip("", ())
        paths: Sequence[Path] | None = getattr(source, "paths", None)
        names = None if paths is None else [path.stem for path in paths]
        return self.first_masks.of_clip(source.name, names)

    def _new_engine(self) -> XMemEngine:
        return XMemEngine(
            self._network, settings=self._memory, objects_at_once=self._objects_at_once
        )

    def _prepare(self, frames: Iterator[VideoFrame], masks: FirstMasks) -> Iterator[_Prepared]:
        """Resize, and read the masks given; runs in the reader's thread."""
        reader = masks.begin()
        frame = None
        for frame in frames:
            pixels = resized(frame.image, self._factor(frame.image.shape[:2]))
            ids = reader.read(frame)
            yield _Prepared(frame, pixels, None if ids is None else _at_size(ids, pixels, frame))
        if frame is not None:
            reader.end()

    def _factor(self, size: tuple[int, ...]) -> float:
        if self._scale is not None:
            return self._scale
        return min(1.0, self._size / min(size)) if self._size else 1.0

    def _step(self, stream: _Stream, one: _Prepared) -> Tensor:
        """Probabilities (N + 1, h, w) of a frame, background first."""
        mask, ids = self._planes(stream.engine, one)
        height, width = one.pixels.shape[:2]
        try:
            if ids:
                new = sum(name not in stream.engine.object_ids for name in ids)
                area = -(-height // _STRIDE) * -(-width // _STRIDE)
                stream.make_room(self._memory, new, area, self._object_bytes)
            pixels = torch.from_numpy(one.pixels).to(self._device)
            # (h, w, 3) bytes to (3, h, w) as the network was trained on.
            frame = (pixels.permute(2, 0, 1).float() / 255.0 - self._mean) / self._std
            with (
                torch.inference_mode(),
                torch.autocast(
                    self._device.type, dtype=self._autocast, enabled=self._autocast is not None
                ),
            ):
                return stream.engine.step(frame, mask, ids)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            count = len(stream.engine.object_ids)
            raise RunError.at(
                f"frames of {width} x {height} pixels with {count} objects",
                f"memory ran out on {self._device}",
                remedy="lower xmem.size, xmem.memory_limit or xmem.objects_at_once, or set"
                " xmem.objects=union",
            ) from error

    @property
    def _object_bytes(self) -> int:
        """Of an object's value at one element of memory."""
        return self._network.value_dim * (4 if self._autocast is None else 2)

    def _planes(self, engine: XMemEngine, one: _Prepared) -> tuple[Tensor | None, list[int] | None]:
        """Masks (N, h, w) and ids of the objects that a frame gives, as far as they are used."""
        if one.given is None:
            return None, None
        ids = [int(name) for name in np.unique(one.given) if name]
        if not self._corrects:
            ids = [name for name in ids if name not in engine.object_ids]
        if not ids:
            return None, None
        names = np.array(ids, np.uint16)[:, None, None]
        return torch.from_numpy(one.given == names).to(self._device), ids

    def _prediction(
        self, frame: VideoFrame, small: Tensor, object_ids: Sequence[int]
    ) -> FramePrediction:
        size = (frame.image.shape[0], frame.image.shape[1])
        probability = 1 - _at_full_size(small[:1], size)[0]
        mask = probability >= self._threshold
        best = _likeliest(small[1:], size)
        ids = torch.tensor([0, *object_ids], dtype=torch.int32, device=self._device)
        instances = torch.where(mask, ids[best + 1], 0)
        return FramePrediction(
            frame_index=frame.frame_index,
            time_s=frame.time_s,
            name=frame.name,
            image=frame.image,
            probability=probability.cpu().numpy(),
            mask=mask.cpu().numpy(),
            instances=instances.cpu().numpy().astype(np.uint16),
        )


class _Stream:
    """The state of one pass over a video."""

    def __init__(self, engine: XMemEngine, memory_limit: int) -> None:
        self.engine = engine
        self._left = memory_limit

    def make_room(
        self, settings: MemorySettings, objects: int, area: int, object_bytes: int
    ) -> None:
        """Let the memories of objects that come now fit into what is left of the limit.

        Raises:
            RunError: If there is no room for them.
        """
        if not objects:
            return
        fitted = fit_memory(
            settings, objects=objects, area=area, object_bytes=object_bytes, limit=self._left
        )
        if fitted != settings:
            _log.warning(
                "%d objects: %d to %d frames in working memory and %d elements in long-term memory"
                " fit xmem.memory_limit (%d to %d and %d asked for)",
                objects,
                fitted.min_mid_term_frames,
                fitted.max_mid_term_frames,
                fitted.long_term_max,
                settings.min_mid_term_frames,
                settings.max_mid_term_frames,
                settings.long_term_max,
            )
        if settings.long_term:
            self._left -= memory_bytes(
                fitted, objects=objects, area=area, object_bytes=object_bytes
            )
        # Of memories that are still to come; those there are keep their own.
        self.engine.settings = fitted


def _at_size(
    ids: NDArray[np.uint16], pixels: NDArray[np.uint8], frame: VideoFrame
) -> NDArray[np.uint16]:
    """Ids at the size of the network's frame."""
    height, width = pixels.shape[:2]
    if ids.shape == (height, width):
        return ids
    small = cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    lost = len(np.unique(ids)) - len(np.unique(small))
    if lost > 0:
        _log.warning(
            "frame %s: %d objects of its mask vanish at %d x %d pixels and are not followed;"
            " raise xmem.size",
            frame.name,
            lost,
            width,
            height,
        )
    return np.asarray(small, np.uint16)


def _at_full_size(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Planes (N, h, w) at another size, (N, H, W)."""
    if tuple(planes.shape[1:]) == size:
        return planes
    return F.interpolate(planes[None], size, mode="bilinear", align_corners=False)[0]


def _likeliest(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Place (H, W) of the likeliest of N objects (N, h, w), a few of them at a time.

    -1 where there is no object at all.
    """
    if len(planes) < 2:
        return torch.full(size, len(planes) - 1, device=planes.device)
    best = planes.new_full(size, -1.0)
    place = torch.zeros(size, dtype=torch.int64, device=planes.device)
    for first in range(0, len(planes), _PLANES_AT_ONCE):
        highest, where = _at_full_size(planes[first : first + _PLANES_AT_ONCE], size).max(0)
        better = highest > best
        best = torch.where(better, highest, best)
        place = torch.where(better, where + first, place)
    return place

"""Following the objects of a first mask through a video with XMem.

Tensor letters: N objects, H and W of a frame, h and w of what the network sees.
"""

import copy
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvos.config.prediction import PredictorOptions
from dvos.errors import RunError, UsageError
from dvos.media.frames import Frames, FrameSource, checked_frames, open_frames, read_ahead
from dvos.media.image import resized
from dvos.media.layout import IMAGE_SUFFIXES
from dvos.media.video import VideoFrame
from dvos.networks.xmem.engine import XMemEngine
from dvos.networks.xmem.memory import MemorySettings
from dvos.networks.xmem.network import XMem
from dvos.prediction.calibration import CountCalibration, read_calibration
from dvos.prediction.first_masks import FirstMasks, Ids, MaskRules, MaskTree, first_masks
from dvos.prediction.flows import enlarged
from dvos.prediction.inputs import ClipInput
from dvos.prediction.network import LoadedNetwork
from dvos.prediction.predictor import FirstMask, FramePrediction, Predictor, Views, thinned
from dvos.tables import frame_stem

_log = logging.getLogger(__name__)

_STRIDE = 16
#: Planes brought to the size of the frame at once; on a device as many as take 256 MB.
_PLANES_AT_ONCE, _PIXELS_AT_ONCE = 8, 1 << 26
_SLACK = 1.25  # buffers grow by a quarter at a time, so that up to this much lies idle
_WORKING_SHARE = 0.75  # of what fits, the share left to working memory where both must shrink
_LEAST_WORKING = 2


class _Prepared(NamedTuple):
    """A frame, what of it the network sees (h, w, 3), and ids (h, w) given with it."""

    frame: VideoFrame
    pixels: NDArray[np.uint8]
    given: Ids | None


class XMemPredictor:
    """A :class:`~dvos.prediction.predictor.Predictor` of an XMem.

    Frames before the first mask have an empty one. ``probability`` is that of any object. The
    network becomes part of the predictor and is of no other use afterwards; a ``scale`` other than
    1 takes the place of ``xmem.size``; ``finder`` finds the first mask where that is auto.
    """

    #: All frames before a frame: its mask depends on everything since the first mask.
    context = sys.maxsize
    tells_apart = False  # a first mask may hold all objects as one

    def __init__(
        self,
        loaded: LoadedNetwork,
        options: PredictorOptions,
        first_mask: FirstMask | None,
        finder: Predictor | None = None,
    ) -> None:
        for name, is_asked, expected, remedy in (
            ("tile", options.tile, "0, as XMem sees whole frames", "set xmem.size instead"),
            ("augment", options.augment != "none", "none, as XMem has no such views", ""),
            ("compile", options.compile == "on", "auto or off, as XMem is not compiled", ""),
        ):
            if is_asked:
                raise UsageError.at(name, f"is {getattr(options, name)!r}", expected, remedy)
        if first_mask is None:
            found = "is XMem, which follows the objects of a first mask, and none is given"
            expected = "--first-mask with a mask, a folder of masks, or auto"
            remedy = "give it, or predict with a checkpoint of the network 'dvos' or 'paper'"
            raise UsageError.at(loaded.path, found, expected, remedy)
        rules = MaskRules(options.xmem, loaded.network.single_object, options.void)
        self._first_masks = first_masks(first_mask, finder, rules)
        # Of the size of objects nothing is known: frames come at many scales.
        self.calibration = CountCalibration(scaling=read_calibration(loaded.extra).scaling)
        self.intensity = loaded.intensity(options)
        # The published network was trained in float16, and keys need digits more than a range.
        half = options.precision == "auto" and loaded.device.type == "cuda"
        self._precision = torch.float16 if half else loaded.mixed_precision(options)
        self._network: XMem = loaded.network.for_inference(consume=True, precision=self._precision)
        self._loaded, self._options = loaded, loaded.at_own_scale(options)
        names = {field.name for field in fields(MemorySettings)}
        self._memory = MemorySettings(**options.xmem.model_dump(include=names))

    def segment(self, video_or_frames: Frames, *, start: int = 0) -> Iterator[FramePrediction]:
        """Segment frame after frame; see :class:`~dvos.prediction.predictor.Predictor`.

        Frames before ``start`` are followed again: later ones hang on what is remembered of them.
        """
        source = open_frames(video_or_frames, self.intensity)
        masks = self._first_masks
        if isinstance(masks, MaskTree):
            name, names = "", cast("list[str] | None", [])
            if isinstance(source, FrameSource):
                paths: Sequence[Path] | None = getattr(source, "paths", None)
                name = source.name
                names = None if paths is None else [frame_stem(path) for path in paths]
            masks = masks.of_clip(name, names)
        limit, at_once = self._options.xmem.memory_limit, self._options.xmem.objects_at_once
        engine = XMemEngine(self._network, settings=self._memory, objects_at_once=at_once)
        stream = _Stream(engine, round(limit * 1e9))
        wanted = thinned(checked_frames(source), self._options.every)
        with closing(read_ahead(self._prepare(wanted, masks), depth=3)) as frames:
            for one in frames:
                small = self._step(stream, one)
                if one.frame.frame_index >= start:
                    yield self._prediction(one.frame, small, stream.engine.object_ids)

    def segment_views(
        self, video_or_frames: Frames, views: Views, *, start: int = 0
    ) -> Iterator[FramePrediction]:
        """Refused, always by a UsageError."""
        del video_or_frames, start
        raise UsageError.at("views", f"are {views}", "none, as XMem has no such views")

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """The mask files that the clip is started from, once it is known."""
        return () if isinstance(self._first_masks, MaskTree) else self._first_masks.files

    def of_clip(self, clip: ClipInput, *, alone: bool) -> "XMemPredictor":
        """The predictor of one clip; see :class:`~dvos.prediction.predictor.StartsFromMasks`."""
        if clip.still:
            found = "is true, and XMem follows objects through frames"
            remedy = "predict photos with a checkpoint of the network 'dvos' or 'paper'"
            raise UsageError.at("stills", found, "false", remedy)
        own = copy.copy(self)
        if isinstance(self._first_masks, MaskTree):
            are_images = all(path.suffix.lower() in IMAGE_SUFFIXES for path in clip.files)
            names = [frame_stem(path) for path in clip.files] if are_images else None
            masks = self._first_masks.of_clip(clip.name, names, alone=alone)
            masks.check(clip.open().size)
            own._first_masks = masks
        return own

    def _prepare(self, frames: Iterator[VideoFrame], masks: FirstMasks) -> Iterator[_Prepared]:
        """Resize, and read the masks given; runs in the reader's thread."""
        scale, shorter = self._options.scale, self._options.xmem.size
        for frame, ids in masks.along(frames):
            factor = scale
            if scale == 1.0 and shorter:
                factor = min(1.0, shorter / min(frame.image.shape[:2]))
            pixels = resized(frame.image, factor)
            yield _Prepared(frame, pixels, None if ids is None else _at_size(ids, pixels, frame))

    def _step(self, stream: "_Stream", one: _Prepared) -> Tensor:
        """Probabilities (N + 1, h, w) of a frame, background first."""
        mask, ids = self._planes(stream.engine, one)
        height, width = one.pixels.shape[:2]
        known = {*stream.engine.object_ids, *(ids or ())}
        with self._loaded.out_of_memory(
            f"frames of {width} x {height} pixels with {len(known)} objects",
            "lower xmem.size, xmem.memory_limit or xmem.objects_at_once, or set xmem.objects=union",
        ):
            if ids:
                area = -(-height // _STRIDE) * -(-width // _STRIDE)
                size = self._network.value_dim * (2 if self._precision else 4)
                new = len(known) - len(stream.engine.object_ids)
                stream.make_room(self._memory, ObjectMemory(new, area, size))
            frame = self._loaded.normalised(one.pixels)
            with torch.inference_mode():
                return stream.engine.step(frame, mask, ids)

    def _planes(self, engine: XMemEngine, one: _Prepared) -> tuple[Tensor | None, list[int] | None]:
        """Masks (N, h, w) and ids of the objects that a frame gives, as far as they are used."""
        if one.given is None:
            return None, None
        ids = [int(name) for name in np.unique(one.given) if name]
        if self._options.xmem.frames != "all":
            ids = [name for name in ids if name not in engine.object_ids]
        if not ids:
            return None, None
        # One map of ids goes to the device, not a mask of each object.
        device = self._loaded.device
        given = torch.from_numpy(one.given.astype(np.int32)).to(device)
        return given == torch.tensor(ids, dtype=torch.int32, device=device)[:, None, None], ids

    def _prediction(
        self, frame: VideoFrame, small: Tensor, object_ids: Sequence[int]
    ) -> FramePrediction:
        size = (frame.image.shape[0], frame.image.shape[1])
        probability = 1 - enlarged(small[:1], size)[0]
        mask, best = probability >= self._options.threshold, _likeliest(small[1:], size)
        places = torch.where(mask, best + 1, 0).int().cpu().numpy()
        found = probability.cpu().numpy()
        if np.isnan(found.sum()):
            told = f"the network's values leave the range of {self._precision or torch.float32}"
            remedy = "set precision=bfloat16 or float32"
            raise RunError.at(f"frame {frame.name}", told, remedy=remedy)
        instances = np.array([0, *object_ids], np.uint16)[places]
        sure = found >= self._options.threshold
        return FramePrediction(**vars(frame), probability=found, mask=sure, instances=instances)


@dataclass(eq=False)
class _Stream:
    """The state of one pass over a video: the engine, and bytes left for further memories."""

    engine: XMemEngine
    left: int

    def make_room(self, settings: MemorySettings, needed: "ObjectMemory") -> None:
        """Let the memories of objects that come now fit into what is left, or raise a RunError."""
        if not needed.objects:
            return
        fitted = needed.fitted(settings, self.left)
        if fitted != settings:
            _log.warning(
                "%d objects: %d to %d frames in working memory and %d elements in long-term memory"
                " fit xmem.memory_limit (%d to %d and %d asked for)",
                needed.objects,
                *(fitted.min_mid_term_frames, fitted.max_mid_term_frames, fitted.long_term_max),
                *(settings.min_mid_term_frames, settings.max_mid_term_frames),
                settings.long_term_max,
            )
        if settings.long_term:
            self.left -= needed.bytes(fitted)
        # Of memories that are still to come; those there are keep their own.
        self.engine.settings = fitted


def _at_size(ids: Ids, pixels: NDArray[np.uint8], frame: VideoFrame) -> Ids:
    height, width = pixels.shape[:2]
    if ids.shape == (height, width):
        return ids
    small = cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    lost = len(np.unique(ids)) - len(np.unique(small))
    if lost > 0:
        _log.warning(
            "frame %s: %d objects of its mask vanish at %d x %d pixels and are not followed;"
            " raise xmem.size",
            *(frame.name, lost, width, height),
        )
    return np.asarray(small, np.uint16)


def _likeliest(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Place (H, W) of the likeliest of N objects (N, h, w), a few at a time; -1 where none is."""
    if len(planes) < 2:
        return torch.full(size, len(planes) - 1, device=planes.device)
    room = 0 if planes.is_cpu else _PIXELS_AT_ONCE // (size[0] * size[1])
    at_once = max(_PLANES_AT_ONCE, room)
    best = planes.new_full(size, -1.0)
    place = torch.zeros(size, dtype=torch.int64, device=planes.device)
    for first in range(0, len(planes), at_once):
        highest, where = enlarged(planes[first : first + at_once], size).max(0)
        better = highest > best
        best = torch.where(better, highest, best)
        place = torch.where(better, where + first, place)
    return place


class ObjectMemory(NamedTuple):
    """What is remembered of some objects."""

    objects: int
    area: int  # elements of a frame: its pixels at stride 16
    object_bytes: int  # of an element, for each object

    def bytes(self, settings: MemorySettings) -> int:
        """Bytes that full memories take, with long-term memory."""
        elements = settings.max_mid_term_frames * self.area + settings.long_term_max
        return round(_SLACK * elements * self.objects * self.object_bytes)

    def fitted(self, settings: MemorySettings, limit: int) -> MemorySettings:
        """Shorten memories so that they take at most ``limit`` bytes, or raise a RunError.

        Long-term memory gives way first, as far as four consolidations; then both share what there
        is. Without long-term memory nothing bounds the memories, and the settings stay as they are.
        """
        if not settings.long_term:
            return settings
        each = _SLACK * self.objects * self.object_bytes
        elements = int(limit / each)
        left = elements - settings.max_mid_term_frames * self.area
        if left >= settings.long_term_max:
            return settings
        if left >= 4 * settings.prototypes:
            return replace(settings, long_term_max=left)
        frames = int(min(_WORKING_SHARE * elements, elements - settings.prototypes) / self.area)
        working = min(settings.max_mid_term_frames, max(_LEAST_WORKING, frames))
        left = elements - working * self.area
        if left < settings.prototypes:
            least = _LEAST_WORKING * self.area + settings.prototypes
            needed, there = least * each / 1e9, limit / 1e9
            found = f"need {needed:.1f} GB of memory at least, and {there:.1f} GB are left"
            ways = "raise xmem.memory_limit, lower xmem.size or --scale, or set xmem.objects=union"
            raise RunError.at(f"{self.objects} objects", found, remedy=ways)
        return replace(
            settings,
            max_mid_term_frames=working,
            min_mid_term_frames=min(settings.min_mid_term_frames, working // 2),
            long_term_max=min(settings.long_term_max, left),
        )

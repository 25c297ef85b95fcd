"""Segmenting a stream of frames with a network that looks back at references.

Each frame is encoded once; its features wait until no later frame refers to them. A flow
(:mod:`dvos.prediction.flows`) makes frames ready for the views, and predictions of their finds.
"""

import copy
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dvos.config.prediction import PredictorOptions
from dvos.errors import CheckpointError, FaultCollector, MediaError, UsageError
from dvos.media import frames as media
from dvos.media.frames import Frames
from dvos.media.video import VideoFrame
from dvos.networks.devices import AtOnce
from dvos.networks.dvos.running import AcceleratedNetwork, TiledDvosNetwork
from dvos.networks.onnx_graph import load_onnx_network
from dvos.prediction.along_flow import averaged_along_flow
from dvos.prediction.calibration import read_calibration
from dvos.prediction.flows import HostFlow, Predictions, Prepared, flow_for, scaled_size
from dvos.prediction.network import LoadedNetwork
from dvos.prediction.predictor import FramePrediction, Views, thinned
from dvos.prediction.tiles import tile_sides
from dvos.prediction.views import FLIPS, Flips, Found, StreamingNetwork, View, WindowDecoder
from dvos.training.calibration import Novelty
from dvos.training.displacement import Displacement

#: Neighbours on either side of a frame that a network sees alone; cells deform over more of them.
_FLOW_FRAMES, _OF_CELLS = 4, 2
#: Frames of a batch on a GPU, whose sizes are not known beforehand; and at most.
_GPU_BATCH, _LARGEST_GPU_BATCH = 4, 16
_GPU_PIXELS = 2**23  # pixels of a batch that keep a GPU busy: four frames of 1920 x 1080
#: Sides of the tiles that are tried where a single frame does not fit into memory.
_SMALLER_TILES = (1024, 512, 256)
_BYTES_A_PIXEL = 1500  # bytes of its memory that a pixel takes, four times over: others use it too

#: Turns what was found in a batch's frames, in each view, into predictions.
_Finish = Callable[[list[VideoFrame], list[Found]], Predictions]


def dvos_predictor(loaded: LoadedNetwork, options: PredictorOptions) -> "StreamingPredictor":
    """Predict with a :class:`~dvos.networks.dvos.network.DvosNetwork`, whole frames or tiles."""
    network = loaded.network.for_inference()

    def features(frames: Tensor) -> Tensor:
        # On a GPU it may compute in half precision.
        found: Tensor = network.features(frames.to(next(network.parameters()).dtype))
        return found

    loaded = replace(loaded, features=features)
    cuda = loaded.device.type == "cuda"
    precise = loaded.mixed_precision(options) if cuda else None
    if cuda and options.precision == "auto":
        # Eight times as near to float32 as bfloat16; what lies beyond its range is found out.
        precise = torch.float16

    def tiled(side: int) -> StreamingNetwork:
        in_tiles = TiledDvosNetwork(network, side)
        return AcceleratedNetwork(in_tiles, precise, "off") if cuda else in_tiles

    side = tile_sides(options.tile)[0]
    smaller = {each: partial(tiled, each) for each in _SMALLER_TILES if not 0 < side <= each}
    if side:
        if options.compile == "on":
            raise UsageError.at("compile", "is on", "auto or off with tiles", "leave out one")
        options = options.model_copy(update={"tile": 0, "compile": "off"})
        return StreamingPredictor(replace(loaded, network=tiled(side)), options, smaller)
    plain: StreamingNetwork = network
    if cuda or options.compile == "on":
        plain = AcceleratedNetwork(network, precise, options.compile)
    return StreamingPredictor(replace(loaded, network=plain), options, smaller)


def onnx_predictor(path: Path, options: PredictorOptions) -> "StreamingPredictor":
    """Predict with an ONNX file, on the CPU, in float32; a UsageError if others are asked for."""
    remedy = "leave it at auto, or give the checkpoint that the file was converted from"
    with FaultCollector(UsageError) as faults:
        for name, only in (("device", "cpu"), ("precision", "float32")):
            value = getattr(options, name)
            if value not in ("auto", only):
                faults.add(name, f"is {value!r}", f"auto or {only} for {path.name}", remedy)
    network, info = load_onnx_network(path)
    loaded = LoadedNetwork(path, network, info.extra, torch.device("cpu"))
    return StreamingPredictor(loaded, options)


class StreamingPredictor:
    """A :class:`~dvos.prediction.predictor.Predictor` of a :class:`StreamingNetwork`.

    References that would lie before the first frame are replaced by the first frame, as in
    training; the very first frame is its own reference. ``smaller`` gives the same in less memory,
    by the side of its tiles, largest first: taken up where a single frame does not fit. Raises a
    CheckpointError if the network is no such one, a UsageError if it cannot be compiled as asked.
    """

    def __init__(
        self,
        loaded: LoadedNetwork,
        options: PredictorOptions,
        smaller: Mapping[int, Callable[[], StreamingNetwork]] = MappingProxyType({}),
    ) -> None:
        network, kind = loaded.network, type(loaded.network).__name__
        if not all(hasattr(network, name) for name in ("encode", "decode", "references")):
            expected = "one that encodes frames one by one, as 'dvos' and 'paper' do"
            remedy = "give a checkpoint written by dvos train, or of the published training"
            found = f"holds a network of the kind {kind}"
            raise CheckpointError.at(loaded.path, found, expected, remedy)
        if options.compile == "on" and not isinstance(network, AcceleratedNetwork):
            raise UsageError.at("compile", "is on", f"auto or off for a {kind}", "leave it out")
        if isinstance(network, nn.Module):
            # Convolutions are up to twice as fast with the channels of a pixel together.
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        options = loaded.at_own_scale(options)
        self._network: StreamingNetwork = network
        self._loaded, self._options = loaded, options
        stored = loaded.extra.get("reference_interval", 1)
        if not isinstance(stored, int) or stored < 1:
            found = f"has the reference_interval {stored!r}"
            raise CheckpointError.at(loaded.path, found, "a whole number from 1")
        # Of the frames that are left, those nearest to where references lie in training.
        given = options.reference_interval or stored
        interval = options.every * max(1, round(given / options.every))
        self._tiling = tile_sides(options.tile)
        self._smaller = dict(smaller)
        at_once = AtOnce(options.batch or _LARGEST_GPU_BATCH, "frames", self._take_smaller_tiles)
        self._decoder = WindowDecoder(network, interval, loaded.mixed_precision(options), at_once)
        self.context = network.references * interval
        alone = _OF_CELLS if loaded.extra.get("scene") == "cells" else _FLOW_FRAMES
        by_default = 0 if network.references else alone
        self._flow_frames = by_default if options.flow_frames == "auto" else options.flow_frames
        self.intensity = loaded.intensity(options)
        self.tells_apart = loaded.tells_apart
        self._displacement = Displacement.read(loaded.extra)
        self.calibration = read_calibration(loaded.extra).at_scale(options.scale)

    def novelty(self, image: NDArray[np.uint8]) -> float | None:
        """See :class:`~dvos.prediction.predictor.KnowsItsData`."""
        known, features = Novelty.read(self._loaded.extra), self._loaded.features
        if known is None or features is None:
            return None
        return known.ratio(features, self._loaded.normalised, image, self._options.scale)

    def at_scale(self, scale: float) -> "StreamingPredictor":
        """See :class:`~dvos.prediction.predictor.KnowsItsData`."""
        own = copy.copy(self)
        factor = self._options.scale * scale
        own._options = self._options.model_copy(update={"scale": factor})
        own.calibration = self.calibration.at_scale(scale)
        return own

    def segment(self, video_or_frames: Frames, *, start: int = 0) -> Iterator[FramePrediction]:
        """Segment frame after frame; see :class:`~dvos.prediction.predictor.Predictor`."""
        augment = self._options.augment
        flips = FLIPS["all" if "flips" in augment else "none"]
        scales = self._options.augment_scales if "scales" in augment else [1.0]
        flow = flow_for(self._loaded, self._options, scales)
        count = self._flow_frames
        first = max(0, start - count)
        predictions = self._predictions(video_or_frames, first, flow, [flips], flow.mean)
        return averaged_along_flow(predictions, count, start=start) if count else predictions

    def segment_views(
        self, video_or_frames: Frames, views: Views, *, start: int = 0
    ) -> Iterator[FramePrediction]:
        """Segment in several views; see :class:`~dvos.prediction.predictor.Predictor`."""
        flips = [(flip,) for flip in FLIPS[views.flips]]
        flow = flow_for(self._loaded, self._options, views.scales)
        return self._predictions(video_or_frames, start, flow, flips, flow.spread)

    def _predictions(
        self, source: Frames, start: int, flow: HostFlow, flips: Sequence[Flips], finish: _Finish
    ) -> Generator[FramePrediction, None, None]:
        stream = self._stream(source, start, flow, flips, finish)
        with closing(stream), closing(media.behind(stream, flow.behind)) as batches:
            for predictions in batches:
                yield from predictions

    def _stream(
        self, source: Frames, start: int, flow: HostFlow, flips: Sequence[Flips], finish: _Finish
    ) -> Generator[Predictions, None, None]:
        """Predictions of batch after batch from ``start`` on; scale and ``flips`` make a view."""
        opened = media.open_frames(source, self.intensity)
        size, every = self._batch_size(opened), self._options.every
        # Batches lie at fixed places in the video, so that a run that begins
        # in the middle feeds the network the very same batches.
        span = size * every
        decoded_from = start - start % span
        frames = _from_reference(opened, max(0, decoded_from - self.context), span, every)
        prepared = flow.prepared(_batches(frames, span, last=span - every))
        views: list[list[View]] = []
        # Closed here, not by chance: the reader's thread ends with this generator.
        with closing(media.read_ahead(prepared, depth=-(-(size + 2) // size))) as ready:
            for batch in ready:
                height, width = scaled_size(batch.frames[0].image.shape[:2], self._options.scale)
                with self._loaded.out_of_memory(
                    f"frames of {width} x {height} pixels",
                    "predict with --tile 512, a smaller --batch or a --scale below 1",
                ):
                    found = self._run(views, flips, batch, decoded_from)
                    queries = [one for one in batch.frames if one.frame_index >= start]
                    # All of a batch is computed, however few of its frames are wanted.
                    wanted = [each.last(len(queries)) for each in found]
                    made = finish(queries, wanted) if queries else None
                if made is not None:
                    yield made

    @torch.inference_mode()
    def _run(
        self, views: list[list[View]], flips: Sequence[Flips], batch: Prepared, start: int
    ) -> list[Found]:
        """What is found, in each view, in the batch's frames from ``start`` on.

        Features are forgotten when all views are done: after a fault the batch can be run again.
        """
        indices = [frame.frame_index for frame in batch.frames]
        queries = [index for index in indices if index >= start]
        found = []
        for place, frames in enumerate(batch.inputs()):
            size = (frames.shape[-2], frames.shape[-1])
            if place == len(views):
                device = self._loaded.device
                views.append([View.open(size, each, self._tiling, device) for each in flips])
            found += [self._decoder.segment(v, frames, indices, queries) for v in views[place]]
        if queries:
            for cache in (cache for scale in views for view in scale for cache in view.caches):
                cache.drop_before(indices[-1] + 1 - self.context)
        if self._displacement is None:
            return found
        height, width = batch.frames[0].image.shape[:2]
        x, y = self._displacement
        return [each.moved(x / width, y / height) for each in found]

    def _take_smaller_tiles(self) -> str | None:
        if not self._smaller:
            return None
        side = next(iter(self._smaller))
        self._network = self._decoder.network = self._smaller.pop(side)()
        return f"in tiles of {side} pixels"

    def _batch_size(self, source: media.AnyFrames) -> int:
        """Frames that the network takes at once; told the network too, with how many there are."""
        given, network, device = self._options.batch, self._network, self._loaded.device
        accelerated = network if isinstance(network, AcceleratedNetwork) else None
        if accelerated is None and (given or device.type != "cuda"):
            return given or 1
        size, count = _told(source)
        batch = given or _gpu_batch(size, self._options.scale, device)
        if accelerated and size is not None:
            count = -(-count // self._options.every)
            accelerated.expect(scaled_size(size, self._options.scale), batch, count)
        return batch


def _from_reference(
    source: media.AnyFrames, oldest: int, span: int, every: int
) -> Iterator[VideoFrame]:
    """The frames from the batch on that holds the ``oldest`` reference of a run.

    That is the frame itself, or, where it cannot be read, the one before it, as when the network
    has come from the beginning.
    """
    first = oldest - oldest % span
    while True:
        frames = thinned(media.checked_frames(source, start=first), every)
        frame = next(frames, None)
        if frame is None or frame.frame_index <= oldest or not first:
            break
        if not isinstance(source, media.FrameSource):
            break  # which has no frames that cannot be read, and may be gone through only once
        first = max(0, first - span)
    return frames if frame is None else chain([frame], frames)


def _told(source: media.AnyFrames) -> tuple[tuple[int, int] | None, int]:
    """(height, width) and number of frames; None and 0 where only reading them tells."""
    if isinstance(source, media.FrameSource):
        # What cannot be read is told of when its turn comes.
        with suppress(MediaError):
            return source.size, source.frame_count or 0
    elif isinstance(source, Sequence | np.ndarray) and len(source):
        first = source[0]
        shape = np.shape(first.image if isinstance(first, VideoFrame) else first)
        if len(shape) == 3:
            return (shape[0], shape[1]), len(source)
    return None, 0


def _gpu_batch(size: tuple[int, int] | None, scale: float, device: torch.device) -> int:
    """Frames of a (height, width) whose pixels keep a GPU busy and fit into its memory."""
    if device.type != "cuda":
        return 1
    if size is None:
        return _GPU_BATCH
    memory = torch.cuda.get_device_properties(device).total_memory
    height, width = scaled_size(size, scale)
    most = min(_GPU_PIXELS, memory // _BYTES_A_PIXEL) // (height * width)
    return int(min(max(1, most), _LARGEST_GPU_BATCH))


def _batches(frames: Iterator[VideoFrame], span: int, *, last: int) -> Iterator[list[VideoFrame]]:
    """The frames in each span of the video, as soon as the last of them is there."""
    batch: list[VideoFrame] = []
    try:
        for frame in frames:
            # A frame that cannot be read is missing: its batch ends with the last that is there.
            if batch and batch[0].frame_index // span != frame.frame_index // span:
                yield batch
                batch = []
            batch.append(frame)
            if frame.frame_index % span == last:
                yield batch
                batch = []
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch

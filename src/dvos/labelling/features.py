"""What a classifier that learns from clicks sees in a frame.

Two grids are laid over a frame: of stride 4, what an encoder sees, at the frame's size and at half
of it; and of stride 2, colours and their contrast. Each channel is standardised over the frame, so
that what was learnt in one light holds in another. A small frame is enlarged before; a large one
is looked at in parts, when somebody works there, and only the latest few are kept.

Importing this module loads no torch. Letters: C channels of the coarse grid, F of the fine one.
"""

import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from dvos.labelling.edits import Box
from dvos.prediction.features import FEATURE_STRIDE, FeatureReader
from dvos.prediction.tiles import Tile, tile_grid

if TYPE_CHECKING:
    from dvos.prediction.predictor import Predictor

Singles = NDArray[np.float32]
Pixels = NDArray[np.uint8]

#: Side of the parts that a large frame is looked at in, and what is seen beside them.
_PART_SIDE, _MARGIN = 1024, 64
_KEPT_PARTS = 4  # parts of a frame that are kept, some 120 MB each
#: Cells that tell what a frame looks like, and from how many parts of it they are at most.
_GROUND_CELLS, _GROUND_PARTS = 1000, 3
#: A frame of at most so many pixels is enlarged: an encoder sees little of small objects.
_SMALL, _ENLARGED = 560**2, 2
#: Deviations of the blurs that colours and contrasts are taken over, pixels.
_BLURS = (0.8, 2.0, 5.0)
_LEAST_STD = 1e-3
#: A checkpoint's probability is taken for no nearer to 0 or 1: clicks may say otherwise.
_SURE = 0.01


class LinearModel(NamedTuple):
    """The logit of object is ``features @ weights + bias``, and what a checkpoint tells."""

    weights: Singles
    bias: float

    @classmethod
    def blank(cls, features: int) -> Self:
        """One that knows nothing."""
        return cls(np.zeros(features, np.float32), 0.0)


@dataclass(frozen=True, eq=False)
class Part:
    """Features of a part of a frame."""

    box: Box  # in pixels of the frame
    stride: int  # pixels of the frame along a side of each cell
    cells: Singles  # (h, w, C + F), both grids at the stride
    fine: Singles  # (2 * h, 2 * w, F), the fine grid
    told: Singles | None = None  # (H, W), logit of object by a checkpoint, if there is one

    def cut(self, image: NDArray[Any]) -> NDArray[Any]:
        """This part of an array of the whole frame (H, W)."""
        top, left, bottom, right = self.box
        return image[top:bottom, left:right]

    def pooled(self, mask: NDArray[np.bool_] | Singles) -> Singles:
        """Mean over each cell of values (H, W) of this part, float32 (h, w)."""
        height, width = self.cells.shape[:2]
        whole = _filled_up(mask.astype(np.float32), height * self.stride, width * self.stride)
        return _resized(whole, (width, height))

    @cached_property
    def told_cells(self) -> Singles:
        """What a checkpoint tells of each cell, float32 (h, w); 0 without one."""
        if self.told is None:
            return np.zeros(self.cells.shape[:2], np.float32)
        return self.pooled(self.told)

    def logit(self, model: LinearModel, box: Box) -> Singles:
        """The logit of object of each pixel of a box inside this part, float32."""
        top, left = box[0] - self.box[0], box[1] - self.box[1]
        height, width = box[2] - box[0], box[3] - box[1]
        # One cell beside, so that a box is resampled as the whole part is.
        first, start = max(0, top // self.stride - 1), max(0, left // self.stride - 1)
        last = (top + height - 1) // self.stride + 2
        end = (left + width - 1) // self.stride + 2
        cells = self.cells[first:last, start:end]
        fine = self.fine[2 * first : 2 * last, 2 * start : 2 * end]
        coarse = len(model.weights) - fine.shape[2]
        of_cells = np.where(np.arange(len(model.weights)) < coarse, model.weights, np.float32(0))
        size = (cells.shape[1] * self.stride, cells.shape[0] * self.stride)
        total = np.full((size[1], size[0]), model.bias, np.float32)
        for grid, weights in ((cells, of_cells), (fine, model.weights[coarse:])):
            total += cv2.resize(grid @ weights, size)
        inner = np.s_[top : top + height, left : left + width]
        top, left = top - first * self.stride, left - start * self.stride
        learnt = total[top : top + height, left : left + width]
        return learnt if self.told is None else learnt + self.told[inner]


class FrameFeatures:
    """Features of one frame, uint8 RGB (H, W, 3), part by part.

    ``key`` is the same for frames of the same pixels, ``size`` is (height, width). ``ground``,
    float32 (N, C + F), are cells drawn at random from some parts, ``ground_told`` (N,) what a
    checkpoint tells of them, ``ground_places`` int64 (2, N) their rows and columns in the frame.
    """

    def __init__(self, image: Pixels, extractor: "FeatureExtractor") -> None:
        height, width = self.size = (image.shape[0], image.shape[1])
        self.key = (zlib.crc32(image.tobytes()), *self.size)
        small = height * width <= _SMALL
        self._image, self._extractor = image, extractor
        self._scale = _ENLARGED if small else 1
        self._tiles = tile_grid(self.size, 0 if small else _PART_SIDE, 0)
        spread = np.linspace(0, len(self._tiles) - 1, min(_GROUND_PARTS, len(self._tiles)))
        self._parts: OrderedDict[int, Part] = OrderedDict(
            (index, self._look(index)) for index in spread.astype(int).tolist()
        )
        rng = np.random.default_rng(0)
        ground, told, places = [], [], []
        for part in self._parts.values():
            count, columns = part.told_cells.size, part.told_cells.shape[1]
            drawn = rng.choice(count, min(_GROUND_CELLS // len(self._parts), count), False)
            ground.append(part.cells.reshape(count, -1)[drawn])
            told.append(part.told_cells.ravel()[drawn])
            corner = np.stack(np.divmod(drawn, columns)) * part.stride
            places.append(corner + part.stride // 2 + np.array(part.box[:2])[:, None])
        cells, self.ground_told = np.concatenate(ground), np.concatenate(told)
        limits = np.array(self.size)[:, None] - 1
        self.ground_places = np.minimum(np.concatenate(places, 1), limits)
        self._mean, self._std = cells.mean(0), cells.std(0) + np.float32(_LEAST_STD)
        self.ground = (cells - self._mean) / self._std
        for part in self._parts.values():
            self._standardise(part)

    def parts(self, box: Box | None = None, *, kept: bool = False) -> Iterator[Part]:
        """The parts that share pixels with a box, or all, of all or only of those ``kept``."""
        top, left, bottom, right = box or (0, 0, *self.size)
        for index, tile in enumerate(self._tiles):
            rows = tile.top < bottom and top < tile.top + tile.height
            columns = tile.left < right and left < tile.left + tile.width
            if rows and columns and (index in self._parts or not kept):
                yield self._part(index)

    def logit(self, model: LinearModel, box: Box) -> Singles:
        """The logit of object of each pixel of a box, float32."""
        top, left, bottom, right = box
        total = np.empty((bottom - top, right - left), np.float32)
        for part in self.parts(box):
            first, start, last, end = part.box
            inner = max(first, top), max(start, left), min(last, bottom), min(end, right)
            place = np.s_[inner[0] - top : inner[2] - top, inner[1] - left : inner[3] - left]
            total[place] = part.logit(model, inner)
        return total

    def colours(self, box: Box) -> Singles:
        """Colours of a box in Lab, hardly blurred, float32 (h, w, 3)."""
        top, left, bottom, right = box
        part = self._image[top:bottom, left:right].astype(np.float32) / 255
        lab = cv2.cvtColor(part, cv2.COLOR_RGB2LAB)
        return np.asarray(cv2.GaussianBlur(lab, (0, 0), _BLURS[0]), np.float32)

    def _part(self, index: int) -> Part:
        if index not in self._parts:
            self._parts[index] = self._look(index)
            self._standardise(self._parts[index])
            if len(self._parts) > _KEPT_PARTS:
                self._parts.popitem(last=False)
        self._parts.move_to_end(index)
        return self._parts[index]

    def _look(self, index: int) -> Part:
        tile = self._tiles[index]
        bottom, right = tile.top + tile.height, tile.left + tile.width
        top, left = max(0, tile.top - _MARGIN), max(0, tile.left - _MARGIN)
        seen = self._image[top : bottom + _MARGIN, left : right + _MARGIN]
        inner = Tile(tile.top - top, tile.left - left, tile.height, tile.width)
        box = tile.top, tile.left, bottom, right
        return self._extractor.part(np.ascontiguousarray(seen), inner, box, self._scale)

    def _standardise(self, part: Part) -> None:
        for grid in (part.cells, part.fine):
            grid -= self._mean[-grid.shape[2] :]
            grid /= self._std[-grid.shape[2] :]


@dataclass(frozen=True)
class FeatureExtractor:
    """Looks at parts of frames: by an encoder, its colours, and a checkpoint if there is one."""

    reader: FeatureReader  # of the encoder's features
    predictor: "Predictor | None" = None  # gives the probability

    @classmethod
    def open(cls, checkpoint: Path | None, device: str) -> "FeatureExtractor":
        """An extractor of a checkpoint's encoder, or of the one that ImageNet trained."""
        if checkpoint is not None:
            from dvos.config.prediction import PredictorOptions
            from dvos.registry import features_of, predictor_of

            options = PredictorOptions(device=device)
            return cls(features_of(checkpoint, device), predictor_of(checkpoint, options))
        from dvos.networks.dvos.efficientnet import IMAGENET_NORMALISATION, load_imagenet_weights
        from dvos.networks.dvos.network import DvosNetwork
        from dvos.prediction.network import LoadedNetwork, choose_device

        place = choose_device(device)
        network = DvosNetwork().eval()
        load_imagenet_weights(network.encoder)
        normalisation = {"normalisation": IMAGENET_NORMALISATION.as_lists()}
        loaded = LoadedNetwork(Path("ImageNet"), network.to(place), normalisation, place)
        return cls(FeatureReader(loaded))

    def part(self, seen: Pixels, inner: Tile, box: Box, scale: int) -> Part:
        """Features of the part at a box of the frame, not standardised.

        ``seen`` is uint8 RGB, the part, which lies in it at ``inner``, and what is beside it;
        ``scale`` times it is enlarged to be looked at.
        """
        stride = FEATURE_STRIDE // scale
        rows, columns = (-(-side // stride) for side in (inner.height, inner.width))
        top, left = inner.top // stride, inner.left // stride
        shown = cv2.resize(seen, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        pieces = self.reader.pieces(np.asarray(shown, np.uint8))
        values = np.concatenate([piece.values for piece in pieces], 2)
        coarse = values[:, top : top + rows, left : left + columns].transpose(1, 2, 0)
        part = np.s_[inner.top : inner.top + inner.height, inner.left : inner.left + inner.width]
        colours = _filled_up(_colours(seen)[part], rows * stride, columns * stride)
        fine = _resized(colours, (2 * columns, 2 * rows))
        pooled = _resized(fine, (columns, rows))
        told = None
        if self.predictor is not None:
            (frame,) = self.predictor.segment([seen])
            sure = np.clip(frame.probability[part], _SURE, 1 - _SURE).astype(np.float32)
            told = np.log(sure / (1 - sure))
        return Part(box, stride, np.concatenate([coarse, pooled], 2), fine, told)


def _resized(grid: Singles, size: tuple[int, int]) -> Singles:
    """A grid averaged down to (width, height)."""
    return np.asarray(cv2.resize(grid, size, interpolation=cv2.INTER_AREA), np.float32)


def _filled_up(grid: Singles, height: int, width: int) -> Singles:
    """A grid of pixels, its last row and column repeated to a height and width."""
    down, right = height - grid.shape[0], width - grid.shape[1]
    whole = cv2.copyMakeBorder(grid, 0, down, 0, right, cv2.BORDER_REPLICATE)
    return np.asarray(whole, np.float32)


def _colours(image: Pixels) -> Singles:
    """Colours of uint8 RGB (H, W, 3) in Lab, blurred, and how much they vary: (H, W, F)."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    maps = []
    for sigma in _BLURS:
        mean = cv2.GaussianBlur(lab, (0, 0), sigma)
        maps.append(mean)
        if sigma > 1:
            variance = cv2.GaussianBlur(lab * lab, (0, 0), sigma) - mean * mean
            maps.append(np.sqrt(np.maximum(variance, 0)))
    return np.concatenate(maps, axis=2)

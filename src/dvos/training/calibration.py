"""What validation clips say of a network: how far it can be taken at its word.

``sigmoid(logit / temperature + bias)`` is fitted to their pixels (Platt 1999; Guo et al. 2017).
Numbers of objects are held against true ones. Both ways to tell objects apart, by the centres it
tells and by shapes in its masks, are compared by panoptic quality (Kirillov et al., CVPR 2019).

And how unlike all training data a picture is: what the encoder sees is averaged over windows of the
size of a training clip; their distance from those of training clips is Mahalanobis' (Lee et al.
2018, arXiv 1807.03888) with a diagonal covariance, as a few hundred windows tell no more.

Where labels lie from their objects is told by the labelled pictures that were learnt from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from dvos.media.grouping import ObjectMaps, group_mask, group_objects
from dvos.media.splitting import split_mask
from dvos.networks.spec import OBJECTS, NetworkSpec
from dvos.networks.weights import load_network, save_network
from dvos.runner.display import progress
from dvos.scoring.instances import match_objects
from dvos.training.augment.spatial import resize_frame
from dvos.training.clips.files import FrameClip
from dvos.training.displacement import learn_displacement
from dvos.training.objective import SegmentedClip
from dvos.training.targets import OBJECT_STRIDE, TruthChannels, object_count

_log = logging.getLogger(__name__)

Doubles = NDArray[np.float64]
Features = Callable[[Tensor], Tensor]
Segment = Callable[[nn.Module, dict[str, Tensor], torch.device], SegmentedClip]

#: Pixels taken of each clip, evenly spread: more tell nothing new.
_PIXELS = 20_000
_STEPS = 50
# Nearer to 0 or 1 a probability of float32 tells no more.
_SMALLEST = 1e-6
# Of the inverse temperature and the bias, about 1 and 0; in observations. It keeps a network
# without a mistake from an infinite certainty.
_PRIOR = 1.0
#: Examples that it takes to tell a spread.
FEWEST = 3
#: Of a standard normal variable: the 97.5 % point.
_NORMAL = 1.959964
#: Beyond so many deviations an example does not pull further: one failed scene of eight must not
#: stand for all; and the mean of the squares of a standard normal variable that are cut off there.
_CAP, _CAPPED_SQUARE = 2.0, 0.92053
_HALVINGS = 50
#: How the names of synthetic validation clips begin.
_SYNTHETIC = "synthetic_"
#: Smaller objects, in pixels, are scraps that others leave free.
SCRAP = 30
#: Name of what a checkpoint keeps.
NOVELTY = "novelty"
#: Training clips that are looked at, and how many of them at once.
_CLIPS, _TOGETHER = 64, 8
#: Of their windows this share lies nearer than the limit; that of a few pictures is widened, as
#: others of their kind differ more from them than they from each other (docs/how-to/fit.md).
_SHARE, _WIDER = 0.9, 0.4
#: Windows of a picture, evenly spread, of which the median counts.
_ROWS = 3
_LEAST_DEVIATION = 1e-3
#: Training clips from which on a network knows well enough where objects are.
_EXPERIENCED = 500

CENTRES, SHAPES = "centres", "shapes"


@dataclass
class ObjectComparison:
    """Counts and quality of the objects of validation clips, told apart in each way."""

    width: float  # Usual width of an object, pixels.
    #: Usual area likewise. What is small beside it is left out of the network's masks, as when
    #: counting; the truth is taken whole.
    area: float
    #: Found and true number of objects of each frame that counts, by way.
    counts: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    #: Sums by way of overlaps, and of objects: their panoptic quality is the one by the other.
    sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def add(self, clip: SegmentedClip, truth: NDArray[np.float32] | None, *, counts: bool) -> None:
        """Take a clip into account; ``truth`` is its ``object_truth``, ``counts`` if it counts."""
        known = clip.weight[0].numpy() > 0
        found, true = ((m[0].numpy() >= 0.5) & known for m in (clip.probability, clip.target))
        labels = {SHAPES: split_mask(found, minimum_area=SCRAP, width=self.width, area=self.area)}
        if clip.maps is not None:
            probability = np.where(known, clip.probability[0].numpy(), np.float32(0))
            grouped = group_objects(probability, clip.maps, minimum_area=SCRAP, area=self.area)
            labels[CENTRES] = grouped.labels
        number = None if truth is None else object_count(truth)
        if truth is not None and number:
            # Objects that are not told apart are left out.
            told = np.kron(truth[TruthChannels.WEIGHT] > 0, np.ones((OBJECT_STRIDE,) * 2, np.bool_))
            shown = true & told[: true.shape[0], : true.shape[1]]
            offset = truth[TruthChannels.OFFSET_X : TruthChannels.OFFSET_Y + 1]
            maps = ObjectMaps(offset / np.float32(OBJECT_STRIDE), np.zeros_like(offset))
            wanted = group_mask(shown, maps, area=0.0).labels.astype(np.uint16)
            for way, of_way in labels.items():
                matched = match_objects(of_way.astype(np.uint16), wanted)
                sums = [matched.overlaps.sum(), (matched.true + matched.predicted) / 2]
                self.sums[way] = self.sums.get(way, np.zeros(2)) + sums
        if counts:
            if number is None:
                number = int(split_mask(true, minimum_area=SCRAP, width=self.width).max(initial=0))
            for way, of_way in labels.items():
                self.counts.setdefault(way, []).append((int(of_way.max(initial=0)), number))

    def better_counts(self) -> list[tuple[int, int]]:
        """Those of the way by which the network's objects are told apart."""
        return self.counts.get(better_way(self.quality()), [])

    def quality(self) -> dict[str, float]:
        """Panoptic quality by way, 0..1; empty where no clip told."""
        return {way: float(found / objects) for way, (found, objects) in self.sums.items()}


def better_way(quality: Mapping[str, Any]) -> str:
    """By which way a network's objects are told apart: by centres only where that was better."""
    of_ways = [quality.get(way, 0.0) for way in (CENTRES, SHAPES)]
    known = all(isinstance(each, (int, float)) for each in of_ways)
    return CENTRES if known and of_ways[0] > of_ways[1] else SHAPES


def calibrate_checkpoint(
    path: Path,
    clips: Dataset[dict[str, Tensor]] | None,
    training: Dataset[dict[str, Tensor]] | None = None,
    labelled: Dataset[dict[str, Tensor]] | None = None,
    *,
    seen: int = 0,
    build: Callable[..., nn.Module],
    segment: Segment,
    device: torch.device,
) -> None:
    """Store beside the weights of a checkpoint what clips say of its network, where they do.

    In its extra, ``calibration``; ``counting``, the dispersion of counts by its masks, where clips
    are real, as synthetic scenes tell little of others; ``apart``, how well its objects are told
    apart in each way; ``novelty``, what its encoder sees in training clips, of which it has
    ``seen`` so many, by which pictures unlike them are known; and, from 500 on, ``displacement``,
    where labels lie from objects in the ``labelled`` pictures it has learnt from. Doing so again
    changes nothing.
    """
    network, info = load_network(path, build, device=device)
    # As in training, so that nothing but the weights decides.
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    objects = info.extra.get("objects") or {}
    names = getattr(clips, "names", None)
    told = None
    if "width" in objects and "area" in objects:
        told = ObjectComparison(objects["width"], objects["area"])

    def segmented() -> Iterator[SegmentedClip]:
        numbers = range(0 if clips is None else len(clips))  # type: ignore[arg-type]
        for number in progress(numbers, description="calibrate", unit="clip"):
            item = clips[number]  # type: ignore[index]
            clip = segment(network, item, device)
            if told is not None:
                truth = item[OBJECTS].numpy() if OBJECTS in item else None
                real = names is None or not names[number].startswith(_SYNTHETIC)
                told.add(clip, truth, counts=real)
            yield clip

    knows = hasattr(network, "features") and training is not None
    learnt: dict[str, Any] = {"calibration": calibrate(segmented())}
    if knows:
        # Not beside the others: their convolutions lose more than the clips take.
        numbers = range(min(_CLIPS, seen))
        queries = (training[number]["frames"][-1].to(device) for number in numbers)  # type: ignore[index]
        shown = getattr(training, "pictures", 1)
        learnt[NOVELTY] = learn_novelty(network.features, queries, pictures=shown)
    if labelled is not None and seen >= _EXPERIENCED:
        pictures = (labelled[number] for number in range(len(labelled)))  # type: ignore[arg-type]
        found = (segment(network, picture, device) for picture in pictures)
        learnt["displacement"] = _displacement(found, info.extra.get("scale") or 1.0)
    if told is not None:
        dispersion = learn_dispersion(told.better_counts())
        if dispersion is not None:
            learnt["counting"] = {"dispersion": round(dispersion, 4)}
        learnt["apart"] = {way: round(value, 4) for way, value in told.quality().items()}
    if any(learnt.values()):
        extra = info.extra | {name: value for name, value in learnt.items() if value}
        save_network(path, network, name=info.name, arguments=info.arguments, extra=extra)


def _displacement(pictures: Iterable[SegmentedClip], scale: float) -> dict[str, float] | None:
    """What a checkpoint keeps of where labels lie, told in a line; None for nothing."""
    found = learn_displacement(pictures, scale)
    if found is None:
        return None
    _log.warning("labels lie %s of their objects; masks will be moved likewise", found)
    return found._asdict()


def calibrate_tracks(
    path: Path, spec: NetworkSpec, clips: Sequence[FrameClip], device: torch.device
) -> None:
    """Store in a checkpoint, as ``tracks``, what clips not learnt from say of following objects."""
    learnt = spec.learn_tracks(path, clips, str(device)) if spec.learn_tracks and clips else None
    if learnt:
        network, info = load_network(path, spec.network)
        extra = info.extra | {"tracks": learnt}
        save_network(path, network, name=info.name, arguments=info.arguments, extra=extra)


def calibrate(clips: Iterable[SegmentedClip]) -> dict[str, float] | None:
    """Fit the calibration to segmented clips; see :func:`fit_calibration`."""
    logits: list[Doubles] = []
    labels: list[NDArray[np.bool_]] = []
    for clip in clips:
        places = torch.nonzero(clip.weight.flatten() > 0).flatten()
        places = places[:: max(1, len(places) // _PIXELS)]
        found = clip.probability.flatten()[places].double().clamp(_SMALLEST, 1 - _SMALLEST)
        logits.append(torch.logit(found).numpy())
        labels.append((clip.target.flatten()[places] > 0.5).numpy())
    return fit_calibration(np.concatenate(logits), np.concatenate(labels)) if logits else None


def fit_calibration(logits: Doubles, labels: NDArray[np.bool_]) -> dict[str, float] | None:
    """Fit ``temperature`` and ``bias`` to logits and labels (N,); None if they tell neither."""
    if labels.all() or not labels.any():
        return None
    z, truth = torch.from_numpy(logits), torch.from_numpy(labels).double()
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    fitted = start.clone().requires_grad_()
    # scipy's optimisers alone take longer to load than all of this takes.
    search = torch.optim.LBFGS([fitted], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        logits = fitted[0] * z + fitted[1]
        found = F.binary_cross_entropy_with_logits(logits, truth, reduction="sum")
        found = found + 0.5 * _PRIOR * ((fitted - start) ** 2).sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    search.step(loss)  # type: ignore[no-untyped-call]
    slope, bias = fitted.tolist()
    if not np.isfinite(slope) or slope <= 0:
        return None
    return {"temperature": round(1 / slope, 6), "bias": round(bias, 6)}


def learn_dispersion(counts: Sequence[tuple[int, int]]) -> float | None:
    """Variance of counts, found and true, about the truth, for each object counted.

    Objects made up or missed add up as events do, so that the variance grows with the count.
    ``(found - true)**2 / (found + 1)`` has the dispersion as its mean; it is estimated with squares
    cut off at two deviations (Huber's proposal 2, 1964). None for fewer than three frames.
    """
    if len(counts) < FEWEST:
        return None
    found, true = np.array(counts, np.float64).T
    squares = (found - true) ** 2 / (found + 1)
    low, high = 0.0, float(squares.max()) / _CAPPED_SQUARE
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if np.minimum(squares, _CAP**2 * middle).mean() > _CAPPED_SQUARE * middle:
            low = middle
        else:
            high = middle
    return widened(high**0.5, len(counts)) ** 2


def widened(deviation: float, examples: int) -> float:
    """A deviation learnt from few examples, by Student's 97.5 % point over the normal one."""
    z, n = _NORMAL, examples
    student = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    return deviation * student / z


def learn_novelty(
    features: Features, frames: Iterable[Tensor], *, pictures: int
) -> dict[str, Any] | None:
    """What is kept of training data, by its normalised frames (3, S, S); None of fewer than two."""
    rows, side, remaining = [], 0, iter(frames)
    with torch.inference_mode():
        while together := list(islice(remaining, _TOGETHER)):
            side = together[0].shape[-1]
            rows.append(_pooled(features(torch.stack(together))))
    if sum(map(len, rows)) < 2:
        return None
    values = np.concatenate(rows)
    mean, std = values.mean(0), values.std(0)
    std = np.maximum(std, _LEAST_DEVIATION * max(1e-6, float(std.mean())))
    known = Novelty(mean, std, 1.0, side)
    limit = float(np.quantile([known.distance(row) for row in values], _SHARE))
    return {
        "mean": np.round(mean, 5).tolist(),
        "std": [float(f"{value:.4g}") for value in std],
        "limit": round(limit * (1 + _WIDER / max(1, pictures)), 4),
        "side": side,
    }


def _pooled(maps: Tensor) -> NDArray[np.float64]:
    """Means over the places of maps (N, C, h, w), float64 (N, C)."""
    return np.asarray(maps.float().mean((2, 3)).cpu().numpy(), np.float64)


@dataclass(frozen=True, eq=False)
class Novelty:
    """What a checkpoint knows of its training data."""

    mean: NDArray[np.float64]  # Of each feature, float64 (C,).
    std: NDArray[np.float64]  # Likewise.
    limit: float  # Distance from which a picture is unlike them.
    side: int  # Of a window, pixels.

    @classmethod
    def read(cls, extra: Mapping[str, Any]) -> Self | None:
        """Of what a checkpoint keeps; None where it keeps nothing that makes sense."""
        kept = extra.get(NOVELTY)
        try:
            mean, std = (np.array(kept[name], np.float64) for name in ("mean", "std"))  # type: ignore[index]
            limit, side = float(kept["limit"]), int(kept["side"])  # type: ignore[index]
        except (TypeError, KeyError, ValueError, OverflowError):
            return None
        sound = mean.ndim == 1 and mean.shape == std.shape and np.isfinite([*mean, *std]).all()
        if not sound or not (std > 0).all() or not 0 < limit < np.inf or not 16 <= side <= 4096:
            return None
        return cls(mean, std, limit, side)

    def distance(self, pooled: NDArray[np.float64]) -> float:
        """Of the features of a window, float64 (C,)."""
        return float(np.sqrt((((pooled - self.mean) / self.std) ** 2).mean()))

    def ratio(
        self,
        features: Features,
        normalise: Callable[[NDArray[np.uint8]], Tensor],
        image: NDArray[np.uint8],
        scale: float,
    ) -> float:
        """Distance over the limit of uint8 RGB (H, W, 3), seen resized; above 1 it is unlike."""
        side = max(1, min(round(self.side / scale), *image.shape[:2]))
        spare = [image.shape[axis] - side for axis in (0, 1)]
        places = [sorted({round(x * k / (_ROWS - 1)) for k in range(_ROWS)}) for x in spare]
        seen = max(16, round(side * scale))
        parts = (image[y : y + side, x : x + side] for y, x in product(*places))
        windows = (normalise(resize_frame(part, (seen, seen))[None]) for part in parts)
        with torch.inference_mode():
            found = [self.distance(_pooled(features(window))[0]) for window in windows]
        return float(np.median(found)) / self.limit
